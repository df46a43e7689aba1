"""The branch that reads texts, over the table of models: what silence does, what it adds and where, who refuses it."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode

from tests.contract.test_models import SIZES
from tests.fixtures.backbones import save_tiny_backbone
from tsllm.models import MODELS, build_model
from tsllm.models.inputs import NUM_CALENDAR, RawForecast
from tsllm.models.patchtst import PatchTST, PatchTSTPretraining, PatchTSTPretrainingConfig

LENGTH, HORIZON, CHANNELS, BATCH, TEXTS, TOKENS, WIDTH = 32, 8, 2, 3, 2, 5, 16
READERS = sorted(set(MODELS.names()) - {"timellm", "patchcast"})  # Time-LLM's horizon queries read texts themselves


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return save_tiny_backbone(tmp_path_factory.mktemp("backbone") / "llama", "llama", layers=2, width=WIDTH)


def build(name, **options):
    torch.manual_seed(0)
    sizes = {"context_length": LENGTH, "prediction_length": HORIZON, "num_channels": CHANNELS}
    return build_model(name, **(sizes | SIZES[name] | options)).eval()


def build_reader(name, backbone, **options):
    """Builds a model whose branch has something to say."""
    model = build(name, text_backbone=backbone, text_layers=2, **options)
    torch.manual_seed(1)
    torch.nn.init.normal_(model.texts.reader.answer.value.weight)
    return model


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(3)
    return {"past_values": torch.randn(BATCH, LENGTH, CHANNELS, generator=generator).cumsum(1)}


@pytest.fixture
def told():
    """Series 1 of window 0 is told something of steps 2 and 3."""
    generator = torch.Generator().manual_seed(4)
    mask = torch.zeros(BATCH, CHANNELS, HORIZON, TEXTS, TOKENS, dtype=torch.bool)
    mask[0, 1, 2:4, 1] = True
    return {
        "text_states": torch.randn(BATCH, TEXTS, TOKENS, WIDTH, generator=generator),
        "text_rows": torch.arange(BATCH * TEXTS).view(BATCH, TEXTS),
        "text_mask": mask,
        "text_calendar": torch.randn(BATCH, HORIZON, NUM_CALENDAR, generator=generator),
    }


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("head", ["point", "student_t"])
def test_a_fresh_branch_forecasts_the_bits_of_the_model_without_one(name, head, backbone, batch, told):
    plain, fresh = build(name, head=head), build(name, head=head, text_backbone=backbone, text_layers=2)
    assert fresh.text_reader.is_silent
    expected = plain(**batch).predictions
    assert torch.equal(fresh(**batch).predictions, expected)
    assert torch.equal(fresh(**batch, **told).predictions, expected)


@pytest.mark.parametrize("name", READERS)
def test_only_what_is_told_is_changed_to_the_bit(name, backbone, batch, told):
    model = build_reader(name, backbone)
    silent, moved = model(**batch).predictions, model(**batch, **told).predictions
    assert torch.equal(silent, build(name)(**batch).predictions)
    changed = moved != silent
    assert changed[0, 2:4, 1].all()
    assert int(changed.sum()) == 2


def answer(model, gate, **bias):
    """Makes a branch answer every text alike: an affine function of the forecast, by a gate before its sigmoid."""
    parts = dict.fromkeys(("value", "rate", "level", "amount"), 0.0) | bias
    effect = model.texts.reader.answer
    with torch.no_grad():
        effect.gate.weight.zero_()
        effect.gate.bias.fill_(gate)
        count = len(effect.value.bias) // 4
        effect.value.bias.copy_(torch.tensor(list(parts.values())).repeat_interleave(count))


@pytest.mark.parametrize("name", ["dlinear", "patchtst", "timexer"])
def test_the_answer_is_gate_times_an_affine_function_of_the_forecast(name, backbone, batch, told):
    model = build(name, text_backbone=backbone, text_layers=2).double()
    batch, told = ({k: v.double() if v.is_floating_point() else v for k, v in d.items()} for d in (batch, told))
    past = batch["past_values"][0, :, 1]
    scale = 1.0 if name == "dlinear" else (past.var(unbiased=False) + 1e-5).sqrt()
    with torch.no_grad():
        silent = model(**batch).predictions[0, 2:4, 1]
        for gate, bias, expected in (
            (math.log(3), {"value": 2.0}, silent + 1.5 * scale),  # sigmoid(ln 3) = 3 / 4
            (math.log(3), {"amount": 2.0}, silent + 1.5),
            (50.0, {"rate": -1.0, "level": -1.0, "amount": 9.0}, torch.full_like(silent, 9.0)),  # held at 9
            (50.0, {"rate": -0.5, "level": -0.5}, silent / 2),  # halved
            (-50.0, {"amount": 9.0}, silent),
        ):
            answer(model, gate, **bias)
            found = model(**batch, **told).predictions[0, 2:4, 1]
            torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)


def attend(layer, queries, memory):
    """Attention written out, head by head: queries [Q, D], memory [M, D] -> [Q, D]."""
    q, k, v = (part(x) for part, x in ((layer.query, queries), (layer.key, memory), (layer.value, memory)))
    width = q.shape[1] // layer.num_heads
    heads = []
    for h in range(layer.num_heads):
        own = slice(h * width, (h + 1) * width)
        weights = torch.softmax(q[:, own] @ k[:, own].T / math.sqrt(width), dim=1)
        heads.append(weights @ v[:, own])
    return layer.out(torch.cat(heads, dim=1))


def read_slowly(reader, queries, facts, calendar, states, mask):
    """Answers of one window's step after step, text after text [C * H, K']; zero where nothing is told."""
    answers = []
    for c, h in ((c, h) for c in range(mask.shape[0]) for h in range(mask.shape[1])):
        texts = [r for r in range(mask.shape[2]) if mask[c, h, r].any()]
        if not texts:
            answers.append(facts.new_zeros(facts.shape[-1] - 2))
            continue
        memory = []
        for r in texts:
            tokens = reader.embed(states[r, mask[c, h, r]])
            mixed = reader.norm_mix(tokens)
            memory.append(reader.norm_tokens(tokens + attend(reader.mix, mixed, mixed)))
        asking = (queries[c, h] + reader.calendar(calendar[h]))[None]
        for layer in reader.layers:
            asking = asking + attend(layer.read, layer.norm_read(asking), torch.cat(memory))
            asking = asking + layer.feed_forward(layer.norm_feed_forward(asking))
        answers.append(reader.answer(asking[None], facts[c, h][None, None])[0, 0])
    return torch.stack(answers)


def draw_told(generator, shared):
    """Texts of several lengths about several steps, some of them the same in several windows."""
    lengths = torch.randint(1, TOKENS + 1, (BATCH, TEXTS), generator=generator)
    rows = torch.arange(BATCH * TEXTS).view(BATCH, TEXTS)
    states = torch.randn(BATCH, TEXTS, TOKENS, WIDTH, generator=generator, dtype=torch.double)
    if shared:
        rows[2], lengths[2], states[2] = rows[0], lengths[0], states[0]
    about = torch.rand(BATCH, CHANNELS, HORIZON, TEXTS, generator=generator) < 0.4
    mask = about.unsqueeze(-1) & (torch.arange(TOKENS) < lengths.unsqueeze(-1))[:, None, None]
    return states, rows, mask


@pytest.mark.parametrize("shared", [False, True])
def test_a_branch_answers_as_a_loop_over_windows_steps_and_texts(shared, backbone):
    reader = build_reader("dlinear", backbone).double().text_reader
    generator = torch.Generator().manual_seed(5)
    states, rows, mask = draw_told(generator, shared)
    calendar = torch.randn(BATCH, HORIZON, NUM_CALENDAR, generator=generator, dtype=torch.double)
    queries = torch.randn(BATCH, CHANNELS, HORIZON, 64, generator=generator, dtype=torch.double)
    facts = torch.randn(BATCH, CHANNELS, HORIZON, 3, generator=generator, dtype=torch.double)
    slow = [read_slowly(reader, queries[b], facts[b], calendar[b], states[b], mask[b]) for b in range(BATCH)]
    flat = (queries.flatten(0, 1), facts.flatten(0, 1), calendar, states, rows, mask)
    fast = reader(*flat)  # [B * C, H, 1]
    torch.testing.assert_close(fast.reshape(BATCH, -1, 1), torch.stack(slow), atol=1e-10, rtol=0)
    assert (fast == 0).any()
    names, weights = zip(*reader.named_parameters(), strict=True)
    found = torch.autograd.grad(fast.square().sum(), weights)
    wanted = torch.autograd.grad(torch.stack(slow).square().sum(), weights)
    for name, own, other in zip(names, found, wanted, strict=True):
        torch.testing.assert_close(own, other, atol=1e-9, rtol=1e-6, msg=name)


class Operators(TorchDispatchMode):
    """Counts what torch computes."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_a_text_that_several_windows_read_is_encoded_once_and_what_is_not_told_never(backbone):
    reader = build_reader("dlinear", backbone).double().text_reader
    work = {}
    for name, copies in (("once", 1), ("often", 7)):
        states, rows, mask = (part[:1].repeat(copies, *[1] * (part.dim() - 1)) for part in
                              draw_told(torch.Generator().manual_seed(5), shared=False))  # fmt: skip
        real = int(mask[0].flatten(0, 1).any(dim=0).sum())
        zeros = torch.zeros(copies * CHANNELS, HORIZON, 64, dtype=torch.double)
        asked, mapped, looked = [], [], []
        hooks = [
            reader.embed.register_forward_hook(lambda _, given, __, to=asked: to.append(len(given[0]))),
            reader.norm_tokens.register_forward_hook(lambda _, given, __, to=mapped: to.append(len(given[0]))),
        ]
        plain = reader.layers[0].look_up

        def look_up(queries, places, keys, *more, to=looked, plain=plain):
            to.append((len(queries), *keys.shape))
            return plain(queries, places, keys, *more)

        facts = torch.zeros(copies * CHANNELS, HORIZON, 3, dtype=torch.double)
        calendar = torch.zeros(copies, HORIZON, NUM_CALENDAR, dtype=torch.double)
        with pytest.MonkeyPatch.context() as patch, Operators() as operators:
            patch.setattr(reader.layers[0], "look_up", look_up)
            reader(zeros, facts, calendar, states, rows, mask)
        for hook in hooks:
            hook.remove()
        assert (asked, mapped) == ([real], [real])
        told = int(mask[0].flatten(2).any(dim=2).sum())
        assert told < CHANNELS * HORIZON
        most = int(mask[0].any(dim=1).flatten(1).sum(dim=1).max())
        assert looked == [(copies * told, copies * CHANNELS, most, 64)]
        work[name] = operators.count
    assert work["often"] == work["once"] <= 210


def test_a_step_reads_the_texts_about_it_whole_and_no_others(backbone, batch, told):
    model = build_reader("dlinear", backbone)
    before = model(**batch, **told).predictions
    told["text_mask"][0, 1, 5:, 0, :3] = True  # another text, of three tokens, about the last steps
    both = model(**batch, **told).predictions
    torch.testing.assert_close(both[0, :5], before[0, :5])
    assert (both[0, 5:, 1] - before[0, 5:, 1]).abs().min() > 1e-4
    told["text_states"][0, 0, 3:] += 1.0  # behind its end
    torch.testing.assert_close(model(**batch, **told).predictions, both)
    told["text_states"][0, 0, 0] += 1.0
    assert (model(**batch, **told).predictions[0, 5:, 1] - both[0, 5:, 1]).abs().min() > 1e-6


def test_the_branch_of_an_older_version_is_refused(backbone, tmp_path):
    model = build_reader("dlinear", backbone)
    model.save_pretrained(tmp_path / "saved")
    state = load_file(tmp_path / "saved" / "model.safetensors")
    older = {name.replace("layers.0.", "layer."): tensor for name, tensor in state.items() if "layers.1" not in name}
    save_file(older, tmp_path / "saved" / "model.safetensors")
    with pytest.raises(ValueError, match=r"reads texts by a branch of an older version.*train it again"):
        type(model).from_pretrained(tmp_path / "saved")


def test_queries_know_the_forecast_and_the_units_of_the_window():
    raw = RawForecast(torch.tensor([[[[1.0]], [[2.0]]]]), torch.tensor([[[5.0]]]), torch.tensor([[[math.e]]]))
    torch.testing.assert_close(raw.describe(), torch.tensor([[[[1.0, 5.0, 1.0]], [[2.0, 5.0, 1.0]]]]))
    assert RawForecast(torch.ones(1, 1, 1, 1)).describe().tolist() == [[[[1.0, 0.0, 0.0]]]]


@pytest.mark.parametrize("name", ["dlinear", "patchtst", "timexer"])
def test_gradients_reach_every_parameter_of_the_branch_only_through_texts(name, backbone, batch, told):
    model = build_reader(name, backbone).double().train()
    batch, told = ({k: v.double() if v.is_floating_point() else v for k, v in d.items()} for d in (batch, told))
    future = torch.ones(BATCH, HORIZON, CHANNELS, dtype=torch.double)
    model(**batch, future_values=future).loss.backward()
    branch = dict(model.texts.named_parameters())
    assert all(parameter.grad is None for parameter in branch.values())
    model(**batch, **told, future_values=future).loss.backward()
    largest = max(float(parameter.grad.abs().max()) for parameter in branch.values())
    inert = {n for n, p in branch.items() if float(p.grad.abs().max()) < 1e-8 * largest}
    assert {n for n in inert if not n.endswith("key.bias")} == set()


def test_a_saved_model_remembers_which_language_model_read_and_holds_none_of_it(backbone, batch, told, tmp_path):
    model = build_reader("dlinear", backbone)
    model.save_pretrained(tmp_path / "saved")
    stored = json.loads((tmp_path / "saved" / "config.json").read_text(encoding="utf-8"))
    assert (stored["text_backbone"], stored["text_layers"], stored["text_hidden_size"]) == (backbone, 2, WIDTH)
    loaded = type(model).from_pretrained(tmp_path / "saved")
    assert torch.equal(loaded(**batch, **told).predictions, model(**batch, **told).predictions)
    assert {name.partition(".")[0] for name in loaded.state_dict()} == {"trend", "season", "texts"}


def test_a_pretrained_encoder_gets_a_fresh_branch(backbone, batch, told):
    sizes = {"context_length": LENGTH, "prediction_length": HORIZON, "num_channels": CHANNELS}
    narrow = {"d_model": 8, "num_heads": 2, "num_layers": 1, "d_ff": 8, "patch_length": 8, "patch_stride": 8}
    encoder = PatchTSTPretraining(PatchTSTPretrainingConfig(**sizes, **narrow)).eval()
    model = PatchTST.from_pretraining(encoder, text_backbone=backbone, text_layers=2)
    assert torch.equal(model(**batch, **told).predictions, model(**batch).predictions)


def test_what_cannot_read_texts_says_why(backbone):
    with pytest.raises(ValueError, match=r"text_layers is 2, but PatchCast forecasts any horizon.*leave it out"):
        build("patchcast", text_layers=2, text_backbone=backbone)
    with pytest.raises(ValueError, match=r"text_layers is 2, but pre-training reconstructs patches.*leave it out"):
        PatchTSTPretrainingConfig(text_layers=2, text_backbone=backbone)
    with pytest.raises(ValueError, match=r"text_backbone is given, but Time-LLM reads texts.* own backbone; set back"):
        build("timellm", text_backbone=backbone, backbone=backbone)
    with pytest.raises(ValueError, match=r"text_backbone names no language model that reads.*such as smollm2-135m"):
        build("dlinear", text_layers=2)
    with pytest.raises(ValueError, match="text_backbone is given but text_layers is 0, so no text is read"):
        build("dlinear", text_backbone=backbone)
    with pytest.raises(ValueError, match=r"text_reader: num_heads \(3\) must divide d_model \(64\)"):
        build("dlinear", text_layers=2, text_backbone=backbone, text_reader={"num_heads": 3})
    with pytest.raises(ValueError, match="text_weights must be one of pretrained, random, spectrum, got 'drawn'"):
        build("dlinear", text_layers=2, text_backbone=backbone, text_weights="drawn")
    with pytest.raises(ValueError, match=r"text_weights is given, but Time-LLM reads.*set backbone_weights"):
        build("timellm", backbone=backbone, text_weights="random")
    with pytest.raises(OSError, match=r"text_backbone '/nowhere/model' cannot be loaded[\s\S]*smollm2-135m"):
        build("dlinear", text_layers=2, text_backbone="/nowhere/model")

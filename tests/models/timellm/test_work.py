"""Guards that count work instead of time, so that a slow change fails on any machine."""

import importlib
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.fixtures.backbones import save_tiny_backbone
from tests.parity.golden import FOLDER, load_case
from tsllm.hub.convert import from_reference
from tsllm.models.inputs import Inputs
from tsllm.models.timellm import TimeLLMConfig
from tsllm.models.timellm import model as timellm_model
from tsllm.models.timellm.backbone import load_backbone
from tsllm.models.timellm.prompt import Prompt

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"
ROWS, PATCHES = 6, 12  # three windows of two channels; (48 - 8) / 4 + 2


@pytest.fixture(scope="module")
def variants():
    """The module that the benchmark takes its variants and its counter of FLOPs from."""
    sys.path.insert(0, str(SCRIPTS))
    yield importlib.import_module("timellm_variants")
    sys.path.remove(str(SCRIPTS))


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    return save_tiny_backbone(tmp_path_factory.mktemp("backbone") / "deep", "gpt2", layers=8)


def count_tokens(model):
    """Counts the tokens that enter the feed-forward part of each layer, with and without a graph."""
    tokens = Counter()
    layers = model.backbone.llm.h if hasattr(model.backbone.llm, "h") else model.backbone.llm.layers
    for k, layer in enumerate(layers):
        layer.mlp.register_forward_hook(
            lambda module, inputs, output, k=k: tokens.update(
                {(k, output.requires_grad): inputs[0].shape[0] * inputs[0].shape[1]}
            )
        )
    return tokens


def tail_tokens(model, windows):
    prompt = model.write_prompt(Inputs(windows, None, None, None, None, None))
    return len(prompt.prefix), len(prompt.tails) * max(map(len, prompt.tails))


class HostReads(TorchDispatchMode):
    """Counts the operations that make the host wait for a value on the device."""

    READS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal")

    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        self.found.update([name] if name in self.READS else [])
        return func(*args, **(kwargs or {}))


def test_a_step_with_its_prompt_at_hand_never_waits_for_a_value(backbone, build, windows, monkeypatch):
    model = build(backbone).train()
    mask = torch.rand_like(windows) < 0.9
    prompt = model.write_prompt(Inputs(windows, mask, None, None, None, None))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    monkeypatch.setattr(timellm_model, "compute_statistics", None)  # which brings its results to the host
    with HostReads() as reads:
        model(windows, future_values=windows[:, -12:], past_observed_mask=mask, prompt=prompt).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert not reads.found
    with HostReads() as reads:
        assert bool((windows > 0).any())
    assert reads.found == {"_local_scalar_dense": 1}


def test_tokens_through_the_language_model_in_training(backbone, build, windows):
    model = build(backbone).train()
    prefix, tails = tail_tokens(model, windows)
    tokens = count_tokens(model)
    model(past_values=windows, future_values=windows[:, -12:]).loss.backward()
    patches = ROWS * PATCHES
    assert tokens == {(0, False): prefix + tails, (0, True): patches, (1, True): patches}
    tokens.clear()
    model(past_values=windows, future_values=windows[:, -12:]).loss.backward()
    assert tokens == {(0, False): tails, (0, True): patches, (1, True): patches}


@pytest.mark.parametrize("statistics", ["series", "none"])
def test_a_prompt_of_the_series_costs_nothing_after_the_first_step(statistics, gpt2, build, windows):
    model = build(gpt2, prompt_statistics=statistics).train()
    if statistics == "series":
        model.describe_series(torch.randn(100, 2))
    model(past_values=windows)
    tokens = count_tokens(model)
    model(past_values=windows, future_values=windows[:, -12:]).loss.backward()
    assert tokens == {(0, True): ROWS * PATCHES, (1, True): ROWS * PATCHES}


def test_windows_seen_before_cost_nothing_where_memory_allows(gpt2, build, windows):
    model = build(gpt2, prompt_cache_mb=1)
    with torch.no_grad():
        model(past_values=windows)
        tokens = count_tokens(model)
        model(past_values=windows)
    assert tokens == {(0, False): ROWS * PATCHES, (1, False): ROWS * PATCHES}


def test_the_tail_of_a_window_is_short(data_folder, gpt2, build):
    model = build(gpt2)
    rows = (data_folder / "ETTh1.csv").read_text().splitlines()[1 : 1 + 48 * 20]
    values = torch.tensor([[float(v) for v in row.split(",")[1:3]] for row in rows]).view(20, 48, 2)
    words = [len(text.split()) for text in model._describe(Inputs(values, None, None, None, None, None))]
    assert max(words) == 7  # three numbers, the trend and three lags


def test_neighbouring_windows_mostly_say_the_same(data_folder, gpt2, build):
    """So keys and values kept for one window (`prompt_cache_mb`) serve its neighbours."""
    model = build(gpt2, context_length=512, num_channels=7)
    rows = (data_folder / "ETTh1.csv").read_text().splitlines()[1 : 1 + 512 + 199]
    values = torch.tensor([[float(v) for v in row.split(",")[1:]] for row in rows]).unfold(0, 512, 1)
    tails = model._describe(Inputs(values.transpose(1, 2), None, None, None, None, None))
    assert len(tails) == 200 * 7
    assert len(set(tails)) < 0.25 * len(tails)


@pytest.mark.parametrize("mode", ["direct", "gram"])
def test_the_vocabulary_is_touched_only_by_the_mapping_layer(mode, gpt2, build, windows):
    model = build(gpt2, prototype_mode=mode, prompt=False)
    before = model(past_values=windows).predictions
    table = model.backbone.llm.wte.weight
    table.data = torch.full_like(table, torch.nan)
    assert torch.equal(model(past_values=windows).predictions, before)


def test_prototypes_are_projected_once_for_many_forecasts_and_once_a_step(gpt2, build, windows):
    model = build(gpt2, prototype_mode="mapping")
    calls = []
    model.prototypes.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        for _ in range(5):
            model(past_values=windows)
    assert len(calls) == 1
    model.train()
    model(past_values=windows, future_values=windows[:, -12:]).loss.backward()
    assert len(calls) == 2


def test_attention_fuses_and_nothing_is_collected(gpt2, build, windows):
    model = build(gpt2)
    assert model.backbone.llm.config._attn_implementation == "sdpa"
    with torch.profiler.profile() as profile:
        model.train()(past_values=windows, future_values=windows[:, -12:]).loss.backward()
    names = {event.key for event in profile.key_averages()}
    assert "aten::_scaled_dot_product_flash_attention_for_cpu" in names
    assert "aten::_softmax" not in names


def compute_arithmetic(config, width, windows, prompt_tokens, train):
    """Returns the FLOPs that the published model cannot do without, its GPT-2 being frozen and its prompt known."""
    rows, layers, source = windows * config.num_channels, config.num_backbone_layers, config.num_prototypes
    tokens, heads = rows * config.num_patches, config.num_heads * config.d_ff
    frozen = layers * tokens * 12 * width**2
    attention = layers * 2 * tokens * (prompt_tokens + config.num_patches) * width + 2 * tokens * source * heads
    trained = tokens * heads * (config.d_model + width) + 2 * source * width * heads  # queries, result; keys, values
    trained += rows * config.num_patches * config.d_ff * config.prediction_length
    first = tokens * 3 * config.patch_length * config.d_model
    if not train:
        return 2 * (frozen + attention + trained + first)
    # Backward: one product more for frozen weights, two for trained ones, one for the first, five halves of attention.
    return 2 * (2 * frozen + 3.5 * attention + 3 * trained + 2 * first)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("prompt", [True, False])
@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"windows": 12},
        {"num_prototypes": 20 * 16},
        {"num_backbone_layers": 8},
        {"context_length": 48 * 8},
        {"windows": 12, "context_length": 48 * 4},
    ],
    ids=str,
)
def test_no_term_grows_faster_than_the_arithmetic(sizes, prompt, train, variants, deep, build):
    options = {k: v for k, v in sizes.items() if k != "windows"}
    model = build(deep, prompt=prompt, prompt_statistics="none", **options).train(train)
    config = model.config
    x = torch.randn(sizes.get("windows", 3), config.context_length, config.num_channels)
    y = torch.randn(len(x), config.prediction_length, config.num_channels)
    with torch.no_grad():
        model(past_values=x)
    model._source = None  # what all windows share is known from here on, but for the prototypes' keys and values

    def run():
        with torch.set_grad_enabled(train):
            output = model(past_values=x, future_values=y if train else None)
        if train:
            output.loss.backward()

    flops = variants.count_flops(run)
    tokens = len(model._prompt_writer().prefix) if prompt else 0
    expected = compute_arithmetic(config, 32, len(x), tokens, train)
    assert 0.9 * expected <= flops <= expected


def test_the_official_computation_costs_several_times_more(tmp_path_factory, variants, build, windows):
    folder = save_tiny_backbone(tmp_path_factory.mktemp("deep") / "gpt2", layers=4, width=64)
    options = {"num_backbone_layers": 4, "num_channels": 1, "context_length": 48}
    fast = build(folder, **options).train()
    slow_config = TimeLLMConfig(**(fast.config.to_dict() | {"prototype_mode": "mapping", "reference_quirks": True}))
    slow = variants.SlowTimeLLM(slow_config, load_backbone(folder, num_layers=4)).train()
    x, y = windows[..., :1], windows[:, -12:, :1]
    fast(past_values=x)  # the shared prefix
    costs = [variants.count_flops(lambda m=m: m(past_values=x, future_values=y).loss.backward()) for m in (slow, fast)]
    # The tokenizer of this test spends a token on nearly every character, so prompts weigh more than usual.
    assert costs[0] / costs[1] >= 14.0


@pytest.mark.skipif(not (FOLDER / "timellm__gpt2_bpe300.json").is_file(), reason="no parity data; set TSLLM_GOLDEN")
def test_the_slow_twin_computes_what_the_reference_computes(variants):
    case = load_case("timellm__gpt2_bpe300")
    converted = from_reference(case.meta, case.state)
    slow = variants.SlowTimeLLM(converted.config, converted.backbone)
    slow.load_trained_state(converted.trained_state())
    slow.eval()
    with torch.no_grad():
        normalised, loc, scale = slow.norm(case.inputs["x_enc"])
        ids = [tuple(row) for row in case.outputs["prompt_ids"].tolist()]
        parameters = slow.read(
            normalised.transpose(1, 2).flatten(0, 1), Prompt((), tuple(ids), tuple(range(len(ids))))
        )
    forecast = parameters.squeeze(-1).unflatten(0, (2, -1)).transpose(1, 2) * scale + loc
    torch.testing.assert_close(forecast, case.outputs["pred"], atol=1e-5, rtol=1e-5)

import pytest
import torch
from torch import nn
from transformers.activations import NewGELUActivation

from tests.fixtures.backbones import save_tiny_backbone
from tests.models.timellm.conftest import SIZES
from tsllm.models import MODELS, build_model
from tsllm.models.inputs import Inputs
from tsllm.models.timellm import TimeLLM, TimeLLMConfig
from tsllm.models.timellm.backbone import load_backbone
from tsllm.nn import matmul


def test_the_notes_example_has_the_notes_shapes(tmp_path_factory):
    folder = save_tiny_backbone(tmp_path_factory.mktemp("wide") / "gpt2", "gpt2", layers=1, width=768)
    model = build_model(
        "timellm", backbone=folder, num_backbone_layers=1, context_length=512, prediction_length=96, num_channels=7
    ).eval()
    shapes = {}

    def record(name):
        return lambda module, inputs, output: shapes.update({name: (tuple(inputs[0].shape), tuple(output.shape))})

    model.patch_embedding.conv.register_forward_hook(record("conv"))
    model.reprogramming.query.register_forward_hook(record("query"))
    model.reprogramming.key.register_forward_hook(record("key"))
    model.reprogramming.register_forward_hook(record("reprogramming"))
    model.head.register_forward_hook(record("head"))
    with torch.no_grad():
        output = model(past_values=torch.randn(4, 512, 7))
    assert shapes["conv"] == ((28, 16, 64), (28, 32, 64))
    assert shapes["query"] == ((28, 64, 32), (28, 64, 8 * 32))
    assert shapes["key"] == ((1000, 768), (1000, 8 * 32))
    assert shapes["reprogramming"] == ((28, 64, 32), (28, 64, 768))
    assert shapes["head"] == ((28, 32 * 64), (28, 96))
    assert output.predictions.shape == (4, 96, 7)


@pytest.mark.parametrize("head", ["point", "quantile", "student_t", "gaussian"])
def test_every_head_trains_all_trained_parts_and_nothing_of_the_backbone(head, backbone, build, windows):
    model = build(backbone, head=head, dropout=0.0).train()
    before = {name: p.clone() for name, p in model.backbone.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    losses = []
    for _ in range(3):
        loss = model(past_values=windows, future_values=windows[:, -12:]).loss
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is None for p in model.backbone.parameters())
        still = [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
        assert still in ([], ["reprogramming.key.bias"])  # softmax does not see a shift of all keys
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(torch.equal(p, before[name]) for name, p in model.backbone.named_parameters())


def test_a_distributional_head_gives_ordered_quantiles(gpt2, build, windows):
    output = build(gpt2, head="quantile")(past_values=windows)
    assert output.quantiles.shape == (3, 12, 2, 9)
    assert (output.quantiles.diff(dim=-1) >= 0).all()
    student = build(gpt2, head="student_t")
    levels = student.compute_quantiles(student(past_values=windows), [0.1, 0.5, 0.9])
    assert (levels.diff(dim=-1) > 0).all()


@pytest.mark.parametrize("mode", ["mapping", "direct", "gram"])
def test_permuting_the_prototypes_changes_nothing(mode, gpt2, build, windows):
    model = build(gpt2, prototype_mode=mode)
    before = model(past_values=windows).predictions
    order = torch.randperm(SIZES["num_prototypes"])
    with torch.no_grad():
        for tensor in (
            *model.prototypes.parameters(),
            *(b for n, b in model.prototypes.named_buffers() if n != "root"),
        ):
            tensor.copy_(tensor[order])
    torch.testing.assert_close(model(past_values=windows).predictions, before, atol=1e-5, rtol=1e-5)


def test_forecast_is_equivariant_to_scale_and_shift_without_a_prompt(backbone, build, windows):
    model = build(backbone, prompt=False)
    values = windows[:1]
    torch.testing.assert_close(
        model(past_values=7.0 * values - 3.0).predictions,
        7.0 * model(past_values=values).predictions - 3.0,
        atol=1e-3,
        rtol=1e-4,
    )


def test_with_a_prompt_the_scale_is_read(gpt2, build, windows):
    model = build(gpt2)
    values = windows[:1]
    moved = model(past_values=7.0 * values).predictions - 7.0 * model(past_values=values).predictions
    assert moved.abs().max() > 1e-2


def test_a_forecast_does_not_depend_on_its_batch_mates(backbone, build, windows):
    model = build(backbone)
    together = model(past_values=windows).predictions
    lengths = {len(t) for t in model.write_prompt(_inputs(windows)).tails}
    assert len(lengths) > 1, "the windows were meant to have prompts of different lengths"
    for k in range(3):
        alone = model(past_values=windows[k : k + 1]).predictions
        torch.testing.assert_close(alone, together[k : k + 1], atol=1e-5, rtol=1e-5)


def test_channels_are_forecast_independently(gpt2, build, windows):
    model = build(gpt2)
    changed = windows.clone()
    changed[..., 1] = torch.randn(3, 48)
    torch.testing.assert_close(
        model(past_values=changed).predictions[..., 0],
        model(past_values=windows).predictions[..., 0],
        atol=1e-5,
        rtol=1e-5,
    )


def test_a_constant_or_unobserved_window_gives_finite_forecasts(gpt2, build):
    model = build(gpt2)
    constant = model(past_values=torch.full((1, 48, 2), 7.0)).predictions
    assert constant.isfinite().all()
    unseen = model(past_values=torch.zeros(1, 48, 2), past_observed_mask=torch.zeros(1, 48, 2, dtype=torch.bool))
    assert unseen.predictions.isfinite().all()


def test_missing_steps_are_not_read(gpt2, build, windows):
    model = build(gpt2)
    mask = torch.ones(3, 48, 2, dtype=torch.bool)
    mask[:, 5:15] = False
    first = model(past_values=windows.masked_fill(~mask, 0.0), past_observed_mask=mask).predictions
    second = model(past_values=windows.masked_fill(~mask, 1e3), past_observed_mask=mask).predictions
    torch.testing.assert_close(first, second)


def test_the_backbone_stays_in_eval_mode(gpt2, build):
    model = build(gpt2).train()
    assert model.training
    assert model.patch_embedding.training
    assert not any(m.training for m in model.backbone.llm.modules())


@pytest.mark.parametrize("mode", ["frozen", "lora", "norms"])
def test_building_the_model_leaves_the_weights_of_the_backbone_alone(mode, backbone, build):
    model = build(backbone, backbone_mode=mode)
    loaded = dict(load_backbone(backbone, num_layers=2).llm.named_parameters())
    ours = {n.replace(".base_layer", ""): p for n, p in model.backbone.llm.named_parameters() if "lora_" not in n}
    assert ours.keys() == loaded.keys()
    assert all(torch.equal(p, loaded[n]) for n, p in ours.items())


def test_prototypes_kept_for_inference_follow_their_weights(gpt2, build, windows):
    model = build(gpt2, prototype_mode="direct")
    with torch.no_grad():
        before = model(past_values=windows).predictions
        assert torch.equal(model(past_values=windows).predictions, before)
        model.prototypes.prototypes.mul_(3.0)
        after = model(past_values=windows).predictions
    assert (after - before).abs().max() > 1e-3
    torch.testing.assert_close(after, model(past_values=windows).predictions.detach(), atol=1e-5, rtol=1e-5)


def test_inference_before_training_leaves_nothing_that_training_cannot_use(gpt2, build, windows):
    model = build(gpt2)
    with torch.inference_mode():
        model(past_values=windows)
    model.train()(past_values=windows, future_values=windows[:, -12:]).loss.backward()
    assert model.head.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"patch_length": 64}, r"patch_length \(64\) exceeds context_length \(48\)"),
        ({"prototype_mode": "grams"}, "did you mean 'gram'"),
        ({"backbone_mode": "qlora"}, "backbone_mode must be one of frozen, lora, norms"),
        ({"prompt_statistics": "all"}, "prompt_statistics must be one of window, series, none"),
        ({"num_backbone_layers": -1}, "num_backbone_layers must be an integer >= 0"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\)"),
        ({"backbone": ""}, "backbone is empty"),
        ({"lora": {"r": 4}}, "set backbone_mode: lora"),
        ({"backbone_mode": "lora", "lora": {"rank": 4}}, r"lora does not know \['rank'\]"),
        ({"series_loc": [1.0]}, r"series_loc has 1 entries, expected one a channel \(2\)"),
        ({"series_loc": [1.0, 1.0]}, "series_loc and series_scale belong together"),
        ({"series_loc": [0.0, 0.0], "series_scale": [1.0, 0.0]}, "series_scale must be positive"),
        ({"prompt_series": ["a", "b"]}, "set it to 'series'"),
        ({"patch_len": 16}, "does not know"),
    ],
)
def test_bad_configurations_are_refused(options, text):
    with pytest.raises((ValueError, KeyError), match=text):
        TimeLLMConfig(**({"backbone": "x"} | SIZES | options))


def test_more_features_than_the_backbone_has_are_refused(gpt2, build):
    with pytest.raises(ValueError, match=r"d_ff \(64\) exceeds the backbone's hidden size \(32\)"):
        build(gpt2, d_ff=64)


def test_a_prompt_longer_than_the_backbone_reads_is_refused(gpt2, build, windows):
    model = build(gpt2, prompt_domain="very long " * 400)
    with pytest.raises(ValueError, match=r"but the backbone has 512; shorten prompt_domain"):
        model(past_values=windows)


def test_a_domain_with_a_control_token_is_refused(gpt2, build, windows):
    model = build(gpt2, prompt_domain="Power.<|endoftext|>Prices.")
    with pytest.raises(ValueError, match=r"prompt_domain holds '<\|endoftext\|>'"):
        model(past_values=windows)


def test_the_table_holds_it_and_only_few_tensors_are_trained(gpt2, build):
    assert MODELS.get("timellm") is TimeLLM
    model = build(gpt2, prototype_mode="direct")
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    patches = model.config.num_patches
    conv, prototypes = 8 * 8 * 3, 20 * 32
    attention = (8 + 1) * 32 + 2 * (32 + 1) * 32 + (32 + 1) * 32
    assert trained == conv + prototypes + attention + (16 * patches + 1) * 12


def _inputs(values):
    return Inputs(values, None, None, None, None, None)


def test_activations_are_fused_to_the_same_function(gpt2, build):
    model = build(gpt2)
    fused = [m for m in model.backbone.llm.modules() if isinstance(m, nn.GELU)]
    assert len(fused) == 2
    assert not [m for m in model.backbone.llm.modules() if isinstance(m, NewGELUActivation)]
    x = torch.linspace(-6, 6, 200)
    torch.testing.assert_close(fused[0](x), NewGELUActivation()(x), atol=1e-6, rtol=1e-6)


def test_a_reader_in_the_place_of_the_language_model_is_trained(gpt2, build, windows):
    sizes = {}
    for reader in ("none", "attention", "block"):
        model = build(gpt2, reader=reader, prompt=False).train()
        model.backbone.forward = None  # must not be called
        model(past_values=windows, future_values=windows[:, -12:]).loss.backward()
        sizes[reader] = sum(p.numel() for p in model.reader.parameters())
        assert all(p.grad is not None for p in model.reader.parameters())
    assert sizes["none"] == 0
    assert sizes["attention"] == 4 * 32 * 33 + 2 * 32
    assert sizes["block"] == 4 * 32 * 33 + 2 * 2 * 32 + 128 * 33 + 32 * 129


def test_a_reader_without_language_model_refuses_a_prompt(gpt2):
    with pytest.raises(ValueError, match="reads no prompt"):
        TimeLLMConfig(**({"backbone": gpt2, "reader": "none"} | SIZES))


WITH_ONEDNN = pytest.mark.skipif(not matmul.has_onednn(), reason="torch has no oneDNN here")


@pytest.mark.parametrize("products", ["torch", pytest.param("onednn", marks=WITH_ONEDNN)])
def test_gradient_checkpointing_changes_no_gradient(products, gpt2, build, windows, monkeypatch):
    monkeypatch.setenv("TSLLM_MATMUL", products)
    monkeypatch.setattr(matmul, "FEWEST_PRODUCTS", 1)
    monkeypatch.setattr(matmul, "FEWEST_ROWS", 1)
    gradients = []
    for recompute in (False, True):
        model = build(gpt2, gradient_checkpointing=recompute, dropout=0.0).train()
        model(past_values=windows, future_values=windows[:, -12:]).loss.backward()
        gradients.append(model.patch_embedding.conv.weight.grad)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-5)


def test_a_backbone_in_bfloat16_reads_the_same_to_its_own_precision(backbone, build, windows):
    exact, short = build(backbone), build(backbone, backbone_dtype="bfloat16")
    assert {p.dtype for p in short.backbone.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in short.parameters() if p.requires_grad} == {torch.float32}
    values = windows[:1]
    want, got = exact(past_values=values).predictions, short(past_values=values).predictions
    assert got.dtype == torch.float32
    assert (got - want).norm() < 0.1 * (want - values.mean()).norm()
    short.train()(past_values=windows, future_values=windows[:, -12:]).loss.backward()
    assert short.patch_embedding.conv.weight.grad.isfinite().all()


def test_autocast_leaves_nothing_behind_in_the_caches(backbone, build, windows):
    model = build(backbone)
    with torch.no_grad():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            short = model(past_values=windows).predictions
        exact = model(past_values=windows).predictions
        assert torch.equal(exact, build(backbone)(past_values=windows).predictions)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(model(past_values=windows).predictions, short)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model.train()(past_values=windows, future_values=windows[:, -12:]).loss.backward()
    assert model.patch_embedding.conv.weight.grad.isfinite().all()
    assert not torch.equal(short, exact)


def test_computing_alone_is_over_when_it_ends_even_by_an_error(gpt2, build):
    model = build(gpt2)
    with model.computing_alone(), model.computing_alone(False):
        assert model.backbone.alone
    assert not model.backbone.alone
    with pytest.raises(ZeroDivisionError), model.computing_alone():
        1 / 0  # noqa: B018
    assert not model.backbone.alone

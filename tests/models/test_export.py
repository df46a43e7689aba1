import subprocess
import sys

import pytest
import torch

from tests.fixtures.backbones import save_tiny_backbone
from tsllm.models import build_model
from tsllm.models.export import build_program, export_model

SIZES = {"context_length": 48, "prediction_length": 12, "num_channels": 2}
NATIVE = {
    "dlinear": {},
    "patchtst": {},
    "itransformer": {"num_time_features": 3},
    "timexer": {"patch_length": 8, "num_covariates": 2, "num_known_covariates": 1},
    "timemixer": {},
    "pyraformer": {},
    "unet_tsf": {"num_stages": 2},
    "recurrent": {},
}
TIMELLM = {
    "patch_length": 8,
    "patch_stride": 4,
    "d_model": 8,
    "num_heads": 2,
    "d_ff": 16,
    "num_prototypes": 20,
    "num_backbone_layers": 2,
    "prompt_domain": "electricity prices",
}


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backbones")
    return {kind: save_tiny_backbone(folder / kind, kind) for kind in ("gpt2", "llama")}


def build_timellm(backbone, **options):
    torch.manual_seed(0)
    model = build_model("timellm", backbone=backbone, **SIZES, **(TIMELLM | options)).eval()
    if options.get("prompt_statistics") == "series":
        texts = model.describe_series(torch.randn(100, 2) * torch.tensor([1.0, 1234.5]))
        assert len(model._tokenizer()(texts[0])["input_ids"]) != len(model._tokenizer()(texts[1])["input_ids"])
    return model


def draw_batch(config, windows, with_mask=False):
    tensors = {"past_values": torch.randn(windows, config.context_length, config.num_channels).cumsum(1)}
    if with_mask:
        tensors["past_observed_mask"] = torch.rand(tensors["past_values"].shape) < 0.8
    if config.num_time_features:
        tensors["past_time_features"] = torch.randn(windows, config.context_length, config.num_time_features)
        tensors["future_time_features"] = torch.randn(windows, config.prediction_length, config.num_time_features)
    if config.num_covariates:
        tensors["past_covariates"] = torch.randn(windows, config.context_length, config.num_covariates)
        tensors["future_covariates"] = torch.randn(windows, config.prediction_length, config.num_known_covariates)
    return tensors


@torch.no_grad()
def assert_program_forecasts_like(model, with_mask=False):
    before = model(**draw_batch(model.config, 3, with_mask)).predictions
    assert before.shape == (3, 12, 2)
    program = build_program(model, draw_batch(model.config, 3, with_mask)).module()
    for windows in (1, 2, 7):
        batch = draw_batch(model.config, windows, with_mask)
        expected, found = model(**batch), program(batch)
        torch.testing.assert_close(found["predictions"], expected.predictions, rtol=1e-5, atol=1e-5)
        assert (expected.quantiles is None) == ("quantiles" not in found)
        if expected.quantiles is not None:
            torch.testing.assert_close(found["quantiles"], expected.quantiles, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NATIVE)
@pytest.mark.parametrize("with_mask", [False, True])
def test_a_native_model_and_its_program_agree_on_batches_of_other_sizes(name, with_mask):
    torch.manual_seed(0)
    assert_program_forecasts_like(build_model(name, **SIZES, **NATIVE[name]).eval(), with_mask)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize(
    "options",
    [
        {"prompt": False},
        {"prompt_statistics": "none"},
        {"prompt_statistics": "series", "prototype_mode": "mapping", "head": "quantile"},
        {"prompt_statistics": "series", "backbone_mode": "lora"},
        {"prompt": False, "reader": "block"},
        {"prompt": False, "reader": "horizon", "num_covariates": 2, "num_known_covariates": 1},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_time_llm_and_its_program_agree_on_batches_of_other_sizes(kind, options, backbones):
    assert_program_forecasts_like(build_timellm(backbones[kind], **options), with_mask=kind == "llama")


def test_exporting_leaves_the_model_as_it_was(backbones):
    model = build_timellm(backbones["gpt2"], prompt_statistics="series")
    batch = draw_batch(model.config, 2)
    with torch.inference_mode():
        before = model(**batch).predictions
    state = dict(model.named_parameters())
    build_program(model, batch)
    assert {name: id(p) for name, p in model.named_parameters()} == {name: id(p) for name, p in state.items()}
    with torch.inference_mode():
        assert torch.equal(model(**batch).predictions, before)
    model.train()
    model(**batch, future_values=torch.randn(2, 12, 2)).loss.backward()
    assert model.prototypes.prototypes.grad.abs().sum() > 0


@pytest.mark.parametrize("mode", ["mapping", "direct", "gram"])
def test_a_program_holds_neither_the_words_nor_how_the_prototypes_are_made(mode, backbones):
    model = build_timellm(backbones["gpt2"], prompt_statistics="series", prototype_mode=mode)
    kept = build_program(model, draw_batch(model.config, 2)).state_dict
    assert not [name for name in kept if "prototypes" in name]
    assert len(kept["model.backbone.llm.wte.weight"]) == 1


def test_the_file_runs_in_a_process_that_has_torch_alone(backbones, tmp_path):
    model = build_timellm(backbones["gpt2"], prompt_statistics="series")
    path = export_model(model, tmp_path / "new" / "model.pt2", draw_batch(model.config, 2))
    batch = draw_batch(model.config, 5)
    torch.save(batch, tmp_path / "batch.pt")
    code = (
        "import sys, torch\n"
        f"program = torch.export.load({str(path)!r}).module()\n"
        f"batch = torch.load({str(tmp_path / 'batch.pt')!r})\n"
        f"torch.save(program(batch)['predictions'], {str(tmp_path / 'out.pt')!r})\n"
        "assert not {'tsllm', 'transformers'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        expected = model(**batch).predictions
    torch.testing.assert_close(torch.load(tmp_path / "out.pt"), expected, rtol=1e-5, atol=1e-5)


def test_what_cannot_be_a_program_is_refused_with_the_reason(backbones):
    periods = build_model("timesnet", **SIZES).eval()
    with pytest.raises(ValueError, match="folds each window by the periods found in it"):
        build_program(periods, draw_batch(periods.config, 2))
    windows = build_timellm(backbones["gpt2"])
    with pytest.raises(ValueError, match="writes and tokenizes a text for each window"):
        build_program(windows, draw_batch(windows.config, 2))
    linear = build_model("dlinear", **SIZES).eval()
    with pytest.raises(ValueError, match="1 window; give at least 2"):
        build_program(linear, draw_batch(linear.config, 1))
    with pytest.raises(ValueError, match="in training mode"):
        build_program(linear.train(), draw_batch(linear.config, 2))

"""What every model that reads covariates promises: which of them it reads, up to when, and in any batch."""

import numpy as np
import pandas as pd
import pytest
import torch

from tests.fixtures.backbones import save_tiny_backbone
from tsllm.forecasting.neural import NeuralForecaster
from tsllm.models import MODELS, build_model

LENGTH, HORIZON, CHANNELS = 24, 10, 2
SMALL = {"d_model": 8, "num_heads": 2, "d_ff": 8, "patch_length": 8}
READERS = {
    "timexer": SMALL | {"num_layers": 1},
    "timellm": SMALL | {"patch_stride": 8, "num_prototypes": 10, "num_backbone_layers": 1, "reader": "horizon"},
}
KNOWN, PAST = 2, 1  # covariates known ahead, and known up to the cutoff only


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return save_tiny_backbone(tmp_path_factory.mktemp("backbone") / "gpt2", "gpt2", layers=1, width=16)


@pytest.fixture
def options(backbone):
    return lambda name: READERS[name] | ({"backbone": backbone} if name == "timellm" else {})


@pytest.fixture
def build(options):
    """Builds a small model with covariates in evaluation mode, as far from its start as training would bring it."""

    def make(name, **sizes):
        torch.manual_seed(0)
        lengths = {"context_length": LENGTH, "prediction_length": HORIZON, "num_channels": CHANNELS}
        counts = {"num_covariates": KNOWN + PAST, "num_known_covariates": KNOWN}
        model = build_model(name, **(options(name) | lengths | counts | sizes))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1 * torch.randn_like(parameter))
        return model.eval()

    return make


def draw(config, batch=3):
    generator = torch.Generator().manual_seed(1)
    sizes = {
        "past_values": (config.context_length, config.num_channels),
        "past_covariates": (config.context_length, config.num_covariates),
        "future_covariates": (config.prediction_length, config.num_known_covariates),
    }
    return {k: torch.randn(batch, *size, generator=generator) for k, size in sizes.items() if size[1]}


def test_every_model_that_reads_covariates_is_tested_here():
    assert {name for name in MODELS.names() if MODELS.get(name).uses_covariates} == set(READERS)


@pytest.mark.parametrize("name", READERS)
def test_every_step_of_every_covariate_is_read(name, build):
    model = build(name)
    batch = draw(model.config)
    with torch.no_grad():
        before = model(**batch).predictions
        for key in ("past_covariates", "future_covariates"):
            for step in (0, 7, batch[key].shape[1] - 1):
                for column in range(batch[key].shape[2]):
                    changed = batch | {key: batch[key].clone()}
                    changed[key][1, step, column] += 3.0
                    moved = (model(**changed).predictions - before).abs().amax((1, 2))
                    assert moved[1] > 1e-6, (key, step, column)
                    assert moved[[0, 2]].max() <= 1e-5  # its batch mates


@pytest.mark.parametrize("sizes", [(1, 1), (1, 0), (3, 2)])
@pytest.mark.parametrize("name", READERS)
def test_gradients_reach_every_parameter_whatever_is_known(name, sizes, build):
    model = build(name, num_covariates=sizes[0], num_known_covariates=sizes[1]).double().train()
    batch = {key: value.double() for key, value in draw(model.config).items()}
    model(**batch, future_values=torch.randn(3, HORIZON, CHANNELS).double()).loss.backward()
    found = {n: p.grad for n, p in model.named_parameters() if p.requires_grad and not n.endswith("key.bias")}
    assert [n for n, grad in found.items() if grad is None or grad.abs().max() < 1e-10] == []


@pytest.mark.parametrize("name", READERS)
def test_a_saved_model_with_covariates_forecasts_the_same_bits(name, build, tmp_path):
    model = build(name)
    batch = draw(model.config)
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        loaded = type(model).from_pretrained(tmp_path)
        assert torch.equal(loaded(**batch).predictions, model(**batch).predictions)


@pytest.mark.parametrize("name", READERS)
def test_missing_covariates_are_an_error(name, build):
    model = build(name)
    for key in ("past_covariates", "future_covariates"):
        batch = {k: v for k, v in draw(model.config).items() if k != key}
        with pytest.raises(ValueError, match=f"{key} is missing"):
            model(**batch)


def make_frame():
    """Two daily series with a covariate known ahead (`plan`) and one known up to the cutoff (`seen`)."""
    rng, n = np.random.default_rng(0), 120
    times = pd.date_range("2024-01-01", periods=n)
    parts = []
    for name in ("a", "b"):
        plan, seen = rng.normal(size=n), rng.normal(size=n)
        y = 5 + plan + rng.normal(size=n)
        parts.append(pd.DataFrame({"unique_id": name, "ds": times, "y": y, "plan": plan, "seen": seen}))
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize("name", READERS)
def test_a_forecast_reads_nothing_that_is_not_known_at_its_cutoff(name, options):
    """Canaries after the first of two cutoffs: only the plan of its own horizon may move what it forecasts."""
    frame, h = make_frame(), 5
    training = {"max_steps": 3, "per_device_train_batch_size": 8, "eval_steps": 3}
    sizes = options(name) | {"context_length": LENGTH, "training": training, "val_size": 20}
    model = NeuralForecaster(name, h, covariates=["plan"], past_covariates=["seen"], **sizes).fit(frame[:].copy())

    def forecast(df):
        rolled = model.predict_rolling(df, h, n_windows=2, step_size=h)
        return rolled[rolled["cutoff"] == rolled["cutoff"].min()][model.alias].to_numpy()

    place = frame.groupby("unique_id").cumcount() - (120 - 2 * h)  # 0 = the first step after the first cutoff
    before = forecast(frame)
    assert len(before) == 2 * h
    for column, steps, may_move in (
        ("y", place >= 0, False),
        ("seen", place >= 0, False),
        ("plan", place >= h, False),
        ("plan", (place >= 0) & (place < h), True),
        ("seen", place == -1, True),
        ("y", place == -1, True),
    ):
        poisoned = frame.copy()
        poisoned.loc[steps, column] += 1000.0
        assert (forecast(poisoned) != before).any() == may_move, (column, may_move)
    history = frame[place < 0].reset_index(drop=True)
    ahead = frame.loc[(place >= 0) & (place < h), ["unique_id", "ds", "plan"]]
    np.testing.assert_allclose(model.predict(history, X_df=ahead)[model.alias], before, rtol=1e-5)

"""The forward contract, the configuration and the files that all models share, shown on DLinear and iTransformer."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel

from tests.models.properties import CHANNELS, HORIZON, LENGTH, build, draw
from tsllm.models.config import ForecastConfig
from tsllm.models.dlinear import DLinear, DLinearConfig
from tsllm.models.inputs import fill_missing
from tsllm.models.itransformer import ITransformer


@pytest.fixture
def saved(tmp_path):
    """A saved DLinear whose weights are not its initial ones."""
    model = build("dlinear", moving_average=5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    model.save_pretrained(tmp_path)
    return tmp_path


# Configuration


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"context_length": 0}, "context_length must be a positive integer, got 0"),
        ({"prediction_length": 2.5}, "prediction_length must be a positive integer, got 2.5"),
        ({"num_channels": True}, "num_channels must be a number or a text, got True"),
        ({"num_time_features": -1}, "num_time_features must be an integer >= 0, got -1"),
        ({"num_known_covariates": 2}, r"num_known_covariates \(2\) exceeds num_covariates \(0\)"),
        ({"seq_len": 96}, r"ForecastConfig does not know \['seq_len'\]; known: .*context_length"),
        ({"loss": "nll"}, "loss 'nll' does not fit head 'point'.*mse, mae"),
        ({"loss": "mse", "head": "gaussian"}, "loss 'mse' does not fit head 'gaussian'"),
        ({"loss_kwargs": {"threshold": 1.0}}, r"loss_kwargs holds \['threshold'\], but loss 'mse' takes no options"),
        ({"loss": "huber", "loss_kwargs": {"delta": 1.0}}, r"\['delta'\].*'huber' takes \['threshold'\]"),
        ({"head": "quantile", "quantile_levels": [0.1, 0.9]}, "must ascend within .* hold 0.5"),
    ],
)
def test_a_bad_configuration_says_what_and_what_is_allowed(options, named):
    with pytest.raises((ValueError, KeyError), match=named):
        ForecastConfig(**options)


def test_an_unknown_head_or_loss_lists_the_nearest():
    with pytest.raises(KeyError, match="did you mean 'quantile'"):
        ForecastConfig(head="quantiles")
    with pytest.raises(KeyError, match="did you mean 'huber'"):
        ForecastConfig(loss="hubr")


def test_a_configuration_survives_its_file(tmp_path):
    config = DLinearConfig(context_length=48, head="quantile", quantile_levels=[0.2, 0.5, 0.8], individual=True)
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is DLinearConfig
    assert {n: getattr(loaded, n) for n in config.own_fields()} == {n: getattr(config, n) for n in config.own_fields()}


def test_mutable_defaults_are_not_shared():
    first = ForecastConfig()
    first.quantile_levels.append(0.99)
    assert 0.99 not in ForecastConfig().quantile_levels


def test_the_losses_options_reach_the_loss():
    batch = {"past_values": draw(), "future_values": 5 * torch.randn(2, HORIZON, CHANNELS)}
    model = build("dlinear", moving_average=5, loss="huber", loss_kwargs={"threshold": 0.3})
    output = model(**batch)
    expected = torch.nn.functional.huber_loss(output.predictions, batch["future_values"], delta=0.3)
    torch.testing.assert_close(output.loss, expected)


# Inputs


def test_missing_steps_stand_at_the_observed_mean_and_the_input_stays_as_it_is():
    x = torch.tensor([1.0, 100.0, 3.0, float("nan")]).view(1, 4, 1)
    mask = torch.tensor([True, False, True, False]).view(1, 4, 1)
    filled, kept = fill_missing(x, mask)
    assert filled.flatten().tolist() == [1, 2, 3, 2]
    assert torch.equal(kept, mask)
    assert x[0, 1, 0] == 100
    assert fill_missing(x, None)[0] is x


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("past_values", torch.zeros(2, LENGTH, CHANNELS + 1)),
        ("past_values", torch.zeros(LENGTH, CHANNELS)),
        ("future_values", torch.zeros(2, HORIZON + 1, CHANNELS)),
        ("past_observed_mask", torch.ones(2, LENGTH, 1, dtype=torch.bool)),
        ("past_time_features", torch.zeros(2, LENGTH, 3)),
        ("future_time_features", torch.zeros(2, LENGTH, 4)),
    ],
)
def test_a_wrong_shape_names_the_tensor_with_both_shapes(name, tensor):
    model = build("itransformer", d_model=8, num_heads=2, d_ff=8, num_time_features=4)
    batch = {"past_values": draw(), "past_time_features": torch.zeros(2, LENGTH, 4), name: tensor}
    with pytest.raises(ValueError, match=rf"{name} has shape .*{tensor.shape[-1]}\].*expected"):
        model(**batch)


# Files


def test_weights_are_read_into_the_class_and_through_the_auto_class(saved):
    loaded, auto = DLinear.from_pretrained(saved), AutoModel.from_pretrained(saved)
    state = load_file(saved / "model.safetensors")
    assert type(auto) is DLinear
    for model in (loaded, auto):
        assert all(torch.equal(model.state_dict()[n], t) for n, t in state.items())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: s.pop("trend.bias"), "missing trend.bias"),
        (lambda s: s.update(other=torch.zeros(1)), "unexpected other"),
        (lambda s: s.update({"trend.bias": torch.zeros(5)}), r"trend.bias has shape \[5\], expected \[8\]"),
    ],
)
def test_tensors_that_do_not_fit_are_listed_and_nothing_is_loaded(saved, change, named):
    state = load_file(saved / "model.safetensors")
    change(state)
    save_file(state, saved / "model.safetensors")
    with pytest.raises(ValueError, match=named):
        DLinear.from_pretrained(saved)


def test_a_damaged_file_and_a_missing_one_are_errors_that_name_it(saved):
    content = (saved / "model.safetensors").read_bytes()
    (saved / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(OSError, match=r"model\.safetensors is damaged"):
        DLinear.from_pretrained(saved)
    (saved / "model.safetensors").unlink()
    with pytest.raises(OSError, match=r"holds no model\.safetensors$"):
        DLinear.from_pretrained(saved)


def test_a_pickle_is_refused_with_the_way_out(saved):
    (saved / "model.safetensors").unlink()
    torch.save({}, saved / "pytorch_model.bin")
    with pytest.raises(OSError, match=r"pytorch_model\.bin.*pickles are refused: see `tsllm convert`"):
        DLinear.from_pretrained(saved)


def test_a_key_that_a_config_file_holds_and_the_model_does_not_know_is_an_error(saved):
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(config | {"moving_avg": 25}))
    with pytest.raises(ValueError, match="moving_avg"):
        DLinear.from_pretrained(saved)


def test_a_model_can_be_loaded_into_another_type(saved):
    model = DLinear.from_pretrained(saved, dtype=torch.float64)
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert model(past_values=draw().double()).predictions.dtype == torch.float64


def test_time_features_that_were_not_configured_are_refused():
    model = build("itransformer", d_model=8, num_heads=2, d_ff=8)
    assert isinstance(model, ITransformer)
    with pytest.raises(ValueError, match=r"past_time_features has shape \[2, 32, 4\], expected \[2, 32, 0\]"):
        model(past_values=draw(), past_time_features=torch.zeros(2, LENGTH, 4))

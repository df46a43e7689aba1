"""TimeXer: what its patches, its global tokens and its exogenous tokens may and may not see."""

import pytest
import torch

from tsllm.models import build_model
from tsllm.models.inputs import Inputs
from tsllm.nn.losses import compute_mse, compute_orthogonality


def build(seed=0, **options):
    torch.manual_seed(seed)
    small = {"context_length": 48, "prediction_length": 12, "num_channels": 3, "d_model": 16, "num_heads": 2}
    return build_model("timexer", **(small | {"d_ff": 20, "patch_length": 8} | options)).eval()


def draw(model, batch=3, seed=1):
    config, generator = model.config, torch.Generator().manual_seed(seed)
    sizes = {
        "past_values": (config.context_length, config.num_channels),
        "past_time_features": (config.context_length, config.num_time_features),
        "past_covariates": (config.context_length, config.num_covariates),
        "future_covariates": (config.prediction_length, config.num_known_covariates),
    }
    return {k: torch.randn(batch, *size, generator=generator) for k, size in sizes.items() if size[1]}


def test_the_newest_step_lies_in_a_patch_whatever_the_length():
    options = {"context_length": 50, "num_channels": 1, "num_time_features": 2, "instance_norm": False}
    for quirks in (False, True):
        model = build(channels_as_exogenous=False, reference_quirks=quirks, **options)
        batch = draw(model)
        changed = batch | {"past_values": batch["past_values"].clone()}
        changed["past_values"][:, -1] += 3.0
        moved = (model(**changed).predictions - model(**batch).predictions).abs().max().item()
        assert moved == 0 if quirks else moved > 1e-3  # the reference drops the last 50 % 8 steps
        assert model.config.num_patches == (6 if quirks else 7)


def test_a_divisible_length_gives_the_same_forecast_with_and_without_the_faults():
    mended, faulty = build(), build(reference_quirks=True)
    batch = draw(mended)
    assert torch.equal(mended(**batch).predictions, faulty(**batch).predictions)


def test_the_order_of_exogenous_series_does_not_matter():
    model = build(num_channels=1, num_covariates=5, num_known_covariates=2, channels_as_exogenous=False)
    batch = draw(model)
    shuffled = dict(batch, past_covariates=batch["past_covariates"][..., [1, 0, 4, 2, 3]])
    shuffled["future_covariates"] = batch["future_covariates"][..., [1, 0]]
    torch.testing.assert_close(model(**shuffled).predictions, model(**batch).predictions, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["past_covariates", "future_covariates"])
def test_past_and_future_covariates_move_the_forecast(name):
    model = build(num_channels=1, num_covariates=3, num_known_covariates=1, channels_as_exogenous=False)
    batch = draw(model)
    changed = batch | {name: batch[name].clone()}
    changed[name][..., -1, -1] += 5.0
    assert (model(**changed).predictions - model(**batch).predictions).abs().max() > 1e-5


def test_a_known_flag_that_first_rises_in_the_horizon_stays_of_order_one():
    model = build(num_channels=1, num_covariates=1, num_known_covariates=1, channels_as_exogenous=False)
    seen = {}
    model.known_embedding.register_forward_hook(lambda module, args, out: seen.update(x=args[0]))
    batch = draw(model)
    batch["past_covariates"].zero_()
    batch["future_covariates"] = (torch.arange(12) >= 6).float().expand(3, -1).unsqueeze(-1)
    model(**batch)
    assert seen["x"].abs().max() < 10


def test_with_covariates_only_a_channel_does_not_see_the_other_channels():
    batch = draw(build(num_time_features=2))
    changed = batch | {"past_values": batch["past_values"].clone()}
    changed["past_values"][..., 2] = torch.randn(3, 48, generator=torch.Generator().manual_seed(5))
    for reads_channels in (False, True):
        model = build(num_time_features=2, channels_as_exogenous=reads_channels)
        moved = (model(**changed).predictions - model(**batch).predictions).abs()[..., :2].max().item()
        assert moved > 1e-5 if reads_channels else moved == 0


def test_biases_of_keys_have_no_effect():
    model = build()
    batch = draw(model)
    before = model(**batch).predictions
    for layer in model.layers:
        torch.nn.init.normal_(layer.cross_attention.key.bias)
        torch.nn.init.normal_(layer.mixer.key.bias)
    torch.testing.assert_close(model(**batch).predictions, before, atol=1e-5, rtol=1e-5)


def test_the_forecast_follows_a_shift_and_a_scale_of_the_input():
    model = build(num_covariates=2)
    batch = draw(model)
    moved = batch | {"past_values": 3.0 * batch["past_values"] + 7.0}
    torch.testing.assert_close(
        model(**moved).predictions, 3.0 * model(**batch).predictions + 7.0, atol=2e-4, rtol=1e-4
    )


def test_samples_do_not_see_their_batch_mates():
    model = build(num_covariates=2, num_time_features=4)
    batch = draw(model)
    alone = {name: tensor[1:2] for name, tensor in batch.items()}
    torch.testing.assert_close(model(**alone).predictions, model(**batch).predictions[1:2], atol=1e-5, rtol=1e-5)


def test_missing_steps_have_no_influence():
    model = build()
    batch = draw(model)
    mask = torch.rand(batch["past_values"].shape, generator=torch.Generator().manual_seed(3)) > 0.3
    other = torch.where(mask, batch["past_values"], torch.tensor(99.0))
    first = model(batch["past_values"], past_observed_mask=mask).predictions
    assert torch.equal(model(other, past_observed_mask=mask).predictions, first)


def test_attention_maps_are_distributions_of_the_documented_shape():
    model = build(num_covariates=2, num_time_features=4)
    batch = draw(model)
    names = ("past_observed_mask", "future_time_features", "future_covariates")
    maps = model.compute_attention_maps(Inputs(**batch, **dict.fromkeys(names)))
    assert [tuple(own.shape) for own, _ in maps] == [(9, 2, 7, 7)] * 2
    assert [tuple(cross.shape) for _, cross in maps] == [(3, 2, 3, 9)] * 2
    for own, cross in maps:
        torch.testing.assert_close(own.sum(-1), torch.ones(9, 2, 7))
        torch.testing.assert_close(cross.sum(-1), torch.ones(3, 2, 3))


def test_the_orthogonal_loss_adds_the_penalty_of_the_cross_attention():
    model = build(loss="timexer_orthogonal", loss_kwargs={"lam": 0.01})
    batch, future = draw(model), torch.randn(3, 12, 3)
    output = model(**batch, future_values=future)
    penalty = compute_orthogonality(model.cross_attention_weights(), ("query", "key", "value", "out"))
    torch.testing.assert_close(output.loss, compute_mse(output.predictions, future) + 0.01 * penalty)
    output.loss.backward()
    assert all(layer.cross_attention.key.weight.grad.abs().sum() > 0 for layer in model.layers)


def test_another_token_mixer_can_replace_the_self_attention():
    model = build(attention={"type": "sequence", "blocks": ["agent", "se"]})
    assert model(**draw(model)).predictions.shape == (3, 12, 3)
    names = ("past_time_features", "past_covariates", "past_observed_mask", "future_time_features")
    inputs = Inputs(**draw(model), **dict.fromkeys(names), future_covariates=None)
    with pytest.raises(TypeError, match="attention: full"):
        model.compute_attention_maps(inputs)


@pytest.mark.parametrize(("head", "size"), [("quantile", 9), ("student_t", 3), ("gaussian", 2)])
def test_every_head_gets_its_parameters_a_step_and_channel(head, size):
    model = build(head=head)
    assert model.projection.out_features == 12 * size
    output = model(**draw(model), future_values=torch.randn(3, 12, 3))
    assert output.predictions.shape == (3, 12, 3)
    assert output.loss.isfinite()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_length": 64}, r"patch_length \(64\) exceeds context_length \(48\)"),
        ({"num_heads": 3}, r"num_heads \(3\) must divide d_model \(16\)"),
        ({"channels_as_exogenous": False}, "num_covariates or num_time_features"),
        ({"d_ff": 0}, "d_ff must be a positive integer, got 0"),
        ({"patch_len": 8}, "patch_len"),
    ],
)
def test_bad_configurations_raise_with_the_value(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_missing_time_features_raise():
    with pytest.raises(ValueError, match="past_time_features is missing"):
        build(num_time_features=4)(torch.zeros(2, 48, 3))

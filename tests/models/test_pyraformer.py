"""Pyraformer: who reads whom in the pyramid, and how the forecast is read off it."""

import pytest
import torch

from tsllm.models import build_model


def build(seed=0, **options):
    torch.manual_seed(seed)
    small = {"context_length": 48, "prediction_length": 6, "num_channels": 3, "d_model": 16, "d_ff": 20}
    return build_model("pyraformer", **(small | {"num_heads": 2} | options)).eval()


def draw(features=0, batch=3, seed=1, channels=3):
    generator = torch.Generator().manual_seed(seed)
    drawn = {"past_values": torch.randn(batch, 48, channels, generator=generator)}
    if features:
        drawn["past_time_features"] = torch.rand(batch, 48, features, generator=generator) - 0.5
        drawn["future_time_features"] = torch.rand(batch, 6, features, generator=generator) - 0.5
    return drawn


def test_the_newest_step_is_gathered_on_every_scale():
    model = build(prediction_token=False)
    assert model.pyramid.sizes == (48, 12, 3)
    assert model.newest.tolist() == [47, 48 + 11, 48 + 12 + 2]
    assert build(context_length=49, prediction_token=True).pyramid.sizes == (50, 12, 3)


@pytest.mark.parametrize("options", [{}, {"decoder": "attention"}, {"attention_residual": False, "qkv_bias": True}])
def test_gathering_neighbours_equals_the_masked_matrix(options):
    linear, dense = build(num_layers=3, **options), build(num_layers=3, dense_attention=True, **options)
    dense.load_state_dict(linear.state_dict())
    batch = draw()
    torch.testing.assert_close(dense(**batch).predictions, linear(**batch).predictions, atol=1e-5, rtol=1e-5)


def test_training_may_follow_a_forecast_in_inference_mode():
    model = build(context_length=41, num_layers=2)
    values = torch.randn(2, 41, 3)
    with torch.inference_mode():
        model(values)
    model.train()(values, future_values=torch.randn(2, 6, 3)).loss.backward()
    assert model.layers[0].attention.query.weight.grad.abs().sum() > 0


def test_the_last_layer_may_skip_nodes_that_nobody_reads():
    model = build(num_layers=2)
    nodes = torch.randn(2, model.pyramid.num_nodes, 16, generator=torch.Generator().manual_seed(0))
    every = model._encode(nodes)
    torch.testing.assert_close(model._encode(nodes, newest_only=True), every[:, model.newest], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_the_mask_holds_in_every_layer(num_layers, dense):
    model = build(num_layers=num_layers, dense_attention=dense, inner_size=3)
    nodes = torch.randn(1, model.pyramid.num_nodes, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    reached = torch.linalg.matrix_power(model.pyramid.allowed().float(), num_layers) > 0
    for node in (0, 20, 50, model.pyramid.num_nodes - 1):
        (gradient,) = torch.autograd.grad(model._encode(nodes)[0, node].square().sum(), nodes)
        assert torch.equal(gradient[0].abs().sum(-1) > 0, reached[node])


def test_the_projection_fills_the_horizon_step_by_step_and_channel_by_channel():
    model = build(instance_norm=False)
    torch.nn.init.zeros_(model.projection.weight)
    model.projection.bias.data = torch.arange(18.0)
    assert torch.equal(model(**draw()).predictions[1], torch.arange(18.0).view(6, 3))


def test_calendar_features_are_read_unless_the_ports_fault_is_asked_for():
    batch = draw(features=4)
    changed = dict(batch, past_time_features=-batch["past_time_features"])
    mended = build(num_time_features=4)
    assert (mended(**changed).predictions - mended(**batch).predictions).abs().max() > 1e-3
    port = {"time_embedding": "learned", "num_time_features": 4, "prediction_token": False}
    faulty = build(reference_quirks=True, **port)
    assert torch.equal(faulty(**changed).predictions, faulty(**batch).predictions)  # fractions truncate to row 0
    with pytest.raises(ValueError, match="time_embedding: linear"):
        build(**port)(**batch)


def test_the_prediction_token_reads_the_calendar_of_the_first_horizon_step_only():
    model, batch = build(num_time_features=2), draw(features=2)
    for step, moves in ((0, True), (1, False)):
        changed = dict(batch, future_time_features=batch["future_time_features"].clone())
        changed["future_time_features"][:, step] += 1.0
        assert torch.equal(model(**changed).predictions, model(**batch).predictions) != moves
    del batch["future_time_features"]
    with pytest.raises(ValueError, match="future_time_features is missing"):
        model(**batch)


@pytest.mark.parametrize("truncate", [False, True])
def test_the_attention_decoder_is_causal_over_the_horizon(truncate):
    model, batch = build(decoder="attention", truncate=truncate, num_time_features=2), draw(features=2)
    model.decoder.embedding.tokens.conv.weight.data.zero_()
    changed = dict(batch, future_time_features=batch["future_time_features"].clone())
    changed["future_time_features"][:, 3] += 1.0
    moved = (model(**changed).predictions - model(**batch).predictions).abs().amax((0, 2))
    assert moved[:3].max() < 1e-6
    assert moved[3:].min() > 1e-5


def test_a_truncated_decoder_sees_the_finest_scale_only():
    seen = {}
    for truncate in (False, True):
        model = build(decoder="attention", truncate=truncate)
        model.decoder.register_forward_hook(lambda module, args, out, key=truncate: seen.update({key: args[2]}))
        model(**draw())
    assert seen[False].shape[1] == 48 + 12 + 3
    assert torch.equal(seen[True], seen[False][:, :48])


@pytest.mark.parametrize("construction", ["bottleneck", "conv", "max", "average"])
def test_samples_do_not_see_their_batch_mates(construction):
    model, batch = build(construction=construction, num_time_features=4), draw(features=4)
    alone = {name: tensor[1:2] for name, tensor in batch.items()}
    torch.testing.assert_close(model(**alone).predictions, model(**batch).predictions[1:2], atol=1e-5, rtol=1e-5)


def test_the_forecast_follows_a_shift_and_a_scale_only_with_instance_norm():
    values = draw()["past_values"]
    for norm in (True, False):
        model = build(instance_norm=norm)
        error = (model(3.0 * values + 7.0).predictions - 3.0 * model(values).predictions - 7.0).abs().max()
        assert error < 1e-3 if norm else error > 1.0


def test_missing_steps_have_no_influence():
    model, values = build(), draw()["past_values"]
    mask = torch.rand(values.shape, generator=torch.Generator().manual_seed(3)) > 0.3
    other = torch.where(mask, values, torch.tensor(99.0))
    first = model(values, past_observed_mask=mask).predictions
    assert torch.equal(model(other, past_observed_mask=mask).predictions, first)


def test_the_number_of_a_series_in_the_last_feature_picks_its_vector():
    model, batch = build(num_time_features=3, num_series=4), draw(features=3)
    for name in ("past_time_features", "future_time_features"):
        batch[name][..., -1] = torch.tensor([0.0, 3.0, 1.0]).unsqueeze(1)
    before = model(**batch).predictions
    model.embedding.series.weight.data[3] += 1.0
    moved = (model(**batch).predictions - before).abs().amax((1, 2)) > 1e-5
    assert moved.tolist() == [False, True, False]


@pytest.mark.parametrize("decoder", ["gather", "attention"])
def test_every_head_gets_its_parameters_a_step_and_channel(decoder):
    output = build(head="quantile", decoder=decoder)(**draw(), future_values=torch.randn(3, 6, 3))
    assert output.quantiles.shape == (3, 6, 3, 9)
    assert output.loss.isfinite()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window_sizes": [4, 4, 4, 4]}, r"window_sizes \[4, 4, 4, 4\] over 49 tokens"),
        ({"construction": "median"}, "construction must be one of .* got 'median'"),
        ({"decoder": "FC"}, "decoder must be one of .* got 'FC'"),
        ({"truncate": True}, "truncate concerns the attention decoder"),
        ({"num_series": 3}, r"num_series \(3\)"),
        ({"num_heads": 5}, r"num_heads \(5\) must divide d_model \(16\)"),
        ({"d_bottleneck": 4, "construction": "max"}, r"d_bottleneck \(4\) has no meaning"),
    ],
)
def test_bad_configurations_raise_with_the_value(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)

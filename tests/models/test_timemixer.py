"""TimeMixer: its scales, its calendar, its two decompositions and its two modes."""

import pytest
import torch

from tsllm.models import build_model
from tsllm.nn.decomposition import FourierDecomposition, MovingAverage


def build(seed=0, **options):
    torch.manual_seed(seed)
    small = {"context_length": 48, "prediction_length": 12, "num_channels": 3, "d_model": 8, "d_ff": 12}
    small |= {"moving_average": 7, "downsampling_layers": 2}
    model = build_model("timemixer", **(small | options)).eval()
    for parameter in model.parameters():  # biases and affine weights away from their constant start
        if parameter.dim() == 1:
            parameter.data.add_(0.1 * torch.randn(parameter.shape))
    return model


def draw(batch=3, length=48, channels=3, features=0, seed=1):
    generator = torch.Generator().manual_seed(seed)
    drawn = {"past_values": torch.randn(batch, length, channels, generator=generator).cumsum(1)}
    if features:
        drawn["past_time_features"] = torch.rand(batch, length, features, generator=generator) - 0.5
    return drawn


@pytest.mark.parametrize(
    ("length", "window", "layers", "lengths"), [(48, 2, 3, [48, 24, 12, 6]), (50, 4, 2, [50, 12, 3]), (9, 2, 0, [9])]
)
def test_scales_have_the_lengths_of_successive_floors(length, window, layers, lengths):
    model = build(context_length=length, downsampling_window=window, downsampling_layers=layers)
    scales = model._pool(draw(length=length)["past_values"], None)
    assert model.config.scale_lengths == lengths
    assert [values.shape[1] for values, _ in scales] == lengths
    assert model(**draw(length=length)).predictions.shape == (3, 12, 3)


def test_the_forecast_is_the_sum_over_scales():
    model = build(instance_norm=False)
    output = model(**draw())
    assert len(output.extras["scales"]) == 3
    torch.testing.assert_close(sum(output.extras["scales"]).squeeze(-1), output.predictions)


@pytest.mark.parametrize("mixing", [False, True])
def test_mapping_width_before_time_equals_the_published_order(mixing):
    model = build(channel_mixing=mixing, instance_norm=False)
    tokens = torch.randn(3 if mixing else 9, 24, 8)
    ahead = model.time_maps[1](tokens.transpose(1, 2)).transpose(1, 2)  # [N, H, D], time first
    expected = model.projection(ahead)
    if not mixing:
        expected = expected.squeeze(-1).unflatten(0, (3, 3)).transpose(1, 2)
    torch.testing.assert_close(model._predict(1, tokens).squeeze(-1), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"decomposition": "dft", "top_k": 3}, {"channel_mixing": True}])
def test_samples_do_not_see_their_batch_mates(options):
    model, batch = build(num_time_features=4, **options), draw(features=4)
    for row in range(3):
        alone = {name: tensor[row : row + 1] for name, tensor in batch.items()}
        torch.testing.assert_close(
            model(**alone).predictions, model(**batch).predictions[row : row + 1], atol=1e-4, rtol=1e-5
        )


def test_every_series_gets_the_calendar_of_its_own_sample():
    batch = draw(features=4)
    changed = batch | {"past_time_features": batch["past_time_features"].clone()}
    changed["past_time_features"][1] += 1.0
    for quirks in (False, True):
        model = build(num_time_features=4, reference_quirks=quirks)
        moved = (model(**changed).predictions - model(**batch).predictions).abs().amax(1) > 1e-6  # [B, C]
        if quirks:  # series b * C + c gets the calendar of sample (b * C + c) % B
            assert torch.equal(moved, torch.arange(9).view(3, 3) % 3 == 1)
        else:
            assert torch.equal(moved, torch.tensor([False, True, False]).unsqueeze(1).expand(3, 3))


def test_channels_are_independent_unless_mixed():
    batch = draw()
    changed = {"past_values": batch["past_values"].clone()}
    changed["past_values"][..., 2] = torch.randn(3, 48, generator=torch.Generator().manual_seed(9))
    for mixing in (False, True):
        model = build(channel_mixing=mixing)
        moved = (model(**changed).predictions - model(**batch).predictions).abs()[..., :2].max().item()
        assert moved > 1e-4 if mixing else moved == 0


@pytest.mark.parametrize("quirks", [False, True])
def test_the_newest_step_reaches_every_scale(quirks):
    model = build(context_length=50, downsampling_window=4, reference_quirks=quirks, instance_norm=False)
    values = draw(length=50)["past_values"].requires_grad_()
    for scale in model._pool(values, None)[1:]:
        (gradient,) = torch.autograd.grad(scale[0].sum(), values, retain_graph=True)
        assert (gradient[:, -1].abs().sum() > 0) != quirks  # the reference drops the newest 50 % 4 steps
        assert (gradient[:, 0].abs().sum() > 0) == quirks


@pytest.mark.parametrize(("length", "kernel"), [(48, 7), (6, 25), (1, 3)])
def test_the_average_as_a_matrix_equals_the_pooled_one(length, kernel):
    x = torch.randn(2, length, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(MovingAverage(kernel, length)(x), MovingAverage(kernel)(x), atol=1e-6, rtol=1e-6)


def test_the_fourier_season_is_the_strongest_waves_without_the_level():
    steps = torch.arange(48).float()
    strong, weak = torch.sin(2 * torch.pi * steps / 12), 0.2 * torch.cos(2 * torch.pi * steps / 4)
    x = (3.0 + 2.0 * strong + weak)[None, :, None]
    season, trend = FourierDecomposition(1)(x)
    torch.testing.assert_close(season[0, :, 0], 2.0 * strong, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(trend[0, :, 0], 3.0 + weak, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("length", [48, 49])
def test_the_fourier_parts_add_up_and_do_not_depend_on_batch_mates(length):
    x = torch.randn(4, length, 5, generator=torch.Generator().manual_seed(2))
    season, trend = FourierDecomposition(3)(x)
    torch.testing.assert_close(season + trend, x)
    torch.testing.assert_close(FourierDecomposition(3)(x[2:3])[0], season[2:3])
    waves = (torch.fft.rfft(season, dim=1).abs() > 1e-3).sum(1)
    assert torch.equal(waves, torch.full((4, 5), 3))


def test_the_forecast_follows_a_shift_and_a_scale_of_the_input():
    model, batch = build(), draw()
    moved = model(3.0 * batch["past_values"] + 7.0).predictions
    torch.testing.assert_close(moved, 3.0 * model(**batch).predictions + 7.0, atol=5e-4, rtol=1e-4)


@pytest.mark.parametrize("downsampling", ["average", "max", "conv"])
def test_missing_steps_have_no_influence(downsampling):
    model, values = build(downsampling=downsampling), draw()["past_values"]
    mask = torch.rand(values.shape, generator=torch.Generator().manual_seed(3)) > 0.3
    other = torch.where(mask, values, torch.tensor(99.0))
    first = model(values, past_observed_mask=mask).predictions
    assert torch.equal(model(other, past_observed_mask=mask).predictions, first)


def test_downsampling_by_convolution_is_learned_and_repeatable():
    model, batch = build(downsampling="conv"), draw()
    first = model(**batch, future_values=torch.zeros(3, 12, 3))
    assert torch.equal(model(**batch).predictions, first.predictions)
    first.loss.backward()
    assert model.downsample.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("mixing", [False, True])
def test_every_head_gets_its_parameters_a_step_and_channel(mixing):
    model = build(head="student_t", channel_mixing=mixing)
    output = model(**draw(), future_values=torch.randn(3, 12, 3))
    assert output.distribution.batch_shape == (3, 12, 3)
    assert output.loss.isfinite()


def test_integer_calendar_columns_are_looked_up_and_fractions_refused():
    model = build(num_time_features=4, time_embedding="fixed")
    columns = torch.tensor([7, 26, 1, 16]).expand(3, 48, 4)
    assert model(draw()["past_values"], past_time_features=columns).predictions.shape == (3, 12, 3)
    with pytest.raises(ValueError, match="time_embedding: linear"):
        model(**draw(features=4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"moving_average": 8}, "moving_average must be odd and positive, got 8"),
        ({"downsampling_layers": 6}, "no step left after 6"),
        ({"decomposition": "dft", "top_k": 7}, r"top_k \(7\) exceeds the 6 frequencies"),
        ({"decomposition": "wavelet"}, "decomposition must be one of .* got 'wavelet'"),
        ({"downsampling": "avg"}, "downsampling must be one of .* got 'avg'"),
        ({"num_time_features": 3, "time_embedding": "learned"}, "must be 4 or 5, got 3"),
    ],
)
def test_bad_configurations_raise_with_the_value(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)

"""TimesNet: the periods it finds, the maps it folds, the convolutions it merges."""

import pytest
import torch
import torch.nn.functional as F

from tsllm.models import build_model
from tsllm.models.timesnet import TimesBlock, TimesNetConfig, find_periods
from tsllm.nn.conv.map_inception import MapInception


def build(seed=0, **options):
    torch.manual_seed(seed)
    small = {"context_length": 36, "prediction_length": 12, "num_channels": 3, "d_model": 8, "d_ff": 10, "top_k": 3}
    return build_model("timesnet", **(small | {"num_kernels": 3} | options)).eval()


def draw_waves(periods, length=36, channels=3):
    """One sample a period: a wave of that period, a second one and a little noise."""
    generator, steps = torch.Generator().manual_seed(1), torch.arange(length).float()
    waves = torch.stack(
        [torch.sin(2 * torch.pi * steps / p) + 0.3 * torch.cos(2 * torch.pi * steps / 5) for p in periods]
    )
    return waves.unsqueeze(-1) + 0.1 * torch.randn(len(periods), length, channels, generator=generator)


@pytest.mark.parametrize("period", [4, 6, 12, 24, 48])
def test_a_pure_sine_picks_its_period(period):
    wave = torch.sin(2 * torch.pi * torch.arange(48).float() / period)
    periods, amplitudes = find_periods((5.0 + wave)[None, :, None], top_k=2)
    assert periods[0, 0] == period
    torch.testing.assert_close(amplitudes[0, 0], torch.tensor(24.0))  # T / 2 for a wave of amplitude 1


def test_each_sample_has_its_own_periods_unless_the_batch_is_averaged():
    x = draw_waves([4, 12], length=48)
    own, amplitudes = find_periods(x, 2)
    assert own[:, 0].tolist() == [4, 12]
    spectrum = torch.fft.rfft(x, dim=1).abs().mean(-1)
    torch.testing.assert_close(amplitudes[:, 0], torch.stack([spectrum[0, 12], spectrum[1, 4]]))
    common, _ = find_periods(x, 2, batch_average=True)
    assert set(common[0].tolist()) == set(common[1].tolist()) == {4, 12}


@pytest.mark.parametrize("kind", ["square", "cross"])
@pytest.mark.parametrize(("rows", "columns"), [(5, 7), (12, 2), (1, 30), (3, 3)])
def test_the_merged_inception_is_the_mean_of_its_branches(rows, columns, kind):
    torch.manual_seed(0)
    block = MapInception(4, num_kernels=4, num_outputs=6, kind=kind)
    for branch in block.branches:
        torch.nn.init.normal_(branch.bias)
    x = torch.randn(2, 4, rows, columns)
    expected = torch.stack([branch(x) for branch in block.branches]).mean(0)
    torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=1e-5)


def test_a_cross_has_a_kernel_along_each_axis_and_the_point():
    def sizes(num_kernels):
        return [branch.kernel_size for branch in MapInception(2, num_kernels, kind="cross").branches]

    assert sizes(5) == [(1, 3), (3, 1), (1, 5), (5, 1), (1, 1)]
    assert sizes(1) == [(1, 1)]
    far = MapInception(1, 4, kind="cross")
    reached = torch.autograd.functional.jacobian(lambda x: far(x)[0, 0, 3, 3], torch.zeros(1, 1, 7, 7))[0, 0] != 0
    cross = torch.zeros(7, 7, dtype=torch.bool)
    cross[3, 1:6], cross[1:6, 3] = True, True
    assert torch.equal(reached, cross)


def test_the_kind_of_inception_is_configured_and_an_unknown_one_is_named():
    model = build(d_model=4, d_ff=4, num_layers=1, top_k=1, num_kernels=4, inception="cross")
    assert [len(side.branches) for side in (model.blocks[0].inception.up, model.blocks[0].inception.down)] == [5, 5]
    with pytest.raises(ValueError, match=r"inception must be one of .* got 'round'"):
        build(inception="round")


def convolve_slowly(block, x):
    """The published loop: sample by sample, period by period, with unmerged kernels."""
    periods, amplitudes = find_periods(x, block.top_k)
    results = []
    for sample, own, strength in zip(x, periods, amplitudes, strict=True):
        total = sample.clone()
        for period, weight in zip(own.tolist(), strength.softmax(0), strict=True):
            rows = -(-len(sample) // period)
            folded = torch.zeros(rows * period, sample.shape[1])
            folded[: len(sample)] = sample
            folded = folded.view(1, rows, period, -1).permute(0, 3, 1, 2)
            up = torch.stack([branch(folded) for branch in block.inception.up.branches]).mean(0)
            down = torch.stack([branch(F.gelu(up)) for branch in block.inception.down.branches]).mean(0)
            total += weight * down[0].permute(1, 2, 0).reshape(rows * period, -1)[: len(sample)]
        results.append(total)
    return torch.stack(results)


def test_folding_series_together_equals_a_loop_over_samples_and_periods():
    torch.manual_seed(0)
    block = TimesBlock(TimesNetConfig(context_length=37, prediction_length=10, d_model=6, d_ff=5, num_kernels=3))
    x = torch.randn(5, 47, 6)  # 47 is a prime, so every fold is padded
    result, periods, amplitudes = block(x)
    assert periods.shape == amplitudes.shape == (5, 5)
    torch.testing.assert_close(result, convolve_slowly(block, x), atol=1e-5, rtol=1e-5)


def test_the_weights_of_the_periods_sum_to_one():
    block = TimesBlock(TimesNetConfig(d_model=4, d_ff=4, num_kernels=1))
    block.inception, block.map_block = None, torch.nn.Identity()
    x = torch.randn(3, 120, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(block(x)[0], 2 * x)  # the residual and once more what was folded


def test_samples_do_not_see_their_batch_mates():
    batch = draw_waves([4, 6, 12, 18])
    for quirks in (False, True):
        model = build(reference_quirks=quirks, top_k=1)
        together = model(batch).predictions
        alone = torch.cat([model(batch[i : i + 1]).predictions for i in range(4)])
        difference = (together - alone).abs().max().item()
        assert difference > 1e-3 if quirks else difference < 1e-5


def test_the_forecast_follows_a_shift_and_a_scale_of_the_input():
    model, batch = build(), draw_waves([4, 6, 12])
    torch.testing.assert_close(
        model(3.0 * batch + 7.0).predictions, 3.0 * model(batch).predictions + 7.0, atol=5e-4, rtol=1e-4
    )


def test_missing_steps_have_no_influence():
    model, values = build(), draw_waves([4, 6])
    mask = torch.rand(values.shape, generator=torch.Generator().manual_seed(3)) > 0.3
    other = torch.where(mask, values, torch.tensor(99.0))
    first = model(values, past_observed_mask=mask).predictions
    assert torch.equal(model(other, past_observed_mask=mask).predictions, first)


def test_extras_name_the_periods_of_every_block():
    extras = build()(draw_waves([4, 6])).extras
    assert [tuple(periods.shape) for periods in extras["periods"]] == [(2, 3)] * 2
    assert [tuple(amplitudes.shape) for amplitudes in extras["amplitudes"]] == [(2, 3)] * 2


def test_calendar_features_move_the_forecast_of_their_sample_only():
    model, values = build(num_time_features=4), draw_waves([4, 6])
    features = torch.zeros(2, 36, 4)
    changed = features.clone()
    changed[1] = 0.4
    moved = (
        model(values, past_time_features=changed).predictions - model(values, past_time_features=features).predictions
    ).abs()
    assert moved[0].max() < 1e-6
    assert moved[1].max() > 1e-3


@pytest.mark.parametrize("position", ["after", "instead"])
@pytest.mark.parametrize("spec", ["coordinate", {"type": "sequence", "blocks": ["triplet", "se"]}])
def test_a_map_block_follows_or_replaces_the_inception_and_is_trained(spec, position):
    model = build(map_block=spec, map_block_position=position)
    model.train()
    model(draw_waves([4, 6, 9]), future_values=torch.randn(3, 12, 3)).loss.backward()
    for block in model.blocks:
        assert (block.inception is None) == (position == "instead")
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in block.map_block.parameters() if p.dim() > 1)


def test_every_head_gets_its_parameters_a_step_and_channel():
    output = build(head="quantile")(draw_waves([4, 6]), future_values=torch.randn(2, 12, 3))
    assert output.quantiles.shape == (2, 12, 3, 9)
    assert output.loss.isfinite()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"top_k": 25}, ValueError, r"top_k \(25\) exceeds the 24 frequencies"),
        ({"num_kernels": 0}, ValueError, "num_kernels must be a positive integer, got 0"),
        ({"map_block": "no_such_block"}, KeyError, "unknown block 'no_such_block'"),
        ({"map_block": "conv"}, ValueError, "works along one time axis"),
        ({"map_block": "se", "map_block_position": "before"}, ValueError, "got 'before'"),
        ({"map_block_position": "instead"}, ValueError, "names no block"),
        ({"time_embedding": "timeF"}, ValueError, "got 'timeF'"),
    ],
)
def test_bad_configurations_raise_with_the_value(options, error, message):
    with pytest.raises(error, match=message):
        build(**options)

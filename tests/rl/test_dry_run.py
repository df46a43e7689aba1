"""A reward is tried on windows first: what cannot be learned from is refused with what was measured."""

import re

import numpy as np
import pandas as pd
import pytest
import torch

from tsllm.data.scaling import StandardScaler
from tsllm.data.windows import WindowDataset
from tsllm.rl.dry_run import RewardError, describe_skew, dry_run
from tsllm.rl.rewards import FACTS, FunctionReward, Known, Reward, WeightedReward, build_reward
from tsllm.rl.windows import ScaledWindows

HERE = "tests.rl.test_dry_run"


def frame(gaps=False):
    """Two daily cycles with levels 100 and 1000, a covariate that is known and one that is not."""
    rng = np.random.default_rng(0)
    parts = []
    for k, name in enumerate(["north", "south"]):
        hours = np.arange(240)
        y = 10.0 ** (k + 2) * (1 + 0.3 * np.sin(2 * np.pi * hours / 24) + 0.05 * rng.standard_normal(240))
        if gaps:
            y[5::7] = np.nan
        parts.append(pd.DataFrame({
            "unique_id": name, "ds": pd.date_range("2024-03-01", periods=240, freq="h"), "y": y,
            "holiday": (hours // 24 % 7 == 0).astype(float), "wind": 100.0 * k + hours,
        }))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def make_windows(layout="univariate", gaps=False):
    df = frame(gaps)
    scaler = StandardScaler().fit(df)
    windows = WindowDataset(
        scaler.transform(df), 48, 6, layout=layout, freq="h", covariates=["holiday"], past_covariates=["wind"]
    )
    return ScaledWindows(windows, scaler)


def real_units(samples, target, history, season):
    return -1000 * (samples - target[:, None]).abs().nanmean(-1)


def constant(samples, target, history, season):
    return torch.full(samples.shape[:2], 0.3)


def broken_by_gaps(samples, target, history, season):
    return -(samples - target[:, None]).abs().mean(-1) / 1e4


def raising(samples, target, history, season):
    return {}["price"]


def wrong_shape(samples, target, history, season):
    return samples[..., 0].mean(1)


def good(samples, target, history, season):
    scale = history.nan_to_num().std(1)[:, None]
    return -(samples - target[:, None]).abs().nanmean(-1) / scale


def told(samples, target, history, season, *, unique_id, ds, covariates, scale):
    """Pays the south double, at night only, and nothing on holidays; in the model's units."""
    night = torch.tensor(pd.DatetimeIndex(ds.reshape(-1)).hour.to_numpy() < 6).reshape(target.shape)  # [B, H]
    work = covariates["holiday"][:, -target.shape[1] :] == 0
    factor = torch.tensor([2.0 if name == "south" else 1.0 for name in unique_id])[:, None]
    error = (samples - target[:, None]).abs() / scale[:, None, None] * (night & work)[:, None]
    return -factor * error.nansum(-1)


def misspelt(samples, target, history, season, *, unique_ids=None):
    return samples.mean(-1)


def perhaps(samples, target, history, season, *, context=None, cutoff):
    assert context is None
    return samples.mean(-1) / 1e4 + 0.0 * len(cutoff)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("real_units", r"measures -.* to -.*, but its range is \[-1, 1\], so that 100% are cut; declare low and high"),
        ("constant", r"all forecasts of a group earn the same in all 32 windows \(0\.3 to 0\.3\)"),
        ("broken_by_gaps", r"NaN or infinite for 84% of finite forecasts \(missing targets are NaN: use nanmean"),
        ("raising", r"raised KeyError: 'price' \(.*test_dry_run.py:\d+: return \{\}\[.price.\]\)"),
        (
            "wrong_shape",
            r"^reward wrong_shape must return a tensor of shape \[1, 16\], found \[1\]; it was called with",
        ),
    ],
)
def test_what_cannot_be_learned_from_is_refused_with_what_was_measured(name, match):
    windows = make_windows(gaps=name == "broken_by_gaps")
    with pytest.raises(RewardError, match=match):
        dry_run(build_reward(f"{HERE}:{name}"), windows, season=24).check()


def test_the_measured_range_is_one_that_would_do():
    found = dry_run(build_reward(f"{HERE}:real_units"), make_windows(), season=24)
    assert (found.clipped, found.nan) == (1.0, 0.0)
    wide = {"name": f"{HERE}:real_units", "low": found.low, "high": found.high}
    assert dry_run(build_reward(wide), make_windows(), season=24).check().clipped == 0.0


def test_a_good_reward_is_measured_right():
    windows = make_windows()
    found = dry_run(FunctionReward(good, low=-10.0, high=0.0), windows, season=24, group=8, num_windows=16).check()
    assert (found.rows, found.group, found.flat, found.clipped, found.warnings) == (16, 8, 0.0, 0.0, ())
    assert -10 < found.low < found.high < 0
    assert 0 < found.seconds < 1
    assert 0 < found.spread < 1


def test_a_sum_is_refused_for_a_term_that_is_cut_and_not_for_one_that_is_constant():
    fine = WeightedReward([(1.0, FunctionReward(constant)), (1.0, FunctionReward(good, low=-10.0, high=0.0))])
    assert dry_run(fine, make_windows(), season=24).check().flat == 0.0
    cut = WeightedReward([(1.0, FunctionReward(good, low=-10.0, high=0.0)), (1.0, FunctionReward(real_units))])
    with pytest.raises(RewardError, match="real_units measures"):
        dry_run(cut, make_windows(), season=24).check()


def test_missing_targets_do_not_count_against_a_reward_by_step():
    found = dry_run(build_reward("newsvendor"), make_windows(gaps=True), season=24).check()
    assert found.nan == 0.0


def test_scaling_warns_of_asymmetric_costs_and_not_of_symmetric_ones():
    windows = make_windows()
    costly = build_reward({"name": "newsvendor", "under": 9.0})
    (warning,) = dry_run(costly, windows, season=24, scale_rewards=True, num_windows=200).warnings
    assert "scale_rewards: false" in warning
    assert dry_run(costly, windows, season=24, num_windows=200).warnings == ()
    assert dry_run(build_reward("mae"), windows, season=24, scale_rewards=True, num_windows=200).warnings == ()


def test_skew_is_the_spread_above_the_truth_against_that_below():
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(400, 64, 1, generator=generator)
    target = torch.where(torch.arange(400) % 2 == 0, 5.0, -5.0)[:, None]
    error = samples[..., 0] - target
    cost = -torch.where(error > 0, error, -6 * error)
    over, under = (float(x) for x in re.findall(r"([\d.]+) where", describe_skew(cost, samples, target)))
    assert (over, under) == pytest.approx((1.0, 6.0), rel=0.03)
    assert describe_skew(-error.abs(), samples, target) == ""


@pytest.mark.parametrize("layout", ["univariate", "multivariate"])
def test_facts_are_those_of_each_row(layout):
    windows = make_windows(layout)
    chosen = torch.tensor([3, 0, len(windows) - 1])
    known = windows.find_known(chosen, FACTS)
    channels = 2 if layout == "multivariate" else 1
    assert known.names() == frozenset(FACTS) - {"context"}
    expected = ["north", "south"] * 3 if channels == 2 else ["north", "north", "south"]
    assert known.unique_id.tolist() == expected
    start = pd.Timestamp("2024-03-01")
    assert known.history_ds[0, 0] == start + pd.Timedelta(hours=3)
    assert known.ds[0].tolist() == [(start + pd.Timedelta(hours=51 + k)).value for k in range(6)]
    assert known.cutoff[0] == start + pd.Timedelta(hours=50)
    assert known.ds[-1, -1] == start + pd.Timedelta(hours=239)
    holiday, wind = known.covariates["holiday"], known.covariates["wind"]
    assert holiday.shape == (3 * channels, 54)
    assert holiday[0].tolist() == [float((3 + k) // 24 % 7 == 0) for k in range(54)]
    assert wind[0, :48].tolist() == [3.0 + k for k in range(48)]
    assert wind[-1, 0] == 100.0 + 186
    assert wind[:, 48:].isnan().all()
    scaled = windows.windows.gather(chosen)["future_values"]
    values = scaled.transpose(1, 2).flatten(0, 1) * known.scale[:, None] + known.loc[:, None]
    y = frame().query("unique_id == 'north'")["y"].to_numpy()[51:57]
    np.testing.assert_allclose(values[0].numpy(), y, rtol=1e-5)
    part = known.take(torch.tensor([False] * (3 * channels - 1) + [True]))
    assert part.unique_id.tolist() == ["south"]
    assert part.covariates["wind"].shape == (1, 54)


def test_a_function_gets_what_its_signature_names():
    reward = build_reward({"name": f"{HERE}:told", "low": -100.0, "high": 0.0})
    assert reward.asks == {"unique_id", "ds", "covariates", "scale"}
    windows = make_windows()
    dry_run(reward, windows, season=24)
    chosen = torch.tensor([27, len(windows) - 1 - (len(windows) // 2 - 1 - 27)])  # the same hours, north and south
    known = windows.find_known(chosen, reward.asks)
    assert known.unique_id.tolist() == ["north", "south"]
    assert (known.ds[0] == known.ds[1]).all()
    hours = pd.DatetimeIndex(known.ds[0]).hour.to_numpy()
    assert 0 < (hours < 6).sum() <= 6
    target, history = torch.zeros(2, 6), torch.zeros(2, 48)
    samples = known.scale[:, None, None].expand(2, 1, 6)  # one model unit off everywhere
    found = reward(samples, target, history, 24, known=known)
    nights = float((hours < 6).sum())
    assert found.tolist() == [[-nights], [-2 * nights]]
    with pytest.raises(ValueError, match=r"asks for covariates, scale, which is not known here; ds, unique_id is"):
        reward(samples, target, history, 24, known=Known(unique_id=known.unique_id, ds=known.ds))


def test_an_unknown_name_is_an_error_that_lists_what_can_be_had():
    with pytest.raises(ValueError, match=r"misspelt asks for unique_ids, .* it may ask for unique_id, ds, history_ds"):
        build_reward(f"{HERE}:misspelt")


def test_a_fact_with_a_default_may_be_unknown_and_a_class_may_ask_too():
    windows = make_windows()
    dry_run(build_reward(f"{HERE}:perhaps"), windows, season=24).check()

    class PaysNorth(Reward):
        """Pays the level of one series."""

        low, high = 0.0, 1.0
        asks = frozenset({"unique_id"})

        def _paths(self, problem):
            north = torch.tensor([name == "north" for name in problem.known.unique_id])[:, None]
            return torch.where(north, problem.samples.mean(-1) / 1e3, 0.0)

    both = WeightedReward([(1.0, PaysNorth()), (0.5, build_reward("mae"))])
    assert both.asks == {"unique_id"}
    assert dry_run(both, windows, season=24).check().nan == 0.0
    with pytest.raises(ValueError, match="PaysNorth asks for unique_id, which is not known here; nothing besides"):
        both(torch.zeros(1, 2, 3), torch.zeros(1, 3), torch.zeros(1, 4))

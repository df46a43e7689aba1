import numpy as np
import pandas as pd
import pytest
import scoringrules as sr
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from utilsforecast import losses as ufl

from tsllm import metrics as M

RNG = np.random.default_rng(7)
LEVELS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
Y = RNG.normal(3, 2, (5, 12))
Y_HAT = Y + RNG.normal(0, 1, Y.shape)
Q = np.sort(Y[..., None] + RNG.normal(0, 1, (*Y.shape, 9)), -1)
Y_NAN = np.where(RNG.random(Y.shape) < 0.2, np.nan, Y)


def frame(**columns):
    ids = np.repeat(np.arange(5), 12)
    return pd.DataFrame(
        {"unique_id": ids, "ds": np.tile(np.arange(12), 5), **{k: v.ravel() for k, v in columns.items()}}
    )


def test_point_metrics_worked_by_hand():
    y, f = np.array([1.0, 2.0, np.nan, 0.0]), np.array([2.0, 0.0, 9.0, 0.0])
    assert M.count_observed(y) == 3
    assert M.mse(y, f) == pytest.approx((1 + 4 + 0) / 3)
    assert M.mae(y, f) == pytest.approx((1 + 2 + 0) / 3)
    assert M.rmse(y, f) == pytest.approx(np.sqrt(5 / 3))
    assert M.bias(y, f) == pytest.approx((1 - 2 + 0) / 3)
    assert M.smape(y, f) == pytest.approx((200 / 3 + 200 + 0) / 3)
    assert M.mase(y, f, 0.5) == pytest.approx(2.0)
    assert M.wape(y, f) == pytest.approx(3 / 3)
    assert M.rmsse(y, f, 0.25) == pytest.approx(np.sqrt(20 / 3))
    assert M.seasonal_error(np.array([1.0, 2.0, 4.0, 8.0, 9.0]), 2, power=2) == pytest.approx((9 + 36 + 25) / 3)
    assert M.seasonal_error(np.array([1.0, 2.0, 4.0, 8.0, 9.0]), 2) == pytest.approx((3 + 6 + 5) / 3)
    assert M.skill(3.0, 4.0) == 0.25
    assert M.skill(5.0, 4.0) == -0.25
    assert (M.skill(0.0, 0.0), M.skill(1.0, 0.0)) == (0.0, -np.inf)


def test_probabilistic_metrics_worked_by_hand():
    y = np.array([1.0, 5.0])
    assert M.pinball(y, np.array([0.0, 7.0]), 0.9) == pytest.approx((0.9 * 1 + 0.1 * 2) / 2)
    quantiles = np.array([[0.0, 2.0], [4.0, 4.5]])
    by_hand = np.array([(0.1 * 1 + 0.1 * 1) / 2, (0.1 * 1 + 0.9 * 0.5) / 2])
    assert M.quantile_loss(y, quantiles, [0.1, 0.9]) == pytest.approx(by_hand.mean())
    assert M.quantile_loss(y, quantiles, [0.1, 0.9], dim=()) == pytest.approx(by_hand)
    assert M.wql(y, quantiles, [0.1, 0.9]) == pytest.approx(2 * by_hand.sum() / 6)
    assert M.scaled_quantile_loss(y, quantiles, [0.1, 0.9], np.array([0.5, 2.0])) == pytest.approx(
        (2 * by_hand / [0.5, 2.0]).mean()
    )
    assert M.crps_quantiles(y, quantiles, [0.1, 0.9]) == pytest.approx(2 * by_hand.mean())
    # Draws 0 and 2 about 1: E|X - y| = 1, E|X - X'| = 1 with, 2 without the pairs of a draw with itself.
    assert M.crps_samples(np.array([1.0]), np.array([[0.0, 2.0]])) == pytest.approx(0.5)
    assert M.crps_samples(np.array([1.0]), np.array([[2.0, 0.0]]), fair=True) == pytest.approx(0.0)
    lo, hi = np.array([0.0, 6.0]), np.array([2.0, 9.0])
    assert M.coverage(y, lo, hi) == 0.5
    assert M.interval_width(y, lo, hi) == 2.5
    assert M.interval_score(y, lo, hi, 80) == pytest.approx((2 + 3 + 10 * 1) / 2)


def test_point_metrics_equal_utilsforecast():
    df, train = frame(y=Y, m=Y_HAT), frame(y=RNG.normal(size=Y.shape))
    for ours, theirs, factor in (
        (M.mse, ufl.mse, 1),
        (M.mae, ufl.mae, 1),
        (M.rmse, ufl.rmse, 1),
        (M.smape, ufl.smape, 200),
    ):
        assert ours(Y, Y_HAT, dim=1) == pytest.approx(factor * theirs(df, ["m"])["m"].to_numpy())
    scale = M.seasonal_error(train["y"].to_numpy().reshape(5, 12), 3)
    squared = M.seasonal_error(train["y"].to_numpy().reshape(5, 12), 3, power=2)
    assert M.rmsse(Y, Y_HAT, squared[:, None], dim=1) == pytest.approx(
        ufl.rmsse(df, ["m"], seasonality=3, train_df=train)["m"].to_numpy()
    )
    assert M.mase(Y, Y_HAT, scale[:, None], dim=1) == pytest.approx(
        ufl.mase(df, ["m"], seasonality=3, train_df=train)["m"].to_numpy()
    )


def test_probabilistic_metrics_equal_utilsforecast():
    columns = {f"m{k}": Q[..., k] for k in range(9)}
    df = frame(y=Y, **columns)
    models = {"m": [f"m{k}" for k in range(9)]}
    assert M.quantile_loss(Y, Q, LEVELS, dim=1) == pytest.approx(
        ufl.mqloss(df, models, np.array(LEVELS))["m"].to_numpy()
    )
    assert M.pinball(Y, Q[..., 2], 0.3, dim=1) == pytest.approx(
        ufl.quantile_loss(df, {"m": "m2"}, 0.3)["m"].to_numpy()
    )
    interval = frame(y=Y, **{"m-lo-80": Q[..., 0], "m-hi-80": Q[..., 8]})
    assert M.coverage(Y, Q[..., 0], Q[..., 8], dim=1) == pytest.approx(
        ufl.coverage(interval, ["m"], 80)["m"].to_numpy()
    )


def test_probabilistic_metrics_equal_scoringrules():
    samples = RNG.normal(3, 2, (*Y.shape, 21))
    for fair, estimator in ((False, "nrg"), (True, "fair")):
        ours = M.crps_samples(Y, samples, fair=fair, dim=())
        assert ours == pytest.approx(sr.crps_ensemble(Y, samples, estimator=estimator), rel=1e-9)
    assert M.crps_quantiles(Y, Q, LEVELS, dim=()) == pytest.approx(sr.crps_quantile(Y, Q, np.array(LEVELS)))
    assert M.interval_score(Y, Q[..., 0], Q[..., 8], 80, dim=()) == pytest.approx(
        sr.interval_score(Y, Q[..., 0], Q[..., 8], 0.2)
    )


def test_weighted_quantile_loss_equals_the_slow_loop():
    total, losses = 0.0, np.zeros(9)
    for i, j in np.ndindex(*Y.shape):
        if np.isnan(Y_NAN[i, j]):
            continue
        total += abs(Y_NAN[i, j])
        for k, q in enumerate(LEVELS):
            u = Y_NAN[i, j] - Q[i, j, k]
            losses[k] += 2 * (q * u if u >= 0 else (q - 1) * u)
    assert M.wql(Y_NAN, Q, LEVELS) == pytest.approx((losses / total).mean())


def test_crps_equals_the_slow_double_loop():
    x, y = RNG.normal(size=6), 0.3
    spread = sum(abs(a - b) for a in x for b in x)
    error = np.abs(x - y).mean()
    assert M.crps_samples(np.array(y), x) == pytest.approx(error - spread / 72)
    assert M.crps_samples(np.array(y), x, fair=True) == pytest.approx(error - spread / 60)


def metric_calls(y, f, q):
    return {
        "mse": lambda d: M.mse(y, f, dim=d),
        "mae": lambda d: M.mae(y, f, dim=d),
        "rmse": lambda d: M.rmse(y, f, dim=d),
        "bias": lambda d: M.bias(y, f, dim=d),
        "smape": lambda d: M.smape(y, f, dim=d),
        "mase": lambda d: M.mase(y, f, 2.0, dim=d),
        "rmsse": lambda d: M.rmsse(y, f, 2.0, dim=d),
        "wape": lambda d: M.wape(y, f, dim=d),
        "scaled_quantile_loss": lambda d: M.scaled_quantile_loss(y, q, LEVELS, 2.0, dim=d),
        "pinball": lambda d: M.pinball(y, f, 0.3, dim=d),
        "quantile_loss": lambda d: M.quantile_loss(y, q, LEVELS, dim=d),
        "wql": lambda d: M.wql(y, q, LEVELS, dim=d),
        "crps_quantiles": lambda d: M.crps_quantiles(y, q, LEVELS, dim=d),
        "crps_samples": lambda d: M.crps_samples(y, q, dim=d),
        "coverage": lambda d: M.coverage(y, q[..., 0], q[..., 8], dim=d),
        "interval_width": lambda d: M.interval_width(y, q[..., 0], q[..., 8], dim=d),
        "interval_score": lambda d: M.interval_score(y, q[..., 0], q[..., 8], 80, dim=d),
    }


NAMES = list(metric_calls(Y, Y_HAT, Q))


@pytest.mark.parametrize("name", NAMES)
def test_numpy_and_torch_agree_and_keep_their_kind(name):
    ours = metric_calls(Y_NAN, Y_HAT, Q)[name]
    theirs = metric_calls(torch.from_numpy(Y_NAN), torch.from_numpy(Y_HAT), torch.from_numpy(Q))[name]
    for dim in (None, 1, (0, 1)):
        a, b = ours(dim), theirs(dim)
        assert isinstance(b, torch.Tensor)
        assert isinstance(a, (np.ndarray, np.floating))
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_missing_targets_are_skipped_and_missing_forecasts_are_not(name):
    keep = ~np.isnan(Y_NAN)
    whole = metric_calls(Y_NAN, Y_HAT, Q)[name](None)
    kept = metric_calls(Y[keep], Y_HAT[keep], Q[keep])[name](None)
    assert whole == pytest.approx(kept)
    assert M.count_observed(Y_NAN) == keep.sum() < Y.size
    holed, holed_q = Y_HAT.copy(), Q.copy()
    holed[keep.nonzero()[0][0], keep.nonzero()[1][0]] = np.nan
    holed_q[keep.nonzero()[0][0], keep.nonzero()[1][0]] = np.nan
    assert np.isnan(metric_calls(Y_NAN, holed, holed_q)[name](None))


@pytest.mark.parametrize("name", NAMES)
def test_where_nothing_is_observed_the_result_is_nan(name):
    y = np.where(np.arange(5)[:, None] == 2, np.nan, Y)
    result = metric_calls(y, Y_HAT, Q)[name](1)
    assert np.isnan(result).tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("rmse", "rmsse", "wape", "wql")])
def test_no_reduction_gives_the_values_that_are_averaged(name):
    values = metric_calls(Y_NAN, Y_HAT, Q)[name](())
    assert values.shape == Y.shape
    assert np.isnan(values).tolist() == np.isnan(Y_NAN).tolist()
    assert np.nanmean(values) == pytest.approx(metric_calls(Y_NAN, Y_HAT, Q)[name](None))


def test_integer_targets_and_single_precision_work():
    assert M.mae(np.array([1, 2]), np.array([2, 4])) == 1.5
    assert M.mae(torch.tensor([1, 2]), torch.tensor([2, 4])).item() == 1.5
    single = M.mae(torch.tensor([1.0]), torch.tensor([2.0]))
    assert single.dtype == torch.float32


def test_metrics_carry_gradients():
    f = torch.tensor([1.0, 3.0], requires_grad=True)
    M.mae(torch.tensor([2.0, float("nan")]), f).backward()
    assert f.grad.tolist() == [-1.0, 0.0]


def test_a_repeating_series_has_no_mase():
    scale = M.seasonal_error(np.array([[1.0, 2, 1, 2], [1, 2, 3, 5]]), 2)
    assert scale.tolist() == [0.0, 2.5]
    assert np.isnan(M.mase(Y[:2], Y_HAT[:2], scale[:, None], dim=1)).tolist() == [True, False]
    assert M.seasonal_error(np.array([1.0, np.nan, 4.0, 6.0]), 1) == 2.0


@settings(max_examples=50, deadline=None)
@given(
    y=hnp.arrays(np.float64, (4,), elements=st.floats(-100, 100)),
    f=hnp.arrays(np.float64, (4,), elements=st.floats(-100, 100)),
    a=st.floats(0.1, 10),
    b=st.floats(-50, 50),
)
def test_units_and_ranges(y, f, a, b):
    assert 0 <= M.smape(y, f) <= 200 + 1e-9
    assert M.mae(a * y + b, a * f + b) == pytest.approx(a * M.mae(y, f), abs=1e-6)
    assert M.mse(a * y + b, a * f + b) == pytest.approx(a * a * M.mse(y, f), abs=1e-4)
    assert M.pinball(y, f, 0.5) == pytest.approx(M.mae(y, f) / 2)
    assert M.crps_samples(y, f[:, None]) == pytest.approx(M.mae(y, f))
    assert M.rmse(y, f) >= M.mae(y, f) - 1e-9


def test_fair_crps_is_unbiased_for_the_normal_distribution():
    draws = torch.randn(20000, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.full((20000,), 0.7, dtype=torch.float64)
    exact = sr.crps_normal(0.7, 0.0, 1.0)
    assert M.crps_samples(y, draws, fair=True).item() == pytest.approx(exact, abs=0.006)
    assert M.crps_samples(y, draws).item() - exact > 0.05


def test_mistakes_are_told():
    with pytest.raises(ValueError, match="quantiles have 9 entries on the last axis, but there are 2 levels"):
        M.quantile_loss(Y, Q, [0.1, 0.9])
    with pytest.raises(ValueError, match="quantile level 1\\.5 lies"):
        M.pinball(Y, Y_HAT, 1.5)
    with pytest.raises(ValueError, match="coverage in percent"):
        M.interval_score(Y, Y_HAT, Y_HAT, 0.0)
    with pytest.raises(ValueError, match="season is 12 and the training part has 12 steps"):
        M.seasonal_error(Y, 12)
    for y, f in ((Y, Y_HAT[0]), (Y[0], Y_HAT), (Y[:, :1], Y_HAT), (Y, Y_HAT[..., None])):
        with pytest.raises(ValueError, match="targets have shape"):
            M.mae(y, f)
    with pytest.raises(ValueError, match="1 samples are too few"):
        M.crps_samples(Y, Y_HAT[..., None], fair=True)


def test_the_table_of_point_metrics_holds_the_functions_themselves():
    assert {name: function(Y, Y_HAT) for name, function in M.POINT_METRICS.items()} == {
        name: getattr(M, name)(Y, Y_HAT) for name in ("mse", "mae", "rmse", "bias", "smape", "wape")
    }


class TestPaths:
    """Scores of joint sample paths, [..., H] against [..., sample, H]."""

    @staticmethod
    def draw(seed=0):
        rng = np.random.default_rng(seed)
        return rng.normal(size=(3, 4)), rng.normal(size=(3, 7, 4)).cumsum(-1)

    @pytest.mark.parametrize("fair", [False, True])
    def test_energy_score_equals_a_slow_loop(self, fair):
        y, samples = self.draw()
        expected = []
        for t, x in zip(y, samples, strict=True):
            near = np.mean([np.linalg.norm(a - t) for a in x])
            pairs = sum(np.linalg.norm(a - b) for a in x for b in x)
            expected.append(near - pairs / (2 * 7 * (6 if fair else 7)))
        np.testing.assert_allclose(M.energy_score(y, samples, fair=fair), expected, rtol=1e-12)

    def test_energy_score_of_one_step_is_the_crps(self):
        y, samples = self.draw()
        np.testing.assert_allclose(
            M.energy_score(y[:, :1], samples[:, :, :1]), M.crps_samples(y[:, 0], samples[:, :, 0], dim=())
        )

    @pytest.mark.parametrize("order", [0.5, 1.0])
    def test_variogram_score_equals_a_slow_loop(self, order):
        y, samples = self.draw()
        expected = []
        for t, x in zip(y, samples, strict=True):
            terms = [
                (abs(t[i] - t[j]) ** order - np.mean(np.abs(x[:, i] - x[:, j]) ** order)) ** 2
                for i in range(4)
                for j in range(4)
                if i != j
            ]
            expected.append(np.mean(terms))
        np.testing.assert_allclose(M.variogram_score(y, samples, order=order), expected, rtol=1e-12)

    def test_scores_agree_with_scoringrules(self):
        y, samples = self.draw()
        np.testing.assert_allclose(M.energy_score(y, samples), sr.es_ensemble(y, samples, backend="numpy"))

    def test_joint_samples_score_better_than_the_same_marginals_permuted(self):
        rng = np.random.default_rng(0)
        y, samples = (rng.normal(size=s).cumsum(-1) for s in ((200, 6), (200, 100, 6)))
        broken = rng.permuted(samples, axis=1)
        assert M.variogram_score(y, samples).mean() < 0.8 * M.variogram_score(y, broken).mean()
        assert M.energy_score(y, samples).mean() < M.energy_score(y, broken).mean()

    def test_coverage_of_functionals_by_hand(self):
        samples = np.array([[[0.0, 1.0], [0.0, 3.0], [0.0, 5.0], [0.0, 7.0], [0.0, 9.0]]])  # maxima 1 3 5 7 9
        for truth, inside in (([0.0, 3.0], 1.0), ([0.0, 1.9], 1.0), ([0.0, 1.7], 0.0), ([9.0, 8.3], 0.0)):
            assert M.functional_coverage(np.array([truth]), samples, 80, "max") == inside  # [1.8, 8.2]
        assert M.functional_coverage(np.array([[0.0, 8.0]]), samples, 80, lambda p: p[..., 1]) == 1.0
        assert np.isnan(M.functional_coverage(np.array([[0.0, np.nan]]), samples, 80, "ramp"))

    def test_a_missing_step_scores_nan_and_wrong_shapes_are_refused(self):
        y, samples = self.draw()
        y[0, 1] = np.nan
        for score in (M.energy_score(y, samples), M.variogram_score(y, samples)):
            assert np.isnan(score).tolist() == [True, False, False]
        with pytest.raises(ValueError, match="sample paths"):
            M.energy_score(y, samples.transpose(1, 0, 2))
        with pytest.raises(ValueError, match="must be one of max, min, sum, ramp"):
            M.functional_coverage(y, samples, 80, "peak")

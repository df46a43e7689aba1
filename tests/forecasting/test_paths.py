"""Joint paths keep every marginal, take the template's dependence, and repeat with their seed."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tsllm.forecasting.base import Forecaster
from tsllm.forecasting.paths import (
    draw_paths,
    iterate_paths,
    sample_marginals,
    shuffle_by_template,
    simulate,
)
from tsllm.types import CUTOFF, ID, TARGET, TIME


class Drift(Forecaster):
    """Repeats the last value; its errors are random walks."""

    alias = "Drift"

    def predict(self, df, h=None, level=None, X_df=None):
        parts = []
        for name, part in df.groupby(ID, sort=False):
            times = part[TIME].iloc[-1] + np.arange(1, (h or 4) + 1)
            frame = pd.DataFrame({ID: name, TIME: times, self.alias: part[TARGET].iloc[-1]})
            for lv in level or ():
                frame[f"Drift-lo-{lv:g}"] = frame[self.alias] - lv / 10
                frame[f"Drift-hi-{lv:g}"] = frame[self.alias] + lv / 10
            parts.append(frame)
        return pd.concat(parts, ignore_index=True)

    def predict_rolling(self, df, h, n_windows, step_size, level=None):
        parts = []
        for k in range(n_windows):
            past = df.groupby(ID, sort=False).head(-(h + (n_windows - 1 - k) * step_size))
            part = self.predict(past, h)
            part[CUTOFF] = part[ID].map(past.groupby(ID)[TIME].last())
            parts.append(part)
        return pd.concat(parts, ignore_index=True)


def make_walks(lengths: dict[str, int]) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.concat(
        [pd.DataFrame({ID: n, TIME: np.arange(m), TARGET: rng.normal(size=m).cumsum()}) for n, m in lengths.items()],
        ignore_index=True,
    )


def make_errors(count: int = 400, steps: int = 5) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, steps)).cumsum(1)


def test_marginal_samples_of_a_normal_distribution_are_its_quantiles_tails_included():
    levels = [0.1, 0.3, 0.5, 0.7, 0.9]
    quantiles = stats.norm.ppf(levels, 3.0, 2.0)[None]  # [1, Q]
    expected = stats.norm.ppf((np.arange(1000) + 0.5) / 1000, 3.0, 2.0)
    np.testing.assert_allclose(sample_marginals(quantiles, levels, 1000)[:, 0], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("method", ["schaake", "gaussian"])
def test_marginals_are_kept_exactly(method):
    levels, errors = [0.1, 0.5, 0.9], make_errors()
    quantiles = np.sort(np.random.default_rng(2).normal(size=(5, 3)), 1)
    rng = np.random.default_rng(0)
    paths = draw_paths(quantiles[:, 1], errors, 50, rng, method=method, quantiles=quantiles, levels=levels)
    np.testing.assert_array_equal(np.sort(paths, 0), sample_marginals(quantiles, levels, 50))


def test_the_schaake_shuffle_takes_the_templates_ranks_exactly():
    errors = make_errors(30)
    quantiles = np.tile([-1.0, 0.0, 1.0], (5, 1))
    rows = np.random.default_rng(3).permutation(30)
    paths = draw_paths(
        np.zeros(5), errors, 30, np.random.default_rng(0), quantiles=quantiles, levels=[0.2, 0.5, 0.8], rows=rows
    )
    np.testing.assert_array_equal(paths.argsort(0).argsort(0), errors[rows].argsort(0).argsort(0))


@pytest.mark.parametrize("method", ["schaake", "gaussian", "bootstrap"])
def test_the_dependence_of_the_template_is_kept(method):
    errors = make_errors(2000)
    paths = draw_paths(np.zeros(5), errors, 2000, np.random.default_rng(0), method=method)
    expected = stats.spearmanr(errors).statistic
    np.testing.assert_allclose(stats.spearmanr(paths).statistic, expected, atol=0.06)
    assert expected[0, 4] > 0.35  # there is something to keep


def test_the_bootstrap_adds_whole_error_paths():
    errors, point = make_errors(7), np.arange(5.0)
    paths = draw_paths(point, errors, 14, np.random.default_rng(0), method="bootstrap")
    found = sorted(map(tuple, (paths - point).round(9).tolist()))
    assert found == sorted(map(tuple, np.repeat(errors, 2, 0).round(9).tolist()))  # each as often as the others


def test_weights_make_some_windows_impossible():
    errors = make_errors(4)
    paths = draw_paths(
        np.zeros(5), errors, 60, np.random.default_rng(0), method="bootstrap", weights=np.array([0.0, 1.0, 0.0, 1.0])
    )
    assert {tuple(p) for p in paths} == {tuple(errors[1]), tuple(errors[3])}


def test_channels_stay_joint():
    errors = np.stack([make_errors(50), -make_errors(50)], -1)  # [N, H, 2]
    for method in ("schaake", "bootstrap"):
        paths = draw_paths(np.zeros((5, 2)), errors, 50, np.random.default_rng(0), method=method)
        np.testing.assert_array_equal(paths[..., 0].argsort(0), (-paths[..., 1]).argsort(0))


def test_equal_template_entries_still_give_a_permutation():
    shuffled = shuffle_by_template(np.arange(6.0)[:, None], np.zeros((6, 1)))
    assert sorted(shuffled[:, 0]) == list(range(6))


def test_simulate_gives_a_frame_that_repeats_with_its_seed():
    df = make_walks({"a": 60, "b": 60})
    first, again, other = (simulate(Drift(), df, 20, seed, h=4) for seed in (0, 0, 1))
    assert list(first.columns) == [ID, TIME, "sample", "Drift"]
    assert len(first) == 2 * 20 * 4
    pd.testing.assert_frame_equal(first, again)
    assert not first["Drift"].equals(other["Drift"])
    assert first.groupby([ID, "sample"])[TIME].apply(list).map(lambda t: t == [60, 61, 62, 63]).all()


def test_sample_s_of_every_series_comes_from_the_same_cutoff():
    df = make_walks({"a": 60})
    both = pd.concat([df, df.assign(**{ID: "b", TARGET: 100 - df[TARGET]})], ignore_index=True)
    paths = simulate(Drift(), both, 30, 0, h=4)
    a, b = (paths[paths[ID] == n]["Drift"].to_numpy() for n in "ab")
    np.testing.assert_allclose(a, 100 - b, rtol=0, atol=1e-9)


def test_intervals_become_the_marginals():
    df = make_walks({"a": 60})
    paths = simulate(Drift(), df, 200, 0, h=4, level=[20, 80])
    last = df[TARGET].iloc[-1]
    for _, step in paths.groupby(TIME):
        got = np.quantile(step["Drift"], [0.1, 0.4, 0.6, 0.9]) - last
        np.testing.assert_allclose(got, [-8.0, -2.0, 2.0, 8.0], atol=0.15)


def test_one_series_is_held_at_a_time():
    parts = iterate_paths(Drift(), make_walks({"a": 60, "b": 60}), 10, 0, h=4)
    assert next(parts)[ID].unique().tolist() == ["a"]


def test_pooled_errors_are_in_units_of_each_series():
    df = make_walks({"a": 12})
    both = pd.concat([df, df.assign(**{ID: "b", TARGET: 1000 * df[TARGET]})], ignore_index=True)
    paths = simulate(Drift(), both, 300, 0, h=4, pool=True)
    spread = [(p["Drift"] - both[both[ID] == n][TARGET].iloc[-1]).std() for n, p in paths.groupby(ID)]
    assert spread[1] == pytest.approx(1000 * spread[0])


def test_pooled_paths_of_unrelated_series_are_unrelated():
    both = make_walks({"a": 80, "b": 80})
    paths = simulate(Drift(), both, 400, 0, h=4, pool=True)
    a, b = (p.groupby("sample")["Drift"].sum() for _, p in paths.groupby(ID))
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.2  # 1 if each sample took one window for all series


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_samples": 0}, "n_samples is 0; it must be a whole number of at least 1"),
        ({"n_samples": 2.5}, "n_samples is 2.5"),
        ({"n_windows": 1}, "n_windows is 1; it must be a whole number of at least 2"),
        ({"step_size": 0}, "step_size is 0"),
    ],
)
def test_impossible_counts_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        simulate(Drift(), make_walks({"a": 60}), h=4, **options)


def test_no_room_gaps_and_wrong_names_are_refused():
    with pytest.raises(ValueError, match="no room for two windows of 4 steps"):
        simulate(Drift(), make_walks({"a": 7}), 5, 0, h=4)
    df = make_walks({"a": 9})
    df.loc[df.index[-3:], TARGET] = np.nan
    with pytest.raises(ValueError, match="without gaps"):
        simulate(Drift(), df, 5, 0, h=4)
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="must be one of schaake"):
        draw_paths(np.zeros(2), make_errors(5, 2), 3, rng, method="copula")
    with pytest.raises(ValueError, match=r"errors \[5, 3\]"):
        draw_paths(np.zeros(2), make_errors(5, 3), 3, rng)
    with pytest.raises(ValueError, match="rising"):
        sample_marginals(np.zeros((2, 2)), [0.9, 0.1], 5)


def test_every_forecaster_draws_paths_by_itself():
    import tsllm

    df = pd.DataFrame({"unique_id": "a", "ds": pd.date_range("2024", periods=200, freq="h")})
    df["y"] = np.sin(np.arange(200) * 2 * np.pi / 24) + np.random.default_rng(0).normal(size=200) / 9
    model = tsllm.SeasonalNaive(24)
    paths = model.simulate(df, n_samples=7, seed=3, h=5, n_windows=20)
    assert list(paths.columns) == ["unique_id", "ds", "sample", "SeasonalNaive"]
    assert len(paths) == 7 * 5
    pd.testing.assert_frame_equal(paths, tsllm.simulate(model, df, 7, 3, h=5, n_windows=20))

"""How a text forecaster is tested before and after training: the same windows, original units, nothing left out."""

import numpy as np
import pandas as pd
import pytest

from tests.text.conftest import language_model, tokenizer  # noqa: F401
from tsllm.data.loading import LoadedData
from tsllm.data.task import build_task
from tsllm.forecasting.text import ParseReport, TextForecaster
from tsllm.paired import diebold_mariano
from tsllm.programs.text import (
    TextModelArguments,
    TextScores,
    build_forecaster,
    compare_windows,
    cut_windows,
    evaluate_text,
    read_asked,
    score_naive,
)
from tsllm.text.generate import SamplingOptions
from tsllm.training.args import DataArguments


def make_frame(lengths=(20, 16)):
    parts = []
    for k, n in enumerate(lengths):
        ds = pd.date_range("2024-01-01", periods=n, freq="h")
        y = np.sin(np.arange(n)) * 10.0**k + 5
        parts.append(pd.DataFrame({"unique_id": f"s{k}", "ds": ds, "y": y}))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture
def forecaster(language_model, tokenizer):  # noqa: F811
    return TextForecaster(language_model, tokenizer, h=3, context_length=8, freq="h", digits=2, num_samples=5)


def test_windows_worked_by_hand():
    df = make_frame((20,)).assign(y=np.arange(20.0))
    histories, futures = cut_windows(df, context_length=4, h=3, num_windows=2)
    names = ["s0@2024-01-01 13:00:00", "s0@2024-01-01 16:00:00"]
    assert futures["unique_id"].unique().tolist() == histories["unique_id"].unique().tolist() == names
    assert histories["y"].tolist() == [10, 11, 12, 13, 13, 14, 15, 16]
    assert futures["y"].tolist() == [14, 15, 16, 17, 18, 19]
    with pytest.raises(ValueError, match=r"'s0' has 20 steps .* 6 windows need 22 .*; lower test_windows"):
        cut_windows(df, context_length=4, h=3, num_windows=6)


def test_scores_equal_a_slow_loop_over_windows(forecaster):
    df = make_frame()
    scores = evaluate_text(forecaster, df, 2)
    histories, futures = cut_windows(df, 8, 3, 2)
    rows = []
    for name, paths in forecaster.sample(histories).items():
        y = futures.loc[futures["unique_id"] == name, "y"].to_numpy()
        median = np.median(paths, axis=0)
        spread = np.abs(paths[:, None] - paths[None]).mean(axis=(0, 1))
        lo, hi = np.quantile(paths, [0.1, 0.9], axis=0)
        rows.append(
            {
                "mae": np.abs(median - y).mean(),
                "mse": ((median - y) ** 2).mean(),
                "crps": (np.abs(paths - y).mean(0) - spread / 2).mean(),
                "coverage_80": ((lo <= y) & (y <= hi)).mean(),
            }
        )
    slow = pd.DataFrame(rows)
    assert (scores.summary["windows"], scores.summary["samples"]) == (4, 20)
    assert scores.windows["unique_id"].tolist() == ["s0", "s0", "s1", "s1"]
    for name in slow:
        np.testing.assert_allclose(scores.windows[name], slow[name], rtol=1e-6)
        assert scores.summary[name] == pytest.approx(slow[name].mean(), rel=1e-6)


def test_the_example_is_the_last_window_of_each_series(forecaster):
    df = make_frame()
    scores = evaluate_text(forecaster, df, 2)
    paths = {k.split("@")[0]: v for k, v in forecaster.sample(cut_windows(df, 8, 3, 2)[0]).items()}
    for name, own in scores.example.groupby("unique_id"):
        last = df[df["unique_id"] == name].tail(11)
        assert own["ds"].tolist() == last["ds"].tolist()
        assert own["y"].tolist() == last["y"].tolist()
        assert own["ahead"].tolist() == [False] * 8 + [True] * 3
        np.testing.assert_allclose(own["forecast"].tail(3), np.median(paths[name], axis=0))
        np.testing.assert_allclose(own["hi"].tail(3), np.quantile(paths[name], 0.9, axis=0))


def test_unreadable_windows_are_counted_and_leave_no_score(language_model, tokenizer):  # noqa: F811
    options = SamplingOptions(constrained=False, max_tokens_per_number=1)
    forecaster = TextForecaster(
        language_model, tokenizer, h=3, context_length=8, freq="h", num_samples=2, options=options
    )
    summary = evaluate_text(forecaster, make_frame(), 1).summary
    assert (summary["windows"], summary["unreadable_windows"], summary["samples"]) == (2, 2, 4)
    assert sum(summary["parse_failures"].values()) == 4
    assert "mae" not in summary


def test_the_seasonal_naive_is_scored_on_the_same_windows():
    df = make_frame()
    found = score_naive(df, 8, 3, 2, "h", 24)
    histories, futures = cut_windows(df, 8, 3, 2)
    errors = []
    for name, own in futures.groupby("unique_id", sort=False):
        past = histories.loc[histories["unique_id"] == name, "y"].to_numpy()
        errors.append(own["y"].to_numpy() - past[:3])  # a day is longer than the context, so its 8 steps are a season
    assert found["mae"] == pytest.approx(np.abs(errors).mean(), rel=1e-9)
    assert found["mse"] == pytest.approx(np.square(errors).mean(), rel=1e-9)


@pytest.mark.parametrize(("asked", "season", "told"), [(None, 24, 24), (6, 6, 6), (0, 24, 0)])
def test_prompts_rewards_and_scores_share_the_season_of_the_task(language_model, tokenizer, asked, season, told):  # noqa: F811
    args = TextModelArguments(season=asked)
    loaded = LoadedData("x", make_frame(), "h", None)
    task = build_task(loaded, read_asked(args, DataArguments(dataset="x", prediction_length=3, context_length=8)))
    assert task.season == season
    assert build_forecaster(language_model, tokenizer, args, loaded, task).prompt.season == told


def make_scores(mae, crps, series=("a",)):
    count = len(mae) // len(series)
    windows = pd.DataFrame(
        {"unique_id": np.repeat(series, count), "cutoff": [str(k) for k in range(count)] * len(series)}
    )
    return TextScores({}, windows.assign(mae=mae, crps=crps), pd.DataFrame())


def test_gains_are_paired_by_window_and_few_cutoffs_are_not_tested():
    start = make_scores([3.0, 5.0, 4.0, np.nan], [2.0, 2.0, 2.0, np.nan])
    end = make_scores([2.0, 3.0, 1.0, 1.0], [2.0, 2.0, 2.0, 1.0])
    found = compare_windows({"start": start, "test": end})
    assert (found["windows"], found["cutoffs"]) == (3, 3)
    assert found["mae"] == {"gain": pytest.approx(2.0), "p_value": None}
    assert found["crps"] == {"gain": 0.0, "p_value": None}


def test_the_test_runs_over_cutoffs_in_the_order_of_time():
    rng = np.random.default_rng(0)
    start, end = rng.uniform(1, 2, (2, 12)), rng.uniform(1, 2, (2, 12))
    found = compare_windows(
        {"start": make_scores(start.ravel(), 1.0, ("a", "b")), "test": make_scores(end.ravel(), 1.0, ("a", "b"))}
    )
    assert (found["windows"], found["cutoffs"]) == (24, 12)
    assert found["mae"]["gain"] == pytest.approx((start - end).mean())
    # Cutoffs "0" ... "11": sorted as text they would be another series.
    assert found["mae"]["p_value"] == pytest.approx(diebold_mariano(start.mean(0), end.mean(0)).p_value)
    assert found["crps"] == {"gain": 0.0, "p_value": 1.0}


def test_one_unreadable_sample_does_not_drop_its_window():
    class Sampling:
        context_length, h, covariates, report = 8, 3, (), ParseReport()

        def sample(self, histories, known):
            self.paths = {
                name: np.random.default_rng(k).normal(5, 1, (10, 3))
                for k, name in enumerate(histories["unique_id"].unique())
            }
            spoiled = {name: paths.copy() for name, paths in self.paths.items()}
            next(iter(spoiled.values()))[4] = np.nan
            return spoiled

    forecaster, df = Sampling(), make_frame()
    scores = evaluate_text(forecaster, df, 2)
    assert scores.summary["unreadable_windows"] == 0
    assert scores.windows["readable"].tolist() == [9, 10, 10, 10]
    paths = next(iter(forecaster.paths.values()))
    y = df.loc[df["unique_id"] == "s0", "y"].to_numpy()[14:17]
    rest = np.delete(paths, 4, axis=0)
    assert scores.windows["mae"].iloc[0] == pytest.approx(np.abs(np.median(rest, axis=0) - y).mean())
    spread = np.abs(rest[:, None] - rest[None]).mean(axis=(0, 1))
    assert scores.windows["crps"].iloc[0] == pytest.approx((np.abs(rest - y).mean(0) - spread / 2).mean())

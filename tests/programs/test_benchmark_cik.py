"""The benchmark as one command, on two instances made here."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from tsllm.cli.main import app
from tsllm.programs.benchmark_cik import run_cik


@pytest.fixture
def file(tmp_path):
    lines = []
    for seed, cap in ((1, 5.0), (2, 3.0)):
        times = pd.date_range("2024-01-01", periods=72, freq="h")
        y = 4 + 4 * np.sin(np.arange(72) / 24 * 2 * np.pi)
        truth = np.minimum(y[48:], cap)
        lines.append(
            {
                "name": "Capped", "seed": seed, "weight": "1/2", "background": "", "scenario": "",
                "constraints": f"Suppose that the values are bounded above by {cap}.", "seasonal_period": 24,
                "past_time": json.dumps({"y": {str(t): v for t, v in zip(times[:48], y, strict=False)}}),
                "future_time": json.dumps({"y": {str(t): v for t, v in zip(times[48:], truth, strict=True)}}),
                "region_of_interest": None, "metric_scaling": 0.5, "constraint_min": None, "constraint_max": cap,
                "constraint_variable_max_index": [], "constraint_variable_max_values": [],
            }
        )  # fmt: skip
    path = tmp_path / "cik.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def test_the_command_writes_forecasts_scores_and_report(file, tmp_path):
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["benchmark", "cik", str(file), "--output-dir", str(out), "--samples", "40"])
    assert result.exit_code == 0, result.output
    forecasts = np.load(out / "forecasts.npz")
    assert sorted(forecasts.files) == ["Capped/1", "Capped/2"]
    assert forecasts["Capped/2"].shape == (40, 24)
    assert forecasts["Capped/2"].max() == 3.0
    figures = json.loads((out / "metrics.json").read_text())["rcrps"]
    scores = pd.read_csv(out / "scores.csv", index_col=0)
    assert scores["rules"].mean() == pytest.approx(figures["rules"])
    # Without the text, and with the looser bound of the other instance, the penalty is paid.
    assert figures["rules"] < 0.2 < min(figures["none"], figures["data"])
    assert figures["rules"] < figures["swapped"]
    report = (out / "report.md").read_text()
    assert "GPT-4o, direct prompt (published) | 0.191" in report
    assert "not" not in report.split("published figures are over")[0]
    assert (out / "effects.txt").read_text().count("cap ") == 2


def test_equal_seeds_give_equal_figures(file, tmp_path):
    first, again = (run_cik(file, tmp_path / str(k), arms=["rules"], samples=20) for k in range(2))
    assert first == again


def test_arms_without_their_reader_are_refused(file, tmp_path):
    with pytest.raises(ValueError, match="`learned` needs a trained reader"):
        run_cik(file, tmp_path, arms=["learned"])
    with pytest.raises(ValueError, match="choose among none, data"):
        run_cik(file, tmp_path, arms=["oracle"])
    with pytest.raises(ValueError, match="the one that counts first"):
        run_cik(file, tmp_path, arms=["swapped", "rules"])
    with pytest.raises(ValueError, match=r"--samples is 1; .*give at least 2"):
        run_cik(file, tmp_path, samples=1)

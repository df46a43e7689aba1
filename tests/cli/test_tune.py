import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from tsllm.cli.main import app
from tsllm.evaluation.config import CompareConfig


def test_a_search_prints_its_best_settings_and_writes_entries_that_a_comparison_reads(tmp_path):
    steps = np.arange(24 * 20)
    rng = np.random.default_rng(0)
    y = 10 + 3 * np.sin(2 * np.pi * steps / 24) + 0.3 * rng.normal(size=len(steps))
    table = pd.DataFrame({"unique_id": "a", "ds": pd.date_range("2024-01-01", periods=len(steps), freq="h"), "y": y})
    table.to_csv(tmp_path / "wave.csv", index=False)
    words = ["tune", str(tmp_path / "wave.csv"), "--models", "dlinear", "--trials", "2", "--h", "12"]
    words += ["--n-windows", "2", "--context-length", "48", "--train", "max_steps=4", "--train", "eval_steps=2"]
    words += ["--set", "head=quantile", "--search", "context_length=null", "--output-dir", str(tmp_path / "tuned")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "DLinear: 2 trials of learning_rate; trial " in done.output
    entry = yaml.safe_load((tmp_path / "tuned/best.yaml").read_text())["models"][0]
    assert entry["model"] == "dlinear"
    assert entry["options"] == {"head": "quantile"}
    assert 1e-4 <= entry["training"]["learning_rate"] <= 1e-2
    config = CompareConfig(data=["wave"], models=["SeasonalNaive", entry])
    assert config.models[1].training["max_steps"] == 4
    assert len(list((tmp_path / "tuned/trials").iterdir())) == 2
    again = CliRunner().invoke(app, words)
    assert again.output == done.output  # nothing was computed anew
    refused = CliRunner().invoke(app, [*words[:2], "--models", "AutoETS", "--h", "12"])
    assert refused.exit_code == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--models", ""], "--models names no model"),
        (["--models", "dlinear,dlinear"], "names DLinear twice"),
        (["--set", "nonsense=1"], "unknown option 'nonsense' of DLinear; known: h, "),
        (["--val-size", "0"], "a search needs validation steps"),
        (["--val-size", "2000"], "the series has only"),
    ],
)
def test_what_cannot_be_trained_is_told_before_the_first_trial(tmp_path, words, told):
    table = pd.DataFrame({"ds": pd.date_range("2024-01-01", periods=300, freq="h"), "y": np.arange(300) % 24 + 0.5})
    table.to_csv(tmp_path / "wave.csv", index=False)
    base = [
        "tune",
        str(tmp_path / "wave.csv"),
        "--models",
        "dlinear",
        "--h",
        "4",
        "--output-dir",
        str(tmp_path / "out"),
    ]
    result = CliRunner().invoke(app, [*base, *words])
    assert result.exit_code == 2, result.output
    assert told in " ".join(result.output.split())
    assert "trial 1" not in result.output
    assert not (tmp_path / "out").exists()

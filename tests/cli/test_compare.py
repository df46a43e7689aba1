import runpy
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import GPT2Config, GPT2Model
from typer.testing import CliRunner

from tsllm.cli.compare import write_command
from tsllm.cli.main import app

ROOT = Path(__file__).parents[2]


@pytest.fixture
def csv(tmp_path):
    rng = np.random.default_rng(0)
    y = 20 + 5 * np.sin(np.arange(200) * 2 * np.pi / 24) + rng.normal(size=200)
    path = tmp_path / "load.csv"
    pd.DataFrame({"date": pd.date_range("2024", periods=200, freq="h"), "north": y, "south": 2 * y}).to_csv(
        path, index=False
    )
    return path


def invoke(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def run(*arguments):
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return result


def test_compare_takes_data_and_names(csv, tmp_path):
    out = tmp_path / "out"
    result = run("compare", csv, "--models", "SeasonalNaive,Naive", "--h", 6, "--n-windows", 5, "--output-dir", out)
    table = pd.read_csv(out / "scores-load.csv")
    assert table["model"].tolist() == ["SeasonalNaive", "Naive"]
    assert "report in" in result.stdout
    assert "tsllm compare" in (out / "report.html").read_text()
    again = run("compare", csv, "--models", "SeasonalNaive,Naive", "--h", 6, "--n-windows", 5, "--output-dir", out)
    assert "window 1/5" not in again.stdout  # every cell was there


def test_the_model_that_skill_is_against_stands_above_the_table_and_in_the_legend(csv, tmp_path):
    asked = ("compare", csv, "--h", 6, "--n-windows", 5, "--output-dir", tmp_path / "out")
    result = run(*asked, "--models", "Naive,SeasonalNaive")
    assert "load, skill against SeasonalNaive\n" in "\n".join(map(str.rstrip, result.stdout.splitlines())) + "\n"
    file = tmp_path / "c.yaml"
    entry = f"data: [{{name: {csv}, h: 6, n_windows: 5}}]\nmodels: [SeasonalNaive, Naive]\nreference: Naive\n"
    file.write_text(entry)
    result = run("compare", file, "--output-dir", tmp_path / "other")
    assert "load, skill against Naive" in result.stdout
    assert "skill: share of the MAE of Naive that is saved" in (tmp_path / "other" / "report.md").read_text()
    scores = pd.read_csv(tmp_path / "other" / "scores-load.csv").set_index("model")
    assert scores.loc["Naive", "skill"] == 0
    assert scores.loc["SeasonalNaive", "skill"] == pytest.approx(
        1 - scores.loc["SeasonalNaive", "mae"] / scores.loc["Naive", "mae"]
    )


def test_recipe_runs_a_file_with_overrides(csv, tmp_path, monkeypatch, capsys):
    file = tmp_path / "small.yaml"
    file.write_text(f"data: [{{name: {csv}, h: 6, n_windows: 4}}]\nmodels: [SeasonalNaive, Naive]\nlevel: [80]\n")
    overrides = [f"output_dir={tmp_path / 'r'}", "seeds=[4, 5]", "max_seconds=60"]
    monkeypatch.setattr(sys, "argv", ["compare.py", str(file), *overrides])
    runpy.run_path(str(ROOT / "recipes/compare.py"), run_name="__main__")
    html = (tmp_path / "r" / "report.html").read_text()
    assert "SeasonalNaive" in capsys.readouterr().out
    assert "<dd>4, 5</dd>" in html
    assert "Training budget: 60 seconds" in html
    assert "&#39;seeds=[4, 5]&#39;" in html  # quoted, so that it can be pasted
    monkeypatch.setattr(sys, "argv", ["compare.py", str(file), "seeds"])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(ROOT / "recipes/compare.py"), run_name="__main__")
    assert "error: cannot read 'seeds'; write key=value" in capsys.readouterr().err


def test_the_first_model_is_the_reference_where_there_is_no_seasonal_naive(csv, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "neuralforecast", None)
    out = tmp_path / "out dir"
    options = ("--h", 6, "--n-windows", 4, "--level", "80", "--output-dir", out)
    # A folder that is not there is told before anything runs; a package that is missing is a counted failure.
    told = invoke("compare", csv, "--models", f"Naive,{tmp_path}/nothing", *options)
    assert told.exit_code == 2
    assert f"no folder {tmp_path}/nothing" in told.output
    assert not out.exists()
    assert invoke("compare", csv, "--models", "neuralforecast:NHITS,Naive,AutoETS", *options).exit_code == 1
    pairs = pd.read_csv(out / "tests-load.csv")
    assert set(pairs["reference"]) == {"NHITS"}
    table = pd.read_csv(out / "scores-load.csv").set_index("model")
    assert table["failed"].to_dict() == {"NHITS": 8, "Naive": 0, "AutoETS": 0}
    command = f"tsllm compare {csv} --models neuralforecast:NHITS,Naive,AutoETS --h 6 --n-windows 4"
    assert command in (out / "report.md").read_text()
    assert f"--output-dir '{out}'" in (out / "report.md").read_text()


def test_commands_are_written_so_that_they_can_be_pasted():
    written = write_command("tsllm x", "my data.csv", h=None, n_windows=3, set=["a=1", "b=two words"])
    assert written == "tsllm x 'my data.csv' --n-windows 3 --set a=1 --set 'b=two words'"


def test_ablate_answers_the_question(csv, tmp_path):
    torch.manual_seed(5)
    config = GPT2Config(vocab_size=50, n_positions=64, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    GPT2Model(config).save_pretrained(tmp_path / "gpt")
    fields = {"prompt": "false", "context_length": 24, "patch_length": 8, "patch_stride": 8, "d_model": 8}
    fields |= {"num_heads": 2, "d_ff": 8, "num_prototypes": 10}
    settings = [f"--set={k}={v}" for k, v in fields.items()]
    size = ("--layers", 1, "--h", 6, "--n-windows", 6, "--steps", 3, "--seeds", "0", "--level", "80")
    result = run("ablate", csv, "--backbone", tmp_path / "gpt", *size, *settings, "--output-dir", tmp_path / "out")
    assert "Does the pretrained language model of TimeLLM help?" in result.stdout
    assert "Does the language model help?" in (tmp_path / "out" / "report.html").read_text()
    assert "--layers 1 --h 6 --n-windows 6 --steps 3" in (tmp_path / "out" / "report.md").read_text()
    pairs = pd.read_csv(tmp_path / "out" / "ablation-load.csv")
    assert set(pairs["model"].str.rpartition("-")[2]) >= {"noLLM", "attention", "block", "random", "spectrum"}

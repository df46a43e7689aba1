"""The guide "Optimise the decision" runs, block after block, in one session, and its YAML by the command."""

import re
from pathlib import Path

import torch
from typer.testing import CliRunner

from tsllm.cli.main import app

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "decisions.md"


def find_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_guide_runs(tmp_path, monkeypatch):
    python, configs = find_blocks("python"), find_blocks("yaml")
    assert (len(python), len(configs)) == (3, 1)
    session: dict = {}
    for block in python:
        exec(block, session)
    battery, samples = session["battery"], session["samples"]
    assert battery.is_feasible(session["plan"])
    average = [battery.cost(session[name], samples).mean() for name in ("plan", "plug_in")]
    assert average[0] < average[1] - 0.1
    values, truth = session["values"], session["truth"]
    expected = battery.hindsight(truth)[1] - battery.cost(battery.plan(samples), truth)
    torch.testing.assert_close(values[0], expected)

    monkeypatch.chdir(tmp_path)
    session["df"].to_csv("load.csv", index=False)
    Path("decide.yaml").write_text(configs[0])
    result = CliRunner().invoke(app, ["decide", "decide.yaml", "--output-dir", "out"])
    assert result.exit_code == 0, result.output
    table = Path("out/decide.md").read_text()
    assert all(f"| {name} |" in table for name in ("idle", "mean", "saa", "spo_plus"))

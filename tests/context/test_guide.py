"""The guide "Tell the model what you know" runs, block after block, in one session."""

import re
import shlex
from pathlib import Path

from typer.testing import CliRunner

from tsllm.cli.main import app

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "context.md"


def test_the_guide_runs():
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 17
    session: dict = {}
    for block in blocks:
        exec(block, session)
    forecast = session["forecast"].set_index("ds")["SeasonalNaive+context"]
    assert (forecast["2024-01-11 08:00":"2024-01-11 13:00"] == 0).all()
    assert forecast["2024-01-11 14:00"] == session["load"][-10]


def test_its_commands_run_where_no_trained_reader_is_needed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = GUIDE.read_text(encoding="utf-8")
    session: dict = {}
    for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[:4]:
        exec(block, session)
    session["df"].to_csv("load.csv", index=False)
    session["news"].to_csv("news.csv", index=False)
    commands = re.findall(r"^tsllm (?:predict|backtest) .*$", text, re.MULTILINE)
    # What a trained folder `reads` does is tested in tests/cli/test_context_native.py, with a small language model.
    commands = [command for command in commands if "--reader" not in command and " reads" not in command]
    assert len(commands) == 3
    for command in commands:
        words = shlex.split(command)[1:]
        words += ["--train", "max_steps=2"] if "dlinear" in command else []
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, f"{command}: {result.output}"
    assert "What the texts changed" in Path("told.md").read_text()

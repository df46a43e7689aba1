"""What README and docs name must be there: commands, options, files, Python names."""

import ast
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

import tsllm
from tsllm.cli.main import app

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES if not page.name.startswith("compare_")}
README = TEXTS[ROOT / "README.md"]
BLOCKS = [block for text in TEXTS.values() for block in re.findall(r"```(\w+)\n(.*?)```", text, flags=re.DOTALL)]
README_BLOCKS = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
# What stands between text, such as in a table: `tsllm fit data.csv ...`; a name in capitals stands for one's own.
NAMED = [shlex.split(words) for words in re.findall(r"`(tsllm [^`]*)`", README) if "..." not in words]
COMMANDS = [
    shlex.split(line, comments=True)
    for language, block in BLOCKS
    if language == "bash"
    for line in block.replace("\\\n", " ").splitlines()
    if line.strip()
]


def find_command(words):
    """Returns the click command that `words` name and the words left for it."""
    command = typer.main.get_command(app)
    rest = list(words)
    while rest and hasattr(command, "commands") and rest[0] in command.commands:
        command = command.commands[rest.pop(0)]
    return command, rest


@pytest.mark.parametrize("words", [c for c in COMMANDS + NAMED if c[0] == "tsllm"], ids=" ".join)
def test_each_command_line_parses(words):
    command, rest = find_command(words[1:])
    assert not hasattr(command, "commands"), f"{words} names no command"
    command.make_context(words[1], rest, resilient_parsing=False)


@pytest.mark.parametrize("words", [c for c in COMMANDS if c[:2] == ["accelerate", "launch"]], ids=" ".join)
def test_each_recipe_and_configuration_exists(words):
    paths = [w for w in words if w.startswith("recipes/") and "..." not in w]
    assert paths
    for path in paths:
        assert (ROOT / path).is_file(), path


@pytest.mark.parametrize("page", list(TEXTS), ids=lambda page: page.name)
def test_each_file_that_is_named_exists(page):
    named = set(re.findall(r"`((?:recipes|scripts|docs|tests)/[\w/.]+)`", TEXTS[page]))
    missing = [name for name in named if not (ROOT / name).exists()]
    linked = set(re.findall(r"\]\((?!http)([^)#]+)\)", TEXTS[page]))
    assert missing + [name for name in linked if not (page.parent / name).exists()] == []


def test_the_readme_is_the_face_and_no_book():
    assert len(README.splitlines()) <= 150


def test_each_script_that_is_run_exists():
    scripts = {word for c in COMMANDS for word in c if word.startswith("scripts/")}
    assert all((ROOT / script).is_file() for script in scripts)


@pytest.mark.parametrize("source", [block for language, block in BLOCKS if language == "python"])
def test_python_blocks_compile_and_import_what_exists(source):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "tsllm":
            for name in node.names:
                assert getattr(tsllm, name.name) is not None


SHORT = {"fit": ["--steps", "1"], "backtest": ["--train", "max_steps=1"]}


def test_the_commands_on_data_of_ones_own_run_one_after_another(tmp_path, monkeypatch):
    """As they stand, but for trainings of one step where nothing is said of steps."""
    monkeypatch.chdir(tmp_path)
    hours = np.arange(960)
    table = {"ds": pd.date_range("2024-01-01", periods=960, freq="h"), "load": 20 + hours % 24 + hours % 7 / 10}
    pd.DataFrame(table).to_csv("data.csv", index=False)
    block = next(block for block in README_BLOCKS if "runs/mine data.csv" in block)
    commands = [c for line in block.splitlines() if "data.csv" in (c := shlex.split(line, comments=True))]
    assert [c[1] for c in commands] == ["fit", "fit", "predict", "backtest"]
    for words in commands:
        more = [] if "--steps" in words else SHORT.get(words[1], [])
        result = CliRunner().invoke(app, [*words[1:], *more])
        assert result.exit_code == 0, (words, result.output)
    assert "data.csv: 7 windows of 24 steps, 1 series" in result.output
    assert len(pd.read_csv("forecasts.csv")) == 24
    assert (tmp_path / "runs" / "more" / "model.safetensors").is_file()


@pytest.mark.slow
def test_the_python_session_runs(tmp_path, monkeypatch):
    """The session as written, with a training of two steps instead of two hundred."""
    monkeypatch.chdir(tmp_path)
    source = next(block for language, block in BLOCKS if language == "python" and "backtest(" in block)
    names: dict = {}
    exec(source.replace('"max_steps": 200', '"max_steps": 2, "use_cpu": True'), names)
    assert {"TimeLLM", "DLinear", "SeasonalNaive", "AutoETS"} <= set(names["windows"].columns)
    assert len(names["windows"]) == 2 * 7 * 24
    assert (tmp_path / "runs" / "mine" / "model.safetensors").is_file()


def test_pictures_are_small():
    assert all(picture.stat().st_size < 300_000 for picture in (ROOT / "docs").glob("*.png"))

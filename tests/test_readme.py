"""What README and docs name must be there: commands, options, files, Python names."""

import ast
import re
import shlex
from pathlib import Path

import pytest
import typer

import tsllm
from tsllm.cli.main import app

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES if not page.name.startswith("compare_")}
README = TEXTS[ROOT / "README.md"]
BLOCKS = [block for text in TEXTS.values() for block in re.findall(r"```(\w+)\n(.*?)```", text, flags=re.DOTALL)]
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


@pytest.mark.parametrize("words", [c for c in COMMANDS if c[0] == "tsllm"], ids=" ".join)
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

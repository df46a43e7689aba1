"""What a folder says of itself is written by one module alone, whoever made the folder."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WRITER = "tsllm/hub/record.py"
WRITING = {"write_json", "open", "save", "write_text", "write_bytes", "dump", "to_csv"}


def find_writers(source, file, constant):
    """Returns the lines of calls that write and are given the file's name, or the constant that holds it."""
    lines = []
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        named = [node for node in ast.walk(call) if getattr(node, "value", None) == file]
        named += [node for node in ast.walk(call) if getattr(node, "id", None) == constant]
        if called in WRITING and named:
            lines.append(call.lineno)
    return lines


def name_file(source, file):
    """Returns the lines that spell the file's name in code, not in prose."""
    return [n.lineno for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Constant) and n.value == file]


def read_programs():
    for folder in ("tsllm", "recipes"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


def test_a_writer_is_found_by_the_name_and_by_the_constant():
    source = (
        'write_json(folder / "metrics.json", {})\n'
        "(folder / METRICS_FILE).write_text('x')\n"
        "read_json(folder / METRICS_FILE)\n"
        '"""Writes metrics.json."""\n'
    )
    assert find_writers(source, "metrics.json", "METRICS_FILE") == [1, 2]
    assert name_file(source, "metrics.json") == [1]


@pytest.mark.parametrize(
    ("file", "constant"),
    [("metrics.json", "METRICS_FILE"), ("history.json", "HISTORY_FILE"), ("README.md", "CARD_FILE")],
)
def test_one_module_writes_the_file(file, constant):
    writers = {name for name, source in read_programs() if find_writers(source, file, constant)}
    assert writers == {WRITER}


@pytest.mark.parametrize("file", ["metrics.json", "history.json"])
def test_one_module_spells_the_name_of_the_file(file):
    assert [name for name, source in read_programs() if name_file(source, file)] == [WRITER]

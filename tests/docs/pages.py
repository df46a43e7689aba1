"""Runs a page of the documentation as its reader would: block after block, in one folder and one session."""

import contextlib
import doctest
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from tests.recipes.programs import load_recipe
from tsllm.cli.console import run_main
from tsllm.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
GUIDES = ROOT / "docs" / "guides"
_BLOCK = re.compile(r"(?:^<!-- ([^\n]*?) -->\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# ([\w/]+\.(?:py|yaml))\n")
_NOTE = re.compile(r"slow|fails|not run: .+")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        language: What the fence names.
        text: What stands between the fences.
        note: What the comment above it says: "slow", "fails" (the command must end with an error), "not run: WHY".
    """

    language: str
    text: str
    note: str

    @property
    def file(self) -> str:
        """The file that the block shows, named in its first line; empty for what is typed."""
        found = _FILE.match(self.text)
        return found[1] if found and self.language in ("python", "yaml") else ""


def read_blocks(page: Path) -> list[Block]:
    """Returns the fenced blocks of a page.

    Raises:
        ValueError: If a comment above a block says something else than it can.
    """
    blocks = []
    for note, language, text in _BLOCK.findall(page.read_text(encoding="utf-8")):
        if note and not _NOTE.fullmatch(note):
            raise ValueError(f"{page.name}: {note!r} above a block; known: slow, fails, not run: WHY")
        blocks.append(Block(language, text, note))
    return blocks


@dataclass
class Session:
    """The folder and the names of one reader.

    Attributes:
        folder: Where files are written and commands run.
        names: Python names.
        output: What the last block printed.
    """

    folder: Path
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__page__"})
    output: str = ""

    def run(self, block: Block) -> None:
        """Does what the block says; a block of text must be what the one before it printed.

        Raises:
            AssertionError: If the text differs, or a command ends otherwise than the page says.
            ValueError: If the block is neither run nor marked as "not run".
        """
        if block.note.startswith("not run: "):
            return
        if block.file:
            (self.folder / block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(block.text, self.names)
            self.output = printed.getvalue()
        elif block.language == "bash":
            self.output = "".join(self.run_line(line, block.note == "fails") for line in read_lines(block.text))
        elif block.language == "text":
            check_output(block.text, self.output)
        else:
            raise ValueError(f"a block of {block.language} is neither run nor marked: <!-- not run: WHY -->")

    def run_line(self, words: list[str], fails: bool) -> str:
        """Runs a command line in this process and returns what it printed."""
        if words[0] == "export":
            name, _, value = words[1].partition("=")
            os.environ[name] = value
            if name == "PYTHONPATH":
                sys.path.insert(0, str(self.folder / value))
            return ""
        if words[0] == "tsllm":
            result = CliRunner().invoke(app, words[1:])
            assert (result.exit_code != 0) == fails, f"{words}: {result.output}\n{result.exception!r}"
            return result.output
        if words[:2] == ["accelerate", "launch"] and words[2].startswith("recipes/"):
            printed, status = io.StringIO(), 0
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()) as told:
                try:
                    run_main(partial(load_recipe(Path(words[2]).stem).main, words[3:]))
                except SystemExit as exit_:
                    status = exit_.code
                    printed.write(told.getvalue())
            assert (status != 0) == fails, f"{words}: {printed.getvalue()}"
            return printed.getvalue()
        if words[:3] == ["accelerate", "launch", "--config_file"]:  # several processes: none of them can be this one
            command = [sys.executable, "-m", "accelerate.commands.launch", *words[2:]]
            paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": paths}
            )
            assert (done.returncode != 0) == fails, f"{words}: {done.stdout}\n{done.stderr}"
            return done.stdout
        raise ValueError(f"{shlex.join(words)} is neither run nor marked: <!-- not run: WHY -->")


def read_lines(text: str) -> Iterator[list[str]]:
    """Yields the words of each command line of a block."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            yield words


def check_output(want: str, got: str) -> None:
    """Compares a printed text with what a page shows; `...` stands for anything, and blanks are alike."""
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.OutputChecker().check_output(want, got, options), f"the page says:\n{want}\nprinted was:\n{got}"


@contextlib.contextmanager
def reader(folder: Path) -> Iterator[Session]:
    """A session in `folder`, where `recipes/` is at hand as in a clone; paths and environment are put back."""
    where, path, environment = Path.cwd(), list(sys.path), dict(os.environ)
    modules = set(sys.modules)
    (folder / "recipes").symlink_to(ROOT / "recipes")
    os.chdir(folder)
    os.environ["COLUMNS"] = "200"
    try:
        yield Session(folder)
    finally:
        os.chdir(where)
        sys.path[:] = path
        os.environ.clear()
        os.environ.update(environment)
        for name in set(sys.modules) - modules:  # modules of the page's own must not be another page's
            if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
                del sys.modules[name]


def run_page(page: Path, folder: Path, slow: bool = False) -> Session:
    """Runs a whole page; blocks marked as slow only if asked for, and what they print is then not checked either."""
    left_out = False
    with reader(folder) as session:
        for block in read_blocks(page):
            if block.language == "text" and left_out:
                continue
            left_out = block.note.startswith("not run: ") or (block.note == "slow" and not slow)
            if not left_out:
                session.run(block)
    return session


if __name__ == "__main__":  # a page in a process of its own: PAGE FOLDER
    run_page(Path(sys.argv[1]), Path(sys.argv[2]), slow=True)

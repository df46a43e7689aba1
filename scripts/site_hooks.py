"""What the documentation site adds to mkdocs (`mkdocs.yml`): pages of the root, the commands, how old a result is.

It also refuses to build a page that loads anything from another host.
"""

import re
import subprocess
from pathlib import Path
from typing import Any

import typer
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
# Page of the site -> file of the root, which links name relative to their own place.
OF_ROOT = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
COMMANDS = "reference/commands.md"
_LOADED = re.compile(r"<(?:script|img|iframe|source)\b[^>]*\ssrc=\"?((?:https?:)?//[^\s\">]+)", re.IGNORECASE)
_LINKED = re.compile(r"<link\b[^>]*\bhref=\"?((?:https?:)?//[^\s\">]+)", re.IGNORECASE)
_FACTS = {
    "measured": "Measured",
    "changed": "Tables last changed",
    "machine": "Machine",
    "seeds": "Seeds",
    "commit": "Commit",
}


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that do not lie in `docs/`."""
    for name, source in OF_ROOT.items():
        files.append(File.generated(config, name, content=(ROOT / source).read_text(encoding="utf-8")))
    files.append(File.generated(config, COMMANDS, content=write_commands()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Points links to files of the root at their pages, and says how old a result is."""
    for name, source in OF_ROOT.items():
        markdown = re.sub(rf"\]\((\.\./)*{source}", lambda _, to=name: f"]({_climb(page.file.src_uri)}{to}", markdown)
    facts = dict(page.meta)
    if page.file.src_uri in config.extra["figures"]:
        facts = find_table_change(page.file.src_uri) | config.extra["figures"][page.file.src_uri]
    return add_age(markdown, facts) if "code" in facts else markdown


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Refuses what would be fetched from elsewhere.

    Raises:
        PluginError: Naming the page and the address.
    """
    found = [*_LOADED.findall(output), *(link for link in _LINKED.findall(output) if "canonical" not in link)]
    if found:
        raise PluginError(f"{page.file.src_uri} loads {found[0]}; the site must work without a network")
    return output


def add_age(markdown: str, facts: dict[str, Any]) -> str:
    """Puts how old the figures are below the heading of a section, or below the title.

    Raises:
        PluginError: If there is no such section.
    """
    heading = f"## {facts['section']}" if "section" in facts else markdown.lstrip().partition("\n")[0]
    before, found, after = markdown.partition(heading + "\n")
    if not found:
        raise PluginError(f"there is no section {heading!r} to say the age of")
    return f"{before}{heading}\n\n{describe_age(facts)}{after}"


def describe_age(facts: dict[str, Any]) -> str:
    """Returns what stands above a result: how it was taken, and whether the code has moved since."""
    lines = [f"| {title} | {facts[key]} |" for key, title in _FACTS.items() if key in facts]
    code = [str(path) for path in facts.get("code", ())]
    moved = count_commits(str(facts.get("commit", "")), code)
    named = ", ".join(f"`{path}`" for path in code)
    if moved is None:
        state = f"unknown here, because this copy has no history; the figures are of {named}"
    elif moved:
        state = f"**yes**, {moved} commits have changed {named} since; not measured again"
    else:
        state = f"no, {named} are as they were"
    table = ["| | |", "|---|---|", *lines, f"| Code moved since | {state} |"]
    return '<div class="measured" markdown>\n\n' + "\n".join(table) + "\n\n</div>\n\n"


def find_table_change(page: str) -> dict[str, str]:
    """Returns day and commit of the last change of a row with figures; nothing if git cannot tell."""
    how = ["log", "-1", "--format=%h %ad", "--date=short", "-G", r"^\|.*[0-9]", "--", f"docs/{page}"]
    commit, _, day = _run_git(*how).partition(" ")
    return {"changed": day, "commit": commit} if day else {}


def count_commits(commit: str, paths: list[str]) -> int | None:
    """Returns how many commits after `commit` changed `paths`; None if git cannot tell."""
    if not commit:
        return None
    count = _run_git("rev-list", "--count", "--no-merges", f"{commit}..HEAD", "--", *paths)
    return int(count) if count else None


def write_commands() -> str:
    """Writes the page of the command line from the commands themselves."""
    from tsllm.cli.main import app

    command = typer.main.get_command(app)
    text = "# Commands\n\nWritten from `tsllm COMMAND --help`.\n"
    return text + "".join(_write_command(f"tsllm {name}", sub) for name, sub in command.commands.items())


def _write_command(name: str, command: Any) -> str:
    if hasattr(command, "commands"):
        return "".join(_write_command(f"{name} {sub}", c) for sub, c in command.commands.items())
    rows = [_write_parameter(p) for p in command.params if p.name != "help"]
    table = "\n".join(["| option | meaning |", "|---|---|", *rows])
    return f"\n## {name}\n\n{command.help}\n\n{table}\n"


def _write_parameter(parameter: Any) -> str:
    is_argument = parameter.param_type_name == "argument"
    names = parameter.name.upper() if is_argument else ", ".join([*parameter.opts, *parameter.secondary_opts])
    meaning = (parameter.help or "").replace("|", "\\|")
    if not is_argument and not isinstance(parameter.default, (bool, type(None))):
        meaning += f" Default: `{parameter.default}`."
    return f"| `{names}` | {meaning} |"


def _run_git(*words: str) -> str:
    """Returns what git prints; nothing where there is no history."""
    done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def _climb(page: str) -> str:
    return "../" * page.count("/")

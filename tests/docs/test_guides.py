"""Every guide runs as written, in one session, as its reader would run it."""

import os
import subprocess
import sys

import pytest

from tests.docs.pages import GUIDES, ROOT, read_blocks, reader, run_page
from tests.hub.fake_hub import WRITER, serve

PAGES = sorted(GUIDES.glob("*.md"))
SLOW = [page for page in PAGES if any(block.note == "slow" for block in read_blocks(page))]
HUB, COMPARE = GUIDES / "push_and_load.md", GUIDES / "compare.md"


@pytest.mark.parametrize("page", [page for page in PAGES if page != COMPARE], ids=lambda page: page.stem)
def test_the_guide_runs(page, tmp_path):
    run_page(page, tmp_path)


def test_the_guide_to_comparisons_trains_nothing_twice(tmp_path):
    """As it says: what the command line compared is there already in Python."""
    done: list[dict] = []
    with reader(tmp_path) as session:
        for block in read_blocks(COMPARE):
            if block.note != "slow":
                session.run(block)
                cells = (tmp_path / "runs" / "compare" / "cells").rglob("cell.json")
                done.append({path: path.stat().st_mtime_ns for path in cells})
    assert len(done[2]) > 4
    assert done[2] == done[-1]


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in SLOW if page != HUB], ids=lambda page: page.stem)
def test_the_guide_runs_with_its_long_parts(page, tmp_path):
    run_page(page, tmp_path, slow=True)


@pytest.mark.slow
def test_the_guide_to_the_hub_pushes_to_a_hub_and_loads_from_it(tmp_path):
    """In a process of its own, because the Hub's address is read when the library is imported."""
    (tmp_path / "page").mkdir()
    with serve() as hub:
        environment = os.environ | {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "cache"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_TOKEN": WRITER,
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-m", "tests.docs.pages", str(HUB), str(tmp_path / "page")]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
        assert done.returncode == 0, done.stderr[-4000:]
        assert hub.repositories["user/load-dlinear"].private
        assert "README.md" in hub.repositories["user/load-dlinear"].commits[-1]
    assert (tmp_path / "page" / "forecasts.csv").is_file()

"""The measurement of reading by one command, with an interpreter that only says what it was asked."""

import subprocess

import pytest

from tests.scripts.conftest import SCRIPTS

STUB = """#!/usr/bin/env bash
echo "$*" >> asked.txt
case "$*" in
*stop*) exit 1 ;;
*smollm2_spectrum*) mkdir -p runs/context_reader_spectrum && touch runs/context_reader_spectrum/metrics.json ;;
*smollm2.yaml*) mkdir -p runs/context_reader && touch runs/context_reader/metrics.json ;;
*) echo measured ;;
esac
"""


@pytest.fixture
def measure(tmp_path):
    python = tmp_path / "python"
    python.write_text(STUB)
    python.chmod(0o755)

    def call(*words):
        command = ["bash", str(SCRIPTS / "context.sh"), *words]
        done = subprocess.run(
            command, cwd=tmp_path, env={"PATH": "/usr/bin:/bin", "PYTHON": str(python)}, capture_output=True, text=True
        )
        asked = tmp_path / "asked.txt"
        lines = asked.read_text().splitlines() if asked.exists() else []
        asked.unlink(missing_ok=True)
        return done, lines

    return call


def test_parts_that_are_done_are_not_run_again(measure, tmp_path):
    done, asked = measure("tasks.json")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in asked] == [
        "recipes/train_context_reader.py", "recipes/train_context_reader.py", "-m", "scripts/context_events.py",
        "scripts/bench_reader.py", "-m",
    ]  # fmt: skip
    assert asked[2].startswith("-m tsllm benchmark cik tasks.json --output-dir runs/context/cik --reader")
    assert (tmp_path / "runs/context/events.txt").read_text() == "measured\n"
    # The stub leaves no metrics.json of the benchmark, so that it is due again; the comparison resumes by itself.
    again = [line.split()[:3] for line in measure("tasks.json")[1]]
    assert again == [["-m", "tsllm", "benchmark"], ["-m", "tsllm", "compare"]]


def test_a_part_that_fails_leaves_no_result(measure, tmp_path):
    (tmp_path / "python").write_text(STUB.replace("*stop*", "*events*"))
    assert measure("tasks.json", "events")[0].returncode == 1
    assert not (tmp_path / "runs/context/events.txt").exists()
    done, asked = measure("tasks.json", "else")
    assert (done.returncode, asked) == (2, [])
    assert "choose among reader, cik" in done.stderr


def test_the_file_is_asked_for(measure):
    done, _ = measure()
    assert done.returncode != 0
    assert "usage: scripts/context.sh CIK_FILE" in done.stderr

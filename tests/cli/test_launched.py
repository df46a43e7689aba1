"""What a launcher was asked for: read from command lines and configurations, compared with what runs."""

import subprocess
import sys

import pytest

from tests.recipes.programs import RECIPES
from tsllm.cli import launched
from tsllm.cli.console import run_main
from tsllm.cli.launched import check_processes, count_asked, find_launch_words, read_parent

ALONE = RECIPES / "accelerate" / "gpu.yaml"
TWO = RECIPES / "accelerate" / "cpu2.yaml"
RECIPE = ["recipes/pretrain_series.py", "--config", "a.yaml"]
DEFAULT = "accelerate.commands.config.config_args.default_config_file"


@pytest.mark.parametrize(
    "program",
    [
        ["/venv/bin/python", "/venv/bin/accelerate", "launch"],
        ["/venv/bin/python", "/venv/bin/accelerate-launch"],
        ["python", "-m", "accelerate.commands.launch"],
        ["python", "-u", "-m", "accelerate.commands.launch"],
        ["python", "-m", "accelerate.commands.accelerate_cli", "launch"],
        ["C:/venv/Scripts/accelerate.exe", "launch"],
    ],
)
def test_every_way_to_start_the_launcher_is_known(program):
    assert find_launch_words([*program, "--num_processes", "2", *RECIPE]) == ["--num_processes", "2", *RECIPE]


@pytest.mark.parametrize("program", [[], ["bash"], ["python", *RECIPE], ["python", "accelerate", "config"]])
def test_other_programs_ask_for_nothing(program):
    assert find_launch_words(program) is None
    assert count_asked(program) is None


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        (["--num_processes", "2"], 2),
        (["--num_processes=3", "--cpu"], 3),
        (["--config_file", str(TWO)], 2),
        (["--config_file", str(TWO), "--num_processes", "4"], 4),
        (["--config_file", str(ALONE)], 1),
        ([], None),
    ],
)
def test_the_number_is_that_of_the_options_else_of_the_configuration(options, asked, monkeypatch, tmp_path):
    monkeypatch.setattr(DEFAULT, str(tmp_path / "none.yaml"))
    assert count_asked(["accelerate", "launch", *options, *RECIPE, "--num_processes", "9"]) == asked


def test_the_configuration_of_the_machine_counts_where_accelerate_reads_it(monkeypatch):
    monkeypatch.setattr(DEFAULT, str(TWO))
    assert count_asked(["accelerate", "launch", *RECIPE]) == 2
    assert count_asked(["accelerate", "launch", "--cpu", *RECIPE]) is None
    assert count_asked(["accelerate", "launch", "--config_file", str(ALONE), *RECIPE]) == 1


def test_the_parent_is_read():
    program = "from tsllm.cli.launched import read_parent; print('\\n'.join(read_parent()))"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {program!r}], check=True)"
    done = subprocess.run([sys.executable, "-c", outer, "marked"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "marked"
    assert read_parent()


@pytest.mark.parametrize(("asked", "running"), [(2, 2), (1, 1), (1, 2), (None, 1)])
def test_as_many_processes_as_were_asked_for_are_enough(asked, running, monkeypatch):
    monkeypatch.setattr(launched, "count_asked", lambda command: asked)
    monkeypatch.setenv("WORLD_SIZE", str(running))
    check_processes()


def test_fewer_processes_than_were_asked_for_are_refused_before_anything_runs(monkeypatch, capsys):
    monkeypatch.setattr(launched, "read_parent", lambda: ["accelerate", "launch", "--num_processes", "3", *RECIPE])
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    ran = []
    with pytest.raises(SystemExit) as ended:
        run_main(lambda: ran.append(1))
    told = capsys.readouterr().err
    assert (ended.value.code, ran) == (2, [])
    assert "asked for 3 processes, but 1 runs" in told
    assert "--config_file recipes/accelerate/cpu2.yaml" in told
    assert "--num_processes 1" in told
    monkeypatch.setenv("WORLD_SIZE", "3")
    run_main(lambda: ran.append(1))
    assert ran == [1]

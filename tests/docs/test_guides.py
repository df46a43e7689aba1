"""Every guide runs as written, in one session, as its reader would run it."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from typer.main import get_command

from tests.docs.pages import GUIDES, ROOT, read_blocks, read_lines, reader, run_page
from tests.hub.fake_hub import WRITER, serve
from tests.recipes.programs import load_recipe
from tsllm import NeuralForecaster, SeasonalNaive
from tsllm.cli.benchmark import app as benchmark_app
from tsllm.training.options import DEFAULT_TRAINING

PAGES = sorted(GUIDES.glob("*.md"))
SLOW = [page for page in PAGES if any(block.note == "slow" for block in read_blocks(page))]
DOCS = ROOT / "docs"
benchmark = get_command(benchmark_app)
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


def test_the_guide_to_series_never_seen_shows_every_command_around_them():
    lines = [" ".join(words) for block in read_blocks(GUIDES / "series_never_seen.md") if block.language == "bash"
             and not block.note.startswith("not run") for words in read_lines(block.text)]  # fmt: skip
    shown = "\n".join(lines)
    protocols = set(benchmark.commands) - {"cik"}  # that one is about texts
    assert {line.split()[2] for line in lines if line.startswith("tsllm benchmark")} == protocols
    for part in (
        "accelerate launch recipes/pretrain_series.py",
        "accelerate launch --config_file recipes/accelerate/cpu2.yaml recipes/pretrain_series.py",
        "tsllm predict runs/pretrain_series/patchcast shops.csv",
        "tsllm fit shops.csv --model runs/pretrain_series/patchcast",
        "backbone_mode=lora",
        "fine_tune=head",
        "tsllm compare",
        "tsllm tune",
        "--horizons 96 192",
        "--few-shot 0.1",
        "--transfer etth1:etth2",
        "--smape-loss",
    ):
        assert part in shown


def run_python(page, folder, **names):
    """Runs the Python blocks of a page in `folder` with what the page takes for granted."""
    with reader(folder) as session:
        session.names |= names
        for block in read_blocks(page):
            if block.language == "python":
                session.run(block)
    return session.names


def hourly(days):
    hours = np.arange(24 * days)
    y = 10 + np.sin(hours * np.pi / 12) + np.random.default_rng(0).normal(0, 0.1, len(hours))
    return pd.DataFrame({"unique_id": "a", "ds": pd.date_range("2024-01-01", periods=len(hours), freq="h"), "y": y})


@pytest.mark.slow
def test_the_session_on_series_never_seen_runs(tmp_path, monkeypatch):
    """With a model of two steps in the place of the one that the page trains, and two steps of further training."""
    load_recipe("pretrain_series").main([
        "--config", str(ROOT / "recipes/configs/pretrain_series/patchcast.yaml"),
        "max_steps=2", "eval_steps=2", "save_steps=2", "validation_windows=16", "per_device_train_batch_size=8",
        "use_cpu=true", f"output_dir={tmp_path / 'runs/pretrain_series/patchcast'}",
    ])  # fmt: skip
    monkeypatch.setitem(DEFAULT_TRAINING, "max_steps", 2)
    df = hourly(40)
    names = run_python(DOCS / "zero_shot.md", tmp_path, df=df, numbered_df=df.assign(ds=np.arange(len(df))))
    assert isinstance(names["forecaster"], NeuralForecaster)


@pytest.mark.slow
def test_the_session_on_joint_paths_runs(tmp_path):
    df = hourly(30)
    forecaster = SeasonalNaive(24).fit(df.head(24 * 15), 48)
    names = run_python(DOCS / "decisions.md", tmp_path, df=df, forecaster=forecaster)
    assert names["paths"]["sample"].nunique() == 200

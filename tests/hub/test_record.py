import json

import numpy as np
import pytest
from huggingface_hub import ModelCard

from tsllm.hub.record import add_metrics, write_card_file, write_history, write_metrics


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_metrics_are_plain_numbers_and_what_is_none_is_null(tmp_path):
    write_metrics(tmp_path, {"test": {"mse": np.float32(0.5), "mae": float("nan")}, "windows": np.int64(3)})
    assert read(tmp_path / "metrics.json") == {"test": {"mse": 0.5, "mae": None}, "windows": 3}


def test_an_entry_is_added_and_one_of_the_same_name_replaced(tmp_path):
    write_metrics(tmp_path, {"seed": 1, "comparison": [1]})
    add_metrics(tmp_path, comparison=[{"p": 0.25}], steps=7)
    assert read(tmp_path / "metrics.json") == {"seed": 1, "comparison": [{"p": 0.25}], "steps": 7}


def test_nothing_is_added_where_there_are_no_metrics(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"metrics\.json"):
        add_metrics(tmp_path, comparison=[])
    assert list(tmp_path.iterdir()) == []


def test_the_log_keeps_its_order(tmp_path):
    write_history(tmp_path, ({"step": 2, "loss": np.float64(1.5)}, {"step": 1}))
    assert read(tmp_path / "history.json") == [{"step": 2, "loss": 1.5}, {"step": 1}]


def test_a_card_is_written_as_the_hub_library_writes_it(tmp_path):
    text = "---\nlicense: mit\n---\n\n# Näme\n\nlast line\n"
    path = write_card_file(tmp_path, ModelCard(text))
    assert path == tmp_path / "README.md"
    ModelCard(text).save(tmp_path / "theirs.md")
    assert path.read_bytes() == (tmp_path / "theirs.md").read_bytes() == text.encode()

"""Cells on disk: a damaged one is an error that names its file, and its advice works."""

import shutil

import pandas as pd
import pytest

from tsllm.evaluation.backtest import Cost
from tsllm.evaluation.cells import CellResult, CellStore

KEY = {"model": "Naive"}


@pytest.mark.parametrize("name", ["cell.json", "forecasts.parquet"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_a_cut_off_cell_names_its_file_and_is_computed_anew_once_removed(tmp_path, name, share):
    store = CellStore(tmp_path)
    frame = pd.DataFrame({"unique_id": ["a"], "ds": [2], "cutoff": [1], "Naive": [1.5]})
    store.save(KEY, CellResult(frame, Cost(1.0, 2.0, 3), [], {"a": 1}, []), None)
    pd.testing.assert_frame_equal(store.load(KEY).frame, frame)
    file = store.path(KEY) / name
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(OSError, match=rf"{name} is damaged .*; remove its folder {store.path(KEY)}"):
        store.load(KEY)
    shutil.rmtree(store.path(KEY))
    assert store.load(KEY) is None

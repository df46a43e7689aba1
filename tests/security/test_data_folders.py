"""A data set folder gives its own files and nothing else, and nothing in it is executed."""

import json
import os
import pickle

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tsllm.data.loading import load_frame
from tsllm.data.reading import read_table
from tsllm.data.rows import read_folder
from tsllm.types import FrameError

FRAME = pd.DataFrame({"ds": [1, 2, 3], "a": [1.0, 2.0, 3.0]})


def write_stream(path):
    table = pa.Table.from_pandas(FRAME)
    with pa.ipc.new_stream(path, table.schema) as sink:
        sink.write_table(table)


@pytest.fixture
def folder(tmp_path):
    own = tmp_path / "data"
    own.mkdir()
    write_stream(own / "part.arrow")
    write_stream(tmp_path / "secret.arrow")
    name_files(own, "part.arrow")
    return own


def name_files(folder, *names):
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))


def test_the_files_of_the_folder_are_read(folder):
    assert read_folder(folder).num_rows == 3


@pytest.mark.parametrize("name", ["../secret.arrow", "{absolute}", "sub/../../secret.arrow", "link.arrow"])
def test_files_outside_are_refused_by_name_and_through_links(folder, name):
    os.symlink(folder.parent / "secret.arrow", folder / "link.arrow")
    (folder / "sub").mkdir()
    name_files(folder, name.format(absolute=folder.parent / "secret.arrow"))
    with pytest.raises(FrameError, match="lies outside the folder"):
        load_frame(folder)


def test_links_are_refused_without_a_list_of_files_too(folder):
    (folder / "state.json").unlink()
    os.symlink(folder.parent / "secret.arrow", folder / "zz.arrow")
    with pytest.raises(FrameError, match=r"zz\.arrow lies outside"):
        load_frame(folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"_data_files": [3]}', '{"_data_files": [{"filename": 3}]}', "{"])
def test_a_damaged_list_of_files_names_itself(folder, text):
    (folder / "state.json").write_text(text)
    with pytest.raises(FrameError, match=r"state\.json is damaged"):
        load_frame(folder)


@pytest.mark.parametrize("suffix", ["arrow", "parquet"])
def test_cut_off_files_name_themselves(tmp_path, suffix):
    path = tmp_path / f"own.{suffix}"
    write_stream(path) if suffix == "arrow" else pq.write_table(pa.Table.from_pandas(FRAME), path)
    content = path.read_bytes()
    for size in (0, 7, len(content) // 2, len(content) - 9):
        path.write_bytes(content[:size])
        with pytest.raises(FrameError, match=rf"own\.{suffix} is damaged"):
            read_table(path)


def test_offsets_that_point_outside_the_file_are_refused(tmp_path):
    table = pa.table({"unique_id": ["abcdefgh", "b"], "ds": [1, 1], "y": [1.0, 2.0]})
    with pa.ipc.new_file(tmp_path / "own.arrow", table.schema) as sink:
        sink.write_table(table)
    content = bytearray((tmp_path / "own.arrow").read_bytes())
    offsets = pa.array([0, 8, 9], pa.int32()).buffers()[1].to_pybytes()[:12]
    at = bytes(content).find(offsets)
    assert at > 0
    content[at + 8 : at + 12] = (2**30).to_bytes(4, "little")
    (tmp_path / "own.arrow").write_bytes(bytes(content))
    with pytest.raises(FrameError, match=r"own\.arrow is damaged"):
        read_table(tmp_path / "own.arrow")


def test_a_pickle_in_the_schema_is_not_opened(tmp_path):
    """Arrow once unpickled extension types of this name when a file was read."""

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    field = pa.field(
        "a",
        pa.float64(),
        metadata={
            "ARROW:extension:name": "arrow.py_extension_type",
            "ARROW:extension:metadata": pickle.dumps(Bomb(), 0),
        },
    )
    table = pa.table({"ds": [1, 2], "a": [1.0, 2.0]}).cast(pa.schema([pa.field("ds", pa.int64()), field]))
    with pa.ipc.new_file(tmp_path / "own.arrow", table.schema) as sink:
        sink.write_table(table)
    load_frame(tmp_path / "own.arrow")
    assert not (tmp_path / "ran").exists()

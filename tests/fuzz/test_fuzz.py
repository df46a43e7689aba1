"""Random frames, CSV texts, YAML and artefact bytes: a clear error or the right value, never a raw traceback.

A property runs a fixed number of examples in the default suite, and for TSLLM_FUZZ_SECONDS (default 300, so that the
six take half an hour) under `slow`.
"""

import csv
import io
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from typer.testing import CliRunner

from tsllm.cli.main import app
from tsllm.data.frame import fill_gaps, find_covariates, future_frame, infer_freq, validate_frame, validate_future
from tsllm.data.loading import load_frame
from tsllm.data.rows import read_folder
from tsllm.data.scaling import StandardScaler
from tsllm.forecasting.neural import NeuralForecaster
from tsllm.hub.spec import Calibration
from tsllm.models import MODELS
from tsllm.types import FrameError

# What may be raised; ValueError includes FrameError, and its text must say something.
TOLD = (ValueError, OSError, ArithmeticError)
CASUAL = settings(
    max_examples=int(os.environ.get("TSLLM_FUZZ_EXAMPLES", "100")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
LONG = pytest.mark.slow


def told(call):
    """Runs `call`; returns its result, or None if it refused in words."""
    try:
        return call()
    except TOLD as error:
        if len(str(error)) <= 10:
            raise AssertionError(f"an error without words: {error!r}") from error
        return None


def run_for(test, *fixtures):
    """Runs a property over and over with fresh random examples until the time is over."""
    seconds = float(os.environ.get("TSLLM_FUZZ_SECONDS", "300"))
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        test(*fixtures)


# Frames

names = st.one_of(
    st.text(max_size=6), st.integers(-3, 3), st.none(), st.floats(), st.sampled_from(["a", "b", "007", "NA", "y"])
)
moments = st.one_of(
    st.integers(-5, 30),
    st.integers(),
    st.floats(),
    st.datetimes(),
    st.none(),
    st.text(max_size=12),
    st.sampled_from(
        ["2024-01-01", "2024-01-02", "01/02/2024", "13/02/2024", "2024-01-01T00+01", "202401", "3000-01-01", "10:00"]
    ),
    st.dates().map(str),
)
cells = st.one_of(
    st.floats(),
    st.integers(),
    st.booleans(),
    st.none(),
    st.complex_numbers(),
    st.text(max_size=4),
    st.sampled_from(["1.5", "n/a", "1,5", ""]),
)


@st.composite
def frames(draw):
    """Long or wide frames, mostly of one kind in a column, with everything that goes wrong in files."""
    n = draw(st.integers(0, 8))

    def column(strategy):
        if draw(st.integers(0, 3)):  # mostly a column that is all of one make
            strategy = draw(st.sampled_from([st.floats(-9, 9), st.integers(0, 20), st.just("a"), st.just(1.0)]))
        return draw(st.lists(strategy, min_size=n, max_size=n))

    def times():
        make = draw(st.integers(0, 4))
        if make == 0:
            return draw(st.lists(moments, min_size=n, max_size=n))
        if make == 1:
            return list(range(n))
        start = draw(st.datetimes(pd.Timestamp("1700-01-01"), pd.Timestamp("2250-01-01")))
        freq = draw(st.sampled_from(["h", "D", "B", "MS", "QE", "W-MON", "15min"]))
        made = list(pd.date_range(start.replace(microsecond=0), periods=n, freq=freq))
        return made if make < 4 else [str(t) for t in made]

    columns = {}
    if draw(st.booleans()):
        columns["unique_id"] = draw(st.lists(names, min_size=n, max_size=n)) if draw(st.booleans()) else ["a"] * n
    columns[draw(st.sampled_from(["ds", "date", "ds", "time"]))] = times()
    columns[draw(st.sampled_from(["y", "y", "OT", "Unnamed: 0"]))] = column(cells)
    if draw(st.booleans()):
        columns[draw(st.sampled_from(["x", "y", "Unnamed: 0", "ds"]))] = column(cells)
    frame = pd.DataFrame(columns)
    return frame.set_index(frame.columns[0]) if n and draw(st.integers(0, 9)) == 0 else frame


freqs = st.one_of(st.none(), st.sampled_from(["h", "D", "M", "T", "nonsense", 1, 0, -2, "B"]))


def check_any_frame(frame, freq):
    before = frame.copy(deep=True)
    checked = told(lambda: validate_frame(frame, freq=freq))
    pd.testing.assert_frame_equal(frame, before)
    told(lambda: fill_gaps(frame, freq))
    told(lambda: find_covariates(frame))
    if checked is None:
        return
    # What is accepted is sorted, finite and on a regular axis.
    assert list(checked.columns[:3]) == ["unique_id", "ds", "y"]
    assert checked["y"].dtype == np.float64
    assert not np.isinf(checked["y"]).any()
    assert not checked.duplicated(["unique_id", "ds"]).any()
    assert len(checked) % max(len(frame), 1) == 0
    used = told(lambda: infer_freq(checked))
    pd.testing.assert_frame_equal(validate_frame(checked, freq=freq), checked)
    told(lambda: StandardScaler().fit(checked))
    if used is not None:
        ahead = told(lambda: future_frame(checked, 2, used if freq is None else freq))
        if ahead is not None:
            told(lambda: validate_future(ahead.assign(x=1.0).sample(frac=1, random_state=0), ahead, ["x"]))


@CASUAL
@given(frame=frames(), freq=freqs)
def test_any_frame_is_refused_in_words_or_comes_out_regular(frame, freq):
    check_any_frame(frame, freq)


@LONG
@pytest.mark.timeout(0)
def test_any_frame_for_longer():
    run_for(test_any_frame_is_refused_in_words_or_comes_out_regular)


# CSV text


@st.composite
def csv_tables(draw):
    """A valid long table as (text, series, times, values): what must come back."""
    characters = st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\r")
    ids = draw(st.lists(st.text(characters, min_size=1, max_size=5), min_size=1, max_size=3, unique=True))
    length = draw(st.integers(1, 4))
    values = draw(st.lists(st.floats(allow_infinity=False), min_size=length * len(ids), max_size=length * len(ids)))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator=draw(st.sampled_from(["\n", "\r\n"])))
    writer.writerow(["unique_id", "ds", "y", "note"])
    for k, value in enumerate(values):
        text = draw(st.sampled_from(["", "NA", "nan"])) if math.isnan(value) else repr(value)
        writer.writerow([ids[k // length], k % length + 1, text, draw(st.text("ab,\"' 1", max_size=3))])
    return out.getvalue(), ids, length, values


@CASUAL
@given(table=csv_tables())
def test_an_accepted_csv_comes_back_bit_by_bit(tmp_path_factory, table):
    text, ids, length, values = table
    path = tmp_path_factory.getbasetemp() / "fuzz.csv"
    path.write_bytes(text.encode())
    df = load_frame(path, covariates=[]).df
    expected = dict(zip(ids, np.array(values).reshape(len(ids), length), strict=True))
    assert df["unique_id"].drop_duplicates().tolist() == sorted(ids)
    for name, group in df.groupby("unique_id"):
        np.testing.assert_array_equal(group["y"].to_numpy(), expected[name])
        assert group["ds"].tolist() == list(range(1, length + 1))


garbage = st.one_of(
    st.binary(max_size=60),
    st.text("unique_ids,y\n\"'0123456789.-+:;\t ABé\r\0", max_size=80).map(lambda t: t.encode()),
    st.lists(st.text('ab0123,".-', max_size=12), max_size=6).map(lambda rows: "\n".join(["ds,y", *rows]).encode()),
    st.lists(st.tuples(st.integers(1, 6), st.sampled_from(["1", "-2.5", "", "inf"])), min_size=2, max_size=5).map(
        lambda rows: "\n".join(["ds,y", *(f"{ds},{y}" for ds, y in rows)]).encode()
    ),
)


@CASUAL
@given(content=garbage)
def test_any_bytes_as_csv_are_refused_in_words_or_read(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "garbage.csv"
    path.write_bytes(content)
    loaded = told(lambda: load_frame(path))
    if loaded is not None:
        assert not loaded.df.duplicated(["unique_id", "ds"]).any()
        assert not np.isinf(loaded.df["y"]).any()
        pd.testing.assert_frame_equal(validate_frame(loaded.df, freq=loaded.freq), loaded.df)


@LONG
@pytest.mark.timeout(0)
def test_csv_bytes_for_longer(tmp_path_factory):
    run_for(test_any_bytes_as_csv_are_refused_in_words_or_read, tmp_path_factory)


@LONG
@pytest.mark.timeout(0)
def test_csv_for_longer(tmp_path_factory):
    run_for(test_an_accepted_csv_comes_back_bit_by_bit, tmp_path_factory)
    run_for(test_any_bytes_as_csv_are_refused_in_words_or_read, tmp_path_factory)


# YAML

leaves = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.integers(), st.floats(), st.text(max_size=5),
    st.sampled_from(["good.csv", "SeasonalNaive", "h", "dlinear", "", "runs"]),
)  # fmt: skip
anything = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=6,
)
keys = st.sampled_from(
    ["data", "models", "seeds", "output_dir", "level", "ablate", "reference", "focus", "max_seconds", "title", "x"]
)


@settings(parent=CASUAL, max_examples=int(os.environ.get("TSLLM_FUZZ_EXAMPLES", "40")))
@given(
    changes=st.dictionaries(keys, anything, min_size=1, max_size=3), raw=st.text(max_size=30), as_text=st.booleans()
)
def test_any_yaml_is_answered_in_one_line(tmp_path_factory, changes, raw, as_text):
    folder = tmp_path_factory.getbasetemp() / "yaml"
    folder.mkdir(exist_ok=True)
    base = {"data": [{"name": str(folder / "gone.csv"), "h": 2}], "models": ["SeasonalNaive"]}
    base["output_dir"] = str(folder / "out")
    text = raw if as_text else yaml.safe_dump(base | changes)
    (folder / "c.yaml").write_bytes(text.encode(errors="replace"))
    result = CliRunner().invoke(app, ["compare", str(folder / "c.yaml")])
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert "Traceback" not in result.output
    assert "not foreseen" not in result.output, result.output


@LONG
@pytest.mark.timeout(0)
def test_yaml_for_longer(tmp_path_factory):
    run_for(test_any_yaml_is_answered_in_one_line, tmp_path_factory)


# Artefact bytes


@pytest.fixture(scope="module")
def artefact(tmp_path_factory):
    """A trained DLinear with calibration: {file name: bytes}, a folder to write it into, its history, its forecast."""
    folder = tmp_path_factory.mktemp("artefact")
    df = pd.DataFrame(
        {"unique_id": "a", "ds": pd.date_range("2024", periods=120, freq="h"), "y": np.sin(np.arange(120.0))}
    )
    forecaster = NeuralForecaster("dlinear", h=4, context_length=16, training={"max_steps": 2}, moving_average=5).fit(
        df
    )
    forecaster.save_pretrained(folder)
    files = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    return files, folder, df, forecaster.predict(df, level=[50])


@st.composite
def damages(draw):
    """What happens to a file: cut off, bytes changed, or a value of its JSON replaced."""
    kind = draw(st.sampled_from(["cut", "flip", "value", "drop"]))
    return kind, draw(st.floats(0, 1)), draw(st.integers(0, 255)), draw(anything), draw(st.integers(0, 50))


def damage(content, how):
    kind, share, byte, value, which = how
    if kind == "cut":
        return content[: int(share * len(content))]
    if kind == "flip" and content:
        at = min(int(share * len(content)), len(content) - 1)
        return content[:at] + bytes([byte]) + content[at + 1 :]
    try:
        state = json.loads(content)
    except ValueError:
        return content
    names_ = sorted(state)
    if names_:
        name = names_[which % len(names_)]
        state = {k: v for k, v in state.items() if k != name} if kind == "drop" else state | {name: value}
    return json.dumps(state).encode()


READ = ("config.json", "model.safetensors", "forecaster.json", "calibration.safetensors")


@CASUAL
@given(name=st.sampled_from(READ), how=damages())
def test_any_damage_to_an_artefact_is_told_or_changes_nothing_silently(artefact, name, how):
    files, folder, df, expected = artefact
    for file, content in files.items():
        (folder / file).write_bytes(content)
    changed = damage(files[name], how)
    (folder / name).write_bytes(changed)
    loaded = told(lambda: NeuralForecaster.from_pretrained(folder))
    if loaded is None:
        return
    out = told(lambda: loaded.predict(df, level=[50]))
    if out is None:
        return
    values = out.select_dtypes("number").to_numpy()
    assert np.isfinite(values).all()
    if changed == files[name]:
        pd.testing.assert_frame_equal(out, expected)


def test_the_damaged_files_are_those_that_loading_reads(artefact):
    files, folder, *_ = artefact
    assert set(READ) <= set(files)
    for file, content in files.items():
        (folder / file).write_bytes(content)
    assert Calibration.load(folder) is not None
    assert load_file(folder / "model.safetensors").keys() == MODELS.get("dlinear").from_pretrained(folder).trained_state().keys()  # fmt: skip  # noqa: E501


@CASUAL
@given(content=st.binary(max_size=200), name=st.sampled_from(["a.arrow", "a.parquet", "state.json"]))
def test_any_bytes_in_a_data_folder_are_refused_in_words(tmp_path_factory, content, name):
    folder = tmp_path_factory.getbasetemp() / "folder"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    (folder / name).write_bytes(content)
    with pytest.raises((FrameError, FileNotFoundError)):
        read_folder(Path(folder))


@LONG
@pytest.mark.timeout(0)
def test_artefacts_for_longer(artefact, tmp_path_factory):
    run_for(test_any_damage_to_an_artefact_is_told_or_changes_nothing_silently, artefact)
    run_for(test_any_bytes_in_a_data_folder_are_refused_in_words, tmp_path_factory)


@LONG
@pytest.mark.timeout(0)
def test_data_folders_for_longer(tmp_path_factory):
    run_for(test_any_bytes_in_a_data_folder_are_refused_in_words, tmp_path_factory)

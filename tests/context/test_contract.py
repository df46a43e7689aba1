"""What a user may give as context, and who may read it when."""

import pandas as pd
import pytest

from tsllm.context.contract import Context
from tsllm.types import FrameError

DF = pd.DataFrame({"unique_id": ["a"] * 4 + ["b"] * 4, "ds": [*pd.date_range("2024-01-01", periods=4)] * 2, "y": 1.0})


def test_the_three_shapes_say_the_same():
    expected = {"a": "It rains.", "b": "It rains."}
    assert Context.read("It rains.", DF).texts() == expected
    assert Context.read(expected, DF).texts() == expected
    assert Context.read(pd.DataFrame({"unique_id": ["a", "b"], "text": "It rains."}), DF).texts() == expected
    assert Context.read({"b": "x", "a": ""}, DF).texts() == {"b": "x"}
    assert Context.read(None, DF).texts() == {}
    assert Context.read("", DF).texts() == {}


def test_a_text_is_read_only_at_or_after_its_publication():
    frame = pd.DataFrame(
        {
            "unique_id": ["a", "a", "b"],
            "text": ["one", "two", "three"],
            "published": ["2024-01-02", "2024-01-03", "2024-01-03"],
        }
    )
    told = Context.read(frame, DF)
    assert told.texts_at("2024-01-01") == {}
    assert told.texts_at("2024-01-02") == {"a": "one"}
    assert told.texts_at("2024-01-03") == {"a": "one\ntwo", "b": "three"}


def test_a_text_without_publication_is_refused_in_back_tests_unless_timeless():
    with pytest.raises(FrameError, match=r"context row 0 .*does not say when it was published"):
        Context.read({"a": "x"}, DF).texts_at("2024-01-02")
    assert Context.read({"a": "x"}, DF, timeless=True).texts_at("2024-01-02") == {"a": "x"}


def test_a_span_is_told_to_the_reader():
    frame = pd.DataFrame(
        {"unique_id": ["a"], "text": ["No sales."], "start": ["2024-01-05"], "end": ["2024-01-06 12:00"]}
    )
    assert Context.read(frame, DF).texts() == {"a": "From 2024-01-05 00:00:00 until 2024-01-06 12:00:00: No sales."}


@pytest.mark.parametrize(
    ("context", "message"),
    [
        ({"c": "x"}, r"row 0 is about series 'c', which the data do not hold; they hold 'a', 'b'"),
        ({"a": 3}, "row 0 .series 'a'.: the text is 3"),
        (3, "context is a int; give a text, a mapping"),
        (pd.DataFrame({"unique_id": ["a"]}), "it needs unique_id and text"),
        (pd.DataFrame({"unique_id": ["a"], "text": ["x"], "publishd": ["2024-01-01"]}), "unknown: ..publishd"),
        (pd.DataFrame({"unique_id": ["a"], "text": ["x"], "published": ["soon"]}), "'soon', which is no time"),
        (
            pd.DataFrame({"unique_id": ["a"], "text": ["x"], "start": ["2024-01-03"], "end": ["2024-01-02"]}),
            "before it starts",
        ),
        (pd.DataFrame({"unique_id": ["a"], "text": ["x"], "end": ["2023-01-02"]}), "before the data begin"),
        (pd.DataFrame({"unique_id": ["a"], "text": ["x"], "start": ["2025-01-02"]}), "behind the last forecast step"),
    ],
)
def test_bad_input_is_named(context, message):
    with pytest.raises(FrameError, match=message):
        Context.read(context, DF, last=pd.Timestamp("2024-01-08"))


def test_a_text_that_cannot_be_read_whole_is_refused_by_name():
    def check(text, name):
        if len(text) > 5:
            raise ValueError(f"{name} has {len(text)} tokens")

    with pytest.raises(ValueError, match="the text of series 'b' has 7 tokens"):
        Context.read({"a": "short", "b": "toolong"}, DF, check_length=check)


@pytest.mark.parametrize("column", ["published", "start", "end"])
@pytest.mark.parametrize(
    ("value", "told"),
    [(20240101, "a number"), (2024.0, "a number"), ("2024-01-01T00:00Z", "a time zone"),
     (pd.Timestamp("2024-01-01", tz="UTC"), "a time zone")],
)  # fmt: skip
def test_numbers_and_time_zones_are_no_times_wherever_the_texts_are_read(column, value, told):
    frame = pd.DataFrame({"unique_id": ["b", "a"], "text": "x", column: [None, value]})
    with pytest.raises(FrameError, match=f"context row 1: {column} .*{told}"):
        Context.read(frame, DF)


def test_times_come_as_text_dates_and_datetimes():
    import datetime

    values = ["2024-01-02", datetime.date(2024, 1, 2), datetime.datetime(2024, 1, 2), pd.Timestamp("2024-01-02"), None]
    frame = pd.DataFrame({"unique_id": "a", "text": "x", "published": values})
    published = Context.read(frame, DF).table["published"]
    assert published.isna().tolist() == [False] * 4 + [True]
    assert (published[:4] == pd.Timestamp("2024-01-02")).all()

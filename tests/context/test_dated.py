"""Notes for readers that count no times: dates instead of words, nothing that is over, one text for one message."""

import doctest

import numpy as np
import pandas as pd
import pytest

from tsllm.context import dated
from tsllm.context.contract import Context
from tsllm.context.dated import list_versions, write_dates
from tsllm.context.notes import Note

HOUR = pd.Timedelta("1h")
PAST = pd.date_range("2024-01-01", periods=240, freq="h")  # up to 2024-01-10 23:00, a Wednesday
AHEAD = pd.date_range("2024-01-11", periods=24, freq="h")


@pytest.mark.parametrize(
    ("text", "published", "written"),
    [
        ("Closed tomorrow.", "2024-01-10 09:00", "Closed 2024-01-11."),
        ("Closed on Friday.", "2024-01-10", "Closed on 2024-01-12."),
        ("Closed on Monday.", "2024-01-10", "Closed on 2024-01-15."),  # behind the horizon
        ("Closed next week.", "2024-01-10", "Closed 2024-01-15 to 2024-01-21."),
        ("Closed from next week on.", "2024-01-10", "Closed from 2024-01-15 on."),
        ("Closed until next Friday.", "2024-01-10", "Closed until 2024-01-12."),
        ("Closed from Friday to Monday.", "2024-01-06", "Closed from 2024-01-12 to 2024-01-15."),
        ("Closed on Thursday morning.", "2024-01-10", "Closed on 2024-01-11 06:00 to 2024-01-11 12:00."),
        ("Closed from Thursday evening to Friday morning.", "2024-01-10",
         "Closed from 2024-01-11 18:00 to 2024-01-12 12:00."),
        ("Closed for the next two days.", "2024-01-10 12:00", "Closed for the 2024-01-10 12:00 to 2024-01-12 12:00."),
        ("Closed from 22:00 to 02:00.", "2024-01-10 12:00", "Closed from 2024-01-10 22:00 to 2024-01-11 02:00."),
        ("Closed tomorrow from 08:00 to 10:00.", "2024-01-10", "Closed 2024-01-11 from 08:00 to 10:00."),
        ("Last Friday it fell by 20 %.", "2024-01-09", "2024-01-05 it fell by 20 %."),
        ("Closed tomorrow night.", "2024-01-10", "Closed 2024-01-11 night."),
        ("Closed tonight.", "2024-01-10 09:00", "Closed in the night of 2024-01-10."),
        ("Closed in June.", "2024-01-10", "Closed in June 2024."),
        # What comes again, and what has its date, stays.
        ("Closed every Friday.", "2024-01-10", "Closed every Friday."),
        ("Closed on Fridays.", "2024-01-10", "Closed on Fridays."),
        ("Closed daily from 10:00 to 12:00.", "2024-01-10", "Closed daily from 10:00 to 12:00."),
        ("Closed on 2024-01-12.", "2024-01-10", "Closed on 2024-01-12."),
        ("This plant runs at half load.", "2024-01-10", "This plant runs at half load."),
        ("Closed in the last hour of the forecast.", "2024-01-02", "Closed in the last hour of the forecast."),
        # What names no date stands behind the time at which it was said.
        ("Closed in two days.", "2024-01-10 09:00", "Said on 2024-01-10 09:00: Closed in two days."),
        ("It fell three weeks ago.", "2024-01-10", "Said on 2024-01-10: It fell three weeks ago."),
        ("Output halves next quarter.", "2024-01-10", "Said on 2024-01-10: Output halves next quarter."),
        ("Closed next weekend.", "2024-01-10", "Said on 2024-01-10: Closed next weekend."),
        ("Closed tomorrow.", None, "Closed tomorrow."),
    ],
)  # fmt: skip
def test_what_counts_from_the_publication_is_a_date(text, published, written):
    assert write_dates(Note.read(text, published, None, None), AHEAD, PAST) == (
        Note.read(written, published, None, None),
        [],
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Closed tomorrow.", "tomorrow = 2024-01-04"),
        ("Closed tonight.", "tonight = to 2024-01-04 12:00"),
        ("Closed tomorrow at night.", "tomorrow at night = to 2024-01-05 12:00"),
        ("Closed for the next two days.", "next two days = 2024-01-03 to 2024-01-05"),
        ("Closed on 2024-01-04.", "2024-01-04 = 2024-01-04"),
        ("Closed every day from Friday to Sunday.", "Friday to Sunday = 2024-01-05 to 2024-01-08"),
    ],
)
def test_what_is_over_is_left_out_with_the_reason(text, reason):
    told, over = write_dates(Note.read(text, "2024-01-03"), AHEAD, PAST)
    assert (told.text, over) == ("", [(text, f"{reason}, over before the forecast")])


@pytest.mark.parametrize(
    "text",
    ["Closed every Friday.", "Closed on all days but Friday.", "Capped at 9 from tomorrow on.", "Capped at 9.",
     "Yesterday sales fell by 20 %.", "Closed every day from Friday on.", "Closed from tonight on."],
)  # fmt: skip
def test_what_has_no_end_is_never_over(text):
    assert write_dates(Note.read(text, "2023-01-03"), AHEAD, PAST)[1] == []
    assert [version.until for version in list_versions(Note.read(text, "2023-01-03"), HOUR)] == [None]


def test_times_of_day_are_those_of_each_day_of_a_row():
    row = ("Closed from 10:00 to 12:00.", "2024-01-09", "2024-01-10", "2024-01-13")
    assert write_dates(Note.read(*row), AHEAD, PAST) == (Note.read(*row), [])


def test_a_sentence_without_a_time_is_over_with_the_one_that_it_takes_it_from():
    note = Note.read("There is maintenance tomorrow. Output is zero.", "2024-01-03")
    assert write_dates(note, AHEAD, PAST)[0].text == ""
    note = Note.read("The plant is closed tomorrow. Output is capped at 9.", "2024-01-03")
    assert write_dates(note, AHEAD, PAST)[0].text == "Output is capped at 9."


def test_versions_follow_one_another_and_are_what_each_cutoff_is_written():
    text = "Closed tomorrow. Capped at 9 until Saturday.\nIt snows.  "
    note = Note.read(text, "2024-01-03 10:00")
    versions = list_versions(note, HOUR)
    assert [(v.text, str(v.since), str(v.until)) for v in versions] == [
        ("Closed 2024-01-04. Capped at 9 until 2024-01-06.\nIt snows.  ", "None", "2024-01-05 00:00:00"),
        ("Capped at 9 until 2024-01-06.\nIt snows.", "2024-01-05 00:00:00", "2024-01-07 00:00:00"),
        ("It snows.", "2024-01-07 00:00:00", "None"),
    ]
    for first in pd.date_range("2024-01-03 11:00", "2024-01-08", freq="h"):
        times = pd.date_range(first, periods=2, freq="h")
        told = write_dates(note, times, times[:0])[0].text
        (own,) = [
            v for v in versions if (v.since is None or v.since <= first) and (v.until is None or first < v.until)
        ]
        assert own.text.strip() == told


def test_words_that_say_no_more_than_their_row_stay_so_that_days_share_a_text():
    def write(text, published, start, end):
        return [version.text for version in list_versions(Note.read(text, published, start, end), HOUR)]

    for day in pd.date_range("2024-01-11", periods=3):
        row = (day - pd.Timedelta("12h"), day, day + pd.Timedelta("1D"))
        assert write("Tomorrow it is closed.", *row) == ["Tomorrow it is closed."]
        assert write("Tomorrow from 08:00 to 10:00 it is closed.", *row) == [
            "Tomorrow from 08:00 to 10:00 it is closed."
        ]
    assert write("Closed tomorrow.", "2024-01-10", "2024-01-11", "2024-01-14") == ["Closed 2024-01-11."]


def test_windows_read_the_version_of_their_time_and_none_where_all_is_over():
    rows = pd.DataFrame({"unique_id": "a", "text": ["Closed tomorrow.", "Up. Closed on Friday."]})
    rows["published"] = ["2024-01-03 10:00", "2024-01-03"]
    df = pd.DataFrame({"unique_id": "a", "ds": PAST, "y": 1.0})
    firsts = pd.date_range("2024-01-03 23:00", periods=6, freq="D").to_numpy()
    read = Context.read(rows, df).rows_of_windows("a", firsts - np.timedelta64(1, "h"), firsts, firsts, HOUR)
    assert read[0][["text", "row"]].to_numpy().tolist() == [
        ["Closed 2024-01-04.", 0],
        ["Up. Closed on 2024-01-05.", 1],
        ["Up.", 1],
    ]
    assert read[1].T.astype(int).tolist() == [[1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]]


def test_the_examples_hold():
    found = doctest.testmod(dated)
    assert (found.failed, found.attempted) == (0, 6)

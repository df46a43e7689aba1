"""What a user may give as context, and who may read it when."""

from dataclasses import replace
from datetime import datetime

import numpy as np
import pandas as pd
import pytest

from tsllm.context.contract import TIMES, Context, find_named, load_texts, write_notes
from tsllm.data.frame import find_last_times
from tsllm.forecasting.context_folder import write_texts
from tsllm.types import ID, FrameError

DF = pd.DataFrame({"unique_id": ["a"] * 4 + ["b"] * 4, "ds": [*pd.date_range("2024-01-01", periods=4)] * 2, "y": 1.0})


def write(told, cutoff=None):
    """Series -> what it may read at a cutoff, one note a line; all of it, dated or not, without one."""
    if cutoff is None:
        told, cutoff = replace(told, timeless=True), pd.Timestamp.max
    notes = told.notes_at(dict.fromkeys(told.table[ID], pd.Timestamp(cutoff)))
    return {name: write_notes(found) for name, found in notes.items()}


def test_the_three_shapes_say_the_same():
    expected = {"a": "It rains.", "b": "It rains."}
    assert write(Context.read("It rains.", DF)) == expected
    assert write(Context.read(expected, DF)) == expected
    assert write(Context.read(pd.DataFrame({"unique_id": ["a", "b"], "text": "It rains."}), DF)) == expected
    assert write(Context.read({"b": "x", "a": ""}, DF)) == {"b": "x"}
    assert write(Context.read(None, DF)) == {}
    assert write(Context.read("", DF)) == {}


@pytest.mark.parametrize("blank", ["", " ", "\n\t "])
def test_a_blank_text_says_nothing_and_needs_no_date(blank):
    told = Context.read({"a": blank, "b": blank}, DF)
    assert write(told) == {}
    assert write(told, "2024-01-02") == {}
    assert write(Context.read(blank, DF), "2024-01-02") == {}


def test_a_text_is_read_only_at_or_after_its_publication():
    frame = pd.DataFrame(
        {
            "unique_id": ["a", "a", "b"],
            "text": ["one", "two", "three"],
            "published": ["2024-01-02", "2024-01-03", "2024-01-03"],
        }
    )
    told = Context.read(frame, DF)
    assert write(told, "2024-01-01") == {}
    assert write(told, "2024-01-02") == {"a": "one"}
    assert write(told, "2024-01-03") == {"a": "one\ntwo", "b": "three"}


def test_a_text_without_publication_is_refused_in_back_tests_unless_timeless():
    with pytest.raises(FrameError, match=r"context row 0 .*does not say when it was published"):
        write(Context.read({"a": "x"}, DF), "2024-01-02")
    assert write(Context.read({"a": "x"}, DF, timeless=True), "2024-01-02") == {"a": "x"}


def test_a_span_is_told_to_the_reader():
    frame = pd.DataFrame(
        {"unique_id": ["a"], "text": ["No sales."], "start": ["2024-01-05"], "end": ["2024-01-06 12:00"]}
    )
    assert write(Context.read(frame, DF)) == {"a": "From 2024-01-05 00:00:00 until 2024-01-06 12:00:00: No sales."}


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
        (
            pd.DataFrame({"unique_id": ["a"], "text": ["x"], "end": ["2023-01-02"]}),
            "before the series begins at 2024-01-01",
        ),
        (
            pd.DataFrame({"unique_id": ["a"], "text": ["x"], "start": ["2025-01-02"]}),
            r"row 0 .series 'a'. starts at 2025-01-02 .*could be meant is 2024-01-08",
        ),
    ],
)
def test_bad_input_is_named(context, message):
    with pytest.raises(FrameError, match=message):
        Context.read(context, DF, last=dict.fromkeys("ab", pd.Timestamp("2024-01-08")))


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


@pytest.mark.parametrize("column", ["published", "start", "end"])
def test_day_and_month_are_read_by_the_rule_of_the_data(column, tmp_path):
    """A text published on the first of May must not be read in January."""
    days = pd.date_range("2024-01-01", periods=200)
    df = pd.DataFrame({"unique_id": "a", "ds": days, "y": 1.0})

    def read(*values):
        return Context.read(pd.DataFrame({"unique_id": "a", "text": "x", column: values}), df).table[column].tolist()

    first = pd.Timestamp("2024-05-01")
    with pytest.raises(FrameError, match=f"'{column}' is ambiguous: '01/05/2024'") as caught:
        read("01/05/2024")
    for way in (f"context['{column}'] = pd.to_datetime(context['{column}'], dayfirst=True)", "--day-first"):
        assert way in str(caught.value)
    assert read(pd.to_datetime("01/05/2024", dayfirst=True)) == [first]  # as the message says
    assert read("13/05/2024", "01/05/2024") == [pd.Timestamp("2024-05-13"), first]
    assert read("05/13/2024", "05/01/2024") == [pd.Timestamp("2024-05-13"), first]
    with pytest.raises(FrameError, match=r"context row 1 .series 'a'.: .*another way than that of the first row"):
        read("13/05/2024", "2024-05-01")
    pd.DataFrame({"unique_id": "a", "text": "x", column: ["01/05/2024"]}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(FrameError, match=f"'{column}' is ambiguous"):
        load_texts(str(tmp_path / "t.csv"))
    assert load_texts(str(tmp_path / "t.csv"), day_first=True)[column].tolist() == [first]
    assert load_texts(str(tmp_path / "t.csv"), day_first=False)[column].tolist() == [pd.Timestamp("2024-01-05")]


@pytest.mark.parametrize("one", TIMES)
@pytest.mark.parametrize("other", TIMES)
def test_the_order_of_day_and_month_is_one_for_all_times_of_a_table(one, other):
    days = pd.date_range("2024-01-01", periods=400)
    df = pd.DataFrame({"unique_id": "a", "ds": days, "y": 1.0})
    rows = pd.DataFrame({"unique_id": "a", "text": ["x", "y"]}).reindex(columns=["unique_id", "text", *TIMES])
    rows = rows.astype(dict.fromkeys(TIMES, object))

    def read(first, second):
        table = rows.copy()
        table.loc[0, one], table.loc[1, other] = first, second
        told = Context.read(table, df).table
        return told.loc[0, one], told.loc[1, other]

    assert read("13/01/2024", "05/01/2024") == (pd.Timestamp("2024-01-13"), pd.Timestamp("2024-01-05"))
    assert read("05/01/2024", "01/13/2024 10:00") == (pd.Timestamp("2024-05-01"), pd.Timestamp("2024-01-13 10:00"))
    if one != other:
        assert read("13/01/2024", "2024-01-05") == (pd.Timestamp("2024-01-13"), pd.Timestamp("2024-01-05"))
    with pytest.raises(FrameError) as caught:
        read("Sat 13/01/2024", "01/14/2024")
    assert f"context row 0 (series 'a'): {one} 'Sat 13/01/2024' puts the day first" in str(caught.value)
    assert f"but context row 1 (series 'a'): {other} '01/14/2024' puts the month first" in str(caught.value)


@pytest.mark.parametrize("value", ["12:00", "today", "Jan", "13/05/24", "20240105", "9999-12-31"])
def test_what_names_no_day_of_a_year_is_no_time(value):
    """The parser completes it from the clock."""
    with pytest.raises(FrameError, match="context row 1: published"):
        Context.read(pd.DataFrame({"unique_id": "a", "text": "x", "published": [None, value]}), DF)


@pytest.mark.parametrize("value", ["9999-12-31", "0001-01-01", datetime(9999, 12, 31)])
def test_an_open_end_that_is_written_as_a_far_year_is_refused_by_its_reason(value):
    with pytest.raises(FrameError, match=r"end is .*beyond the times that can be computed with; leave it empty if it"):
        Context.read(pd.DataFrame({"unique_id": ["a"], "text": "x", "end": [value]}), DF)


@pytest.mark.parametrize("column", ["published", "start", "end"])
def test_times_of_texts_are_refused_where_the_data_count_their_steps(column):
    counted = DF.assign(ds=range(len(DF)))
    rows = pd.DataFrame({"unique_id": ["a", "a"], "text": "x", column: [None, "2024-01-02"]})
    with pytest.raises(FrameError, match=r"context row 1 \(series 'a'\) has a time, but the data count their steps"):
        Context.read(rows, counted)
    assert len(Context.read(rows[:1], counted).table) == 1


@pytest.mark.parametrize("day_first", [None, True, False])
def test_a_column_without_times_is_read_in_any_order(day_first, tmp_path):
    table = pd.DataFrame({"unique_id": ["a"], "text": ["x"], "published": ["2024-01-02"], "start": [None]})
    table.to_csv(tmp_path / "texts.csv", index=False)
    told = Context.read(load_texts(str(tmp_path / "texts.csv"), day_first=day_first), DF).table
    assert told["published"].tolist() == [pd.Timestamp("2024-01-02")]
    assert told["start"].isna().all()


def test_a_saved_text_keeps_the_order_of_its_column():
    rows = write_texts(pd.DataFrame({"unique_id": "a", "text": "x", "published": ["13/05/2024", "01/05/2024"]}))
    assert [row["published"] for row in rows] == ["2024-05-13 00:00:00", "2024-05-01 00:00:00"]


def test_a_doubled_column_is_named():
    doubled = pd.DataFrame([["a", "x", "y"]], columns=["unique_id", "text", "text"])
    with pytest.raises(FrameError, match=r"column 'text' twice; keep the first with context = "):
        Context.read(doubled, DF)
    assert write(Context.read(doubled.loc[:, ~doubled.columns.duplicated()], DF)) == {"a": "x"}


def test_a_row_is_about_times_of_its_own_series():
    """Series b ends and begins at other times than a."""
    late = DF["unique_id"] == "b"
    df = DF.assign(ds=DF["ds"].where(~late, DF["ds"] + pd.Timedelta("10D")))
    last = find_last_times(df, 2)
    assert last == {"a": pd.Timestamp("2024-01-06"), "b": pd.Timestamp("2024-01-16")}

    def read(name, **times):
        return Context.read(
            pd.DataFrame({"unique_id": [name], "text": "x"} | {k: [v] for k, v in times.items()}), df, last=last
        )

    assert len(read("b", start="2024-01-16").table) == 1
    assert len(read("a", end="2024-01-01").table) == 1
    with pytest.raises(FrameError, match=r"row 0 .series 'a'. starts at 2024-01-07 .*could be meant is 2024-01-06"):
        read("a", start="2024-01-07")
    with pytest.raises(FrameError, match=r"row 0 .series 'b'. ends at 2024-01-10 .*begins at 2024-01-11"):
        read("b", end="2024-01-10")
    # Nobody may read it yet, so it is no error.
    assert len(read("a", start="2024-01-07", published="2024-01-05").table) == 1
    with pytest.raises(FrameError, match="starts at 2024-01-07"):
        read("a", start="2024-01-07", published="2024-01-04")


def test_half_of_a_character_is_refused_with_the_row():
    with pytest.raises(FrameError, match=r"context row 1 .series 'b'. has .*ud800' at character 6") as caught:
        Context.read({"a": "Closed", "b": "Closed\ud800."}, DF)
    way = str(caught.value).split("drop it with ")[1]
    assert write(Context.read({"b": eval(way, {"text": "Closed\ud800."})}, DF)) == {"b": "Closed."}


@pytest.mark.filterwarnings("error::FutureWarning")
def test_categories_name_series_as_strings_do():
    frame = pd.DataFrame({"unique_id": pd.Categorical(["a"], ["a", "b"]), "text": pd.Categorical(["It rains."])})
    assert write(Context.read(frame, DF)) == {"a": "It rains."}


SHOPS = ["north", "north-east", "Shop 1", "7", "a"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("The north is closed.", ["north"]),
        ("north's shop and Shop 1 are closed.", ["north", "Shop 1"]),
        ("The north-east is closed.", ["north-east"]),
        ("Closed: 'north'.", ["north"]),
        ("Sales fall by 20 %, but north stays open.", ["north"]),
        ("Series 7 is closed; series a too.", ["7", "a"]),
        # No name of a series: a part of a word, a number and an article.
        ("The northern bus is closed for 7 hours.", SHOPS),
        ("The northern road is closed; a bus goes at 7.", SHOPS),
        ("Series 7.5 is none; north-west neither; Shop 12 too.", SHOPS),
        ("", SHOPS),
        ("Closed: north, north-east, Shop 1, series 7 and series a.", SHOPS),
    ],
)
def test_a_text_that_names_some_series_is_about_these_alone_and_says_so(text, named, caplog):
    assert find_named(text, SHOPS) == named
    told = [record.getMessage() for record in caplog.records]
    if named == SHOPS:
        assert told == []
    else:
        shown = ", ".join(map(repr, named))
        assert told == [
            f"the text names series {shown}, so it is read for {len(named)} of 5 series; a mapping or a table says "
            "otherwise"
        ]


@pytest.mark.parametrize("words", ["all but north", "All shops except for the north", "everything other than 'north'"])
def test_a_text_that_excepts_a_series_is_no_text_for_one_frame(words):
    with pytest.raises(FrameError, match=r"excepts series 'north'.*give a mapping series -> text"):
        find_named(f"{words} are closed.", SHOPS)
    assert find_named(f"{words} are closed.", ["north"]) == ["north"]


@pytest.mark.parametrize(
    "text",
    [
        "The north is closed from 08:00 to 14:00. The south is capped at 90.",
        "The north doubles\nThe south falls by 20 percent",
        "The north and the south are closed. The north opens again on Friday.",
    ],
)
@pytest.mark.parametrize("ids", [["north", "south"], ["north", "south", "west"]])
def test_sentences_about_different_series_are_no_one_text(text, ids):
    with pytest.raises(FrameError, match=r"one sentence of the text is about north.*another about .*a table"):
        find_named(text, ids)
    rows = pd.DataFrame({"unique_id": ["north", "south"], "text": ["It is closed.", "It is capped at 90."]})
    frame = DF.assign(unique_id=DF["unique_id"].map({"a": "north", "b": "south"}))
    assert write(Context.read(rows, frame)) == {"north": "It is closed.", "south": "It is capped at 90."}


@pytest.mark.parametrize(
    "text",
    [
        "The north is closed on 2024-01-03 and the south doubles on 2024-01-05.",
        "The north is closed on 2024-01-03, the south on 2024-01-05.",
        "The north is closed and the south doubles on Friday.",
        "The north is closed; the south is capped at 5.",
        "The north doubles on Friday while the south is closed.",
    ],
)
@pytest.mark.parametrize("ids", [["north", "south"], ["north", "south", "west"]])
def test_parts_of_a_sentence_about_different_series_are_no_one_text(text, ids):
    with pytest.raises(FrameError, match=r"one part of the text is about north, another about south.*a table"):
        find_named(text, ids)


@pytest.mark.parametrize(
    "text",
    [
        "The north and the south are closed on Friday.",
        "On Friday north and south are closed.",
        "Sales of north and south fall by 10 % on Friday and rise by 10 % on Saturday.",
        "Both the north, which is small, and the south are closed on Friday.",
    ],
)
def test_names_in_a_row_are_one_text(text):
    assert find_named(text, ["north", "south", "west"]) == ["north", "south"]


def test_sentences_about_the_same_series_are_one_text():
    text = "The north is closed at 8.30. It opens at 14:00! Then the north doubles."
    assert find_named(text, ["north", "south"]) == ["north"]


def test_numbers_as_names_and_a_mapping_says_it_outright():
    df = DF.assign(unique_id=[1] * 4 + [2] * 4)
    assert write(Context.read("It is closed for 2 hours.", df)) == dict.fromkeys((1, 2), "It is closed for 2 hours.")
    assert write(Context.read("Series 2 is closed.", df)) == {2: "Series 2 is closed."}
    text = "Series 2 is closed."
    assert write(Context.read({1: text, 2: text}, df)) == {1: text, 2: text}


@pytest.mark.parametrize("written", ["product 3", "Product 3", "Product 003", "PRODUCT-3", "product03", "Product_3"])
def test_zeros_in_front_of_a_number_are_another_spelling(written, caplog):
    products = [f"Product {k:02d}" for k in range(1, 21)]
    assert find_named(f"{written} is sold out on Friday.", products) == products
    assert caplog.messages == [
        f"the text says {written!r}, which is no series: it is called 'Product 03'; write it so if the text is about "
        "that one alone (a text that names no series is read for all of them)"
    ]
    caplog.clear()
    assert find_named("Product 03 is sold out on Friday.", products) == ["Product 03"]
    assert find_named("Product 30 is sold out, as is product 33.", products) == products
    assert [m for m in caplog.messages if "no series" in m] == []


def test_another_case_is_another_spelling(caplog):
    assert find_named("The North is closed for 7 hours.", SHOPS) == SHOPS
    (told,) = caplog.messages
    assert told.startswith("the text says 'North', which is no series: it is called 'north'; write it so")


@pytest.mark.parametrize("written", ["Meter 3", "meter-3", "METER3", "meter_3"])
def test_a_name_in_another_spelling_names_no_series_and_that_is_said(written, caplog):
    meters = [f"meter{k}" for k in range(1, 11)]
    assert find_named(f"{written} is closed on Friday.", meters) == meters
    assert caplog.messages == [
        f"the text says {written!r}, which is no series: it is called 'meter3'; write it so if the text is about that "
        "one alone (a text that names no series is read for all of them)"
    ]
    caplog.clear()
    assert find_named("meter3 is closed on Friday.", meters) == ["meter3"]
    assert [m for m in caplog.messages if "no series" in m] == []


def test_other_words_and_parts_of_words_are_no_other_spelling(caplog):
    ids = ["meter3", "a", "3", "load"]
    for text in ("Meter 33 is closed.", "A storm cuts 3 lines.", "It is unloaded.", "Closed."):
        assert find_named(text, ids) == ids
    assert caplog.messages == []


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_a_missing_text_is_an_empty_one(missing):
    for given in ({"a": missing}, [{"unique_id": "a", "text": missing}]):
        told = Context.read(given, DF)
        assert told.table["text"].tolist() == [""]
        assert told.notes_at({"a": DF["ds"].max()}) == {}


def test_whole_numbers_name_series_in_files_and_in_json_too(tmp_path):
    frame = DF.assign(unique_id=DF["unique_id"].map({"a": 1, "b": 2}))
    table = tmp_path / "news.csv"
    table.write_text("unique_id,text\n1,Output is capped at 9.\n", encoding="utf-8")
    for given in (str(table), '{"1": "Output is capped at 9."}'):
        told = Context.read(load_texts(given), frame, timeless=True)
        assert told.table[["unique_id", "text"]].values.tolist() == [[1, "Output is capped at 9."]]
    with pytest.raises(FrameError, match="series '7', which the data do not hold"):
        Context.read({"7": "Closed."}, frame)


def test_a_mapping_may_be_typed():
    assert load_texts(' {"a": "Closed."}') == {"a": "Closed."}
    with pytest.raises(FrameError, match="the context is no JSON"):
        load_texts("{Closed tomorrow.")
    with pytest.raises(FrameError, match="the context names series 'a' twice"):
        load_texts('{"a": "Closed.", "a": "Open."}')

"""Rows of a table of texts: each is read by itself, seen from its publication, within the times that it is about."""

import numpy as np
import pandas as pd
import pytest

from tsllm.context.applying import Window, apply_effects
from tsllm.context.effects import parse_effects
from tsllm.context.notes import Note
from tsllm.context.parser import read_by_rules
from tsllm.context.readers import EffectSpeaker, sort_notes
from tsllm.evaluation.backtest import backtest
from tsllm.forecasting.context import ContextForecaster
from tsllm.forecasting.naive import SeasonalNaive
from tsllm.types import FrameError

TIMES = pd.date_range("2024-01-01", periods=240, freq="h")
DF = pd.DataFrame({"unique_id": "a", "ds": TIMES, "y": 10.0 + np.arange(240) % 24})


def look(*notes, h=24, prose=read_by_rules):
    """Reads notes at the end of 2024-01-10, a Wednesday; the next week begins on 2024-01-15."""
    ahead = pd.date_range("2024-01-11", periods=h, freq="h")
    window = Window(DF["y"].to_numpy(), TIMES, ahead, 24)
    effects, idle = sort_notes([Note.read(*note) for note in notes], window, prose)
    return [str(effect) for effect in effects], [why for _, why in idle]


@pytest.mark.parametrize(
    ("text", "published", "effect"),
    [
        ("Closed tomorrow.", "2024-01-10 09:00", "set 0 from 2024-01-11 to 2024-01-12"),
        ("Closed tomorrow.", "2024-01-11", "set 0 from 2024-01-12 to 2024-01-13"),
        ("Closed today.", "2024-01-11", "set 0 from 2024-01-11 to 2024-01-12"),
        ("Closed the day after tomorrow.", "2024-01-10 23:00", "set 0 from 2024-01-12 to 2024-01-13"),
        ("Closed on Friday.", "2024-01-06", "set 0 from 2024-01-12 to 2024-01-13"),
        ("Closed from Thursday to Friday.", "2024-01-08", "set 0 from 2024-01-11 to 2024-01-13"),
        ("Closed until Thursday.", "2024-01-10", "set 0 to 2024-01-12"),
        ("Closed next week.", "2024-01-08", "set 0 from 2024-01-15 to 2024-01-22"),
        ("Closed next week.", "2024-01-07", "set 0 from 2024-01-08 to 2024-01-15"),
        ("Closed this week.", "2024-01-08", "set 0 from 2024-01-08 to 2024-01-15"),
        ("Closed from 08:00 to 14:00.", "2024-01-10 15:00", "set 0 from 2024-01-11 08:00 to 2024-01-11 14:00"),
        ("Closed for the next two days.", "2024-01-10 12:00", "set 0 from 2024-01-10 12:00 to 2024-01-12 12:00"),
        ("The sensor was faulty yesterday.", "2024-01-05 10:00", "ignore from 2024-01-04 to 2024-01-05"),
        ("Output is capped at 9.", "2024-01-02", "cap 9"),
        ("Closed in the last two hours of the forecast.", "2024-01-02", "set 0 from 2024-01-16 22:00 to 2024-01-17"),
        ("Closed from 2024-01-12 08:00 to 2024-01-12 10:00.", "2024-01-02",
         "set 0 from 2024-01-12 08:00 to 2024-01-12 10:00"),
    ],
)  # fmt: skip
def test_times_are_counted_from_the_publication(text, published, effect):
    assert look((text, published), h=144) == ([effect], [])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Closed tomorrow.", "tomorrow = 2024-01-04"),
        ("Closed on Friday.", "Friday = 2024-01-05"),
        ("Output is capped at 9 next week.", "next week = 2024-01-08 to 2024-01-15"),
        ("Closed until Friday.", "Friday = to 2024-01-06"),
        ("Closed today from 08:00 to 14:00.", "today to 08:00 to 14:00 = 2024-01-03 08:00 to 2024-01-03 14:00"),
        ("Closed from 08:00 to 14:00.", "2024-01-03 08:00 to 2024-01-03 14:00"),
        ("Closed from 2024-01-04 to 2024-01-05.", "2024-01-04 to 2024-01-05 = 2024-01-04 to 2024-01-06"),
    ],
)
def test_what_was_to_come_is_over_later_and_that_is_said(text, reason):
    later = pd.date_range("2024-01-15", periods=24, freq="h")
    window = Window(DF["y"].to_numpy(), TIMES + pd.Timedelta("5D"), later + pd.Timedelta("1D"), 24)
    effects, idle = sort_notes([Note.read(text, "2024-01-03")], window)
    assert (effects, [why for _, why in idle]) == ([], [f"{reason}, over before the forecast"])


def test_without_a_publication_times_are_counted_from_the_forecast():
    assert look(("Closed tomorrow.",)) == (["set 0 from 2024-01-11 to 2024-01-12"], [])


def test_a_dated_note_acts_on_one_day_of_a_back_test():
    news = pd.DataFrame({"unique_id": ["a"], "text": ["It is closed tomorrow."], "published": ["2024-01-07 12:00"]})
    made = backtest(DF, [SeasonalNaive(24)], h=24, n_windows=5, step_size=24, context=news)
    changed = made[made["SeasonalNaive+context"] != made["SeasonalNaive"]]
    assert changed["cutoff"].unique().tolist() == [pd.Timestamp("2024-01-07 23:00")]
    assert changed["ds"].dt.normalize().unique().tolist() == [pd.Timestamp("2024-01-08")]
    assert len(changed) == 24


@pytest.mark.parametrize(
    ("text", "start", "end", "effects"),
    [
        ("Closed from 10:00 to 12:00.", "2024-01-11", "2024-01-12",
         ["set 0 from 2024-01-11 10:00 to 2024-01-11 12:00"]),
        ("Closed from 10:00 to 12:00.", "2024-01-12", "2024-01-14",
         [f"set 0 from 2024-01-{d} 10:00 to 2024-01-{d} 12:00" for d in (12, 13)]),
        ("Closed from 22:00 to 02:00.", "2024-01-11", "2024-01-13",
         ["set 0 from 2024-01-11 22:00 to 2024-01-12 02:00", "set 0 from 2024-01-12 22:00 to 2024-01-13"]),
        ("Closed from 07:00 to 12:00.", "2024-01-11 05:00", "2024-01-11 08:00",
         ["set 0 from 2024-01-11 07:00 to 2024-01-11 08:00"]),
        ("Closed from 2024-01-11 10:00 to 2024-01-11 12:00.", "2024-01-11", "2024-01-12",
         ["set 0 from 2024-01-11 10:00 to 2024-01-11 12:00"]),
        ("Closed daily from 10:00 to 12:00.", "2024-01-12", "2024-01-13",
         ["set 0 from 2024-01-12 10:00 to 2024-01-12 12:00"]),
        ("Closed on Saturday.", "2024-01-11", "2024-01-20", ["set 0 from 2024-01-13 to 2024-01-14"]),
        ("It snows. Closed.", "2024-01-11 05:00", "2024-01-11 08:00",
         ["set 0 from 2024-01-11 05:00 to 2024-01-11 08:00"]),
        ("Closed for 2 hours.", "2024-01-11 05:00", None, ["set 0 from 2024-01-11 05:00 to 2024-01-11 07:00"]),
        ("Set to 7. Capped at most at 9.", "2024-01-11 05:00", "2024-01-11 08:00",
         [f"{e} from 2024-01-11 05:00 to 2024-01-11 08:00" for e in ("set 7", "cap 9")]),
    ],
)  # fmt: skip
def test_a_text_speaks_within_its_row(text, start, end, effects):
    assert look((text, None, start, end), h=96) == (effects, [])


def test_what_lies_outside_the_row_is_nothing_and_that_is_said():
    told = look(("Closed from 10:00 to 12:00.", None, "2024-01-11 05:00", "2024-01-11 08:00"))
    assert told[0] == []
    assert told[1] == [
        "its time, 2024-01-11 10:00 to 2024-01-11 12:00, lies outside that of its row, "
        "2024-01-11 05:00 to 2024-01-11 08:00"
    ]


def test_rows_do_not_read_one_another():
    winter = ("It is winter.", None, "2024-01-11 05:00", "2024-01-11 08:00")
    assert look(winter, ("Output halves.",)) == ([], [])
    assert look(winter, ("Output is capped at 9.",)) == (["cap 9"], [])
    old = look(("Output is set to 7. It is capped at 9.", None, "2024-01-03", "2024-01-04"))
    assert old == ([], ["2024-01-03, over before the forecast"] * 2)


def test_rows_act_in_their_order():
    first, second = ("Set to 7.", None, "2024-01-11"), ("Doubled, 2 times the usual.", None, "2024-01-11")
    assert look(first, second)[0] == [f"{e} from 2024-01-11" for e in ("set 7", "multiply 2")]
    assert look(second, first)[0] == [f"{e} from 2024-01-11" for e in ("multiply 2", "set 7")]


def test_what_follows_a_table_does_so_within_its_row():
    past = np.arange(48.0)
    window = Window(past, TIMES[:48], TIMES[48:72], 24)
    table = "\n".join(f"({t:%Y-%m-%d %H:%M}, {k})" for k, t in enumerate(TIMES[:72]))
    effects, _ = sort_notes([Note.read(table, None, "2024-01-03 05:00", "2024-01-03 08:00")], window)
    paths = np.full((20, 24), -5.0)
    drawn = apply_effects(window, effects, paths)
    assert (drawn != -5).any(axis=0).nonzero()[0].tolist() == [5, 6, 7]


@pytest.mark.parametrize("text", ["Capped at most at 7{}.", "Closed{}."])
@pytest.mark.parametrize(
    ("span", "reason"),
    [
        (" from 2024-01-11 14:00 to 2024-01-11 08:00",
         "it ends at 2024-01-11 08:00, before it begins at 2024-01-11 14:00"),
        (" from 2024-01-11 14:00 to 2024-01-11 14:00", "it begins and ends at 2024-01-11 14:00, and so lasts no time"),
    ],
)  # fmt: skip
def test_a_span_that_lasts_no_time_is_nothing(text, span, reason):
    assert look((text.format(span),)) == ([], [reason])


@pytest.mark.parametrize("text", ["Capped at 9 until {}.", "Closed on {}."])
@pytest.mark.parametrize("day", ["9999-12-31", "31 December 9999"])
def test_a_year_that_nothing_computes_with_is_said_to_be_one(text, day):
    assert look((text.format(day),)) == ([], [f"{day!r} is beyond the times that can be computed with"])


def test_a_row_that_lasts_no_time_is_an_error():
    news = pd.DataFrame({"unique_id": ["a"], "text": ["Capped at 7."], "start": ["2024-01-11"], "end": ["2024-01-11"]})
    with pytest.raises(FrameError, match=r"row 0 \(series .a.\) starts and ends at 2024-01-11"):
        ContextForecaster(SeasonalNaive(24)).fit(DF, 24, news)
    news["end"] = "2024-01-12"
    assert ContextForecaster(SeasonalNaive(24)).fit(DF, 24, news).predict()["SeasonalNaive+context"].max() == 7


class Speaker(EffectSpeaker):
    """Answers every text with a limit, and remembers it."""

    def __init__(self):
        self.asked = []

    def speak(self, text, window):
        self.asked.append(text)
        return parse_effects("set 9")


def test_a_language_model_is_told_dates_and_nothing_that_is_over():
    speaker = Speaker()
    told = look(
        ("It is closed tomorrow. It snows.", "2024-01-04"),
        ("It is closed today and on Thursday at 14:00.", "2024-01-10"),
        ("Quiet.", None, "2024-01-11 05:00", "2024-01-11 08:00"),
        prose=speaker,
    )
    assert speaker.asked == [
        "It snows.",
        "It is closed 2024-01-10 and on 2024-01-11 14:00.",
        "From 2024-01-11 05:00:00 until 2024-01-11 08:00:00: Quiet.",
    ]
    assert told[0] == ["set 9", "set 9 from 2024-01-11 05:00 to 2024-01-11 08:00"]
    assert told[1] == ["tomorrow = 2024-01-05, over before the forecast"]


def test_each_note_is_read_once_in_a_back_test():
    asked = []

    def read(text):
        asked.append(text)
        return read_by_rules(text)

    texts = [f"Output is set to {k}." for k in range(3)]
    news = pd.DataFrame({"unique_id": "a", "text": texts, "published": ["2024-01-02"] * 3})
    ContextForecaster(SeasonalNaive(24), read).fit(DF, 24, news).predict_rolling(DF, 24, 4, 24)
    assert asked == texts


def test_many_short_notes_are_no_long_text():
    def refuse(text, name):
        if len(text) > 40:
            raise ValueError(f"{name} is too long")

    def read(text):
        refuse(text, "it")
        return read_by_rules(text)

    days = pd.date_range("2024-01-02", periods=6)
    news = pd.DataFrame({"unique_id": "a", "text": "Output is capped at 9 on Thursday.", "published": days})
    made = ContextForecaster(SeasonalNaive(24), read, check_length=refuse).fit(DF, 24, news).predict()
    assert made["SeasonalNaive+context"].max() == 9


def test_a_limit_below_all_that_was_seen_is_obeyed():
    told = ContextForecaster(SeasonalNaive(24)).fit(DF, 24, "The price is capped at 6.").predict()
    assert told["SeasonalNaive+context"].eq(6).all()


def test_an_explanation_names_what_acts_and_what_is_left_out():
    news = pd.DataFrame({"unique_id": "a", "text": ["Closed tomorrow.", "Capped at 9."], "published": "2024-01-03"})
    (told,) = ContextForecaster(SeasonalNaive(24)).fit(DF, 24, news).explain_context()
    assert told.describe() == "cap 9\n(left out: set 0: tomorrow = 2024-01-04, over before the forecast)"
    assert told.text == "Closed tomorrow.\nCapped at 9."

"""From texts to effects: what can be copied, when it is, what the rules and the tables say."""

import numpy as np
import pandas as pd
import pytest

from tsllm.context.applying import Window, apply_effects
from tsllm.context.effects import parse_effects, write_effects
from tsllm.context.lexer import find_mentions, split_sentences
from tsllm.context.moments import resolve_moment
from tsllm.context.parser import read_by_rules
from tsllm.context.readers import EffectSpeaker, read_effects, read_in_turn, sort_effects
from tsllm.context.reading import NONE, Reading, assemble

TIMES = pd.date_range("2024-03-06", periods=72, freq="h")  # a Wednesday
PAST_OF_MONTHS = pd.date_range("2024-10-20", "2024-12-18 23:00", freq="h")
PAST = pd.date_range(end="2024-03-05 23:00", periods=96, freq="h")


def window(values=None):
    return Window(pd.Series(range(96), dtype=float).to_numpy() if values is None else values, PAST, TIMES, 24)


@pytest.mark.parametrize(
    ("text", "kind", "said", "value"),
    [
        ("It rises to 1,200.5 units.", "number", "1,200.5", 1200.5),
        ("a noise of 5.5e-04 is added", "number", "5.5e-04", 5.5e-4),
        ("times minus −3.", "number", "−3", -3.0),
        ("up seven per cent", "percent", "seven per cent", 7.0),
        ("down 12.5% today-like", "percent", "12.5%", 12.5),
        ("demand doubles", "factor", "doubles", 2.0),
        ("about a third of it", "factor", "a third", 1 / 3),
        ("it is 1.3x normal", "factor", "1.3", 1.3),
        ("rises to three times the usual", "factor", "three", 3.0),
        ("a 4-fold rise", "factor", "4", 4.0),
        ("by a factor of about 2.5", "factor", "2.5", 2.5),
        ("all is multiplied by 0.8", "factor", "0.8", 0.8),
        ("at 2 × the usual", "factor", "2", 2.0),
        ("a load factor of 0.9", "number", "0.9", 0.9),
        ("rung 5 times per call", "number", "5", 5.0),
        ("for two hours", "duration", "two hours", 7200.0),
        ("a 90-minute stop", "duration", "90-minute", 5400.0),
        ("within a fortnight", "duration", "a fortnight", 1209600.0),
        ("on 3rd May 2024 at noon it ends", "moment", "3rd May 2024 at noon", 0.0),
        ("by 2024-03-07 08:00:00.", "moment", "2024-03-07 08:00:00", 0.0),
        ("opens at 8 am.", "moment", "8 am", 0.0),
    ],
)
def test_a_mention_is_found_with_its_value(text, kind, said, value):
    found = [m for m in find_mentions(text) if m.kind == kind]
    assert [m.text for m in found] == [said]
    assert found[0].value == pytest.approx(value)
    assert text[found[0].start : found[0].end] == said


@pytest.mark.parametrize(
    ("said", "start", "end"),
    [
        ("2024-03-07 08:00:00", "2024-03-07 08:00", "2024-03-07 08:00"),
        ("2024-03-07", "2024-03-07", "2024-03-08"),
        ("2024-04", "2024-04-01", "2024-05-01"),
        ("8 March", "2024-03-08", "2024-03-09"),
        ("March 8th, 2024 at 2 pm", "2024-03-08 14:00", "2024-03-08 14:00"),
        ("noon", "2024-03-06 12:00", "2024-03-06 12:00"),
        ("Friday", "2024-03-08", "2024-03-09"),
        ("Thursday at 10:30", "2024-03-07 10:30", "2024-03-07 10:30"),
        ("tomorrow", "2024-03-06", "2024-03-07"),  # the day after the last one seen
    ],
)
def test_a_moment_is_completed_by_the_horizon(said, start, end):
    moment = resolve_moment(said, TIMES)
    assert (moment.start, moment.end) == (pd.Timestamp(start), pd.Timestamp(end))


@pytest.mark.parametrize("when", ["on Monday", "next Monday", "on Monday and Tuesday"])
def test_hours_of_a_day_that_the_horizon_lacks_are_not_those_of_another_day(when):
    assert read_effects(f"The mill is closed {when} from 08:00 to 12:00.", window()) == []


def test_a_moment_that_the_horizon_lacks_is_none():
    assert resolve_moment("Monday", TIMES) is None
    assert resolve_moment("08:00", TIMES, after=pd.Timestamp("2024-03-06 22:00")).start == pd.Timestamp(
        "2024-03-07 08:00"
    )


def test_sentences_do_not_break_at_decimal_points():
    text = "The load is 0.5. It grows by 1.5 kW!\nNothing else"
    assert [text[a:b] for a, b in split_sentences(text)] == ["The load is 0.5.", "It grows by 1.5 kW!", "Nothing else"]


@pytest.mark.parametrize(
    ("text", "effects"),
    [
        (
            "A fair is on from 2024-03-07 08:00 for 2 hours, with 4 times the usual demand.",
            "multiply 4 from 2024-03-07 08:00 to 2024-03-07 10:00",
        ),
        (
            "Between 2024-03-07 08:00 and 2024-03-07 14:00 the mill is closed.",
            "set 0 from 2024-03-07 08:00 to 2024-03-07 14:00",
        ),
        ("The values are bounded below by 0.60, the values are bounded above by 13.20.", "floor 0.6\ncap 13.2"),
        ("Sales will fall by 20% on Friday.", "multiply 0.8 from 2024-03-08 to 2024-03-09"),
        (
            "The sensor had a glitch from 2024-03-04 06:00 for 1 hour.",
            "ignore from 2024-03-04 06:00 to 2024-03-04 07:00",
        ),
        (
            "A fair begins on 2024-03-07 08:00 and lasts 2 hours. Demand reaches 4 times the usual.",
            "multiply 4 from 2024-03-07 08:00 to 2024-03-07 10:00",
        ),
        ("Sales will fall by three quarters on Friday.", "multiply 0.25 from 2024-03-08 to 2024-03-09"),
        ("Sales will rise by half on Friday.", "multiply 1.5 from 2024-03-08 to 2024-03-09"),
        ("Sales will fall to a quarter on Friday.", "multiply 0.25 from 2024-03-08 to 2024-03-09"),
        ("Sales will drop by a factor of 4 on Friday.", "multiply 0.25 from 2024-03-08 to 2024-03-09"),
        ("Sales will be 4 times lower on Friday.", "multiply 0.25 from 2024-03-08 to 2024-03-09"),
        ("Sales will rise by a factor of 4 on Friday.", "multiply 4 from 2024-03-08 to 2024-03-09"),
        ("Sales fall from their peak to 3 times the usual on Friday.", "multiply 3 from 2024-03-08 to 2024-03-09"),
        ("Sales are counted 4 times a day on Friday.", ""),
        ("A dip of 75% was seen 2 weeks ago.", ""),
        ("The town has 12,000 inhabitants.", ""),
        ("", ""),
    ],
)
def test_the_rules_read_plain_sentences(text, effects):
    assert write_effects(read_effects(text, window())) == effects


@pytest.mark.parametrize(
    "text",
    [
        "The plant is not closed on Friday.",
        "The plant isn't closed on Friday.",
        "The plant will no longer be closed on Friday.",
        "The plant is not going to be shut down on Friday.",
        "The plant was to be closed on Friday, but runs as usual.",
        "The closure of Friday has been called off.",
        "The outage on Friday is cancelled.",
        "The plant is closed on Friday unless it rains.",
        "The plant might be closed on Friday.",
        "If the strike goes on, output falls by 20% on Friday.",
    ],
)
def test_what_is_denied_or_depends_on_something_is_no_effect_by_the_rules(text):
    assert read_effects(text, window()) == []


@pytest.mark.parametrize(
    ("text", "effects"),
    [
        ("The plant is closed on Friday.", "set 0 from 2024-03-08 to 2024-03-09"),
        ("The plant is not operating on Friday.", "set 0 from 2024-03-08 to 2024-03-09"),
        ("The mill loses a quarter of its output on Friday.", "multiply 0.75 from 2024-03-08 to 2024-03-09"),
        ("The mill loses 20% of its output on Friday.", "multiply 0.8 from 2024-03-08 to 2024-03-09"),
        ("The mill loses half of its output on Friday.", "multiply 0.5 from 2024-03-08 to 2024-03-09"),
        ("One might expect 3 times the usual, but output is capped at 60.", "cap 60"),
        ("The mill gains a third on Friday.", "multiply 1.3333333333333333 from 2024-03-08 to 2024-03-09"),
        (
            "The plant is closed from 2024-03-07 08:00 and returns to normal at 2024-03-08 06:00.",
            "set 0 from 2024-03-07 08:00 to 2024-03-08 06:00",
        ),
        ("The plant is closed on Thursday and reopens on Friday.", "set 0 from 2024-03-07 to 2024-03-08"),
        ("The plant is closed and resumes at 2024-03-08 06:00.", "set 0 to 2024-03-08 06:00"),
    ],
)
def test_losses_and_returns_are_read_by_the_rules(text, effects):
    assert write_effects(read_effects(text, window())) == effects


def test_tables_states_and_statistics_are_read_by_their_form():
    table = "\n".join(f"({t}, {k})" for k, t in enumerate(PAST.append(TIMES)[::24]))
    (effect,) = read_effects(f"Here is another place:\n{table}", window(), None)
    assert effect.kind == "follow"
    assert effect.points[0] == (PAST[0], 0.0)
    assert len(effect.points) == 7
    pieces = "The load is set to: 0.1 until 2024-03-04 00:00, 0.3 from 2024-03-04 00:00 until 2024-03-07 00:00."
    (effect,) = read_effects(pieces, window(), None)
    assert effect.points == ((PAST[0], 0.1), (pd.Timestamp("2024-03-04"), 0.3))
    sky = "At 2024-03-04 06:00:00, the sky became grey.\n"
    sky += "At 2024-03-06 07:00:00, we expect that the sky will become blue."
    (effect,) = read_effects(sky, window(), None)
    assert effect.points == ((pd.Timestamp("2024-03-04 06:00"), "grey"), (pd.Timestamp("2024-03-06 07:00"), "blue"))
    yearly = "On average, they see 58 cases per year and the month with the most cases was June."
    assert write_effects(read_effects(yearly, window(), None)) == "total 58\npeak June"


def test_a_table_of_an_earlier_year_is_moved():
    old = pd.date_range("2023-03-01", periods=14, freq="D")
    text = "\n".join(f"{t:%Y-%m-%d}: {k}" for k, t in enumerate(old))
    past = pd.date_range("2024-03-01", periods=7, freq="D")
    times = pd.date_range("2024-03-08", periods=7, freq="D")
    (effect,) = read_effects(text, Window(pd.Series(range(7), dtype=float).to_numpy(), past, times), None)
    assert effect.points[0] == (pd.Timestamp("2024-03-01"), 0.0)
    assert effect.points[-1] == (pd.Timestamp("2024-03-14"), 13.0)


def test_a_value_borrows_the_span_of_a_sentence_without_an_effect():
    text = "A fair is held from 2024-03-07 08:00 to 2024-03-07 10:00. The capacity is 5 then. A cap of 9 holds always."
    reading = Reading.open(text)
    roles = [
        {"2024-03-07 08:00": "start", "2024-03-07 10:00": "end", "5": "cap"}.get(m.text, NONE)
        for m in reading.mentions
    ]
    given = Reading(text, reading.mentions, roles, reading.sentences, reading.statements)
    assert write_effects(assemble(given, TIMES, PAST)) == "cap 5 from 2024-03-07 08:00 to 2024-03-07 10:00"


def test_readers_in_turn_take_the_first_that_finds_something():
    def mute(text):
        return Reading.open(text)

    text = "Sales will fall by 20% on Friday. Nothing more."
    assert read_in_turn(mute, read_by_rules)(text) == read_by_rules(text)
    assert read_in_turn(read_by_rules, mute)(text) == read_by_rules(text)


def test_a_reader_that_finds_no_more_than_a_time_leaves_the_sentence_to_the_next():
    def stop(text):
        reading = Reading.open(text)
        roles = ["day" if m.text == "Friday" else NONE for m in reading.mentions]
        return Reading(text, reading.mentions, roles, reading.sentences, ["zero"] * len(reading.sentences))

    def mute(text):
        return Reading.open(text)

    text = "The shutters stay drawn on Friday."
    assert read_by_rules(text).roles == ["day"]
    assert read_by_rules(text).statements == [NONE]
    assert read_in_turn(read_by_rules, stop)(text) == stop(text)
    assert read_in_turn(read_by_rules, mute)(text) == read_by_rules(text)  # it may say when something else is


@pytest.mark.parametrize(
    "text",
    [
        "The mill was closed from 2024-03-01 08:00 to 2024-03-01 14:00.",
        "Between 2024-02-01 and 2024-02-05 the mill was shut.",
        "Until 2024-03-01 output was capped at 9.",
        "In 2022 output was capped at 9.",
        "Earlier this year prices were capped at 5.",
        "From 2024-03-01 sales fell by 20%.",
        "Sales fell by 20% on Friday.",
        "Last Friday sales fell by 20%, which is a lot.",
        "Sales fell by 20% last week from Monday to Wednesday.",
        "The mill was closed on 1 March from 08:00 to 14:00.",
        "A fair was held on 1 March 2024 from 08:00 to 10:00. Demand reached 4 times the usual.",
        "In 2023 sales fell by 20%. The fair runs from 2024-03-07 to 2024-03-08.",
        "2024-03-01 was a public holiday.",
        "Output is capped at 9 from 2024-04-01 to 2024-04-03.",  # behind the horizon
    ],
)
def test_what_is_told_of_the_past_or_of_later_times_changes_nothing(text):
    assert read_effects(text, window()) == []


@pytest.mark.parametrize(
    ("text", "effects"),
    [
        ("Since 2024-03-04 output is capped at 9.", "cap 9 from 2024-03-04"),
        ("From 2024-03-05 to 2024-03-07 the mill is closed.", "set 0 from 2024-03-05 to 2024-03-08"),
        ("It was decided yesterday that the mill will be closed on Friday.", "set 0 from 2024-03-08 to 2024-03-09"),
        ("Compared with last year, output will be capped at 9.", "cap 9"),
        ("The sensor was faulty yesterday from 08:00 to 14:00.", "ignore from 2024-03-05 08:00 to 2024-03-05 14:00"),
        ("The sensor had a glitch on Monday.", "ignore from 2024-03-04 to 2024-03-05"),
        ("The sensor malfunctioned two days ago.", "ignore from 2024-03-04 to 2024-03-05"),
    ],
)
def test_what_lasts_or_misleads_is_read_at_its_own_time(text, effects):
    assert write_effects(read_effects(text, window())) == effects


@pytest.mark.parametrize(
    ("text", "effects"),
    [
        ("The mill is closed on 8 March from 08:00 to 14:00.", "set 0 from 2024-03-08 08:00 to 2024-03-08 14:00"),
        ("On Friday until 14:00 the mill is closed.", "set 0 from 2024-03-08 to 2024-03-08 14:00"),
        ("On Thursday from 22:00 to 02:00 the mill is closed.", "set 0 from 2024-03-07 22:00 to 2024-03-08 02:00"),
    ],
)
def test_times_of_day_belong_to_the_day_that_their_sentence_names(text, effects):
    assert write_effects(read_effects(text, window())) == effects


def test_readers_that_assemble_get_no_effect_of_the_past_either():
    for text in (
        "On 2024-03-01 output is capped at 9.",
        "From 2024-03-01 sales fell by 20%.",
        "In 2022 it was capped at 9.",
    ):
        assert assemble(read_by_rules(text), TIMES, PAST) == []


NOVEMBER = Window(
    np.where(PAST_OF_MONTHS.month == 11, 5.0, 1.0) + PAST_OF_MONTHS.hour, PAST_OF_MONTHS,
    pd.date_range("2024-12-19", periods=48, freq="h"), 24,
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "effects"),
    [
        ("Output on 20 December is as in November.", "like November from 2024-12-20 to 2024-12-21"),
        ("Output will be like that of November.", "like November"),
        ("On Friday from 8 am to noon it is as on a Sunday.", "like Sunday from 2024-12-20 08:00 to 2024-12-20 12:00"),
        ("As in November, output is capped at 9 on Friday.", "cap 9 from 2024-12-20 to 2024-12-21"),
        ("Last week it was as in November.", ""),
        ("On Friday night it is as on a Sunday.", ""),
    ],
)
def test_what_is_like_a_weekday_or_a_month_is_read(text, effects):
    assert write_effects(read_effects(text, NOVEMBER)) == effects


def test_like_a_month_draws_from_its_steps():
    paths = apply_effects(NOVEMBER, parse_effects("like November from 2024-12-20 06:00"), np.zeros((3, 48)))
    assert (paths[:, :30] == 0).all()
    assert paths[:, 30:].tolist() == [[5.0 + hour for hour in range(6, 24)]] * 3
    other = apply_effects(NOVEMBER, parse_effects("like June"), np.zeros((3, 48)))
    assert (other == 0).all()  # the history holds no June


@pytest.mark.parametrize(
    ("said", "doubt"),
    [
        ("floor 951 from 2024-03-07 08:00 to 2024-03-07 10:00", "more than 10 times as large"),  # history to 95
        ("floor 950 from 2024-03-07 08:00 to 2024-03-07 10:00", ""),
        ("set 951 from 2024-03-07 08:00 to 2024-03-07 10:00", ""),
        ("cap 951 from 2024-03-07 08:00 to 2024-03-07 10:00", ""),
        ("cap -951 from 2024-03-07 08:00 to 2024-03-07 10:00", "more than 10 times as large"),
        ("cap -1", "cut off almost all of the history"),
        ("cap 5", ""),
    ],
)
def test_what_a_trained_reader_may_have_misread_is_left_out_with_its_reason(said, doubt):
    class Saying(EffectSpeaker):
        def speak(self, text, window):
            return parse_effects(said)

    told, idle = sort_effects("Whatever.", window(), Saying())
    assert [str(effect) for effect in told] == ([] if doubt else [said])
    assert len(idle) == bool(doubt)
    assert doubt in "".join(reason for _, reason in idle)
    if said.startswith("floor"):  # a history of zeros is no reason to believe it
        assert sort_effects("Whatever.", window(0 * window().past), Saying())[0] == []
    assert [str(e) for e in read_effects("Output is capped at -1.", window())] == ["cap -1"]  # the rules are obeyed


@pytest.mark.parametrize(
    ("text", "effects"),
    [
        ("Output will not exceed 60.", ["cap 60"]),
        ("It won't exceed 60.", ["cap 60"]),
        ("The price will not go above 60.", ["cap 60"]),
        ("Output will not fall below 70.", ["floor 70"]),
        ("Load won’t drop below 70.", ["floor 70"]),
        ("Output will not rise to 60.", []),
        ("It will not be closed.", []),
    ],
)
def test_what_will_not_be_passed_is_a_limit_and_what_will_not_be_is_nothing(text, effects):
    assert [str(e) for e in read_effects(text, window())] == effects

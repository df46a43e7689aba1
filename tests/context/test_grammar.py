"""The grammar of spoken effects: all that it lets through can be read, and all that can be said comes through."""

import doctest
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tsllm.context.grammar
import tsllm.context.language
import tsllm.context.listed
import tsllm.context.mentioned
import tsllm.context.spoken
from tests.context.test_further import make_days
from tests.context.test_gain import make_panel_events
from tsllm.context.applying import Window, apply_effects
from tsllm.context.effects import (
    DURATION,
    KINDS,
    MONTHS,
    NAME,
    NUMBER,
    PERCENT,
    SAYABLE,
    STATE,
    WEEKDAYS,
    Effect,
    parse_effects,
    write_effects,
)
from tsllm.context.events import KINDS as EVENTS
from tsllm.context.events import write_event
from tsllm.context.further import FURTHER
from tsllm.context.grammar import name_effects, open_answers
from tsllm.context.language import NEVER, Automaton, Word
from tsllm.context.mentioned import find_numbers, find_times
from tsllm.context.spoken import align, name_times, read_said, write_answer, write_said

TIMES = pd.date_range("2024-01-30 20:00", periods=16, freq="h")
WINDOW = Window(np.arange(10.0), TIMES[:10], TIMES[10:])


@pytest.mark.parametrize("module", ["grammar", "language", "listed", "mentioned", "spoken"])
def test_the_docstrings_hold(module):
    found = doctest.testmod(getattr(tsllm.context, module))
    assert found.attempted > 0
    assert found.failed == 0


def walk(answers, rng, most=4000, letters=""):
    """Writes one sentence at random, character by character."""
    said = "\n .:,=%-+_0123456789xéAJnone every from to for smindh"
    alphabet = sorted(letters or {*said, *"".join(KINDS), *"".join(WEEKDAYS + MONTHS)})
    text, place = "", answers.start()
    for _ in range(most):
        if answers.shortest(place) == 0 and rng.random() < 0.2:
            return text
        places = {c: answers.follow(place, c) for c in alphabet}
        allowed = [c for c in alphabet if answers.shortest(places[c]) < NEVER]
        if not allowed:
            assert answers.shortest(place) == 0, text  # no dead ends
            return text
        char = allowed[int(rng.integers(len(allowed)))]
        text, place = text + char, places[char]
    raise AssertionError("no end")


@pytest.mark.parametrize("kind", SAYABLE)
def test_whatever_the_grammar_lets_through_can_be_read_and_written_again(kind):
    answers, rng = open_answers(WINDOW, kinds=(kind,)), np.random.default_rng(0)
    for _ in range(60):
        said = walk(answers, rng)
        effects = read_said(said, WINDOW)
        assert effects is not None, said
        assert {e.kind for e in effects} <= {"multiply" if kind in PERCENT else kind}
        assert parse_effects(write_effects(effects)) == effects


numbers = st.one_of(st.floats(-1e279, 1e279), st.integers(-(10**18), 10**18).map(float), st.sampled_from([0.1, -0.0]))
words = st.text(st.characters(exclude_categories=("Z", "C"), exclude_characters=":=,"), min_size=1, max_size=9)
words = words.filter(lambda w: w not in ("from", "to", "for", "every"))
names = st.lists(words, min_size=1, max_size=8).map(" ".join)
everies = st.integers(1, 999999999).map(lambda s: pd.Timedelta(seconds=s))


@st.composite
def effects(draw):
    kind = draw(st.sampled_from(sorted(KINDS)))
    number, word, _ = KINDS[kind]
    times = WINDOW.past_times if kind == "ignore" else WINDOW.future_times
    first, last = sorted(draw(st.tuples(*[st.integers(0, len(times) - 1)] * 2)))
    start = times[first] if draw(st.booleans()) else None
    end = times[last] if draw(st.booleans()) and last > (first if start is not None else 0) else None
    every = draw(st.none() | everies) if start is not None and end is not None else None
    said = {"like": st.sampled_from(WEEKDAYS), "peak": st.sampled_from(MONTHS), "through": numbers.map(str)}
    points = ()
    if kind in ("follow", "states"):
        places = sorted(draw(st.sets(st.integers(0, len(TIMES) - 1), min_size=1, max_size=4)))
        points = tuple((TIMES[k], draw(names if kind == "states" else numbers)) for k in places)
    return Effect(
        kind, draw(numbers) if number else None, draw(said.get(kind, names)) if word else "", start, end, every, points
    )


@settings(deadline=None, max_examples=300)
@given(effects())
def test_every_effect_about_the_window_can_be_said_and_is_understood(effect):
    said = effect.write({t: name for name, t in name_times(WINDOW.future_times).items()})
    assert open_answers(WINDOW, kinds=tuple(KINDS)).accepts(f" {said}"), said
    assert read_said(said, WINDOW) == [effect]
    assert parse_effects(str(effect)) == [effect]


@settings(deadline=None)
@given(st.one_of(st.text("0123456789.-+e", max_size=12), st.text("0123456789. smindh", max_size=9), names,
                 st.text("fromtevy :=,x", max_size=12)))  # fmt: skip
def test_the_pattern_and_the_automaton_of_a_part_agree(text):
    for part in (NUMBER, DURATION, NAME, STATE, Word(":", ("to", "from"))):
        machine = Automaton()
        machine.close(part.build(machine, machine.first))
        assert machine.accepts(text) == (re.fullmatch(part.pattern, text) is not None), (part.pattern, text)


def test_what_cannot_be_written_is_no_effect():
    day = pd.Timestamp("2024-01-01")
    for options, message in (
        ({"kind": "cap", "number": 1e290}, "below 1e280"),
        ({"kind": "through", "number": 3.0, "word": "one"}, "takes a number behind its number, got 'one'"),
        ({"kind": "follow", "word": "load to sea", "points": ((day, 1.0),)}, "none of them `from`, `to`"),
        ({"kind": "follow", "word": "load", "points": ((day, float("nan")),)}, "it must be a finite number"),
        ({"kind": "states", "word": "sky", "points": ((day, "a, b"),)}, "words without `,` and `=`"),
        ({"kind": "set", "number": 0.0, "start": day, "end": day + pd.Timedelta("1h"),
          "every": pd.Timedelta(days=100_000)}, "at most 99999 d"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            Effect(**options)
    with pytest.raises(ValueError, match="'08:00' is no time; write 2024-01-18 or 2024-01-18 08:00"):
        parse_effects("set 0 from 08:00")
    with pytest.raises(ValueError, match="there is no effect 'double'"):
        open_answers(WINDOW, kinds=("double",))


def test_the_end_lies_behind_the_start_and_lines_are_counted():
    answers = open_answers(WINDOW, most=2)
    for said, expected in {
        " set 0 from 08:00 to 09:00": True, " set 0 from 08:00 to 08:00": False,
        " set 0 from 09:00 to 08:00": False, " set 0 to 06:00": False, " set 0 to 07:00": True,
        " set 0 from 05:00": False,  # history
        " set 0 from 12:00": False,  # beyond the horizon
        " set 0 from 08:00 for 90 min": True, " set 0 for 2 h": False, " set 0 from 08:00 to 09:00 for 2 h": False,
        " raise 20 %": True, " lower 5.5 % from 08:00": True, " raise 20": False, " cap 20 %": False,
        " none": True, " none\nset 0": False, " cap 1\nfloor 0": True, " cap 1\nfloor 0\ncap 1": False,
        " cap": False, " cap 1.5.1": False, "cap 1": False, "": False,
    }.items():  # fmt: skip
        assert answers.accepts(said) == expected, said


def test_names_of_moments_leave_out_what_all_of_them_share():
    for first, freq, expected in (
        ("2024-01-01", "h", ["00:00", "01:00", "02:00"]),
        ("2024-01-01 23:30", "30min", ["01 23:30", "02 00:00", "02 00:30"]),
        ("2024-01-31 23:00", "h", ["01-31 23:00", "02-01 00:00", "02-01 01:00"]),
        ("2024-01-30", "D", ["01-30", "01-31", "02-01"]),
        ("2023-12-31", "D", ["2023-12-31", "2024-01-01", "2024-01-02"]),
        ("2024-01-01 00:00:58", "s", ["00:00:58", "00:00:59", "00:01"]),
    ):
        assert list(name_times(pd.date_range(first, periods=3, freq=freq))) == expected


def test_effects_are_put_on_the_steps_that_they_change():
    lines = {
        "set 0 from 2024-01-31 07:10 to 2024-01-31 09:30": "set 0 from 08:00 to 10:00",
        "set 0 from 2024-01-31 to 2024-02-01": "set 0",
        "multiply 0.333333333333 from 2024-01-31 10:00": "multiply 0.333333 from 10:00",
        "set 0 from 2024-01-31 05:00 to 2024-01-31 07:00 every 3 h": "set 0 to 07:00\nset 0 from 08:00 to 10:00"
        "\nset 0 from 11:00",
        "set 0 from 2024-02-02 05:00": "none",
        "ignore to 2024-01-30 22:00": "ignore from 2024-01-30 20:00 to 2024-01-30 22:00",
        "ignore from 2024-01-31 04:00": "ignore from 2024-01-31 04:00 to 06:00",
    }
    for line, said in lines.items():
        told = parse_effects(line)
        assert write_said(told, WINDOW) == said
        if not line.startswith("ignore"):
            paths = np.arange(12.0).reshape(2, 6)
            again = apply_effects(WINDOW, read_said(said, WINDOW), paths)
            assert again == pytest.approx(apply_effects(WINDOW, told, paths), rel=1e-5)


def test_numbers_and_moments_come_from_the_text():
    assert dict(find_numbers("It halves, then rises by 15 % to 1,200.")) == {
        "add": ("1200", "-1200"), "cap": ("15", "1200"), "floor": ("15", "1200"), "lower": ("15",),
        "multiply": ("0.5", "1.5", "0.15", "1200"), "raise": ("15",), "set": ("0", "15", "1200"),
    }  # fmt: skip
    assert dict(find_numbers("Closed.")) == {"set": ("0",)}
    told = find_times("Closed on 31 January from 8 am for two hours.", WINDOW)
    assert pd.Timestamp("2024-01-31 08:00") in told
    assert pd.Timestamp("2024-01-31 03:00") not in told
    answers = open_answers(WINDOW, "Closed on 31 January from 8 am for two hours.")
    assert answers.accepts(" set 0 from 08:00 for 2 h")
    assert not answers.accepts(" set 0 from 08:00 for 3 h")
    assert not answers.accepts(" set 0 from 07:00 to 10:00")
    assert not answers.accepts(" cap 8")


def test_what_synthetic_texts_mean_can_be_said_with_what_they_mention():
    for held_out in (False, True):
        for event in make_panel_events(40, held_out=held_out):
            said = write_answer(write_said(event.effects, event.window, event.text))
            assert open_answers(event.window, event.text).accepts(said), (said, event.text)
            assert align(read_said(said, event.window), event.window) == align(event.effects, event.window)


def test_rises_falls_and_durations_are_read_as_factors_and_ends():
    for line, meant in {
        "raise 20 %": "multiply 1.2",
        "lower 55%": "multiply 0.45",
        "lower 12.5 % from 2024-01-31 07:00 for 90 min": "multiply 0.875 from 2024-01-31 07:00 to 2024-01-31 08:30",
        "set 0 from 2024-01-31 for 1 d": "set 0 from 2024-01-31 to 2024-02-01",
        "cap 3 from 2024-01-31 06:00 for 1 h every 3 h": "cap 3 from 2024-01-31 06:00 to 2024-01-31 07:00 every 3 h",
    }.items():
        assert write_effects(parse_effects(line)) == meant
    with pytest.raises(ValueError, match="`for` says how long from the start on: give `from` with it, and no `to`"):
        parse_effects("set 0 for 2 h")
    told = parse_effects("multiply 0.45 from 2024-01-31 10:00 to 2024-01-31 14:00")  # beyond the horizon
    text = "It falls by 55 % from 10 am for 4 hours; 45 % had been feared, and 3 hours."
    assert write_said(told, WINDOW, text) == "lower 55 % from 10:00 for 4 h"
    assert write_said(told, WINDOW) == "multiply 0.45 from 10:00"
    again = parse_effects("set 0 from 2024-01-31 07:00 to 2024-01-31 09:00 every 2 h")  # without a break
    assert write_said(again, WINDOW, "Closed from 7:00 for 2 hours, every two hours.") == "set 0 from 07:00"
    begun = parse_effects("raise 10 % from 2024-01-31 06:00 to 2024-01-31 08:00")
    assert write_said(begun, WINDOW, "Up 10 % from 6:00 to 8:00.") == "raise 10 % from 06:00 to 08:00"


@pytest.mark.parametrize("kind", [*EVENTS, *FURTHER])
def test_every_kind_of_event_can_be_said_with_what_its_text_offers_and_is_understood(kind):
    said_kinds, number = name_effects([kind]), 0
    for freq, days, h in (("1h", 5 if kind == "follow" else 35, 48), ("1D", 120, 14)):
        window = make_days(freq, days, h)
        for seed in range(6):
            event = write_event(window, np.linspace(40, 60, h), seed, seed % 2 == 0, False, kinds=[kind])
            if event is None:
                continue
            said = write_said(event.effects, event.window, event.text)
            answers = open_answers(event.window, event.text, said_kinds)
            assert answers.accepts(write_answer(said)), (said, event.text)
            again = read_said(said, event.window, text=event.text)
            assert align(again, event.window) == align(event.effects, event.window)
            number += 1
    assert number >= 5


@pytest.mark.parametrize("kind", ["delay", "trend", "fault", "like", "follow"])
def test_a_walk_through_what_a_text_offers_can_be_read(kind):
    window, rng = make_days(days=5 if kind == "follow" else 35), np.random.default_rng(0)
    event = write_event(window, np.linspace(40, 60, 48), 1, False, False, kinds=[kind])
    answers, seen = open_answers(event.window, event.text, name_effects([kind])[-1:]), set()
    letters = "".join(sorted({*event.text, *"".join(SAYABLE), *" none from to for smindh\n:.0123456789-"}))
    for _ in range(25):
        said = walk(answers, rng, letters=letters)
        effects = read_said(said, event.window, text=event.text)
        assert effects is not None, said
        seen |= {effect.kind for effect in effects}
    assert seen == {name_effects([kind])[-1]}


def test_delays_slopes_and_lists_are_copied_from_the_text():
    text = "From 9 am on all comes two hours later, and falls by 0.5 an hour."
    answers = open_answers(WINDOW, text, ("delay", "slope", "follow"))
    for said, expected in {
        " delay 2 from 09:00": True, " delay 3 from 09:00": False, " slope -0.5 from 09:00": True,
        " slope 0.7": False, " follow all": False,
    }.items():  # fmt: skip
        assert answers.accepts(said) == expected, said
    listed = "The price follows the wind speed: " + ", ".join(f"{t:%Y-%m-%d %H:%M}={k}" for k, t in enumerate(TIMES))
    answers = open_answers(WINDOW, listed, ("follow",))
    assert answers.accepts(" follow wind speed")
    assert not answers.accepts(" follow rain")
    assert not answers.accepts(" follow wind speed: 2024-01-31 08:00=5")
    (effect,) = read_said("follow wind speed", WINDOW, text=listed)
    assert effect.points == tuple((t, float(k)) for k, t in enumerate(TIMES))
    assert write_said([effect], WINDOW, listed) == "follow wind speed"
    assert read_said("follow wind speed", WINDOW) is None

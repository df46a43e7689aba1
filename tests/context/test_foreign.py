"""Events in German, French and Spanish: what is said is what is meant, and they stay out unless they are asked for."""

import re

import numpy as np
import pandas as pd
import pytest

from tests.context.test_gain import make_panel_events, make_window
from tsllm.context.applying import Window
from tsllm.context.effects import Effect
from tsllm.context.events import write_event, write_events
from tsllm.context.foreign import ForeignWriter
from tsllm.context.grammar import open_answers
from tsllm.context.spoken import write_answer, write_said
from tsllm.context.wordings_foreign import TONGUES


def make_events(language, freq="h", h=24, number=80):
    times = pd.date_range("2024-01-01", periods=168 + h * number, freq=freq)
    y = 50 + 20 * np.sin(np.arange(len(times)) * 2 * np.pi / 24)
    ends = list(range(168, len(times) - h + 1, h))
    return list(write_events(y, times, ends, 168, h, 24, 0, languages=[language]))


def write(language, seed, quiet=False):
    times = pd.date_range("2024-01-03", periods=96, freq="h")  # the horizon is Friday, 5 January, and the day after
    window = Window(40 + np.arange(48.0), times[:48], times[48:], 24)
    return write_event(window, np.full(48, 10.0), seed, False, quiet, language)


@pytest.mark.parametrize(
    ("language", "seed", "text", "effect"),
    [
        ("de", 0, "Der Preis beträgt durchgehend mindestens 46,2.", "floor 46.2"),
        ("de", 12, "Es gilt am Freitag zwischen 11:00 und 13:00 Uhr eine Obergrenze von 53,4. Der Markt wurde 1996 "
         "eröffnet.", "cap 53.4 from 2024-01-05 11:00 to 2024-01-05 13:00"),
        ("de", 11, "Der Preis liegt am 5. Januar 2024 zwischen 05:00 und 15:00 Uhr beim 0,6-fachen des Üblichen.",
         "multiply 0.6 from 2024-01-05 05:00 to 2024-01-05 15:00"),
        ("fr", 1, "Le prix est fixé à 61 du vendredi à 22:00 au 6 janvier 2024 à 08:00.",
         "set 61 from 2024-01-05 22:00 to 2024-01-06 08:00"),
        ("fr", 5, "Le prix est plafonné à 60,1 à partir du samedi à 11:00 pendant sept heures. Le marché a ouvert en "
         "1953.", "cap 60.1 from 2024-01-06 11:00 to 2024-01-06 18:00"),
        ("es", 13, "El mercado está cerrado del 6 de enero de 2024 a las 14:00 al sábado a las 22:00 y el precio es "
         "cero.", "set 0 from 2024-01-06 14:00 to 2024-01-06 22:00"),
    ],
)  # fmt: skip
def test_some_events_are_what_they_say(language, seed, text, effect):
    event = write(language, seed)
    assert event.text == text
    assert list(map(str, event.effects)) == [effect]


def test_numbers_are_those_of_the_text_and_the_truth_is_what_they_make_of_it():
    for language in TONGUES:
        for seed in range(60):
            event = write(language, seed)
            (effect,) = event.effects
            numbers = [float(n.replace(",", ".")) for n in re.findall(r"\d+(?:,\d+)?", event.text)]
            rises = [number for n in numbers for number in (1 + n / 100, 1 - n / 100)]
            assert min(abs(effect.number - n) for n in [*numbers, *rises, 0]) < 1e-9, event.text
            inside = effect.covers(event.window.future_times)
            assert (event.truth[~inside] == 10).all()
            if effect.kind == "multiply":
                assert event.truth[inside] == pytest.approx(10 * effect.number)


@pytest.mark.parametrize("language", sorted(TONGUES))
def test_every_kind_and_form_comes_up_in_words_of_the_language(language):
    tongue, events = TONGUES[language], make_events(language, number=120)
    told = [e for e in events if e.effects]
    assert 0.1 < 1 - len(told) / len(events) < 0.3
    assert {e.kind for event in told for e in event.effects} == {"multiply", "set", "cap", "floor"}
    text = " ".join(e.text for e in events)
    assert all(day in text for day in tongue.weekdays)
    assert any(f"{number} {tongue.units[1]}" in text for number in tongue.numbers)
    assert "{" not in text
    assert re.search(r"\d,\d", text)
    for event in told:
        assert open_answers(event.window).accepts(write_answer(write_said(event.effects, event.window)))


@pytest.mark.parametrize(("freq", "h"), [("30min", 48), ("D", 14)])
def test_other_steps_are_written_too(freq, h):
    for event in make_events("de", freq, h, 30):
        for effect in event.effects:
            assert effect.covers(event.window.future_times).any()
            if freq == "D" and effect.start is not None:
                assert not re.search(r"\d:\d\d", event.text)


def test_days_that_end_a_span_belong_to_it():
    times = pd.date_range("2024-01-01", periods=42, freq="D")
    window = Window(40 + np.arange(28.0), times[:28], times[28:], 7)
    seen = 0
    for seed in range(200):
        text, (effect, *_) = ForeignWriter(np.random.default_rng(seed), "de", window).write(False)
        named = re.search(r"(?:vom|zwischen dem) (\d+)\. (\w+) 2024 (?:bis zum|und dem) (\d+)\. (\w+) 2024", text)
        if named:
            first, last = (
                pd.Timestamp(2024, TONGUES["de"].months.index(named[k + 1]) + 1, int(named[k])) for k in (1, 3)
            )
            assert (effect.start, effect.end) == (first, last + pd.Timedelta(days=1)), text
            seen += 1
    assert seen > 10


def test_other_languages_are_held_out_unless_they_are_named():
    assert [e.text for e in make_panel_events(10)] == [e.text for e in make_panel_events(10, languages=["en"])]
    mixed = " ".join(e.text for e in make_panel_events(40, languages=["en", "de"]))
    assert " price " in mixed
    assert " Preis " in mixed
    assert " Preis " not in " ".join(e.text for e in make_panel_events(40))
    with pytest.raises(ValueError, match="not written in 'nl'; choose one of en, de, fr, es"):
        write_event(make_window(), np.ones(24), 0, False, False, "nl")
    assert write_event(make_window(), np.ones(24), 0, False, True, "fr").effects == []
    assert Effect("set", 0.0) not in write_event(make_window(), np.ones(24), 0, False, True, "es").effects

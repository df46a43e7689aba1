"""Further kinds of events: the truth is what the text says, there are many wordings, and some are held out."""

import re

import numpy as np
import pandas as pd
import pytest

from tests.context.test_gain import make_panel_events, make_window
from tsllm.context import wordings as stock
from tsllm.context import wordings_further as words
from tsllm.context import wordings_more as more
from tsllm.context import wordings_related as related
from tsllm.context.applying import Window, apply_effects, clean_history
from tsllm.context.effects import MONTHS
from tsllm.context.events import KINDS, write_event, write_events
from tsllm.context.following import spread_points
from tsllm.context.further import FURTHER, FurtherWriter
from tsllm.context.holidays import find_easter, name_holiday
from tsllm.context.lexer import find_mentions
from tsllm.context.moments import resolve_moment
from tsllm.context.pairs import Piece

DAYS = 35
HOUR = pd.Timedelta("1h")


def make_days(freq="1h", days=DAYS, h=48):
    """A history up to 24 December whose days differ by weekday; the horizon is Christmas Day and the day after."""
    step, day = pd.Timedelta(freq), pd.Timedelta(days=1)
    times = pd.date_range(pd.Timestamp("2024-12-25") - days * day, periods=days * day // step + h, freq=step)
    length = len(times) - h
    y = 50.0 + 20 * np.sin(times.hour.to_numpy() * np.pi / 12) + 3 * times.dayofweek.to_numpy()
    return Window(y[:length], times[:length], times[length:], max(1, day // step))


def write(kind, seed, held_out=False, window=None, future=None):
    window = make_days() if window is None else window
    h = len(window.future_times)
    return write_event(window, np.full(h, 10.0) if future is None else future, seed, held_out, False, kinds=[kind])


class Plain(FurtherWriter):
    """Writes nothing but the event."""

    def _write_background(self):
        return Piece("", [])

    def _write_distractor(self):
        return Piece("", [])


class ByTheHour(Plain):
    """Writes times of day in one way."""

    def _write_clock(self, t):
        return f"{t:%H:%M}"


def find_skeletons(kind, number, held_out=False, start=0):
    """Returns texts of a kind without openers, causes, numbers, moments, durations and listed points."""
    window, found = make_days(days=7 if kind == "follow" else DAYS), []
    for seed in range(start, start + number):
        text = Plain(seed, held_out, window, HOUR, np.full(48, 50.0)).write_kind(kind)[0].strip()
        if kind == "follow":  # the first listed point shows how points are written
            first = re.search(r"\(?\d", text).start()
            text = text[:first] + re.sub(r"\d+", "1", text[first:])[:12]
        for words_ in (sorted(stock.CAUSES, key=len, reverse=True), [o for o in stock.OPENERS if o]):
            text = re.sub("|".join(map(re.escape, words_)), "-", text, flags=re.IGNORECASE)
        for mention in reversed(find_mentions(text)):
            text = text[: mention.start] + "#" + text[mention.end :]
        found.append(text.strip("- ").lower())
    return found


@pytest.mark.parametrize(
    ("kind", "seed", "text", "effects", "truth"),
    [
        ("sum", 51, "We expect a plus of 15.30 for the 5 hours that follow Wednesday at 11:00.",
         ["add 15.3 from 2024-12-25 11:00 to 2024-12-25 16:00"], {(11, 16): 25.3}),
        ("bounds", 30, "It is known that over the entire horizon: the price neither falls below 45 nor exceeds 64.",
         ["floor 45", "cap 64"], {(0, 48): 45.0}),
        ("trend", 42, "We expect a steady decline by 0.47 every hour below normal from 03:00 until further notice.",
         ["slope -0.47 from 2024-12-25 03:00"], {3: 9.53, 4: 9.06, 12: 5.3, 47: 10 - 45 * 0.47}),
        ("periodic", 38, "Price is boosted by 8 % on each day from 3:00 pm for 2 hours.",
         ["multiply 1.08 from 2024-12-25 15:00 to 2024-12-25 17:00 every 1 d"],
         {(15, 17): 10.8, (39, 41): 10.8}),
        ("periodic", 51, "Note that the market is disconnected regularly from 9 pm to 11 pm on each Thursday.",
         ["set 0 from 2024-12-26 21:00 to 2024-12-26 23:00 every 7 d"], {(45, 47): 0.0}),
        # Wednesdays lie 6 above a sine around 50, Sundays 18.
        ("like", 57, "A storm falls on Thursday, so one should look at what a Wednesday brings.",
         ["like Wednesday from 2024-12-26 to 2024-12-27"], {24: 56.0, 30: 76.0, 42: 36.0}),
        ("holiday", 34, "Banks do not open on Christmas Day. A market abroad lost 88.1% within 8 weeks.",
         ["like Sunday from 2024-12-25 to 2024-12-26"], {0: 68.0, 6: 88.0, 18: 48.0}),
        ("lagged", 49,
         "3 hours after a court order at 12:00 pm on 26 December, 26.9 is added to the price for 6 hours.",
         ["add 26.9 from 2024-12-26 15:00 to 2024-12-26 21:00"], {(39, 45): 36.9}),
        ("lagged", 48,
         "A trade fair sets in at 2024-12-25 21:00, and after 3 hours price grows by 51% through 8 hours.",
         ["multiply 1.51 from 2024-12-26 to 2024-12-26 08:00"], {(24, 32): 15.1}),
        ("place", 48,
         "What the city across the river has seen comes to us on Thursday: with a fuel shortage the price fell by "
         "50 %.",
         ["multiply 0.5 from 2024-12-26 to 2024-12-27"], {(24, 48): 5.0}),
        ("place", 37,
         "With a broken turbine the price went to 2.7 times its level in a similar station. Let us assume as much for "
         "ourselves throughout 26 December 2024.",
         ["multiply 2.7 from 2024-12-26 to 2024-12-27"], {(24, 48): 27.0}),
    ],
)  # fmt: skip
def test_the_truth_is_ten_but_where_the_text_speaks(kind, seed, text, effects, truth):
    event = write(kind, seed)
    assert event.text == text
    assert list(map(str, event.effects)) == effects
    for steps, value in truth.items():
        inside = slice(*steps) if isinstance(steps, tuple) else steps
        assert event.truth[inside] == pytest.approx(value)
    inside = np.any([e.covers(event.window.future_times) for e in event.effects], axis=0)
    assert (event.truth[~inside] == 10).all()


def test_bounds_change_what_lies_outside_and_a_delay_moves_all_that_is_behind_it():
    course = np.arange(48.0)
    event = write("bounds", 51, future=5 * course)
    assert event.text == ("We expect a price between 42.68 and 67.32 for the 4 hours that follow 2024-12-25 13:00:00.")
    assert event.truth[12:18].tolist() == [60, 65, 67.32, 67.32, 67.32, 85]
    event = write("delay", 23, future=course)
    assert event.text == "All movements of the price are 5 hours late as of 11:00 am on 2024-12-25."
    assert event.truth.tolist() == [*range(11), 10, 10, 10, 10, 10, *range(11, 43)]


def test_a_fault_changes_the_history_alone_and_the_truth_goes_on():
    shapes, future = set(), np.arange(48.0)
    for seed in range(40):
        clean, event = make_days(), write("fault", seed, future=future)
        (effect,) = event.effects
        wrong = effect.covers(clean.past_times)
        assert effect.kind == "ignore"
        assert event.truth.tolist() == future.tolist()
        assert (event.window.past[~wrong] == clean.past[~wrong]).all()
        changed, told = event.window.past[wrong], event.text
        # Days differ by at most 18 in level, so a fault filled in from another day is no further away.
        assert np.abs(clean_history(event.window, event.effects) - clean.past).max() < 18.001
        if re.search("zero", told):
            assert (changed == 0).all()
            shapes.add("outage")
        elif re.search("spike|high|inflated|jumped|large|peak|drove|blew", told):
            assert (changed > clean.past[wrong] + 30).all()
            shapes.add("spike")
        else:
            assert (changed == clean.past[np.flatnonzero(wrong)[0] - 1]).all()
            shapes.add("stuck")
    assert shapes == {"outage", "spike", "stuck"}
    told = write("fault", 56)
    assert told.text == (
        "From 18:00 on 3 December for 9 hours: an error of transmission inflated the price. Treat them as missing."
    )
    assert list(map(str, told.effects)) == ["ignore from 2024-12-03 18:00 to 2024-12-04 03:00"]


def test_a_series_that_follows_another_goes_where_its_listed_values_say():
    plain, noise = make_days(days=5), np.random.default_rng(0).normal(0, 8, 168)
    window = Window(plain.past + noise[:120], plain.past_times, plain.future_times, 24)
    future = plain.past[-48:] + noise[120:]
    for seed in range(6):
        event = write("follow", seed, window=window, future=future)
        (effect,) = event.effects
        assert len(effect.points) == 5 * 24 + 48
        assert effect.word in event.text
        written = [f"{value:.3f}".rstrip("0").rstrip(".") for _, value in effect.points[-3:]]
        assert all(number in event.text for number in written)
        x = spread_points(effect.points, event.window.times)
        slope, level = np.polyfit(x[:120], event.window.past, 1)
        assert event.truth == pytest.approx(np.maximum(slope * x[120:] + level, 0), abs=0.2)
        assert np.abs(event.truth - future).max() > 3  # it is not the future as it came


@pytest.mark.parametrize("kind", [kind for kind in FURTHER if kind not in {"periodic", "follow", "holiday"}])
def test_moments_of_the_text_are_those_of_the_effects(kind):
    checked = 0
    for seed in range(60):
        window = make_days()
        event_text, effects = ByTheHour(seed, seed % 3 == 0, window, HOUR, np.ones(48)).write_kind(kind)
        if "after the start" in event_text or effects[0].start is None:
            continue
        moments, lengths = [], [0.0]
        for mention in find_mentions(event_text):
            if mention.text in MONTHS:
                continue  # of `month`, what it is like
            if mention.kind == "duration":
                lengths.append(mention.value)
            if mention.kind == "moment":
                after = moments[0] if moments else None
                on = resolve_moment(mention.text, window.future_times, after)
                moments += [] if on is None else [on.start]
        starts = {m + pd.Timedelta(seconds=a) for m in moments for a in lengths}
        assert effects[0].start in starts, event_text
        if effects[0].end is not None and kind != "like":
            ends = {s + pd.Timedelta(seconds=a) for s in starts for a in [*lengths, 86400]}
            assert effects[0].end in ends, event_text
        checked += 1
    assert checked > 20


@pytest.mark.parametrize("kind", FURTHER)
def test_every_kind_has_hundreds_of_texts_and_those_held_out_are_others(kind):
    seen, new = find_skeletons(kind, 250), find_skeletons(kind, 60, held_out=True)
    assert len(set(seen)) >= 150
    assert not set(seen) & set(new)
    assert not any("{" in text for text in [*seen, *new])


def list_stock():
    """Returns every list of wordings of the further kinds."""
    lists = [options for triple in words.EFFECTS.values() for options in triple] + list(words.FAULTS.values())
    lists += related.TOLD.values()
    values = [*vars(words).values(), *vars(related).values()]
    return lists + [v for v in values if isinstance(v, tuple) and v and isinstance(v[0], (str, tuple))]


def test_no_wording_that_is_held_out_stands_in_the_part_for_training():
    trained = {o for options in list_stock() for k, o in enumerate(options) if k % 5 != 4}
    for module in (stock, more):
        for value in vars(module).values():
            trained |= {o for o in value if isinstance(o, str)} if isinstance(value, tuple) else set()
        for triple in module.EFFECTS.values():
            trained |= {o for options in triple for o in options}
    shared = set(stock.SPAN_FORMS + stock.SPAN_VERBS)  # lists of short phrases overlap between stocks
    for options in list_stock():
        assert len(set(options)) == len(options)
        assert len(options) >= 5
        assert not set(options[4::5]) & (trained - shared), options


def test_each_writer_keeps_to_its_part_of_the_stock():
    picked = {True: set(), False: set()}

    class Spy(FurtherWriter):
        def _pick(self, options, free=False, extra=(), form=False):
            option = super()._pick(options, free, extra, form)
            if not free and len(options) >= 5 and isinstance(options, tuple) and isinstance(options[0], str):
                picked[self.held_out].add((options, option))
            return option

    for held_out in (True, False):
        for kind in FURTHER:
            small = make_days(days={"follow": 5, "month": DAYS}.get(kind, 14))
            for seed in range(40):
                Spy(seed, held_out, small, HOUR, np.full(48, 50.0)).write_kind(kind)
    assert not picked[True] & picked[False]
    assert len(picked[True]) > 60


@pytest.mark.parametrize(("freq", "days", "h"), [("30min", 16, 48), ("1D", 120, 14), ("12h", 60, 14)])
def test_other_steps_are_written_too(freq, days, h):
    window, possible = make_days(freq, days, h), set()
    for kind in FURTHER:
        for seed in range(12):
            event = write(kind, seed, window=window)
            if event is None:
                continue
            possible.add(kind)
            if kind == "fault":
                assert event.effects[0].covers(window.past_times).sum() >= 2
                continue
            assert all(e.covers(window.future_times).any() for e in event.effects)
            assert event.truth == pytest.approx(apply_effects(window, event.effects, np.full((1, h), 10.0))[0])
    assert possible == set(FURTHER) - ({"follow", "month"} if freq == "30min" else set())


def test_further_kinds_stay_out_unless_they_are_named():
    plain = make_panel_events(15)
    assert [e.text for e in plain] == [e.text for e in make_panel_events(15, kinds=KINDS)]
    assert not {e.kind for event in plain for e in event.effects} & {"add", "slope", "delay", "like", "follow"}
    mixed = make_panel_events(60, kinds=("set", "sum", "trend", "holiday"))
    assert {e.kind for event in mixed for e in event.effects} == {"set", "add", "slope"}
    assert 4 <= sum(not event.effects for event in mixed) <= 22
    assert [e.text for e in mixed] == [e.text for e in make_panel_events(60, kinds=("set", "sum", "trend", "holiday"))]
    for event in mixed:
        if not event.effects:
            assert event.truth.tolist() == write_event(event.window, event.truth, 0, False, True).truth.tolist()


def test_what_cannot_be_written_is_refused():
    with pytest.raises(ValueError, match=r"events have no kind 'sums'; choose of multiply, .*, sum, bounds"):
        write_event(make_window(), np.ones(24), 0, False, False, kinds=["sums"])
    with pytest.raises(ValueError, match="no kind of event is asked for; choose of"):
        list(write_events(np.ones(200), pd.date_range("2024", periods=200, freq="h"), [100], 48, 24, 24, 0, kinds=[]))
    with pytest.raises(ValueError, match="in English alone; leave kinds out, or de"):
        write_event(make_window(), np.ones(24), 0, False, False, "de", kinds=["sum"])
    assert write_event(make_window(), np.ones(24), 0, False, False, kinds=["holiday"]) is None
    window = make_days()
    flat = Window(np.ones(len(window.past)), window.past_times, window.future_times, 24)
    assert write("bounds", 0, window=flat) is None
    with pytest.raises(ValueError, match="kind 'bounds' has no place in this window; ask find_kinds first"):
        FurtherWriter(0, False, flat, HOUR, np.ones(48)).write_kind("bounds")


def test_times_of_day_are_those_of_the_clock():
    writer, written = FurtherWriter(0, False, make_days(), HOUR, np.ones(48)), {}
    for clock in ("00:00", "09:30", "12:00", "23:00"):
        written[clock] = {writer._write_clock(pd.Timestamp(f"2024-12-25 {clock}")) for _ in range(60)}
    assert written == {
        "00:00": {"00:00", "12:00 am", "12 am"}, "09:30": {"09:30", "9:30 am"},
        "12:00": {"12:00", "12:00 pm", "12 pm", "noon"}, "23:00": {"23:00", "11:00 pm", "11 pm"},
    }  # fmt: skip
    lengths = {writer._write_length(pd.Timedelta(minutes=m)) for m in (90, 60, 2880) for _ in range(40)}
    assert lengths == {"90 minutes", "an hour", "one hour", "1 hour", "2 days", "two days"}


def test_easter_and_the_days_that_go_by_it():
    for date in ("1961-04-02", "2000-04-23", "2019-04-21", "2024-03-31", "2038-04-25"):
        assert find_easter(int(date[:4])) == pd.Timestamp(date)
    assert name_holiday(pd.Timestamp("2024-05-09 12:00")) == "Ascension Day"
    assert name_holiday(pd.Timestamp("2024-12-25")) == "Christmas Day"
    assert name_holiday(pd.Timestamp("2024-12-24")) is None

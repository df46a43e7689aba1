"""The reward of spoken effects: values worked by hand, the reward audit, and what a language model could try."""

import doctest

import numpy as np
import pandas as pd
import pytest
import torch

import tsllm.context.gain
from tsllm.context.applying import Window
from tsllm.context.effects import parse_effects
from tsllm.context.events import EventWriter, write_event, write_events
from tsllm.context.further import FURTHER
from tsllm.context.gain import EffectsGain
from tsllm.context.spoken import align, read_said, write_said
from tsllm.rl.audit import audit_reward
from tsllm.rl.rewards.base import Reward

TIMES = pd.date_range("2024-01-01", periods=200, freq="h")


def make_window(season=24):
    past = 10 + 4 * np.sin(np.arange(144) * 2 * np.pi / 24) + np.random.default_rng(0).normal(size=144)
    return Window(past, TIMES[:144], TIMES[144:168], season)


def test_the_docstring_holds():
    assert doctest.testmod(tsllm.context.gain).failed == 0


def test_a_gain_worked_by_hand():
    # Two paths, 8 and 12, for a truth of 20: CRPS = mean(|8 - 20|, |12 - 20|) - |8 - 12| / 4 = 10 - 1 = 9.
    window = Window(np.array([1.0, 3.0, 1.0, 3.0, 1.0]), TIMES[:5], TIMES[5:7])  # scale 2
    reward = EffectsGain(bound=10, cost=0.5, samples=2, base=lambda past, n: np.array([[8.0, 8.0], [12.0, 12.0]]))
    truth = np.array([20.0, 20.0])
    assert reward(window, truth, "none") == 0
    # 16 and 24: mean(4, 4) - 8 / 4 = 2, so (9 - 2) / 2 - 0.5 = 3.
    assert reward(window, truth, "multiply 2") == pytest.approx(3.0)
    # The second step alone: (9 - (9 + 2) / 2) / 2 - 0.5 = 1.25.
    assert reward(window, truth, f"multiply 2 from {TIMES[6]}") == pytest.approx(1.25)
    # 18 and 22: mean(2, 2) - 1 = 1; two lines cost twice.
    assert reward(window, truth, "add 5\nadd 5") == pytest.approx((9 - 1) / 2 - 1)
    # The truth itself: no error left.
    assert reward(window, truth, "set 20") == pytest.approx(9 / 2 - 0.5)
    # Half of it: 4 and 6: mean(16, 14) - 2 / 4 = 14.5.
    assert reward(window, truth, "multiply 0.5") == pytest.approx((9 - 14.5) / 2 - 0.5)
    assert reward(window, truth, "set -1e6") == -10
    # A line that says nothing about the horizon costs and gains nothing.
    assert reward(window, truth, "set 0 to 2024-01-01 01:00") == pytest.approx(-0.5)


def test_what_is_right_beats_silence_and_silence_what_is_wrong():
    reward, window = EffectsGain(), make_window()
    future = 10 + 4 * np.sin(np.arange(144, 168) * 2 * np.pi / 24)
    truth = future.copy()
    truth[8:14] *= 3
    right = f"multiply 3 from {TIMES[152]} to {TIMES[158]}"
    late = f"multiply 3 from {TIMES[160]} to {TIMES[166]}"
    other = f"multiply 0.3 from {TIMES[152]} to {TIMES[158]}"
    scores = {said: reward(window, truth, said) for said in (right, "none", late, other)}
    assert scores[right] > 1 > scores["none"] == 0 > scores[late]
    assert scores[other] < 0
    drawn = reward.draw(window)
    assert [reward(window, truth, said, drawn) for said in scores] == list(scores.values())
    strict = EffectsGain(silence=0.5)
    assert [strict(window, truth, "none", drawn, told=told) for told in (True, False)] == [-0.5, 0.0]
    assert strict(window, truth, right, drawn, told=True) == scores[right]


@pytest.mark.parametrize(
    "said",
    ["", "half of it", "multiply", "set nan", "set 1e999", "none\nset 3", "set 3 from tomorrow", "explode 3",
     "cap 3 from 2024-01-02 to 2024-01-01", "\n".join(["add 0"] * 9), "set 3.", "multiply 1e300",
     "multiply 1e200\nmultiply 1e200"],
)  # fmt: skip
def test_what_cannot_be_read_or_carried_out_gets_the_floor(said):
    reward, window = EffectsGain(), make_window()
    expected = -3.0 if said != "set 3." else reward(window, np.full(24, 10.0), "set 3")
    assert reward(window, np.full(24, 10.0), said) == expected


class Spoken(Reward):
    """A numeric forecast as the effects that write it down, a step a line: all attacks are lists of `set`."""

    low, high = -3.0, 3.0

    def _paths(self, problem):
        gain, out = EffectsGain(most=problem.samples.shape[-1]), []
        for past, truth, group in zip(problem.history, problem.target, problem.samples, strict=True):
            length, h = len(past), len(truth)
            times = pd.date_range("2024-01-01", periods=length + h, freq="h")
            window = Window(past.double().numpy(), times[:length], times[length:], problem.season)
            drawn = gain.draw(window)
            for forecast in group.double().tolist():
                said = "\n".join(
                    f"set {x!r} from {t} to {t + times.freq}" for x, t in zip(forecast, times[length:], strict=True)
                )
                out.append(gain(window, truth.double().numpy(), said, drawn))
        return torch.tensor(out, dtype=problem.samples.dtype).view(problem.samples.shape[:2])


def test_the_reward_audit_finds_no_way_round_the_truth():
    audit = audit_reward(Spoken(), horizon=6, season=6, cases=3, honest=2)
    assert audit.passed, audit.problems
    margins = {result.attack: result.margin for result in audit.results}
    for constant in ("zeros", "history_mean", "truth_mean", "last_value", "extreme_high", "extreme_low"):
        assert margins[constant] > 0, constant
    assert {r.attack: r.reward for r in audit.results}["unparsable"] == -3.0


def make_panel_events(number, **options):
    rng, hours = np.random.default_rng(1), 24 * 60
    y = 50 + 20 * np.sin(np.arange(hours) * 2 * np.pi / 24) + 5 * rng.normal(size=hours)
    times = pd.date_range("2024-01-01", periods=hours, freq="h")
    ends = list(range(168, hours - 24, 24))[:number]
    return list(write_events(y, times, ends, 168, 24, 24, seed=0, **options))


def test_no_edit_that_ignores_the_text_pays():
    """Over many events what the text says gains most; no constant and no tinkering with the base gains anything."""
    reward, events = EffectsGain(), make_panel_events(30)
    assert 3 <= sum(not event.effects for event in events) <= 12
    blind = ("none", "set 50", "set 0", "multiply 1.01", "add 1", "add -1", "cap 70", "floor 30", "multiply 2",
             "cap 60\nfloor 40", "delay 1", "set 49.8\nset 50")  # fmt: skip
    drawn = [reward.draw(event.window) for event in events]
    mean = {
        said: np.mean([reward(e.window, e.truth, said, d) for e, d in zip(events, drawn, strict=True)])
        for said in blind
    }
    told = np.mean(
        [reward(e.window, e.truth, write_said(e.effects, e.window), d) for e, d in zip(events, drawn, strict=True)]
    )
    assert mean.pop("none") == 0
    assert told > 0.2
    assert max(mean.values()) < 0, mean


@pytest.mark.parametrize("kind", FURTHER)
def test_of_every_further_kind_the_truth_earns_most(kind):
    """Constants, copies, the effects of other events and what moves everything earn less than what is true."""
    days, h = (5, 48) if kind == "follow" else (35, 48)
    reward, told, mean = EffectsGain(samples=30), [], {}
    events = [make_further_event(kind, seed, days, h) for seed in range(10)]
    events = [event for event in events if event is not None]
    for k, event in enumerate(events):
        window, drawn = event.window, reward.draw(event.window)
        level = float(np.mean(event.truth))
        past = [f"{t:%Y-%m-%d %H:%M}" for t in (window.past_times[0], window.past_times[-24])]
        other = events[(k + 1) % len(events)]
        attacks = {
            "constant": f"set {level!r}", "last": f"set {window.past[-1]!r}", "late": "delay 24", "slope": "slope 0.1",
            "forget": f"ignore from {past[0]} to {past[1]}", "other": write_said(other.effects, other.window),
            "permuted": "\n".join(f"set {x!r} from {t} for 12 h" for x, t in zip(
                event.truth[[40, 28, 16, 4]].tolist(), window.future_times[[0, 12, 24, 36]], strict=True)),
        }  # fmt: skip
        told.append(reward(window, event.truth, write_said(event.effects, window, event.text), drawn, text=event.text))
        for name, said in attacks.items():
            mean.setdefault(name, []).append(reward(window, event.truth, said, drawn))
    means = {name: np.mean(scores) for name, scores in mean.items()}
    assert np.mean(told) > max(means.values()), (np.mean(told), means)
    assert np.mean(told) > 0


def make_further_event(kind, seed, days, h):
    times = pd.date_range(pd.Timestamp("2024-12-25") - pd.Timedelta(days=days), periods=24 * days + h, freq="h")
    noise = np.random.default_rng(seed).normal(size=len(times))
    y = 50 + 20 * np.sin(times.hour.to_numpy() * np.pi / 12) + 8 * (times.dayofweek.to_numpy() >= 5) + 3 * noise
    y += 15 * (times.month == 11).astype(float) if kind == "month" else 0.0
    window = Window(y[:-h], times[:-h], times[-h:], 24)
    return write_event(window, y[-h:], seed, False, False, kinds=[kind])


def test_events_are_what_their_effects_say():
    for event in make_panel_events(20, held_out=True):
        assert parse_effects("\n".join(map(str, event.effects))) == event.effects
        for text in ("", event.text):
            said = read_said(write_said(event.effects, event.window, text), event.window)
            assert align(said, event.window) == align(event.effects, event.window)
        plain = EffectsGain(base=lambda past, n: np.zeros((n, 24)))
        assert plain(event.window, event.truth, "none") == 0
    again, other = make_panel_events(20), make_panel_events(20, held_out=True)
    assert [e.text for e in again] == [e.text for e in make_panel_events(20)]
    assert not {e.text for e in again if e.effects} & {e.text for e in other if e.effects}


def test_events_have_a_step_of_minutes_to_a_day_and_the_rest_is_refused():
    for freq, steps in (("W", 24), ("MS", 24), ("h", 7), ("7h", 24)):
        times = pd.date_range("2024-01-01", periods=100 + steps, freq=freq)
        window = Window(np.ones(100), times[:100], times[100:], 7)
        with pytest.raises(ValueError, match="events are written for at least 8 steps ahead"):
            EventWriter(0, False, window)
    gaps = np.r_[np.ones(150), np.nan, np.ones(49)]
    assert list(write_events(gaps, TIMES, [160], 48, 24, 24, 0)) == []
    quiet = write_event(make_window(), np.ones(24), 3, False, True)
    assert quiet is None or quiet.truth.tolist() == [1.0] * 24
    with pytest.raises(ValueError, match="truth has shape"):
        EffectsGain()(make_window(), np.ones(23), "none")
    for options in ({"bound": 0}, {"cost": -1}, {"samples": True}, {"most": float("inf")}):
        with pytest.raises(ValueError, match="effects_gain: "):
            EffectsGain(**options)

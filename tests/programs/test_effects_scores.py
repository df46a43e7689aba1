"""Scores of readers that say effects, beside their start and the rules: on the same events, day by day."""

import numpy as np
import pandas as pd
import pytest

from tsllm.context.applying import Window
from tsllm.context.effects import Effect
from tsllm.context.events import Event
from tsllm.context.gain import EffectsGain
from tsllm.programs.effects_scores import compare, compare_rewards, compare_with_rules, score_reader


def make_rows(rewards, days=("1", "1", "2", "3"), rules=0.0):
    text = [f"text {k}" for k in range(len(rewards))]
    return pd.DataFrame({"day": days, "text": text, "reward": rewards, "rules": rules})


def test_rewards_are_compared_event_by_event_and_those_of_a_day_flip_together():
    found = compare_rewards(make_rows([1.0, 2.0, 1.0, 0.0]), make_rows([0.0, 0.0, 2.0, -1.0]))
    # Day sums 3, -1, 1: of the eight ways to flip them, those with a sum of at least 3 in size are 3+1+1 = 5,
    # 3-1+1 = 3 (the data) and 3+1-1 = 3, each with its opposite: six.
    assert found["difference"] == pytest.approx(3 / 4)
    assert found["p"] == 6 / 8
    assert (found["events"], found["days"]) == (4, 3)
    assert found["low"] <= found["difference"] <= found["high"]
    assert compare_rewards(make_rows([1.0] * 4), make_rows([0.0] * 4)) == {
        "difference": 1.0, "low": 1.0, "high": 1.0, "p": 2 / 8, "events": 4, "days": 3,
    }  # fmt: skip


def test_readers_of_other_events_are_not_compared():
    with pytest.raises(ValueError, match="on the same events alone, in the same order"):
        compare_rewards(make_rows([1.0] * 4), make_rows([1.0] * 3, ("1", "1", "2")))
    with pytest.raises(ValueError, match="on the same events alone"):
        compare_rewards(make_rows([1.0] * 4), make_rows([1.0] * 4, ("1", "1", "2", "4")))


class Says:
    """A reader whose answers are given."""

    def __init__(self, *said):
        self.said = list(said)

    def ask(self, window, text):
        return text

    def say(self, requests):
        assert len(requests) == len(self.said)
        return self.said


def make_events():
    times = pd.date_range("2024-01-01", periods=6, freq="h")
    y = np.array([10.0, 14.0, 10.0, 14.0])
    window = Window(y, times[:4], times[4:])
    told = Event(window, "Output is capped at 6.", [Effect("cap", 6.0)], np.array([6.0, 6.0]))
    return [told, Event(window, "It is winter.", [], np.array([10.0, 14.0]))]


def test_scores_are_means_over_events_and_stand_beside_start_and_rules():
    gain, events = EffectsGain(base=lambda past, n: np.full((n, 2), 12.0)), make_events()
    quiet, right = (score_reader(Says(said, "none"), events, gain) for said in ("none", "cap 6"))
    scores, rows = right
    best = 6 / 4 - 0.02
    assert (scores["reward"], scores["told"], scores["quiet"]) == pytest.approx((best / 2, best, 0.0))
    assert (scores["written"], scores["rules"]) == pytest.approx((best / 2, best / 2))
    assert (scores["exact"], scores["kinds"], scores["silent"], scores["readable"]) == (1.0, 1.0, 0.5, 1.0)
    assert rows["said"].tolist() == rows["meant"].tolist() == ["cap 6", "none"]
    assert rows["reward"].tolist() == pytest.approx([best, 0.0])
    assert rows["day"].tolist() == ["2024-01-01 04:00:00"] * 2
    changed = compare(
        {"start": {"seen": quiet[0]}, "test": {"seen": scores}}, {"start": {"seen": quiet[1]}, "test": {"seen": rows}}
    )
    assert changed["seen"]["silent"] == -0.5
    assert changed["seen"]["reward"] == pytest.approx(best / 2)
    assert changed["seen"]["paired"]["difference"] == pytest.approx(best / 2)
    assert compare_with_rules({"seen": rows})["seen"]["difference"] == 0.0
    assert compare_with_rules({"seen": quiet[1]})["seen"]["difference"] == pytest.approx(-best / 2)
    assert compare({"test": {}}, {}) is None


def test_what_cannot_be_read_has_the_floor_and_changes_nothing_where_it_is_used():
    gain = EffectsGain(base=lambda past, n: np.full((n, 2), 12.0))
    scores, rows = score_reader(Says("cap", "cap 6\n..."), make_events(), gain)
    assert (scores["readable"], scores["reward"], scores["used"], scores["silent"]) == (0.0, -3.0, 0.0, 0.0)
    assert rows["said"].tolist() == ["cap", "cap 6; ..."]

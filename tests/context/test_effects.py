"""Effects: their grammar, and worked numbers of what they do to paths."""

import numpy as np
import pandas as pd
import pytest

from tsllm.context.applying import Window, apply_effects, clean_history, draw_with_effects
from tsllm.context.blind import draw_blind
from tsllm.context.effects import KINDS, Effect, parse_effects, write_effects


def window(past=(1.0, 2.0, 3.0, 4.0), h=4, season=1, freq="h"):
    times = pd.date_range("2024-01-01", periods=len(past) + h, freq=freq)
    return Window(np.array(past, float), times[: len(past)], times[len(past) :], season)


def change(text, paths=None, **options):
    w = window(**options)
    paths = np.array([[1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 30.0, 40.0]]) if paths is None else paths
    return apply_effects(w, parse_effects(text), paths).tolist()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("multiply 4 from 2024-01-01 05:00 to 2024-01-01 07:00", [[1, 8, 12, 4], [10, 80, 120, 40]]),
        ("add -2.5", [[-1.5, -0.5, 0.5, 1.5], [7.5, 17.5, 27.5, 37.5]]),
        ("set 0 to 2024-01-01 05:00", [[0, 2, 3, 4], [0, 20, 30, 40]]),
        ("set 7 from 2024-01-01 04:00 to 2024-01-01 05:00 every 2 h", [[7, 2, 7, 4], [7, 20, 7, 40]]),
        ("cap 15", [[1, 2, 3, 4], [10, 15, 15, 15]]),
        ("floor 3 from 2024-01-01 06:00", [[1, 2, 3, 4], [10, 20, 30, 40]]),
        ("slope 1 from 2024-01-01 06:00", [[1, 2, 4, 6], [10, 20, 31, 42]]),
        ("delay 1 from 2024-01-01 05:00", [[1, 1, 2, 3], [10, 10, 20, 30]]),
        ("delay -1 from 2024-01-01 05:00", [[1, 3, 4, 4], [10, 30, 40, 40]]),
        ("delay -1 from 2024-01-01 05:00 to 2024-01-01 07:00", [[1, 3, 4, 4], [10, 30, 40, 40]]),
        ("delay -9 from 2024-01-01 04:00 to 2024-01-01 06:00", [[3, 3, 3, 4], [30, 30, 30, 40]]),
        ("delay 9 from 2024-01-01 05:00", [[1, 1, 1, 1], [10, 10, 10, 10]]),
        ("multiply 2\nadd 1", [[3, 5, 7, 9], [21, 41, 61, 81]]),
        ("cap 15\nadd 10", [[11, 12, 13, 14], [15, 15, 15, 15]]),  # bounds act last
    ],
)
def test_an_effect_does_what_it_says(line, expected):
    assert change(line) == expected


def test_no_effect_is_the_identity_bit_for_bit():
    w = window(past=np.arange(30.0) % 7, h=5, season=7)
    base = draw_blind(w.past, w.times, 5, 7, n=20, seed=3)
    assert np.array_equal(draw_with_effects(w, [], n=20, seed=3), base)
    assert np.array_equal(apply_effects(w, [], base), base)


def test_the_paths_given_stay_as_they_are():
    paths = np.ones((2, 4))
    apply_effects(window(), parse_effects("set 9"), paths)
    assert (paths == 1).all()


def test_ignored_steps_take_the_nearest_value_of_their_phase():
    w = window(past=[1, 2, 3, 1, 99, 3, 1, 2, 3], season=3)
    cleaned = clean_history(w, parse_effects("ignore from 2024-01-01 04:00 to 2024-01-01 05:00"))
    assert cleaned.tolist() == [1, 2, 3, 1, 2, 3, 1, 2, 3]
    assert w.past[4] == 99
    line = clean_history(window(past=[1, 99, 3, 4]), parse_effects("ignore from 2024-01-01 01:00 to 2024-01-01 02:00"))
    assert line.tolist() == [1, 2, 3, 4]


def test_like_draws_from_that_day_at_the_same_hour():
    times = pd.date_range("2024-01-01", periods=15 * 24, freq="h")  # two weeks, then a Monday
    past = np.where(times[: 14 * 24].dayofweek >= 5, 100.0, 1.0) + times[: 14 * 24].hour
    w = Window(past, times[: 14 * 24], times[14 * 24 :], 24)
    paths = apply_effects(w, parse_effects("like Sunday from 2024-01-15 06:00 to 2024-01-15 08:00"), np.zeros((3, 24)))
    assert paths[:, 6:8].tolist() == [[106.0, 107.0]] * 3
    assert (np.delete(paths, [6, 7], axis=1) == 0).all()


def test_following_a_companion_finds_a_linear_law_with_a_lag():
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=30), 4)
    y = np.zeros(120)
    for t in range(1, 120):
        y[t] = 0.5 * y[t - 1] + 2 * x[t - 1]
    times = pd.date_range("2024-01-01", periods=120, freq="D")
    points = tuple(zip(times, x.tolist(), strict=True))
    w = Window(y[:100], times[:100], times[100:])
    paths = apply_effects(w, [Effect("follow", None, "x", points=points)], np.zeros((20, 20)))
    assert np.abs(np.median(paths, 0) - y[100:]).max() < 0.05


@pytest.mark.parametrize("unit", ["s", "us", "ns"])
def test_a_state_scales_the_best_of_its_phase(unit):
    times = pd.date_range("2024-01-01", periods=72, freq="h", unit=unit)
    bright = np.tile(np.where((np.arange(24) > 6) & (np.arange(24) < 18), 100.0, 0.0), 3)
    cloudy = (np.arange(72) // 6) % 2 == 1
    y = np.where(cloudy, 0.2 * bright, bright)
    y[24:48] = np.where(cloudy[24:48], bright[24:48], 0.2 * bright[24:48])
    points = [(times[t], ("cloudy" if y[t] < bright[t] else "clear")) for t in range(48)]
    points += [(times[48], "clear"), (times[60], "cloudy")]
    w = Window(y[:48], times[:48], times[48:], 24)
    paths = apply_effects(w, [Effect("states", None, "sky", points=tuple(points))], np.zeros((5, 24)))
    assert paths[:, 8].tolist() == [100.0] * 5
    assert paths[:, 14] == pytest.approx([20.0] * 5)


@pytest.mark.parametrize("unit", ["s", "us", "ns"])
def test_a_total_over_a_year_is_met_on_average(unit):
    times = pd.date_range("2023-01-01", periods=24, freq="MS", unit=unit)
    w = Window(np.full(12, 10.0), times[:12], times[12:])
    paths = apply_effects(w, parse_effects("total 120\npeak July"), np.zeros((2000, 12)))
    assert paths.sum(1).mean() == pytest.approx(120, rel=0.05)
    assert paths.mean(0).argmax() == 6


def test_effects_that_read_the_history_refuse_gaps():
    w = window(past=[1, np.nan, 3, 4])
    with pytest.raises(ValueError, match="effect 'like' reads the history, which misses values"):
        apply_effects(w, parse_effects("like Sunday"), np.zeros((2, 4)))


EVERY_KIND = """multiply 4 from 2013-05-28 12:00 to 2013-05-28 14:00
add -2.5
set 0 from 2024-01-18 08:00:07 to 2024-01-18 14:00 every 90 min
cap 13.2
floor 0.6
delay 3 from 2024-01-01
slope 1e-05
total 99
peak June
like Sunday from 2024-07-04 to 2024-07-05
ignore from 2024-01-16 06:00 to 2024-01-16 07:00 every 15 d
daylight
follow covariate X_1: 2024-01-01=0.1, 2024-01-02=-0.4
through 3000 1.0
states sky: 2024-01-01=clear, 2024-01-02 12:00=partly cloudy"""


def test_writing_and_parsing_are_inverse_for_every_kind():
    effects = parse_effects(EVERY_KIND)
    assert write_effects(effects) == EVERY_KIND
    assert {effect.kind for effect in effects} == set(KINDS)
    assert parse_effects(write_effects(effects)) == effects
    assert parse_effects("") == []
    assert write_effects([]) == ""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("explode 3", "there is no effect 'explode'"),
        ("raise 20", "write `raise 20 %`, or `add 20` for an amount"),
        ("lower 3.5 from 2024-01-02", "write `lower 3.5 %`, or `add -3.5` for an amount"),
        ("raise by 7 %", "write `raise 7 %`, or `add 7` for an amount"),
        ("lower", "write `lower 20 %`, or `add -20` for an amount"),
        ("multiply", "takes a number"),
        ("cap 3 high", "takes a number and no word"),
        ("like Someday", "takes one of Monday"),
        ("set 0 from 2024-01-02 to 2024-01-01", "ends .* before it starts"),
        ("set 0 every 2 h", "needs `from`, `to`"),
        ("follow x: 2024-01-01", "is not TIME=value"),
        ("cap 3: 2024-01-01=3", "only `follow` and `states`"),
    ],
)
def test_a_wrong_line_is_named(line, message):
    with pytest.raises(ValueError, match=message) as error:
        parse_effects(f"add 1\n{line}")
    assert "line 2" in str(error.value)

"""The score of Context is Key: by hand, by brute force, and at its edges."""

from fractions import Fraction

import numpy as np
import pytest

from tsllm.context.rcrps import average, compute_difference, compute_p_value, compute_rcrps, compute_violation
from tsllm.data.cik import Scoring
from tsllm.programs.cik_table import compare_arms, write_differences


def scoring(truth, region=(), scaling=1.0, low=None, high=None, step_highs=None):
    return Scoring(np.array(truth, float), tuple(region), scaling, low, high, step_highs or {}, Fraction(1))


def slow_crps(samples, truth):
    pairs = [abs(a - b) for i, a in enumerate(samples) for b in samples[i + 1 :]]
    return np.mean([abs(a - truth) for a in samples]) - sum(pairs) / (len(samples) * (len(samples) - 1))


def test_two_samples_around_the_truth_score_half_their_distance_less_itself():
    # |1 - 2| + |3 - 2| over 2 = 1; the only pair is 2 apart, over 2 * 1 = 1; 1 - 1 = 0.
    assert compute_rcrps(np.array([[1.0], [3.0]]), scoring([2.0])) == pytest.approx(0.0)
    # Truth 5: (4 + 2) / 2 - 1 = 2; scaled by .5.
    assert compute_rcrps(np.array([[1.0], [3.0]]), scoring([5.0], scaling=0.5)) == pytest.approx(1.0)


def test_region_and_rest_weigh_the_same_whatever_their_length():
    samples = np.array([[0.0, 0.0, 0.0, 0.0]] * 2)
    # Region: step 1 with error 4; rest: errors 1, 2, 3, mean 2; (4 + 2) / 2.
    assert compute_rcrps(samples, scoring([1.0, 4.0, 2.0, 3.0], region=[1])) == pytest.approx(3.0)
    assert compute_rcrps(samples, scoring([1.0, 4.0, 2.0, 3.0])) == pytest.approx(2.5)
    assert compute_rcrps(samples, scoring([1.0, 4.0, 2.0, 3.0], region=[0, 1, 2, 3])) == pytest.approx(2.5)


def test_bounds_cost_ten_times_the_mean_violation():
    samples = np.array([[2.0, 0.0], [2.0, 0.0]])
    # Above 1 by 1 on one of two steps: .5, scaled by .1: .05, times ten: .5. CRPS: |2 - 2|, |0 - 0|.
    assert compute_rcrps(samples, scoring([2.0, 0.0], scaling=0.1, high=1.0)) == pytest.approx(0.5)
    assert compute_violation(samples, scoring([2.0, 0.0], low=1.0)) == pytest.approx([0.5, 0.5])
    # A maximum of its own on step 0 only: mean over that one step.
    assert compute_violation(samples, scoring([2.0, 0.0], step_highs={0: 0.5})) == pytest.approx([1.5, 1.5])


def test_it_equals_a_slow_loop_on_random_samples():
    rng = np.random.default_rng(3)
    samples, truth = rng.normal(size=(7, 5)), rng.normal(size=5)
    case = scoring(truth, region=[0, 3], scaling=0.3, low=-0.5, high=0.8, step_highs={2: 0.1})
    steps = [slow_crps(samples[:, t].tolist(), truth[t]) for t in range(5)]
    halves = (np.mean([steps[0], steps[3]]) + np.mean([steps[1], steps[2], steps[4]])) / 2
    broken = [
        0.3 * (np.mean([max(0, -0.5 - x) + max(0, x - 0.8) for x in row]) + max(0, row[2] - 0.1)) for row in samples
    ]
    expected = 0.3 * halves + slow_crps([10 * v for v in broken], 0.0)
    assert compute_rcrps(samples, case) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "impossible",
    [
        {"scaling": float("nan")}, {"scaling": -1.0}, {"scaling": 0.0}, {"scaling": float("inf")},
        {"low": float("nan")}, {"high": float("inf")}, {"step_highs": {0: float("nan")}}, {"low": 2.0, "high": 1.0},
        {"region": [2]}, {"step_highs": {-1: 1.0}},
    ],
)  # fmt: skip
def test_what_would_score_anything_at_all_is_no_scoring(impossible):
    with pytest.raises(ValueError, match=r"metric_scaling|constraint_|outside"):
        scoring([0.0, 0.0], **impossible)


def test_the_score_of_the_farthest_numbers_that_are_allowed_is_a_number():
    far = scoring([-1e100], scaling=1e100, low=-1e100, high=-1e100, step_highs={0: -1e100})
    assert compute_rcrps(np.array([[1e100], [1e100]]), far) == 5.0
    near = scoring([0.0], scaling=1e-100, high=1e100)
    assert compute_rcrps(np.array([[1e100], [1e100]]), near) == pytest.approx(1.0)


def test_a_catastrophe_costs_five():
    assert compute_rcrps(np.full((3, 2), 1e9), scoring([0.0, 0.0])) == 5.0


def test_wrong_shapes_and_missing_values_are_refused():
    with pytest.raises(ValueError, match=r"shape \[1, 2\]; expected \[at least 2, 2\]"):
        compute_rcrps(np.zeros((1, 2)), scoring([0.0, 0.0]))
    with pytest.raises(ValueError, match="1 of 4 sampled values are not finite"):
        compute_rcrps(np.array([[0.0, np.nan], [0.0, 0.0]]), scoring([0.0, 0.0]))


def test_the_mean_weighs_tasks_and_differences_are_paired():
    weights = {"a/1": Fraction(1, 2), "a/2": Fraction(1, 2), "b/1": Fraction(1)}
    scores = {"a/1": 1.0, "a/2": 3.0, "b/1": 0.0}
    assert average(scores, weights) == pytest.approx(1.0)
    mean, low, high = compute_difference(scores, {k: v + 0.25 for k, v in scores.items()}, weights, list(scores))
    assert (mean, low, high) == pytest.approx((-0.25, -0.25, -0.25))


def test_p_values_count_the_flips_of_tasks():
    # Differences of the tasks, weighted: 1, 1, 1 and -1. Of the 16 flips, 5 + 5 sums lie at 2 or 4 from zero.
    weights = dict.fromkeys(("a/1", "a/2", "b/1", "c/1", "d/1"), Fraction(1))
    scores = {"a/1": 0.5, "a/2": 0.5, "b/1": 1.0, "c/1": 1.0, "d/1": -1.0}
    zeros = dict.fromkeys(scores, 0.0)
    assert compute_p_value(scores, zeros, weights, list(scores)) == pytest.approx(10 / 16)
    assert compute_p_value(scores, scores, weights, list(scores)) == 1.0
    one_sided = dict.fromkeys(scores, 1.0)
    assert compute_p_value(one_sided, zeros, weights, list(scores)) == pytest.approx(2 / 16)
    # Of 30 tasks all alike, no drawn flip but the data's own is as far from zero.
    many = {f"t{k}/1": 1.0 for k in range(30)}
    p = compute_p_value(many, dict.fromkeys(many, 0.0), dict.fromkeys(many, Fraction(1)), list(many))
    assert p == pytest.approx(1e-4)


def test_the_table_of_differences_adjusts_for_the_number_of_tests():
    keys = [f"t{k}/1" for k in range(3)]
    weights = dict.fromkeys(keys, Fraction(1))
    scores = {"main": dict.fromkeys(keys, 0.0), "worse": dict.fromkeys(keys, 1.0), "same": dict.fromkeys(keys, 0.0)}
    lines = write_differences("main", compare_arms(scores, weights, "main")).splitlines()
    assert lines[2] == "| worse | -1.000 | -1.000 to -1.000 | 0.5000 | 3 | 3 |"  # 2 of 8 flips, times two tests
    assert lines[3] == "| same | +0.000 | +0.000 to +0.000 | 1.0000 | 3 | 3 |"

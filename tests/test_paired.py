import numpy as np
import pytest
from scipy import stats

from tsllm.paired import adjust_holm, choose_terms, diebold_mariano, transform


def moving_average(rng, n, h, runs):
    """Loss differences of h-step forecasts at every step: sums of h shocks, mean zero."""
    shocks = rng.normal(size=(runs, n + h - 1))
    sums = np.cumsum(np.pad(shocks, ((0, 0), (1, 0))), axis=1)
    return sums[:, h:] - sums[:, :-h]  # [runs, n]


def autoregression(rng, n, coefficient, runs):
    """Differences with autocorrelation `coefficient` at lag 1, mean zero, from a long past."""
    values = rng.normal(size=(runs, n + 100))
    for t in range(1, n + 100):
        values[:, t] += coefficient * values[:, t - 1]
    return values[:, 100:]


def rejections(differences, overlap):
    zeros = np.zeros(differences.shape[1])
    return np.mean([diebold_mariano(d, zeros, overlap).p_value < 0.05 for d in differences])


def test_with_all_terms_it_is_the_paired_t_test():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=30), rng.normal(size=30)
    ours, reference = diebold_mariano(a, b, terms=29), stats.ttest_rel(a, b)
    assert ours.p_value == pytest.approx(reference.pvalue, rel=1e-10)
    assert ours.statistic == pytest.approx(reference.statistic, rel=1e-10)
    assert ours.freedom == 29


def test_two_terms_worked_by_hand():
    d = np.array([1.0, 2.0, 0.0, 3.0, 1.0, 5.0])
    # cos(pi j (t - 1/2) / 6) for j = 1: +-cos 15, 45, 75 degrees, for j = 2: +-cos 30, 90, 150 degrees.
    outer, middle, inner = (np.cos(np.pi * k / 12) for k in (1, 3, 5))
    first = np.sqrt(2 / 6) * ((1 - 5) * outer + (2 - 1) * middle + (0 - 3) * inner)
    second = np.sqrt(2 / 6) * np.cos(np.pi / 6) * ((1 + 5) - (0 + 3))
    result = diebold_mariano(d, np.zeros(6), terms=2)
    assert result.statistic == pytest.approx(2 / np.sqrt((first**2 + second**2) / 2 / 6))
    assert result.p_value == pytest.approx(2 * stats.t.sf(result.statistic, 2))


def test_cosines_are_orthonormal_and_blind_to_the_mean():
    basis = transform(np.eye(12), 11)  # [12, 11]
    np.testing.assert_allclose(basis.T @ basis, np.eye(11), atol=1e-12)
    np.testing.assert_allclose(transform(np.full(12, 7.0), 11), 0, atol=1e-12)


def test_terms_follow_n_and_fall_with_overlap_and_persistence():
    rng = np.random.default_rng(1)
    white = rng.normal(size=134)
    assert choose_terms(white)[0] == 10  # .4 * 134^(2/3) = 10.5
    assert choose_terms(white[:20])[0] == 3
    by_overlap = [choose_terms(moving_average(rng, 150, h, 1)[0], h)[0] for h in (1, 12, 24)]
    assert by_overlap == sorted(by_overlap, reverse=True)
    assert by_overlap[-1] < by_overlap[0]
    walk = autoregression(rng, 134, 0.97, 1)[0]
    terms, spectrum, persistence = choose_terms(walk)
    assert terms < 10
    assert 0 < spectrum < 1
    assert persistence > 0.85
    assert diebold_mariano(walk, 0 * walk).is_persistent
    assert not diebold_mariano(white, 0 * white).is_persistent


@pytest.mark.parametrize(("n", "overlap"), [(60, 1), (120, 4), (200, 8)])
def test_size_is_about_five_per_cent_under_the_null_with_overlapping_horizons(n, overlap):
    differences = moving_average(np.random.default_rng(1), n, overlap, 2000)
    assert 0.035 < rejections(differences, overlap) < 0.075


@pytest.mark.parametrize(("n", "coefficient", "most"), [(20, 0.5, 0.075), (100, 0.5, 0.075), (50, 0.9, 0.105)])
def test_size_holds_when_differences_are_autocorrelated(n, coefficient, most):
    # The bound is the goal and two Monte Carlo errors; the classical test has .26 and .69 here.
    differences = autoregression(np.random.default_rng(2), n, coefficient, 1500)
    assert rejections(differences, 1) < most


def test_power_when_there_is_a_difference():
    differences = moving_average(np.random.default_rng(2), 120, 4, 500)
    deviation = np.sqrt(4.0)
    assert rejections(differences + 0.6 * deviation, 4) > 0.8


def test_ties_and_certain_differences():
    same = np.ones(10)
    assert diebold_mariano(same, same).p_value == 1
    assert diebold_mariano(same, same + 1).p_value == 0
    with pytest.raises(ValueError, match="8 windows are too few for windows of which 4 overlap"):
        diebold_mariano(np.arange(8.0), np.zeros(8), overlap=4)
    with pytest.raises(ValueError, match="terms is 10; 10 windows have 1 to 9"):
        diebold_mariano(same, same + 1, terms=10)


def test_interval_is_where_the_test_of_a_scaled_reference_does_not_reject():
    rng = np.random.default_rng(3)
    b = rng.uniform(1, 3, 40)
    a = 0.8 * b + rng.normal(0, 0.3, 40)
    result = diebold_mariano(a, b)
    interval = result.skill_interval(0.05)
    for bound in (interval.low, interval.high):
        at = diebold_mariano(a, (1 - bound) * b, terms=result.terms)
        corrected = at.statistic * np.sqrt(choose_terms(a - b)[1])  # `terms` given: no bias correction
        assert abs(corrected) == pytest.approx(stats.t.isf(0.025, result.terms), rel=1e-6)
    assert interval.estimate == pytest.approx(1 - a.mean() / b.mean())
    assert interval.low < interval.estimate < interval.high


@pytest.mark.parametrize("seed", range(40))
def test_interval_excludes_zero_exactly_if_the_test_rejects(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(10, 60))
    # Heavy tails and few windows, so that some intervals have no bound.
    a, b = np.exp(rng.normal(0, 2, n)), np.exp(rng.normal(rng.normal(), 2, n))
    result = diebold_mariano(a, b, int(rng.integers(1, n // 3)))
    for alpha in (0.01, 0.05, 0.2, 0.5):
        interval = result.skill_interval(alpha)
        assert (interval.low > 0 or interval.high < 0) == (result.p_value < alpha)
        assert interval.low <= interval.estimate <= interval.high <= 1


def test_a_constant_ratio_has_no_width_and_a_perfect_reference_no_skill():
    b = np.random.default_rng(0).uniform(1, 2, 50)
    interval = diebold_mariano(0.75 * b, b).skill_interval()
    assert (interval.estimate, interval.low, interval.high) == pytest.approx((0.25, 0.25, 0.25))
    with pytest.raises(ValueError, match="no error at all"):
        diebold_mariano(b, 0 * b).skill_interval()


def test_interval_covers_the_true_skill_with_few_correlated_windows():
    rng = np.random.default_rng(4)
    hits, runs = 0, 600
    for _ in range(runs):
        common, own, other = autoregression(rng, 24, 0.5, 3)
        interval = diebold_mariano(0.8 * np.exp(0.4 * (common + own)), np.exp(0.4 * (common + other))).skill_interval()
        hits += interval.low <= 0.2 <= interval.high
    assert hits / runs > 0.93 - 0.02  # the goal less two Monte Carlo errors


def test_two_seeds_add_the_variance_between_them_by_hand():
    rng = np.random.default_rng(5)
    a, b = rng.uniform(1, 2, 40), rng.uniform(1, 2, 40)
    alone = diebold_mariano(a, b)
    seeds = np.array([[1.4, 1.5], [1.6, 1.5]])  # b draws nothing; variance of a's mean: .02 / 2 = .01
    both = diebold_mariano(a, b, seeds=seeds)
    within = (alone.mean / alone.statistic) ** 2
    assert both.statistic == pytest.approx(alone.mean / np.sqrt(within + 0.01))
    assert both.freedom == pytest.approx((within + 0.01) ** 2 / (within**2 / alone.terms + 0.01**2 / 1))
    assert both.seeds == 2
    # Seeds that belong together count by their difference: -.1 and .1, the same variance here.
    assert diebold_mariano(a, b, seeds=seeds, same_seeds=True).statistic == pytest.approx(both.statistic)
    moved = seeds + np.array([[0.0, -0.1], [0.0, 0.1]])  # now both move alike, and the difference does not
    assert diebold_mariano(a, b, seeds=moved, same_seeds=True).statistic == pytest.approx(alone.statistic)


def test_runs_of_one_algorithm_over_other_seeds_are_rarely_told_apart():
    rng = np.random.default_rng(6)
    counted, ignored, runs = 0, 0, 600
    for _ in range(runs):
        common = rng.normal(5, 1, 60)
        losses = common + rng.normal(0, 0.3, (2, 3, 1)) + rng.normal(0, 0.3, (2, 3, 60))  # [arm, seed, window]
        a, b = losses.mean(1)
        counted += diebold_mariano(a, b, seeds=losses.mean(2).T).p_value < 0.05
        ignored += diebold_mariano(a, b).p_value < 0.05
    assert counted / runs < 0.05 + 0.02
    assert ignored / runs > 0.3  # what happens if seeds are taken as fixed


def test_holm_equals_statsmodels_style_values_worked_by_hand():
    # Sorted .01 .02 .03 .04 times 4 3 2 1, made monotone: .04 .06 .06 .06.
    assert adjust_holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    with_gap = adjust_holm([0.03, np.nan, 0.01])
    assert with_gap[[0, 2]] == pytest.approx([0.03, 0.02])
    assert np.isnan(with_gap[1])
    assert adjust_holm([0.9, 0.8]).max() == 1

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tsllm.evaluation.significance import (
    adjust_holm,
    average_over,
    bootstrap_skill,
    choose_unit,
    compare_to,
    diebold_mariano,
    friedman_nemenyi,
)


def moving_average(rng, n, h, runs):
    """Loss differences of h-step forecasts at every step: sums of h shocks, mean zero."""
    shocks = rng.normal(size=(runs, n + h - 1))
    sums = np.cumsum(np.pad(shocks, ((0, 0), (1, 0))), axis=1)
    return sums[:, h:] - sums[:, :-h]  # [runs, n]


def rejections(differences, overlap):
    zeros = np.zeros(differences.shape[1])
    return np.mean([diebold_mariano(d, zeros, overlap).p_value < 0.05 for d in differences])


def test_without_overlap_it_is_the_paired_t_test():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=30), rng.normal(size=30)
    ours, reference = diebold_mariano(a, b), stats.ttest_rel(a, b)
    assert ours.p_value == pytest.approx(reference.pvalue, rel=1e-12)
    assert ours.statistic == pytest.approx(reference.statistic, rel=1e-12)


def test_overlapping_case_worked_by_hand():
    d = np.array([1.0, 2.0, 0.0, 3.0, 1.0, 5.0])
    # mean 2, centred -1 0 -2 1 -1 3: g0 = 16/6, g1 = (0 + 0 - 2 - 1 - 3)/6 = -1, variance 16/6 - 2 = 2/3.
    result = diebold_mariano(d, np.zeros(6), overlap=2)
    correction = np.sqrt((6 + 1 - 4 + 2 / 6) / 6)
    assert result.statistic == pytest.approx(correction * 2 / np.sqrt((2 / 3) / 6))
    assert result.p_value == pytest.approx(2 * stats.t.sf(result.statistic, 5))
    assert result.kernel == "rectangular"


def test_a_variance_that_is_not_positive_takes_bartlett_weights():
    d = np.tile([1.0, -1.0], 10) + 0.01
    result = diebold_mariano(d, np.zeros(20), overlap=2)
    assert result.kernel == "bartlett"
    assert 0 < result.p_value < 1


@pytest.mark.parametrize(("n", "overlap"), [(60, 1), (120, 4), (200, 8)])
def test_size_is_about_five_per_cent_under_the_null_with_overlapping_horizons(n, overlap):
    differences = moving_average(np.random.default_rng(1), n, overlap, 2000)
    assert 0.035 < rejections(differences, overlap) < 0.075


def test_ignoring_the_overlap_would_reject_far_too_often():
    differences = moving_average(np.random.default_rng(1), 120, 4, 1000)
    assert rejections(differences, 1) > 0.25


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


def test_bootstrap_interval_covers_the_true_skill_with_overlapping_windows():
    rng = np.random.default_rng(3)
    hits, runs = 0, 300
    for _ in range(runs):
        common = moving_average(rng, 150, 4, 1)[0] / 2
        b = 10 + common + moving_average(rng, 150, 4, 1)[0] / 2
        a = 8 + common + moving_average(rng, 150, 4, 1)[0] / 2
        interval = bootstrap_skill(a, b, rng, overlap=4, n_samples=300)
        hits += interval.low <= 0.2 <= interval.high
    assert 0.88 < hits / runs <= 0.98


def test_bootstrap_estimate_is_the_skill_and_a_constant_ratio_has_no_width():
    rng = np.random.default_rng(0)
    b = rng.uniform(1, 2, 50)
    interval = bootstrap_skill(0.75 * b, b, rng)
    assert (interval.estimate, interval.low, interval.high) == pytest.approx((0.25, 0.25, 0.25))


def test_holm_equals_statsmodels_style_values_worked_by_hand():
    # Sorted .01 .02 .03 .04 times 4 3 2 1, made monotone: .04 .06 .06 .06.
    assert adjust_holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    with_gap = adjust_holm([0.03, np.nan, 0.01])
    assert with_gap[[0, 2]] == pytest.approx([0.03, 0.02])
    assert np.isnan(with_gap[1])
    assert adjust_holm([0.9, 0.8]).max() == 1


def test_friedman_and_nemenyi_equal_scikit_posthocs_and_demsars_table():
    posthocs = pytest.importorskip("scikit_posthocs")
    rng = np.random.default_rng(4)
    losses = pd.DataFrame(rng.normal(size=(14, 5)) + np.arange(5) * 0.6, columns=list("abcde"))
    ours = friedman_nemenyi(losses)
    reference = posthocs.posthoc_nemenyi_friedman(losses.to_numpy())
    np.testing.assert_allclose(
        ours.p_pairs.to_numpy()[~np.eye(5, dtype=bool)], reference.to_numpy()[~np.eye(5, dtype=bool)], atol=2e-3
    )
    assert ours.p_value == pytest.approx(stats.friedmanchisquare(*losses.to_numpy().T).pvalue)
    # Demsar (2006), table 5: q_0.05 for five classifiers is 2.728.
    assert ours.critical_difference == pytest.approx(2.728 * np.sqrt(5 * 6 / (6 * 14)), abs=1e-3)


def test_nemenyi_and_critical_difference_agree():
    rng = np.random.default_rng(5)
    losses = pd.DataFrame(rng.normal(size=(20, 4)) + np.arange(4) * 0.7, columns=list("abcd"))
    result = friedman_nemenyi(losses)
    for one in "abcd":
        for other in "abcd":
            if one != other:
                apart = abs(result.mean_ranks[one] - result.mean_ranks[other]) > result.critical_difference
                assert apart == (result.p_pairs.loc[one, other] < 0.05)
    grouped = {frozenset((g[0], g[-1])) for g in result.groups()}
    assert all(result.p_pairs.loc[min(g), max(g)] >= 0.05 for g in grouped)


def test_identical_models_have_equal_ranks_and_no_difference():
    losses = pd.DataFrame({"a": [1.0, 2, 3], "b": [1.0, 2, 3], "c": [1.0, 2, 3]})
    result = friedman_nemenyi(losses)
    assert result.mean_ranks == {"a": 2, "b": 2, "c": 2}
    assert result.p_value == 1
    assert result.groups() == [["a", "b", "c"]]


def window_losses(n_series, n_cutoffs, rng):
    rows = [(f"s{i}", k) for i in range(n_series) for k in range(n_cutoffs)]
    frame = pd.DataFrame(rows, columns=["unique_id", "cutoff"])
    frame["Ref"] = rng.uniform(1, 2, len(frame))
    return frame


def test_pairs_are_formed_over_cutoffs_or_over_series_whichever_are_more():
    rng = np.random.default_rng(6)
    few_series, many_series = window_losses(2, 30, rng), window_losses(50, 3, rng)
    assert choose_unit(few_series) == "cutoff"
    assert choose_unit(many_series) == "series"
    averaged = average_over(few_series, ["Ref"], "cutoff")
    by_hand = few_series.groupby("cutoff")["Ref"].mean()
    np.testing.assert_allclose(averaged["Ref"], by_hand)
    assert len(average_over(many_series, ["Ref"], "series")) == 50


def test_verdicts_say_better_worse_or_no_difference_and_never_more():
    rng = np.random.default_rng(7)
    losses = window_losses(2, 60, rng)
    losses["Better"] = losses["Ref"] - 0.3 + rng.normal(0, 0.1, len(losses))
    losses["Worse"] = losses["Ref"] + 0.3 + rng.normal(0, 0.1, len(losses))
    losses["Same"] = losses["Ref"] + rng.normal(0, 0.3, len(losses))
    table = compare_to(losses, "Ref", rng).set_index("model")
    assert table["verdict"].to_dict() == {"Better": "better", "Worse": "worse", "Same": "no difference shown"}
    assert table.loc["Better", "low"] > 0
    assert table.loc["Worse", "high"] < 0
    assert (table["n"] == 60).all()


def test_windows_that_one_model_lacks_are_left_out_of_its_pair_and_too_few_are_not_tested():
    rng = np.random.default_rng(8)
    losses = window_losses(1, 10, rng)
    losses["Half"] = np.where(np.arange(10) < 5, np.nan, losses["Ref"])
    losses["Two"] = np.where(np.arange(10) < 8, np.nan, losses["Ref"] / 2)
    table = compare_to(losses, "Ref", rng).set_index("model")
    assert table.loc["Half", "n"] == 5
    assert table.loc["Half", "skill"] == 0
    assert table.loc["Two", "verdict"] == "not tested"
    assert table.loc["Two", "skill"] == pytest.approx(0.5)

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.test_paired import autoregression
from tsllm.evaluation.significance import (
    average_over,
    compare_to,
    compare_with_best,
    friedman_nemenyi,
    number_cutoffs,
)
from tsllm.paired import adjust_holm, diebold_mariano


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


def test_the_cutoff_is_the_unit_whatever_the_number_of_series():
    rng = np.random.default_rng(6)
    few_series, many_series = window_losses(2, 30, rng), window_losses(50, 3, rng)
    averaged = average_over(few_series, ["Ref"])
    by_hand = few_series.groupby("cutoff")["Ref"].mean()
    np.testing.assert_allclose(averaged["Ref"], by_hand)
    assert len(average_over(many_series, ["Ref"])) == 3
    many_series["Other"] = many_series["Ref"] / 2
    row = compare_to(many_series, "Ref").iloc[0]
    assert (row["verdict"], row["note"]) == ("not tested", "3 cutoffs are too few to tell (10 needed)")
    assert row["skill"] == pytest.approx(0.5)
    asked = compare_to(many_series, "Ref", unit="series").iloc[0]
    assert (asked["verdict"], asked["n"], asked["terms"]) == ("better", 50, 49)


def test_series_that_are_independent_by_assumption_are_compared_by_the_paired_t_test():
    rng = np.random.default_rng(9)
    losses = window_losses(12, 1, rng)
    losses["Other"] = losses["Ref"] + rng.normal(0, 0.3, 12)
    row = compare_to(losses, "Ref", unit="series").iloc[0]
    assert row["p_value"] == pytest.approx(stats.ttest_rel(losses["Other"], losses["Ref"]).pvalue)


def test_a_missing_window_never_shifts_another_cutoff():
    rng = np.random.default_rng(10)
    losses = window_losses(2, 20, rng)
    losses["Other"] = losses["Ref"] + 0.1 * losses["cutoff"]
    gap = losses.drop(index=[3]).reset_index(drop=True)  # the first series lacks its fourth cutoff
    averaged = average_over(gap, ["Ref"])
    for cutoff in (3, 4, 19):
        by_hand = gap.loc[gap["cutoff"] == cutoff, "Ref"].mean()
        assert averaged.loc[cutoff, "Ref"] == pytest.approx(by_hand)
    missing = losses.assign(Other=losses["Other"].where(losses.index != 3))
    row, expected = compare_to(missing, "Ref").iloc[0], compare_to(gap, "Ref").iloc[0]
    assert row["p_value"] == pytest.approx(expected["p_value"])
    assert row["n"] == 20


def test_series_with_calendars_of_their_own_are_matched_by_position():
    rng = np.random.default_rng(11)
    losses = window_losses(2, 12, rng)
    later = losses.assign(cutoff=losses["cutoff"] + np.where(losses["unique_id"] == "s1", 100, 0))
    assert number_cutoffs(later).tolist() == [*range(12), *range(12)]
    np.testing.assert_allclose(average_over(later, ["Ref"]), average_over(losses, ["Ref"]))
    # A window that one model lacks is known by its position among all, not among what is left.
    later["Other"] = later["Ref"].where(later.index != 0)
    left = average_over(later.dropna(), ["Ref"], numbers=number_cutoffs(later))
    assert left["Ref"].iloc[0] == later["Ref"].iloc[12]


def test_verdicts_say_better_worse_or_no_difference_and_never_more():
    rng = np.random.default_rng(7)
    losses = window_losses(2, 60, rng)
    losses["Better"] = losses["Ref"] - 0.3 + rng.normal(0, 0.1, len(losses))
    losses["Worse"] = losses["Ref"] + 0.3 + rng.normal(0, 0.1, len(losses))
    noise = rng.normal(0, 0.3, len(losses))
    losses["Same"] = losses["Ref"] + noise - noise.mean() + 0.01
    table = compare_to(losses, "Ref").set_index("model")
    assert table["verdict"].to_dict() == {"Better": "better", "Worse": "worse", "Same": "no difference shown"}
    assert table.loc["Better", "low"] > 0
    assert table.loc["Worse", "high"] < 0
    assert (table["n"] == 60).all()
    assert (table["tests"] == 3).all()


@pytest.mark.parametrize("seed", range(20))
def test_adjusted_intervals_and_adjusted_p_values_never_disagree(seed):
    rng = np.random.default_rng(seed)
    losses = window_losses(2, 25, rng)
    for k in range(5):
        losses[f"M{k}"] = losses["Ref"] * rng.uniform(0.85, 1.15) + rng.normal(0, 0.2, len(losses))
    for table in (compare_to(losses, "Ref"), compare_with_best(losses)):
        excludes = (table["low"] > 0) | (table["high"] < 0)
        assert (excludes == (table["p_holm"] < 0.05)).all()
        assert (excludes == table["verdict"].isin(["better", "worse"])).all()


def test_windows_that_one_model_lacks_are_left_out_of_its_pair_and_the_reason_is_the_true_one():
    rng = np.random.default_rng(8)
    losses = window_losses(1, 30, rng).assign(Zero=0.0)
    losses["Most"] = np.where(np.arange(30) < 5, np.nan, losses["Ref"])
    losses["Two"] = np.where(np.arange(30) < 28, np.nan, losses["Ref"] / 2)
    losses["None"] = np.nan
    table = compare_to(losses, "Ref").set_index("model")
    assert table.loc["Most", "n"] == 25
    assert table.loc["Most", "skill"] == 0
    assert table.loc["Two", "verdict"] == "not tested"
    assert table.loc["Two", "skill"] == pytest.approx(0.5)
    assert table.loc["Two", "note"] == "2 cutoffs are too few to tell (10 needed)"
    assert table.loc["None", "note"] == "no window that both forecast"
    assert compare_to(losses, "Zero").set_index("model").loc["Ref", "note"] == "Zero makes no error at all"
    overlapping = compare_to(losses, "Ref", overlap=15).set_index("model")
    assert overlapping.loc["Most", "note"] == "25 cutoffs are too few where 15 windows share a step (31 needed)"


def test_the_best_is_compared_by_all_pairs():
    rng = np.random.default_rng(12)
    losses = window_losses(1, 40, rng).rename(columns={"Ref": "A"})
    losses["B"] = losses["A"] + rng.normal(0.2, 0.3, 40)
    losses["C"] = losses["A"] + rng.normal(0.3, 0.3, 40)
    table = compare_with_best(losses)
    assert table["reference"].tolist() == ["A", "A"]
    names = [("B", "A"), ("C", "A"), ("B", "C")]
    p_values = [diebold_mariano(losses[x].to_numpy(), losses[y].to_numpy()).p_value for x, y in names]
    assert table["p_value"].tolist() == pytest.approx(p_values[:2])
    assert table["p_holm"].tolist() == pytest.approx(adjust_holm(p_values)[:2].tolist())
    assert (table["tests"] == 3).all()
    assert compare_with_best(losses.assign(A=np.nan, B=np.nan, C=np.nan)).empty


def test_a_winner_chosen_on_equal_models_is_rarely_called_better():
    rng = np.random.default_rng(13)
    false, runs = {"all pairs": 0, "named afterwards": 0}, 200
    for _ in range(runs):
        losses = pd.DataFrame({"unique_id": "s", "cutoff": range(50)})
        losses[[f"M{k}" for k in range(6)]] = 5 + rng.normal(size=(50, 6))
        best = losses.iloc[:, 2:].mean().idxmin()
        false["all pairs"] += (compare_with_best(losses)["p_holm"] < 0.05).any()
        false["named afterwards"] += (compare_to(losses, best)["p_holm"] < 0.05).any()
    assert false["all pairs"] / runs < 0.05 + 0.03
    assert false["named afterwards"] > false["all pairs"]


def test_a_common_shock_is_not_counted_once_for_each_series():
    rng = np.random.default_rng(14)
    rejected, runs = 0, 200
    for _ in range(runs):
        losses = window_losses(20, 12, rng)
        shock = autoregression(rng, 12, 0.3, 1)[0]
        losses["Other"] = losses["Ref"] + 0.3 * (0.8 * shock[losses["cutoff"]] + 0.6 * rng.normal(size=len(losses)))
        rejected += compare_to(losses, "Ref")["p_value"].iloc[0] < 0.05
    assert rejected / runs < 0.07 + 0.03


def test_seeds_widen_the_test_and_are_counted():
    rng = np.random.default_rng(15)
    seeds = [window_losses(1, 40, np.random.default_rng(1)).assign(cutoff=range(40)) for _ in range(3)]
    for k, frame in enumerate(seeds):
        frame["M"] = frame["Ref"] - 0.1 * (k + 1) + rng.normal(0, 0.1, 40)
        frame["Fixed"] = frame["Ref"] - 0.2
    mean = seeds[0].assign(M=np.mean([f["M"] for f in seeds], axis=0))
    fixed, random = compare_to(mean, "Ref").set_index("model"), compare_to(mean, "Ref", seeds=seeds).set_index("model")
    assert random.loc["M", "p_value"] > fixed.loc["M", "p_value"]
    by_hand = diebold_mariano(
        mean["M"].to_numpy(),
        mean["Ref"].to_numpy(),
        seeds=np.array([[f["M"].mean(), f["Ref"].mean()] for f in seeds]),
    )
    assert random.loc["M", "p_value"] == pytest.approx(by_hand.p_value)
    assert random["seeds"].to_dict() == {"M": 3, "Fixed": 1}

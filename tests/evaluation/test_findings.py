"""Sentences say what the tests say, with the true reason where nothing was tested."""

import numpy as np
import pandas as pd
import pytest

from tsllm.evaluation.findings import describe_help, describe_model, describe_tests, describe_winner, write_interval
from tsllm.evaluation.significance import compare_to, compare_with_best

FEW = "4 cutoffs are too few to tell (10 needed)"


def make_losses(n=30, series=2, seed=0):
    rng = np.random.default_rng(seed)
    rows = [(f"s{i}", k) for i in range(series) for k in range(n)]
    losses = pd.DataFrame(rows, columns=["unique_id", "cutoff"])
    losses["A"] = rng.uniform(1, 2, len(losses))
    losses["B"] = losses["A"] + 0.5 + rng.normal(0, 0.1, len(losses))
    losses["C"] = losses["A"] + 1.0 + rng.normal(0, 0.1, len(losses))
    return losses


def make_table(**failed):
    return pd.DataFrame(
        {"model": ["A", "B", "C"], "mae": [1.5, 2.0, 2.1], "failed": [failed.get(m, 0) for m in "ABC"]}
    )


def test_a_win_is_over_every_model_that_forecast_every_window():
    losses = make_losses()
    words = describe_winner(make_table(), compare_with_best(losses, best="A"))
    assert words[0] == "A wins: MAE 1.5, significantly less than every other model."
    assert words[1].endswith("intervals and p adjusted for all pairs.")
    losses.loc[losses["cutoff"] > 0, "C"] = np.nan
    words = describe_winner(make_table(C=58), compare_with_best(losses, best="A"))
    assert words[0] == "A wins: MAE 1.5, significantly less than every other model that forecast every window."
    assert words[-1] == "C gave no forecast in 58 windows (counted in each series); it is shown but not ranked."


def test_a_model_that_was_not_tested_forbids_a_win_and_the_reason_is_given():
    pairs = compare_with_best(make_losses(), best="A")
    pairs.loc[1, ["verdict", "note"]] = ["not tested", "A makes no error at all"]
    words = describe_winner(make_table(), pairs)
    assert words[0] == "A has the lowest error (MAE 1.5); not tested against C (A makes no error at all)."
    few = compare_with_best(make_losses(n=4), best="A")
    assert describe_winner(make_table(), few)[0].endswith(f"not tested against B and C ({FEW}).")


def test_a_winner_by_another_measure_is_not_said_to_win_where_it_loses():
    pairs = compare_to(make_losses(), "C")
    words = describe_winner(
        make_table().assign(relative_mae=[0.9, 0.8, 0.7]), pairs, "relative_mae", tested="scaled_mae"
    )
    assert words[0] == "C ranks first (relative MAE 0.7), but B and A did significantly better in scaled MAE."


def test_what_had_not_converged_stands_in_the_headline():
    words = describe_winner(make_table(), compare_with_best(make_losses(), best="A"), unconverged=["A", "B"])
    assert words[0].endswith(
        "model. Not converged: A and B have the best validation at the first or at the last step."
    )


def test_a_model_with_one_window_of_thirty_has_no_rank_and_takes_none():
    losses = make_losses()
    losses.loc[losses["cutoff"] > 0, "A"] = np.nan
    pairs = compare_to(losses, "C")
    table = make_table(A=58)
    assert describe_model("B", table, pairs).startswith("B is number 1 of 2: ")
    said = describe_model("A", table, pairs)
    assert said.startswith(
        "A has no rank, as it gave no forecast in 58 windows (counted in each series); on the 1 it shares: "
    )
    assert said.endswith("not tested: 1 cutoffs are too few to tell (10 needed).")
    with pytest.raises(ValueError, match="'D' is not among the models"):
        describe_model("D", table, pairs)


def test_help_is_claimed_only_if_every_variant_was_tested():
    names = {"X": "without", "Y": "random"}
    row = {"skill": -0.3, "low": -0.4, "high": -0.2, "p_holm": 0.01, "note": "", "verdict": "worse"}
    rows = [row | {"model": "X"}, row | {"model": "Y"}]
    assert describe_help("M", rows, names)[0].startswith("Yes, on these windows")
    untested = [rows[0], rows[1] | {"verdict": "not tested", "note": "no window that both forecast"}]
    said = describe_help("M", untested, names)
    assert said[0] == (
        "Open: M is significantly better than X, but not tested against Y (no window that both forecast)."
    )
    assert said[-1] == "Y (random): not tested, no window that both forecast."
    assert describe_help("M", untested[1:], names)[0].startswith("Open: no variant")
    assert describe_help("M", [], names)[0].startswith("No variant without")


def test_below_a_table_stand_unit_number_variance_family_and_seeds():
    losses = make_losses()
    said = " ".join(describe_tests(compare_to(losses, "A", overlap=3), 3, tables=4))
    assert "the cutoff, mean over its series and seeds; n = 30 cutoffs, of which 3 neighbours share steps" in said
    assert "cosine terms" in said
    assert "a family of 2 tests; the 4 tables of tests in this report are a family each" in said
    assert "One seed: the tests speak of these trained models" in said
    assert "One seed" not in " ".join(describe_tests(compare_to(losses, "A"), 1, trained=False))
    best = " ".join(describe_tests(compare_with_best(losses), 1))
    assert "a family of 3 tests, all pairs of models, because the reference was chosen" in best
    random = [losses.assign(B=losses["B"] + shift) for shift in (-0.1, 0.1)]
    assert "2 seeds, as a random effect" in " ".join(describe_tests(compare_to(losses, "A", seeds=random), 1))
    apart = compare_to(losses.assign(unique_id=range(60)), "A", unit="series")
    assert "the series, taken as independent of one another; n = 60 series. Paired t-test" in " ".join(
        describe_tests(apart, 1)
    )
    assert describe_tests(compare_to(make_losses(n=4), "A"), 1) == ["Nothing in this table was tested."]


def test_strong_autocorrelation_is_a_caution():
    losses = make_losses(n=120, series=1)
    losses["B"] = losses["A"] + 0.1 * np.cumsum(np.random.default_rng(0).normal(size=120))
    said = describe_tests(compare_to(losses, "A"), 1)
    assert said[-1].startswith("Caution: the differences of B are so strongly autocorrelated")


def test_few_cutoffs_are_a_note_whatever_autocorrelation_is_estimated():
    note = (
        "Fewer than 50 cutoffs: in simulations the size of 5 % holds up to an autocorrelation of .5 between cutoffs; "
        "so few of them do not tell a stronger one reliably."
    )
    assert note in describe_tests(compare_to(make_losses(n=49), "A"), 1)
    assert note not in describe_tests(compare_to(make_losses(n=50), "A"), 1)
    apart = make_losses(n=1, series=30)
    assert note not in describe_tests(compare_to(apart, "A", unit="series"), 1)


def test_two_seeds_against_a_model_without_any_are_a_caution_and_three_are_not():
    losses = make_losses()

    def describe(shifts, *varying):
        seeds = [losses.assign(**{m: losses[m] + shift for m in varying}) for shift in shifts]
        table = compare_to(losses, "A", seeds=seeds)
        return table.set_index("model")["note"].to_dict(), describe_tests(table, 1)

    notes, said = describe((-0.1, 0.1), "B")
    assert notes == {"B": "two seeds against a model without seeds: rejects too often", "C": ""}
    assert said[-1].endswith("in about 10 % of cases (B). Three seeds or more would help.")
    for shifts, varying in (((-0.1, 0.0, 0.1), "B"), ((-0.1, 0.1), "ABC")):
        notes, said = describe(shifts, *varying)
        assert set(notes.values()) == {""}
        assert not any("Caution" in line for line in said)


def test_a_bound_that_the_data_do_not_give_is_called_so():
    assert write_interval(-np.inf, 0.25) == "unbounded to 25.0 %"


def test_more_error_has_an_interval_of_more_error():
    assert write_interval(-2.877, -1.631, -2.121) == "163.1 to 287.7 %"
    assert write_interval(-0.1, 0.3, -0.02) == "-30.0 to 10.0 %"
    assert write_interval(-np.inf, -0.25, -0.5) == "25.0 to unbounded %"
    assert write_interval(0.1, 0.3, 0.2) == "10.0 to 30.0 %"
    row = {"model": "B", "skill": -0.3, "low": -0.4, "high": -0.2, "p_holm": 0.01, "note": "", "verdict": "worse"}
    assert describe_help("M", [row], {"B": "without"})[-1] == (
        "B (without): 30.0 % more error than M (adjusted 95 % interval 20.0 to 40.0 %, adjusted p = .010): worse."
    )

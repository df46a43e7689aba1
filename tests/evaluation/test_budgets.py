"""What is said of budgets follows from the numbers."""

from dataclasses import replace

import pytest

from tsllm.evaluation.budgets import (
    BudgetRow,
    are_equal,
    describe_budgets,
    find_unconverged,
    read_budget,
    sentence_budgets,
    tabulate_budgets,
)


def make_row(model="A", seed=0, steps=100, windows=3200, best=60, last=100, stopped="patience", seconds=10.0):
    return BudgetRow(model, seed, steps, windows, seconds, best, last, stopped)


def test_budgets_are_equal_by_windows_seen_or_by_one_rule_of_patience():
    assert are_equal([make_row(stopped="steps"), make_row("B", steps=50, stopped="steps")])
    assert are_equal([make_row(), make_row("B", windows=99)])
    assert not are_equal([make_row(stopped="steps"), make_row("B", windows=99, stopped="steps")])
    assert not are_equal([make_row(), make_row("B", windows=99, stopped="steps")])
    assert not are_equal([make_row(windows=None, stopped="steps"), make_row("B", windows=None, stopped="steps")])


def test_sentences_of_the_three_kinds_of_budget():
    by_rule = describe_budgets([make_row(), make_row("B", windows=99)])
    assert by_rule[0] == (
        "The 2 trained models trained until validation had not improved for the patience given; no limit cut in."
    )
    same = describe_budgets([make_row(stopped="steps"), make_row("B", stopped="steps", seconds=30.0)])
    assert same[0] == "The 2 trained models saw the same number of training windows, 3,200 for each seed."
    assert same[1] == "Optimiser steps: 100; seconds of training for a seed, on average: 10 (A) to 30 (B)."
    unequal = describe_budgets([make_row(windows=32000), make_row("B", windows=4000, stopped="steps")])
    assert unequal[0] == (
        "Budgets are not equal: B saw 4,000 training windows, A 32,000, 8.0 times as many; what ended training: its "
        "limit of steps and validation patience."
    )
    unknown = describe_budgets([make_row(stopped="steps"), make_row("B", windows=None, stopped="steps")])
    assert unknown[0] == "Budgets cannot be compared: how many windows B saw is not known."
    assert describe_budgets([]) == []


def test_one_sentence_for_a_data_set_says_equality_amount_and_convergence():
    rows = [make_row(stopped="steps"), make_row("B", best=100, stopped="steps", seconds=30.0)]
    assert sentence_budgets("prices", rows) == (
        "On prices: the 2 trained models saw the same number of training windows, 3,200 for each seed; optimiser "
        "steps: 100; seconds of training for a seed, on average: 10 (A) to 30 (B); not converged: the best validation "
        "of B (seed 0) was the last one, so more training may help it."
    )
    assert sentence_budgets("prices", []) == ""


def test_a_best_step_that_is_the_last_is_not_converged():
    rows = [make_row(), make_row("B", 0, best=100), make_row("B", 1), make_row("C", best=None, last=None)]
    assert [row.has_converged for row in rows] == [True, False, True, None]
    assert find_unconverged(rows) == ["B"]
    said = describe_budgets(rows)
    assert said[2] == (
        "Not converged: the best validation of B (seed 0) was the last one, so more training may help it."
    )
    assert said[3] == "Without validation, so convergence is not known: C."
    every = "Every trained model had its best validation after its first and before its last one."
    assert describe_budgets([make_row()])[-1] == every
    table = tabulate_budgets(rows)
    assert table["converged"].tolist() == ["yes", "no, best at the last step", "yes", "not validated"]
    assert table["stopped_by"].unique().tolist() == ["validation patience"]


def test_a_best_step_that_is_the_first_of_several_is_not_converged():
    rows = [replace(make_row(best=best, last=last), first_step=20) for best, last in ((20, 100), (40, 100), (20, 20))]
    assert [row.has_converged for row in rows] == [False, True, False]
    assert [row.was_best_at_first for row in rows] == [True, False, False]  # one validation tells of no trend
    assert describe_budgets([rows[0], rows[1]])[2] == (
        "Not converged: the best validation of A (seed 0) was the first one, so a lower learning rate may help it."
    )
    assert tabulate_budgets(rows)["converged"].tolist() == [
        "no, best at the first validation",
        "yes",
        "no, best at the last step",
    ]


def test_a_log_tells_steps_best_and_last():
    log = [
        {"step": 10, "loss": 2.0},
        {"step": 10, "eval_loss": 1.5},
        {"step": 20, "eval_loss": 1.2, "windows_seen": 640},
        {"step": 30, "eval_loss": 1.3, "windows_seen": 960},
        {"step": 35, "train_runtime": 3.0, "stopped_by": "time"},
    ]
    row = BudgetRow("A", 1, **read_budget(log, 3.5))
    assert row == BudgetRow("A", 1, 35, 960, 3.5, 20, 30, "time", 10)
    bare = BudgetRow("A", 1, **read_budget([{"step": 5, "loss": 1.0}], 1.0))
    assert (bare.steps, bare.windows_seen, bare.best_step, bare.stopped_by) == (5, None, None, "")


def test_impossible_rows_are_refused():
    with pytest.raises(ValueError, match="stopped_by is 'bored'"):
        make_row(stopped="bored")
    with pytest.raises(ValueError, match="best_step and last_step belong together"):
        make_row(best=None)

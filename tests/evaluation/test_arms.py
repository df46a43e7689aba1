import numpy as np
import pytest

from tsllm.evaluation.arms import compare_arms, format_arms, plot_reward_curve
from tsllm.paired import diebold_mariano


def make_scores(shift, seed, windows=60):
    rng = np.random.default_rng(seed)
    common = np.random.default_rng(99).standard_normal((windows, 2))
    profit = common + shift + 0.1 * rng.standard_normal((windows, 2))
    return {"profit": profit, "mae": 5 - shift + 0 * common, "pit": np.full((windows, 2, 20), 0.05)}


@pytest.fixture
def arms():
    return {
        "start": [make_scores(0.0, seed) for seed in (1, 2, 3)],
        "policy": [make_scores(0.2, seed) for seed in (4, 5, 6)],
    }


def test_gain_and_p_value_are_those_of_the_paired_test(arms):
    row = compare_arms(arms, "policy", tested=["profit"])[0]
    ours = np.mean([seed["profit"].mean(1) for seed in arms["policy"]], axis=0)
    theirs = np.mean([seed["profit"].mean(1) for seed in arms["start"]], axis=0)
    assert row["gain"] == pytest.approx((ours - theirs).mean())
    seeds = -np.array(
        [[x["profit"].mean(), y["profit"].mean()] for x, y in zip(arms["policy"], arms["start"], strict=True)]
    )
    result = diebold_mariano(-ours, -theirs, seeds=seeds, same_seeds=True)
    assert row["p_value"] == pytest.approx(result.p_value)
    assert row["p_value"] > diebold_mariano(-ours, -theirs).p_value  # seeds count
    assert row["p_value"] < 1e-3
    assert (row["seeds_better"], row["seeds"], row["windows"], row["dropped"]) == (3, 3, 60, 0)


def test_errors_are_better_when_lower(arms):
    rows = {row["score"]: row for row in compare_arms(arms, "policy")}
    assert set(rows) == {"profit", "mae"}
    assert rows["mae"]["gain"] == pytest.approx(0.2)


def test_equal_arms_are_rarely_told_apart():
    found = []
    for trial in range(200):
        arms = {"start": [make_scores(0.0, trial)], "policy": [make_scores(0.0, 1000 + trial)]}
        found.append(compare_arms(arms, "policy", tested=["profit"])[0]["p_value"])
    assert 0.01 <= np.mean(np.array(found) < 0.05) <= 0.11


def test_windows_without_target_are_dropped_and_counted(arms):
    for seeds in arms.values():
        for seed in seeds:
            seed["profit"][7] = np.nan
            seed["profit"][8, 0] = np.nan
    row = compare_arms(arms, "policy", tested=["profit"])[0]
    assert (row["windows"], row["dropped"]) == (59, 1)


def test_few_windows_are_not_tested_and_the_table_says_so(arms):
    short = {name: [{"profit": seed["profit"][:9]} for seed in seeds] for name, seeds in arms.items()}
    rows = compare_arms(short, "policy")
    assert np.isnan(rows[0]["p_value"])
    assert rows[0]["gain"] > 0
    table = format_arms(short, rows, "policy")
    assert "(p" not in table
    assert table.endswith("Not tested: 9 windows are too few to tell.")


def test_the_table_says_unit_number_variance_family_and_seeds(arms):
    line = format_arms(arms, compare_arms(arms, "policy"), "policy").splitlines()[-1]
    assert "over 60 windows (mean over channels and seeds)" in line
    assert "from 2 to 6 cosine terms" in line
    assert "adjusted by Holm over the 2 tests of this table; 3 seeds, whose spread counts." in line
    one = {name: seeds[:1] for name, seeds in arms.items()}
    assert "one seed, so p speaks of these trained weights" in format_arms(one, compare_arms(one, "policy"), "policy")


def test_p_names_both_arms_and_a_legend_stands_below_the_table(arms):
    lines = format_arms(arms, compare_arms(arms, "policy"), "policy", ["- profit: in euro."]).splitlines()
    assert lines[4:7] == ["", "- profit: in euro.", ""]
    assert lines[7].startswith("p in a column: policy against that arm, two-sided test over 60 windows")


def test_arms_of_different_seeds_are_refused(arms):
    arms["start"] = arms["start"][:2]
    with pytest.raises(ValueError, match="numbers of seeds"):
        compare_arms(arms, "policy")


def test_table_names_each_arm_and_leaves_the_histogram_out(arms):
    table = format_arms(arms, compare_arms(arms, "policy"), "policy")
    assert table.splitlines()[0] == "| score | start | policy |"
    assert "pit" not in table


def test_curve_is_drawn_only_if_there_is_one(tmp_path):
    assert not plot_reward_curve([{"step": 1, "loss": 2.0}], tmp_path / "none.png")
    assert plot_reward_curve([{"step": 1, "reward": 2.0}, {"step": 2, "eval_reward": 1.0}], tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes()[:4] == b"\x89PNG"

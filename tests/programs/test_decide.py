"""`tsllm decide`: the YAML files parse, a small run is resumable and honest, and wrong files are refused."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from typer.testing import CliRunner

from tsllm.decisions import PeakShaving
from tsllm.programs.decide import run_decide
from tsllm.programs.decide_bench import compare_calibration
from tsllm.programs.decide_config import load_config

CONFIGS = sorted((Path(__file__).parents[2] / "recipes" / "configs" / "decide").glob("*.yaml"))
STOCK = {
    "problem": {"name": "inventory", "lead_time": 1, "order_cost": 2, "capacity": 8, "start": 2, "shortage": 5},
    "demand": {
        "transition": [[0.8, 0.2], [0.3, 0.7]],
        "means": [1, 3],
        "start": [0.5, 0.5],
        "stages": 4,
        "largest": 6,
        "paths": 60,
        "test": 200,
    },
    "policies": ["idle", "mean", "quantile", "independent", "saa", "base_stock", "dynamic"],
    "seeds": [0, 1],
}


def make_series(path: Path) -> None:
    """Days of a random level with a peak at a random step of the evening; twelve steps a day, 90 days."""
    rng = np.random.default_rng(0)
    y = []
    for _ in range(90):
        day = rng.normal(0, 0.3, 12) + 10 + rng.normal(0, 1)
        day[6 + rng.integers(0, 4)] += 4
        y.append(day)
    times = pd.date_range("2024-01-01", periods=90 * 12, freq="2h")
    pd.DataFrame({"unique_id": "a", "ds": times, "y": np.concatenate(y)}).to_csv(path, index=False)


def series_config(folder: Path, **changes) -> dict:
    make_series(folder / "load.csv")
    return {
        "problem": {"name": "peak_shaving", "energy": 8, "power": 4},
        "data": {"name": str(folder / "load.csv"), "h": 12, "train": 40, "validation": 10, "test": 20},
        "forecaster": {"period": 24, "ridge": 1.0, "refit": 35},
        "n_samples": 40,
        "seeds": [0],
        **changes,
    }


def write(folder: Path, content: dict) -> Path:
    path = folder / "decide.yaml"
    path.write_text(yaml.safe_dump({"output_dir": str(folder / "out"), **content}))
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_configuration_parses_and_opens_with_its_command(path):
    assert path.read_text().splitlines()[0] == f"# tsllm decide recipes/configs/decide/{path.name}"
    config = load_config(path)
    assert len(config.seeds) == 3


def test_the_dynamic_optimum_wins_and_nothing_beats_hindsight(tmp_path):
    report = run_decide(load_config(write(tmp_path, STOCK)))
    rows = {row["policy"]: row for row in report["table"]}
    assert report["table"][0]["policy"] == "dynamic"
    assert all(row["regret"] >= 0 for row in rows.values())
    assert rows["idle"]["regret_of_saving"] == 1.0
    assert rows["dynamic"]["verdict"] == "better"
    assert rows["dynamic"]["cost"] == pytest.approx(report["notes"]["dynamic"]["0"]["expected cost"], rel=0.1)
    text = (tmp_path / "out" / "decide.md").read_text()
    assert "| regret of saving | of hindsight | skill [interval] | p against saa |" in text
    # Perfect foresight costs less than the optimum of what can be known, so that has regret, too.
    dynamic = rows["dynamic"]
    expected = (dynamic["cost"] - report["hindsight"]) / report["hindsight"]
    assert dynamic["regret_of_hindsight"] == pytest.approx(expected)
    assert expected > 0.05
    assert f"| {dynamic['regret_of_saving']:.1%} | {expected:.1%} |" in text


def test_joint_paths_decide_better_than_independent_hours_and_a_second_run_computes_nothing(tmp_path):
    path = write(tmp_path, series_config(tmp_path))
    report = run_decide(load_config(path))
    rows = {row["policy"]: row for row in report["table"]}
    assert rows["saa"]["regret"] < rows["mean"]["regret"]
    scores = report["scores"][0]
    assert scores["variogram score, joint"] < scores["variogram score, independent"]
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*-*")}
    again = run_decide(load_config(path))
    assert again["table"] == report["table"]
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps


def test_a_change_of_the_problem_runs_everything_again(tmp_path):
    first = run_decide(load_config(write(tmp_path, series_config(tmp_path, policies=["mean", "saa"]))))
    changed = series_config(
        tmp_path, policies=["mean", "saa"], problem={"name": "peak_shaving", "energy": 2, "power": 4}
    )
    second = run_decide(load_config(write(tmp_path, changed)))
    assert second["hindsight"] > first["hindsight"]
    assert second["table"][0]["cost"] > second["hindsight"]


def test_the_test_part_does_not_reach_what_is_chosen(tmp_path):
    """Other values in the last 20 days change costs, but neither the quantile nor the trained policy."""
    policies = [
        "quantile",
        {"kind": "learned", "options": {"method": "dapo", "steps": 4, "group": 4, "eval_every": 2}},
    ]
    notes = []
    for shift in (0, 5):
        folder = tmp_path / str(shift)
        folder.mkdir()
        config = series_config(folder, policies=policies, reference="quantile")
        frame = pd.read_csv(folder / "load.csv")
        frame.loc[frame.index[-240:], "y"] += shift
        frame.to_csv(folder / "load.csv", index=False)
        notes.append(run_decide(load_config(write(folder, config)))["notes"])
    assert json.dumps(notes[0], sort_keys=True) == json.dumps(notes[1], sort_keys=True)


def test_the_alarm_reports_probabilities_of_the_day(tmp_path):
    config = series_config(tmp_path, problem={"name": "any_hour_alarm", "threshold": 14.0, "miss_cost": 3.0})
    scores = run_decide(load_config(write(tmp_path, config)))["scores"][0]
    assert 0 < scores["events"] < 1
    assert scores["mean probability, independent"] > 0
    assert {"Brier score, joint", "calibration error, joint", "p of the difference in Brier score"} <= set(scores)


def test_a_damaged_result_of_an_earlier_run_names_itself(tmp_path):
    config = load_config(write(tmp_path, STOCK))
    first = run_decide(config)
    held = sorted(p for p in Path(config.output_dir).rglob("*.json") if p.name != "decide.json")
    assert held
    for text in ("{", "[]", "3", "{}"):
        held[0].write_text(text)
        with pytest.raises(OSError, match=f"{held[0].name} is damaged"):
            run_decide(config)
    held[0].unlink()
    assert run_decide(config)["hindsight"] == first["hindsight"]


def test_the_command_prints_the_table(tmp_path):
    from tsllm.cli.main import app

    result = CliRunner().invoke(app, ["decide", str(write(tmp_path, STOCK)), "--set", "seeds=[0]"])
    assert result.exit_code == 0, result.output
    assert "p holm against saa" in result.output
    (row,) = [
        row for row in json.loads((tmp_path / "out" / "decide.json").read_text())["table"] if "p_holm" not in row
    ]
    assert row["policy"] == "saa"
    (line,) = [line for line in result.output.splitlines() if re.match(r"\W+saa .*%", line)]
    assert f"{row['regret_of_saving']:.1%}" in line
    assert f"{row['regret_of_hindsight']:.1%}" in line
    assert (tmp_path / "out" / "decide.json").is_file()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"polices": []}, "unknown keys .'polices'."),
        ({"problem": {"energy": 3}}, "problem needs a name"),
        ({"policies": ["saa", "best"]}, "policy 'best' must be one of"),
        ({"policies": ["saa", {"kind": "mean", "nam": "x"}]}, "policies.1. has unknown keys .'nam'."),
        ({"policies": ["mean"]}, "reference 'saa' is none of"),
        ({"policies": ["saa", "saa"]}, "different names"),
        ({"data": {"name": "x"}}, "either data .* or demand"),
        ({"seeds": []}, "seeds is empty"),
        ({"seeds": 0}, "seeds is 0 .whole number.; it must be a list of whole numbers"),
        ({"seeds": [0, 0]}, "give different numbers"),
        ({"seeds": [-1]}, "at least 0"),
        ({"n_samples": "many"}, "n_samples is 'many' .text."),
        ({"n_samples": 0}, "n_samples is 0; it must be at least 1"),
        ({"alpha": 5}, "alpha is 5"),
        ({"similar": -1.0}, "similar is -1.0"),
        ({"method": "best"}, "method is 'best'"),
        ({"policies": "saa"}, "policies is 'saa'"),
        ({"policies": [3]}, "policies.0.: kind is 3"),
        ({"policies": [None]}, "policies.0.: kind is null"),
        ({"problem": ["inventory"]}, "problem is .'inventory'."),
        ({"problem": None}, "problem is null"),
        ({"demand": 3}, "demand is 3"),
        ({"output_dir": 3}, "output_dir is 3"),
        ({"demand": {"stages": 3}}, "missing"),
    ],
)
def test_wrong_files_are_refused_with_the_reason(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        run_decide(load_config(write(tmp_path, STOCK | change)))


def make_shops(path: Path, shops: int = 12) -> None:
    """Monthly demand of shops of very different size; each year is a good or a bad one, which its start tells."""
    rng = np.random.default_rng(1)
    parts = []
    for k in range(shops):
        season = 1 + 0.3 * np.sin(2 * np.pi * np.arange(12) / 12)
        years = [10.0 ** (k % 3) * season * rng.choice([0.6, 1.4]) * rng.uniform(0.9, 1.1, 12) for _ in range(11)]
        times = pd.date_range("2010-01-01", periods=12 * (11 - k % 2), freq="MS")
        parts.append(pd.DataFrame({"unique_id": f"s{k:02d}", "ds": times, "y": np.concatenate(years)[-len(times) :]}))
    pd.concat(parts).to_csv(path, index=False)


def shop_config(folder: Path, **changes) -> dict:
    make_shops(folder / "shops.csv")
    data = {"name": str(folder / "shops.csv"), "h": 6, "train": 6, "validation": 2, "test": 4, "units": 5}
    return {
        "problem": {"name": "inventory", "lead_time": 1, "order_cost": 2, "capacity": 14, "start": 8, "shortage": 6},
        "data": data | {"units_over": 12, "min_length": 130, "series": 4},
        "forecaster": {"model": "SeasonalNaive"},
        "n_samples": 20,
        "pool": True,
        "unit": "series",
        "seeds": [0],
        **changes,
    }


def test_an_inventory_panel_is_counted_in_units_and_policies_with_recourse_gain(tmp_path):
    orders = {"kind": "orders", "options": {"method": "dr_grpo", "steps": 6, "group": 8, "eval_every": 3}}
    policies = ["idle", "saa", "replan", "base_stock", orders]
    config = load_config(write(tmp_path, shop_config(tmp_path, policies=policies)))
    report = run_decide(config)
    assert report["windows"] == 16  # 4 series of 6 with 132 months, 4 windows each
    rows = {row["policy"]: row for row in report["table"]}
    assert all(row["regret"] >= 0 for row in rows.values())
    assert rows["replan"]["cost"] < rows["saa"]["cost"]
    from tsllm.programs.decide_build import build_bench

    bench = build_bench(config, tmp_path, lambda _: None)
    assert (bench.truth["test"] == bench.truth["test"].round()).all()
    assert 3 < bench.truth["test"].mean() < 8  # five a month, whatever the size of the shop
    series = pd.read_csv(tmp_path / "shops.csv").query("unique_id == 's00'")["y"].to_numpy()
    lot = series[-36:-24].mean() / 5  # before the first test window
    np.testing.assert_array_equal(bench.truth["test"][0], np.round(series[-24:-18] / lot))


def test_paths_from_a_pool_have_the_size_of_each_series_own_errors(tmp_path):
    from tsllm.programs.decide_build import build_bench

    config = load_config(write(tmp_path, shop_config(tmp_path, policies=["saa"])))
    bench = build_bench(config, tmp_path, lambda _: None)
    errors = (bench.truth["train"] - bench.forecast["train"]).numpy().reshape(4, 6, 6)
    size = np.abs(errors).mean((1, 2))
    shapes = (errors / size[:, None, None]).reshape(-1, 6)
    drawn = (bench.paths("validation", 0) - bench.forecast["validation"][:, None]).numpy()  # [8, 20, 6]
    for window, own in zip(drawn, np.repeat(size, 2), strict=True):
        gaps = np.abs(window[:, None] / own - shapes[None]).max(-1)
        assert gaps.min(1).max() < 1e-9  # every path's error is one of the pool, scaled
    assert len({gaps.argmin(1).tobytes() for gaps in [np.abs(w[:, None] - shapes).max(-1) for w in drawn]}) > 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step_size": 3}, r"step_size \(3\) is below h \(6\); windows would overlap"),
        ({"series": 9}, "9 series are asked for, 6 have min_length"),
        ({"units_over": 500}, "has no mean above 0 over 500 steps"),
        ({"unit": 5}, "unknown key 'unit'"),
    ],
)
def test_wrong_panels_are_refused_with_the_reason(tmp_path, change, message):
    config = shop_config(tmp_path, policies=["saa"])
    config["data"] |= change
    with pytest.raises(ValueError, match=message):
        run_decide(load_config(write(tmp_path, config)))


def test_a_pool_excludes_similar_windows_and_the_unit_is_one_of_two(tmp_path):
    with pytest.raises(ValueError, match="give one of them"):
        load_config(write(tmp_path, shop_config(tmp_path, policies=["saa"], similar=1.0)))
    with pytest.raises(ValueError, match="unit is 'shop'"):
        load_config(write(tmp_path, shop_config(tmp_path, policies=["saa"], unit="shop")))


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("orders", "policy 'orders' cannot run on peak_shaving; .* or take idle, mean"),
        ({"kind": "learned", "options": {"stps": 3}}, "unknown option 'stps'"),
        ({"kind": "learned", "options": {"steps": "many"}}, "steps is 'many' .text."),
        ({"kind": "learned", "options": {"simulated": "yes"}}, "simulated is 'yes'"),
        ({"kind": "learned", "options": {"method": "grp"}}, "method 'grp' must be one of"),
        ({"kind": "learned", "options": {"method": "grpo", "objective": {"tempo": 3}}}, "tempo=3"),
        ({"kind": "learned", "options": {"method": "direct", "objective": {"beta": 3}}}, "has no objective"),
        ({"kind": "quantile", "options": {"level": [0.8]}}, "quantile: unknown option 'level'; known: levels"),
        ({"kind": "quantile", "options": {"levels": [80]}}, "numbers between 0 and 1"),
        ({"kind": "quantile", "options": {"levels": []}}, "numbers between 0 and 1"),
    ],
)
def test_policies_are_checked_before_anything_is_forecast(tmp_path, policy, message):
    said = []
    config = load_config(write(tmp_path, series_config(tmp_path, policies=["saa", policy])))
    with pytest.raises(ValueError, match=message):
        run_decide(config, said.append)
    assert not said
    assert not list((tmp_path / "out").iterdir())


def test_policies_are_those_of_the_problem(tmp_path):
    with pytest.raises(ValueError, match="policy 'replan' cannot run on simulated demand"):
        run_decide(load_config(write(tmp_path, STOCK | {"policies": ["saa", "replan"]})))
    alarm = {"problem": {"name": "any_hour_alarm", "threshold": 14.0}}
    learned = {"kind": "learned", "options": {"method": "spo_plus"}}
    config = load_config(write(tmp_path, series_config(tmp_path, policies=["saa", learned]) | alarm))
    with pytest.raises(ValueError, match=r"spo_plus needs the SPO. loss, which any_hour_alarm does not have"):
        run_decide(config)


class NoOptimum(PeakShaving):
    """Calls it the best to do nothing."""

    def hindsight(self, path):
        action = torch.zeros_like(path)
        return action, self._cost(action, path)


def test_a_hindsight_that_is_beaten_is_refused(tmp_path):
    problem = {"problem": {"name": f"{__name__}.NoOptimum", "energy": 8, "power": 4}}
    config = load_config(write(tmp_path, series_config(tmp_path, policies=["idle", "saa"]) | problem))
    with pytest.raises(RuntimeError, match=r"'saa' costs less than the hindsight optimum in .* of 20 windows"):
        run_decide(config)


class WrongCost(PeakShaving):
    """Finds the best action and says another cost."""

    def hindsight(self, path):
        action, cost = super().hindsight(path)
        return action, 2 * cost


def test_a_hindsight_that_its_own_action_does_not_reach_is_refused(tmp_path):
    problem = {"problem": {"name": f"{__name__}.WrongCost", "energy": 8, "power": 4}}
    config = load_config(write(tmp_path, series_config(tmp_path, policies=["idle", "saa"]) | problem))
    with pytest.raises(RuntimeError, match=r"hindsight says a cost of .* its own action costs .* of 20 paths"):
        run_decide(config)


def test_calibration_is_compared_by_swapping_blocks_of_days():
    rng = np.random.default_rng(1)
    chance = rng.uniform(0.05, 0.95, 210)
    event = (rng.uniform(size=210) < chance).astype(float)
    when = np.arange(210)
    wrong = np.clip(chance + 0.35, 0, 1)  # much too sure of events
    assert compare_calibration(chance, wrong, event, when) == 1 / 2000  # no swap of thirty weeks is as far apart
    assert compare_calibration(wrong, chance, event, when) == 1 / 2000
    assert compare_calibration(chance, chance, event, when) == 1.0
    # One block only: a swap changes the sign, never the size, so that nothing can be told.
    assert compare_calibration(chance, wrong, event, when, block=210) == 1.0


def test_calibration_of_equal_forecasters_is_not_told_apart_more_often_than_promised():
    found = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        chance = rng.uniform(size=140)
        event = (rng.uniform(size=140) < chance).astype(float)
        first, second = (np.clip(chance + rng.normal(0, 0.1, 140), 0, 1) for _ in range(2))
        found.append(compare_calibration(first, second, event, np.arange(140), draws=99))
    assert np.mean(np.array(found) <= 0.05) <= 0.15  # of 40 at 5 %: more than 6 have a chance below 1 %

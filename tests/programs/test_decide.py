"""`tsllm decide`: the YAML files parse, a small run is resumable and honest, and wrong files are refused."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from tsllm.programs.decide import load_config, run_decide

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
    assert "reference" in (tmp_path / "out" / "decide.md").read_text()


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
    assert "dynamic" in result.output
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
        ({"seeds": 0}, "seeds is 0 .int.; it must be"),
        ({"seeds": [0, 0]}, "give different numbers"),
        ({"seeds": [-1]}, "at least 0"),
        ({"n_samples": "many"}, "n_samples is 'many' .text."),
        ({"n_samples": 0}, "n_samples is 0; it must be at least 1"),
        ({"alpha": 5}, "alpha is 5"),
        ({"similar": -1.0}, "similar is -1.0"),
        ({"method": "best"}, "method is 'best'"),
        ({"policies": "saa"}, "policies is 'saa'"),
        ({"policies": [3]}, "policies.0.: kind is 3"),
        ({"policies": [None]}, "policies.0.: kind is None"),
        ({"problem": ["inventory"]}, "problem is .'inventory'."),
        ({"problem": None}, "problem is None"),
        ({"demand": 3}, "demand is 3"),
        ({"output_dir": 3}, "output_dir is 3"),
        ({"demand": {"stages": 3}}, "missing"),
    ],
)
def test_wrong_files_are_refused_with_the_reason(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        run_decide(load_config(write(tmp_path, STOCK | change)))

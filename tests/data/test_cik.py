"""Reading Context is Key's lines."""

import json
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from tsllm.data.cik import load_cik


def record(**changes):
    past = {"x": {"2024-01-01T00:00:00.000": 5.0, "2024-01-02T00:00:00.000": 6.0}}
    past["y"] = {"2024-01-01T00:00:00.000": 1.0, "2024-01-02T00:00:00.000": 2.0}
    future = {"x": {"2024-01-03T00:00:00.000": 7.0}, "y": {"2024-01-03T00:00:00.000": 3.0}}
    base = {
        "name": "Task", "seed": 1, "weight": "1/3", "background": "", "scenario": "It rains.", "constraints": "",
        "seasonal_period": -1, "past_time": json.dumps(past), "future_time": json.dumps(future),
        "region_of_interest": [0], "metric_scaling": 0.5, "constraint_min": 0.0, "constraint_max": None,
        "constraint_variable_max_index": [0], "constraint_variable_max_values": [4.0],
    }  # fmt: skip
    return base | changes


def write(tmp_path, *records):
    path = tmp_path / "cik.jsonl"
    path.write_text("\n".join(json.dumps(r) for r in records) + "\n")
    return path


def test_the_last_column_is_the_target_and_the_truth_is_kept_apart(tmp_path):
    (instance,) = load_cik(write(tmp_path, record()))
    assert instance.past.tolist() == [1.0, 2.0]
    assert instance.covariates["x"].tolist() == [5.0, 6.0]
    assert instance.season == 1
    assert instance.text == "It rains."
    assert instance.key == "Task/1"
    assert [str(t) for t in instance.future] == ["2024-01-03 00:00:00"]
    s = instance.scoring
    assert np.array_equal(s.truth, [3.0])
    assert (s.region, s.scaling, s.low, s.high, s.step_highs, s.weight) == (
        (0,),
        0.5,
        0.0,
        None,
        {0: 4.0},
        Fraction(1, 3),
    )


def test_damaged_files_are_refused_by_line(tmp_path):
    with pytest.raises(ValueError, match="holds Task/1 twice"):
        load_cik(write(tmp_path, record(), record()))
    broken = record()
    del broken["metric_scaling"]
    with pytest.raises(ValueError, match="line 2: field 'metric_scaling' is missing"):
        load_cik(write(tmp_path, record(), broken))
    with pytest.raises(ValueError, match="step 7 lies outside the 1 to come"):
        load_cik(write(tmp_path, record(region_of_interest=[7])))
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_cik(tmp_path / "nothing.jsonl")


PAST = {"2024-01-01": 1.0, "2024-01-02": 2.0}
NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"weight": "0"}, "weight is 0; give a number or a fraction above 0"),
        ({"weight": "1/0"}, "weight is '1/0'; give a number or a fraction above 0"),
        ({"weight": -1}, "weight is -1; give a number"),
        ({"weight": NAN}, "weight is nan; give a number"),
        ({"weight": INFINITE}, "weight is inf; give a number"),
        ({"weight": "1e400"}, "weight is 1000"),
        ({"weight": "1e-400"}, "weight is 1/1000"),
        ({"weight": None}, "weight is None; give a number"),
        ({"future_time": json.dumps({"y": {"2024-01-33": 1.0}})}, "future_time has the time '2024-01-33'"),
        ({"past_time": json.dumps({"y": {"soon": 1.0}})}, "past_time has the time 'soon'"),
        ({"past_time": json.dumps({"y": {"03/04/2024": 1.0}})}, "past_time has the time '03/04/2024'"),
        ({"past_time": json.dumps({"y": {"2024-01-01T00:00Z": 1.0}})}, "past_time has the time '2024-01-01T00:00Z'"),
        ({"past_time": json.dumps({"y": {"1704067200000": 1.0}})}, "past_time has the time '1704067200000'"),
        ({"future_time": "{"}, "future_time is no JSON text"),
        ({"future_time": "{}"}, "future_time holds no values"),
        ({"past_time": '{"y": {}}'}, "past_time holds no values"),
        ({"past_time": '{"y": {"2024-01-01": 1, "2024-01-01": 2}}'}, "past_time .*'2024-01-01' stands there twice"),
        (
            {"future_time": json.dumps({"x": {"2024-01-03": 1.0}})},
            "future_time holds x, but not the target 'y' of past_time",
        ),
        (
            {"past_time": json.dumps({"y": PAST | {"2024-01-03": 3.0}})},
            "past_time reaches to 2024-01-03 00:00:00, but future_time begins at 2024-01-03 00:00:00",
        ),
        (
            {"past_time": json.dumps({"y": PAST | {"2024-01-02T00:00:00": 2.0}})},
            "past_time holds the time 2024-01-02 00:00:00 twice",
        ),
        ({"past_time": json.dumps({"y": PAST | {"2024-01-02": None}})}, "the target has missing, infinite or no past"),
        ({"past_time": json.dumps({"y": PAST | {"2024-01-02": INFINITE}})}, "the target has missing, infinite or no"),
        ({"past_time": json.dumps({"y": PAST | {"2024-01-02": 1e200}})}, "the target .* or some beyond 1e\\+100"),
        (
            {"past_time": json.dumps({"y": PAST | {"2024-01-02": "2"}})},
            "past_time at 2024-01-02 00:00:00 is '2', a str",
        ),
        (
            {"past_time": json.dumps({"x": {"2024-01-02": INFINITE}, "y": PAST})},
            "past_time holds an infinite value in",
        ),
        ({"future_time": json.dumps({"y": {"2024-01-03": NAN}})}, "the target has missing, infinite or no values to"),
        ({"metric_scaling": NAN}, "metric_scaling is nan; give a number above 0"),
        ({"metric_scaling": INFINITE}, "metric_scaling is inf; give a number above 0"),
        ({"metric_scaling": 0}, "metric_scaling is 0.0; give a number above 0"),
        ({"metric_scaling": -1}, "metric_scaling is -1.0; give a number above 0"),
        ({"metric_scaling": None}, "metric_scaling is None, a NoneType; give a number"),
        ({"constraint_max": "5"}, "constraint_max is '5', a str; give a number"),
        ({"constraint_min": NAN}, "constraint_min is nan; give a finite number"),
        ({"constraint_max": INFINITE}, "constraint_max is inf; give a finite number"),
        ({"constraint_min": True}, "constraint_min is True, a bool; give a number"),
        ({"constraint_min": 5.0}, "constraint_min is 5.0, above the largest value allowed, 4.0"),
        ({"constraint_variable_max_values": [NAN]}, "constraint_variable_max_values at 0 is nan; give a finite"),
        ({"constraint_variable_max_values": [4.0, 5.0]}, r"constraint_variable_max_index holds \[0\] and"),
        (
            {"constraint_variable_max_index": [0, 0], "constraint_variable_max_values": [4.0, 5.0]},
            r"constraint_variable_max_index holds \[0, 0\] and",
        ),
        ({"constraint_variable_max_index": [0.5]}, "constraint_variable_max_index is 0.5; give a whole number"),
        ({"constraint_variable_max_index": 0}, "constraint_variable_max_index is 0, a int; give a list"),
        ({"region_of_interest": [0.7]}, "region_of_interest is 0.7; give a whole number"),
        ({"region_of_interest": [-1]}, "step -1 lies outside the 1 to come"),
        ({"region_of_interest": "0"}, "region_of_interest is '0', a str; give a list"),
        ({"seasonal_period": 24.9}, "seasonal_period is 24.9; give a whole number"),
        ({"seasonal_period": -7}, "seasonal_period is -7; give the steps of a season, or -1 for none"),
        ({"seasonal_period": "day"}, "seasonal_period is 'day', a str; give a number"),
        ({"background": ["a"]}, r"background is \['a'\], a list; give a text"),
        ({"scenario": 5}, "scenario is 5, a int; give a text"),
        ({"constraints": {"a": 1}}, "constraints is {'a': 1}, a dict; give a text"),
        ({"scenario": "caf\ud800"}, "scenario holds half of a character"),
    ],
)
def test_what_is_impossible_is_refused_with_line_instance_and_field(changes, told, tmp_path):
    with pytest.raises(ValueError, match=f"line 2: Task/2: {told}"):
        load_cik(write(tmp_path, record(), record(seed=2, **changes)))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seed": 1.9}, "seed is 1.9; give a whole number"),
        ({"seed": "2"}, "seed is '2', a str; give a number"),
        ({"seed": None}, "seed is None, a NoneType; give a number"),
        ({"name": 5}, "name is 5, a int; give a text"),
        ({"name": ""}, "name is ''; give the name of the task"),
        ({"name": "a\nb"}, r"name is 'a\\nb'; give the name of the task"),
    ],
)
def test_an_instance_needs_a_name_of_its_own(changes, told, tmp_path):
    with pytest.raises(ValueError, match=f"line 2: {told}"):
        load_cik(write(tmp_path, record(), record(**changes)))


def test_a_name_that_stands_twice_in_a_line_and_a_broken_file_are_told(tmp_path):
    path = write(tmp_path, record())
    good = path.read_text().strip()
    path.write_text(f'{good[:-1]}, "seed": 9}}')
    with pytest.raises(ValueError, match="line 1: 'seed' stands there twice"):
        load_cik(path)
    path.write_bytes(good.encode() + b'\n{"name": "caf\xe9"}')
    with pytest.raises(ValueError, match=r"line 2: .*utf-8"):
        load_cik(path)
    path.write_text("\ufeff\n" + good, encoding="utf-8")
    with pytest.raises(ValueError, match="line 1"):
        load_cik(path)
    path.write_text("\ufeff" + good, encoding="utf-8")
    assert [i.key for i in load_cik(path)] == ["Task/1"]


@pytest.mark.parametrize("season", [None, -1, 1])
def test_no_season_is_a_season_of_one_step(season, tmp_path):
    assert load_cik(write(tmp_path, record(seasonal_period=season)))[0].season == 1


def test_missing_texts_bounds_and_regions_are_none(tmp_path):
    gone = ("background", "region_of_interest", "constraint_variable_max_index", "constraint_variable_max_values")
    (instance,) = load_cik(write(tmp_path, record(constraint_min=None, scenario="", **dict.fromkeys(gone))))
    assert (instance.text, instance.scoring.region, instance.scoring.step_highs) == ("", (), {})
    assert (instance.scoring.low, instance.scoring.high) == (None, None)


def test_whole_numbers_that_are_written_with_a_point_stay_the_same(tmp_path):
    (instance,) = load_cik(write(tmp_path, record(seed=3.0, seasonal_period=24.0, region_of_interest=[0.0])))
    assert (instance.key, instance.season, instance.scoring.region) == ("Task/3", 24, (0,))


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2024", "2024-01-01"), ("2024Q2", "2024-04-01"), ("2024-05", "2024-05-01"), ("2024/05/06", "2024-05-06"),
        ("2024-05-06 07:08", "2024-05-06 07:08"), ("2024-05-06T07:08:09.500", "2024-05-06 07:08:09.5"),
    ],
)  # fmt: skip
def test_times_with_the_year_in_front_are_read(written, read, tmp_path):
    changes = {"past_time": json.dumps({"y": {"2023": 1.0}}), "future_time": json.dumps({"y": {written: 3.0}})}
    (instance,) = load_cik(write(tmp_path, record(**changes)))
    assert instance.future.tolist() == [pd.Timestamp(read)]

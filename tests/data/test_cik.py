"""Reading Context is Key's lines."""

import json
from fractions import Fraction

import numpy as np
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


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"weight": "0"}, "weight is '0'; give a number or a fraction above 0"),
        ({"weight": "1/0"}, "weight is '1/0'; give a number or a fraction above 0"),
        ({"weight": -1}, "weight is -1; give a number"),
        ({"future_time": json.dumps({"y": {"2024-01-33": 1.0}})}, "future_time has the time '2024-01-33'"),
        ({"past_time": json.dumps({"y": {"soon": 1.0}})}, "past_time has the time 'soon'"),
        ({"future_time": "{"}, "future_time is no JSON text"),
        ({"future_time": "{}"}, "future_time holds no values"),
        (
            {"future_time": json.dumps({"x": {"2024-01-03": 1.0}})},
            "future_time holds x, but not the target 'y' of past_time",
        ),
    ],
)
def test_a_damaged_value_is_told_with_its_field(changes, told, tmp_path):
    with pytest.raises(ValueError, match=f"line 2: {told}"):
        load_cik(write(tmp_path, record(), record(seed=2, **changes)))

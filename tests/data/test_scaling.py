import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tsllm.data.scaling import Affine, IdentityScaler, StandardScaler, build_scaler, load_scaler

FRAME = pd.DataFrame(
    {
        "unique_id": ["a"] * 4 + ["b"] * 3,
        "ds": [1, 2, 3, 4, 1, 2, 3],
        "y": [1.0, 3.0, np.nan, 5.0, 7.0, 7.0, 7.0],
        "x": 2.0,
    }
)


def test_statistics_worked_by_hand():
    scaler = StandardScaler().fit(FRAME)
    loc, scale = scaler.loc_scale(["a", "b"])
    assert loc.tolist() == [3.0, 7.0]
    assert scale == pytest.approx([np.sqrt(8 / 3), 1.0])
    scaled = scaler.transform(FRAME)["y"].to_numpy()
    assert scaled[[0, 1, 3]] == pytest.approx([-2 / np.sqrt(8 / 3), 0, 2 / np.sqrt(8 / 3)])
    assert np.isnan(scaled[2])
    assert scaled[4:].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("level", [0.1, 1e9, -1e-9, 0.0, 1 / 3])
def test_a_constant_series_scales_to_zero_without_nan(level):
    df = pd.DataFrame({"unique_id": "a", "ds": range(1000), "y": level})
    scaler = StandardScaler().fit(df)
    scaled = scaler.transform(df)["y"]
    assert scaler.stats["y"]["a"].scale == 1.0
    assert abs(scaled).max() <= 1e-6
    assert scaler.inverse_transform(df.assign(y=scaled))["y"].to_numpy() == pytest.approx(df["y"].to_numpy())


def test_only_the_training_part_is_read():
    train = FRAME[FRAME["ds"] <= 2]
    wild = FRAME.assign(y=FRAME["y"].where(FRAME["ds"] <= 2, 1e6))
    assert StandardScaler().fit(train).to_dict() == StandardScaler().fit(wild[wild["ds"] <= 2]).to_dict()
    scaled = StandardScaler().fit(train).transform(wild)
    assert scaled["y"].iloc[3] == (1e6 - 2.0) / 1.0


def test_forecast_columns_come_back_in_the_units_of_the_target():
    scaler = StandardScaler().fit(FRAME)
    forecast = pd.DataFrame({"unique_id": ["b", "a"], "TimeLLM": [1.0, 1.0], "TimeLLM-hi-80": [2.0, 2.0]})
    back = scaler.inverse_transform(forecast, ["TimeLLM", "TimeLLM-hi-80"])
    assert back["TimeLLM"].to_numpy() == pytest.approx([8.0, 3 + np.sqrt(8 / 3)])
    assert back["TimeLLM-hi-80"].to_numpy() == pytest.approx([9.0, 3 + 2 * np.sqrt(8 / 3)])
    assert forecast["TimeLLM"].tolist() == [1.0, 1.0]


def test_arrays_come_back_with_and_without_the_level():
    scaler = StandardScaler().fit(FRAME)
    ones = np.ones((2, 3, 2))  # [B, H, C]
    assert scaler.inverse_values(ones, ["b", "a"])[1, 2] == pytest.approx([8.0, 3 + np.sqrt(8 / 3)])
    assert scaler.inverse_values(ones, ["b", "a"], shift=False)[0, 0] == pytest.approx([1.0, np.sqrt(8 / 3)])


def test_covariates_scale_by_their_own_statistics():
    df = FRAME.assign(x=np.arange(7.0))
    scaled = StandardScaler().fit(df, ["y", "x"]).transform(df)
    assert scaled["x"].to_numpy()[:4] == pytest.approx((np.arange(4) - 1.5) / np.sqrt(1.25))
    untouched = StandardScaler().fit(df).transform(df)
    assert untouched["x"].tolist() == df["x"].tolist()


def test_json_keeps_everything():
    df = FRAME.assign(unique_id=[1] * 4 + [2] * 3)
    for scaler in (StandardScaler().fit(df, ["y", "x"]), IdentityScaler().fit(df)):
        again = load_scaler(json.loads(json.dumps(scaler.to_dict())))
        assert type(again) is type(scaler)
        assert again.stats == scaler.stats
        pd.testing.assert_frame_equal(again.transform(df), scaler.transform(df))


def test_identity_leaves_everything():
    scaler = build_scaler("none").fit(FRAME)
    pd.testing.assert_frame_equal(scaler.transform(FRAME), FRAME)
    pd.testing.assert_frame_equal(scaler.inverse_transform(FRAME), FRAME)


def test_mistakes_are_told():
    with pytest.raises(ValueError, match="series 'c' is unknown to the scaler"):
        StandardScaler().fit(FRAME).transform(FRAME.assign(unique_id="c"))
    with pytest.raises(ValueError, match="not fitted on column 'y'"):
        StandardScaler().loc_scale(["a"])
    with pytest.raises(ValueError, match="series 'b': no observed 'y'"):
        StandardScaler().fit(FRAME.assign(y=FRAME["y"].where(FRAME["unique_id"] == "a")))
    with pytest.raises(ValueError, match="scaler 'minmax' is unknown; choose one of"):
        build_scaler("minmax")
    with pytest.raises(ValueError, match="expected one of"):
        load_scaler({"stats": {}})


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6).filter(lambda y: y == 0 or abs(y) > 1e-150), min_size=2, max_size=30))
def test_inverse_undoes_transform(values):  # of values below, a test of their own says that they are refused
    df = pd.DataFrame({"unique_id": "a", "ds": range(len(values)), "y": values})
    scaler = StandardScaler().fit(df)
    back = scaler.inverse_transform(scaler.transform(df))
    assert np.allclose(back["y"], df["y"], rtol=1e-9, atol=1e-6)


PANEL = pd.DataFrame(
    {
        "unique_id": ["a"] * 3 + ["b"] * 3,
        "ds": [1, 2, 3] * 2,
        "y": [0.0, 0.0, 0.0, 1.0, 2.0, 3.0],
        "size": [10.0] * 3 + [30.0] * 3,
        "flag": 5.0,
    }
)


def test_a_static_covariate_tells_the_series_apart():
    # Mean 20 and deviation 10 over the column; per series it would be zero everywhere.
    scaler = StandardScaler().fit(PANEL, ["y", "size", "flag"])
    scaled = scaler.transform(PANEL)
    assert scaled["size"].tolist() == [-1.0] * 3 + [1.0] * 3
    assert scaled["flag"].tolist() == [0.0] * 6  # one constant everywhere tells nothing
    assert load_scaler(json.loads(json.dumps(scaler.to_dict()))) == scaler


def test_a_series_of_zeros_has_scale_one_and_is_named():
    scaler = StandardScaler().fit(PANEL, ["y", "size"])
    assert scaler.stats["y"]["a"] == Affine(0.0, 1.0)
    assert scaler.constant_series() == ["a"]
    moved = PANEL.assign(y=[5.0, 0, 0, 1, 2, 3])
    assert scaler.transform(moved)["y"].tolist()[:3] == [5.0, 0.0, 0.0]  # original units
    assert load_scaler(json.loads(json.dumps(scaler.to_dict()))).constant_series() == ["a"]


def test_series_that_training_never_saw_are_added_by_their_history():
    scaler = StandardScaler().fit(PANEL, ["y", "size"])
    before = dict(scaler.stats["y"])
    new = PANEL.assign(unique_id=["a"] * 3 + ["c"] * 3, y=[9.0, 9, 9, 2, 4, 6], size=[10.0] * 3 + [40.0] * 3)
    scaler.extend(new)
    assert {s: scaler.stats["y"][s] for s in "ab"} == before
    assert scaler.stats["y"]["c"] == Affine(4.0, pytest.approx(np.sqrt(8 / 3)))
    assert scaler.stats["size"]["c"] == Affine(20.0, 10.0)  # (40 - 20) / 10: the panel's, not its own zero
    assert scaler.constant_series("size") == ["a", "b", "c"]


@pytest.mark.parametrize(
    "row",
    [["a", 0.0, -1.0], ["a", 0.0, 0.0], ["a", 0.0, float("nan")], ["a", float("inf"), 1.0], ["a", 0.0, "1"],
     ["a", True, 1.0], ["a", 0.0], ["a", 0.0, None], "abc", [["a"], 0.0, 1.0]],
)  # fmt: skip
def test_a_damaged_scaler_is_refused(row):
    with pytest.raises(ValueError, match="stored scaler"):
        load_scaler({"name": "standard", "stats": {"y": [row]}})


@pytest.mark.parametrize("state", [[], {"name": ["standard"]}, {"name": "standard"}, {"name": "standard", "stats": 3}])
def test_what_is_no_scaler_is_refused(state):
    with pytest.raises(ValueError, match="scaler"):
        load_scaler(state)


@pytest.mark.parametrize("unit", [1e-160, 1e-200, 1e-300, 5e-324])
def test_values_too_small_to_scale_are_told_and_constants_are_not(unit):
    with pytest.raises(ValueError, match=r"series 'a': 'y' is too small .* multiply it by a power of ten"):
        StandardScaler().fit(PANEL.assign(y=np.arange(1, 1 + len(PANEL)) * unit))
    assert StandardScaler().fit(PANEL.assign(y=unit)).stats["y"]["a"].scale == 1.0


def test_small_values_are_scaled_like_any_others():
    plain = StandardScaler().fit(PANEL).transform(PANEL)["y"]
    small = PANEL.assign(y=PANEL["y"] * 2.0**-450)
    np.testing.assert_array_equal(StandardScaler().fit(small).transform(small)["y"], plain)


def test_values_too_large_to_scale_are_told():
    with pytest.raises(ValueError, match="series 'a': 'y' is too large"):
        StandardScaler().fit(PANEL.assign(y=PANEL["y"] + [1e200, 0, 0, 0, 0, 0]))

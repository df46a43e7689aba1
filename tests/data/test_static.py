import ast
import re

import numpy as np
import pandas as pd
import pytest

import tsllm
from tsllm.data.frame import validate_future
from tsllm.data.static import encode_static, name_static
from tsllm.forecasting.model_spec import ModelSpec, reads_static
from tsllm.forecasting.roster import build_forecaster
from tsllm.types import FrameError


def shops(count=60, extra=()):
    names = {"A": ("north", 3.0), "B": ("south", 5.0), "C": ("north", 8.0), **dict(extra)}
    hours = pd.date_range("2024", periods=count, freq="h")
    wave = np.sin(np.arange(count) * np.pi / 6)
    return pd.concat(
        [
            pd.DataFrame({"unique_id": s, "ds": hours, "y": size * (1 + wave), "region": region, "size": size})
            for s, (region, size) in names.items()
        ],
        ignore_index=True,
    )


def test_numbers_stay_and_texts_become_one_column_a_value():
    df, static = encode_static(shops(2), ["region", "size"])
    assert static == {"region": ["north", "south"], "size": None}
    assert df["region=north"].tolist() == [1, 1, 0, 0, 1, 1]
    assert df["region=south"].tolist() == [0, 0, 1, 1, 0, 0]
    assert df["size"].tolist() == [3, 3, 5, 5, 8, 8]
    later, _ = encode_static(shops(2).query("unique_id == 'B'"), static)
    assert later["region=north"].tolist() == [0, 0]
    assert name_static(static) == ["region=north", "region=south", "size"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"size": [1.0, 2.0] * 3}, r"series 'A': 'size' changes \(1.0, then 2.0\).*past_covariates"),
        ({"size": [None, 3.0, 5.0, 5.0, 8.0, 8.0]}, "series 'A', row 0: static covariate 'size' is missing"),
    ],
)
def test_what_is_not_static_is_told(change, text):
    with pytest.raises(FrameError, match=text):
        encode_static(shops(2).assign(**change), ["size"])


def test_a_value_that_training_never_saw_is_told():
    _, static = encode_static(shops(2), ["region"])
    with pytest.raises(FrameError, match="series 'D': the static covariate 'region' is 'west', which training never"):
        encode_static(shops(2, [("D", ("west", 1.0))]), static)


def test_following_the_advice_of_a_value_that_training_never_saw_works():
    _, static = encode_static(shops(2), ["region"])
    df = shops(2, [("D", ("west", 1.0))])
    with pytest.raises(FrameError) as caught:
        encode_static(df, static)
    way = re.search(r"df\['region'\] = .*$", str(caught.value))[0]
    exec(way, {"df": df})
    assert encode_static(df, static)[0]["region=north"].tolist() == [1, 1, 0, 0, 1, 1, 1, 1]


def follow(message, df, X_df):
    """Carries out the code that a message advises on both tables; returns them and the columns to name."""
    code, named = re.search(r"(kinds = .*?dtype=float\)) .* and name the columns (\[.*?\])", message).groups()
    told = {"pd": pd, "df": df}
    exec(code, told)
    later = {"pd": pd, "df": X_df, "kinds": told["kinds"]}
    exec(code.split("; ")[1], later)
    return told["df"], later["df"], ast.literal_eval(named)


@pytest.mark.parametrize("asked", [{"covariates": ["kind"]}, {"past_covariates": ["kind"]}])
def test_names_that_vary_are_encoded_as_the_message_says(asked):
    df = shops(48).assign(kind=["sale", "plain", "sale"] * 48)
    ahead = tsllm.future_frame(df, 6).assign(kind="plain")  # not every kind comes
    options = {"context_length": 24, "patch_length": 6, "d_model": 16, "num_layers": 1, "num_heads": 2}
    options["training"] = {"max_steps": 2}
    with pytest.raises(FrameError, match=r"column 'kind' is not numeric .found 'sale'") as caught:
        tsllm.NeuralForecaster("timexer", 6, **asked, **options).fit(df)
    encoded, X_df, names = follow(str(caught.value), df, ahead)
    assert names == ["kind_plain", "kind_sale"]
    assert encoded[names].to_numpy()[:3].tolist() == [[0, 1], [1, 0], [0, 1]]
    assert X_df[names].to_numpy().tolist() == [[1, 0]] * 18
    made = tsllm.NeuralForecaster("timexer", 6, **{next(iter(asked)): names}, **options).fit(encoded)
    assert len(made.predict(X_df=X_df if "covariates" in asked else None)) == 18
    with pytest.raises(FrameError, match=r"changes .'sale', then 'plain'.*once it is numbers") as caught:
        encode_static(df, ["kind"])
    assert follow(str(caught.value), df, ahead)[2] == names


def test_a_missing_value_ahead_is_mended_in_the_table_of_the_horizon():
    df = shops(48).assign(plan=1.0)
    keys = tsllm.future_frame(df, 2)
    X_df = keys.assign(plan=[1.0, None] * 3)
    with pytest.raises(FrameError, match=r"row 1: covariate 'plan' is missing.*for example X_df\['plan'\]") as caught:
        validate_future(X_df, keys, ["plan"])
    exec(re.search(r"X_df\['plan'\] = .*?ffill\(\)", str(caught.value))[0], {"X_df": X_df})
    assert validate_future(X_df, keys, ["plan"])["plan"].tolist() == [1.0] * 6
    with pytest.raises(
        FrameError, match=r"'plan' is not numeric .*give numbers in its place, as the history has them"
    ):
        validate_future(keys.assign(plan="much"), keys, ["plan"])


@pytest.fixture(scope="module")
def fitted():
    options = {"context_length": 24, "patch_length": 6, "d_model": 16, "num_layers": 1, "num_heads": 2}
    made = tsllm.NeuralForecaster("timexer", 6, static=["region", "size"], training={"max_steps": 3}, **options)
    return made.fit(shops())


def test_a_forecast_needs_no_static_values_of_the_horizon(fitted, tmp_path):
    expected = fitted.predict()
    fitted.save_pretrained(tmp_path)
    loaded = tsllm.NeuralForecaster.from_pretrained(tmp_path)
    pd.testing.assert_frame_equal(loaded.predict(shops()), expected)
    pd.testing.assert_frame_equal(loaded.predict(shops(), h=4), loaded.predict(shops(), h=4))
    rolled = loaded.predict_rolling(shops(), 4, 2, 4)
    pd.testing.assert_frame_equal(
        rolled[rolled["cutoff"] == rolled["cutoff"].max()].drop(columns="cutoff").reset_index(drop=True),
        loaded.predict(shops(56), h=4),
        atol=1e-4,
    )


def test_the_static_values_count(fitted):
    moved = shops().assign(size=lambda d: d["size"] * 2)
    assert (fitted.predict(moved)["TimeXer"] - fitted.predict(shops())["TimeXer"]).abs().max() > 1e-6


def test_models_of_single_series_have_no_use_for_them():
    assert not reads_static(ModelSpec("LEAR"))
    assert reads_static(ModelSpec("timexer"))
    from tsllm.data.task import Asked, build_task, load_given

    asked = Asked(h=6, static=["size"])
    task = build_task(load_given(shops(), asked), asked)
    assert task.covariates == ("size",)
    assert list(build_forecaster(ModelSpec("LEAR"), task).covariates) == []


def test_one_column_cannot_be_of_two_kinds():
    with pytest.raises(ValueError, match="'size' is named as known covariate and as static covariate"):
        tsllm.NeuralForecaster("timexer", 6, covariates=["size"], static=["size"])


def test_a_sample_of_all_series_has_no_use_for_them():
    with pytest.raises(
        ValueError, match=r"static covariates \(size\) tell series apart, but layout 'multivariate' reads all"
    ):
        tsllm.NeuralForecaster("timexer", 6, static=["size"], layout="multivariate", context_length=24).fit(shops())

"""An ensemble as one folder: members and weights, whole or not at all."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import tsllm
from tsllm.cli.main import app
from tsllm.evaluation.saved import fingerprint
from tsllm.forecasting.context import ContextForecaster
from tsllm.forecasting.model_spec import ModelSpec
from tsllm.forecasting.saved import open_saved
from tsllm.hub.package import PackageError, check_package
from tsllm.hub.spec import ForecasterSpec

SIZES = {"h": 6, "context_length": 12, "training": {"max_steps": 3, "learning_rate": 0.01}}


@pytest.fixture(scope="module")
def df():
    t = np.arange(90)
    y = 10 + np.sin(t * np.pi / 3) + 0.1 * np.random.default_rng(0).normal(size=90)
    times = pd.date_range("2024", periods=90, freq="D")
    return pd.concat([pd.DataFrame({"unique_id": f"s{k}", "ds": times, "y": y * (k + 1)}) for k in range(2)])


def make_members():
    return [
        tsllm.NeuralForecaster("dlinear", alias="narrow", moving_average=3, **SIZES),
        tsllm.NeuralForecaster("dlinear", alias="wide", moving_average=9, **SIZES),
    ]


@pytest.fixture(scope="module")
def made(df):
    return tsllm.Ensemble(make_members(), "both", n_windows=2).fit(df, h=6)


@pytest.fixture
def folder(made, tmp_path):
    made.save_pretrained(tmp_path / "both")
    return tmp_path / "both"


def test_an_ensemble_comes_back_with_members_weights_and_errors(made, folder, df):
    loaded = tsllm.Ensemble.from_pretrained(folder)
    assert isinstance(loaded, tsllm.Ensemble)
    assert loaded.alias == "both"
    assert loaded.weights == made.weights
    assert loaded.errors == made.errors
    assert sum(loaded.weights.values()) == pytest.approx(1)
    pd.testing.assert_frame_equal(loaded.predict(df, level=[50]), made.predict(df, level=[50]), check_exact=True)
    said = json.loads((folder / "forecaster.json").read_text())
    assert dict(zip(said["members"], said["weights"], strict=True)) == made.weights
    parts = [open_saved(str(folder / "members" / k)) for k in "01"]
    byhand = sum(made.weights[p.alias] * p.predict(df)[p.alias].to_numpy() for p in parts)
    np.testing.assert_allclose(loaded.predict(df)["both"].to_numpy(), byhand, rtol=1e-12)


def test_the_command_forecasts_with_its_folder(made, folder, df, tmp_path):
    df.to_csv(tmp_path / "data.csv", index=False)
    words = ["predict", str(folder), str(tmp_path / "data.csv"), "--output", str(tmp_path / "out.csv")]
    result = CliRunner().invoke(app, [*words, "--level", "50"])
    assert result.exit_code == 0, result.output
    out = pd.read_csv(tmp_path / "out.csv")
    expected = made.predict(df, level=[50])
    np.testing.assert_allclose(out["both"], expected["both"], rtol=1e-9)
    np.testing.assert_allclose(out["both-hi-50"], expected["both-hi-50"], rtol=1e-9)


def test_column_names_and_scale_are_kept(df, tmp_path):
    own = df.rename(columns={"unique_id": "shop", "ds": "day", "y": "sold"})
    ensemble = tsllm.Ensemble(make_members(), weights=[1, 3]).name_columns("shop", "day", "sold")
    ensemble.scale_target("log1p", non_negative=True).fit(own, h=6).save_pretrained(tmp_path / "e")
    loaded = open_saved(str(tmp_path / "e"))
    assert list(loaded.weights.values()) == [0.25, 0.75]
    assert loaded.target_scale.transform == "log1p"
    out = loaded.predict(own)
    assert list(out.columns) == ["shop", "day", "Ensemble"]
    np.testing.assert_allclose(out["Ensemble"], ensemble.predict(own)["Ensemble"], rtol=1e-12)


def test_a_member_that_cannot_be_saved_is_named_and_the_old_folder_stays(folder, df):
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    mixed = tsllm.Ensemble([make_members()[0], tsllm.SeasonalNaive(6)], weights="equal").fit(df, h=6)
    with pytest.raises(NotImplementedError, match=r"with its member SeasonalNaive \(SeasonalNaive\): it is estimated"):
        mixed.save_pretrained(folder)
    nested = tsllm.Ensemble([make_members()[0], tsllm.Ensemble([tsllm.SeasonalNaive(6)], "inner")], weights="equal")
    with pytest.raises(
        NotImplementedError, match=r"its member inner \(Ensemble\): inner cannot be saved with its member"
    ):
        nested.fit(df, h=6).save_pretrained(folder)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    assert not [p for p in folder.parent.iterdir() if p.name.startswith(".")], "nothing half-written is left"
    with pytest.raises(ValueError, match="is not fitted"):
        tsllm.Ensemble(make_members()).save_pretrained(folder)


def test_fewer_members_leave_none_of_the_old_ones(folder, df):
    tsllm.Ensemble(make_members()[:1], "one", weights="equal").fit(df, h=6).save_pretrained(folder)
    assert [p.name for p in (folder / "members").iterdir()] == ["0"]
    assert open_saved(str(folder)).weights == {"narrow": 1.0}


def test_in_a_back_test_it_keeps_weights_and_members_as_they_are(made, folder, df, tmp_path):
    later = pd.concat([df, df.assign(ds=df["ds"] + pd.Timedelta("90D"))]).sort_values(["unique_id", "ds"])
    found = tsllm.compare(
        later, [str(folder), "Naive"], h=6, season=6, n_windows=2, output_dir=tmp_path / "out", verbose=False
    )
    forecasts = found.forecasts["frame"]
    rolled = made.predict_rolling(later, 6, 2, 6)
    both = forecasts.merge(rolled, on=["unique_id", "ds", "cutoff"], suffixes=("", "_expected"))
    assert len(both) == len(rolled) == 24
    np.testing.assert_allclose(both["both"], both["both_expected"], rtol=1e-6)


def test_a_comparison_refuses_one_with_a_member_that_saw_the_test_windows(folder, df, tmp_path):
    with pytest.raises(ValueError, match="both was trained or chosen on data of series 's0' up to 2024-03-30"):
        tsllm.compare(df, [str(folder), "Naive"], h=6, season=6, n_windows=2, output_dir=tmp_path / "out")


def test_changed_weights_of_a_member_are_another_model_for_a_comparison(folder):
    before = fingerprint(ModelSpec(str(folder)))
    (folder / "members" / "1" / "model.safetensors").write_bytes(b"other")
    assert fingerprint(ModelSpec(str(folder))) != before


def test_a_told_ensemble_is_saved_with_its_members(made, df, tmp_path):
    told = ContextForecaster(made, alias="told", seed=1, samples=20)
    told._history = df
    told.save_pretrained(tmp_path / "told")
    loaded = open_saved(str(tmp_path / "told"))
    assert loaded.base.weights == made.weights
    np.testing.assert_allclose(loaded.predict(df)["told"], made.predict(df)["both"], rtol=1e-9)


def test_a_package_holds_all_members_and_the_card_says_their_weights(made, folder):
    files = set(check_package(folder))
    assert {"forecaster.json", "README.md", "members/0/model.safetensors", "members/1/forecaster.json"} <= files
    card = (folder / "README.md").read_text()
    for alias, weight in made.weights.items():
        assert f"| `{alias}` | {weight:.3f} | {made.errors[alias]:.3f} |" in card
    (folder / "members" / "1" / "model.safetensors").unlink()
    with pytest.raises(PackageError, match=r"members/1: .*model.safetensors is missing"):
        check_package(folder)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"weights": [0.5, 0.6]}, "2 numbers from 0 were due, together 1"),
        ({"weights": [1.0]}, "2 numbers from 0 were due"),
        ({"weights": ["a", "b"]}, "could not convert"),
        ({"members": ["narrow", "narrow"]}, "each has a name of its own"),
        ({"members": ["wide", "narrow"]}, "in its folders lie"),
        ({"h": 0}, "h"),
        ({"code": "x"}, "unknown keys"),
        ({"format": 2}, "update tsllm"),
    ],
)
def test_a_strangers_description_is_held_to_its_types(folder, changes, text):
    path = folder / "forecaster.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises((OSError, ValueError), match=text):
        open_saved(str(folder))


def test_what_opens_single_forecasters_says_what_the_folder_is(folder, tmp_path):
    for opening in (tsllm.NeuralForecaster.from_pretrained, ForecasterSpec.load):
        with pytest.raises(ValueError, match=r"is an ensemble of narrow, wide; open it with tsllm.Ensemble.from_pret"):
            opening(folder)
    with pytest.raises(ValueError, match="holds no ensemble"):
        tsllm.Ensemble.from_pretrained(folder / "members" / "0")
    shutil.rmtree(folder / "members" / "1")
    with pytest.raises(FileNotFoundError, match="holds no members/1/"):
        open_saved(str(folder))

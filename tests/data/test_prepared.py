"""From data arguments to windows and to the description that a saved forecaster keeps."""

import numpy as np
import pandas as pd
import pytest

from tests.fixtures.backbones import save_tiny_backbone
from tsllm.data.loading import load_frame
from tsllm.data.sources import DATASETS
from tsllm.data.splits import ByCounts, ByDates, ByFractions
from tsllm.data.task import TaskError, build_split
from tsllm.models import MODELS
from tsllm.models.timellm.config import TimeLLMConfig
from tsllm.programs.artefacts import describe_spec
from tsllm.programs.series import prepare_series
from tsllm.training.args import ArgumentsError, DataArguments
from tsllm.training.build import build_for_data, read_model_config


def prepare_data(args, reads_covariates=False):
    return prepare_series(MODELS.get("timexer" if reads_covariates else "dlinear"), args)


def describe_data(data, alias):
    return describe_spec(data, alias, pad_short=False)


def arguments(csv, **options):
    return DataArguments(dataset=str(csv), context_length=24, prediction_length=6, **options)


def test_parts_meet_at_the_borders_and_the_scaler_knows_the_training_part_only(series_csv):
    data = prepare_data(arguments(series_csv))
    df = load_frame(series_csv).df
    own = df[df["unique_id"] == "s1"]["y"].to_numpy()
    assert (len(data.train), len(data.validation), len(data.test)) == (168 - 29, 24 - 5, 48 - 5)
    loc, scale = data.scaler.loc_scale(["s1"])
    assert loc[0] == pytest.approx(own[:168].mean())
    assert scale[0] == pytest.approx(own[:168].std())
    first = data.test[0]["future_values"][:, 1].numpy() * scale[0] + loc[0]
    assert np.allclose(first, own[192:198], rtol=1e-5)
    last = data.test[len(data.test) - 1]["future_values"][:, 1].numpy() * scale[0] + loc[0]
    assert np.allclose(last, own[-6:], rtol=1e-5)
    assert np.allclose(data.train_values()[:, 1] * scale[0] + loc[0], own[:168])


def test_etth1_has_the_windows_of_the_literature(data_folder):
    data = prepare_data(
        DataArguments(
            dataset="etth1", data_path=str(data_folder / "ETTh1.csv"), context_length=512, prediction_length=96
        )
    )
    assert (len(data.train), len(data.validation), len(data.test)) == (8033, 2785, 2785)
    assert data.unused == 7 * (17420 - 14400)


@pytest.mark.parametrize(
    ("split", "rule"),
    [
        ([0.5, 0.25, 0.25], ByFractions(0.5, 0.25, 0.25)),
        ({"train": 100, "validation": 40, "test": 50}, ByCounts(100, 40, 50)),
        ({"validation": "2024-01-07", "test": "2024-01-09"}, ByDates("2024-01-07", "2024-01-09")),
    ],
)
def test_every_form_of_a_split_is_read(split, rule):
    assert build_split(split) == rule


@pytest.mark.parametrize("split", [[0.5, 0.5], {"train": 100}, {"validation": 1, "test": 2, "begin": 3}])
def test_other_forms_of_a_split_are_errors(split):
    with pytest.raises(TaskError, match=r"split is .*give three fractions"):
        build_split(split)


def test_a_file_needs_its_horizon_and_has_the_default_split(series_csv):
    with pytest.raises(TaskError, match="give the steps ahead: --h 24"):
        prepare_data(DataArguments(dataset=str(series_csv)))
    assert prepare_data(arguments(series_csv)).task.split == ByFractions()


def test_series_of_different_spans_become_samples_of_one_channel(tmp_path):
    frames = [
        pd.DataFrame(
            {"unique_id": name, "ds": pd.date_range("2024-01-01", periods=n, freq="h"), "y": np.arange(n) % 24.0}
        )
        for name, n in (("a", 240), ("b", 300))
    ]
    pd.concat(frames).to_csv(tmp_path / "long.csv", index=False)
    data = prepare_data(arguments(tmp_path / "long.csv"))
    assert (data.train.layout, data.train.num_channels) == ("univariate", 1)
    spec = describe_data(data, "X")
    assert (spec.layout, spec.channels, list(spec.data.newest.series)) == ("univariate", [], ["a", "b"])
    with pytest.raises(ValueError, match="do not share their times"):
        prepare_data(arguments(tmp_path / "long.csv", layout="multivariate"))


def test_the_description_gives_the_cutoffs_and_the_scaler(series_csv):
    args = arguments(series_csv)
    data = prepare_data(args)
    spec = describe_data(data, "DLinear")
    assert (spec.alias, spec.freq, spec.season, spec.channels) == ("DLinear", "h", 24, ["s0", "s1"])
    assert spec.data.newest.cutoffs["train_end"] == "2024-01-07 23:00:00"
    assert spec.data.newest.cutoffs["test_end"] == "2024-01-10 23:00:00"
    loc, scale = spec.load_scaler().loc_scale(["s0", "s1"])
    expected = data.scaler.loc_scale(["s0", "s1"])
    assert np.array_equal(loc, expected[0])
    assert np.array_equal(scale, expected[1])


def test_covariates_are_kept_for_models_that_read_them_and_refused_by_others(tmp_path):
    n = 240
    frame = pd.DataFrame({"unique_id": "a", "ds": pd.date_range("2024-01-01", periods=n, freq="h")})
    frame["y"], frame["load"] = np.sin(np.arange(n) / 4), np.cos(np.arange(n) / 4)
    frame.to_csv(tmp_path / "c.csv", index=False)
    args = arguments(tmp_path / "c.csv", covariates=["load"])
    data = prepare_data(args, reads_covariates=True)
    assert (data.train.covariate_names, data.train.num_known_covariates) == (("a:load",), 1)
    assert describe_data(data, "TimeXer").covariates == ["load"]
    # What a file holds besides, nobody asked for.
    assert prepare_data(arguments(tmp_path / "c.csv"), reads_covariates=True).train.covariate_names == ()
    assert prepare_data(arguments(tmp_path / "c.csv")).train.covariate_names == ()
    with pytest.raises(TaskError, match="reads no covariates"):
        prepare_data(args)


def test_the_calendar_is_read_unless_turned_off(series_csv):
    data = prepare_data(arguments(series_csv))
    assert MODELS.get("timexer").config_for(data)["num_time_features"] == 4
    assert MODELS.get("dlinear").config_for(data)["num_time_features"] == 0
    without = prepare_data(arguments(series_csv, time_features=False))
    assert MODELS.get("timexer").config_for(without)["num_time_features"] == 0


def test_a_reprogrammed_model_hears_of_domain_and_units(data_folder, tmp_path):
    backbone = save_tiny_backbone(tmp_path / "gpt2", "gpt2", layers=1, width=16)
    config = {"backbone": backbone, "num_backbone_layers": 1, "d_model": 8, "num_heads": 2, "d_ff": 8}
    config |= {"num_prototypes": 4, "prompt_statistics": "series"}
    data = prepare_data(
        DataArguments(
            dataset="etth1", data_path=str(data_folder / "ETTh1.csv"), context_length=48, prediction_length=24
        )
    )
    model = build_for_data("timellm", config, data)
    loc, scale = data.scaler.loc_scale(data.train.segments[0].series)
    assert model.config.series_loc == loc.tolist()
    assert model.config.series_scale == scale.tolist()
    assert model.config.prompt_domain == DATASETS.get("etth1").domain
    assert len(model.config.prompt_series) == 7
    frame = load_frame("etth1", data_path=str(data_folder / "ETTh1.csv")).df
    first = frame[frame["unique_id"] == data.train.segments[0].series[0]]["y"].to_numpy()[: 12 * 30 * 24]
    assert f"{first.max():.3g}" in model.config.prompt_series[0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_channels": 3}, r"model_config sets \['num_channels'\]"),
        ({"d_modle": 3}, r"unknown fields \['d_modle'\]"),
        ({"d_model": "wide"}, r"model_config\.d_model is 'wide'"),
        ({"dropout": True}, r"model_config\.dropout is True"),
        ({"lora": [1]}, r"model_config\.lora is \[1\]"),
    ],
)
def test_model_fields_are_held_to_names_and_types(given, message):
    with pytest.raises(ArgumentsError, match=message):
        read_model_config(TimeLLMConfig, given)

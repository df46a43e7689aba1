"""Few-shot: fine-tuning a model for every series on new data, and taking over other data without training."""

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

import tsllm
from tests.fixtures.backbones import save_tiny_backbone
from tsllm.cli.main import app
from tsllm.data.windows import WindowDataset
from tsllm.forecasting.neural import NeuralForecaster
from tsllm.forecasting.zero_shot import ZeroShotForecaster
from tsllm.hub.spec import ForecasterSpec
from tsllm.models import build_model
from tsllm.models.patchcast import PatchCastConfig
from tsllm.types import FrameError

LEVELS = [0.1, 0.5, 0.9]
QUICK = {"max_steps": 4, "eval_steps": 2, "per_device_train_batch_size": 8}


def make_frame(steps=160, names=("a", "b"), scale=1.0, freq="h"):
    rng = np.random.default_rng(len(names))
    times = pd.date_range("2024-01-01", periods=steps, freq=freq)
    wave = np.sin(np.arange(steps) * 2 * np.pi / 24)
    parts = [
        pd.DataFrame({"unique_id": n, "ds": times, "y": scale * (10 * k + 3 * wave + rng.normal(size=steps))})
        for k, n in enumerate(names, start=1)
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    sizes = {"d_model": 16, "num_layers": 1, "num_heads": 2, "d_ff": 16, "patch_length": 4}
    model = build_model(
        "patchcast", context_length=32, prediction_length=8, head="quantile", quantile_levels=LEVELS, **sizes
    )
    path = tmp_path_factory.mktemp("artefact") / "cast"
    spec = ForecasterSpec(alias="Cast", freq="any", layout="univariate", new_series="history", pad_short=True)
    ZeroShotForecaster(model, spec).save_pretrained(path)
    return path


def load(folder, **options):
    return NeuralForecaster.from_pretrained(folder, training=QUICK, **options)


def test_before_fit_it_forecasts_any_frame_as_the_zero_shot_forecaster_does(folder):
    frame = make_frame(freq="D")
    found = load(folder).predict(frame, h=20, level=[80])
    expected = ZeroShotForecaster.from_pretrained(folder).predict(frame, 20, level=[80])
    pd.testing.assert_frame_equal(found, expected)


def test_the_scale_of_the_target_is_that_of_the_zero_shot_forecaster_and_is_saved(folder, tmp_path):
    frame = make_frame(freq="D").assign(y=lambda df: (df["y"].abs() * 100).round())
    expected = ZeroShotForecaster.from_pretrained(folder).scale_target("log1p", integer=True).predict(frame, 8)
    found = load(folder, transform="log1p", integer=True)
    pd.testing.assert_frame_equal(found.predict(frame, 8), expected)
    pd.testing.assert_frame_equal(found.update(frame).predict(h=8), expected)
    assert (expected["Cast"] % 1 == 0).all()
    assert not expected["Cast"].equals(load(folder, integer=True).predict(frame, 8)["Cast"])
    found.save_pretrained(tmp_path / "scaled")
    pd.testing.assert_frame_equal(load(tmp_path / "scaled").predict(frame, 8), expected)
    pd.testing.assert_frame_equal(ZeroShotForecaster.from_pretrained(tmp_path / "scaled").predict(frame, 8), expected)
    assert load(folder, transform="log1p").fit(frame, 8).spec.target_scale == {"transform": "log1p"}


def test_rolling_zero_shot_forecasts_are_those_from_each_cutoff(folder):
    frame, forecaster = make_frame(), ZeroShotForecaster.from_pretrained(folder)
    rolled = forecaster.predict_rolling(frame, 12, 3, 5, level=[80])
    assert rolled.groupby(["unique_id", "cutoff"]).size().tolist() == [12] * 6
    for k in range(3):
        history = frame.groupby("unique_id").head(160 - 12 - (2 - k) * 5)
        alone = forecaster.predict(history, 12, level=[80])
        mine = rolled[rolled["cutoff"] == history["ds"].max()].drop(columns="cutoff").reset_index(drop=True)
        np.testing.assert_allclose(mine["Cast-hi-80"], alone["Cast-hi-80"], rtol=1e-4)
        pd.testing.assert_frame_equal(mine[["unique_id", "ds"]], alone[["unique_id", "ds"]])


def test_fit_takes_lengths_scaler_and_frequency_of_the_new_data(folder, tmp_path):
    frame = make_frame(scale=1000.0)
    forecaster = load(folder, context_length=48, val_size=24).fit(frame, h=12)
    assert (forecaster.context_length, forecaster.prediction_length) == (48, 12)
    assert forecaster.spec.freq == "h"
    assert forecaster.model.config.season == 24
    train = frame[frame["unique_id"] == "a"]["y"].head(160 - 24)
    loc, scale = forecaster.spec.load_scaler().loc_scale(["a"])
    assert loc[0] == pytest.approx(train.mean())
    assert scale[0] == pytest.approx(train.std(ddof=0))
    assert [read.name for read in forecaster.spec.data.reads][-1] == ""
    forecaster.save_pretrained(tmp_path / "mine")
    again = NeuralForecaster.from_pretrained(tmp_path / "mine")
    pd.testing.assert_frame_equal(again.predict(frame), forecaster.predict(frame))


def test_a_second_fit_begins_with_the_saved_weights_and_knows_nothing_of_the_first_data(folder):
    other = make_frame(scale=1e6, names=("a", "b", "c"), freq="D")
    frame = make_frame()
    once = load(folder, val_size=24).fit(frame, h=12).predict()
    twice = load(folder, val_size=24)
    twice.fit(other, h=5)
    pd.testing.assert_frame_equal(twice.fit(frame, h=12).predict(), once)


@pytest.mark.parametrize(("fine_tune", "moved"), [("all", {"embedding", "head"}), ("head", {"head"})])
def test_fine_tuning_changes_what_was_asked_for(folder, fine_tune, moved):
    before = ZeroShotForecaster.from_pretrained(folder).model.state_dict()
    forecaster = load(folder, fine_tune=fine_tune, val_size=24).fit(make_frame(), h=8)
    after = forecaster.model.state_dict()
    names = {"embedding.weight", "head.weight"}
    assert {n.partition(".")[0] for n in names if not torch.equal(before[n], after[n])} == moved
    if fine_tune == "head":
        same = [n for n in before if not n.startswith(("norm.", "head_inner.", "head."))]
        assert all(torch.equal(before[n], after[n]) for n in same)


def test_fine_tuning_nothing_leaves_the_zero_shot_forecast(folder):
    frame = make_frame()
    forecaster = NeuralForecaster.from_pretrained(folder, fine_tune="none").fit(frame, h=8)
    expected = ZeroShotForecaster.from_pretrained(folder).predict(frame, 8)
    pd.testing.assert_frame_equal(forecaster.predict(), expected)
    with pytest.raises(ValueError, match="fine_tune is 'none', so nothing is trained and eval_steps has no effect"):
        NeuralForecaster.from_pretrained(folder, fine_tune="none", training={"eval_steps": 2})


def test_the_command_line_fits_it_to_a_file(folder, tmp_path):
    make_frame().to_csv(tmp_path / "mine.csv", index=False)
    words = ["fit", tmp_path / "mine.csv", "--model", folder, "--h", "12", "--train", "max_steps=2", "--train"]
    words += ["eval_steps=1", "--output-dir", tmp_path / "tuned"]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    assert "h=12" in result.output
    tuned = NeuralForecaster.from_pretrained(tmp_path / "tuned")
    assert (tuned.prediction_length, tuned.context_length, tuned.spec.freq) == (12, 32, "h")
    assert len(tuned.predict(make_frame())) == 24


def test_positions_are_counted_from_the_cutoff(folder):
    model = ZeroShotForecaster.from_pretrained(folder).model
    old = model.positions.detach().clone()  # 8 patches of context, 2 of horizon
    model.resize(40, 12)
    new = model.positions.detach()
    assert new.shape[0] == 13
    assert torch.equal(new[2:10], old[:8])
    assert torch.equal(new[:2], old[:1].expand(2, -1))
    assert torch.equal(new[10:12], old[8:])
    assert torch.equal(new[12], old[9])
    model.resize(32, 8)
    assert torch.equal(model.positions, old)


def test_a_share_of_windows_is_the_first_ones_and_the_scaler_sees_all():
    frame = make_frame(steps=120)
    windows = WindowDataset(frame, 20, 4, layout="univariate", freq="h")
    assert len(windows) == 2 * 97
    few = windows.keep_first(0.1)
    assert len(few) == 2 * 9
    first = few.window_frame()
    assert first.groupby("unique_id")["cutoff"].max().tolist() == [pd.Timestamp("2024-01-02 03:00")] * 2
    tiny = NeuralForecaster("dlinear", 4, context_length=20, training=QUICK, train_share=0.1, val_size=20)
    whole = NeuralForecaster("dlinear", 4, context_length=20, training=QUICK, val_size=20)
    assert tiny.fit(frame).spec.scaler == whole.fit(frame).spec.scaler
    assert tiny.spec.data.newest.windows["train"] == 7
    assert whole.spec.data.newest.windows["train"] == 77
    assert tiny.spec.data.newest.windows["validation"] == whole.spec.data.newest.windows["validation"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"train_share": 0}, "train_share is 0"),
        ({"train_share": 10}, "train_share is 10"),
        ({"fine_tune": "lora"}, "fine_tune is 'lora'"),
        ({"fine_tune": "head"}, "fine_tune is for a saved model"),
    ],
)
def test_what_cannot_be_is_refused(options, named):
    with pytest.raises(ValueError, match=named):
        NeuralForecaster("dlinear", 4, **options)


def test_transfer_takes_the_new_scaler_and_trains_nothing():
    source, target = make_frame(), make_frame(scale=50.0, names=("x", "y"))
    forecaster = NeuralForecaster("dlinear", 4, context_length=20, training=QUICK, val_size=20).fit(source)
    before = {k: v.clone() for k, v in forecaster.model.state_dict().items()}
    forecaster.transfer(target)
    assert all(torch.equal(v, before[k]) for k, v in forecaster.model.state_dict().items())
    loc, scale = forecaster.spec.load_scaler().loc_scale(["x"])
    train = target[target["unique_id"] == "x"]["y"].head(140)
    assert loc[0] == pytest.approx(train.mean())
    assert scale[0] == pytest.approx(train.std(ddof=0))
    assert set(forecaster.predict()["unique_id"]) == {"x", "y"}
    # A series is forecast in its own unit: one that is the source's times 50 gets the source's forecast times 50.
    twin = source.assign(y=source["y"] * 50)
    moved = forecaster.transfer(twin).predict()["DLinear"]
    own = NeuralForecaster("dlinear", 4, context_length=20, training=QUICK, val_size=20).fit(source).predict()
    np.testing.assert_allclose(moved / 50, own["DLinear"], rtol=1e-4)
    with pytest.raises(FrameError, match="2 aligned series as channels of one sample, the data have 3"):
        forecaster.transfer(make_frame(names=("x", "y", "z")))


def test_other_models_refuse_other_lengths():
    model = build_model("dlinear", context_length=20, prediction_length=4)
    with pytest.raises(ValueError, match="its weights fit no others"):
        model.resize(24, 4)
    assert PatchCastConfig(context_length=20, prediction_length=4).num_horizon_patches == 1


def test_a_comparison_trains_it_further_beside_itself_untrained(folder, tmp_path):
    tuned = {"model": f"few-shot:{folder}", "alias": "Tuned", "training": QUICK | {"learning_rate": 1e-2}}
    untouched = {"model": f"few-shot:{folder}", "alias": "Held", "options": {"fine_tune": "head"}, "training": QUICK}
    models = ["SeasonalNaive", str(folder), tuned, untouched]
    found = tsllm.compare(make_frame(), models, h=8, n_windows=2, val_size=24, output_dir=tmp_path / "out")
    frame = found.results[0].runs[0].frame
    expected = ZeroShotForecaster.from_pretrained(folder).predict_rolling(make_frame(), 8, 2, 8)
    np.testing.assert_allclose(frame["Cast"], expected["Cast"], rtol=1e-5)
    assert not np.allclose(frame["Tuned"], frame["Cast"])
    scores = found.scores.set_index("model")
    assert scores.loc["Tuned", "trained_parameters"] > scores.loc["Held", "trained_parameters"]
    assert scores["failed"].sum() == 0


@pytest.fixture(scope="module")
def reading(tmp_path_factory):
    """A model for every series with a language model inside."""
    path = tmp_path_factory.mktemp("reading")
    backbone = save_tiny_backbone(path / "llm", "llama", layers=1, width=16)
    torch.manual_seed(0)
    sizes = {"d_model": 16, "num_layers": 1, "num_heads": 2, "d_ff": 16, "patch_length": 4, "head_width": 4}
    sizes |= {"backbone": backbone, "num_backbone_layers": 1, "num_prototypes": 8}
    model = build_model(
        "patchcast", context_length=32, prediction_length=8, head="quantile", quantile_levels=LEVELS, **sizes
    )
    spec = ForecasterSpec(alias="Cast", freq="any", layout="univariate", new_series="history", pad_short=True)
    ZeroShotForecaster(model, spec).save_pretrained(path / "cast")
    return path / "cast"


def inside(forecaster):
    state = forecaster.model.state_dict()
    return {name.replace(".base_layer", ""): t.clone() for name, t in state.items() if ".llm." in name}


def test_few_shot_with_lora_changes_low_rank_updates_of_the_language_model_and_keeps_its_weights(reading, tmp_path):
    frame = make_frame()
    lora = {"backbone_mode": "lora", "lora": {"r": 2}}
    frozen = load(reading, val_size=24)
    before = inside(frozen)
    forecaster = load(reading, val_size=24, **lora)
    pd.testing.assert_frame_equal(forecaster.predict(frame, 8), frozen.predict(frame, 8))
    first = forecaster.fit(frame, h=8).predict()
    after = inside(forecaster)
    assert all(torch.equal(after[name], before[name]) for name in before)
    updates = {name: tensor for name, tensor in after.items() if ".lora_B." in name}
    assert len(updates) == 2
    assert all(tensor.abs().max() > 0 for tensor in updates.values())
    assert not np.allclose(first["Cast"], frozen.fit(frame, h=8).predict()["Cast"])
    forecaster.save_pretrained(tmp_path / "tuned")
    assert (tmp_path / "tuned" / "lora" / "adapter_config.json").is_file()
    pd.testing.assert_frame_equal(NeuralForecaster.from_pretrained(tmp_path / "tuned").predict(frame), first)
    pd.testing.assert_frame_equal(forecaster.fit(frame, h=8).predict(), first)


def test_lora_that_nothing_would_train_is_refused(reading, folder):
    for fine_tune in ("head", "none"):
        with pytest.raises(ValueError, match=f"fine_tune is '{fine_tune}', so the language model is not trained"):
            NeuralForecaster.from_pretrained(reading, fine_tune=fine_tune, backbone_mode="lora")
    with pytest.raises(ValueError, match="no language model inside"):
        NeuralForecaster.from_pretrained(folder, backbone_mode="lora")


def test_a_head_is_tuned_on_an_adapted_language_model_that_stays_as_it_is(reading, tmp_path):
    frame = make_frame()
    load(reading, val_size=24, backbone_mode="lora").fit(frame, h=8).save_pretrained(tmp_path / "tuned")
    again = load(tmp_path / "tuned", fine_tune="head", val_size=24)
    before = inside(again)
    head = again.model.head.weight.clone()
    again.fit(frame)
    assert not torch.equal(again.model.head.weight, head)
    assert all(torch.equal(tensor, before[name]) for name, tensor in inside(again).items())
    again.save_pretrained(tmp_path / "twice")
    pd.testing.assert_frame_equal(load(tmp_path / "twice").predict(frame), again.predict(frame))


@pytest.mark.parametrize(("options", "trained"), [({}, {"all"}), ({"fine_tune": "head"}, {"head"})])
def test_time_llm_for_every_series_is_fine_tuned_as_a_whole_or_by_its_head(options, trained, tmp_path):
    backbone = save_tiny_backbone(tmp_path / "llm", "llama", layers=1, width=16)
    sizes = {"d_model": 16, "num_heads": 2, "d_ff": 8, "patch_length": 8, "patch_stride": 8, "prompt": False}
    sizes |= {"backbone": backbone, "num_backbone_layers": 1, "num_prototypes": 8}
    model = build_model(
        "timellm", context_length=32, prediction_length=8, head="quantile", quantile_levels=LEVELS, **sizes
    )
    spec = ForecasterSpec(alias="Cast", freq="any", layout="univariate", new_series="history", pad_short=True)
    ZeroShotForecaster(model, spec).save_pretrained(tmp_path / "cast")
    forecaster = load(tmp_path / "cast", val_size=24, **options)
    before = {name: tensor.clone() for name, tensor in forecaster.model.state_dict().items()}
    forecaster.fit(make_frame(), h=8)
    moved = {name for name, t in forecaster.model.state_dict().items() if not torch.equal(t, before[name])}
    assert {"head.weight", "head.bias"} <= moved
    assert ("patch_embedding" in " ".join(moved)) == ("all" in trained)

"""Going on from a saved model, later frames, and options that must count: nothing is ignored."""

import logging
import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tests.fixtures.backbones import save_tiny_backbone
from tsllm.data.facts import SeriesRead
from tsllm.data.task import Asked, build_task, load_given
from tsllm.evaluation.backtest import backtest
from tsllm.evaluation.leakage import LeakageError
from tsllm.forecasting.base import Forecaster
from tsllm.forecasting.lear import LEAR
from tsllm.forecasting.model_spec import ModelSpec, is_saved, write_folder
from tsllm.forecasting.naive import SeasonalNaive
from tsllm.forecasting.neural import NeuralForecaster
from tsllm.forecasting.regression import StepRegression
from tsllm.forecasting.roster import build_forecaster
from tsllm.forecasting.statistical import StatisticalForecaster
from tsllm.types import FrameError

QUICK = {"max_steps": 4, "eval_steps": 2, "per_device_train_batch_size": 8}
TIMEXER = {"d_model": 8, "num_heads": 2, "d_ff": 8, "num_layers": 1, "context_length": 16, "patch_length": 4}


def make_base(rows=150, series=("a", "b"), freq="D", seed=0):
    """Daily series with `promo`, the weekend."""
    rng = np.random.default_rng(seed)
    ds = pd.date_range("2024-01-01", periods=rows, freq=freq)
    promo = (ds.dayofweek >= 5).astype(float)
    return pd.concat(
        [
            pd.DataFrame({"unique_id": s, "ds": ds, "y": 10 * k + 4 * promo + rng.normal(size=rows), "promo": promo})
            for k, s in enumerate(series, start=1)
        ],
        ignore_index=True,
    )


def ahead_of(base, h):
    ds = pd.date_range(base["ds"].max(), periods=h + 1, freq="D")[1:]
    return pd.concat(
        [
            pd.DataFrame({"unique_id": s, "ds": ds, "promo": (ds.dayofweek >= 5).astype(float)})
            for s in base["unique_id"].unique()
        ],
        ignore_index=True,
    )


def dlinear(h=7, **options):
    given = {"training": QUICK, "context_length": 21, "moving_average": 5} | options
    return NeuralForecaster("dlinear", h, **given)


def timexer(**options):
    return NeuralForecaster("timexer", 7, covariates=["promo"], **({"training": QUICK} | TIMEXER | options))


@pytest.fixture(scope="module")
def base():
    return make_base()


@pytest.fixture(scope="module")
def folder(base, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "dlinear"
    dlinear().fit(base).save_pretrained(path)
    return path


# Later frames are held to the same contract as the first one.

BAD_FUTURES = {
    "a doubled row": (lambda X: pd.concat([X, X.iloc[[2]]]), "appears twice"),
    "doubled": (lambda X: pd.concat([X, X]), "appears twice"),
    "other days": (lambda X: X.assign(ds=X["ds"] + pd.Timedelta("1D")), "2024"),
    "another century": (lambda X: X.assign(ds=X["ds"] - pd.Timedelta("9000D")), "2024"),
    "other ids": (lambda X: X.assign(unique_id="z"), "z"),
    "a missing row": (lambda X: X.drop(index=3), "2024-06-02"),
    "a further row": (lambda X: pd.concat([X, X.iloc[[6]].assign(ds=pd.Timestamp("2024-07-01"))]), "2024-07-01"),
    "infinite": (lambda X: X.assign(promo=np.inf), "infinite"),
    "text": (lambda X: X.assign(promo="yes"), "not numeric"),
    "time zones": (lambda X: X.assign(ds=X["ds"].dt.tz_localize("CET")), "time zone"),
    "no column": (lambda X: X.drop(columns="promo"), "promo"),
}


@pytest.mark.parametrize("case", list(BAD_FUTURES))
@pytest.mark.parametrize("layout", ["univariate", "multivariate"])
def test_a_frame_of_the_future_is_refused_by_series_and_row(base, case, layout):
    spoil, message = BAD_FUTURES[case]
    X = ahead_of(base, 7)
    models = [
        timexer(layout=layout, training=QUICK | {"max_steps": 1}).fit(base),
        StatisticalForecaster("AutoARIMA", 1, covariates=["promo"], freq="D").fit(base, 7),
        StepRegression(7, 7, covariates=["promo"]).fit(base),
    ]
    for model in models[: 3 if layout == "univariate" else 1]:
        with pytest.raises(FrameError, match=message):
            model.predict(X_df=spoil(X), h=7)


def test_the_order_and_the_form_of_a_frame_of_the_future_do_not_matter(base):
    model = timexer().fit(base)
    X = ahead_of(base, 7)
    expected = model.predict(X_df=X)
    assert len(expected) == 14
    for form in (X.sample(frac=1, random_state=0), X.assign(ds=X["ds"].astype(str)), X.assign(more="text")):
        pd.testing.assert_frame_equal(model.predict(X_df=form), expected)


# Going on.


def test_training_goes_on_with_covariates_and_remembers_all_that_was_read(base, tmp_path):
    early = base.groupby("unique_id").head(100).reset_index(drop=True)
    timexer().fit(early).save_pretrained(tmp_path / "first")
    second = NeuralForecaster(str(tmp_path / "first"), training=QUICK).fit(base)
    second.save_pretrained(tmp_path / "second")
    found = NeuralForecaster.from_pretrained(tmp_path / "second")
    assert found.covariates == ["promo"]
    lasts = [read.last for read in found.spec.data.reads]
    assert lasts == [str(early["ds"].max()), str(base["ds"].max())]
    assert {type(s) for s in found.spec.data.find("a")} == {SeriesRead}
    # What was trained on all of it cannot be tested on its end.
    with pytest.raises(LeakageError, match=f"up to {base['ds'].max()}"):
        backtest(base, [found], h=7)
    assert len(backtest(base, [NeuralForecaster(str(tmp_path / "first"))], h=7)) == 14


def test_two_saved_models_stand_side_by_side_under_their_aliases(tmp_path):
    base = make_base()
    early = base.groupby("unique_id").head(120).reset_index(drop=True)
    for name, seed in (("a", 0), ("b", 1)):
        dlinear(training=QUICK | {"seed": seed}).fit(early).save_pretrained(tmp_path / name)
    given = [NeuralForecaster(str(tmp_path / n), alias=n.upper(), training={"max_steps": 0}) for n in "ab"]
    out = backtest(base, given, h=7)
    assert list(out.columns) == ["unique_id", "ds", "cutoff", "y", "A", "B"]
    assert not np.allclose(out["A"], out["B"])
    with pytest.raises(ValueError, match="two models have the alias 'DLinear'"):
        backtest(base, [NeuralForecaster(str(tmp_path / n)) for n in "ab"], h=7)


@pytest.mark.parametrize("alias", ["y", "ds", "cutoff", "unique_id", "sample", ""])
def test_columns_of_their_own_are_reserved(alias, base, tmp_path):
    with pytest.raises(ValueError, match="cannot name a forecast"):
        SeasonalNaive(7, alias=alias)
    with pytest.raises(ValueError, match="cannot name a forecast"):
        backtest(base, [Plain(alias)], h=7)
    if alias:
        dlinear(training=QUICK | {"max_steps": 1}).fit(base).save_pretrained(tmp_path)
        path = tmp_path / "forecaster.json"
        path.write_text(path.read_text().replace('"alias": "DLinear"', f'"alias": "{alias}"'))
        with pytest.raises(ValueError, match="cannot name a forecast"):
            NeuralForecaster.from_pretrained(tmp_path)


class Plain(Forecaster):
    def __init__(self, alias):
        self._alias = alias


def test_an_alias_that_looks_like_anothers_interval_is_refused(base):
    with pytest.raises(ValueError, match="'A' and 'A-lo-80' both have a column 'A-lo-80'"):
        backtest(base, [SeasonalNaive(7, alias="A"), SeasonalNaive(1, alias="A-lo-80")], h=7, level=[80])


def test_another_frequency_is_refused_by_a_saved_model(folder):
    hourly = make_base(freq="h")
    forecaster = NeuralForecaster.from_pretrained(folder)
    for use in (forecaster.predict, forecaster.update, NeuralForecaster(str(folder), training=QUICK).fit):
        with pytest.raises(FrameError, match="was trained on freq 'D', the data have 'h'"):
            use(hourly)
    weekly = make_base(freq="W-MON")
    with pytest.raises(FrameError, match="was trained on freq 'D', the data have 'W-MON'"):
        forecaster.predict(weekly)


def test_possible_changes_are_applied_and_saved(base, folder, tmp_path):
    changed = NeuralForecaster(
        str(folder), h=3, alias="Mine", pad_short=True, batch_size=2, val_size=30, training=QUICK
    )
    out = changed.predict(base)
    assert list(out.columns) == ["unique_id", "ds", "Mine"]
    assert out.groupby("unique_id").size().tolist() == [3, 3]
    changed.save_pretrained(tmp_path / "changed")
    again = NeuralForecaster.from_pretrained(tmp_path / "changed")
    assert (again.alias, again.new_series, again.pad_short) == ("Mine", "raise", True)
    pd.testing.assert_frame_equal(again.predict(base), out)
    again.fit(base)
    assert again.spec.data.newest.cutoffs["train_end"] == str(base["ds"].iloc[150 - 15 - 1])
    held = NeuralForecaster(str(folder), val_size=30, training=QUICK).fit(base)
    assert held.spec.data.newest.cutoffs["train_end"] == str(base["ds"].iloc[150 - 30 - 1])


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"context_length": 14}, "context_length"),
        ({"layout": "univariate"}, "layout"),
        ({"freq": "h"}, "freq"),
        ({"season": 3}, "season"),
        ({"scaler": "none"}, "scaler"),
        ({"covariates": ["promo"]}, "covariates"),
        ({"moving_average": 7}, "moving_average"),
        ({"head": "quantile"}, "head"),
        ({"backbone_mode": "lora"}, "backbone_mode"),
        ({"h": 14}, "h is 14"),
        ({"new_series": "history"}, "new_series has no effect on DLinear: its series are the channels"),
    ],
)
def test_what_an_artefact_fixes_is_refused_by_name(folder, change, name):
    with pytest.raises(ValueError, match=name):
        NeuralForecaster(str(folder), **change)


def test_saying_what_the_artefact_says_is_no_change(folder, base):
    same = {"layout": "multivariate", "freq": "d", "season": 7, "scaler": "standard", "moving_average": 5}
    pd.testing.assert_frame_equal(
        NeuralForecaster(str(folder), **same).predict(base), NeuralForecaster.from_pretrained(folder).predict(base)
    )


def test_update_takes_a_new_history_without_training(base, folder):
    later = make_base(rows=170)
    forecaster = NeuralForecaster.from_pretrained(folder)
    before = [p.clone() for p in forecaster.model.parameters()]
    out = forecaster.update(later).predict()
    assert out["ds"].min() == later["ds"].max() + pd.Timedelta("1D")
    assert all((a == b).all() for a, b in zip(before, forecaster.model.parameters(), strict=True))
    pd.testing.assert_frame_equal(out, NeuralForecaster.from_pretrained(folder).predict(later))


def test_max_steps_zero_trains_nothing(base, folder, tmp_path):
    forecaster = NeuralForecaster(str(folder), training={"max_steps": 0}).fit(base)
    pd.testing.assert_frame_equal(forecaster.predict(), NeuralForecaster.from_pretrained(folder).predict(base))
    fresh = dlinear(training={"max_steps": 0}).fit(base)
    assert not any("loss" in entry for entry in fresh.log)
    assert fresh.model.trend.weight.unique().numel() == 1  # as it was built


def test_epochs_that_are_asked_for_win_over_the_default_steps(base):
    forecaster = dlinear(training={"num_train_epochs": 1, "per_device_train_batch_size": 32}).fit(base)
    windows = forecaster.spec.data.newest.windows["train"]
    assert max(entry["step"] for entry in forecaster.log) == -(-windows // 32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"training": {"max_step": 3}}, "unknown training option 'max_step'; did you mean max_steps"),
        ({"training": {"max_steps": "many"}}, "training.max_steps is 'many'"),
        ({"training": {"per_device_train_batch_size": 0}}, "training.per_device_train_batch_size is 0"),
        ({"moving_averag": 5}, "unknown option 'moving_averag' of DLinear; did you mean 'moving_average'"),
        ({"moving_average": "wide"}, "moving_average is 'wide'"),
        ({"head": "quantil"}, "quantil"),
        ({"loss": "mape"}, "unknown loss 'mape'"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"layout": "wide"}, "layout is 'wide'"),
        ({"new_series": "guess"}, "new_series is 'guess'"),
        ({"covariates": ["promo"]}, "reads no covariates"),
        ({"covariates": "promo"}, "give a list of column names"),
        ({"covariates": ["promo", "promo"]}, "'promo' is named twice"),
        ({"past_covariates": ["y"]}, "'y' cannot be a covariate"),
        ({"training": [1]}, r"training is \[1\]; give a mapping"),
        ({"training": {"num_train_epochs": 0}}, "num_train_epochs is 0; to train nothing, give max_steps: 0"),
        ({"season": 0}, "season is 0"),
        ({"h": 2.5}, "h is 2.5"),
        ({"scaler": "robust"}, "scaler 'robust' is unknown"),
        ({"revision": "main"}, "revision is for a saved model"),
        ({"device": "cpu"}, "device is for a saved model"),
        ({"max_seconds": -1}, "max_seconds is -1"),
        ({"max_seconds": "long"}, "max_seconds is 'long'"),
        ({"pad_short": "yes"}, "pad_short is 'yes'"),
        ({"batch_invariant": 1}, "batch_invariant is 1"),
        ({"share_covariates": "yes"}, "share_covariates is 'yes'"),
        ({"freq": "fortnight"}, "freq 'fortnight' is no pandas frequency"),
        ({"alias": ""}, "alias '' cannot name a forecast"),
        ({"training": {"save_strategy": "no"}}, "save_strategy has no effect"),
        ({"training": {"optim": "foo"}}, "training.optim is 'foo'"),
        *(
            ({"val_size": 0, "training": {name: value}}, f"nothing is validated and {name} has no effect")
            for name, value in [
                ("early_stopping_patience", 3),
                ("early_stopping_threshold", 0.1),
                ("eval_steps", 5),
                ("eval_strategy", "steps"),
                ("eval_on_start", True),
                ("per_device_eval_batch_size", 4),
                ("load_best_model_at_end", True),
                ("metric_for_best_model", "mae"),
            ]
        ),
    ],
)
def test_bad_options_fail_in_the_constructor(options, message):
    with pytest.raises((ValueError, KeyError), match=message):
        NeuralForecaster("dlinear", **({"h": 7} | options))


@pytest.mark.parametrize(
    "build",
    [
        lambda **named: StatisticalForecaster("AutoARIMA", 7, **named),
        lambda **named: StepRegression(7, period=7, **named),
        lambda **named: LEAR(**named),
    ],
)
def test_statistical_models_name_covariates_once_and_no_key(build):
    for named, message in ((["promo", "promo"], "named twice"), (["ds"], "'ds' cannot be a covariate")):
        with pytest.raises(FrameError, match=message):
            build(covariates=named)


@pytest.mark.parametrize("layout", ["multivariate", "univariate"])
def test_series_named_by_numbers_survive_saving(layout, tmp_path):
    base = make_base(series=(1, 2)).astype({"unique_id": "int64"})
    forecaster = dlinear(layout=layout).fit(base)
    forecaster.save_pretrained(tmp_path / "m")
    loaded = NeuralForecaster.from_pretrained(tmp_path / "m", training=QUICK)
    assert loaded.spec.channels == ([1, 2] if layout == "multivariate" else [])
    pd.testing.assert_frame_equal(loaded.predict(base), forecaster.predict())
    pd.testing.assert_frame_equal(loaded.update(base).predict(), forecaster.predict())
    assert loaded.predict_rolling(base, 7, 2, 7)["unique_id"].unique().tolist() == [1, 2]
    assert loaded.fit(base).predict()["unique_id"].dtype == "int64"
    with pytest.raises(FrameError, match=r"trained on series 1 as int, the frame has it as str; .*astype\(int\)"):
        loaded.predict(base.astype({"unique_id": str}))


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_training_leaves_the_forecaster_as_it_was(stop, trained, base, folder, tmp_path):
    forecaster = NeuralForecaster.from_pretrained(folder, training=QUICK | {"learning_rate": 1.0})
    if trained:
        forecaster.fit(base.groupby("unique_id").head(120).reset_index(drop=True))
    before, facts, log = forecaster.predict(base), forecaster.spec.data, forecaster.log
    weights = {name: tensor.clone() for name, tensor in forecaster.model.state_dict().items()}
    moved = []

    def interrupt(*_):
        now = forecaster.model.state_dict()
        moved.append(any(not torch.equal(now[name], tensor) for name, tensor in weights.items()))
        raise stop

    forecaster.progress = interrupt
    with pytest.raises(stop):
        forecaster.fit(base.assign(y=base["y"] * 5))
    assert moved == [True]
    pd.testing.assert_frame_equal(forecaster.predict(base), before)
    assert (forecaster.spec.data, forecaster.log) == (facts, log)
    forecaster.save_pretrained(tmp_path / "m")
    pd.testing.assert_frame_equal(NeuralForecaster.from_pretrained(tmp_path / "m").predict(base), before)


def test_an_interrupted_transfer_leaves_the_forecaster_as_it_was(base, folder, monkeypatch):
    forecaster = NeuralForecaster.from_pretrained(folder)
    before = forecaster.predict(base)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(forecaster, "told", interrupt)  # in the middle of the calibration
    with pytest.raises(KeyboardInterrupt):
        forecaster.transfer(base.assign(y=base["y"] * 100))
    forecaster.told = None
    pd.testing.assert_frame_equal(forecaster.predict(base), before)
    assert forecaster.calibration is not None


def test_a_folder_called_like_a_model_is_meant_by_a_path_alone(base, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("dlinear", "AutoETS", "mine"):
        shutil.copytree(folder, name)
    expected = NeuralForecaster.from_pretrained(folder).predict(base)
    for given in ("dlinear", "./dlinear", Path("dlinear")):
        pd.testing.assert_frame_equal(NeuralForecaster.from_pretrained(given).predict(base), expected)
    assert NeuralForecaster("dlinear", 7).model is None
    kinds = {
        "dlinear": "native",
        "./dlinear": "saved",
        "AutoETS": "statistical",
        "./AutoETS": "saved",
        "mine": "saved",
    }
    assert {name: ModelSpec(name).kind for name in kinds} == kinds
    assert {name: is_saved(name) for name in kinds} == {name: kind == "saved" for name, kind in kinds.items()}
    assert [write_folder(name) for name in ("dlinear", "mine", "./dlinear")] == ["./dlinear", "mine", "./dlinear"]


@pytest.mark.parametrize("name", ["timexer", "./nofolder", "/no/such/folder"])
def test_a_folder_that_is_not_there_is_told(name):
    with pytest.raises(FileNotFoundError, match=f"no folder {name}; give"):
        NeuralForecaster.from_pretrained(name)


def test_an_unknown_change_of_a_saved_model_has_the_nearest_name(folder):
    with pytest.raises(ValueError, match=r"unknown option .bathc_size. of a saved DLinear; did you mean .batch_size."):
        NeuralForecaster.from_pretrained(folder, bathc_size=3)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"model": "dlinear", "options": {"val_size": 3}},
            "val_size is no option of a model here; give it for",
        ),
        ({"model": "dlinear", "options": {"training": {}}}, "give it for the model's entry, beside options"),
        ({"model": "Naive", "options": {"freq": "D"}}, "Naive: freq is no option"),
    ],
)
def test_an_option_that_has_another_place_is_told(entry, message, base):
    asked = Asked(h=7)
    with pytest.raises(ValueError, match=message):
        build_forecaster(ModelSpec.parse(entry), build_task(load_given(base, asked), asked))


@pytest.mark.parametrize(("transform", "factor"), [("none", 1000), ("none", 1 / 1000), ("asinh", 1000)])
def test_values_of_another_order_of_magnitude_are_told(transform, factor, base, folder):
    forecaster = NeuralForecaster.from_pretrained(folder)
    forecaster = dlinear(transform=transform).fit(base) if transform != "none" else forecaster
    other = base.assign(y=base["y"].where(base["unique_id"] == "a", base["y"] * factor))
    for take in (forecaster.predict, forecaster.update, lambda df: forecaster.predict_rolling(df, 7, 2, 7)):
        with pytest.warns(UserWarning, match=r"series 'b' has values of about .* \(1 of 2 series .*transfer\(df\)"):
            take(other)
    forecaster.transfer(other)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        forecaster.predict(other)
        for like in (base["y"] * 20, 0.0):
            NeuralForecaster.from_pretrained(folder).predict(base.assign(y=like))


@pytest.mark.parametrize("build", ["fresh", "saved", "naive", "statistical"])
def test_a_forecast_has_the_horizon_of_fit_unless_it_is_asked_for_another(build, base, folder):
    made = {
        "fresh": lambda: dlinear(training=QUICK | {"max_steps": 1}),
        "saved": lambda: NeuralForecaster(str(folder), training=QUICK | {"max_steps": 1}),
        "naive": lambda: SeasonalNaive(7, freq="D"),
        "statistical": lambda: StatisticalForecaster("AutoETS", 1, freq="D"),
    }[build]().fit(base, 3)
    assert len(made.predict()) == 2 * 3
    assert len(made.predict(h=5)) == 2 * 5


def test_a_shorter_horizon_survives_saving_and_further_training(base, folder, tmp_path):
    for source, target in ((folder, "a"), (tmp_path / "a", "b"), (tmp_path / "b", "c")):
        changes = {"h": 3} if source == folder else {}
        forecaster = NeuralForecaster.from_pretrained(source, training=QUICK | {"max_steps": 1}, **changes)
        assert len(forecaster.predict(base)) == 2 * 3
        assert len(forecaster.fit(base).predict()) == 2 * 3
        forecaster.save_pretrained(tmp_path / target)
    assert len(NeuralForecaster.from_pretrained(tmp_path / "c").predict(base, h=7)) == 2 * 7


def test_a_part_of_the_horizon_is_refused_before_training_where_covariates_are_read(base):
    with pytest.raises(ValueError, match="reads known covariates over its whole horizon of 7"):
        timexer().fit(base, h=3)


def test_the_way_to_lora_is_told(base, tmp_path):
    small = {"backbone": str(save_tiny_backbone(tmp_path / "gpt2", "gpt2", layers=1, width=16)), "d_ff": 8}
    small |= {"num_backbone_layers": 1, "d_model": 8, "num_heads": 2, "num_prototypes": 4, "patch_length": 7}
    made = NeuralForecaster("timellm", 7, training={"max_steps": 0}, context_length=21, **small).fit(base)
    made.save_pretrained(tmp_path / "saved")
    with pytest.raises(ValueError, match="the backbone stays frozen; give backbone_mode='lora' with it"):
        NeuralForecaster.from_pretrained(tmp_path / "saved", lora={"r": 2})
    changed = NeuralForecaster.from_pretrained(tmp_path / "saved", backbone_mode="lora", lora={"r": 2})
    assert changed.model.config.lora == {"r": 2}


OWN = """
from tsllm.models.dlinear import DLinear, DLinearConfig
class Config(DLinearConfig):
    model_type = "{kind}"
class {name}(DLinear):
    config_class = Config
"""


def test_a_saved_model_of_ones_own_says_how_its_class_is_named(base, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    for module, kind in (("road_own_a", "road_a"), ("road_own_b", "road_b")):
        (tmp_path / f"{module}.py").write_text(OWN.format(kind=kind, name="Mine"))
    made = NeuralForecaster("road_own_a.Mine", 7, training={"max_steps": 0}, context_length=21, moving_average=5)
    made.fit(base).save_pretrained(tmp_path / "saved")
    # As another process finds it: the class of this type was not named yet.
    config = tmp_path / "saved" / "config.json"
    config.write_text(config.read_text().replace('"road_a"', '"road_b"'))
    with pytest.raises(ValueError, match=r"type 'road_b'.*TSLLM_MODELS=my_module.MyModel"):
        NeuralForecaster.from_pretrained(tmp_path / "saved")
    monkeypatch.setenv("TSLLM_MODELS", "road_own_b.Mine")
    found = NeuralForecaster.from_pretrained(tmp_path / "saved")
    assert type(found.model).__module__ == "road_own_b"
    pd.testing.assert_frame_equal(found.predict(base), made.predict(base))


def test_options_of_the_hub_are_refused_for_a_folder(folder):
    with pytest.raises(ValueError, match="revision is for a Hub repository"):
        NeuralForecaster.from_pretrained(folder, revision="main")
    with pytest.raises(ValueError, match="token is for a Hub repository"):
        NeuralForecaster.from_pretrained(folder, token="secret")


def test_a_new_data_set_of_the_same_names_gets_its_own_scaler(base, folder):
    other = base.assign(y=base["y"] * 100 + 5)
    forecaster = NeuralForecaster(str(folder), training=QUICK).fit(other)
    loc, _ = forecaster.spec.load_scaler().loc_scale(["a"])
    assert loc[0] == pytest.approx(other[other["unique_id"] == "a"]["y"].head(135).mean())
    longer = make_base(rows=150)
    longer = pd.concat([longer, make_base(rows=180).groupby("unique_id").tail(30)]).sort_values(["unique_id", "ds"])
    kept = NeuralForecaster(str(folder), training=QUICK).fit(longer.reset_index(drop=True))
    assert kept.spec.load_scaler().stats["y"] == NeuralForecaster.from_pretrained(folder).spec.load_scaler().stats["y"]


def test_a_new_data_set_gets_its_own_prompts(base, tmp_path):
    small = {"backbone": str(save_tiny_backbone(tmp_path / "gpt2", "gpt2", layers=1, width=16)), "d_ff": 8}
    small |= {"num_backbone_layers": 1, "d_model": 8, "num_heads": 2, "num_prototypes": 4, "patch_length": 7}
    options = small | {"prompt_statistics": "series", "prompt_domain": "sales", "context_length": 21}
    first = NeuralForecaster("timellm", 7, training=QUICK | {"max_steps": 1}, **options).fit(base)
    first.save_pretrained(tmp_path / "first")
    other = base.assign(y=base["y"] * 1000)
    second = NeuralForecaster(str(tmp_path / "first"), training=QUICK | {"max_steps": 1}).fit(other)
    assert second.model.config.prompt_series != first.model.config.prompt_series
    assert second.model.config.series_scale == pytest.approx([1000 * s for s in first.model.config.series_scale])
    assert (first.model.config.prompt_domain, second.model.config.prompt_domain) == ("sales", "")
    same = NeuralForecaster(str(tmp_path / "first"), training=QUICK | {"max_steps": 1}).fit(base)
    assert same.model.config.prompt_domain == "sales"
    with_lora = NeuralForecaster(str(tmp_path / "first"), backbone_mode="lora", lora={"r": 2}, training=QUICK)
    pd.testing.assert_frame_equal(with_lora.predict(base), first.predict(base))
    assert any("lora_" in name for name, p in with_lora.model.named_parameters() if p.requires_grad)


# Aligned panels.


def test_other_aligned_series_are_refused_with_the_way_out_before_any_training(base, folder):
    subset, more = base[base["unique_id"] == "a"], make_base(series=("a", "b", "c"))
    forecaster = NeuralForecaster.from_pretrained(folder)
    for frame, faults in ((subset, "lacks \\['b'\\]"), (more, "has \\['c'\\]")):
        told = (
            rf"{faults}; give exactly these, or train with layout='univariate' \(--layout\), which takes others with"
        )
        with pytest.raises(FrameError, match=rf"{told} new_series='history' \(--new-series\)"):
            forecaster.predict(frame)
    told = []
    training = NeuralForecaster(str(folder), training=QUICK)
    training.progress = lambda *step: told.append(step)
    with pytest.raises(FrameError, match="give as many, or start from a model trained with layout='univariate'"):
        training.fit(more)
    stopped = base.drop(index=base[base["unique_id"] == "b"].index[-9:])
    with pytest.raises(FrameError, match="layout='univariate'"):
        training.fit(stopped)
    for use in (forecaster.update, forecaster.predict, lambda df: forecaster.predict_rolling(df, 7, 2, 7)):
        with pytest.raises(FrameError, match=r"series 'b' ends at 2024-05-20.*layout='univariate'"):
            use(stopped)
    with pytest.raises(FrameError, match="layout='univariate'"):
        dlinear(layout="multivariate").fit(stopped)
    assert told == []


def test_the_layout_that_auto_takes_is_logged_and_one_that_stops_is_a_panel(base, caplog):
    stopped = base.drop(index=base[base["unique_id"] == "b"].index[-9:]).reset_index(drop=True)
    with caplog.at_level(logging.INFO, logger="tsllm.data.task"):
        assert dlinear().fit(base).spec.layout == "multivariate"
        forecaster = dlinear().fit(stopped)
    assert forecaster.spec.layout == "univariate"
    assert "layout multivariate (auto)" in caplog.text
    assert "layout univariate (auto)" in caplog.text
    assert "context_length 21" in caplog.text
    out = forecaster.predict(base[base["unique_id"] == "a"])  # a subset is fine there
    assert len(out) == 7


@pytest.mark.parametrize(
    ("options", "idle"),
    [
        ({"training": {"max_steps": 0, "learning_rate": 0.1}}, "learning_rate"),
        ({"training": {"max_steps": 0, "seed": 1}, "val_size": 20}, "val_size"),
        ({"training": {"max_steps": 0}, "max_seconds": 5}, "max_seconds"),
        ({"training": {"max_steps": 0}, "train_share": 0.5}, "train_share"),
    ],
)
def test_options_of_a_training_that_does_not_happen_are_refused(base, tmp_path, options, idle):
    dlinear().fit(base).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"max_steps is 0, so nothing is trained and {idle} has no effect"):
        NeuralForecaster(str(tmp_path), **options)
    made = NeuralForecaster(str(tmp_path), training={"max_steps": 0})
    with pytest.raises(ValueError, match="val_size has no effect"):
        made.fit(base, val_size=20)


def test_other_series_are_forecast_as_their_refusal_says(base):
    more = make_base(series=("a", "b", "c"))
    forecaster = dlinear(layout="univariate", new_series="history").fit(base)
    made = forecaster.predict(more)
    assert made["unique_id"].unique().tolist() == ["a", "b", "c"]
    known = made[made["unique_id"] != "c"].reset_index(drop=True)
    pd.testing.assert_frame_equal(known, forecaster.predict(base))

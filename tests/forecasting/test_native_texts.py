"""Native models that read texts: that words teach them what numbers cannot, and what travels in their folders."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import tsllm
from tests.fixtures.backbones import save_tiny_backbone
from tests.fixtures.texts import make_told_days
from tsllm.context.contract import Context
from tsllm.evaluation.saved import find_pretrained_base
from tsllm.forecasting.context import ContextForecaster
from tsllm.forecasting.model_spec import ModelSpec
from tsllm.forecasting.neural import NeuralForecaster
from tsllm.types import FrameError

H, N = 6, 240
TIMES = pd.date_range("2024-01-01", periods=N, freq="h")
READS = {"text_layers": 2, "text_reader": {"d_model": 32, "dropout": 0.0}}
QUICK = {"max_steps": 3, "per_device_train_batch_size": 16, "learning_rate": 0.05, "eval_steps": 3}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("TSLLM_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return save_tiny_backbone(tmp_path_factory.mktemp("backbone") / "llama", "llama", layers=2, width=32)


def make_frame():
    rng = np.random.default_rng(0)
    parts = [pd.DataFrame({"unique_id": name, "ds": TIMES, "y": 5 + rng.normal(size=N)}) for name in ("a", "b")]
    return pd.concat(parts, ignore_index=True)


def make_news(text="trend up", published=TIMES[0]):
    return pd.DataFrame({"unique_id": ["a"], "text": [text], "published": [published]})


def make(backbone, name="dlinear", **options):
    sizes = {"context_length": 24, "val_size": 24, "training": QUICK, "text_backbone": backbone} | READS
    return NeuralForecaster(name, H, **(sizes | options))


@pytest.fixture(scope="module")
def made(backbone):
    """A forecaster that has learned a little from one text."""
    return make(backbone).fit(make_frame(), context=make_news())


def values_of(forecast, name):
    return forecast.loc[forecast["unique_id"] == name].iloc[:, 2].to_numpy()


def test_silence_changes_nothing_and_a_text_only_its_series(made):
    silent = made.predict(context="")
    for nothing in ({"a": "", "b": ""}, pd.DataFrame({"unique_id": [], "text": []})):
        pd.testing.assert_frame_equal(made.predict(context=nothing), silent, check_exact=True)
    told = made.predict(context={"a": "trend up", "b": ""})
    np.testing.assert_array_equal(values_of(told, "b"), values_of(silent, "b"))
    assert np.abs(values_of(told, "a") - values_of(silent, "a")).max() > 1e-3


def test_a_text_that_training_never_saw_is_read_and_what_cannot_be_read_is_named(made):
    known, unseen = (made.predict(context={"a": text}) for text in ("trend up", "min electricity median"))
    assert np.isfinite(values_of(unseen, "a")).all()
    assert np.abs(values_of(unseen, "a") - values_of(known, "a")).max() > 1e-4
    with pytest.raises(FrameError, match=r"about series 'c', which the data do not hold"):
        made.predict(context={"c": "x"})
    with pytest.raises(ValueError, match=r"the text of context row 0 has .* tokens, but the model reads 512"):
        made.predict(context={"a": "up " * 600})


def test_a_branch_that_was_trained_without_texts_is_the_plain_model_and_says_so(backbone, caplog):
    plain = NeuralForecaster("dlinear", H, context_length=24, val_size=24, training=QUICK).fit(make_frame()).predict()
    mute = make(backbone).fit(make_frame())
    pd.testing.assert_frame_equal(mute.predict(context="trend up"), plain, check_exact=True)
    assert "DLinear was trained without texts, so that none changes its forecast" in caplog.text


def test_a_saved_model_reads_the_same_holds_no_language_model_and_refuses_another(made, backbone, tmp_path):
    texts = {"a": "trend up", "b": "median 2"}
    before = made.predict(context=texts)
    made.save_pretrained(tmp_path / "saved")
    loaded = NeuralForecaster.from_pretrained(tmp_path / "saved")
    assert loaded.reads_texts
    pd.testing.assert_frame_equal(loaded.predict(make_frame(), context=texts), before, check_exact=True)
    stored = load_file(tmp_path / "saved" / "model.safetensors")
    assert {name.partition(".")[0] for name in stored} == {"trend", "season", "texts"}
    assert sum(tensor.numel() for tensor in stored.values()) < 30_000
    assert loaded.model.config.text_fingerprint == made.model.config.text_fingerprint != ""
    assert find_pretrained_base(ModelSpec(str(tmp_path / "saved"))) == "llama"
    assert "Texts are read through the first 2 layers of" in (tmp_path / "saved" / "README.md").read_text()
    save_tiny_backbone(tmp_path / "other", "llama", layers=2, width=32, seed=7)
    loaded.model.config.text_backbone = str(tmp_path / "other")
    with pytest.raises(ValueError, match=r"backbone '.*other' has fingerprint .* learned to read texts with"):
        loaded.predict(make_frame(), context=texts)


def test_the_states_of_a_text_are_computed_once_for_all_models(made, backbone, cache):
    made.predict(context={"a": "trend up", "b": "median 2"})
    stored = {path.name for path in (cache / "context_states").iterdir()}
    assert stored
    timellm = NeuralForecaster(
        "timellm", H, backbone=backbone, text_layers=2, reader="horizon", context_length=24, patch_length=8,
        patch_stride=8, num_backbone_layers=1, d_model=8, num_heads=2, d_ff=8, num_prototypes=10, prompt=False,
        val_size=24, training=QUICK | {"max_steps": 1},
    )  # fmt: skip
    timellm.fit(make_frame()).predict(context={"a": "trend up", "b": "median 2"})
    assert {path.name for path in (cache / "context_states").iterdir()} == stored


@pytest.mark.parametrize("name", ["patchtst", "timexer"])
def test_transformers_read_texts_too_and_a_back_test_keeps_the_guard(name, backbone):
    small = {"d_model": 8, "num_heads": 2, "num_layers": 1, "d_ff": 8, "patch_length": 8}
    model = make(backbone, name, batch_invariant=True, **small)
    late = make_news("min median", published=TIMES[-12])  # between the first and the second cutoff
    told = tsllm.backtest(make_frame(), [model], H, n_windows=3, context=pd.concat([make_news(), late]))
    alone = tsllm.backtest(make_frame(), [model], H, n_windows=3, context=make_news())
    column = f"{model.alias}+context"
    early = (told["cutoff"] < TIMES[-12]).to_numpy()
    assert np.array_equal(told.loc[early, column], alone.loc[early, column])
    own = ~early & (told["unique_id"] == "a").to_numpy()
    assert (told.loc[own, column].to_numpy() != alone.loc[own, column].to_numpy()).all()
    assert told[model.alias].equals(alone[model.alias])
    with pytest.raises(FrameError, match="does not say when it was published"):
        tsllm.backtest(make_frame(), [model], H, n_windows=3, context={"a": "trend up"})


def test_models_that_read_no_texts_refuse_them_and_the_advice_works(backbone):
    model = NeuralForecaster("dlinear", H, context_length=24, val_size=24, training=QUICK)
    with pytest.raises(ValueError, match=r"DLinear reads no texts; wrap it in .* text_layers: 8 and text_backbone"):
        model.fit(make_frame(), context=make_news())
    with pytest.raises(ValueError, match="text_layers is 2, but PatchCast forecasts any horizon"):
        make(backbone, "patchcast", text_reader={})
    with pytest.raises(FileNotFoundError, match="text_backbone is 'nothing', which is no packaged name"):
        make("nothing")


def test_words_decide_what_numbers_cannot_tell(backbone):
    """The level of each day is drawn afresh and told the day before, in one of two phrases."""
    tested = 8
    frame, news, lies = make_told_days()
    y = frame["y"].to_numpy()
    training = {"max_steps": 150, "per_device_train_batch_size": 16, "learning_rate": 5e-3, "eval_steps": 75}
    options = {"context_length": 96, "val_size": 48, "training": training}
    reader = NeuralForecaster("dlinear", 24, text_backbone=backbone, **options, **READS)
    reader.fit(frame.head(-24 * tested), context=news)
    plain = NeuralForecaster("dlinear", 24, **options).fit(frame.head(-24 * tested))

    def measure(model, context=None):
        if context is not None:
            model._told = Context.read(context, frame, timeless=True)
        rolled = model.predict_rolling(frame, 24, n_windows=tested, step_size=24)
        return np.abs(rolled["DLinear"].to_numpy() - y[-24 * tested :]).mean()

    error = {"plain": measure(plain), "told": measure(reader, news), "lies": measure(reader, lies)}
    assert error["told"] < 0.5 * error["plain"], error
    assert error["told"] < 0.3 * error["lies"], error
    assert torch.isfinite(reader.model.texts.reader.answer.value.weight).all()


CAP = "trend up. Output is capped at 4."


def test_learned_reading_and_effects_work_in_a_row(backbone):
    """The base is trained with the texts, reads those of each forecast, and effects are carried out behind it."""
    df, news = make_frame(), make_news(CAP)
    alone = make(backbone).fit(df, context=news)
    both = ContextForecaster(make(backbone)).fit(df, H, news)
    told, silent = alone.predict(), alone.predict(context="")
    assert np.abs(values_of(told, "a") - values_of(silent, "a")).max() > 1e-3
    np.testing.assert_array_equal(values_of(both.predict(), "a"), np.minimum(values_of(told, "a"), 4))
    np.testing.assert_array_equal(values_of(both.predict(context=""), "a"), values_of(silent, "a"))
    other = {"a": "min median. Output is capped at 4."}
    expected = np.minimum(values_of(alone.predict(context=other), "a"), 4)
    np.testing.assert_array_equal(values_of(both.predict(context=other), "a"), expected)
    np.testing.assert_array_equal(values_of(both.predict(), "b"), values_of(told, "b"))


def test_both_in_a_row_read_only_what_was_published_and_leave_the_base_as_it_was(made):
    df = make_frame()
    news = make_news(CAP, TIMES[N - 2 * H - 1])
    plain = made.predict_rolling(df, H, 3, H)
    both = ContextForecaster(made).tell(news).predict_rolling(df, H, 3, H)
    pd.testing.assert_frame_equal(made.predict_rolling(df, H, 3, H), plain, check_exact=True)
    quiet = copy.copy(made).tell("", timeless=True).predict_rolling(df, H, 3, H)
    read = copy.copy(made).tell(news).predict_rolling(df, H, 3, H)
    own = (both["unique_id"] == "a").to_numpy()
    early = (both["cutoff"] < TIMES[N - 2 * H - 1]).to_numpy()
    values = both.iloc[:, 3].to_numpy()
    np.testing.assert_array_equal(values[early], quiet.iloc[:, 3].to_numpy()[early])
    np.testing.assert_array_equal(values[own & ~early], np.minimum(read.iloc[:, 3].to_numpy()[own & ~early], 4))
    assert (values[own & ~early] == 4).all()


def test_a_base_that_reads_needs_dated_texts_to_learn_from(backbone):
    with pytest.raises(FrameError, match="does not say when it was published"):
        ContextForecaster(make(backbone)).fit(make_frame(), H, {"a": CAP})


def test_what_has_no_effects_is_explained_by_its_words(made):
    with pytest.raises(NotImplementedError, match=r"DLinear reads texts without saying effects.*weigh_words"):
        made.explain_context(context={"a": CAP})
    with pytest.raises(NotImplementedError, match=r"SeasonalNaive reads no texts.*ContextForecaster"):
        tsllm.SeasonalNaive(24).explain_context(context="Closed.")


def test_predict_refuses_a_row_about_a_time_that_is_not_forecast(made):
    news = make_news().assign(start=[TIMES[-1] + pd.Timedelta(hours=H + 1)])
    with pytest.raises(
        FrameError, match=r"row 0 \(series 'a'\) starts at 2024-01-11 06:00:00, but the last time .*05:00"
    ):
        made.predict(make_frame(), context=news)
    assert len(made.predict(make_frame(), context=news.assign(start=[TIMES[-1] + pd.Timedelta(hours=H)]))) == 2 * H

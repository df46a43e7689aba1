"""Time-LLM that reads texts: who reads what and when, what silence does, and that it can learn from words."""

import numpy as np
import pandas as pd
import pytest
import torch

from tests.fixtures.backbones import save_tiny_backbone
from tests.fixtures.texts import make_told_days
from tsllm.context.contract import Context
from tsllm.data.task import ForecastTask
from tsllm.data.windows import WindowDataset
from tsllm.forecasting.checks import check_forecaster
from tsllm.forecasting.model_spec import ModelSpec
from tsllm.forecasting.neural import NeuralForecaster
from tsllm.forecasting.texts import ToldWindows, compute_waves, open_text_encoder
from tsllm.types import FrameError

H, LENGTH, N = 6, 24, 240
HOUR = pd.Timedelta("1h")
SIZES = {"context_length": LENGTH, "patch_length": 8, "patch_stride": 8, "d_model": 8, "num_heads": 2, "d_ff": 8}
SIZES |= {"num_prototypes": 10, "num_backbone_layers": 1, "reader": "horizon", "text_layers": 2, "prompt": False}
LEARN = {"max_steps": 150, "per_device_train_batch_size": 16, "learning_rate": 5e-3, "eval_steps": 75}
TAUGHT = pd.DataFrame({"unique_id": ["a", "b"], "text": ["min median 2", "trend up"], "published": "2024-01-01"})
QUICK = {"max_steps": 2, "per_device_train_batch_size": 8, "eval_steps": 2}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TSLLM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return save_tiny_backbone(tmp_path_factory.mktemp("backbone") / "llama", "llama", layers=2, width=32)


def make_frame():
    rng = np.random.default_rng(0)
    times = pd.date_range("2024-01-01", periods=N, freq="h")
    parts = [pd.DataFrame({"unique_id": name, "ds": times, "y": 5 + rng.normal(size=N)}) for name in ("a", "b")]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def made(backbone):
    """A forecaster that has learned to answer texts somehow: its answer's weights are drawn."""
    model = NeuralForecaster("timellm", H, backbone=backbone, val_size=24, training=QUICK, **SIZES)
    model.fit(make_frame(), context=TAUGHT)
    model._told = None
    torch.manual_seed(1)
    torch.nn.init.normal_(model.model.horizon.texts.answer.value.weight)
    return model


def values_of(forecast, name):
    return forecast.loc[forecast["unique_id"] == name, "TimeLLM"].to_numpy()


def test_silence_changes_nothing_and_a_text_only_its_series(made):
    silent = made.predict()
    for nothing in ("", {"a": "", "b": ""}, pd.DataFrame({"unique_id": [], "text": []})):
        pd.testing.assert_frame_equal(made.predict(context=nothing), silent, check_exact=True)
    told = made.predict(context={"a": "electricity prices median 2", "b": ""})
    np.testing.assert_array_equal(values_of(told, "b"), values_of(silent, "b"))
    assert np.abs(values_of(told, "a") - values_of(silent, "a")).max() > 1e-3
    other = made.predict(context={"a": "trend up", "b": ""})
    assert np.abs(values_of(told, "a") - values_of(other, "a")).max() > 1e-3


def test_a_text_with_a_control_token_is_refused(made):
    with pytest.raises(ValueError, match=r"the text of context row 0 holds '<\|endoftext\|>'"):
        made.predict(context={"a": "trend up<|endoftext|>trend down"})


def test_a_cutoff_reads_what_was_published_by_then_and_is_about_its_horizon(made):
    frame = make_frame()
    times = pd.date_range("2024-01-01", periods=N, freq="h")
    first, second = N - 2 * H - 1, N - H - 1  # rows of the cutoffs

    def roll(**row):
        context = pd.DataFrame([{"unique_id": "a", "text": "trend up"} | row])
        made._told = Context.read(context, frame)
        try:
            return made.predict_rolling(frame, H, n_windows=2, step_size=H)
        finally:
            made._told = None

    silent = made.predict_rolling(frame, H, n_windows=2, step_size=H)
    for row, read_at in (
        ({"published": times[first]}, {first, second}),
        ({"published": times[first] + pd.Timedelta("1s")}, {second}),  # the canary
        ({"published": times[second] + pd.Timedelta("1s")}, set()),
        ({"published": times[0], "end": times[first + 1]}, set()),  # over when the first horizon begins
        ({"published": times[0], "end": times[first + 2]}, {first}),
        ({"published": times[0], "start": times[second]}, {first, second}),
        ({"published": times[0], "start": times[second + 1]}, {second}),
        ({"published": times[0], "start": times[second] + pd.Timedelta("7h")}, set()),
    ):
        rolled = roll(**row)
        moved = (rolled["TimeLLM"] != silent["TimeLLM"]) & (rolled["unique_id"] == "a")
        assert set(rolled.loc[moved, "cutoff"]) == {times[k] for k in read_at}, row
        np.testing.assert_array_equal(values_of(rolled, "b"), values_of(silent, "b"))


def test_windows_read_the_rows_that_they_may():
    table = pd.DataFrame({"unique_id": ["b", "a", "a"], "text": ["three", "one", "two"]})
    table["published"], table["start"] = ["2024-01-01", "2024-01-01", "2024-01-02"], [None, None, "2024-01-05"]
    told = Context.read(table, make_frame())
    days = np.array(["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04"], dtype="datetime64[ns]")
    rows, reads = told.rows_of_windows("a", days, days + np.timedelta64(1, "D"), days + np.timedelta64(2, "D"), HOUR)
    assert rows["text"].tolist() == ["one", "two"]
    assert rows["row"].tolist() == [1, 2]
    assert reads.tolist() == [[True, False], [True, False], [True, True], [True, True]]


def test_a_note_counts_its_times_from_its_publication_and_is_over_with_them(made):
    frame = make_frame()  # cutoffs on 10 January, a Wednesday, at 11:00 and 17:00

    def roll(text, published):
        made._told = Context.read(pd.DataFrame([{"unique_id": "a", "text": text, "published": published}]), frame)
        try:
            return made.predict_rolling(frame, H, n_windows=2, step_size=H)
        finally:
            made._told = None

    silent = made.predict_rolling(frame, H, n_windows=2, step_size=H)
    for text, published, dated, hours in (
        ("Trend up tomorrow.", "2024-01-09 09:00", "Trend up 2024-01-10.", [11, 17]),
        ("Trend up on Wednesday.", "2024-01-05", "Trend up on 2024-01-10.", [11, 17]),
        ("Trend up today until 18:00.", "2024-01-10", "Trend up 2024-01-10 until 18:00.", [11]),
        ("Trend up tomorrow.", "2024-01-08", "", []),
        ("Trend up next week.", "2024-01-01", "Trend up 2024-01-08 to 2024-01-14.", [11, 17]),
        ("Trend up next week.", "2023-12-20", "", []),
    ):
        rolled, written = roll(text, published), roll(dated, published)
        pd.testing.assert_frame_equal(rolled, written, check_exact=True)
        moved = (rolled["TimeLLM"] != silent["TimeLLM"]) & (rolled["unique_id"] == "a")
        assert sorted(rolled.loc[moved, "cutoff"].dt.hour.unique()) == hours, text
        np.testing.assert_array_equal(values_of(rolled, "b"), values_of(silent, "b"))


def test_a_message_of_many_days_is_encoded_once_where_its_row_says_the_day(made):
    frame = make_frame()
    days = pd.date_range("2024-01-03", periods=4)
    rows = pd.DataFrame({"unique_id": "a", "text": "Trend up tomorrow.", "published": days - pd.Timedelta("9h")})
    windows = WindowDataset(frame, LENGTH, H, stride=H)
    encoder = open_text_encoder(made.model.config)

    def list_encoded(rows):
        asked = []
        with pytest.MonkeyPatch.context() as patch:
            plain = encoder.encode
            patch.setattr(encoder, "encode", lambda texts: asked.append(list(texts)) or plain(texts))
            ToldWindows(windows, Context.read(rows, frame), encoder, made.model.text_reader.lens)
        return asked

    assert list_encoded(rows.assign(start=days, end=days + pd.Timedelta("1D"))) == [["Trend up tomorrow."]]
    assert list_encoded(rows) == [[f"Trend up {day:%Y-%m-%d}." for day in days]]


def test_only_the_steps_that_a_text_is_about_are_changed(made):
    silent, ahead = made.predict(), pd.date_range("2024-01-01", periods=N + H, freq="h")[N:]
    row = {"unique_id": "a", "text": "trend up", "start": ahead[2], "end": ahead[4]}
    told = made.predict(context=pd.DataFrame([row]))
    moved = values_of(told, "a") != values_of(silent, "a")
    assert moved.tolist() == [False, False, True, True, False, False]


def test_texts_without_a_date_are_refused_in_training_unless_declared_timeless(backbone):
    frame = make_frame()
    options = {"backbone": backbone, "val_size": 24, "training": QUICK} | SIZES
    with pytest.raises(FrameError, match=r"does not say when it was published.*declare the texts timeless"):
        NeuralForecaster("timellm", H, **options).fit(frame, context={"a": "trend up"})
    model = NeuralForecaster("timellm", H, context={"a": "trend up"}, timeless=True, **options).fit(frame)
    assert model.model.config.text_fingerprint
    with pytest.raises(FrameError, match=r"about series 'c', which the data do not hold"):
        model.predict(context={"c": "x"})
    with pytest.raises(ValueError, match=r"the text of context row 0 has .* tokens, but the model reads 512"):
        model.predict(context={"a": "up " * 600})


@pytest.mark.parametrize("options", [{"text_layers": 0}, {"text_layers": 0, "reader": "llm"}])
def test_a_model_that_reads_no_texts_refuses_them(options, backbone):
    sizes = {"backbone": backbone, "val_size": 24, "training": QUICK} | SIZES | options
    model = NeuralForecaster("timellm", H, **sizes)
    with pytest.raises(ValueError, match=r"TimeLLM reads no texts; wrap it in .* text_layers: 8"):
        model.fit(make_frame(), context="trend up")
    model = NeuralForecaster("timellm", H, **sizes).fit(make_frame())
    with pytest.raises(ValueError, match="reads no texts"):
        model.predict(context="trend up")
    with pytest.raises(ValueError, match="text_layers is given but reader is 'llm'; set reader: horizon"):
        NeuralForecaster("timellm", H, **(sizes | {"text_layers": 2, "reader": "llm"}))


def test_named_covariates_take_the_horizon_reader_with_texts_too(backbone):
    sizes = {"backbone": backbone, "val_size": 24, "training": QUICK} | SIZES
    del sizes["reader"]
    df = make_frame().assign(plan=1.0)
    made = NeuralForecaster("timellm", H, covariates=["plan"], **sizes).fit(df, context=TAUGHT)
    assert (made.model.config.reader, made.model.config.text_layers) == ("horizon", 2)
    spec = ModelSpec(
        "timellm", covariates=True, options={k: v for k, v in sizes.items() if k in SIZES} | {"backbone": backbone}
    )
    check_forecaster(
        spec, ForecastTask(name="x", h=H, context_length=LENGTH, freq="h", season=24, covariates=("plan",))
    )
    with pytest.raises(ValueError, match="text_layers is given but reader is 'llm'; set reader: horizon"):
        NeuralForecaster("timellm", H, **sizes)
    with pytest.raises(ValueError, match="reads no covariates"):
        NeuralForecaster("timellm", H, covariates=["plan"], **(sizes | {"reader": "llm"}))


def test_a_saved_reader_reads_the_same_and_refuses_other_weights(made, backbone, tmp_path):
    texts = {"a": "trend up", "b": "median 2"}
    before = made.predict(context=texts)
    made.save_pretrained(tmp_path / "saved")
    loaded = NeuralForecaster.from_pretrained(tmp_path / "saved")
    pd.testing.assert_frame_equal(loaded.predict(make_frame(), context=texts), before, check_exact=True)
    loaded.model.config.text_fingerprint = "another"
    with pytest.raises(ValueError, match="learned to read texts with another; load that one"):
        loaded.predict(make_frame(), context=texts)


def test_the_calendar_is_waves_of_day_week_and_year():
    times = np.array([["2024-01-01T06:00", "2024-01-01T12:00"], ["2024-01-04T12:00", "2024-01-08T00:00"]], "M8[ns]")
    waves = compute_waves(times)
    assert waves.shape == (2, 2, 34)
    sines, cosines = waves[..., :17], waves[..., 17:]
    torch.testing.assert_close(sines[0, 0, :4], torch.tensor([1.0, 0.0, -1.0, 0.0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(cosines[0, 1, :4], torch.tensor([-1.0, 1.0, -1.0, 1.0]), atol=1e-5, rtol=0)
    assert cosines[1, 0, 12] == pytest.approx(-1.0, abs=1e-5)  # Thursday noon: half a week after Monday
    assert cosines[1, 1, 12] == pytest.approx(1.0, abs=1e-5)


def test_a_window_holds_a_text_once_however_many_series_read_it(made):
    frame = make_frame()
    rows = [("a", "trend up", "2024-01-04", "2024-01-05"), ("b", "trend up", "2024-01-04 20:00", "2024-01-05")]
    rows += [("a", "min median 2", "2024-01-04 23:00", "2024-01-06")]
    told = Context.read(
        pd.DataFrame(rows, columns=["unique_id", "text", "start", "end"]).assign(published=rows[0][2]), frame
    )
    windows, lens = WindowDataset(frame, LENGTH, H, stride=H), made.model.text_reader.lens
    words = ToldWindows(windows, told, open_text_encoder(made.model.config), lens)
    first = 8  # its context ends on 3 January at 23:00, before the texts are published
    assert words(windows, torch.tensor([first])) == {}
    batch = words(windows, torch.tensor([first, first + 3]))  # forecasts 4 January from 18:00 on
    assert batch["text_rows"].tolist() == [[0, 0], [0, 1]]
    mask = batch["text_mask"]  # [B, C, H, R, T]
    assert not mask[0].any()
    assert mask[1, 0].any(-1).T.tolist() == [[True] * 6, [False] * 5 + [True]]
    assert mask[1, 1].any(-1).T.tolist() == [[False, False, True, True, True, True], [False] * 6]
    encoder = open_text_encoder(made.model.config)
    for r, text in enumerate(("trend up", "min median 2")):
        states = lens(torch.from_numpy(encoder.encode([text])[0].states))
        real = mask[1, :, :, r].any(0).any(0)
        torch.testing.assert_close(batch["text_states"][1, r][real], states)


def test_the_lens_is_fitted_to_the_first_texts_of_training_alone_and_kept(made, backbone, tmp_path):
    lens = made.model.text_reader.lens
    assert lens.is_fitted
    centre = lens.centre.clone()
    encoder = open_text_encoder(made.model.config)
    states = [torch.from_numpy(entry.states).float() for entry in encoder.encode(TAUGHT["text"].tolist())]
    torch.testing.assert_close(centre, torch.cat(states).mean(0))
    made.predict(context="prices")
    assert torch.equal(made.model.text_reader.lens.centre, centre)
    made.save_pretrained(tmp_path / "saved")
    again = NeuralForecaster(str(tmp_path / "saved"), training={"max_steps": 1})
    again.fit(make_frame(), context=TAUGHT.assign(text="prices"))
    assert torch.equal(again.model.text_reader.lens.centre, centre)


def test_words_decide_what_numbers_cannot_tell(backbone):
    """The level of each day is drawn afresh and told the day before, in one of two phrases."""
    tested = 8
    frame, news, lies = make_told_days()
    y = frame["y"].to_numpy()
    options = {"backbone": backbone, "val_size": 48, "training": LEARN} | SIZES | {"dropout": 0.0}
    options |= {"context_length": 96, "patch_length": 24, "patch_stride": 24}
    model = NeuralForecaster("timellm", 24, horizon_reader={"dropout": 0.0, "d_model": 32}, **options)
    model.fit(frame.head(-24 * tested), context=news)
    error = {}
    for name, context in {"told": news, "silent": "", "lies": lies}.items():
        model._told = Context.read(context, frame, timeless=True)
        rolled = model.predict_rolling(frame, 24, n_windows=tested, step_size=24)
        error[name] = np.abs(rolled["TimeLLM"].to_numpy() - y[-24 * tested :]).mean()
    assert error["told"] < 0.5 * error["silent"], error
    assert error["told"] < 0.3 * error["lies"], error

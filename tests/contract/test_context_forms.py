"""Texts in any form mean the same to every entry point, and a later text changes no earlier forecast."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import tsllm
from tests.fixtures.texts import save_told_timellm
from tsllm.cli.main import app
from tsllm.types import FrameError

H = 6
NAME = "SeasonalNaive+context"
HELD = "The output is held at 777 from 2024-01-06 20:00 to 2024-01-07 00:00."
TIMES = pd.date_range("2024-01-01", periods=140, freq="h")  # up to 2024-01-06 19:00


def make_frame():
    y = 10 + 3 * np.sin(np.arange(140) * 2 * np.pi / 24) + np.random.default_rng(0).normal(size=140)
    return pd.concat([pd.DataFrame({"unique_id": n, "ds": TIMES, "y": y + k}) for k, n in enumerate("ab")])


def make_news(text=HELD, **more):
    return pd.DataFrame({"unique_id": ["b"], "text": [text]} | {name: [value] for name, value in more.items()})


FORMS = {
    "text": HELD.replace("output", "output of series b"),
    "mapping": {"b": HELD},
    "frame": make_news(),
    "dated": make_news(published="2024-01-06 19:00"),
    "spanned": make_news("The output is held at 777.", start="2024-01-06 20:00", end="2024-01-07"),
}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """What the command line and YAML files are given for a form; the data lie beside it."""
    monkeypatch.chdir(tmp_path)
    frame = make_frame()
    frame.to_csv("load.csv", index=False)
    ahead = [pd.DataFrame({"unique_id": n, "ds": TIMES[-1] + TIMES.freq * np.arange(1, 7), "y": 1.0}) for n in "ab"]
    pd.concat([frame, *ahead]).to_csv("longer.csv", index=False)

    def write(context):
        if isinstance(context, pd.DataFrame):
            context.to_csv("news.csv", index=False)
            return "news.csv"
        if isinstance(context, dict):
            (tmp_path / "news.json").write_text(json.dumps(context))
            return "news.json"
        return context

    return write


def run(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("form", FORMS)
def test_every_entry_point_reads_every_form_alike(form, write):
    context, given = FORMS[form], write(FORMS[form])
    naive, df = tsllm.SeasonalNaive(24), make_frame()
    told = tsllm.ContextForecaster(naive)
    found = {
        "fit": told.fit(df, H, context=context).predict(),
        "predict": told.fit(df, H).predict(context=context),
    }
    longer = pd.read_csv("longer.csv", parse_dates=["ds"])
    found["backtest"] = tsllm.backtest(longer, [naive], H, context=context, timeless=True)
    entry = {"h": H, "timeless": True}
    models = ["SeasonalNaive", {"model": "SeasonalNaive", "reader": "rules"}]
    for name, texts in (("compare", context), ("compare a file", given)):
        made = tsllm.compare(longer, models, output_dir=name, context=texts, level=[], **entry)
        found[name] = made.forecasts["frame"]
    run("predict", "SeasonalNaive", "load.csv", "--h", H, "--context", given, "--output", "predict.csv")
    run("backtest", "longer.csv", "--models", "SeasonalNaive", "--h", H, "--n-windows", 1, "--context", given,
        "--timeless", "--output", "backtest.csv")  # fmt: skip
    found |= {f"tsllm {name}": pd.read_csv(f"{name}.csv") for name in ("predict", "backtest")}
    plain = naive.fit(df, H).predict()["SeasonalNaive"].to_numpy()
    wanted = np.r_[plain[:H], [777.0] * 4, plain[H + 4 :]]
    for name, frame in found.items():
        np.testing.assert_allclose(frame[NAME], wanted, err_msg=name)


def test_a_later_text_changes_no_earlier_forecast_of_a_back_test():
    """The canary: the text tells all test values, and is published at the second of four cutoffs."""
    news = make_news("The output is held at 777 from 2024-01-05 00:00 to 2024-01-08 00:00.", published=TIMES[-19])
    out = tsllm.backtest(make_frame(), [tsllm.SeasonalNaive(24)], H, n_windows=4, level=[80], context=news)
    knows = ((out["unique_id"] == "b") & (out["cutoff"] >= TIMES[-19])).to_numpy()
    assert knows.sum() == 3 * H
    for bound in ("", "-lo-80", "-hi-80"):
        assert (out.loc[knows, NAME + bound] == 777).all()
        assert np.array_equal(out.loc[~knows, NAME + bound], out.loc[~knows, "SeasonalNaive" + bound])


def test_tables_under_own_column_names_are_told_under_them(tmp_path):
    names = {"unique_id": "shop", "ds": "day", "y": "sold"}
    told = "The output is held at 777 from 2024-01-06 14:00."
    news = make_news(told, published=TIMES[100]).rename(columns=names)
    out = tsllm.backtest(
        make_frame().rename(columns=names), [tsllm.SeasonalNaive(24)], H, context=news,
        id_col="shop", time_col="day", target_col="sold",
    )  # fmt: skip
    assert list(out.columns) == ["shop", "day", "cutoff", "sold", "SeasonalNaive", NAME]
    made = tsllm.compare(
        make_frame().rename(columns=names), ["Naive", {"model": "SeasonalNaive", "reader": "rules"}], h=H,
        id_col="shop", time_col="day", target_col="sold", level=[], output_dir=tmp_path / "out", context=news,
    )  # fmt: skip
    assert made.forecasts["frame"][NAME].tolist() == out[NAME].tolist()
    assert (out[NAME] == 777).tolist() == [False] * H + [True] * H
    again = tsllm.evaluation.config.CompareConfig.load(tmp_path / "out" / "config.yaml")
    assert again.data[0].context == [{"unique_id": "b", "text": told, "published": "2024-01-05 04:00:00"}]
    forecaster = tsllm.ContextForecaster(tsllm.SeasonalNaive(24)).name_columns("shop", "day", "sold")
    polars = pytest.importorskip("polars")
    forecaster.fit(make_frame().rename(columns=names), H)
    forecast = forecaster.predict(context=polars.from_pandas(make_news().rename(columns=names)))
    assert (forecast[NAME] == 777).sum() == 4


def test_a_model_that_reads_texts_itself_is_told_by_itself_and_keeps_the_guard(tmp_path, monkeypatch):
    monkeypatch.setenv("TSLLM_CACHE", str(tmp_path))
    sizes = save_told_timellm(tmp_path)
    training = {"max_steps": 3, "learning_rate": 0.05}
    model = tsllm.NeuralForecaster("timellm", H, val_size=12, batch_invariant=True, training=training, **sizes)
    news = make_news("trend up", published=TIMES[0])
    late = make_news("min median", published=TIMES[-12])  # between the first and the second cutoff
    out = tsllm.backtest(make_frame(), [model], H, n_windows=3, context=pd.concat([news, late]))
    first = out["cutoff"] < TIMES[-12]
    alone = tsllm.backtest(make_frame(), [model], H, n_windows=3, context=news)
    assert np.array_equal(out.loc[first, "TimeLLM+context"], alone.loc[first, "TimeLLM+context"])
    assert not np.array_equal(out.loc[~first, "TimeLLM+context"], alone.loc[~first, "TimeLLM+context"])
    assert out["TimeLLM"].equals(alone["TimeLLM"])
    assert model.context is None
    entry = {"model": "timellm", "options": sizes, "training": training}
    made = tsllm.compare(
        make_frame(), [entry, entry | {"reader": "model"}], h=H, n_windows=3, val_size=12, context=news, seeds=[0],
        level=[], output_dir=tmp_path / "out",
    )  # fmt: skip
    frame = made.forecasts["frame"]
    assert list(frame.columns[-2:]) == ["TimeLLM", "TimeLLM+context"]
    differs = (frame["TimeLLM"] != frame["TimeLLM+context"]).to_numpy()
    assert differs[(frame["unique_id"] == "b").to_numpy()].all()
    with pytest.raises(ValueError, match=r"reader is model, but dlinear reads no texts.*text_layers: 8"):
        tsllm.compare(make_frame(), ["Naive", {"model": "dlinear", "reader": "model"}], h=H, context=news,
                      output_dir=tmp_path / "out")  # fmt: skip


def test_texts_that_are_undated_or_that_nobody_could_read_are_refused(tmp_path):
    df, naive = make_frame(), tsllm.SeasonalNaive(24)
    for options, message in (
        ({"context": HELD}, "does not say when it was published.*declare the texts timeless"),
        ({"context": {"c": HELD}, "timeless": True}, "is about series 'c', which the data do not hold"),
        ({"timeless": True}, "timeless has no effect without context"),
        ({"reader": "rules"}, "reader has no effect without context"),
        ({"context": {"a": HELD}, "reader": str(tmp_path)}, "holds no reader"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            tsllm.backtest(df, [naive], H, **options)
    with pytest.raises(ValueError, match=r"told has a reader and texts of its own; leave context"):
        tsllm.backtest(df, [tsllm.ContextForecaster(naive, alias="told")], H, context={"a": HELD}, timeless=True)
    with pytest.raises(FrameError, match=r"'news.csv', the name of a file; read it first"):
        tsllm.ContextForecaster(naive).fit(df, H, context="news.csv")


def test_a_back_test_takes_names_and_covariates_in_the_words_of_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    df = pd.DataFrame({"unique_id": "a", "ds": pd.date_range("2024", periods=500, freq="h")})
    df["y"] = 10 + 3 * np.sin(np.arange(500) * 2 * np.pi / 24)
    df["heat"] = np.random.default_rng(1).normal(size=len(df))
    df["y"] += 5 * df["heat"]
    df.to_csv("load.csv", index=False)
    out = tsllm.backtest(df, ["SeasonalNaive", "StepRegression"], H, n_windows=3, covariates=["heat"])
    run("backtest", "load.csv", "--models", "SeasonalNaive,StepRegression", "--h", H, "--n-windows", 3,
        "--covariates", "heat", "--output", "out.csv")  # fmt: skip
    told = pd.read_csv("out.csv")
    for name in ("SeasonalNaive", "StepRegression"):
        np.testing.assert_allclose(out[name], told[name])
    error = (out["StepRegression"] - out["y"]).abs().mean()
    blind = tsllm.backtest(df[["unique_id", "ds", "y"]], ["StepRegression"], H, n_windows=3)
    assert error < 0.8 * (blind["StepRegression"] - blind["y"]).abs().mean()
    naive = tsllm.SeasonalNaive(24)
    for models, options, message in (
        (["SeasonalNaive"], {"covariates": ["heat"]}, "covariates has no effect on any of SeasonalNaive"),
        ([naive], {"static": ["heat"]}, "static is for models given by name; these are built already"),
        ([naive, "Naive"], {}, "names and built forecasters; give one or the other"),
        ("Naive", {}, r"give a list: \['Naive'\]"),
        (["Nave"], {}, "unknown model 'Nave'; did you mean Naive"),
    ):
        with pytest.raises(ValueError, match=message):
            tsllm.backtest(df, models, H, **options)


@pytest.mark.parametrize("form", ["text", "mapping", "frame"])
def test_a_forecaster_that_reads_no_texts_says_so(form):
    df, naive, context = make_frame(), tsllm.SeasonalNaive(24), FORMS[form]
    with pytest.raises(ValueError, match=r"SeasonalNaive reads no texts; wrap it in .*ContextForecaster"):
        naive.fit(df, H, context=context)
    plain = naive.fit(df, H, context=None).predict(context=None)
    with pytest.raises(ValueError, match="SeasonalNaive reads no texts"):
        naive.predict(context=context)
    assert len(plain) == 2 * H
    for given, message in (
        ({"timeless": True}, "DLinear reads no texts, so timeless has no effect on it"),
        ({"context": context}, "DLinear reads no texts; wrap it in"),
    ):
        with pytest.raises(ValueError, match=message):
            tsllm.NeuralForecaster("dlinear", H, **given)
    for forecaster in (naive, tsllm.NeuralForecaster("dlinear", H)):
        with pytest.raises(ValueError, match="reads no texts"):
            forecaster.tell(context)


@pytest.mark.parametrize(
    ("content", "message"),
    [('["a"]', "holds a list"), ("{", "is no JSON"), ('{"a": "x", "a": "y"}', "names series 'a' twice")],
)
def test_a_file_that_holds_no_mapping_is_refused(tmp_path, content, message):
    (tmp_path / "texts.json").write_text(content)
    with pytest.raises(FrameError, match=message):
        tsllm.backtest(make_frame(), [tsllm.SeasonalNaive(24)], H, context=str(tmp_path / "texts.json"))
    with pytest.raises(FileNotFoundError, match="there is no file"):
        tsllm.backtest(make_frame(), [tsllm.SeasonalNaive(24)], H, context=str(tmp_path / "none.json"))

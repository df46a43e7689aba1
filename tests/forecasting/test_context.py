"""A forecaster that is told something."""

import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import tsllm
from tsllm.context.effects import parse_effects, write_effects
from tsllm.context.parser import read_by_rules
from tsllm.context.readers import EffectSpeaker
from tsllm.evaluation.backtest import backtest
from tsllm.evaluation.config import DataEntry
from tsllm.evaluation.prepare import prepare_task
from tsllm.forecasting.base_paths import sample_paths
from tsllm.forecasting.context import ContextForecaster
from tsllm.forecasting.naive import SeasonalNaive
from tsllm.forecasting.neural import NeuralForecaster
from tsllm.forecasting.pool import PoolForecaster
from tsllm.types import FrameError

CLOSED = "The mill is closed from 2024-01-11 08:00 to 2024-01-11 14:00."


@pytest.fixture
def df():
    times = pd.date_range("2024-01-01", periods=240, freq="h")
    noise = np.random.default_rng(0).normal(size=240)
    wave = 10 + 5 * np.sin(np.arange(240) / 24 * 2 * np.pi) + noise
    return pd.concat([pd.DataFrame({"unique_id": k, "ds": times, "y": wave + i}) for i, k in enumerate("ab")])


def test_without_a_text_it_is_the_base_bit_for_bit(df):
    base = SeasonalNaive(24).fit(df, 24).predict(level=[80, 95])
    for context in (None, "", {"a": ""}, "The town has 12,000 inhabitants."):
        told = ContextForecaster(SeasonalNaive(24)).fit(df, 24, context).predict(level=[80, 95])
        assert list(told.columns) == [c.replace("SeasonalNaive", "SeasonalNaive+context") for c in base.columns]
        assert np.array_equal(told.iloc[:, 2:].to_numpy(), base.iloc[:, 2:].to_numpy())


def test_a_text_changes_its_series_and_its_span_only(df):
    base = SeasonalNaive(24).fit(df, 24).predict(level=[80])
    told = ContextForecaster(SeasonalNaive(24)).fit(df, 24).predict(level=[80], context={"a": CLOSED})
    inside = ((told["unique_id"] == "a") & told["ds"].between("2024-01-11 08:00", "2024-01-11 13:00")).to_numpy()
    assert inside.sum() == 6
    assert (told.loc[inside].iloc[:, 2:] == 0).all(axis=None)
    assert np.array_equal(told.loc[~inside].iloc[:, 2:].to_numpy(), base.loc[~inside].iloc[:, 2:].to_numpy())


def speak(lines):
    class Speaker(EffectSpeaker):
        def speak(self, text, window):
            return parse_effects(lines)

    return Speaker()


@pytest.mark.parametrize(
    ("lines", "change"),
    [
        ("cap 1000000", lambda v: v),
        ("multiply 2 from 2024-01-11 05:00 to 2024-01-11 07:00", lambda v: 2 * v),
        ("add -3 from 2024-01-11 05:00 to 2024-01-11 07:00", lambda v: v - 3),
        ("cap 9 from 2024-01-11 05:00 to 2024-01-11 07:00", lambda v: np.minimum(v, 9)),
        # The lower bound comes from the upper one.
        ("multiply -1 from 2024-01-11 05:00 to 2024-01-11 07:00", lambda v: -v[:, [0, 2, 1, 4, 3]]),
    ],
)
@pytest.mark.parametrize("scale", ["none", "log1p"])
def test_intervals_are_those_of_the_base_and_where_arithmetic_acts_it_acts_on_their_bounds(df, lines, change, scale):
    made = ContextForecaster(SeasonalNaive(24).scale_target(scale), speak(lines)).fit(df.assign(y=df["y"].abs()), 24)
    base, told = made.base.predict(level=[80, 95]), made.predict(level=[80, 95], context={"a": "Told."})
    own = base.iloc[:, 2:].to_numpy()
    at = ((base["unique_id"] == "a") & base["ds"].between("2024-01-11 05:00", "2024-01-11 06:00")).to_numpy()
    expected = own.copy()
    expected[at] = change(own[at])
    np.testing.assert_allclose(told.iloc[:, 2:].to_numpy(), expected, rtol=1e-12)
    np.testing.assert_array_equal(told.iloc[:, 2:].to_numpy()[~at], own[~at])


def test_what_puts_other_paths_in_place_moves_its_own_steps_alone(df):
    lines = (
        "like Sunday from 2024-01-11 05:00 to 2024-01-11 07:00\nmultiply 2 from 2024-01-11 09:00 to 2024-01-11 10:00"
    )
    made = ContextForecaster(SeasonalNaive(24).scale_target("log1p"), speak(lines)).fit(df.assign(y=df["y"].abs()), 24)
    base, told = made.base.predict(level=[80]), made.predict(level=[80], context={"a": "Told."})
    own, new = base.iloc[:24, 2:].to_numpy(), told.iloc[:24, 2:].to_numpy()
    sundays = df[(df["unique_id"] == "a") & (df["ds"].dt.dayofweek == 6)].set_index("ds")["y"].abs()
    for step in (5, 6):
        seen = sundays[sundays.index.hour == step]
        assert seen.min() - 3 < new[step, 0] < seen.max() + 3
        assert (new[step] != own[step]).all()
    np.testing.assert_allclose(new[9], 2 * own[9], rtol=1e-12)
    rest = [k for k in range(24) if k not in (5, 6, 9)]
    np.testing.assert_array_equal(new[rest], own[rest])


def test_a_level_that_is_asked_for_twice_is_one(df):
    told = ContextForecaster(SeasonalNaive(24)).fit(df, 24).predict(level=[80, 80], context=CLOSED)
    assert list(told.columns[2:]) == [f"SeasonalNaive+context{end}" for end in ("", "-lo-80", "-hi-80")]


def test_effects_that_a_user_gives_stand_in_place_of_what_is_read(df):
    made = ContextForecaster(SeasonalNaive(24)).fit(df, 24, {"a": CLOSED})
    (read,) = made.explain_context()
    assert made.predict(effects={"a": read.effects}).equals(made.predict())
    base = made.base.predict()["SeasonalNaive"].to_numpy()
    edited = [replace(read.effects[0], number=4.0)]
    told, (explained,) = made.predict_and_explain(effects={"a": edited})
    assert explained.effects == edited
    np.testing.assert_array_equal(
        told["SeasonalNaive+context"], np.where(np.isin(np.arange(48), range(8, 14)), 4, base)
    )
    everywhere = made.predict(effects="cap 9\nfloor 8")["SeasonalNaive+context"]
    np.testing.assert_array_equal(everywhere, base.clip(8, 9))
    np.testing.assert_array_equal(made.predict(effects={})["SeasonalNaive+context"], base)
    with pytest.raises(
        FrameError, match="effects are about series 'c', which the data do not hold; they hold 'a', 'b'"
    ):
        made.predict(effects={"c": "cap 9"})
    with pytest.raises(ValueError, match="half"):
        made.predict(effects="half")


def test_a_reader_goes_by_its_name(df, tmp_path):
    made = ContextForecaster(SeasonalNaive(24), "rules").fit(df, 24)
    assert made.predict(context=CLOSED).equals(
        ContextForecaster(SeasonalNaive(24)).fit(df, 24).predict(context=CLOSED)
    )
    with pytest.raises(FileNotFoundError, match="nowhere"):
        ContextForecaster(SeasonalNaive(24), str(tmp_path / "nowhere"))


def test_columns_that_the_base_reads_or_nobody_does_may_be_words_or_missing(df):
    places = df.reset_index(drop=True).assign(region=lambda d: d["unique_id"].map({"a": "n", "b": "s"}), remark=np.nan)
    made = NeuralForecaster("timexer", 24, context_length=48, static=["region"], training={"max_steps": 2})
    told = ContextForecaster(made).fit(places)
    forecast = told.predict(context={"a": CLOSED})["TimeXer+context"].to_numpy()
    assert (forecast[8:14] == 0).all()
    rest = np.delete(np.arange(48), range(8, 14))
    np.testing.assert_array_equal(forecast[rest], made.predict()["TimeXer"].to_numpy()[rest])
    rolled = backtest(places, [made, SeasonalNaive(24)], 24, context="", timeless=True)
    assert rolled["TimeXer+context"].equals(rolled["TimeXer"].rename("TimeXer+context"))
    assert rolled[["TimeXer", "SeasonalNaive+context"]].notna().all(axis=None)


def test_an_empty_text_changes_nothing_where_steps_are_counted():
    counted = pd.DataFrame({"unique_id": "a", "ds": range(40), "y": np.arange(40.0) % 7})
    made = ContextForecaster(SeasonalNaive(7)).fit(counted, 3)
    plain = made.predict()
    for blank in ("", "  ", {"a": ""}, {"a": None}, [{"unique_id": "a", "text": ""}]):
        assert made.predict(context=blank).equals(plain)


def test_an_artefact_of_the_history_is_taken_out_before_the_base_sees_it(df):
    spoiled = df.reset_index(drop=True)
    spoiled.loc[spoiled["ds"] == "2024-01-10 06:00", "y"] = 1e6
    text = "The sensor had a glitch from 2024-01-10 06:00 for 1 hour."
    told = ContextForecaster(SeasonalNaive(24)).fit(spoiled, 24, text).predict()
    at = told["ds"] == "2024-01-11 06:00"
    assert told.loc[at, "SeasonalNaive+context"].tolist() == df.loc[df["ds"] == "2024-01-09 06:00", "y"].tolist()


def test_a_back_test_reads_only_what_was_published(df):
    """The canary: a text that tells the future, published later, must not move any earlier forecast."""
    plain = SeasonalNaive(24).fit(df, 24).predict_rolling(df, 24, 3, 24)
    canary = "The output is held at 777 from 2024-01-08 00:00 to 2024-01-11 00:00."
    frame = pd.DataFrame({"unique_id": ["a"], "text": [canary], "published": ["2024-01-08 23:00"]})
    told = ContextForecaster(SeasonalNaive(24)).fit(df, 24, frame).predict_rolling(df, 24, 3, 24)
    assert told["cutoff"].tolist() == plain["cutoff"].tolist()
    late = ((told["unique_id"] == "a") & (told["cutoff"] >= "2024-01-08 23:00")).to_numpy()
    assert np.array_equal(told.loc[~late, "SeasonalNaive+context"], plain.loc[~late, "SeasonalNaive"])
    assert late.sum() == 48
    assert (told.loc[late, "SeasonalNaive+context"] == 777).all()
    without = ContextForecaster(SeasonalNaive(24)).fit(df, 24, {"a": CLOSED})
    with pytest.raises(FrameError, match="does not say when it was published"):
        without.predict_rolling(df, 24, 2, 24)


def test_in_a_back_test_the_first_window_does_not_know_what_was_published_later(df):
    canary = "The output is held at 777 from 2024-01-08 00:00 to 2024-01-11 00:00."
    frame = pd.DataFrame({"unique_id": ["a"], "text": [canary], "published": ["2024-01-08 23:00"]})
    models = [SeasonalNaive(24), ContextForecaster(SeasonalNaive(24), context=frame)]
    for refit in (False, True):
        out = backtest(df, models, 24, 3, level=[80], refit=refit)
        late = ((out["unique_id"] == "a") & (out["cutoff"] >= "2024-01-08 23:00")).to_numpy()
        assert late.sum() == 48
        for column in ("", "-lo-80", "-hi-80"):
            told, plain = out["SeasonalNaive+context" + column], out["SeasonalNaive" + column]
            assert np.array_equal(told[~late], plain[~late])
            assert (told[late] == 777).all()


def test_an_undated_text_of_the_constructor_is_refused_unless_timeless(df):
    text = "The output is held at 777 from 2024-01-08 00:00 to 2024-01-11 00:00."
    for context in (text, {"a": text}, pd.DataFrame({"unique_id": ["a"], "text": [text]})):
        strict = ContextForecaster(SeasonalNaive(24), context=context)
        for call, arguments in ((strict.fit, (df,)), (strict.check_context, (df,)), (strict.predict, (df, 24))):
            with pytest.raises(FrameError, match="does not say when it was published"):
                call(*arguments)
        with pytest.raises(RuntimeError, match="does not say when it was published"):
            backtest(df, [strict], 24, 2)
        out = backtest(df, [ContextForecaster(SeasonalNaive(24), context=context, timeless=True)], 24, 4)
        told = (out["SeasonalNaive+context"] == 777).to_numpy()
        due = (out["ds"] >= "2024-01-08").to_numpy()
        named = (out["unique_id"] == "a").to_numpy() | isinstance(context, str)
        assert np.array_equal(told, due & named)


def test_a_text_of_fit_goes_before_that_of_the_constructor(df):
    held = "The output is held at {} from 2024-01-11 00:00 to 2024-01-12 00:00."
    made = ContextForecaster(SeasonalNaive(24), context=held.format(5), timeless=True)
    assert (made.fit(df, 24).predict()["SeasonalNaive+context"] == 5).all()
    assert (made.fit(df, 24, held.format(6)).predict()["SeasonalNaive+context"] == 6).all()
    assert (made.update(df).predict()["SeasonalNaive+context"] == 6).all()
    assert (made.fit(df, 24).predict()["SeasonalNaive+context"] == 5).all()


def test_rows_about_later_windows_do_not_disturb_the_earlier(df):
    frame = pd.DataFrame(
        {
            "unique_id": "a",
            "text": "Output is held at 777.",
            "published": ["2024-01-10"],
            "start": ["2024-01-10 12:00"],
        }
    )
    out = backtest(df, [SeasonalNaive(24), ContextForecaster(SeasonalNaive(24), context=frame)], 12, 4)
    told = (out["SeasonalNaive+context"] != out["SeasonalNaive"]).to_numpy()
    assert np.array_equal(told, ((out["unique_id"] == "a") & (out["ds"] >= "2024-01-10 12:00")).to_numpy())


def test_a_copy_shares_the_reader_and_tells_what_the_base_was_trained_on(df):
    class Reader:
        def read(self, text):
            return read_by_rules(text)

        def __deepcopy__(self, memo):
            raise AssertionError("a language model would be copied")

    class Saved(SeasonalNaive):
        trained_on = "facts"
        context_length = 48

        def count_parameters(self):
            return 1, 2

    reader = Reader().read
    made = copy.deepcopy(ContextForecaster(Saved(24), reader, context={"a": CLOSED}, timeless=True))
    assert made.reader is reader
    assert made.context is made._context
    assert (made.trained_on, made.context_length, made.count_parameters()) == ("facts", 48, (1, 2))
    assert (made.fit(df, 24).predict()["SeasonalNaive+context"] == 0).sum() == 6


def test_paths_keep_to_the_widest_intervals_that_the_base_has(df):
    class Narrow(SeasonalNaive):
        def predict(self, df=None, h=None, level=None, X_df=None):
            if level and max(level) > 60:
                raise ValueError("not calibrated")
            return super().predict(df, h, level, X_df)

    told = ContextForecaster(Narrow(24)).fit(df, 24, {"a": CLOSED}).predict(level=[40])
    base = SeasonalNaive(24).fit(df, 24).predict(level=[40])
    rows = ((told["unique_id"] == "a") & (told["SeasonalNaive+context"] != 0)).to_numpy()
    for side in ("lo", "hi"):
        wanted = base.loc[rows, f"SeasonalNaive-{side}-40"].to_numpy()
        assert told.loc[rows, f"SeasonalNaive+context-{side}-40"].to_numpy() == pytest.approx(wanted, abs=0.05)


def test_a_level_that_only_the_base_knows_keeps_its_width_in_a_told_series(df):
    class Calibrated(SeasonalNaive):
        def predict(self, df=None, h=None, level=None, X_df=None):
            if level and set(level) != {95}:
                raise ValueError("calibrated at 95 alone")
            return super().predict(df, h, level, X_df)

    told = ContextForecaster(Calibrated(24)).fit(df, 24, {"a": CLOSED}).predict(level=[95])
    base = SeasonalNaive(24).fit(df, 24).predict(level=[95])
    rows = ((told["unique_id"] == "a") & (told["SeasonalNaive+context"] != 0)).to_numpy()
    assert rows.sum() == 18
    for side in ("lo", "hi"):
        wanted = base.loc[rows, f"SeasonalNaive-{side}-95"].to_numpy()
        assert told.loc[rows, f"SeasonalNaive+context-{side}-95"].to_numpy() == pytest.approx(wanted, abs=0.25)


def test_a_text_about_the_past_leaves_intervals_as_they_are_bit_for_bit(df):
    base = SeasonalNaive(24).fit(df, 24).predict(level=[80])
    for text in (
        "2024-01-09 was a public holiday.",
        "On 2024-01-09 sales fell by 20%.",
        "In 2022 it was capped at 1.",
    ):
        told = ContextForecaster(SeasonalNaive(24)).fit(df, 24, text).predict(level=[80])
        assert np.array_equal(told.iloc[:, 2:].to_numpy(), base.iloc[:, 2:].to_numpy())


def test_limits_and_progress_of_training_are_those_of_the_base():
    base = SeasonalNaive(24)
    made = ContextForecaster(base)
    made.max_seconds, made.progress = 7.0, print
    assert (base.max_seconds, base.progress) == (7.0, print)
    base.log, base.seconds = [{"step": 1}], 3.0
    assert (made.max_seconds, made.progress, made.log, made.seconds) == (7.0, print, [{"step": 1}], 3.0)


def test_a_base_that_forecasts_all_series_together_gets_them_all(df):
    class Together(SeasonalNaive):
        def predict(self, df=None, h=None, level=None, X_df=None):
            assert df["unique_id"].nunique() == 2
            return super().predict(df, h, level, X_df)

    told = ContextForecaster(Together(24)).fit(df, 24, {"a": CLOSED}).predict(level=[80])
    assert (told["SeasonalNaive+context"] == 0).sum() == 6


def test_predict_does_not_read_what_is_published_after_the_history_and_says_so(df, caplog):
    frame = pd.DataFrame({"unique_id": ["a"], "text": [CLOSED], "published": ["2024-02-01"]})
    base = SeasonalNaive(24).fit(df, 24).predict()
    forecaster = ContextForecaster(SeasonalNaive(24)).fit(df, 24)
    told = forecaster.predict(context=frame)
    assert np.array_equal(told["SeasonalNaive+context"], base["SeasonalNaive"])
    assert caplog.messages == [
        "1 of 1 texts not read: published after the end of the data; context row 0 (series 'a') was published at "
        "2024-02-01 00:00:00, and the series ends at 2024-01-10 23:00:00"
    ]
    (shown,) = forecaster.explain_context(context=frame)
    why = "published at 2024-02-01 00:00:00, after the end of the series at 2024-01-10 23:00:00"
    assert (shown.series, shown.text, shown.effects, shown.unread) == ("a", CLOSED, [], why)
    assert shown.describe() == f"(changes nothing, not read: {why})"
    assert shown.forecast["before"].equals(shown.forecast["after"])
    # Texts that stand for many cutoffs are not told at each.
    caplog.clear()
    ContextForecaster(SeasonalNaive(24), context=frame).fit(df, 24).predict()
    assert caplog.messages == []


def test_explaining_shows_text_effects_before_and_after(df):
    (shown,) = ContextForecaster(SeasonalNaive(24)).fit(df, 24, {"b": CLOSED}).explain_context()
    assert (shown.series, shown.text) == ("b", CLOSED)
    assert write_effects(shown.effects) == "set 0 from 2024-01-11 08:00 to 2024-01-11 14:00"
    changed = shown.forecast["before"] != shown.forecast["after"]
    assert shown.forecast.loc[changed, "ds"].dt.hour.tolist() == [8, 9, 10, 11, 12, 13]
    assert (shown.forecast.loc[changed, "after"] == 0).all()


def test_paths_have_the_quantiles_of_their_base(df):
    base = SeasonalNaive(24).fit(df, 24)
    paths = sample_paths(base, df, 24, None, 400, 0)["a"]
    wanted = base.predict(level=[80]).query("unique_id == 'a'")
    for column, q in (("lo", 0.1), ("hi", 0.9)):
        assert np.quantile(paths, q, axis=0) == pytest.approx(
            wanted[f"SeasonalNaive-{column}-80"].to_numpy(), abs=0.05
        )


def test_the_pool_is_a_forecaster(df):
    clean = df.assign(y=df["ds"].dt.hour.astype(float))
    out = PoolForecaster().fit(clean, 24).predict(level=[80])
    assert out["Pool"].tolist() == [*map(float, range(24))] * 2
    assert (out["Pool-lo-80"] <= out["Pool"]).all()


@pytest.mark.parametrize("column", ["published", "start", "end"])
@pytest.mark.parametrize(
    ("value", "told"),
    [(20240101, "a number"), (2024.0, "a number"), ("2024-01-01T00:00Z", "zone"),
     (pd.Timestamp("2024-01-01", tz="UTC"), "zone")],
)  # fmt: skip
def test_times_that_would_be_misread_are_refused(df, column, value, told):
    frame = pd.DataFrame({"unique_id": ["a"], "text": [CLOSED], column: [value]})
    with pytest.raises(FrameError, match=f"{column} .*{told}"):
        ContextForecaster(SeasonalNaive(24)).fit(df, 24, frame)
    with pytest.raises(FrameError, match=f"{column} .*{told}"):
        ContextForecaster(SeasonalNaive(24)).predict(df, 24, context=frame)


def test_texts_need_dates_and_a_horizon(df):
    counted = df.assign(ds=[*range(240)] * 2)
    with pytest.raises(FrameError, match="the data count their steps"):
        ContextForecaster(SeasonalNaive(24), freq=1).fit(counted, 24).predict(context="It is closed on Monday.")
    with pytest.raises(FrameError, match="the data count their steps"):
        ContextForecaster(SeasonalNaive(24), freq=1, context=CLOSED, timeless=True).fit(counted, 24)
    with pytest.raises(ValueError, match="has no history"):
        ContextForecaster(SeasonalNaive(24)).predict(context=CLOSED)


def test_paths_are_the_bases_with_the_text_carried_out_on_each(df):
    """A text of `fit` needs no date of publication; within its span every path is what it says."""
    base = SeasonalNaive(24).fit(df, 24).simulate(df, 20, 3)
    made = ContextForecaster(SeasonalNaive(24)).fit(df, 24, {"a": CLOSED})
    told = made.simulate(df, 20, 3)
    assert list(told.columns) == ["unique_id", "ds", "sample", "SeasonalNaive+context"]
    inside = ((told["unique_id"] == "a") & told["ds"].between("2024-01-11 08:00", "2024-01-11 13:00")).to_numpy()
    assert inside.sum() == 6 * 20
    assert (told["SeasonalNaive+context"][inside] == 0).all()
    assert np.array_equal(told["SeasonalNaive+context"][~inside], base["SeasonalNaive"][~inside])
    assert len(made.simulate(df, 5, h=3, n_windows=2)) == 2 * 5 * 3


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Closed on Friday.", "set 0"),
        ("Output is capped at 3 on Friday.", "cap 3"),
        ("Closed on Friday from 8:00 to 12:00.", "set 0"),
        ("Closed from Friday to Saturday.", "set 0"),
        ("Friday is a public holiday.", "like Sunday"),
        ("Closed. The works are on Friday.", "set 0"),
    ],
)
def test_a_weekday_that_is_not_ahead_is_the_reason_that_is_told(df, text, kind):
    told = ContextForecaster(SeasonalNaive(24)).fit(df, 24)  # all of 2024-01-11, a Thursday
    first = told.explain_context(context=text)[0]
    assert f"(changes nothing: {kind}: no Friday is among the steps to forecast; the" in first.describe()
    assert first.forecast["before"].equals(first.forecast["after"])
    there = told.explain_context(context=text.replace("Friday", "Thursday"))[0]
    assert [str(effect)[: len(kind)] for effect in there.effects] == [kind]


def test_a_limit_until_a_weekday_beyond_the_horizon_holds_to_its_end(df):
    told = ContextForecaster(SeasonalNaive(24)).fit(df, 24)
    capped = told.explain_context(context="It is capped at 12 until Friday.")
    assert [str(effect) for effect in capped[0].effects] == ["cap 12"]
    assert capped[0].forecast["before"].max() > 12
    assert capped[0].forecast["after"].max() == 12


def test_a_row_about_a_time_behind_the_last_window_is_refused_by_back_test_and_comparison(df, tmp_path):
    news = pd.DataFrame(
        {"unique_id": ["a"], "text": ["Closed."], "published": [df["ds"].min()], "start": [pd.Timestamp("2034-01-01")]}
    )
    told = (
        r"context row 0 \(series 'a'\) starts at 2034-01-01 00:00:00, but the last time that could be meant is 2024-"
    )
    with pytest.raises(FrameError, match=told):
        tsllm.backtest(df, [SeasonalNaive(24)], h=24, context=news)
    with pytest.raises(FrameError, match=told):
        prepare_task(DataEntry(name="made", frame=df, h=24, context=news))
    with pytest.raises(FrameError, match=told):
        ContextForecaster(SeasonalNaive(24)).fit(df, 24).predict(context=news)
    # Of one that nobody may read yet, no time is asked.
    later = news.assign(published=pd.Timestamp("2034-01-01"))
    out = tsllm.backtest(df, [SeasonalNaive(24)], h=24, context=later)
    assert out["SeasonalNaive+context"].equals(out["SeasonalNaive"])


def test_an_effect_that_cannot_be_computed_names_series_and_text(df):
    forecaster = ContextForecaster(SeasonalNaive(24)).fit(df, 24)
    with pytest.raises(
        FrameError, match=r"series 'b', in the text 'Output is capped at 1e400.': effect 'cap' has .* inf"
    ):
        forecaster.predict(context={"a": CLOSED, "b": "Output is capped at 1e400."})


def test_an_entry_of_a_comparison_says_the_order_of_day_and_month_for_its_texts_too(df, tmp_path):
    news = pd.DataFrame({"unique_id": ["a"], "text": ["Closed."], "published": ["02/01/2024"]})
    news.to_csv(tmp_path / "news.csv", index=False)
    for context in (news, str(tmp_path / "news.csv")):
        with pytest.raises(FrameError, match=r"made: 'published' is ambiguous: '02/01/2024'.*in a file day_first"):
            prepare_task(DataEntry(name="made", frame=df, h=24, context=context))
        texts = prepare_task(DataEntry(name="made", frame=df, h=24, context=context, day_first=True)).texts
        assert texts["published"].tolist() == [pd.Timestamp("2024-01-02")]


@pytest.mark.parametrize("freq", ["h", "D", "30min"])
def test_the_sentence_that_is_advised_is_read_and_reaches_every_step(freq):
    times = pd.date_range("2024-01-01", periods=60, freq=freq)
    df = pd.DataFrame({"unique_id": "a", "ds": times, "y": 8.0})
    told = ContextForecaster(SeasonalNaive(7), season=7).fit(df, 5)
    (unclear,) = told.explain_context(context="It looks odd.")
    advice = unclear.describe().split("such as '")[1].split("'")[0]
    assert told.predict(context=advice)["SeasonalNaive+context"].tolist() == [0.0] * 5

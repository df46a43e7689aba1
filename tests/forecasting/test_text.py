import copy

import numpy as np
import pandas as pd
import pytest
import torch

from tests.text.conftest import language_model, tokenizer  # noqa: F401
from tsllm.data.frame import future_frame
from tsllm.evaluation.backtest import backtest
from tsllm.forecasting.base import Forecaster
from tsllm.forecasting.naive import SeasonalNaive
from tsllm.forecasting.text import TextForecaster
from tsllm.text.codec import ParseFailure
from tsllm.text.direct import DirectCodec
from tsllm.text.generate import SamplingOptions
from tsllm.types import FrameError


def make_frame(lengths=(30, 25)):
    parts = []
    for k, n in enumerate(lengths):
        ds = pd.date_range("2024-01-01", periods=n, freq="h")
        parts.append(pd.DataFrame({"unique_id": f"s{k}", "ds": ds, "y": np.sin(np.arange(n)) * 10**k + 5.0}))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture
def forecaster(language_model, tokenizer):  # noqa: F811
    return TextForecaster(language_model, tokenizer, h=3, context_length=12, digits=2, num_samples=8)


def test_it_is_a_forecaster_and_dates_its_forecast(forecaster):
    assert isinstance(forecaster, Forecaster)
    out = forecaster.fit(make_frame()).predict(level=[80, 50])
    assert out.columns.tolist() == [
        "unique_id", "ds", "TextLLM", "TextLLM-lo-80", "TextLLM-hi-80", "TextLLM-lo-50", "TextLLM-hi-50",
    ]  # fmt: skip
    assert out["unique_id"].tolist() == ["s0"] * 3 + ["s1"] * 3
    assert out["ds"].iloc[0] == pd.Timestamp("2024-01-02 06:00")
    assert out["ds"].iloc[3] == pd.Timestamp("2024-01-02 01:00")


def test_median_and_quantiles_are_those_of_the_samples(forecaster):
    df = make_frame()
    samples = forecaster.sample(df)
    out = forecaster.fit(df).predict(level=[60])
    assert samples["s1"].shape == (8, 3)
    for name, paths in samples.items():
        own = out[out["unique_id"] == name]
        np.testing.assert_allclose(own["TextLLM"], np.median(paths, 0))
        np.testing.assert_allclose(own["TextLLM-lo-60"], np.quantile(paths, 0.2, axis=0))
        np.testing.assert_allclose(own["TextLLM-hi-60"], np.quantile(paths, 0.8, axis=0))


def test_simulated_paths_are_its_own_completions(forecaster):
    df = make_frame()
    drawn = forecaster.fit(df).simulate(df, n_samples=5, seed=0)
    assert drawn.columns.tolist() == ["unique_id", "ds", "sample", "TextLLM"]
    forecaster.num_samples = 5
    for name, paths in forecaster.sample(df).items():  # of the forecaster's own seed, which is 0
        own = drawn[drawn["unique_id"] == name]
        np.testing.assert_array_equal(own["TextLLM"].to_numpy().reshape(5, 3), paths)
        assert own["sample"].tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3
    first = forecaster.simulate(df, n_samples=5, seed=0, h=2)
    expected = drawn[drawn.groupby(["unique_id", "sample"]).cumcount() < 2].reset_index(drop=True)
    pd.testing.assert_frame_equal(first, expected)
    assert not drawn["TextLLM"].equals(forecaster.simulate(df, n_samples=5, seed=1)["TextLLM"])
    with pytest.raises(ValueError, match="SeasonalNaive draws no paths of its own"):
        SeasonalNaive(4, freq="h").fit(df, h=3).simulate(df, method="own")


def test_many_samples_are_written_in_rounds(forecaster, monkeypatch):
    from tsllm.forecasting import text

    rounds = []
    draw = text.sample_completions
    monkeypatch.setattr(text, "_MOST_COMPLETIONS", 6)
    monkeypatch.setattr(text, "sample_completions", lambda *a: rounds.append((len(a[2]), a[5])) or draw(*a))
    paths = forecaster.sample(make_frame())
    assert rounds == [(2, 3), (2, 3), (2, 2)]
    assert all(own.shape == (8, 3) and np.isfinite(own).all() for own in paths.values())


def test_unreadable_completions_make_no_paths(language_model, tokenizer):  # noqa: F811
    options = SamplingOptions(constrained=False, max_tokens_per_number=1)
    forecaster = TextForecaster(language_model, tokenizer, h=3, context_length=12, num_samples=4, options=options)
    with pytest.raises(ValueError, match="6 of 6 completions of series 's0' are unreadable"):
        forecaster.simulate(make_frame((30,)), n_samples=6)
    with pytest.raises(ValueError, match="take no earlier windows; leave n_windows, pool out, or take method="):
        forecaster.simulate(make_frame((30,)), n_samples=6, n_windows=3, pool=True)


def test_changing_the_units_changes_the_forecast_alike(language_model, tokenizer):  # noqa: F811
    options = SamplingOptions(temperature=0)
    forecaster = TextForecaster(language_model, tokenizer, h=3, context_length=12, num_samples=1, options=options)
    df = make_frame((30,))
    changed = df.assign(y=df["y"] * 64.0 - 1024.0)
    first, second = forecaster.predict(df)["TextLLM"], forecaster.predict(changed)["TextLLM"]
    np.testing.assert_allclose(second, first * 64.0 - 1024.0, rtol=1e-6)


def test_shorter_horizon_is_the_head_of_the_longer(forecaster):
    df = make_frame()
    long, short = forecaster.predict(df), forecaster.predict(df, h=2)
    pd.testing.assert_frame_equal(short, long[long.groupby("unique_id").cumcount() < 2].reset_index(drop=True))
    with pytest.raises(ValueError, match=r"h \(4\) must lie in 1..3"):
        forecaster.predict(df, h=4)


def test_unreadable_completions_are_counted_and_named(language_model, tokenizer, caplog):  # noqa: F811
    options = SamplingOptions(constrained=False, max_tokens_per_number=1)
    forecaster = TextForecaster(language_model, tokenizer, h=3, context_length=12, num_samples=4, options=options)
    out = forecaster.predict(make_frame((30,)))
    assert forecaster.report.num_samples == 4
    assert forecaster.report.failures.total() == 4
    assert forecaster.report.empty_series == ["s0"]
    assert out["TextLLM"].isna().all()
    assert "4 of 4 completions were unreadable" in caplog.text


def test_covariates_enter_the_prompt_and_must_be_known(language_model, tokenizer):  # noqa: F811
    forecaster = TextForecaster(
        language_model, tokenizer, h=3, context_length=12, digits=2, num_samples=2, covariates=["load"]
    )
    df = make_frame((30,)).assign(load=np.arange(30.0))
    ahead = pd.DataFrame({"unique_id": "s0", "ds": pd.date_range("2024-01-02 06:00", periods=3, freq="h")})
    with pytest.raises(ValueError, match="give X_df"):
        forecaster.predict(df)
    with pytest.raises(ValueError, match="series 's0', row 1: covariate 'load' is missing"):
        forecaster.predict(df, X_df=ahead.assign(load=[1.0, np.nan, 2.0]))
    windows = forecaster._build_windows(forecaster._validate(df), ahead, ahead.assign(load=[18.0, 29.0, 40.0]))
    scale = forecaster.codec.fit(np.arange(18.0, 30.0))
    line = windows["s0"].prompt.split("load:\n")[1].split("\n")[0]
    assert line == forecaster.codec.encode([18.0, 29.0, 40.0], scale)


def test_a_series_without_observations_is_named(forecaster):
    df = make_frame((30,))
    df["y"] = np.nan
    with pytest.raises(ValueError, match=r"series 's0'.*no observed value"):
        forecaster.predict(df)


def test_the_seed_makes_it_reproducible_and_leaves_the_global_state(forecaster):
    df = make_frame()
    before = torch.get_rng_state()
    first = forecaster.predict(df)
    assert torch.equal(before, torch.get_rng_state())
    pd.testing.assert_frame_equal(first, forecaster.predict(df))


def test_it_runs_in_the_same_backtest_as_all_others(forecaster):
    df = make_frame((40, 40))
    out = backtest(df, [forecaster, SeasonalNaive(6)], h=3, n_windows=2, step_size=3, level=[80])
    assert {"TextLLM", "TextLLM-lo-80", "TextLLM-hi-80", "SeasonalNaive", "y"} <= set(out.columns)
    assert len(out) == 2 * 2 * 3
    for cutoff, window in out.groupby("cutoff"):
        before = df[df["ds"] <= cutoff]
        direct = forecaster.predict(before, level=[80])
        joined = window.merge(direct, on=["unique_id", "ds"], suffixes=("", "_direct"))
        assert len(joined) == 6
        np.testing.assert_allclose(joined["TextLLM"], joined["TextLLM_direct"])
        np.testing.assert_allclose(joined["TextLLM-hi-80"], joined["TextLLM-hi-80_direct"])
        naive = SeasonalNaive(6).predict(before, h=3)
        np.testing.assert_allclose(
            window.merge(naive, on=["unique_id", "ds"])["SeasonalNaive_y"], naive["SeasonalNaive"]
        )


def test_a_text_stands_in_the_prompt_of_its_series_with_what_the_numbers_mean(forecaster):
    df = make_frame()
    plain = {name: w.prompt for name, w in _windows(forecaster, df).items()}
    told = {name: w.prompt for name, w in _windows(forecaster, df, {"s1": "Capped at 9."}).items()}
    assert told["s0"] == plain["s0"]
    scale = forecaster.codec.fit(df.loc[df["unique_id"] == "s1", "y"].to_numpy()[-12:])
    added = f"Known: Capped at 9.\nA number n below stands for {scale.offset:.6g} + n * {scale.resolution:.6g}.\n"
    assert told["s1"] == added + plain["s1"]
    assert _windows(forecaster, df, "")["s1"].prompt == plain["s1"]


def test_a_prompt_reads_only_what_was_published_by_the_end_of_its_series(forecaster, monkeypatch):
    df = make_frame((30, 30))
    news = pd.DataFrame({"unique_id": ["s0"], "text": ["CANARY"], "published": ["2024-01-02 02:00"]})
    read = []
    build = type(forecaster.prompt).build
    monkeypatch.setattr(
        type(forecaster.prompt), "build", lambda self, *a: read.append((a[3], a[5])) or build(self, *a)
    )
    forecaster.fit(df, context=news).predict_rolling(df, 3, 3, 1)
    # Cutoffs 01-02 00:00, 01:00 and 02:00; the steps after them begin an hour later. Series s0 comes first each time.
    assert [(start[-8:], bool(text)) for start, text in read[::2]] == [
        ("01:00:00", False), ("02:00:00", False), ("03:00:00", True),
    ]  # fmt: skip
    assert not any(text for _, text in read[1::2])
    undated = forecaster.fit(df, context={"s0": "CANARY"})
    with pytest.raises(FrameError, match="does not say when it was published"):
        undated.predict_rolling(df, 3, 2, 1)
    with pytest.raises(FrameError, match="series 's9', which the data do not hold"):
        forecaster.fit(df, context={"s9": "x"})


def test_texts_of_a_fit_serve_cutoffs_whose_horizon_ends_before_they_start(forecaster, monkeypatch):
    df = make_frame((30,))
    news = [{"unique_id": "s0", "text": "CANARY", "published": "2024-01-01 12:00", "start": "2024-01-02 05:00"}]
    read = []
    build = type(forecaster.prompt).build
    monkeypatch.setattr(type(forecaster.prompt), "build", lambda self, *a: read.append(a[5]) or build(self, *a))
    told = forecaster.fit(df.head(27), context=news)
    told.predict_rolling(df, 3, 3, 1)
    assert [bool(text) for text in read] == [False, False, True]
    assert told.context is None  # a later fit is told nothing


def test_a_prompt_holds_dates_instead_of_words_and_nothing_that_is_over(forecaster):
    df = make_frame((30,))  # up to 2024-01-02 05:00
    news = pd.DataFrame(
        {"unique_id": "s0", "text": ["Closed tomorrow.", "Closed today until 03:00.", "It is winter."]}
    )
    news["published"] = ["2024-01-01 09:00", "2024-01-02", "2024-01-01"]
    plain = _windows(forecaster, df)["s0"]
    told = _windows(forecaster, df, news)["s0"]
    assert "Known: Closed 2024-01-02.\nIt is winter.\n" in told.prompt
    assert told.num_texts == 2
    assert _windows(forecaster, df, news[1:2])["s0"] == plain
    undated = news.drop(columns="published")[:1]
    assert "Known: Closed tomorrow.\n" in _windows(forecaster, df, undated)["s0"].prompt


def test_the_direct_prompt_gives_times_and_values_in_units_and_reads_them_back(language_model, tokenizer):  # noqa: F811
    free = SamplingOptions(constrained=False)
    made = TextForecaster(language_model, tokenizer, h=2, context_length=2, style="direct", options=free)
    prompt = _windows(made, make_frame((30,)), "Capped at 9.")["s0"].prompt
    assert "<context>\nCapped at 9.\n</context>" in prompt
    assert "<history>\n(2024-01-02 04:00:00, 5.27091)\n(2024-01-02 05:00:00, 4.33637)\n</history>" in prompt
    assert "at these 2 times: 2024-01-02 06:00:00, 2024-01-02 07:00:00." in prompt
    answer = "Sure.\n<forecast>\n(2024-01-02 06:00:00, 9)\n(2024-01-02 07:00:00, -1.5e1)\n</forecast>"
    times = ["2024-01-02 06:00:00", "2024-01-02 07:00:00"]
    assert made.codec.decode(answer, 2, None, times=times).values.tolist() == [9.0, -15.0]
    for text, failure in (
        ("9\n9", "no_answer"),
        ("<forecast>(a, 1)</forecast>", "too_short"),
        ("<forecast>(a, 1)(b, 2)(c, 3)</forecast>", "too_long"),
        ("<forecast>(a, 1)(b, two)</forecast>", "not_a_number"),
        ("<forecast>(a, 1)(b, 1e999)</forecast>", "not_a_number"),
    ):
        read = made.codec.decode(text, 2, None, times=["a", "b"])
        assert (str(read.failure), read.values) == (failure, None)


def test_pairs_of_other_times_than_those_asked_for_are_no_answer():
    codec, asked = DirectCodec(h=3), ["2024-01-02 23:00:00", "2024-01-03 00:00:00", "2024-01-03 01:00:00"]

    def read(*times, asked=asked):
        pairs = "\n".join(f"({time}, {k})" for k, time in enumerate(times))
        return codec.decode(f"<forecast>{pairs}</forecast>", len(asked), None, times=asked)

    for times in (
        asked,
        ("2024-01-02 23:00", " 2024-01-03 ", "2024-01-03  01:00:00.000"),
        ("'2024-01-02T23:00'", '"2024-01-03T00:00:00"', "2024-01-03 01:00:00"),
    ):
        assert read(*times).values.tolist() == [0.0, 1.0, 2.0]
    for times, wrong in (
        (("1999-01-01", "1998-01-01", "2030-01-01"), 0),  # any at all
        ((asked[0], asked[2], asked[1]), 1),  # in another order
        ((asked[0], asked[1], asked[1]), 2),  # one twice
        (("2023-01-02 23:00:00", *asked[1:]), 0),
        ((*asked[:2], "2024-01-03 01:00:30"), 2),
        ((*asked[:2], "2024-01-03 01:00:00+01:00"), 2),
        ((asked[0], "03/01/2024", asked[2]), 1),  # may be March
        ((asked[0], "next", asked[2]), 1),
    ):
        parsed = read(*times)
        assert (parsed.failure, parsed.values) == (ParseFailure.WRONG_TIME, None)
        assert parsed.detail == f"{times[wrong].strip()} for {asked[wrong]}"
    assert read("24", " 25", asked=["24", "25"]).values.tolist() == [0.0, 1.0]
    assert read("24", "27", asked=["24", "25"]).failure == ParseFailure.WRONG_TIME
    with pytest.raises(ValueError, match="there are 0 times for 3 steps"):
        codec.decode("", 3, None)


def test_completions_about_other_times_are_counted_and_give_no_value(language_model, tokenizer, monkeypatch):  # noqa: F811
    free = SamplingOptions(constrained=False)
    made = TextForecaster(
        language_model, tokenizer, h=1, context_length=2, style="direct", options=free, num_samples=3
    )
    good, bad = "<forecast>(2024-01-02 06:00:00, 4)</forecast>", "<forecast>(1999-01-01, 900)</forecast>"
    monkeypatch.setattr("tsllm.forecasting.text.sample_completions", lambda *_: [[good, bad, bad]])
    assert made.fit(make_frame((30,))).predict()["TextLLM"].tolist() == [4.0]
    assert made.report.failures == {"wrong_time": 2}


def test_the_request_stands_in_the_words_of_the_chat_template(language_model, tokenizer):  # noqa: F811
    instruct = copy.deepcopy(tokenizer)
    instruct.chat_template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}[/]{% endfor %}[answer]"
    options = {"h": 3, "context_length": 12}
    plain = _windows(TextForecaster(language_model, instruct, **options), make_frame())["s0"].prompt
    chat = _windows(TextForecaster(language_model, instruct, chat=True, **options), make_frame())["s0"].prompt
    assert chat == f"[user]{plain}[/][answer]"
    free = SamplingOptions(constrained=False)
    direct = TextForecaster(language_model, instruct, style="direct", options=free, **options)
    prompt = _windows(direct, make_frame())["s0"].prompt
    assert prompt.startswith("[user]")
    assert prompt.endswith("[/][answer]")
    for given, message in (
        ({"style": "best"}, "style is 'best'"),
        ({"style": "direct"}, "set constrained: false"),
        ({"style": "direct", "options": free, "chat": True}, "a form of its own"),
        ({"chat": True, "thought_words": 9, "options": free}, "a thought brings it by itself"),
    ):
        with pytest.raises(ValueError, match=message):
            TextForecaster(language_model, instruct, **options, **given)
    with pytest.raises(ValueError, match="models with a chat template"):
        TextForecaster(language_model, tokenizer, chat=True, **options)


def _windows(forecaster, df, context=None):
    history = forecaster._validate(df)
    return forecaster._build_windows(history, future_frame(history, forecaster.h, "h"), None, context)


def test_texts_that_do_not_fit_the_prompt_are_counted_and_stand_only_where_they_speak(forecaster):
    df = make_frame()
    name, last = df["unique_id"].iloc[0], df["ds"].iloc[29]
    step = df["ds"].iloc[1] - df["ds"].iloc[0]
    news = pd.DataFrame({"unique_id": name, "text": "It is closed all day. " * 5, "published": last}, index=range(200))
    with pytest.raises(
        ValueError, match=r"series 's0': with its 200 texts the prompt has \d+ tokens.*`start` and `end`"
    ):
        forecaster.fit(df).predict(context=news)
    start = pd.DatetimeIndex([last - k % 20 * step for k in range(200)])  # all are over
    spans = news.assign(start=start, end=start + step)
    assert len(forecaster.predict(context=spans)) == 6

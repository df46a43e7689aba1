import numpy as np
import pandas as pd
import pytest
import torch

from tests.text.conftest import language_model, tokenizer  # noqa: F401
from tsllm.evaluation.backtest import backtest
from tsllm.forecasting.base import Forecaster
from tsllm.forecasting.naive import SeasonalNaive
from tsllm.forecasting.text import TextForecaster
from tsllm.text.generate import SamplingOptions


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

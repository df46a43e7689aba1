import sys

import numpy as np
import pandas as pd
import pytest
import torch

from tsllm.forecasting.base import Forecaster
from tsllm.forecasting.chronos import ChronosForecaster, _interpolate

DECILES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_decoder_layers": 1, "num_heads": 2}


def make_frame(lengths=(40, 30)):
    parts = []
    for k, n in enumerate(lengths):
        ds = pd.date_range("2024-01-01", periods=n, freq="h")
        y = 50.0 * (k + 1) + 5 * np.sin(np.arange(n) * 2 * np.pi / 24)
        parts.append(pd.DataFrame({"unique_id": f"s{k}", "ds": ds, "y": y}))
    return pd.concat(parts, ignore_index=True)


def save_bolt(folder):
    """A Chronos-Bolt with random weights: 16 steps ahead, nine deciles."""
    from chronos.chronos_bolt import ChronosBoltModelForForecasting
    from transformers import T5Config

    torch.manual_seed(0)
    own = {"context_length": 32, "prediction_length": 16, "input_patch_size": 8, "input_patch_stride": 8}
    config = T5Config(vocab_size=2, dropout_rate=0.0, decoder_start_token_id=0, initializer_factor=1.0, **T5)
    config.chronos_config = own | {"quantiles": DECILES, "use_reg_token": True}
    config.chronos_pipeline_class = "ChronosBoltPipeline"
    ChronosBoltModelForForecasting(config).save_pretrained(folder)


def save_t5(folder):
    """A Chronos-T5 with random weights, which draws samples."""
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    own = {"tokenizer_class": "MeanScaleUniformBins", "tokenizer_kwargs": {"low_limit": -15.0, "high_limit": 15.0}}
    own |= {"n_tokens": 64, "n_special_tokens": 2, "pad_token_id": 0, "eos_token_id": 1, "use_eos_token": True}
    own |= {"model_type": "seq2seq", "context_length": 32, "prediction_length": 16}
    own |= {"num_samples": 7, "temperature": 1.0, "top_k": 50, "top_p": 1.0}
    config = T5Config(vocab_size=64, decoder_start_token_id=0, pad_token_id=0, eos_token_id=1, **T5)
    config.chronos_config, config.chronos_pipeline_class = own, "ChronosPipeline"
    T5ForConditionalGeneration(config).save_pretrained(folder)


def save_second(folder):
    """A Chronos-2 with random weights: four steps a patch, up to four patches, nine deciles."""
    from chronos.chronos2 import Chronos2Model
    from chronos.chronos2.config import Chronos2CoreConfig

    torch.manual_seed(0)
    own = {"context_length": 32, "input_patch_size": 4, "input_patch_stride": 4, "output_patch_size": 4}
    config = Chronos2CoreConfig(d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, vocab_size=2)
    config.chronos_config = own | {"quantiles": DECILES, "use_reg_token": True, "max_output_patches": 4}
    config.chronos_pipeline_class = "Chronos2Pipeline"
    Chronos2Model(config).save_pretrained(folder)


SAVERS = {"bolt": save_bolt, "t5": save_t5, "second": save_second}


@pytest.fixture(params=SAVERS)
def folder(request, tmp_path):
    pytest.importorskip("chronos", reason="chronos-forecasting is optional")
    SAVERS[request.param](tmp_path / request.param)
    return tmp_path / request.param


def test_chronos_is_optional_and_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "chronos", None)
    with pytest.raises(ImportError, match=r"amazon/chronos-bolt-small needs chronos-forecasting.*pip install"):
        ChronosForecaster("amazon/chronos-bolt-small")


def test_quantiles_between_the_known_ones_are_interpolated():
    known = np.array([[[10.0, 20.0, 40.0]]])
    found = _interpolate(known, [0.1, 0.5, 0.9], [0.5, 0.1, 0.9, 0.3, 0.6])
    np.testing.assert_allclose(found, [[[20, 10, 40, 15, 25]]])
    np.testing.assert_allclose(_interpolate(known[..., :1], [0.5], [0.5]), [[[10]]])


def test_every_kind_forecasts_the_median_with_ordered_intervals(folder):
    forecaster = ChronosForecaster(str(folder), "C", batch_size=1)
    assert isinstance(forecaster, Forecaster)
    df = make_frame()
    out = forecaster.fit(df, 5).predict(level=[80, 50])
    assert out.columns.tolist() == ["unique_id", "ds", "C", "C-lo-80", "C-hi-80", "C-lo-50", "C-hi-50"]
    assert out["unique_id"].tolist() == ["s0"] * 5 + ["s1"] * 5
    assert out["ds"].iloc[0] == pd.Timestamp("2024-01-02 16:00")
    ordered = out[["C-lo-80", "C-lo-50", "C", "C-hi-50", "C-hi-80"]].to_numpy()
    assert (np.diff(ordered, axis=1) >= 0).all()
    # The same series in one batch and one after another, and a second call, give the same.
    again = ChronosForecaster(str(folder), "C", batch_size=1).predict(df, 5, [80, 50])
    pd.testing.assert_frame_equal(out, again)
    if folder.name != "t5":
        together = ChronosForecaster(str(folder), "C", batch_size=8).predict(df, 5, [80, 50])
        np.testing.assert_allclose(together[out.columns[2:]], out[out.columns[2:]], rtol=1e-4)
    assert sum(p.numel() for p in forecaster.model.parameters() if p.requires_grad) == 0


def test_intervals_are_the_packages_own_quantiles(folder):
    from chronos import BaseChronosPipeline

    df = make_frame((40,))
    out = ChronosForecaster(str(folder), "C", seed=3).predict(df, 4, [80])
    pipeline = BaseChronosPipeline.from_pretrained(str(folder), device_map="cpu", dtype=torch.float32)
    torch.manual_seed(3)
    series = [torch.tensor(df["y"].to_numpy(), dtype=torch.float32)]
    found = pipeline.predict_quantiles(series, 4, DECILES)[0][0].reshape(4, 9)
    ordered = np.sort(found.numpy(), axis=1)  # with random weights they cross
    np.testing.assert_allclose(out[["C-lo-80", "C", "C-hi-80"]], ordered[:, [0, 4, 8]], rtol=1e-5)


def test_only_the_last_steps_are_read_if_so_asked(folder):
    df = make_frame((40,))
    changed = df.assign(y=np.where(np.arange(40) < 24, 1e3, df["y"]))
    short = ChronosForecaster(str(folder), "C", context_length=16)
    pd.testing.assert_frame_equal(short.predict(df, 3), short.predict(changed, 3))
    whole = ChronosForecaster(str(folder), "C")
    assert not np.allclose(whole.predict(df, 3)["C"], whole.predict(changed, 3)["C"])


def test_wider_intervals_than_the_known_quantiles_are_refused_or_drawn(folder):
    forecaster = ChronosForecaster(str(folder), "C")
    if folder.name == "t5":
        assert (forecaster.predict(make_frame(), 2, [95])["C-hi-95"] > 0).all()
        return
    with pytest.raises(ValueError, match=r"C knows quantiles from 0.1 to 0.9, so intervals up to 80 %"):
        forecaster.predict(make_frame(), 2, [95])


def test_what_is_missing_is_told(folder, tmp_path):
    with pytest.raises(ValueError, match="C has no history"):
        ChronosForecaster(str(folder), "C").predict(h=2)
    with pytest.raises(ValueError, match="does not know how far"):
        ChronosForecaster(str(folder), "C").fit(make_frame()).predict()
    (tmp_path / "empty").mkdir()
    with pytest.raises(OSError, match="cannot load the Chronos model"):
        ChronosForecaster(str(tmp_path / "empty"))
    with pytest.raises(ValueError, match="num_samples must be at least 1, got 0"):
        ChronosForecaster(str(folder), num_samples=0)

"""Latency, throughput and memory of `NeuralForecaster.predict`; run by `bench_timellm.py --predict N`."""

import argparse
import statistics

import pandas as pd
import torch
from timellm_variants import Variant, backbone_folder, clock, draw_windows, read_status, reset_peak

from tsllm.data.scaling import StandardScaler
from tsllm.forecasting.neural import NeuralForecaster
from tsllm.hub.spec import ForecasterSpec
from tsllm.types import ID, TARGET, TIME


def serve(arguments: argparse.Namespace) -> list[dict]:
    """Forecasts one series, a tenth of all and all of them, with each variant that describes no series beforehand."""
    rows = []
    names = [name for name in arguments.variants if name in ("default", "none", "no-prompt")]
    with backbone_folder(arguments.backbone, arguments.layers) as folder:
        for name in names:
            model = Variant(name, argparse.Namespace(**(vars(arguments) | {"series": 1})), folder).model.eval()
            rows.append({"variant": name} | serve_one(model, arguments))
            print(format_serving(rows[-1]), flush=True)
    return rows


def serve_one(model: torch.nn.Module, arguments: argparse.Namespace) -> dict:
    """Measures one model: seconds for one series, series a second in one call, and what memory more series take."""
    frame = build_frame(arguments)
    spec = ForecasterSpec(
        alias="TimeLLM",
        freq="h",
        layout="univariate",
        season=24,
        channels=[],
        scaler=StandardScaler().fit(frame).to_dict(),
    )
    predictor = NeuralForecaster.of_model(model, spec, batch_size=arguments.batch)
    one = [frame.iloc[k * arguments.context : (k + 1) * arguments.context] for k in range(arguments.repeats + 1)]
    alone = [clock(lambda df=df: predictor.predict(df), arguments.device) for df in one][1:]
    few = max(1, arguments.predict // 10)
    before, peaks = read_status("VmRSS"), {}
    for count in (few, arguments.predict):
        part = frame.iloc[: count * arguments.context]
        reset_peak()
        cpu, wall = clock(lambda df=part: predictor.predict(df), arguments.device)
        peaks[count] = read_status("VmHWM") - before
    return {
        "latency_cpu": statistics.median(t[0] for t in alone),
        "latency_wall": statistics.median(t[1] for t in alone),
        "series": arguments.predict,
        "batch": arguments.batch,
        "series_per_cpu_second": arguments.predict / cpu,
        "series_per_wall_second": arguments.predict / wall,
        "peak_mb": peaks[arguments.predict],
        "peak_mb_of_a_tenth": peaks[few],
    }


def build_frame(arguments: argparse.Namespace) -> pd.DataFrame:
    """Draws N series of one context each as a long frame."""
    sizes = argparse.Namespace(**(vars(arguments) | {"series": max(arguments.predict, arguments.repeats + 1)}))
    values = draw_windows(argparse.Namespace(**(vars(sizes) | {"device": "cpu"})), 0)[0].squeeze(-1)  # [N, L]
    times = pd.date_range("2024-01-01", periods=sizes.context, freq="h")
    names = [f"series {k:06d}" for k in range(sizes.series)]
    return pd.DataFrame(
        {
            ID: pd.Index(names).repeat(sizes.context),
            TIME: list(times) * sizes.series,
            TARGET: values.flatten().double().numpy(),
        }
    )


def format_serving(row: dict) -> str:
    """Writes one line a variant."""
    return (
        f"{row['variant']:10s} one series in {row['latency_wall']:.3f} s ({row['latency_cpu']:.3f} CPU s); "
        f"{row['series']} series in one call: {row['series_per_wall_second']:.1f} a second "
        f"({row['series_per_cpu_second']:.1f} a CPU second), peak memory {row['peak_mb']:.0f} MB; of a tenth of them "
        f"{row['peak_mb_of_a_tenth']:.0f} MB"
    )


def print_serving(rows: list[dict]) -> None:
    print()
    for row in rows:
        print(format_serving(row))

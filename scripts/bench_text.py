"""Times a text forecast: 24 steps x 20 samples of one series, prompt read once (`python scripts/bench_text.py`)."""

import argparse
import json
import statistics
import time

import numpy as np
import pandas as pd
import torch

from tsllm.forecasting.text import TextForecaster
from tsllm.text.loading import load_language_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--h", type=int, default=24)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--context", type=int, default=168)
    parser.add_argument("--digits", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    model, tokenizer = load_language_model(args.model)
    ds = pd.date_range("2024-01-01", periods=args.context, freq="h")
    y = np.sin(np.arange(args.context) * 2 * np.pi / 24) + np.random.default_rng(0).normal(size=args.context) / 5
    df = pd.DataFrame({"unique_id": "a", "ds": ds, "y": y})
    forecaster = TextForecaster(
        model, tokenizer, h=args.h, context_length=args.context, digits=args.digits, num_samples=args.samples
    )
    seconds = []
    for _ in range(args.repeats):
        began = time.perf_counter()
        forecaster.predict(df, level=[80])
        seconds.append(time.perf_counter() - began)
    tokens = len(
        tokenizer(next(iter(forecaster._build_windows(df, _future(df, args.h), None).values())).prompt)["input_ids"]
    )
    result = vars(args) | {
        "seconds_median": statistics.median(seconds),
        "seconds": seconds,
        "prompt_tokens": tokens,
        "threads": torch.get_num_threads(),
        "separator": forecaster.codec.separator,
    }
    print(json.dumps(result, indent=2))


def _future(df: pd.DataFrame, h: int) -> pd.DataFrame:
    from tsllm.data.frame import future_frame

    return future_frame(df, h, "h")


if __name__ == "__main__":
    main()

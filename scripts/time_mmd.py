"""Do the dated reports of Time-MMD (Liu 2024) help a forecast, once what was not yet published is left out?

git clone https://github.com/AdityaLab/Time-MMD
python scripts/time_mmd.py Time-MMD --domains Energy Climate Economy Traffic SocialGood --output reports.csv

The repository states no licence: measure with it, and publish none of it. A report is read by cutoffs one period of
the series after its end or later, and is about the `h` steps behind that. A native model learns to read on all windows
up to the last fifth, whose cutoffs, one step apart, are the test. Arms, with the same windows, steps and seeds:

told: as said; empty: the same model without a text; swapped: the same model with the reports in another order;
numeric: the model trained without texts; learnt swapped: trained and tested with reports in another order. Beside
them stand forecasters that nobody trains here. Errors are in deviations of the training part.
"""

import argparse
import logging
import time
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tsllm.context.reports import load_reports
from tsllm.evaluation.arms import compare_arms
from tsllm.forecasting.base import Forecaster
from tsllm.forecasting.naive import SeasonalNaive
from tsllm.forecasting.neural import NeuralForecaster
from tsllm.forecasting.statistical import StatisticalForecaster
from tsllm.types import CUTOFF, ID, TARGET, TIME

DOMAINS = ("Energy", "Climate", "Economy", "Traffic", "SocialGood")
TARGET_COLUMN, TEST = "OT", 0.2
TREATED = "told"
# Of a weekly and a monthly series: horizon, steps read, season, delay of a report.
RHYTHMS = {"W": (12, 52, 52, "7 D"), "M": (6, 24, 12, "31 D")}


def load_series(folder: Path, domain: str) -> tuple[pd.DataFrame, str]:
    """Returns a domain's target as a series, and `W` or `M`.

    Raises:
        ValueError: If its dates are neither weekly nor monthly throughout.
    """
    table = pd.read_csv(folder / "numerical" / domain / f"{domain}.csv")
    times = pd.to_datetime(table["start_date" if "start_date" in table else "date"])
    df = pd.DataFrame({ID: domain, TIME: times, TARGET: pd.to_numeric(table[TARGET_COLUMN], errors="coerce")})
    df = df.dropna().sort_values(TIME, ignore_index=True)
    freq = str(pd.infer_freq(df[TIME]))
    if freq[0] not in RHYTHMS:
        raise ValueError(f"{domain}: the dates have the frequency {freq}; only weeks and months without gaps are read")
    return df, freq[0]


def load_texts(folder: Path, domain: str, delay: str, length: pd.Timedelta) -> pd.DataFrame:
    """Returns reports as `unique_id, text, published, start, end`; each is about a `length` behind its publication."""
    table = pd.read_csv(folder / "textual" / domain / f"{domain}_report.csv")
    table = table[pd.to_datetime(table["end_date"]) >= pd.to_datetime(table["start_date"])]  # a few do not
    texts = load_reports(table, domain, delay=delay, columns=("fact", "preds"))
    return texts.assign(start=texts["published"], end=texts["published"] + length)


def swap(texts: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Returns the reports with their texts in another order."""
    return texts.assign(text=np.random.default_rng(seed).permutation(texts["text"].to_numpy()))


def roll(forecaster: Any, df: pd.DataFrame, h: int, windows: int, unit: float) -> dict[str, np.ndarray]:
    """Returns the mean absolute error from each of the last cutoffs [N, 1], in `unit`."""
    found = forecaster.predict_rolling(df, h, windows, 1).merge(df, on=[ID, TIME])
    errors = (found[forecaster.alias] - found[TARGET]).abs() / unit
    return {"mae": errors.groupby(found[CUTOFF]).mean().to_numpy()[:, None]}


def measure(folder: Path, domain: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Trains and tests one domain; returns a row an arm."""
    df, rhythm = load_series(folder, domain)
    h, context_length, season, delay = RHYTHMS[rhythm]
    texts = load_texts(folder, domain, delay, (df[TIME].iloc[h] - df[TIME].iloc[0]))
    first = int(np.searchsorted(df[TIME], texts["published"].min()))
    df = df[max(0, first - context_length) :].reset_index(drop=True)
    windows = round(TEST * len(df)) - h + 1
    train, unit = df[: len(df) - windows - h + 1], float(df[TARGET][: len(df) - windows - h + 1].std())
    arms: dict[str, list[dict[str, np.ndarray]]] = {}
    for seed in args.seeds:
        other = swap(texts, 1000 + seed)
        began = time.process_time()
        options = (h, context_length, seed, args)
        plain, reads, learnt = (_train(train, context, *options) for context in (None, texts, other))
        runs = {
            TREATED: copy(reads).tell(texts), "empty": copy(reads).tell(""), "swapped": copy(reads).tell(other),
            "numeric": plain, "learnt swapped": learnt.tell(other),
        }  # fmt: skip
        for name, model in runs.items():
            arms.setdefault(name, []).append(roll(model, df, h, windows, unit))
        print(f"{domain}, seed {seed}: {time.process_time() - began:.0f} s of CPU", flush=True)
    fixed: list[Forecaster] = [SeasonalNaive(1), SeasonalNaive(season), StatisticalForecaster("AutoETS", h)]
    for name, forecaster in zip(("last value", "seasonal naive", "AutoETS"), fixed, strict=True):
        arms[name] = [roll(forecaster.fit(train, h), df, h, windows, unit)] * len(args.seeds)
    rows = {row["against"]: row for row in compare_arms(arms, TREATED, overlap=h)}
    return [
        {
            "domain": domain,
            "arm": name,
            "mae": float(np.mean([seed["mae"].mean() for seed in seeds])),
            "p_adjusted": rows[name]["p_adjusted"] if name in rows else float("nan"),
            "windows": windows,
            "h": h,
            "reports": len(texts),
        }
        for name, seeds in arms.items()
    ]


def _train(
    df: pd.DataFrame, context: Any, h: int, context_length: int, seed: int, args: argparse.Namespace
) -> NeuralForecaster:
    training = {
        "max_steps": args.steps,
        "per_device_train_batch_size": 16,
        "seed": seed,
        "eval_steps": args.steps // 6,
    }
    reads = {} if context is None else {"text_backbone": "smollm2-135m", "text_layers": 8}
    forecaster = NeuralForecaster(
        args.model, h, context_length=context_length, val_size=len(df) // 8, layout="univariate", training=training,
        head="quantile", **reads,
    )  # fmt: skip
    return forecaster.fit(df) if context is None else forecaster.fit(df, context=context)


def main() -> None:
    """Measures all domains, prints a table and writes it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of a copy of Time-MMD")
    parser.add_argument("--domains", nargs="+", default=DOMAINS)
    parser.add_argument("--model", default="dlinear", help="a native model that reads texts")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=None, help="CSV for the table")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    rows: list[dict[str, Any]] = []
    for domain in args.domains:
        rows += measure(args.folder, domain, args)
        table = pd.DataFrame(rows)
        print(table[table["domain"] == domain].to_string(index=False, float_format="%.3f"), flush=True)
        if args.output:
            table.to_csv(args.output, index=False)


if __name__ == "__main__":
    main()

"""Do the defaults forecast well? The default DLinear and Time-LLM beside the seasonal naives on packaged data sets.

    python scripts/bench_defaults.py [--data epf-fr-be vic-elec ...] [--models dlinear timellm] [--steps N]

Context, layout and length of training are what nobody asked for: `tsllm.data.task` and `DEFAULT_TRAINING`. Errors are
means over the last windows of each series, in original units; the seasonal naive of every customary season stands
beside them. Where series differ in size, few of them rule that mean: `relative` is the geometric mean over series of
the error divided by that of the naive of the main season, `series_won` the share of series with less error than it
has. `--steps` caps the training for a quick look, and says so.
"""

import argparse
import math
import time
import warnings

import numpy as np
import pandas as pd

from tsllm.data.frequency import customary_seasons
from tsllm.data.task import Asked, build_task, load_data
from tsllm.evaluation.backtest import run_backtest
from tsllm.forecasting.model_spec import ModelSpec
from tsllm.forecasting.naive import SeasonalNaive
from tsllm.forecasting.roster import build_forecaster
from tsllm.types import ID

DATA = ("epf-fr-be", "vic-elec", "pedestrian", "electricity-short", "m3-monthly", "m3-quarterly", "tourism-monthly")
BACKBONE = {"backbone": "smollm2-135m", "num_backbone_layers": 2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=list(DATA))
    parser.add_argument("--models", nargs="+", default=["dlinear", "timellm"])
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    training = {} if args.steps is None else {"max_steps": args.steps}
    for name in args.data:
        print(bench(name, args.models, training, args.seed).to_string(index=False), flush=True)


def bench(name: str, models: list[str], training: dict[str, int], seed: int) -> pd.DataFrame:
    """Returns one row a model: MAE, context, layout, seconds."""
    asked = Asked(covariates=(), past_covariates=())
    loaded = load_data(name, asked)
    task = build_task(loaded, asked)
    windows = 1 if isinstance(task.freq, int) else 28
    seasons = sorted({task.season, *customary_seasons(task.freq)})
    roster = [SeasonalNaive(season, alias=f"SeasonalNaive-{season}", freq=task.freq) for season in seasons]
    for model in models:
        options = BACKBONE if model == "timellm" else {}
        roster.append(build_forecaster(ModelSpec(model, options=options, training=training), task, seed))
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = run_backtest(loaded.df, roster, task.h, windows, task.h, freq=task.freq)
    errors = {m: (result.frame["y"] - result.frame[m]).abs().groupby(result.frame[ID]).mean() for m in result.models}
    naive = errors[f"SeasonalNaive-{task.season}"]
    rows = []
    for model in result.models:
        cost, fitted = result.costs[model], result.fitted[model]
        steps = max((int(e.get("step", 0)) for e in fitted.log), default=0)
        mae = (result.frame["y"] - result.frame[model]).abs().mean()
        relative = math.exp(np.log(errors[model][naive > 0] / naive[naive > 0]).mean())
        won = (errors[model] < naive).mean()
        rows.append(
            {
                "data": name,
                "model": model,
                "mae": round(mae, 3),
                "relative": round(relative, 3),
                "series_won": round(won, 2),
                "context": fitted.context_length,
                "steps": steps,
                "seconds": round(cost.fit_seconds + cost.predict_seconds),
            }
        )
    table = pd.DataFrame(rows)
    print(f"{name}: {loaded.df[ID].nunique()} series, {windows} windows of {task.h}, layout {task.layout}, "
          f"season {task.season}, {time.perf_counter() - started:.0f} s", flush=True)  # fmt: skip
    return table


if __name__ == "__main__":
    main()

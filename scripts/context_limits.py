"""Prices told to lie at the floor or at the cap: does a model learn to read, and does it read words that it never saw?

python scripts/context_limits.py --model dlinear --steps 1500

Days of the French price before the test part are drawn, and each future gets an event: the price lies at its floor, or
at its cap, from one hour to another, or nothing happens. Floor and cap are quantiles of the training part, so that the
only numbers in a text are times. The day before, a sentence says so, in one of 96 wordings a kind
(`scripts/limit_phrases.py`); on a quarter of the days nothing happens and nothing is said. A native model with the
branch that reads texts is trained on 96 -> 24 hours, and its control on a language model of random weights with the
same spectrum (`--weights spectrum`). Test days have wordings of training, phrases that it does not know, or forms too.

Errors are mean absolute errors in the deviations of the training part: `none` without text, `told` with it, `swapped`
with the text of the next day in the list, `written` with the event carried out on the model's own forecast. The share
removed is (none - told) / (none - written). Whatever is told, the branch knows the weekday, which the base may not;
`calm` is told a sentence of training by which nothing happens, and the share against it counts reading alone.
`--develop` is for choosing settings: it leaves the test days and the wordings of tests alone, and some of the wordings
of training play those that it does not know.
"""

import argparse
import logging
import time

import numpy as np
import pandas as pd
from context_branch import load_price
from limit_phrases import (
    CAP,
    FLOOR,
    KINDS,
    NOTHING,
    POOLS,
    SEEN,
    TRIED,
    TRIED_POOLS,
    Pool,
    Told,
    apply_told,
    write_told,
)

from tsllm.forecasting.neural import NeuralForecaster
from tsllm.types import ID, TARGET, TIME

CONTEXT, STEPS, TEST_DAYS = 96, 24, 120
QUANTILES = {FLOOR: 0.02, CAP: 0.98}
DAY = pd.Timedelta("1D")


class Events:
    """Days of a price, each with a history, a future that is changed and what is told of it.

    Args:
        z: The price in deviations of its training part [T].
        times: Its hours [T].
        levels: Floor and cap.
    """

    def __init__(self, z: np.ndarray, times: pd.DatetimeIndex, levels: dict[str, float]) -> None:
        self.z, self.times, self.levels = z, times, levels

    def change(self, day: int, told: Told) -> np.ndarray:
        """Returns the prices of a day [24] as an event changes them."""
        return apply_told(told, self.z[day * STEPS : (day + 1) * STEPS], self.levels[FLOOR], self.levels[CAP])

    def frame(self, days: list[tuple[int, Told]], with_future: bool) -> pd.DataFrame:
        """Returns a series a day: 96 hours of history and, if asked for, its changed future."""
        parts = []
        for number, (day, told) in enumerate(days):
            start, end = day * STEPS - CONTEXT, day * STEPS
            values = self.z[start:end]
            if with_future:
                values, end = np.concatenate([values, self.change(day, told)]), end + STEPS
            parts.append(pd.DataFrame({ID: f"day-{number:04d}", TIME: self.times[start:end], TARGET: values}))
        return pd.concat(parts, ignore_index=True)

    def news(self, days: list[tuple[int, Told]]) -> pd.DataFrame:
        """Returns the texts of days, each published the day before."""
        first = [self.times[day * STEPS] for day, _ in days]
        names, texts = [f"day-{k:04d}" for k in range(len(days))], [told.text for _, told in days]
        frame = pd.DataFrame({ID: names, "text": texts, "start": first})
        return frame.assign(published=frame["start"] - DAY, end=frame["start"] + DAY)


def draw_days(rng: np.random.Generator, days: np.ndarray, pool: Pool) -> list[tuple[int, Told]]:
    """Draws an event, or nothing, and a sentence about it for each of some days."""
    return [(int(day), write_told(rng, KINDS[rng.integers(len(KINDS))], pool)) for day in days]


def measure(
    forecaster: NeuralForecaster, events: Events, days: list[tuple[int, Told]], calm: list[Told]
) -> dict[str, float]:
    """Returns the mean absolute error of each arm.

    Args:
        forecaster: Reads texts.
        events: The price.
        days: Days and what is told of them.
        calm: As many sentences by which nothing happens.
    """
    truth = np.stack([events.change(*one) for one in days])  # [N, H]
    swapped = [(day, days[(k + 1) % len(days)][1]) for k, (day, _) in enumerate(days)]
    arms = {"told": days, "swapped": swapped, "calm": [(day, one) for (day, _), one in zip(days, calm, strict=True)]}
    told: dict[str, str | pd.DataFrame] = {"none": ""} | {name: events.news(of) for name, of in arms.items()}
    history, found = events.frame(days, with_future=False), {}
    for name, context in told.items():
        forecast = forecaster.predict(history, context=context)
        found[name] = forecast[forecaster.alias].to_numpy().reshape(truth.shape)
    limits = events.levels[FLOOR], events.levels[CAP]
    for name in ("none", "calm"):
        carried = [apply_told(told, own, *limits) for (_, told), own in zip(days, found[name], strict=True)]
        found[f"{name}, written"] = np.stack(carried)
    return {name: float(np.abs(forecast - truth).mean()) for name, forecast in found.items()}


def find_share(errors: dict[str, float], base: str) -> str:
    """Returns which share of the event's error is removed, against a forecast told nothing or a calm sentence."""
    return f"{100 * (errors[base] - errors['told']) / (errors[base] - errors[f'{base}, written']):.0f} %"


def train(args: argparse.Namespace, events: Events, days: list[tuple[int, Told]]) -> NeuralForecaster:
    """Trains a model on days, and prints what it cost."""
    options = {"max_steps": args.steps, "per_device_train_batch_size": args.batch, "learning_rate": args.rate,
               "warmup_steps": args.warmup, "seed": args.seed, "logging_steps": max(1, args.steps // 6)}  # fmt: skip
    forecaster = NeuralForecaster(
        args.model, STEPS, context_length=CONTEXT, val_size=0, layout="univariate", scaler="none", training=options,
        head="quantile", text_backbone="smollm2-135m", text_layers=args.text_layers, text_weights=args.weights,
        verbose=False,
    )  # fmt: skip
    began = time.process_time()
    forecaster.fit(events.frame(days, with_future=True), context=events.news(days))
    losses = " ".join(f"{row['loss']:.3f}" for row in forecaster.log if "loss" in row)
    print(
        f"{args.model}, {args.weights}, seed {args.seed}: {len(days)} days, {args.steps} steps of {args.batch}, "
        f"{time.process_time() - began:.0f} s of CPU, fresh texts included; losses {losses}",
        flush=True,
    )
    return forecaster


def main() -> None:
    """Trains, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="dlinear", help="a native model that reads texts")
    parser.add_argument("--weights", default="pretrained", help="of the language model: pretrained, spectrum, random")
    parser.add_argument(
        "--days", type=int, default=1500, help="with a text, drawn for training; a third as many come without one"
    )
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--warmup", type=int, default=50, help="steps")
    parser.add_argument("--seed", type=int, default=0, help="of training; days and texts are the same for all seeds")
    parser.add_argument("--text-layers", type=int, default=12)
    parser.add_argument("--develop", action="store_true", help="leave test days and the wordings of tests alone")
    parser.add_argument("--save", default=None, help="folder for the model")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    y, times = load_price()
    last = len(y) // STEPS - (TEST_DAYS if args.develop else 0)
    border = last - TEST_DAYS
    known = y[: border * STEPS]
    z = (y - known.mean()) / known.std()
    levels = {kind: float(np.quantile(z[: len(known)], level)) for kind, level in QUANTILES.items()}
    events, rng = Events(z, times, levels), np.random.default_rng(0)
    seen, pools = (TRIED, TRIED_POOLS) if args.develop else (SEEN, POOLS)
    first = CONTEXT // STEPS
    drawn = draw_days(rng, rng.integers(first, border, args.days), seen)
    drawn += [(int(day), Told(NOTHING, "", 0, 0)) for day in rng.integers(first, border, args.days // 3)]
    tests = {name: draw_days(rng, np.arange(border, last), pool) for name, pool in pools.items()}
    forecaster = train(args, events, drawn)
    if args.save:
        forecaster.save_pretrained(args.save)
    calm = {name: [write_told(rng, NOTHING, seen) for _ in days] for name, days in tests.items()}
    for name, days in tests.items():
        for quiet in (False, True):
            chosen = [k for k, (_, told) in enumerate(days) if (told.kind == NOTHING) == quiet]
            errors = measure(forecaster, events, [days[k] for k in chosen], [calm[name][k] for k in chosen])
            line = "  ".join(f"{arm} {error:.3f}" for arm, error in errors.items())
            if not quiet:
                line += f"  removed {find_share(errors, 'none')}, against calm {find_share(errors, 'calm')}"
            print(f"{name}, {'quiet days' if quiet else 'events'}  {line}", flush=True)


if __name__ == "__main__":
    main()

"""Events on the French electricity price: how much of an event's error does a model that learns to read remove?

python scripts/context_branch.py --model dlinear --copies 8 --steps 3000

Copies of the price up to the test part get an event of their own on most days: a text of the generator, published the
day before, and prices as the text changes them. On the others a text tells nothing, or there is none, so that the
model's own forecast is trained too. A model with the residual branch for texts (`text_layers`) is trained on
them, and on the same language model with random weights of the same spectrum (`--weights spectrum`). With `--alone`
each day of training is a series of its own, whose history has no events, as that of a test day has none.

The events of the test days, in wordings that training knows and in those that it does not, are those of
`scripts/context_events.py`, and so is the unit, the series' deviation. `none` is the model's own forecast without the
text, `written` carries the true effects out on it, `swapped` reads the text of another day. The share removed is
(none - told) / (none - written). For choosing settings there are other days and wordings: `--skip 120 --fold 3`.
"""

import argparse
import logging
import time
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from tsllm.context.applying import Window, apply_effects
from tsllm.context.events import KINDS as EVENTS
from tsllm.context.events import Event, write_event
from tsllm.data.loading import load_frame
from tsllm.forecasting.neural import NeuralForecaster
from tsllm.types import ID, TARGET, TIME

STEPS, LOOK_BACK, VALIDATION = 24, 168, 30 * 24
KINDS = (("seen wordings", False, False), ("new wordings", True, False), ("quiet days", True, True))
DAY = pd.Timedelta("1D")


def load_price() -> tuple[np.ndarray, pd.DatetimeIndex]:
    """Returns the French price [T] and its hours."""
    frame = load_frame("epf-fr-be").df
    series = frame[frame[ID] == "FR"]
    return series[TARGET].to_numpy(float), pd.DatetimeIndex(series[TIME])


def cut_window(y: np.ndarray, times: pd.DatetimeIndex, end: int) -> Window:
    """Returns the window whose horizon is the day from step `end` on."""
    return Window(y[end - LOOK_BACK : end], times[end - LOOK_BACK : end], times[end : end + STEPS], STEPS)


class Shares(NamedTuple):
    """Of the days of training.

    Attributes:
        quiet: With a text that tells nothing.
        silent: Without a text; the others have an event.
    """

    quiet: float
    silent: float


def write_training(
    y: np.ndarray, times: pd.DatetimeIndex, copies: int, shares: Shares, seed: int, alone: bool = False, **choices: Any
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns copies of a price with an event a day, as series, and what is told of them.

    Args:
        y: The price up to the test part [T].
        times: Its hours [T].
        copies: How many.
        shares: Of days without an event.
        seed: Of events.
        alone: Whether each day is a series of its own, behind a history without events.
        **choices: Of `write_event`.
    """
    rng, parts, rows = np.random.default_rng(seed), [], []
    for copy in range(copies):
        name, changed = f"FR-{copy}", y.copy()
        for end in range(LOOK_BACK, len(y), STEPS):
            draw, day = rng.random(), slice(end - LOOK_BACK, end + STEPS)
            is_quiet, event = bool(draw < shares.silent + shares.quiet), None
            if draw >= shares.silent:
                event_seed = 10**6 + int(rng.integers(2**31))  # far from those of the test
                window, future = cut_window(y, times, end), y[end : end + STEPS]
                event = write_event(window, future, event_seed, False, is_quiet, **choices)
            if event is not None:
                changed[end : end + STEPS] = event.truth
                of = f"{name}-{end}" if alone else name
                rows.append((of, event.text, times[end] - DAY, times[end], times[end] + DAY))
            if alone:
                values = np.concatenate([y[end - LOOK_BACK : end], changed[end : end + STEPS]])
                parts.append(pd.DataFrame({ID: f"{name}-{end}", TIME: times[day], TARGET: values}))
        if not alone:
            parts.append(pd.DataFrame({ID: name, TIME: times, TARGET: changed}))
    return pd.concat(parts, ignore_index=True), pd.DataFrame(rows, columns=[ID, "text", "published", "start", "end"])


def write_test(
    y: np.ndarray,
    times: pd.DatetimeIndex,
    days: int,
    held_out: bool,
    quiet: bool,
    seed: int,
    **choices: Any,
) -> list[tuple[int, Event]]:
    """Returns the days' first steps and events; `choices` are those of `write_event`."""
    found = []
    for day in range(days):
        end = len(y) - STEPS * (day + 1)
        window = cut_window(y, times, end)
        event = write_event(window, y[end : end + STEPS], 1000 * seed + day, held_out, quiet, **choices)
        found += [] if event is None else [(end, event)]
    return found


def measure(
    forecaster: NeuralForecaster,
    y: np.ndarray,
    times: pd.DatetimeIndex,
    events: list[tuple[int, Event]],
    unit: tuple[float, float],
    series: str,
) -> dict[str, float]:
    """Returns the mean absolute error of each arm, in the series' deviations.

    Args:
        forecaster: Reads texts; it was trained on (price - unit[0]) / unit[1].
        y: The price [T].
        times: Its hours [T].
        events: Days' first steps and events.
        unit: Level and deviation.
        series: One that was trained on.
    """
    errors: dict[str, list[float]] = {}
    for k, (end, event) in enumerate(events):
        past = slice(end - LOOK_BACK, end)
        history = pd.DataFrame({ID: series, TIME: times[past], TARGET: (y[past] - unit[0]) / unit[1]})
        texts = {"none": "", "told": event.text, "swapped": events[(k + 1) % len(events)][1].text}
        found = {
            name: unit[0] + unit[1] * forecaster.predict(history, context=text)[forecaster.alias].to_numpy()
            for name, text in texts.items()
        }
        found["written"] = apply_effects(event.window, event.effects, found["none"][None])[0]
        for name, forecast in found.items():
            errors.setdefault(name, []).append(float(np.abs(forecast - event.truth).mean() / y.std()))
    return {name: float(np.mean(values)) for name, values in errors.items()}


def main() -> None:
    """Trains, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="dlinear", help="a native model that reads texts")
    parser.add_argument("--weights", default="pretrained", help="of the language model: pretrained, spectrum, random")
    parser.add_argument("--copies", type=int, default=8, help="of the price, each with events of its own")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--quiet", type=float, default=0.2, help="share of days with a text that tells nothing")
    parser.add_argument("--silent", type=float, default=0.2, help="share of days without a text")
    parser.add_argument("--alone", action="store_true", help="each day a series, its history without events")
    parser.add_argument("--skip", type=int, default=0, help="last days left alone, for development")
    parser.add_argument("--fold", type=int, default=4, help="fifth of the wordings held out; 3 for development")
    parser.add_argument("--days", type=int, default=120, help="test days")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--text-layers", type=int, default=8)
    parser.add_argument("--save", default=None, help="folder for the model")
    parser.add_argument("--kinds", nargs="+", default=EVENTS, help="of events, such as: sum bounds trend")
    args = parser.parse_args()
    if "fault" in args.kinds:
        parser.error("--kinds: a fault changes the history, which days share here; leave fault out")
    logging.basicConfig(level=logging.WARNING)
    y, times = load_price()
    y, times = (part[: len(part) - STEPS * args.skip] for part in (y, times))
    border, choices = len(y) - STEPS * args.days, {"kinds": args.kinds, "fold": args.fold}
    shares = Shares(args.quiet, args.silent)
    df, news = write_training(y[:border], times[:border], args.copies, shares, args.seed, args.alone, **choices)
    training = {"max_steps": args.steps, "per_device_train_batch_size": args.batch, "learning_rate": args.rate,
                "seed": args.seed}  # fmt: skip
    unit, options = (0.0, 1.0), {"val_size": VALIDATION}
    if args.alone:  # a day is one window: there is nothing to validate, and no series has units of its own
        unit, options = (float(y[:border].mean()), float(y[:border].std())), {"val_size": 0, "scaler": "none"}
        df[TARGET] = (df[TARGET] - unit[0]) / unit[1]
    else:
        training["eval_steps"] = max(1, args.steps // 6)
    forecaster = NeuralForecaster(
        args.model, STEPS, context_length=LOOK_BACK, layout="univariate", training=training, head="quantile",
        text_backbone="smollm2-135m", text_layers=args.text_layers, text_weights=args.weights, **options,
    )  # fmt: skip
    began = time.process_time()
    forecaster.fit(df, context=news)
    print(
        f"{args.model}, {args.weights}, seed {args.seed}: {len(news)} texts, {args.steps} steps of {args.batch} "
        f"windows, {time.process_time() - began:.0f} s of CPU, texts read included",
        flush=True,
    )
    if args.save:
        forecaster.save_pretrained(args.save)
    for name, held_out, quiet in KINDS:
        events = write_test(y, times, args.days, held_out, quiet, 7, **choices)
        errors = measure(forecaster, y, times, events, unit, df[ID].iloc[0])
        gap = errors["none"] - errors["written"]
        share = "" if quiet else f"  removed {100 * (errors['none'] - errors['told']) / gap:.0f} %"
        print(f"{name} ({len(events)} days)  " + "  ".join(f"{k} {v:.3f}" for k, v in errors.items()) + share)


if __name__ == "__main__":
    main()

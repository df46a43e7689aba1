"""Synthetic events on the French electricity price: how much of an event's error does each reader of texts remove?

python scripts/context_events.py --reader runs/context_reader --control runs/context_reader_spectrum

Each test day gets a text with one event inside it (or, on quiet days, with none), and the true prices are changed by
the effects that the text was written from. The base is the seasonal naive forecast; errors are mean absolute errors in
units of the series' deviation. The share removed is (none - reader) / (none - written), where `written` applies the
true effects.
"""

import argparse

import numpy as np
import pandas as pd

from tsllm.context.applying import Window, apply_effects, clean_history
from tsllm.context.events import KINDS, write_event
from tsllm.context.parser import read_by_rules
from tsllm.context.readers import read_effects, read_in_turn
from tsllm.data.loading import load_frame
from tsllm.forecasting.readers import load_reader

STEPS = 24


def run(readers, days: int, held_out: bool, quiet: bool, seed: int, skip: int = 0, kinds=KINDS, history: int = 168):
    """Returns the mean absolute error of each reader over `days` days; the last `skip` days are left alone."""
    frame = load_frame("epf-fr-be").df
    series = frame[frame["unique_id"] == frame["unique_id"].iloc[0]]
    y, times = series["y"].to_numpy(float), pd.DatetimeIndex(series["ds"])
    scale = y.std()
    errors: dict[str, list[float]] = {}
    for day in range(days):
        end = len(y) - STEPS * (skip + day + 1)
        window = Window(y[end - history : end], times[end - history : end], times[end : end + STEPS], STEPS)
        event = write_event(window, y[end : end + STEPS], 1000 * seed + day, held_out, quiet, kinds=kinds)
        if event is None:
            continue
        window, truth = event.window, event.truth
        found = {"none": [], "written": event.effects}
        found |= {name: read_effects(event.text, window, reader) for name, reader in readers.items()}
        for name, effects in found.items():
            past = clean_history(window, effects) if "fault" in kinds else window.past
            forecast = apply_effects(window, effects, past[None, -STEPS:])
            errors.setdefault(name, []).append(float(np.abs(forecast - truth).mean() / scale))
    if not errors:
        raise SystemExit(f"no event of the kinds {', '.join(kinds)} has a place on these days; raise --history")
    return {name: float(np.mean(values)) for name, values in errors.items()} | {"days": float(len(errors["none"]))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reader", default=None, help="folder of a trained reader")
    parser.add_argument("--control", default=None, help="folder of one on random weights")
    parser.add_argument("--days", type=int, default=120)
    parser.add_argument("--skip", type=int, default=0, help="last days left alone, for development")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--kinds", nargs="+", default=KINDS, help="of events, such as: sum bounds trend")
    parser.add_argument("--history", type=int, default=168, help="hours; `like` needs two weeks, `month` two months")
    args = parser.parse_args()
    readers = {"rules": read_by_rules}
    if args.reader:
        learned = load_reader(args.reader).read
        readers |= {"learned": learned, "learned+rules": read_in_turn(learned, read_by_rules)}
    if args.control:
        readers["spectrum"] = load_reader(args.control).read
    for name, held_out, quiet in (
        ("seen wordings", False, False),
        ("new wordings", True, False),
        ("quiet days", True, True),
    ):
        errors = run(readers, args.days, held_out, quiet, args.seed, args.skip, args.kinds, args.history)
        print(f"{name} ({int(errors.pop('days'))} days)")
        gap = errors["none"] - errors["written"]
        for reader, error in errors.items():
            removed = "" if quiet else f"  removed {100 * (errors['none'] - error) / gap:.0f} %"
            print(f"  {reader:14s} {error:.3f}{removed}")


if __name__ == "__main__":
    main()

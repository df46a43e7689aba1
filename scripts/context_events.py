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

from tsllm.context.applying import Window, apply_effects
from tsllm.context.pairs import PairWriter
from tsllm.context.parser import read_by_rules
from tsllm.context.readers import read_effects, read_in_turn
from tsllm.context.reading import assemble
from tsllm.data.loading import load_frame
from tsllm.forecasting.readers import load_reader

STEPS = 24
KINDS = ("multiply", "factor", "raise", "lower", "set", "cap", "floor", "zero")


class EventWriter(PairWriter):
    """Writes events that lie inside a window's horizon."""

    def __init__(self, seed: int, held_out: bool, window: Window) -> None:
        super().__init__(seed, held_out)
        self.window = window

    def _draw_time(self) -> pd.Timestamp:
        return self.window.future_times[int(self.rng.integers(STEPS))]

    def _make_span(self) -> dict[str, tuple[str, str]]:
        first = int(self.rng.integers(0, STEPS - 4))
        hours = int(self.rng.integers(2, min(13, STEPS - first)))
        start = self.window.future_times[first]
        kind = self._pick(("iso", "iso_seconds", "long", "clock"), True)
        hours_of_day = self._write_hours(start, start + pd.Timedelta(hours=hours))
        return (
            super()._make_span()
            | hours_of_day
            | {
                "start": (self._write_moment(start, kind), "start"),
                "end": (self._write_moment(start + pd.Timedelta(hours=hours), kind), "end"),
                "day": (self._write_moment(start, self._pick(("date", "short", "weekday"), True)), "day"),
                "length": (f"{self._write_number(hours)} hours", "length"),
            }
        )

    def _write_value(self, role: str) -> tuple[str, str]:
        """Writes a value that a price may take."""
        if role == "multiply":
            return f"{self.rng.uniform(0.2, 3):.1f}", role
        if role in {"raise", "lower"}:
            return self._write_percent(), role
        low, high = np.quantile(self.window.past, [0.1, 0.9])
        return f"{self.rng.uniform(low, high):.{self.rng.integers(3)}f}", role

    def write_day(self, quiet: bool):
        """Returns a text about the day with its roles: one event, or none."""
        self.entity, self.quantity = "the market", "price"
        pieces = [self._write_background() for _ in range(self.rng.integers(2))]
        if not quiet:
            kind = KINDS[int(self.rng.integers(len(KINDS)))]
            slots = self._make_span()
            if kind == "factor":
                slots |= {"f": (self._pick(("double", "triple", "halve")), "multiply"), "g": ("twice", "multiply")}
            elif kind != "zero":
                slots["v"] = self._write_value(kind)
            pieces += self._arrange(kind, slots)
        pieces += [self._write_distractor() for _ in range(self.rng.integers(2))]
        return self._join(pieces or [self._write_background()])


def run(readers, days: int, held_out: bool, quiet: bool, seed: int, skip: int = 0) -> dict[str, float]:
    """Returns the mean absolute error of each reader over `days` days; the last `skip` days are left alone."""
    frame = load_frame("epf-fr-be").df
    series = frame[frame["unique_id"] == frame["unique_id"].iloc[0]]
    y, times = series["y"].to_numpy(float), pd.DatetimeIndex(series["ds"])
    scale = y.std()
    errors: dict[str, list[float]] = {}
    for day in range(days):
        end = len(y) - STEPS * (skip + day + 1)
        window = Window(y[end - 168 : end], times[end - 168 : end], times[end : end + STEPS], STEPS)
        reading = EventWriter(1000 * seed + day, held_out, window).write_day(quiet)
        written = assemble(reading, window.future_times, window.past_times)
        if quiet == bool(written):
            continue  # an event that the grammar cannot place, such as a weekday on another day
        truth = apply_effects(window, written, y[None, end : end + STEPS])
        base = window.past[None, -STEPS:]
        found = {"none": [], "written": written}
        found |= {name: read_effects(reading.text, window, reader) for name, reader in readers.items()}
        for name, effects in found.items():
            forecast = apply_effects(window, effects, base)
            errors.setdefault(name, []).append(float(np.abs(forecast - truth).mean() / scale))
    return {name: float(np.mean(values)) for name, values in errors.items()} | {"days": float(len(errors["none"]))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reader", default=None, help="folder of a trained reader")
    parser.add_argument("--control", default=None, help="folder of one on random weights")
    parser.add_argument("--days", type=int, default=120)
    parser.add_argument("--skip", type=int, default=0, help="last days left alone, for development")
    parser.add_argument("--seed", type=int, default=7)
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
        errors = run(readers, args.days, held_out, quiet, args.seed, args.skip)
        print(f"{name} ({int(errors.pop('days'))} days)")
        gap = errors["none"] - errors["written"]
        for reader, error in errors.items():
            removed = "" if quiet else f"  removed {100 * (errors['none'] - error) / gap:.0f} %"
            print(f"  {reader:14s} {error:.3f}{removed}")


if __name__ == "__main__":
    main()

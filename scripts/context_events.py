"""Synthetic events on the French electricity price: how much of an event's error does each reader of texts remove?

python scripts/context_events.py --reader runs/context_reader --control runs/context_reader_spectrum

Each test day gets a text with one event inside it (or, on quiet days, with none), and the true prices are changed by
the effects that the text was written from. The base is the seasonal naive forecast; errors are mean absolute errors in
units of the series' deviation. The share removed is (none - reader) / (none - written), where `written` applies the
true effects. For development: other days (`--skip 150`), seed and wordings (`--fold 3`), and a reader trained with
`--fold 3`.
"""

import argparse
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from tsllm.context.applying import Window, apply_effects, clean_history
from tsllm.context.events import KINDS, Event, write_event
from tsllm.context.parser import read_by_rules
from tsllm.context.readers import read_effects, read_in_turn
from tsllm.context.reading import NONE, VALUES, Reading
from tsllm.data.loading import load_frame
from tsllm.forecasting.readers import load_reader

STEPS = 24
# Name, whether words are held out, whether forms of sentences are not, whether nothing is told.
PARTS = (
    ("seen wordings", False, False, False),
    ("new words in seen forms", True, True, False),
    ("new words and forms", True, False, False),
    ("quiet days", True, False, True),
)
EXACT = ("cap", "floor", "set", "zero")
Readers = dict[str, Callable[[str], Reading]]


def write_days(args: argparse.Namespace, held_out: bool, old_forms: bool, quiet: bool) -> tuple[list[Event], float]:
    """Returns the events, and the deviation of the series."""
    frame = load_frame("epf-fr-be").df
    series = frame[frame["unique_id"] == frame["unique_id"].iloc[0]]
    y, times = series["y"].to_numpy(float), pd.DatetimeIndex(series["ds"])
    events = []
    for day in range(args.days):
        end = len(y) - STEPS * (args.skip + day + 1)
        window = Window(y[end - args.history : end], times[end - args.history : end], times[end : end + STEPS], STEPS)
        choices = {"kinds": args.kinds, "fold": args.fold, "old_forms": old_forms}
        event = write_event(window, y[end : end + STEPS], 1000 * args.seed + day, held_out, quiet, **choices)
        if event is not None:
            events.append(event)
    return events, float(y.std())


def measure(event: Event, readers: Readers, scale: float, faulty: bool) -> dict[str, float]:
    """Returns the mean absolute error of each reader on one day, of no text and of the effects as written.

    Args:
        event: A day.
        readers: Name -> reader.
        scale: The unit of the errors.
        faulty: Whether the history is cleaned where a reader finds that it misleads.
    """
    found = {"none": [], "written": event.effects}
    found |= {name: read_effects(event.text, event.window, reader) for name, reader in readers.items()}
    errors = {}
    for name, effects in found.items():
        past = clean_history(event.window, effects) if faulty else event.window.past
        forecast = apply_effects(event.window, effects, past[None, -STEPS:])
        errors[name] = float(np.abs(forecast - event.truth).mean() / scale)
    return errors


def show(name: str, rows: list[dict[str, float]], quiet: bool = False) -> None:
    """Prints the mean errors over some days, and which share of the event's error is gone."""
    if not rows:
        return
    errors = {reader: float(np.mean([row[reader] for row in rows])) for reader in rows[0]}
    gap = errors["none"] - errors["written"]
    told = [
        f"{reader} {error:.3f}" + ("" if quiet else f" ({100 * (errors['none'] - error) / gap:.0f} %)")
        for reader, error in errors.items()
    ]
    print(f"{name} ({len(rows)} days): {', '.join(told)}")


def agree(first: Reading, other: Reading) -> Reading:
    """Returns the first reading, with what moves the forecast only where the other one says the same."""
    roles = [a if a not in VALUES or a == b else NONE for a, b in zip(first.roles, other.roles, strict=True)]
    stated = [a if a == b else NONE for a, b in zip(first.statements, other.statements, strict=True)]
    return Reading(first.text, first.mentions, roles, first.sentences, stated)


def open_readers(reader: str | None, controls: Sequence[str]) -> Readers:
    """Returns the rules, a trained reader alone and with them, and its controls."""
    readers: Readers = {"rules": read_by_rules}
    if reader:
        learned = load_reader(reader).read
        readers |= {"learned": learned, "rules+learned": read_in_turn(read_by_rules, learned)}
        readers |= {"learned+rules": read_in_turn(learned, read_by_rules)}
        readers |= {"agreed": lambda text: agree(learned(text), read_by_rules(text, apart=False))}
    return readers | {f"control {k}": load_reader(folder).read for k, folder in enumerate(controls)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reader", default=None, help="folder of a trained reader")
    parser.add_argument("--control", nargs="*", default=[], help="folders of others, such as one on random weights")
    parser.add_argument("--days", type=int, default=120)
    parser.add_argument("--skip", type=int, default=0, help="last days left alone, for development")
    parser.add_argument("--fold", type=int, default=4, help="fifth of the wordings held out; 3 for development")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--kinds", nargs="+", default=KINDS, help="of events, such as: sum bounds trend")
    parser.add_argument("--history", type=int, default=168, help="hours; `like` needs two weeks, `month` two months")
    args = parser.parse_args()
    readers = open_readers(args.reader, args.control)
    for name, held_out, old_forms, quiet in PARTS:
        events, scale = write_days(args, held_out, old_forms, quiet)
        rows = [measure(event, readers, scale, "fault" in args.kinds) for event in events]
        show(name, rows, quiet)
        if not quiet:
            show(f"  {', '.join(EXACT)}", [row for row, e in zip(rows, events, strict=True) if e.kind in EXACT])
            for kind in sorted({event.kind for event in events}):
                show(f"  {kind}", [row for row, e in zip(rows, events, strict=True) if e.kind == kind])


if __name__ == "__main__":
    main()

"""Events told in other languages than English: a text and the effects that it stands for.

The rules and the lexer read English, so that the effects come from the writer and not from the text.
"""

from typing import Any

import numpy as np
import pandas as pd

from tsllm.context.applying import Window
from tsllm.context.effects import Effect
from tsllm.context.wordings_foreign import TONGUES

_DAY = pd.Timedelta(days=1)
_BOUNDS = ("cap", "floor")


class ForeignWriter:
    """Writes what happens in the horizon of a window.

    Args:
        rng: Of all choices.
        language: One of `TONGUES`.
        window: With a fixed step of at most a day.
    """

    def __init__(self, rng: np.random.Generator, language: str, window: Window) -> None:
        self.rng, self.tongue, self.window = rng, TONGUES[language], window
        self.times = window.future_times
        self.step = self.times[1] - self.times[0]

    def write(self, quiet: bool) -> tuple[str, list[Effect]]:
        """Returns a text and its effects: one, or none."""
        sentences, effects = [], []
        if not quiet:
            kind = self._pick(tuple(self.tongue.effects))
            span, start, end = self._write_span(kind)
            effect, slots = self._draw_effect(kind)
            sentences.append(self._pick(self.tongue.effects[kind]).format(span=span, **slots))
            effects.append(Effect(effect.kind, effect.number, "", start, end))
        if quiet or self.rng.random() < 0.4:
            quiet_slots = {"year": self.rng.integers(1950, 2020), "n": self.rng.integers(2, 90)}
            sentences.insert(
                int(self.rng.integers(len(sentences) + 1)),
                self._pick(self.tongue.quiet).format(p=self._draw_percent()[1], **quiet_slots),
            )
        return " ".join(sentences), effects

    def _draw_effect(self, kind: str) -> tuple[Effect, dict[str, str]]:
        """Returns an effect without a span, and the words for its number."""
        if kind == "zero":
            return Effect("set", 0.0), {}
        if kind in {"raise", "lower"}:
            percent, written = self._draw_percent()
            return Effect("multiply", 1 + (percent if kind == "raise" else -percent) / 100), {"p": written}
        low, high = (0.2, 3.0) if kind == "multiply" else np.quantile(self.window.past, [0.1, 0.9])
        decimals = 1 if kind == "multiply" else int(self.rng.integers(3))
        written = f"{self.rng.uniform(low, high):.{decimals}f}"
        return Effect(kind, float(written)), {"v": written.replace(".", ",")}

    def _draw_percent(self) -> tuple[int, str]:
        number = int(self.rng.integers(1, 100))
        return number, f"{number}{self._pick(self.tongue.percent)}"

    def _write_span(self, kind: str) -> tuple[str, pd.Timestamp | None, pd.Timestamp | None]:
        """Returns when, as it is said, from when and up to when."""
        tongue, rng = self.tongue, self.rng
        if kind in _BOUNDS and rng.random() < 0.4:
            return tongue.always, None, None
        first = int(rng.integers(0, len(self.times) - 4))
        count = int(rng.integers(2, min(13, len(self.times) - first)))
        start = self.times[first]
        end = start + count * self.step
        same = start.normalize() == end.normalize() and self.step < _DAY
        form = self._pick(("hours", "hours", "lasting", "between") if same else ("lasting", "between"))
        if form == "hours":
            words = {"day": self._write_day(start), "a": f"{start:%H:%M}", "b": f"{end:%H:%M}"}
        elif form == "lasting":
            words = {"a": self._write_moment(start), "n": self._write_length(end - start)}
        else:
            until = end - _DAY if self.step == _DAY else end
            words = {"a": self._write_moment(start), "b": self._write_moment(until)}
        return self._pick(getattr(tongue, form)).format(**words), start, end

    def _write_day(self, time: pd.Timestamp) -> str:
        """Writes a date, or a weekday where it is the first of its name in the horizon."""
        soon = time.normalize() - self.times[0].normalize() < 7 * _DAY
        if soon and self.rng.random() < 0.5:
            return self.tongue.weekdays[time.dayofweek]
        return self.tongue.date.format(day=time.day, month=self.tongue.months[time.month - 1], year=time.year)

    def _write_moment(self, time: pd.Timestamp) -> str:
        if self.step == _DAY:
            return self._write_day(time)
        return self.tongue.moment.format(date=self._write_day(time), clock=f"{time:%H:%M}")

    def _write_length(self, length: pd.Timedelta) -> str:
        sizes = (_DAY, pd.Timedelta("1h"), pd.Timedelta("1min"))
        unit, size = next(
            (word, size)
            for word, size in zip(self.tongue.units, sizes, strict=True)
            if length % size == pd.Timedelta(0) and length >= 2 * size
        )
        number = int(length // size)
        word = self.tongue.numbers[number - 2] if number <= 12 and self.rng.random() < 0.5 else str(number)
        return f"{word} {unit}"

    def _pick(self, options: tuple[Any, ...]) -> Any:
        return options[int(self.rng.integers(len(options)))]

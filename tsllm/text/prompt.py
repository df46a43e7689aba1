"""The text around the numbers: what the series is, what is asked, what is known of the future."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tsllm.text.codec import NumberCodec, SeriesScale


@dataclass(frozen=True)
class TextPrompt:
    """Builds the prompt of one window; its completion is the encoded future and nothing else.

    Attributes:
        codec: Writes the numbers.
        domain: One sentence about the data; empty = left out.
        season: Steps of a season, told to the model; 0 = left out.
        before: What a chat template writes before the request.
        after: What it writes after it, up to where the model begins.
    """

    codec: NumberCodec = field(default_factory=NumberCodec)
    domain: str = ""
    season: int = 0
    before: str = ""
    after: str = ""

    def build(
        self,
        history: Sequence[float] | np.ndarray,
        h: int,
        scale: SeriesScale,
        start: str = "",
        future_covariates: Mapping[str, Sequence[float] | np.ndarray] | None = None,
        context: str = "",
        times: Sequence[str] = (),
    ) -> str:
        """Writes the prompt.

        Args:
            history: [L], NaN = missing.
            h: Steps asked for.
            scale: The scale of the series.
            start: The time of the first forecast step, as text; empty = left out.
            future_covariates: Name -> [L + h] values, each written with the scale of its own first L values; only
                the h future ones enter the prompt.
            context: What is known, in the units of the data; how the written numbers relate to these is then told.
            times: Of all [L + h] steps, for prompts that name them; this one names the first to forecast alone.
        """
        del times
        lines = [self.domain] if self.domain else []
        if context:
            lines += [
                f"Known: {context}",
                f"A number n below stands for {scale.offset:.6g} + n * {scale.resolution:.6g}.",
            ]
        task = f"Continue the series by {h} numbers"
        task += f", the first at {start}" if start else ""
        task += f", season {self.season} steps" if self.season else ""
        lines.append(f"{task}.")
        length = len(np.asarray(history))
        for name, values in (future_covariates or {}).items():
            array = np.asarray(values, dtype=np.float64)
            if len(array) != length + h:
                raise ValueError(f"covariate {name!r} has {len(array)} values, expected {length} + {h}")
            lines.append(f"{name}:")
            lines.append(self.codec.encode(array[length:], self.codec.fit(array[:length])))
        lines += ["History:", self.codec.encode(history, scale), "Forecast:"]
        return self.before + "\n".join(lines) + "\n" + self.after

    def build_completion(
        self,
        future: Sequence[float] | np.ndarray,
        scale: SeriesScale,
        history: Sequence[float] | np.ndarray | None = None,
    ) -> str:
        """Writes the standard answer [h]; an end-of-text token is the tokenizer's business.

        Args:
            future: [h].
            scale: The scale of the series.
            history: [L], for answers that speak of it; this one does not.
        """
        del history
        return self.codec.encode(future, scale)

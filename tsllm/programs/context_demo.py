"""The demonstration of a sentence that is read: two small readers trained on the spot, and one picture.

Both have the same head and the same texts; one reads the hidden states of the pretrained language model, the other
those of random weights with the same spectrum. The sentence that they then read is of a wording that neither saw.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch

from tsllm.context.pairs import PairWriter, Piece
from tsllm.context.reader import LearnedReader, ReaderConfig
from tsllm.context.reading import Reading
from tsllm.forecasting.base import Forecaster
from tsllm.forecasting.context import ContextForecaster
from tsllm.forecasting.explanation import Explanation
from tsllm.forecasting.readers import open_encoder
from tsllm.programs.context_reader import ReaderArguments, collect_sentences, encode_sentences, train_head
from tsllm.types import ID, TARGET, TIME

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = ("cap", "floor", "set", "zero", "raise", "lower")
SHOWN = {"pretrained": "A reader on SmolLM2", "spectrum": "The same reader on random weights (same spectrum)"}
_FIRST, _LAST = 8, 20  # steps of the day that the sentence is about


class ShortWriter(PairWriter):
    """Writes short texts: one effect with its span, or a sentence that says nothing."""

    def write(self) -> Reading:
        """Returns one text with its roles."""
        self.entity, self.quantity = "the market", "price"
        draw = self.rng.random()
        pieces: list[Piece] = [self._write_background()] if draw < 0.25 else []
        if draw > 0.15:
            kind = KINDS[int(self.rng.integers(len(KINDS)))]
            pieces += self._arrange(kind, self._make_span() | self._make_values(kind))
        return self._join(pieces)


@dataclass(frozen=True)
class Sentence:
    """A limit on the middle of the forecast's day, in a wording of the part that no reader is trained on.

    Attributes:
        text: What is said.
        limit: Highest value that it allows.
        start: First moment that it is about.
        end: First moment after it.
    """

    text: str
    limit: float
    start: pd.Timestamp
    end: pd.Timestamp


@dataclass(frozen=True)
class Told:
    """What a reader made of a sentence.

    Attributes:
        weights: "pretrained" or "spectrum".
        said: What it was told.
        explained: Text, effects, and the forecast before and after.
        seconds: What training the reader took.
    """

    weights: str
    said: Sentence
    explained: Explanation
    seconds: float


def train_short_reader(
    backbone: str, weights: str, layers: int = 16, texts: int = 600, steps: int = 200, seed: int = 0
) -> LearnedReader:
    """Trains a reader on short texts, within about half a minute of one CPU core."""
    encoder = open_encoder(backbone, weights, layers, seed=seed)
    writer = ShortWriter(seed, wide=True)
    readings = [writer.write() for _ in range(texts)]
    config = ReaderConfig(backbone, weights, layers, hidden_size=encoder.width, fingerprint=encoder.fingerprint)
    torch.manual_seed(seed)
    arguments = ReaderArguments("", max_steps=steps, seed=seed)
    head = train_head(config, [encode_sentences(encoder, collect_sentences(readings))], arguments)
    return LearnedReader(encoder, head)


def write_sentence(before: pd.DataFrame, alias: str) -> Sentence:
    """Returns a limit at three quarters of the highest value that is forecast for the middle of the day."""
    start, end = before[TIME].iloc[_FIRST], before[TIME].iloc[_LAST]
    limit = round(0.75 * float(before[alias].iloc[_FIRST:_LAST].max()))
    span = f"{start:%Y-%m-%d %H:%M} for {_LAST - _FIRST} hours"
    return Sentence(f"Starting at {span}, price must not go above {limit}.", limit, start, end)


def tell_twice(base: Forecaster, df: pd.DataFrame, backbone: str, seed: int = 0) -> list[Told]:
    """Has one sentence about the first series' next day read by both readers.

    Args:
        base: A fitted forecaster of hourly data.
        df: History, long.
        backbone: Name of the language model.
        seed: Of texts and weights.
    """
    series = df[df[ID] == df[ID].iloc[0]]
    before = base.predict(df)
    before = before[before[ID] == series[ID].iloc[0]].reset_index(drop=True)
    said, told = write_sentence(before, base.alias), []
    for weights in SHOWN:
        started = time.perf_counter()
        reader = train_short_reader(backbone, weights, seed=seed)
        seconds = time.perf_counter() - started
        made = ContextForecaster(base, reader.read, check_length=reader.encoder.check_length)
        (explained,) = made.explain_context(df, context={series[ID].iloc[0]: said.text})
        told.append(Told(weights, said, explained, seconds))
    return told


def say_effects(told: Told) -> str:
    """Returns what was understood, in one line."""
    return told.explained.describe().replace("\n", "; ")


def draw_told(df: pd.DataFrame, told: Sequence[Told], path: Path, quantity: str = "price", context: int = 48) -> None:
    """Draws the forecast without and with the sentence, one panel a reader on one scale, into a PNG file.

    Args:
        df: History, long.
        told: What the readers made of the sentence.
        path: The file.
        quantity: What is forecast, and its unit.
        context: Steps of history that are shown.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    plot_told(df, told, quantity, context).savefig(path, dpi=110)


def plot_told(df: pd.DataFrame, told: Sequence[Told], quantity: str, context: int) -> "Figure":
    """Returns the picture of `draw_told`."""
    from matplotlib.dates import ConciseDateFormatter
    from matplotlib.figure import Figure

    figure, said = Figure(figsize=(11, 5), layout="constrained"), told[0].said
    axes = figure.subplots(1, len(told), sharey=True, squeeze=False)[0]
    past = df[df[ID] == told[0].explained.series].tail(context)
    for axis, one in zip(axes, told, strict=True):
        forecast = one.explained.forecast
        axis.axvspan(said.start, said.end, color="0.93", label="time that the sentence is about")
        limit = {"color": "C3", "linestyle": ":", "linewidth": 2, "zorder": 3, "label": "limit that it sets"}
        axis.hlines(said.limit, said.start, said.end, **limit)
        axis.plot(past[TIME], past[TARGET], color="0.35", linewidth=1, label="history")
        axis.plot(forecast[TIME], forecast["before"], color="0.35", linestyle="--", label="forecast without it")
        axis.plot(forecast[TIME], forecast["after"], color="C0", linewidth=2.5, label="forecast with it")
        axis.set_title(f"{SHOWN[one.weights]} understood:\n{say_effects(one)}", fontsize=11, wrap=True)
        axis.xaxis.set_major_formatter(ConciseDateFormatter(axis.xaxis.get_major_locator()))
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel(f"{told[0].explained.series}: {quantity}")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.suptitle(f"Told, in a wording that training never saw: “{said.text}”", fontsize=13)
    return figure

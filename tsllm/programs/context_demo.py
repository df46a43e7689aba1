"""The demonstration of a sentence that is read: two small readers trained on the spot, and one picture.

Both have the same head and the same texts; one reads the hidden states of the pretrained language model, the other
those of random weights with the same spectrum. The sentence that they then read is of a wording that neither saw.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from tsllm.context.pairs import PairWriter, Piece
from tsllm.context.reader import LearnedReader, ReaderConfig
from tsllm.context.reading import Reading
from tsllm.forecasting.base import Forecaster
from tsllm.forecasting.context import ContextForecaster, Explanation
from tsllm.forecasting.readers import open_encoder
from tsllm.programs.context_reader import ReaderArguments, collect_sentences, encode_sentences, train_head
from tsllm.types import ID, TARGET, TIME

KINDS = ("cap", "zero", "raise")
SHOWN = {"pretrained": "SmolLM2 reads", "spectrum": "Random weights of the same spectrum read"}


class ShortWriter(PairWriter):
    """Writes short texts: one limit, standstill or rise with its span, or a sentence that says nothing."""

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
class Told:
    """What a reader made of a sentence.

    Attributes:
        weights: "pretrained" or "spectrum".
        explained: Text, effects, and the forecast before and after.
        seconds: What training the reader took.
    """

    weights: str
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
    sentences = collect_sentences(readings)
    head = train_head(config, encode_sentences(encoder, sentences), sentences, arguments)
    return LearnedReader(encoder, head)


def write_sentence(before: pd.DataFrame, alias: str) -> str:
    """Returns a limit on the middle of the forecast's day, in a wording of the part that no reader is trained on."""
    start = before[TIME].iloc[8]
    limit = 0.75 * float(before[alias].iloc[8:20].max())
    return f"Starting at {start:%Y-%m-%d %H:%M} for 12 hours, price must not go above {limit:.0f}."


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
    text, told = write_sentence(before, base.alias), []
    for weights in SHOWN:
        started = time.perf_counter()
        reader = train_short_reader(backbone, weights, seed=seed)
        seconds = time.perf_counter() - started
        made = ContextForecaster(base, reader.read, check_length=reader.encoder.check_length)
        (explained,) = made.explain_context(df, context={series[ID].iloc[0]: text})
        told.append(Told(weights, explained, seconds))
    return told


def say_effects(told: Told) -> str:
    """Returns what was understood, in one line."""
    return told.explained.describe().replace("\n", "; ")


def draw_told(df: pd.DataFrame, told: list[Told], path: Path, context: int = 48) -> None:
    """Draws the forecast without and with the sentence, one panel a reader, into a PNG file."""
    import textwrap

    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    axes = figure.subplots(1, len(told), sharey=True, squeeze=False)[0]
    series = told[0].explained.series
    past = df[df[ID] == series].tail(context)
    for axis, one in zip(axes, told, strict=True):
        forecast = one.explained.forecast
        axis.plot(past[TIME], past[TARGET], color="0.35", linewidth=1, label="history")
        axis.plot(
            forecast[TIME], forecast["before"], color="0.6", linestyle="--", label="forecast without the sentence"
        )
        axis.plot(forecast[TIME], forecast["after"], color="C0", linewidth=2, label="forecast with it")
        understood = textwrap.fill(say_effects(one), 58)
        axis.set_title(f"{SHOWN[one.weights]}:\n{understood}", fontsize=9)
        axis.tick_params(axis="x", labelrotation=30, labelsize=8)
    axes[0].legend(fontsize=8, loc="upper left")
    axes[0].set_ylabel(str(series))
    figure.suptitle(f"“{told[0].explained.text}”", fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)

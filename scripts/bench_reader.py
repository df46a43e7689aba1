"""Measures a training step of a model that reads covariates and cached texts beside one that does not, in pairs.

python scripts/bench_reader.py --models timellm,patchtst,dlinear

Every round runs one step of each variant on the same windows, in an order drawn afresh, and counts CPU seconds, which
other programs on the machine disturb little. The ratio of a round is what is reported: its median and the interval of
95 % of resampled medians. Texts are encoded beforehand, as in training.
"""

import argparse
import time
from typing import Any

import numpy as np
import pandas as pd
import torch

from tsllm.context.contract import Context
from tsllm.data.prepared import PreparedData, Strides, prepare_data
from tsllm.data.task import Asked, build_task, load_data
from tsllm.forecasting.texts import ToldWindows, open_text_encoder
from tsllm.models.base import ForecastModel
from tsllm.training.build import build_for_data
from tsllm.types import ID, TIME

BACKBONE = "smollm2-135m"
PLAIN, COVARIATES, TEXTS, BOTH = "plain", "covariates", "texts", "covariates and texts"
TIMELLM = {"backbone": BACKBONE, "patch_length": 24, "patch_stride": 24, "prompt_statistics": "none"}
TIMELLM_READERS = {
    PLAIN: {},
    COVARIATES: {"reader": "horizon"},
    TEXTS: {"reader": "horizon", "text_layers": 8},
    BOTH: {"reader": "horizon", "text_layers": 8},
}
NATIVE_READERS = {PLAIN: {}, TEXTS: {"text_layers": 8, "text_backbone": BACKBONE}}
KINDS = ("capped at {} EUR", "at the floor", "at the cap", "reduced by {} %", "as on a Sunday", "not quoted")


def write_texts(df: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Returns one sentence a series and day, published the day before."""
    rng, rows = np.random.default_rng(seed), []
    for name, group in df.groupby(ID, sort=False):
        for day in group[TIME].dt.normalize().unique():
            low, high = np.sort(rng.choice(25, 2, replace=False))
            kind = KINDS[rng.integers(len(KINDS))].format(rng.integers(10, 90))
            text = f"Tomorrow from {low:02d}:00 to {high:02d}:00 the price will be {kind}."
            rows.append((name, text, day - pd.Timedelta("12h"), day, day + pd.Timedelta("1D")))
    return pd.DataFrame(rows, columns=["unique_id", "text", "published", "start", "end"])


def prepare(covariates: bool) -> PreparedData:
    """Returns the prices of France and Belgium, 168 -> 24 hours."""
    asked = Asked(context_length=168, covariates=None if covariates else [], past_covariates=[])
    loaded = load_data("epf-fr-be", asked)
    return prepare_data(loaded, build_task(loaded, asked), strides=Strides(validation=24, test=24))


class Variant:
    """A model, its optimiser and its windows.

    Args:
        model: Its name.
        reads: What it reads, a key of `TIMELLM_READERS`.
        options: Its options.
    """

    def __init__(self, model: str, reads: str, options: dict[str, Any]) -> None:
        data = prepare(reads in (COVARIATES, BOTH))
        torch.manual_seed(0)
        self.model: ForecastModel = build_for_data(model, {"head": "quantile"} | options, data).train()
        self.windows = data.train
        self.encoding, self.texts = 0.0, 0
        if reads in (TEXTS, BOTH):
            table = write_texts(data.loaded.df, seed=0)
            encoder = open_text_encoder(self.model.config)
            began = time.process_time()
            told, lens = Context.read(table, data.loaded.df), self.model.text_reader.lens
            self.windows.further = ToldWindows(self.windows, told, encoder, lens, learns=True)
            self.encoding, self.texts = time.process_time() - began, table["text"].nunique()
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-3, fused=True)  # what the recipes train with

    def step(self, indices: torch.Tensor) -> float:
        """Trains one step on windows [B]; returns CPU seconds, gathering included."""
        began = time.process_time()
        batch = self.windows.gather(indices)
        self.model(**{key: value for key, value in batch.items() if key in self.model.input_keys()}).loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return time.process_time() - began


def measure(model: str, layers: int, batch: int, rounds: int) -> None:
    """Measures the variants of a model and prints what they cost.

    Args:
        model: Its name.
        layers: Of the backbone that read the patches, in Time-LLM.
        batch: Windows a step.
        rounds: Pairs that count.
    """
    given = TIMELLM | {"num_backbone_layers": layers} if model == "timellm" else {}
    readers = TIMELLM_READERS if model == "timellm" else NATIVE_READERS
    variants = {reads: Variant(model, reads, given | own) for reads, own in readers.items()}
    rng, seconds = np.random.default_rng(0), {reads: [] for reads in variants}
    for k in range(rounds + 3):
        indices = torch.from_numpy(rng.integers(len(variants[PLAIN].windows), size=batch))
        for reads in rng.permutation(list(variants)):
            taken = variants[reads].step(indices)
            if k >= 3:  # the first steps warm up
                seconds[reads].append(taken)
    read_by = f", {layers} layers" if model == "timellm" else ""
    print(f"{model}{read_by}, {batch} windows of 2 series, {rounds} rounds, one thread")
    for reads, taken in seconds.items():
        ratios = np.array(taken) / np.array(seconds[PLAIN])
        drawn = np.median(rng.choice(ratios, (2000, len(ratios))), axis=1)
        low, high = np.quantile(drawn, [0.025, 0.975])
        variant = variants[reads]
        trained = sum(p.numel() for p in variant.model.parameters() if p.requires_grad)
        told = f", {variant.texts} texts encoded before in {variant.encoding:.0f} s" if variant.texts else ""
        print(
            f"  {reads}: {1000 * np.median(taken):.0f} ms a step, {np.median(ratios):.2f} x plain ({low:.2f} to "
            f"{high:.2f}), {trained / 1e6:.2f} M trained weights{told}",
            flush=True,
        )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="timellm", help="names, such as timellm,patchtst,dlinear")
    parser.add_argument("--layers", type=int, default=2, help="layers of the backbone that read the patches")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for model in options.models.split(","):
        measure(model, options.layers, options.batch, options.rounds)


if __name__ == "__main__":
    main()

"""One run of text fine-tuning: data, starting point, training, test, files."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tsllm import metrics
from tsllm.backbones.pretrained import SMOLLM2
from tsllm.data.facts import DataRead, read_series
from tsllm.data.frequency import Freq
from tsllm.data.loading import LoadedData
from tsllm.data.prepared import find_cutoffs
from tsllm.data.splits import Splits, split_frame
from tsllm.data.task import Asked, ForecastTask, build_task, load_data
from tsllm.forecasting.base import count_torch_parameters
from tsllm.forecasting.naive import SeasonalNaive
from tsllm.forecasting.text import TextForecaster
from tsllm.hub.artefacts import describe_environment
from tsllm.hub.package import TEXT_ARTEFACTS
from tsllm.hub.record import write_history, write_metrics
from tsllm.hub.text_card import write_text_card
from tsllm.paired import LEAST_WINDOWS, diebold_mariano
from tsllm.programs.artefacts import writing
from tsllm.programs.text_start import check_start
from tsllm.text.generate import SamplingOptions
from tsllm.text.loading import fetch_folder, load_language_model, read_base_model
from tsllm.training.args import ArgumentsError, DataArguments
from tsllm.training.text.data import TextWindows
from tsllm.training.text.supervised import (
    TextModelArguments,
    TextTrainingArguments,
    choose_windows,
    save_adapter,
    train_text,
)
from tsllm.types import ID, TARGET, TIME

logger = logging.getLogger(__name__)

LEVEL = 80.0
EXAMPLE_FILE = "forecast.csv"
TEXT_OWNED = (*TEXT_ARTEFACTS, EXAMPLE_FILE, "windows_*.csv")


@dataclass
class TextScores:
    """How a text forecaster did on the test windows.

    Attributes:
        summary: `mae`, `mse`, `crps`, `coverage_80` in the series' units (coverage in 0..1), counts, seconds.
        windows: One row a window: `unique_id, cutoff`, the scores, `readable` (completions that count).
        example: The last window of each series, history and horizon: `unique_id, ds, y`, whether `ahead`, and there
            `forecast`, `lo`, `hi` (median and 80 % band; NaN = unreadable).
    """

    summary: dict[str, Any]
    windows: pd.DataFrame
    example: pd.DataFrame


@dataclass
class TextProgram:
    """What fine-tuning and reward optimisation of text share: data, forecaster, tests before and after, files.

    Attributes:
        loaded: Frame and source.
        splits: Its parts.
        forecaster: The forecaster whose prompts are trained on and tested with.
        windows: How the training part is cut and written.
        test_windows: Origins of each series that are tested; 0 = none, here or in this process.
        season: Steps in the main season, by the task.
        results: Name ("start", "test") -> scores.
    """

    loaded: LoadedData
    splits: Splits
    forecaster: TextForecaster
    windows: TextWindows
    test_windows: int
    season: int
    results: dict[str, TextScores] = field(default_factory=dict)

    def take_over(self, trainer: Any, folder: Path) -> None:
        """Lets the forecaster use what was trained and saved in a folder."""
        self.forecaster.model = trainer.accelerator.unwrap_model(trainer.model).eval()
        if trainer.is_fsdp_enabled and trainer.is_world_process_zero():
            # The first process forecasts alone, for which a sharded model is of no use.
            self.forecaster.model = load_language_model(str(folder), device=trainer.args.device)[0]

    def test(self, name: str) -> None:
        """Tests the forecaster as it is now, if anything is tested."""
        if not self.test_windows:
            return
        self.results[name] = evaluate_text(self.forecaster, self.splits.test, self.test_windows)
        logger.warning("%s: %s", name, self.results[name].summary)

    def describe(self, trainer: Any, model_args: TextModelArguments, seconds: float) -> dict[str, Any]:
        """Returns what `metrics.json` holds of every text run."""
        args, context, h = trainer.args, self.forecaster.context_length, self.forecaster.h
        tested = self.results.get("test")
        naive = None
        if tested:
            naive = score_naive(self.splits.test, context, h, self.test_windows, self.loaded.freq, self.season)
        return {name: scores.summary for name, scores in self.results.items()} | {
            "seasonal_naive": naive,
            "scaled": False,
            "windows": tested.summary["windows"] if tested else 0,
            "seconds": round(seconds, 3),
            "steps": trainer.state.global_step,
            "learning_rate": args.learning_rate,
            "processes": args.world_size,
            "seed": args.seed,
            "comparison": compare_windows(self.results) if len(self.results) == 2 else None,
            "language_model": model_args.language_model,
            "dataset": self.loaded.name,
            "data": self.describe_data().summarise(),
            "context_length": context,
            "prediction_length": h,
            "parameters": dict(zip(("trainable", "total"), count_torch_parameters(trainer.model), strict=True)),
            "environment": describe_environment(),
        }

    def describe_data(self) -> DataRead:
        """Returns what training reads: the training part. The validation part of the split is not used."""
        source, borders = self.loaded.source, self.splits.borders
        return DataRead(
            name=self.loaded.name,
            series=read_series(self.loaded.df, {name: b.train for name, b in borders.items()}),
            licence=source.licence if source else "",
            origin=source.origin if source else "",
            domain=source.domain if source else "",
            cutoffs=find_cutoffs(self.loaded.df, borders),
        )

    def write(self, trainer: Any, content: dict[str, Any], folder: Path, recipe: str) -> None:
        """Writes all files but the adapter, in the first process."""
        if not trainer.is_world_process_zero():
            return
        self.forecaster.facts = self.forecaster.facts.extend(self.describe_data())
        self.forecaster.save(folder)
        write_results(folder, content, self.results)
        write_history(folder, trainer.state.log_history)
        write_text_card(folder, recipe=recipe)


def prepare_text(
    model_args: TextModelArguments,
    data_args: DataArguments,
    args: Any,
    check: Callable[[TextProgram], Any] | None = None,
) -> TextProgram:
    """Loads data and model; tests the starting point if `args.test_windows` and `args.evaluate_start` ask for it.

    What `check` refuses is told before that test.

    Raises:
        ArgumentsError: If the adapter to go on from writes effects.
    """
    check_start(model_args.adapter, "numbers")
    asked = read_asked(model_args, data_args)
    loaded = load_data(data_args.dataset, asked, data_path=data_args.data_path, targets=data_args.targets)
    task = build_task(loaded, asked)
    covariates, context, horizon = list(task.covariates), task.context_length, task.h
    splits = split_frame(loaded.df, task.split, context)
    if model_args.language_model is None:
        adapter = model_args.adapter
        model_args.language_model = read_base_model(fetch_folder(adapter)).name if adapter else SMOLLM2
    model, tokenizer = load_language_model(
        model_args.language_model,
        adapter=model_args.adapter,
        revision=model_args.revision,
        device=args.device,
        load_in_4bit=model_args.load_in_4bit,
    )
    forecaster = build_forecaster(model, tokenizer, model_args, loaded, task)
    windows = TextWindows(forecaster.prompt, context, horizon, data_args.train_stride, tuple(covariates))
    tested = args.test_windows if args.should_save else 0
    program = TextProgram(loaded, splits, forecaster, windows, tested, task.season)
    if check is not None:
        check(program)
    if args.evaluate_start:
        program.test("start")
    return program


def read_asked(model_args: TextModelArguments, data_args: DataArguments) -> Asked:
    """Returns what is asked of the data: no covariates unless named, and the season that is told, if one is.

    Raises:
        ArgumentsError: If another scale of the target is asked for.
    """
    data_args.refuse_scale("a language model writes the values as they are")
    asked = data_args.asked()
    season = model_args.season or asked.season
    return replace(asked, covariates=asked.covariates or (), past_covariates=(), season=season)


def run_text(
    model_args: TextModelArguments, data_args: DataArguments, args: TextTrainingArguments, recipe: str = "sft_text"
) -> dict[str, Any]:
    """Fine-tunes, tests before and after on the same windows, and writes the artefacts.

    Returns:
        The content of `metrics.json`.
    """
    if model_args.writes == "effects":
        from tsllm.context.gain import EffectsGain
        from tsllm.programs.text_effects import run_effects

        refuse_choices(args)
        return run_effects(model_args, data_args, args, EffectsGain())
    program = prepare_text(model_args, data_args, args)
    forecaster = program.forecaster
    model, tokenizer = forecaster.model, forecaster.tokenizer
    dataset, facts = choose_windows(program.splits.train, program.windows, args, model, tokenizer)
    logger.warning("training windows: %s", facts)
    began = time.monotonic()
    trainer = train_text(model, tokenizer, dataset, model_args, args)
    seconds = time.monotonic() - began
    with writing(trainer, TEXT_OWNED) as folder:
        save_adapter(trainer, tokenizer, folder)
        program.take_over(trainer, folder)
        program.test("test")
        content = program.describe(trainer, model_args, seconds) | {
            "global_batch_size": args.per_device_train_batch_size * args.world_size * args.gradient_accumulation_steps,
            "training": facts,
            "loss": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        }
        program.write(trainer, content, folder, recipe)
    return content


def refuse_choices(args: TextTrainingArguments) -> None:
    """Refuses settings that are about windows of numbers where effects are written.

    Raises:
        ArgumentsError: Naming the setting.
    """
    if args.focus != "all" or args.streaming:
        raise ArgumentsError(
            "events are written in memory, all of them; with writes: effects, leave focus and streaming out"
        )


def write_results(folder: Path, content: dict[str, Any], results: dict[str, TextScores]) -> None:
    """Writes `metrics.json`, the scores of each window and the windows that a model card shows."""
    write_metrics(folder, content)
    for name, result in results.items():
        result.windows.to_csv(folder / f"windows_{name}.csv", index=False)
    if "test" in results:
        results["test"].example.to_csv(folder / EXAMPLE_FILE, index=False)


def build_forecaster(
    model: Any, tokenizer: Any, args: TextModelArguments, loaded: LoadedData, task: ForecastTask
) -> TextForecaster:
    """Builds the forecaster whose prompts are trained on and tested with; a season of 0 or 1 is not spoken of."""
    source = loaded.source
    domain = args.domain if args.domain is not None else (f"Data: {source.domain}." if source else "")
    season = 0 if args.season == 0 or task.season == 1 else task.season
    return TextForecaster(
        model,
        tokenizer,
        h=task.h,
        context_length=task.context_length,
        freq=task.freq,
        digits=args.digits,
        domain=domain,
        season=season,
        thought_words=args.thought_words,
        covariates=list(task.covariates),
        num_samples=args.num_samples,
        options=SamplingOptions(temperature=args.temperature, constrained=args.constrained),
    )


def evaluate_text(forecaster: TextForecaster, test: pd.DataFrame, num_windows: int) -> TextScores:
    """Tests on the last `num_windows` origins of each series, a horizon apart, each window as a series of its own.

    A window is scored by its readable completions; it has no score only if there is none.

    Raises:
        ValueError: If the test part is too short for so many windows.
    """
    began = time.monotonic()
    histories, futures = cut_windows(test, forecaster.context_length, forecaster.h, num_windows)
    known = futures.drop(columns=[TARGET]) if forecaster.covariates else None
    samples = forecaster.sample(histories, known)
    truth = dict(iter(futures.groupby(ID, sort=False)[TARGET]))
    rows, parts, examples = [], [], {}
    for name, paths in samples.items():
        y = truth[name].to_numpy()
        read = paths[np.isfinite(paths).all(axis=1)]  # [readable, h]
        paths = read if len(read) else paths
        median = np.median(paths, axis=0)
        lo, hi = np.quantile(paths, [0.5 - LEVEL / 200, 0.5 + LEVEL / 200], axis=0)
        scores = {
            "mae": metrics.mae(y, median),
            "mse": metrics.mse(y, median),
            "crps": metrics.crps_samples(y, paths.T),
            f"coverage_{LEVEL:g}": metrics.coverage(y, lo, hi),
        }
        series, _, cutoff = str(name).rpartition("@")
        rows.append(
            {ID: series, "cutoff": cutoff} | {k: float(v) for k, v in scores.items()} | {"readable": len(read)}
        )
        parts.append(scores)
        examples[series] = (name, {"forecast": median, "lo": lo, "hi": hi})  # the last one of each series stays
    frame = pd.DataFrame(rows)
    readable = frame.dropna(subset=["mae"])
    summary: dict[str, Any] = {k: float(readable[k].mean()) for k in parts[0]} if len(readable) else {}
    summary |= {
        "windows": len(frame),
        "unreadable_windows": len(frame) - len(readable),
        "samples": forecaster.report.num_samples,
        "parse_failures": dict(forecaster.report.failures),
        "seconds": round(time.monotonic() - began, 3),
    }
    example = [_join_window(histories, futures, name, found) for name, found in examples.values()]
    return TextScores(summary, frame, pd.concat(example, ignore_index=True))


def _join_window(
    histories: pd.DataFrame, futures: pd.DataFrame, name: Any, found: dict[str, np.ndarray]
) -> pd.DataFrame:
    columns = [ID, TIME, TARGET]
    past = histories.loc[histories[ID] == name, columns].assign(ahead=False)
    ahead = futures.loc[futures[ID] == name, columns].assign(ahead=True, **found)
    return pd.concat([past, ahead]).assign(**{ID: str(name).rpartition("@")[0]})


def score_naive(
    test: pd.DataFrame, context_length: int, h: int, num_windows: int, freq: Freq, season: int
) -> dict[str, float]:
    """Scores the seasonal naive on the windows of `evaluate_text`: `mae` and `mse`, in the series' units."""
    histories, futures = cut_windows(test, context_length, h, num_windows)
    forecast = SeasonalNaive(min(season, context_length), freq=freq).predict(histories, h=h)
    joined = futures.merge(forecast, on=[ID, TIME])
    scores = [
        [float(score(y, naive)) for score in (metrics.mae, metrics.mse)]
        for y, naive in (own[[TARGET, "SeasonalNaive"]].to_numpy().T for _, own in joined.groupby(ID, sort=False))
    ]
    mae, mse = np.mean(scores, axis=0)
    return {"mae": float(mae), "mse": float(mse)}


def cut_windows(
    test: pd.DataFrame, context_length: int, h: int, num_windows: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cuts the last `num_windows` windows of each series, `h` apart; each becomes a series `name@cutoff`.

    Returns:
        Histories and futures, long frames in the same order of series.
    """
    histories, futures = [], []
    for series, group in test.groupby(ID, sort=False):
        needed = context_length + num_windows * h
        if len(group) < needed:
            raise ValueError(
                f"series {series!r} has {len(group)} steps for the test, but {num_windows} windows need {needed} "
                f"(context_length {context_length} + {num_windows} x {h}); lower test_windows"
            )
        for k in range(num_windows, 0, -1):
            cut = len(group) - k * h
            name = f"{series}@{group[TIME].iloc[cut - 1]}"
            histories.append(group.iloc[cut - context_length : cut].assign(**{ID: name}))
            futures.append(group.iloc[cut : cut + h].assign(**{ID: name}))
    return pd.concat(histories, ignore_index=True), pd.concat(futures, ignore_index=True)


def compare_windows(results: dict[str, TextScores]) -> dict[str, Any]:
    """Compares start and end on the windows that both read: mean gain and a two-sided test, for MAE and CRPS.

    Series share what happened on a day, so gains are averaged over the series at each cutoff, and
    `tsllm.paired.diebold_mariano` tests over cutoffs, with the correlation of neighbouring ones.

    Returns:
        `windows`, `cutoffs`; for each score `gain` (positive = the end is better) and `p_value`, None where there are
        fewer cutoffs than a test can tell anything by.
    """
    joined = results["start"].windows.merge(results["test"].windows, on=[ID, "cutoff"], suffixes=("_start", "_test"))
    columns = [f"{name}_{when}" for name in ("mae", "crps") for when in ("start", "test")]
    # Windows come in the order of time, which the text of a cutoff does not have.
    joined["number"] = pd.factorize(joined["cutoff"])[0]
    by_cutoff = joined.dropna(subset=columns).groupby("number")[columns]
    means = by_cutoff.mean()
    found: dict[str, Any] = {"windows": int(by_cutoff.size().sum()), "cutoffs": len(means)}
    for name in ("mae", "crps"):
        start, end = means[f"{name}_start"].to_numpy(), means[f"{name}_test"].to_numpy()
        p_value = diebold_mariano(start, end).p_value if len(means) >= LEAST_WINDOWS else None
        found[name] = {"gain": float((start - end).mean()) if len(means) else None, "p_value": p_value}
    return found

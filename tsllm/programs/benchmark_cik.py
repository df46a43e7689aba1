"""Runs Context is Key: forecasts, scores, controls and tables in one folder."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tsllm.context.applying import Window, draw_with_effects
from tsllm.context.effects import write_effects
from tsllm.context.parser import read_by_rules
from tsllm.context.rcrps import average, compute_rcrps
from tsllm.context.readers import EffectSpeaker, ProseReader, read_effects, read_in_turn
from tsllm.data.cik import CikInstance, load_cik
from tsllm.forecasting.model_spec import ModelSpec
from tsllm.forecasting.readers import open_reader
from tsllm.hub.record import write_metrics
from tsllm.programs.cik_base import CikBase
from tsllm.programs.cik_table import (
    compare_arms,
    describe_refused,
    write_differences,
    write_families,
    write_table,
    write_tasks,
)

logger = logging.getLogger(__name__)

ARMS = ("none", "data", "rules", "learned", "rules+learned", "learned+rules", "model", "swapped", "spectrum")
_ALL = 355  # instances of the published file
Tell = Callable[[str], None]


@dataclass
class _Outcome:
    """What one arm made of the instances: key -> paths [S, H], effects, score, or the reason why there is none."""

    paths: dict[str, np.ndarray] = field(default_factory=dict)
    effects: dict[str, str] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0  # an instance


def run_cik(
    file: str | Path,
    output_dir: str | Path,
    *,
    model: str | Path | Mapping[str, Any] | ModelSpec | None = None,
    arms: Sequence[str] | None = None,
    reader: str | Path | None = None,
    control: str | Path | None = None,
    samples: int = 100,
    seed: int = 0,
    tell: Tell | None = None,
) -> dict[str, float]:
    """Forecasts every instance of a file with each arm and scores it; the first arm is the one that counts.

    Writes `forecasts.npz` (key `NAME/SEED` -> samples [S, H], of the first arm), `forecasts-ARM.npz` for each other
    arm, `scores.csv`, `effects.txt` (what the first arm understood), `report.md` and `metrics.json`.

    An instance that the model or a reader cannot take (a history too short for its season, a text too long) is left
    out of all figures, which are then over the instances that every arm could forecast; how many, and why, is told,
    in the report and in `metrics.json`.

    Args:
        file: The benchmark's lines.
        output_dir: Where the results go.
        model: The base that texts are applied to, or that reads them itself: a name, an entry as in a comparison
            (`{"model": "text", "options": {"language_model": ...}}`) or a saved folder; None = the pool of
            `tsllm.context.blind`.
        arms: Of `none` (no text), `data` (tables and statistics only, no prose), `rules` (prose by regular
            expressions), `learned` (prose by a trained reader), `rules+learned` and `learned+rules` (sentence by
            sentence the first that finds something), `model` (the model reads the text itself), `swapped` (the first
            arm with the text of another instance of the same task), `spectrum` (the learned arm with a reader trained
            on random weights). None = model, none, swapped for a model that reads texts itself, else rules, none,
            data, swapped.
        reader: Folder of the trained reader, a head or a language model that says effects.
        control: Folder of the reader trained on random weights.
        samples: Paths an instance.
        seed: Of the draws.
        tell: Is told the progress.

    Returns:
        Arm -> RCRPS.

    Raises:
        ValueError: If an arm is unknown or lacks its reader, its model or a text to swap, no instance can be forecast
            by all arms, or there are fewer than two samples.
    """
    if samples < 2:
        raise ValueError(f"--samples is {samples}; the score compares the paths of a forecast, so give at least 2")
    instances = load_cik(file)
    start = time.perf_counter()
    base = None if model is None else CikBase(str(model) if isinstance(model, Path) else model, seed)
    arms = list(arms or (("model", "none", "swapped") if base and base.reads_texts else _USUAL))
    if "swapped" in arms and len(instances) == 1:
        raise ValueError(
            f"the arm `swapped` needs another text, and {file} holds one instance: name the arms without it, such as "
            "--arms rules,none"
        )
    readers = _open_readers(arms, reader, control, base)
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    outcomes = {}
    for arm in arms:
        reading = arms[0] if arm == "swapped" else arm
        texts = _swap(instances) if arm == "swapped" else {i.key: i.text for i in instances}
        outcomes[arm] = _run_arm(_Arm(reading, readers[reading], base, samples, seed), instances, texts)
        _save_paths(folder, arm, arms[0], outcomes[arm])
        if tell is not None:
            tell(_describe_arm(arm, outcomes[arm], instances))
    return _write_results(folder, instances, outcomes, base, samples, seed, start)


_USUAL = ("rules", "none", "data", "swapped")


def _open_readers(
    arms: Sequence[str], reader: str | Path | None, control: str | Path | None, base: CikBase | None
) -> dict[str, ProseReader | None]:
    unknown = [arm for arm in arms if arm not in ARMS]
    if unknown or arms[0] == "swapped":
        raise ValueError(f"arms are {list(arms)}; choose among {', '.join(ARMS)}, the one that counts first")
    if "model" in arms and (base is None or not base.reads_texts):
        name = "there is none" if base is None else f"{base.spec.name} reads none"
        raise ValueError(f"the arm `model` needs a model that reads texts itself, and {name}: give --model text")
    if reader is None and any("learned" in arm for arm in arms):
        raise ValueError(
            "the arm `learned` needs a trained reader: give --reader FOLDER (recipes/train_context_reader.py)"
        )
    if control is None and "spectrum" in arms:
        raise ValueError("the arm `spectrum` needs its own reader: give --control FOLDER (smollm2_spectrum.yaml)")
    prose: dict[str, ProseReader | None] = {"none": None, "data": None, "rules": read_by_rules, "model": None}
    if reader is not None:
        learned = prose["learned"] = open_reader(reader).read
        both = [arm for arm in arms if arm in ("rules+learned", "learned+rules")]
        if isinstance(learned, EffectSpeaker):
            if both:
                raise ValueError(
                    f"{reader} says effects of whole texts, so that {both[0]} cannot take turns sentence by sentence; "
                    "take the arms rules and learned"
                )
        else:
            prose |= {"rules+learned": read_in_turn(read_by_rules, learned)}
            prose |= {"learned+rules": read_in_turn(learned, read_by_rules)}
    if control is not None:
        prose["spectrum"] = open_reader(control).read
    return prose


@dataclass(frozen=True)
class _Arm:
    """One way of forecasting an instance."""

    name: str
    prose: ProseReader | None
    base: CikBase | None
    samples: int
    seed: int

    def forecast(self, instance: CikInstance, text: str) -> tuple[np.ndarray, str]:
        """Draws paths [S, H], and says what was understood; truth and scoring are never looked at."""
        past, base = instance.past.to_numpy(), self.base
        if base is not None and self.name == "model":
            return base.draw(instance, past, self.samples, text), "(the model reads the text itself)"
        window = Window(past, pd.DatetimeIndex(instance.past.index), instance.future, instance.season)
        effects = [] if self.name == "none" else read_effects(text, window, self.prose)
        draw = None if base is None else lambda cleaned, n: base.draw(instance, cleaned, n)
        return draw_with_effects(window, effects, self.samples, self.seed, draw), write_effects(effects)


def _run_arm(arm: _Arm, instances: Sequence[CikInstance], texts: Mapping[str, str]) -> _Outcome:
    made, begun = _Outcome(), time.perf_counter()
    for instance in instances:
        key = instance.key
        try:
            paths, said = arm.forecast(instance, texts[key])
            made.scores[key] = compute_rcrps(paths, instance.scoring)
        except Exception as error:
            made.refused[key] = str(error) or type(error).__name__
            logger.warning("%s: %s is left out: %s", arm.name, key, made.refused[key])
            continue
        made.paths[key], made.effects[key] = paths, said
    made.seconds = (time.perf_counter() - begun) / len(instances)
    return made


def _describe_arm(arm: str, made: _Outcome, instances: Sequence[CikInstance]) -> str:
    if not made.scores:
        return f"{arm}: no instance could be forecast"
    left = f", {len(made.refused)} of {len(instances)} instances left out" if made.refused else ""
    figure = average(made.scores, {i.key: i.scoring.weight for i in instances})
    return f"{arm}: RCRPS {figure:.4f}, {made.seconds:.2f} s an instance{left}"


def _save_paths(folder: Path, arm: str, main: str, made: _Outcome) -> None:
    name = "forecasts.npz" if arm == main else f"forecasts-{arm}.npz"
    np.savez_compressed(folder / name, **made.paths)  # type: ignore[arg-type]
    if arm == main:
        listed = "\n\n".join(f"# {key}\n{text}" for key, text in made.effects.items())
        (folder / "effects.txt").write_text(listed + "\n", encoding="utf-8")


def _write_results(
    folder: Path,
    instances: Sequence[CikInstance],
    outcomes: Mapping[str, _Outcome],
    base: CikBase | None,
    samples: int,
    seed: int,
    start: float,
) -> dict[str, float]:
    """Scores the instances that every arm could forecast, and writes tables and figures."""
    refused: dict[str, dict[str, str]] = {arm: made.refused for arm, made in outcomes.items() if made.refused}
    kept = [i.key for i in instances if not any(i.key in left for left in refused.values())]
    if not kept:
        arm, left = next(iter(refused.items()))
        raise ValueError(f"no instance could be forecast by all arms; {arm}, {next(iter(left.items()))}")
    weights = {i.key: i.scoring.weight for i in instances}
    scores = {arm: {key: made.scores[key] for key in kept} for arm, made in outcomes.items()}
    seconds = {arm: made.seconds for arm, made in outcomes.items()}
    figures = {arm: average(values, weights) for arm, values in scores.items()}
    pd.DataFrame(scores).rename_axis("instance").to_csv(folder / "scores.csv")
    against = compare_arms(scores, weights, next(iter(scores)))
    unreadable = {} if base is None else base.unreadable
    parts = [
        write_table(scores, weights, seconds, len(kept) == _ALL),
        *describe_refused(refused, len(instances), len(kept), unreadable),
        write_differences(next(iter(scores)), against),
        write_families(scores, weights),
        write_tasks(scores),
    ]
    title = f"# Context is Key{'' if base is None else f': {base.spec.name}'}\n\n"
    (folder / "report.md").write_text(title + "\n\n".join(parts) + "\n", encoding="utf-8")
    write_metrics(
        folder,
        {"model": None if base is None else base.spec.name, "rcrps": figures, "instances": len(instances),
         "scored": len(kept), "refused": refused, "unreadable": unreadable, "compared": next(iter(scores)),
         "against": against, "samples": samples, "seed": seed, "seconds": time.perf_counter() - start,
         "seconds_an_instance": seconds},
    )  # fmt: skip
    return figures


def _swap(instances: Sequence[CikInstance]) -> Mapping[str, str]:
    """Gives each instance the text of the next one of its task (of the next task if it is alone)."""
    tasks: dict[str, list[CikInstance]] = {}
    for instance in instances:
        tasks.setdefault(instance.name, []).append(instance)
    swapped = {}
    for k, instance in enumerate(instances):
        same = tasks[instance.name]
        other = same[(same.index(instance) + 1) % len(same)] if len(same) > 1 else instances[(k + 1) % len(instances)]
        swapped[instance.key] = other.text
    return swapped

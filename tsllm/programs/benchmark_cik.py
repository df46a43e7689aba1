"""Runs Context is Key: forecasts, scores, controls and tables in one folder."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tsllm.context.applying import Window, draw_with_effects
from tsllm.context.effects import write_effects
from tsllm.context.parser import read_by_rules
from tsllm.context.rcrps import average, compute_rcrps
from tsllm.context.readers import ProseReader, read_effects, read_in_turn
from tsllm.data.cik import CikInstance, load_cik
from tsllm.forecasting.readers import load_reader
from tsllm.hub.record import write_metrics
from tsllm.programs.cik_table import write_differences, write_table, write_tasks

ARMS = ("none", "data", "rules", "learned", "rules+learned", "learned+rules", "swapped", "spectrum")
_ALL = 355  # instances of the published file
Tell = Callable[[str], None]


def run_cik(
    file: str | Path,
    output_dir: str | Path,
    *,
    arms: Sequence[str] = ("rules", "none", "data", "swapped"),
    reader: str | Path | None = None,
    control: str | Path | None = None,
    samples: int = 100,
    seed: int = 0,
    tell: Tell | None = None,
) -> dict[str, float]:
    """Forecasts every instance of a file with each arm and scores it; the first arm is the one that counts.

    Writes `forecasts.npz` (key `NAME/SEED` -> samples [S, H], of the first arm), `scores.csv`, `effects.txt` (what the
    first arm understood), `report.md` and `metrics.json`.

    Args:
        file: The benchmark's lines.
        output_dir: Where the results go.
        arms: Of `none` (no text), `data` (tables and statistics only, no prose), `rules` (prose by regular
            expressions), `learned` (prose by a trained reader), `rules+learned` and `learned+rules` (sentence by
            sentence the first that finds something), `swapped` (the first arm with the text of another instance of the
            same task), `spectrum` (the learned arm with a reader trained on random weights).
        reader: Folder of the trained reader.
        control: Folder of the reader trained on random weights.
        samples: Paths an instance.
        seed: Of the draws.
        tell: Is told the progress.

    Returns:
        Arm -> RCRPS.

    Raises:
        ValueError: If an arm is unknown or lacks its reader, or there are fewer than two samples.
    """
    if samples < 2:
        raise ValueError(f"--samples is {samples}; the score compares the paths of a forecast, so give at least 2")
    instances = load_cik(file)
    start = time.perf_counter()
    readers = _open_readers(arms, reader, control)
    weights = {i.key: i.scoring.weight for i in instances}
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    scores: dict[str, dict[str, float]] = {}
    seconds: dict[str, float] = {}
    for arm in arms:
        begun = time.perf_counter()
        texts = _swap(instances) if arm == "swapped" else {i.key: i.text for i in instances}
        paths, effects = {}, {}
        for instance in instances:
            paths[instance.key], effects[instance.key] = _forecast(
                instance, texts[instance.key], readers[arm], arm == "none", samples, seed
            )
        scores[arm] = {i.key: compute_rcrps(paths[i.key], i.scoring) for i in instances}
        seconds[arm] = (time.perf_counter() - begun) / len(instances)
        if tell is not None:
            tell(f"{arm}: RCRPS {average(scores[arm], weights):.4f}, {seconds[arm]:.2f} s an instance")
        if arm == arms[0]:
            np.savez_compressed(folder / "forecasts.npz", **paths)  # type: ignore[arg-type]
            listed = "\n\n".join(f"# {key}\n{text}" for key, text in effects.items())
            (folder / "effects.txt").write_text(listed + "\n", encoding="utf-8")
    figures = {arm: average(values, weights) for arm, values in scores.items()}
    pd.DataFrame(scores).rename_axis("instance").to_csv(folder / "scores.csv")
    whole = len(instances) == _ALL
    parts = [
        write_table(scores, weights, seconds, whole),
        write_differences(scores, weights, arms[0]),
        write_tasks(scores),
    ]
    (folder / "report.md").write_text("# Context is Key\n\n" + "\n\n".join(parts) + "\n", encoding="utf-8")
    write_metrics(
        folder,
        {"rcrps": figures, "instances": len(instances), "samples": samples, "seed": seed,
         "seconds": time.perf_counter() - start, "seconds_an_instance": seconds},
    )  # fmt: skip
    return figures


def _open_readers(
    arms: Sequence[str], reader: str | Path | None, control: str | Path | None
) -> dict[str, ProseReader | None]:
    unknown = [arm for arm in arms if arm not in ARMS]
    if unknown or not arms or arms[0] == "swapped":
        raise ValueError(f"arms are {list(arms)}; choose among {', '.join(ARMS)}, the one that counts first")
    if reader is None and any("learned" in arm for arm in arms):
        raise ValueError(
            "the arm `learned` needs a trained reader: give --reader FOLDER (recipes/train_context_reader.py)"
        )
    if control is None and "spectrum" in arms:
        raise ValueError("the arm `spectrum` needs its own reader: give --control FOLDER (smollm2_spectrum.yaml)")
    prose: dict[str, ProseReader | None] = {"none": None, "data": None, "rules": read_by_rules}
    if reader is not None:
        learned = load_reader(reader).read
        prose |= {"learned": learned, "rules+learned": read_in_turn(read_by_rules, learned)}
        prose["learned+rules"] = read_in_turn(learned, read_by_rules)
    if control is not None:
        prose["spectrum"] = load_reader(control).read
    return prose | {"swapped": prose[arms[0]]}


def _forecast(
    instance: CikInstance, text: str, prose: ProseReader | None, blind: bool, samples: int, seed: int
) -> tuple[np.ndarray, str]:
    """Draws one instance's paths [S, H]; it sees texts, past, season and the times to come, nothing else."""
    window = Window(instance.past.to_numpy(), pd.DatetimeIndex(instance.past.index), instance.future, instance.season)
    effects = [] if blind else read_effects(text, window, prose)
    return draw_with_effects(window, effects, samples, seed), write_effects(effects)


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

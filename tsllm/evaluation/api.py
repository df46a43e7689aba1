"""The comparison from Python: `tsllm.compare` and `tsllm.ablate`, on frames or on named data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tsllm.data.columns import as_pandas, is_table
from tsllm.data.loading import LoadedData
from tsllm.evaluation.compare import TaskResult, run_compare
from tsllm.evaluation.compare_report import build_compare_report, save_compare
from tsllm.evaluation.config import CompareConfig, DataEntry
from tsllm.forecasting.model_spec import ModelSpec
from tsllm.near import find_near
from tsllm.progress import Bar


@dataclass(frozen=True)
class Comparison:
    """A finished comparison.

    Attributes:
        finding: The verdict in sentences, the headline first.
        tables: Tables by name, such as `scores-DATA`, `tests-DATA` and `ablation-DATA`.
        report: Path of the HTML report; the Markdown report, tables and cells lie beside it.
        results: What the tables were made of.
    """

    finding: list[str]
    tables: dict[str, pd.DataFrame]
    report: Path
    results: list[TaskResult]

    @property
    def scores(self) -> pd.DataFrame:
        """The scores of all models, one data set after the other."""
        parts = {name.removeprefix("scores-"): t for name, t in self.tables.items() if name.startswith("scores-")}
        return pd.concat([t.assign(data=name) for name, t in parts.items()], ignore_index=True)

    @property
    def forecasts(self) -> dict[str, pd.DataFrame]:
        """Data set -> forecasts of the first seed: `unique_id, ds, cutoff, y` and one column a model.

        Series, times and values are called as in the table that was compared on.
        """
        return {r.prepared.name: r.prepared.loaded.names.write(r.runs[0].frame) for r in self.results}


def compare(
    data: "pd.DataFrame | str | Mapping[str, Any] | Sequence[Any]",
    models: Sequence[str | Mapping[str, Any] | ModelSpec],
    *,
    output_dir: str | Path = "runs/compare",
    verbose: bool = True,
    overwrite: bool = False,
    **options: Any,
) -> Comparison:
    """Compares models on the same windows, with costs, paired tests and a report; a stopped run goes on.

    Args:
        data: A frame, the name of a data set, a file, a mapping as in a YAML file, or a list of these.
        models: Names, mappings as in a YAML file, or `ModelSpec`s.
        output_dir: Folder for cells, tables and report.
        verbose: Whether it says what it does, in a terminal or a notebook.
        overwrite: Whether results of earlier runs in the folder are removed first; else those that fit are used.
        **options: Fields of `CompareConfig` (`reference`, `seeds`, `level`, `ablate` ...), and for a frame or a single
            name those of `DataEntry` (`h`, `n_windows`, `step_size`, `context_length`, `covariates` ...).

    Raises:
        ValueError: If an entry cannot be run; all faults are listed before anything is trained.

    Example:
        >>> import pandas as pd, tsllm
        >>> df = pd.DataFrame({"unique_id": "a", "ds": range(60), "y": [float(t % 4) for t in range(60)]})
        >>> found = tsllm.compare(df, ["SeasonalNaive", "Naive"], h=4, season=4, n_windows=3)
        >>> found.scores[["model", "mae"]].to_dict("records")
        [{'model': 'SeasonalNaive', 'mae': 0.0}, {'model': 'Naive', 'mae': 1.5}]
        >>> found.report.name
        'report.html'
    """
    of_data = {k: options.pop(k) for k in list(options) if k in DataEntry.__dataclass_fields__}
    entries = list(data) if isinstance(data, Sequence) and not isinstance(data, str) else [data]
    if not entries:
        raise ValueError("data is empty; give at least one frame, name, file or mapping")
    if of_data and (len(entries) > 1 or isinstance(entries[0], Mapping)):
        raise ValueError(f"{sorted(of_data)} are for one frame or one name; write them into the data entries")
    _refuse_unknown(options)
    specs = [ModelSpec.parse(model) for model in models]
    names = [spec.name for spec in specs]
    defaults = {"reference": "SeasonalNaive" if "SeasonalNaive" in names else names[0] if names else ""}
    config = CompareConfig(
        data=[_read_entry(entry, of_data) for entry in entries],
        models=specs,
        output_dir=str(output_dir),
        **(defaults | options),
    )
    with Bar("comparison", verbose=verbose) as bar:
        results = run_compare(config, lambda text: bar.update(label=text), overwrite=overwrite)
    report, tables = build_compare_report(config, results, "tsllm.compare(...)")
    path = save_compare(report, tables, config.output_dir)
    return Comparison(list(report.finding), tables, Path(path), results)


def ablate(
    data: "pd.DataFrame | str | Mapping[str, Any]",
    *,
    options: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    output_dir: str | Path = "runs/ablate",
    **comparison: Any,
) -> Comparison:
    """Asks whether the pretrained language model helps: Time-LLM beside itself without one, in eight ways.

    Args:
        data: As in `compare`.
        options: Fields of Time-LLM's configuration (`backbone`, `num_backbone_layers`, `head` ...).
        training: Training options of every variant.
        output_dir: As in `compare`.
        **comparison: As in `compare`.

    Example:
        `language_model` is a folder, a Hub id or `smollm2-135m`; a real question takes more steps, windows and seeds.

        >>> import pandas as pd, tsllm
        >>> df = pd.DataFrame({"unique_id": "a", "ds": range(120), "y": [float(t % 4) for t in range(120)]})
        >>> sizes = {"backbone": language_model, "context_length": 32, "num_prototypes": 8, "num_backbone_layers": 1}
        >>> shape = {"h": 4, "season": 4, "n_windows": 2, "seeds": [0]}
        >>> found = tsllm.ablate(df, options=sizes, training={"max_steps": 1}, **shape)
        >>> "ablation-frame" in found.tables
        True
    """
    given: dict[str, Any] = {"backbone": "smollm2-135m", "num_backbone_layers": 4, "head": "quantile"}
    whole = ModelSpec("timellm", "TimeLLM", given | dict(options or {}), dict(training or {}))
    settings: dict[str, Any] = {"focus": "TimeLLM", "ablate": ["TimeLLM"], "seeds": [0, 1, 2]} | comparison
    return compare(data, ["SeasonalNaive", whole], output_dir=output_dir, **settings)


def _refuse_unknown(options: Mapping[str, Any]) -> None:
    known = [*CompareConfig.__dataclass_fields__, *DataEntry.__dataclass_fields__]
    for name in options:
        if name not in known:
            near = find_near(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise ValueError(f"a comparison has no option {name!r}; {hint}")


def _read_entry(entry: Any, of_data: Mapping[str, Any]) -> DataEntry:
    if is_table(entry):
        return DataEntry(frame=as_pandas(entry), **({"name": "frame"} | dict(of_data)))
    if isinstance(entry, LoadedData):
        return DataEntry(frame=entry.df, **({"name": entry.name or "frame"} | dict(of_data)))
    return DataEntry.parse(entry) if not isinstance(entry, str) else DataEntry(entry, **of_data)

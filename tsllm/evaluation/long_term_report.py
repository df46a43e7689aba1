"""What `tsllm benchmark long-term` and `tsllm.benchmark("long-term")` run: cells, tables, paired tests, report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from tsllm.evaluation.findings import describe_tests
from tsllm.evaluation.long_term import ProtocolCell, Tell, run_long_term
from tsllm.evaluation.protocol import LongTermConfig
from tsllm.evaluation.protocol_budgets import describe_rows, group_budgets, tabulate_rows, warn_of_budgets
from tsllm.evaluation.protocol_table import WideTable, list_published, tabulate, widen
from tsllm.evaluation.report import TEST_FORMATS, TEST_LABELS, Report, Section, TableBlock, describe_environment
from tsllm.evaluation.significance import PairedRow, compare_in_rows
from tsllm.training.args import load_yaml
from tsllm.types import CUTOFF, ID

CONFIG_FILE = "config.yaml"
_TESTED = ["data", "h", "model", "reference", "skill", "low", "high", "p_value", "p_holm", "verdict", "n", "unit"]
_TESTED += ["terms", "seeds", "tests", "note"]
_HIDDEN = ("reference", "unit", "seeds", "tests")  # columns of tests.csv that the report says in words


@dataclass(frozen=True)
class LongTermResult:
    """A finished run of the protocol.

    Attributes:
        scores: One row a data set, horizon and model; see `tabulate`.
        table: The paper's table.
        tests: Paired tests of each model against the reference, row by row, on the mean absolute error.
        published: Published figures of the same rows, own ones beside them.
        budgets: What training each model and seed got, row by row; see `BudgetRow`.
        notes: Which trainings had not converged or were cut by the limit of seconds, in sentences.
        failures: What failed, in sentences.
        report: Path of the HTML report; Markdown, LaTeX and CSV tables lie beside it.
        cells: What the tables were made of.
    """

    scores: pd.DataFrame
    table: WideTable
    tests: pd.DataFrame
    published: pd.DataFrame
    budgets: pd.DataFrame
    notes: list[str]
    failures: list[str]
    report: Path
    cells: list[ProtocolCell]


def long_term(
    data: str | Sequence[Any] = (),
    models: Sequence[Any] = (),
    *,
    command: str = "",
    tell: Tell = lambda _: None,
    **options: Any,
) -> LongTermResult:
    """Runs models under the published long-term protocol and makes the paper's table; a stopped run goes on.

    Every window of the customary test part counts, errors are in units of the training part's deviation, everything
    that is learned or chosen uses the steps before the test part.

    Args:
        data: Names of data sets, or mappings as in a YAML file.
        models: Names, mappings as in a YAML file, or `ModelSpec`s.
        command: What the report says how to repeat it; empty = the command that runs its `config.yaml`.
        tell: Hears what happens.
        **options: Fields of `LongTermConfig`: `horizons`, `seeds`, `few_shot`, `transfer`, `context_length` ...

    Raises:
        ValueError: If an entry cannot be run; all faults are listed before anything is trained.

    Example:
        ```python
        found = tsllm.benchmark("long-term", ["etth1"], ["dlinear", "patchtst"], horizons=[96], seeds=[0, 1, 2])
        print(found.table.to_markdown())
        ```
    """
    entries = [data] if isinstance(data, (str, Mapping)) else list(data)
    config = LongTermConfig(data=entries, models=list(models), **options)
    return report_long_term(config, command, tell)


def report_long_term(config: LongTermConfig, command: str, tell: Tell = lambda _: None) -> LongTermResult:
    """Runs a configuration and writes `report.html`, `report.md`, `table.tex`, `table.md` and the tables as CSV.

    Beside them stands `config.yaml`, the run as a file. The report of another run in the same folder is replaced,
    which is told; its cells stay.
    """
    _tell_of_other(config, tell)
    cells = run_long_term(config, tell)
    as_published = config.few_shot == 1 and config.test_stride == 1
    scores = tabulate(cells, as_published)
    table = widen(scores)
    tests = compare_rows(cells, config)
    budgets = group_budgets(cells)
    trainings, notes = tabulate_rows(budgets), warn_of_budgets(budgets)
    published = list_published(scores) if as_published else pd.DataFrame()
    failures = [f"{c.model} on {c.data} {c.h}, seed {c.seed}: {c.error}" for c in cells if c.error]
    folder = Path(config.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    said = describe_setting(config, cells)
    sections = [Section("Scores", tables=[table.to_block("The table", below=[*said, *notes, *failures])])]
    sections += build_sections(config, scores, tests, published)
    if budgets:
        block = TableBlock(trainings, "Training of each model and seed")
        sections.append(Section("Training budgets", describe_rows(budgets), [block]))
    file = folder / CONFIG_FILE
    sections.append(Section("How to repeat it", code=command or f"tsllm benchmark long-term {file}"))
    report = Report(
        config.title,
        [said[0]],
        sections,
        describe_environment(config.seeds),
        {CONFIG_FILE: f"the configuration: tsllm benchmark long-term {file}"},
        {CONFIG_FILE: config.to_yaml()},
    )
    path = report.save(folder / "report.html")
    frames = {"scores": scores, "table": table.texts, "tests": tests, "published": published, "budgets": trainings}
    for name, frame in frames.items():
        frame.to_csv(folder / f"{name}.csv", index=False)
    (folder / "table.md").write_text(table.to_markdown(), encoding="utf-8")
    (folder / "table.tex").write_text(table.to_latex(f"{config.title}. {said[0]}"), encoding="utf-8")
    return LongTermResult(scores, table, tests, published, trainings, notes, failures, Path(path), cells)


def _tell_of_other(config: LongTermConfig, tell: Tell) -> None:
    """Tells before anything is run if the folder holds a report of which this run keeps less than all."""
    file = Path(config.output_dir) / CONFIG_FILE
    if not file.is_file():
        return
    old, new = load_yaml(file), yaml.safe_load(config.to_yaml())
    differ = [key for key in sorted(old.keys() | new.keys()) if not _keeps(old.get(key), new.get(key))]
    if differ:
        tell(
            f"{config.output_dir} holds the report of another run, which this one replaces (other "
            f"{', '.join(differ)}); give another output_dir to keep both"
        )


def _keeps(old: Any, new: Any) -> bool:
    """Tells whether a setting is the same; a list may have grown."""
    if isinstance(old or new, list):
        return all(entry in (new or []) for entry in old or [])
    return bool(old == new)


def compare_rows(cells: Sequence[ProtocolCell], config: LongTermConfig) -> pd.DataFrame:
    """Tests every model against the reference in each row: paired over cutoffs, seeds counted, Holm over all rows."""
    places, rows = [], []
    for data, h in dict.fromkeys((cell.data, cell.h) for cell in cells):
        own = [cell for cell in cells if (cell.data, cell.h) == (data, h) and not cell.error]
        row = _pair_row(own, config, h)
        if row is not None:
            places.append((data, h))
            rows.append(row)
    tested = compare_in_rows(rows, config.reference)
    parts = [found.assign(data=data, h=h) for (data, h), found in zip(places, tested, strict=True)]
    return pd.concat(parts, ignore_index=True)[_TESTED] if parts else pd.DataFrame(columns=_TESTED)


def _pair_row(cells: Sequence[ProtocolCell], config: LongTermConfig, h: int) -> PairedRow | None:
    """Returns the losses of the models of a row side by side; None if there is nothing to test the reference with."""
    per_model = {m: [c.losses for c in cells if c.model == m] for m in dict.fromkeys(c.model for c in cells)}
    if config.reference not in per_model:
        return None
    count = max(len(found) for found in per_model.values())
    complete = {m: found * count if len(found) == 1 else found for m, found in per_model.items()}
    complete = {m: found for m, found in complete.items() if len(found) == count}
    if config.reference not in complete or len(complete) < 2:
        return None
    seeds = [_join({m: found[k] for m, found in complete.items()}) for k in range(count)]
    mean = seeds[0].assign(**{m: np.mean([s[m].to_numpy() for s in seeds], axis=0) for m in complete})
    return PairedRow(mean, -(-h // config.test_stride), seeds)


def _join(losses: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Returns the mean absolute error of each window side by side: `unique_id, cutoff` and one column a model."""
    frames = [f.set_index([ID, CUTOFF])["mae"].rename(m) for m, f in losses.items()]
    return pd.concat(frames, axis=1).reset_index().sort_values([ID, CUTOFF], kind="stable", ignore_index=True)


def describe_setting(config: LongTermConfig, cells: Sequence[ProtocolCell]) -> list[str]:
    """Says what the numbers are; the first sentence suits a caption."""
    windows = "every test window" if config.test_stride == 1 else f"each {config.test_stride}th test window"
    said = [
        f"MSE and MAE in units of the training part's standard deviation, {windows}, mean ± standard deviation over "
        f"{len(config.seeds)} seed{'s' if len(config.seeds) > 1 else ''}, yours / published where the look-back is "
        "the same."
    ]
    said.append("Best of each row in bold, second underlined (in italics in Markdown).")
    if config.few_shot < 1:
        said.append(
            f"Few-shot: trained models saw the first {100 * config.few_shot:g} % of the training windows; the scaler "
            "was fitted on the whole training part, validation and test are unchanged."
        )
    if config.transfer:
        said.append(
            "Rows A -> B: trained and chosen on A, tested on B without training; B's training part scales it. Models "
            "that nothing trains forecast B as they do elsewhere."
        )
    if config.budget is not None:
        said.append(config.budget.describe())
    said += dict.fromkeys(str(c.facts["leakage"]) for c in cells if c.facts.get("leakage"))
    return said


def build_sections(
    config: LongTermConfig, scores: pd.DataFrame, tests: pd.DataFrame, published: pd.DataFrame
) -> list[Section]:
    """Returns tests, published figures and cost."""
    sections = [Section("Tests", tables=[_show_tests(config, tests)])]
    if len(published):
        sections.append(Section("Published figures", tables=[TableBlock(published, "Yours beside the published")]))
    cost = scores[["data", "h", "model", "look_back", "windows", "fit_seconds", "predict_seconds", "failed"]]
    sections.append(Section("Cost", tables=[TableBlock(cost, "What each took, mean over seeds")]))
    return sections


def _show_tests(config: LongTermConfig, tests: pd.DataFrame) -> TableBlock:
    """Returns the table of tests; the lines below say unit, family, level of the intervals and seeds."""
    below = describe_tests(
        tests,
        [-(-h // config.test_stride) for h in dict.fromkeys(tests["h"])],
        trained=any(m.is_trainable for m in config.models),
    )
    if len(tests) and tests["tests"].max() > 0:
        below.append("The family: every model against the reference, on every data set and horizon of this report.")
    caption = f"Paired tests against {config.reference}, mean absolute error, skill = share of it that is saved"
    return TableBlock(
        tests.drop(columns=list(_HIDDEN)), caption, formats=TEST_FORMATS, labels=TEST_LABELS, below=below
    )

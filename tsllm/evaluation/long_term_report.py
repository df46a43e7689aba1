"""What `tsllm benchmark long-term` and `tsllm.benchmark("long-term")` run: cells, tables, paired tests, report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tsllm.evaluation.long_term import ProtocolCell, Tell, run_long_term
from tsllm.evaluation.protocol import LongTermConfig
from tsllm.evaluation.protocol_table import WideTable, list_published, tabulate, widen
from tsllm.evaluation.report import Report, Section, TableBlock, describe_environment
from tsllm.evaluation.significance import compare_to
from tsllm.types import CUTOFF, ID

_TESTED = ["data", "h", "model", "reference", "skill", "low", "high", "p_value", "p_holm", "verdict", "n", "note"]


@dataclass(frozen=True)
class LongTermResult:
    """A finished run of the protocol.

    Attributes:
        scores: One row a data set, horizon and model; see `tabulate`.
        table: The paper's table.
        tests: Paired tests of each model against the reference, row by row, on the mean absolute error.
        published: Published figures of the same rows, own ones beside them.
        failures: What failed, in sentences.
        report: Path of the HTML report; Markdown, LaTeX and CSV tables lie beside it.
        cells: What the tables were made of.
    """

    scores: pd.DataFrame
    table: WideTable
    tests: pd.DataFrame
    published: pd.DataFrame
    failures: list[str]
    report: Path
    cells: list[ProtocolCell]


def long_term(
    data: str | Sequence[Any] = (),
    models: Sequence[Any] = (),
    *,
    command: str = 'tsllm.benchmark("long-term", ...)',
    tell: Tell = lambda _: None,
    **options: Any,
) -> LongTermResult:
    """Runs models under the published long-term protocol and makes the paper's table; a stopped run goes on.

    Every window of the customary test part counts, errors are in units of the training part's deviation, everything
    that is learned or chosen uses the steps before the test part.

    Args:
        data: Names of data sets, or mappings as in a YAML file.
        models: Names, mappings as in a YAML file, or `ModelSpec`s.
        command: What the report says how to repeat it.
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
    """Runs a configuration and writes `report.html`, `report.md`, `table.tex`, `table.md` and the tables as CSV."""
    cells = run_long_term(config, tell)
    as_published = config.few_shot == 1 and config.test_stride == 1
    scores = tabulate(cells, as_published)
    table = widen(scores)
    tests = compare_rows(cells, config)
    published = list_published(scores) if as_published else pd.DataFrame()
    failures = [f"{c.model} on {c.data} {c.h}, seed {c.seed}: {c.error}" for c in cells if c.error]
    folder = Path(config.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    said = describe_setting(config, cells)
    report = build_report(config, table, scores, tests, published, [*said, *failures], command)
    path = report.save(folder / "report.html")
    for name, frame in (("scores", scores), ("table", table.texts), ("tests", tests), ("published", published)):
        frame.to_csv(folder / f"{name}.csv", index=False)
    (folder / "table.md").write_text(table.to_markdown(), encoding="utf-8")
    (folder / "table.tex").write_text(table.to_latex(f"{config.title}. {said[0]}"), encoding="utf-8")
    return LongTermResult(scores, table, tests, published, failures, Path(path), cells)


def compare_rows(cells: Sequence[ProtocolCell], config: LongTermConfig) -> pd.DataFrame:
    """Tests every model against the reference in each row: paired over cutoffs, seeds counted, Holm within a row."""
    parts = []
    for data, h in dict.fromkeys((cell.data, cell.h) for cell in cells):
        own = [cell for cell in cells if (cell.data, cell.h) == (data, h) and not cell.error]
        per_model = {m: [c.losses for c in own if c.model == m] for m in dict.fromkeys(c.model for c in own)}
        if config.reference not in per_model or len(per_model) < 2:
            continue
        count = max(len(found) for found in per_model.values())
        complete = {m: found * count if len(found) == 1 else found for m, found in per_model.items()}
        complete = {m: found for m, found in complete.items() if len(found) == count}
        if config.reference not in complete:
            continue
        seeds = [_join({m: found[k] for m, found in complete.items()}) for k in range(count)]
        models = list(complete)
        mean = seeds[0].assign(**{m: np.mean([s[m].to_numpy() for s in seeds], axis=0) for m in models})
        overlap = -(-h // config.test_stride)
        tested = compare_to(mean, config.reference, overlap, unit="cutoff", seeds=seeds)
        parts.append(tested.assign(data=data, h=h))
    return pd.concat(parts, ignore_index=True)[_TESTED] if parts else pd.DataFrame(columns=_TESTED)


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


def build_report(
    config: LongTermConfig,
    table: WideTable,
    scores: pd.DataFrame,
    tests: pd.DataFrame,
    published: pd.DataFrame,
    said: Sequence[str],
    command: str,
) -> Report:
    """Puts the report together."""
    sections = [Section("Scores", tables=[table.to_block("The table", below=said)])]
    formats = dict.fromkeys(("skill", "low", "high"), ".1%") | {"p_value": "p", "p_holm": "p"}
    caption = f"Paired tests against {config.reference}, mean absolute error, skill = share of it that is saved"
    sections.append(Section("Tests", tables=[TableBlock(tests, caption, formats=formats)]))
    if len(published):
        sections.append(Section("Published figures", tables=[TableBlock(published, "Yours beside the published")]))
    cost = scores[["data", "h", "model", "look_back", "windows", "fit_seconds", "predict_seconds", "failed"]]
    sections.append(Section("Cost", tables=[TableBlock(cost, "What each took, mean over seeds")]))
    sections.append(Section("How to repeat it", code=command))
    return Report(config.title, [said[0]], sections, describe_environment(config.seeds))

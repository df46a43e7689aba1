"""The section of a report on what the texts changed."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from tsllm.escape import one_line
from tsllm.evaluation.compare import TaskResult
from tsllm.evaluation.figures import Picture, add_legend, draw_panel, new_figure, to_svg
from tsllm.evaluation.idle import shorten
from tsllm.evaluation.report import Section, TableBlock, write_cell
from tsllm.evaluation.text_changes import FILLER, TextChange, TextChanges, examine_texts
from tsllm.evaluation.told import write_idle
from tsllm.evaluation.windows import Windows
from tsllm.forecasting.context import ContextForecaster
from tsllm.forecasting.model_spec import ModelSpec
from tsllm.forecasting.readers import open_reader
from tsllm.forecasting.roster import build_forecaster
from tsllm.forecasting.saved import open_saved
from tsllm.hub.told import ITSELF
from tsllm.types import ID, TARGET, TIME

NOTES = {
    "understood": "the effects that were read in the text",
    "change": "mean absolute difference between the forecasts with and without this text alone, in the units of the "
    "series; 0 in this table = the text changed intervals alone",
    "swapped": "the same between this text and another of the back-test in its place, or words that say nothing where "
    "there is no other; 0 means that what the text says did not matter",
    "in its place": "that other text; where nothing was read in it, the text was swapped for none, and the two "
    "columns before are the same",
    "weightiest": "the sentence whose deletion moves the forecast most, and its share of the change",
}
PLAIN = "without the text"
_OTHER = 40  # characters of the text that was put in the place of another


def build_told_section(
    found: Sequence[TextChanges], df: pd.DataFrame, season: int, title: str = "", lost: Sequence[str] = ()
) -> list[Section]:
    """Returns the section about the texts; none if no model was told any.

    Args:
        found: What the texts did to each told model.
        df: The series.
        season: Steps in a season; four of them are drawn before the forecast.
        title: What stands behind the heading.
        lost: Models that could not be looked at, in sentences.
    """
    if not found and not lost:
        return []
    shown = [one for one in found if one.changes]
    tables = [_tabulate(one, last=k == len(shown)) for k, one in enumerate(shown, 1)]
    largest = max(
        ((one.model, change) for one in found for change in one.changes), key=lambda pair: pair[1].change, default=None
    )
    pictures = [] if largest is None else [_draw(*largest, df, 4 * season)]
    said = [sentence for one in found for sentence in _describe(one)]
    return [Section(f"What the texts changed{title}", [*said, *_name_idle(found), *lost], tables, pictures)]


def tabulate_changes(found: Sequence[TextChanges]) -> pd.DataFrame:
    """Returns the whole texts with all that was seen, one row a sentence."""
    rows = [
        {
            "model": one.model, ID: change.series, "cutoff": change.cutoff, "text": change.text,
            "effects": change.effects, "change": change.change, "swapped": change.swapped, "other": change.other,
            "other_effects": change.other_effects, "sentence": part.part, "sentence_change": part.change,
            "sentence_share": part.share,
        }
        for one in found for change in one.changes for part in change.words.itertuples()
    ]  # fmt: skip
    idle = [{"model": one.model, "text": text, "effects": why} for one in found for text, why in one.idle.items()]
    return pd.DataFrame([*rows, *idle])


def examine_told(
    models: Mapping[str, Any], frame: pd.DataFrame, windows: Windows, freq: Any
) -> tuple[list[TextChanges], list[str]]:
    """Looks at the texts of every told model of a back-test; what cannot be looked at is named.

    Args:
        models: Alias -> forecaster, as the back-test left them.
        frame: Its result.
        windows: Its windows.
        freq: Frequency of the data.
    """
    found, lost = [], []
    for alias, model in models.items():
        if not model.reads_texts or model.context is None:
            continue
        plain = model.base.alias if isinstance(model, ContextForecaster) else alias.removesuffix("+context")
        plain = plain if plain in frame and plain != alias else ""
        try:
            found.append(examine_texts(model, frame, windows, freq, plain))
        except Exception as error:
            lost.append(f"No look at the texts of {alias}: {type(error).__name__}: {error}")
    return found, lost


def examine_compared(specs: Sequence[ModelSpec], result: TaskResult, seed: int) -> tuple[list[TextChanges], list[str]]:
    """Looks at the texts of every told model of a comparison; trained ones are opened from their folders."""
    models, lost = {}, []
    for spec in specs:
        if not spec.reader:
            continue
        try:
            models[spec.name] = _reopen(spec, result, seed)
        except Exception as error:
            lost.append(f"No look at the texts of {spec.name}: {type(error).__name__}: {error}")
    prepared = result.prepared
    found, more = examine_told(models, result.runs[0].frame, prepared.windows, prepared.task.freq)
    return found, lost + more


def _reopen(spec: ModelSpec, result: TaskResult, seed: int) -> Any:
    """Returns a told model of a comparison, ready to forecast.

    Raises:
        FileNotFoundError: If its trained base was not kept.
    """
    prepared, folder = result.prepared, result.folders.get(spec.name)
    if spec.is_trainable:
        if folder is None:
            raise FileNotFoundError("its trained model was not kept")
        model = open_saved(str(folder))
        if spec.reader != ITSELF:
            reader = open_reader(spec.reader)
            options: dict[str, Any] = {"freq": prepared.task.freq, "season": prepared.task.season}
            model = ContextForecaster(model, reader.read, check_length=reader.check_length, **options)
    else:
        model = build_forecaster(spec, prepared.task, seed)
    model.alias = spec.name
    model.tell(prepared.texts, prepared.entry.timeless)
    return model if spec.is_trainable else model.fit(prepared.training, prepared.task.h)


def _describe(one: TextChanges) -> list[str]:
    count = one.changed + len(one.idle)
    texts = f"{one.changed} of {count} text{'s' * (count != 1)}"
    said = [f"{one.model}: {texts} changed a forecast."]
    if one.scores is not None:
        windows, told, plain = one.scores
        said[0] += (
            f" Over the {windows} window{'s' * (windows > 1)} with a change (each of one series, from one cutoff) its "
            f"mean absolute error is {write_cell(told)} with the texts and {write_cell(plain)} without them."
        )
    elif not one.beside:
        said[0] += " Its error without them is not known: the model does not stand here without texts."
    if one.changed > len(one.changes) + len(one.lost):
        said.append(f"The table shows the {len(one.changes)} texts of {one.model} with the largest change.")
    return said + [f"{one.model}: no look at {text}" for text in one.lost]


def _name_idle(found: Sequence[TextChanges]) -> list[str]:
    """Names the texts that changed nothing, models with the same ones together."""
    models: dict[str, list[str]] = {}
    for one in found:
        if one.idle:
            models.setdefault(write_idle(one.idle, one.changed + len(one.idle)), []).append(one.model)
    return [f"{', '.join(names)}: {said}." for said, names in models.items()]


def _tabulate(one: TextChanges, last: bool) -> TableBlock:
    """Returns the table of a model; the legend stands below the last one."""
    rows = [
        {
            "series": one_line(change.series), "cutoff": str(change.cutoff), "text": shorten(change.text),
            "understood": shorten(change.effects.replace("\n", "; ")) or "–", "change": change.change,
            "swapped": change.swapped, "in its place": _name_other(change),
            "weightiest": _name_weightiest(change.words),
        }
        for change in one.changes
    ]  # fmt: skip
    below = ["The whole texts, what was put in their place and the weight of each sentence stand in the table beside."]
    caption = f"What {one.model} made of the texts"
    return TableBlock(pd.DataFrame(rows), caption, notes=NOTES if last else {}, below=below if last else ())


def _name_other(change: TextChange) -> str:
    """Names what was put in the place of a text, and says so where nothing was read in it."""
    fills = bool(change.other) and FILLER.startswith(change.other[: len(FILLER)])
    name = "words that say nothing" if fills else shorten(change.other, _OTHER)
    return name if change.other_effects or fills else f"{name} (nothing was read in it)"


def _name_weightiest(words: pd.DataFrame) -> str:
    known = words.dropna(subset=["share"])
    if known.empty:
        return "–"
    top = known.iloc[int(known["share"].to_numpy().argmax())]
    return f"{shorten(top['part'])} ({top['share']:.0%})"


def _draw(model: str, change: TextChange, df: pd.DataFrame, context: int) -> Picture:
    """Draws the forecast before and after the text that changed it most."""
    own = df[df[ID] == change.series]
    past, ahead = own[own[TIME] <= change.cutoff].tail(context), own[own[TIME].isin(change.forecast[TIME])]
    window = change.forecast.rename(columns={"before": PLAIN, "after": model})
    figure, ax = new_figure()
    draw_panel(ax, pd.concat([past, ahead])[[TIME, TARGET]], window, {model: [], PLAIN: []}, change.cutoff)
    ax.set_title(f"{one_line(change.series)}, forecast from {change.cutoff}", fontsize=9, loc="left")
    add_legend(figure, ax)
    before, after = (write_cell(float(change.forecast[name].mean())) for name in ("before", "after"))
    alt = (
        f"{model} forecasts {change.series} from {change.cutoff}: {before} on the average without the text, {after} "
        "with it."
    )
    understood = "; ".join(change.effects.splitlines()) or "nothing"
    return Picture(
        to_svg(figure), alt, f"The largest change. Text: {shorten(change.text, 240)} Understood: {understood}."
    )

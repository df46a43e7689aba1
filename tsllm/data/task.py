"""What is forecast from what: the one place where "asked for, else the data set's own, else by frequency" is decided.

Python, command line, recipes, comparisons and benchmarks put what they were asked into an `Asked`, load the data with
`load_data`, and get the answers from `build_task`.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from tsllm.data.frame import infer_freq, list_covariates, validate_frame
from tsllm.data.frequency import Freq, customary_seasons, default_season, normalize_freq, tell_no_season
from tsllm.data.loading import LoadedData, find_ignored, load_source
from tsllm.data.names import OWN, ColumnNames
from tsllm.data.sources import DATASETS
from tsllm.data.splits import ByCounts, ByDates, ByFractions, SplitRule
from tsllm.data.static import Static, encode_static, name_static
from tsllm.data.windows import Layout
from tsllm.types import ID, TIME

logger = logging.getLogger(__name__)

LAYOUTS = ("auto", "multivariate", "univariate")
_LEAST_CONTEXT = 32
# Contexts beyond this many steps are not chosen by themselves: minutes of a fortnight are 20,160 steps.
_MOST_CONTEXT = 1536


class TaskError(ValueError):
    """What was asked does not fit the data; the text names it and the way out."""


@dataclass(frozen=True)
class Asked:
    """What somebody asks of the data; None = not said, so that the data set or the frequency decides.

    Attributes:
        h: Steps ahead.
        context_length: Steps read.
        freq: pandas alias or integer step.
        season: Steps in the main season.
        layout: "multivariate", "univariate" or "auto".
        covariates: Columns known over the horizon; None = the data set's own, () = none.
        past_covariates: Columns known up to the cutoff only; None = the data set's own, () = none.
        static: Columns with one value a series, numbers or texts; or what `encode_static` returned. None = none.
        share_covariates: As in `WindowDataset`.
        split: As in `build_split`.
        val_size: Steps held for validation before the end; None = a tenth, at least `h`.
        domain: What the data are, for prompts.
        names: What the columns of the table are called.
        remembered: Whether these are the names of a saved model, so that tables with the names of frames are read too.
        day_first: As in `validate_frame`.
    """

    h: int | None = None
    context_length: int | None = None
    freq: Freq | None = None
    season: int | None = None
    layout: str | None = None
    covariates: Sequence[str] | None = None
    past_covariates: Sequence[str] | None = None
    static: Sequence[str] | Mapping[str, Any] | None = None
    share_covariates: bool = False
    split: list[float] | dict[str, Any] | None = None
    val_size: int | None = None
    domain: str | None = None
    names: ColumnNames = OWN
    remembered: bool = False
    day_first: bool | None = None

    def __post_init__(self) -> None:
        for name in ("h", "context_length", "season"):
            value = getattr(self, name)
            if value is not None and not (_is_count(value) and value >= 1):
                raise TaskError(f"{name} is {value!r}; it must be a whole number of at least 1 step")
        if self.val_size is not None and not (_is_count(self.val_size) and self.val_size >= 0):
            raise TaskError(f"val_size is {self.val_size!r}; it must be a whole number of at least 0 steps")
        if self.layout not in (None, *LAYOUTS):
            raise TaskError(f"layout is {self.layout!r}; choose one of {', '.join(LAYOUTS)}")
        for name in ("covariates", "past_covariates", "static"):
            if isinstance(getattr(self, name), str):
                raise TaskError(f"{name} is {getattr(self, name)!r}; give a list of column names")
            list_covariates(getattr(self, name) or ())
        if not isinstance(self.share_covariates, bool):
            raise TaskError(f"share_covariates is {self.share_covariates!r}; it must be true or false")
        if self.freq is not None:
            normalize_freq(self.freq)
        kinds = {"known": self.covariates, "past": self.past_covariates, "static": self.static}
        for one, other in combinations(kinds, 2):
            both = sorted(set(kinds[one] or ()) & set(kinds[other] or ()))
            if both:
                raise TaskError(f"{both[0]!r} is named as {one} covariate and as {other} covariate; name it once")

    @property
    def names_covariates(self) -> bool:
        """Whether covariates were named."""
        return bool(self.covariates) or bool(self.past_covariates) or bool(self.static)


@dataclass(frozen=True)
class ForecastTask:
    """The answers, which every forecaster of these data is told.

    Attributes:
        name: Name of the data; empty for a frame.
        h: H, steps ahead.
        freq: Frequency.
        season: Steps in the main season.
        context_length: L, steps read.
        layout: "multivariate" (aligned series as channels) or "univariate" (one series a sample).
        covariates: Columns known over the horizon that the data offer.
        past_covariates: Columns known up to the cutoff only that the data offer.
        static: How those of `covariates` are encoded that hold for a whole series.
        share_covariates: As in `WindowDataset`.
        split: Where training, validation and test end, where the whole data set is split.
        val_size: Steps held for validation where only an end is held out; None = a tenth, at least `h`.
        domain: What the data are, for prompts; empty = not said.
        pads_short: Whether series shorter than the context are padded unless something else is asked: only where
            nobody asked for a context.
    """

    h: int
    freq: Freq
    season: int
    context_length: int
    layout: Layout = "multivariate"
    covariates: tuple[str, ...] = ()
    past_covariates: tuple[str, ...] = ()
    static: Static = field(default_factory=dict)
    share_covariates: bool = False
    split: SplitRule = field(default_factory=ByFractions)
    val_size: int | None = None
    domain: str = ""
    name: str = ""
    pads_short: bool = False

    def without_covariates(self) -> "ForecastTask":
        """Returns the task for a model that reads no covariates."""
        return replace(self, covariates=(), past_covariates=(), static={})

    def held_for_validation(self, shortest: int) -> int:
        """Returns how many steps at the end are held, for a shortest series of so many steps.

        Raises:
            TaskError: If fewer than a horizon were asked for.
        """
        return hold_for_validation(self.h, self.val_size, shortest)


def load_data(
    name: str, asked: Asked, *, data_path: str | None = None, targets: Sequence[str] | None = None
) -> LoadedData:
    """Loads a named data set, a file or a data set of the Hub with the columns that were asked for.

    Of a named data set that means its own covariates unless others are named; of a file, the named ones alone.

    Raises:
        As `load_frame`.
    """
    offered = _offered(DATASETS.get(name), asked) if name in DATASETS else _offered(None, asked)
    columns = [*offered[0], *offered[1]]
    return load_source(
        name,
        asked.names,
        remembered=asked.remembered,
        freq=asked.freq,
        targets=targets,
        covariates=columns,
        static=asked.static or (),
        data_path=data_path,
        day_first=asked.day_first,
    )


def load_given(df: pd.DataFrame, asked: Asked, name: str = "", targets: Sequence[str] | None = None) -> LoadedData:
    """Validates a frame with the columns that were asked for.

    Raises:
        FrameError: If the frame breaks the contract.
    """
    columns = [*(asked.covariates or ()), *(asked.past_covariates or ())]
    names = asked.names.resolve(df)
    raw = names.read(df, strict=True)
    with names.speaking():
        raw, static = encode_static(raw, asked.static or ())
        columns += name_static(static)
        frame = validate_frame(raw, freq=asked.freq, covariates=columns, targets=targets, day_first=asked.day_first)
    freq = infer_freq(frame) if asked.freq is None else normalize_freq(asked.freq)
    ignored = find_ignored(raw, frame, targets, static)
    return LoadedData(name, frame, freq, names=names, ignored=ignored, static=static)


def build_task(loaded: LoadedData, asked: Asked | None = None) -> ForecastTask:
    """Answers every question about the data.

    Args:
        loaded: A validated frame and its source.
        asked: What was said; None = nothing.

    Raises:
        TaskError: If the horizon is known from nowhere, or what was asked does not fit the data.
    """
    asked = Asked() if asked is None else asked
    source, df, known = loaded.source, loaded.df, loaded.task
    h = asked.h or (known.horizon if known else source.prediction_length if source else None)
    if h is None:
        what = f"{loaded.name} is no named data set, so" if loaded.name else "a frame has no customary horizon, so"
        raise TaskError(f"{what} give the steps ahead: --h 24 (h=24 in Python, prediction_length in a recipe)")
    freq = loaded.freq if asked.freq is None else normalize_freq(asked.freq)
    season = asked.season or (known.seasonality if known else source.season if source else default_season(freq))
    if isinstance(freq, int) and asked.season is None and known is None and source is None:
        tell_no_season(loaded.name or "frame")
    split = build_split(asked.split) if asked.split is not None else source.split if source else ByFractions()
    context = asked.context_length or (source.context_length if source else None)
    chosen = context is None
    if context is None:
        context = default_context_length(freq, season, h, int(df.groupby(ID, sort=False).size().median()))
    layout = choose_layout(df) if asked.layout in (None, "auto") else asked.layout
    if loaded.static and layout == "multivariate":
        # What tells series apart is of use where each is a sample of its own.
        if asked.layout == "multivariate":
            raise TaskError(
                f"static covariates ({', '.join(loaded.static)}) tell series apart, but layout 'multivariate' reads "
                "all at once; ask for layout 'univariate', or leave them out"
            )
        layout = "univariate"
    static: Static = loaded.static
    covariates, past = _offered(loaded, asked)
    covariates += tuple(name for name in name_static(static) if name not in covariates)
    _require_columns(df, [*covariates, *past])
    task = ForecastTask(
        h=h,
        freq=freq,
        season=season,
        context_length=context,
        layout=layout,  # type: ignore[arg-type]
        covariates=covariates,
        past_covariates=past,
        static=static,
        share_covariates=asked.share_covariates,
        split=split,
        val_size=asked.val_size,
        domain=asked.domain if asked.domain is not None else source.domain if source else "",
        name=loaded.name,
        pads_short=asked.context_length is None,
    )
    logger.info(
        "%s: h %d, context_length %d%s, season %d, freq %s, layout %s%s",
        loaded.name or "frame",
        h,
        context,
        " (by frequency)" if chosen else "",
        season,
        freq,
        layout,
        " (auto)" if asked.layout in (None, "auto") else "",
    )
    return task


def default_context_length(freq: Freq, season: int, h: int, steps: int | None = None) -> int:
    """Returns how many steps are read unless somebody says otherwise.

    At least two of the longest customary seasons of the frequency (a fortnight below days), three of the main season
    (36 months), two horizons and 32 steps; no more than two thirds of what a series of `steps` can bear, in whole
    seasons.

    >>> default_context_length("h", 24, 24), default_context_length("30min", 48, 48), default_context_length("MS", 12, 12)
    (336, 672, 36)
    """  # noqa: E501
    seasons = sorted({season, *customary_seasons(freq)})
    longest = seasons[-1]
    wanted = max(2 * longest, 3 * season, 2 * h, _LEAST_CONTEXT)
    wanted = -(-wanted // longest) * longest if longest <= wanted else wanted
    bearable = _MOST_CONTEXT if steps is None else min(_MOST_CONTEXT, max(1, 2 * (steps - h) // 3))
    if wanted <= bearable:
        return wanted
    for length in reversed(seasons):
        if 1 < length <= bearable:
            return bearable // length * length
    return bearable


def choose_layout(df: pd.DataFrame) -> Layout:
    """Returns "multivariate" if all series share their times, else "univariate"."""
    spans = df.groupby(ID, sort=False)[TIME].agg(["min", "max", "size"])
    return "multivariate" if len(spans.drop_duplicates()) == 1 else "univariate"


def hold_for_validation(h: int, val_size: int | None, shortest: int) -> int:
    """Returns how many steps at the end of each series are held: `val_size`, or a tenth of the shortest, at least `h`.

    Raises:
        TaskError: If fewer than a horizon were asked for.
    """
    held = max(h, shortest // 10) if val_size is None else val_size
    if held and held < h:
        raise TaskError(f"val_size is {held}, less than the horizon of {h}; give 0 or at least {h}")
    return held


def build_split(split: list[float] | dict[str, Any]) -> SplitRule:
    """Builds a split rule from plain types.

    Args:
        split: Three fractions [train, validation, test]; counts of steps {train, validation, test}; or the times
            {validation, test} (and {end}) at which these parts begin.

    Raises:
        TaskError: If it is none of these.
    """
    if isinstance(split, dict):
        keys = set(split)
        if keys == {"train", "validation", "test"} and all(isinstance(v, int) for v in split.values()):
            return ByCounts(**split)
        if {"validation", "test"} <= keys <= {"validation", "test", "end"}:
            return ByDates(**split)
    elif len(split) == 3:
        return ByFractions(*split)
    raise TaskError(
        f"split is {split!r}; give three fractions [train, validation, test], counts of steps {{train, validation, "
        "test}, or the times {validation, test} at which these parts begin"
    )


def _offered(loaded: Any, asked: Asked) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns known and past covariates: the named ones, else those of the data set or task behind the data."""
    if asked.covariates is not None or asked.past_covariates is not None:
        return tuple(asked.covariates or ()), tuple(asked.past_covariates or ())
    if isinstance(loaded, LoadedData):
        if loaded.task is not None:
            return tuple(loaded.task.known_dynamic_columns), tuple(loaded.task.past_dynamic_columns)
        loaded = loaded.source
    return (loaded.covariates, loaded.past_covariates) if loaded is not None else ((), ())


def _require_columns(df: pd.DataFrame, columns: Sequence[str]) -> None:
    absent = [c for c in columns if c not in df.columns]
    if absent:
        raise TaskError(f"covariate {absent[0]!r} is not in the frame; found columns {[str(c) for c in df.columns]}")


def _is_count(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)

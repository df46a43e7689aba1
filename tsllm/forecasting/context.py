"""Any forecaster, told what is known: its forecasts changed where a text speaks, untouched where it is silent."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd

from tsllm.context.applying import Window
from tsllm.context.contract import TEXT, Context, write_notes
from tsllm.context.effects import Effect
from tsllm.context.notes import Note
from tsllm.context.parser import read_by_rules
from tsllm.context.readers import EffectSpeaker, Idle, ProseReader, ReadOnce, sort_notes
from tsllm.data.facts import TrainingFacts
from tsllm.data.frame import find_last_times, infer_freq, validate_frame
from tsllm.data.frequency import Freq, default_season
from tsllm.data.names import ColumnNames
from tsllm.data.target import TargetScale
from tsllm.files import replace_folder
from tsllm.forecasting.base import Forecaster, Progress, check_windows, name_interval_columns, read_levels
from tsllm.forecasting.base_paths import PathSource, iterate_windows, sample_paths
from tsllm.forecasting.carrying_out import (
    Draws,
    Effects,
    apply_to_series,
    carry_out,
    clean_histories,
    renew_window,
    spread_effects,
)
from tsllm.forecasting.context_folder import (
    ContextSettings,
    name_readers,
    open_readers,
    write_texts,
)
from tsllm.forecasting.explanation import Explanation
from tsllm.forecasting.paths import simulate
from tsllm.forecasting.readers import open_reader
from tsllm.hub.artefacts import OWNED
from tsllm.hub.told import BASE, READER
from tsllm.hub.told_card import write_told_card
from tsllm.types import CUTOFF, ID, TARGET, TIME, FrameError


class ContextForecaster(Forecaster):
    """Wraps a forecaster, and changes its forecasts by what a text says.

    A series without a text, or with one that says nothing about it, gets exactly what the base forecasts. A base that
    learned to read texts (`text_layers`) is told the same ones, in training and forecasts, before effects are applied.

    Args:
        base: Any forecaster.
        reader: Gives roles to the prose of a text, such as `LearnedReader.read`; or the name of a reader, as
            `tsllm.forecasting.readers.open_reader` takes it; None takes the regular expressions.
        alias: Name of the forecast column; None = the base's with `+context`.
        freq: Frequency of the data; None infers it.
        season: Steps in a season; None = by frequency.
        context: Texts for every `fit` that is given none, so that it can stand among the models of a back-test; as in
            `predict`. A text without `published` is refused here unless `timeless`.
        timeless: Whether a text without `published` may be read at every cutoff of a back-test.
        check_length: Refuses texts that the reader cannot take in, such as `TextEncoder.check_length`.
        paths: How sample paths come out of the base; None = from its quantiles.
        samples: Paths a series.
        seed: Of the draws.

    Example:
        >>> import pandas as pd, tsllm
        >>> df = pd.DataFrame({"unique_id": "a", "ds": pd.date_range("2024", periods=28), "y": [8.0] * 28})
        >>> told = tsllm.ContextForecaster(tsllm.SeasonalNaive(7)).fit(df, 2)
        >>> told.predict(context="Closed on 30 January 2024: sales are 0.")["SeasonalNaive+context"].tolist()
        [8.0, 0.0]
    """

    rolls_at_once: ClassVar[bool] = True

    def __init__(
        self,
        base: Forecaster,
        reader: ProseReader | str | Path | None = None,
        alias: str | None = None,
        *,
        freq: Freq | None = None,
        season: int | None = None,
        context: Any = None,
        timeless: bool = False,
        check_length: Callable[[str, str], None] | None = None,
        paths: PathSource | None = None,
        samples: int = 200,
        seed: int = 0,
    ) -> None:
        if isinstance(reader, str | Path):
            opened = open_reader(reader)
            reader, check_length = opened.read, check_length or opened.check_length
        self.base, self.reader = base, reader or read_by_rules
        self._prose = ReadOnce(self.reader) if not isinstance(self.reader, EffectSpeaker) else self.reader
        self.alias = f"{base.alias}+context" if alias is None else alias
        self.freq, self.season, self.timeless, self.check_length = freq, season, timeless, check_length
        self.paths = paths or sample_paths
        self.samples, self.seed = samples, seed
        self.covariates, self.past_covariates, self.names = base.covariates, base.past_covariates, base.names
        self._history: pd.DataFrame | None = None
        self._h: int | None = None
        self.context = self._context = context

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copies all but the reader, which is frozen and may hold a language model."""
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        memo |= {id(shared): shared for shared in (self.reader, self._prose, self.check_length)}
        made.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return made

    def tell(self, context: Any, timeless: bool = False) -> Self:
        """Takes texts for every later `fit`, as the constructor does."""
        self.context = self._context = context
        self.timeless = timeless
        return self

    def fit(self, df: pd.DataFrame, h: int | None = None, context: Any = None) -> Self:
        """Fits the base, and remembers the texts for `predict` and `predict_rolling`; None = the constructor's.

        Raises:
            FrameError: If the texts do not fit the data (see `Context.read`), or one of the constructor's does not say
                when it was published.
        """
        history = self._read(df)
        given = self.context if context is None else context
        self._check(given, history)
        if context is None:
            if given is not None and self._base_reads:
                self.base.tell(given, self.timeless)
            self.base.fit(df, h)
        else:
            options: dict[str, Any] = {"context": given} if self._base_reads else {}
            self.base.fit(df, h, **options)
        self._history, self._h, self._context = history, h, given
        return self

    def update(self, df: pd.DataFrame) -> Self:
        """Takes `df` as the new history; the texts stay."""
        history = self._read(df)
        self.base.update(df)
        self._history = history
        return self

    def _read(self, df: pd.DataFrame) -> pd.DataFrame:
        """Returns the long frame of keys and target, checked, with what else the base may read of it."""
        covariates = [*self.base.covariates, *self.base.past_covariates]
        return validate_frame(df, freq=self.freq, covariates=covariates, keep_others=True)

    @property
    def reads_texts(self) -> bool:
        """Its reader does."""
        return True

    @property
    def texts(self) -> Any:
        """What `predict` reads unless it is given texts: those of `fit`, else the constructor's."""
        return self._context

    def expect_levels(self, level: Sequence[float]) -> None:
        """Tells the base."""
        self.base.expect_levels(level)

    def count_parameters(self) -> tuple[int | None, int | None]:
        """Returns those of the base."""
        return self.base.count_parameters()

    @property
    def max_seconds(self) -> float | None:  # type: ignore[override]
        """Limit of the base's training; setting it sets the base's."""
        return self.base.max_seconds

    @max_seconds.setter
    def max_seconds(self, seconds: float | None) -> None:
        self.base.max_seconds = seconds

    @property
    def progress(self) -> Progress | None:  # type: ignore[override]
        """Who is told of the base's training; setting it sets the base's."""
        return self.base.progress

    @progress.setter
    def progress(self, progress: Progress | None) -> None:
        self.base.progress = progress

    @property
    def log(self) -> Sequence[dict[str, Any]]:  # type: ignore[override]
        """What the base's training logged."""
        return self.base.log

    @property
    def seconds(self) -> float:  # type: ignore[override]
        """What the base's last `fit` took."""
        return self.base.seconds

    @property
    def context_length(self) -> int | None:
        """Steps of history that the base reads."""
        return self.base.context_length

    @property
    def trained_on(self) -> TrainingFacts:
        """What the base was trained on, so that a back-test finds leakage in it."""
        return self.base.trained_on

    def predict(
        self,
        df: pd.DataFrame | None = None,
        h: int | None = None,
        level: Sequence[float] | None = None,
        X_df: pd.DataFrame | None = None,
        context: Any = None,
        effects: Effects | None = None,
    ) -> pd.DataFrame:
        """Forecasts as the base does, and applies what the texts say.

        Args:
            df: As in `Forecaster.predict`.
            h: As in `Forecaster.predict`.
            level: As in `Forecaster.predict`.
            X_df: As in `Forecaster.predict`.
            context: One text, a mapping series -> text or a frame (see `Context.read`); None = that of `fit`. A row
                with `published` is read only by series that end at or after it; a warning says how many are not.
            effects: In place of what the reader would find, such as those of `explain_context`, edited: effects, or
                their lines, for all series, or a mapping series -> these. Series without any are as the base
                forecasts them.

        Raises:
            FrameError: If the texts do not fit the data, or the effects.
            ValueError: If there is no history or no horizon, a text is too long for the reader, or a line is no
                effect.
        """
        return self._forecast(df, h, level, X_df, context, effects, warns=True)[0]

    def predict_and_explain(
        self,
        df: pd.DataFrame | None = None,
        h: int | None = None,
        level: Sequence[float] | None = None,
        X_df: pd.DataFrame | None = None,
        context: Any = None,
        effects: Effects | None = None,
    ) -> tuple[pd.DataFrame, list[Explanation]]:
        """Returns what `predict` and `explain_context` return, of one forecast."""
        return self._forecast(df, h, level, X_df, context, effects)

    def _forecast(
        self,
        df: pd.DataFrame | None,
        h: int | None,
        level: Sequence[float] | None,
        X_df: pd.DataFrame | None,
        context: Any,
        effects: Effects | None = None,
        warns: bool = False,
    ) -> tuple[pd.DataFrame, list[Explanation]]:
        """Forecasts and explains; `warns` = says of texts for this forecast alone how many it may not read."""
        history = self._read(df) if df is not None else self._history
        if history is None:
            raise ValueError(f"{self.alias} has no history: call fit(df, h) first")
        given = self._context if context is None else context
        base = self._tell_base(given)
        before = base.predict(history, h if h is not None else self._h, level, X_df)
        told = self._check_ahead(given, history, before)
        texts = _read_at_ends(told, history)
        if warns and not self._stands(given):
            told.warn_of_unread(history)
        windows, found, idle = self._find_effects(history, before, texts, effects)
        after = self._change(base, history, before, level, X_df, windows, found)
        explained = [
            Explanation(
                name, write_notes(texts.get(name, ())), own, self._compare(before, after, name),
                tuple(idle.get(name, ())),
            )
            for name, own in found.items()
        ]  # fmt: skip
        row: Any  # its columns are named, which itertuples does not tell
        for row in told.find_unread(history).itertuples():
            name, why = getattr(row, ID), f"published at {row.published}, after the end of the series at {row.last}"
            explained.append(Explanation(name, row.text, [], self._compare(before, after, name), unread=why))
        return after, explained

    def _compare(self, before: pd.DataFrame, after: pd.DataFrame, name: Any) -> pd.DataFrame:
        """Returns the forecasts of a series without and with texts, as an `Explanation` has them."""
        rows = (after[ID] == name).to_numpy()
        points = {"before": before.loc[rows, self.base.alias], "after": after.loc[rows, self.alias]}
        times = {TIME: after.loc[rows, TIME].to_numpy()}
        return pd.DataFrame(times | {label: values.to_numpy() for label, values in points.items()})

    def predict_rolling(
        self, df: pd.DataFrame, h: int, n_windows: int, step_size: int, level: Sequence[float] | None = None
    ) -> pd.DataFrame:
        """Forecasts from the last cutoffs with the texts of `fit`; a cutoff reads what was published by then.

        Raises:
            FrameError: If a series is too short, or a text does not say when it was published.
        """
        check_windows(df, h, n_windows, step_size)
        whole = self._read(df)
        told = Context.read(self._context, whole, timeless=self.timeless, check_length=self.check_length)
        base = self._tell_base(self._context, self.timeless)
        rolled, parts = base.predict_rolling(whole, h, n_windows, step_size, level), []
        for k in range(n_windows):
            ahead = h + (n_windows - 1 - k) * step_size
            history = whole.groupby(ID, sort=False).head(-ahead).reset_index(drop=True)
            steps = whole.groupby(ID, sort=False).tail(ahead).groupby(ID, sort=False).head(h)
            known = steps.drop(columns=TARGET) if self.covariates else None
            cutoffs = history.groupby(ID, sort=False)[TIME].last()
            texts = told.notes_at(cutoffs.to_dict())
            here = rolled[CUTOFF] == rolled[ID].map(cutoffs)
            before = rolled[here].drop(columns=CUTOFF).reset_index(drop=True)
            windows, found, _ = self._find_effects(history, before, texts)
            part = self._change(base, history, before, level, known, windows, found)
            part.insert(2, CUTOFF, part[ID].map(cutoffs))
            parts.append(part)
        return pd.concat(parts).sort_values([ID, CUTOFF, TIME], kind="stable", ignore_index=True)

    def sample_own_paths(
        self,
        df: pd.DataFrame,
        n_samples: int,
        seed: int,
        h: int | None = None,
        X_df: pd.DataFrame | None = None,
        **options: Any,
    ) -> pd.DataFrame:
        """Draws the base's joint paths and carries out on each what the texts of `fit` say.

        The errors are those of the base, so that a text need not say when it was published.

        Raises:
            FrameError: If the texts do not fit the data.
            ValueError: If the base cannot draw paths.
        """
        history, steps = self._read(df), h if h is not None else self._h
        base = self._tell_base(self._context)
        before = base.predict(history, steps, None, X_df)
        texts = _read_at_ends(self._check_ahead(self._context, history, before), history)
        windows, effects, _ = self._find_effects(history, before, texts)
        changed = {name: found for name, found in effects.items() if found}
        cleaned = clean_histories(history, windows, changed)
        paths = simulate(base, cleaned, n_samples, seed, h=steps, X_df=X_df, **options)
        paths = paths.rename(columns={self.base.alias: self.alias})
        for name, found in changed.items():
            rows = (paths[ID] == name).to_numpy()
            drawn = paths.loc[rows, self.alias].to_numpy(float).reshape(n_samples, -1)
            told = apply_to_series(name, renew_window(windows[name], cleaned, name), found, drawn, self.seed)
            paths.loc[rows, self.alias] = told.reshape(-1)
        return paths

    def explain_context(
        self,
        df: pd.DataFrame | None = None,
        h: int | None = None,
        X_df: pd.DataFrame | None = None,
        context: Any = None,
    ) -> list[Explanation]:
        """Returns for each series with a text: the text, the effects, and the forecast before and after them.

        A text that was published after the end of its series is not read; each has an explanation that says so
        (`Explanation.unread`).
        """
        return self.predict_and_explain(df, h, None, X_df, context)[1]

    def check_context(self, df: pd.DataFrame, h: int | None = None) -> None:
        """Looks whether the constructor's texts fit the data, as `fit` does, without fitting.

        Args:
            df: The data.
            h: Steps after each series that a text may be about; None = any.

        Raises:
            FrameError: If they do not, or one does not say when it was published.
            ValueError: If a text is too long for the reader.
        """
        history = self._read(df)
        self._check(self.context, history, None if h is None else find_last_times(history, h, self.freq))

    def save_pretrained(self, folder: str | Path, *, licence: str | None = None) -> None:
        """Writes the base, the reader and the settings into one folder, in one step or not at all.

        The texts that the next `predict` would read are kept too. `tsllm.forecasting.saved.open_saved` and `tsllm
        predict FOLDER` open it again.

        Raises:
            NotImplementedError: If the base keeps nothing that could be saved, or the reader or the source of paths is
                a function of one's own.
            ValueError: If there is nothing trained to save.
            OSError: If another process writes the folder, or the disk is full.
        """
        names, learned = name_readers(self.reader)
        if self.paths is not sample_paths or (self.check_length is not None and learned is None):
            raise NotImplementedError("paths and check_length of one's own cannot be saved; save the base alone")
        settings = ContextSettings(
            self.alias, names, self.freq, self.season, self.timeless, self.samples, self.seed,
            self._context is self.context, write_texts(self._context), self.names.to_dict(), asdict(self.target_scale),
        )  # fmt: skip
        with replace_folder(folder, (*OWNED, BASE, READER)) as made:
            options = {"licence": licence or self.licence} if licence or self.licence else {}
            self.base.save_pretrained(made / BASE, **options)
            if learned is not None:
                learned.save_pretrained(made / READER)
            settings.save(made)
            write_told_card(made)

    @classmethod
    def load(cls, folder: Path, base: Forecaster) -> Self:
        """Puts together what `save_pretrained` wrote; `tsllm.forecasting.saved.open_saved` opens the base.

        Raises:
            OSError: If a file is missing or damaged.
            ValueError: If settings are impossible, or the reader's language model has other weights.
        """
        given = ContextSettings.load(folder)
        reader, texts = open_readers(given.readers, folder / READER), given.read_texts()
        made = cls(
            base, reader.read, given.alias, freq=given.freq, season=given.season,
            context=texts if given.standing else None, timeless=given.timeless, check_length=reader.check_length,
            samples=given.samples, seed=given.seed,
        )  # fmt: skip
        made._context = texts
        if given.names:
            made.names = ColumnNames.from_dict(given.names)
        made.target_scale = TargetScale(**given.target_scale)
        return made

    def _stands(self, context: Any) -> bool:
        """Whether texts are the constructor's, which serve many cutoffs: they may lie ahead and must be dated."""
        return context is not None and context is self.context

    def _check(self, context: Any, history: pd.DataFrame, last: Mapping[Any, Any] | None = None) -> Context:
        """Reads texts."""
        timeless = self.timeless or not self._stands(context)
        told = Context.read(context, history, last=last, timeless=timeless, check_length=self.check_length)
        told.refuse_undated(history[TIME].max())
        if (told.table[TEXT].str.strip() != "").any():
            _require_dates(history)
        return told

    def _check_ahead(self, context: Any, history: pd.DataFrame, ahead: pd.DataFrame) -> Context:
        """Reads texts for a forecast of the steps of `ahead`."""
        last = None if self._stands(context) else ahead.groupby(ID, sort=False)[TIME].last().to_dict()
        return self._check(context, history, last)

    @property
    def _base_reads(self) -> bool:
        """Whether the base learned to read texts; effects are carried out once, also where wrappers are nested."""
        return self.base.reads_texts and not isinstance(self.base, ContextForecaster)

    def _tell_base(self, context: Any, timeless: bool = True) -> Forecaster:
        """Returns the base, told the same where it reads texts; the one that others may hold stays as it is."""
        if context is None or not self._base_reads:
            return self.base
        return copy.copy(self.base).tell(context, timeless)

    def _change(
        self,
        base: Forecaster,
        history: pd.DataFrame,
        before: pd.DataFrame,
        level: Sequence[float] | None,
        X_df: pd.DataFrame | None,
        windows: dict[Any, Window],
        effects: dict[Any, list[Effect]],
    ) -> pd.DataFrame:
        """Returns the base's forecast as effects change it."""
        level = list(dict.fromkeys(read_levels(level)))
        columns = name_interval_columns(self.base.alias, level)
        names = dict(
            zip([self.base.alias, *columns], [self.alias, *name_interval_columns(self.alias, level)], strict=True)
        )
        out = before.rename(columns=names)
        changed = {name: found for name, found in effects.items() if found}
        if changed:
            draws = Draws(self.paths, self.samples, self.seed)
            part = carry_out(base, history, before, windows, changed, draws, level, X_df)
            rows = out[ID].isin(changed).to_numpy()
            out.loc[rows, list(names.values())] = np.concatenate([part[name] for name in out.loc[rows, ID].unique()])
        return out

    def _find_effects(
        self,
        history: pd.DataFrame,
        before: pd.DataFrame,
        texts: dict[Any, list[Note]],
        effects: Effects | None = None,
    ) -> tuple[dict[Any, Window], dict[Any, list[Effect]], dict[Any, list[Idle]]]:
        """Returns the windows of all series, and the effects of those with a text: what acts, and what is left out.

        `effects` stand in place of what the texts say.
        """
        if not texts and effects is None:
            return {}, {}, {}
        _require_dates(history)
        freq = self.freq if self.freq is not None else infer_freq(history)
        windows = dict(iterate_windows(history, before, self.season or default_season(freq)))
        if effects is not None:
            return windows, spread_effects(effects, list(windows)), {}
        read = {name: self._understand(name, notes, windows[name]) for name, notes in texts.items()}
        return windows, {name: r[0] for name, r in read.items()}, {name: r[1] for name, r in read.items()}

    def _understand(self, name: Any, notes: Sequence[Note], window: Window) -> tuple[list[Effect], list[Idle]]:
        """Returns what `sort_notes` does; an error names series and text."""
        try:
            return sort_notes(notes, window, self._prose)
        except ValueError as error:
            text = write_notes(notes)
            shown = text if len(text) <= 80 else f"{text[:80]}..."
            raise FrameError(f"series {name!r}, in the text {shown!r}: {error}") from error


def _read_at_ends(told: Context, history: pd.DataFrame) -> dict[Any, list[Note]]:
    """Returns series -> notes that a forecast from the end of the history may read."""
    return told.notes_at(history.groupby(ID, sort=False)[TIME].last().to_dict())


def _require_dates(history: pd.DataFrame) -> None:
    if not pd.api.types.is_datetime64_any_dtype(history[TIME]):
        raise FrameError("texts speak of dates, but the data count their steps; give dates in `ds`, or no context")

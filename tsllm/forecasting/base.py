"""What every forecaster is: fit on a long frame, predict a long frame, whatever stands behind it."""

import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NoReturn, Self

import numpy as np
import pandas as pd

from tsllm.data.facts import TrainingFacts
from tsllm.data.frame import infer_freq
from tsllm.data.frequency import Freq, normalize_freq
from tsllm.data.names import OWN, ColumnNames
from tsllm.data.target import TargetScale
from tsllm.forecasting.border import FRAMED, at_border
from tsllm.hub.spec import check_alias
from tsllm.hub.told import READS_ITSELF
from tsllm.types import CUTOFF, ID, TARGET, TIME, FrameError

Progress = Callable[[int, int, dict[str, float]], None]  # step, steps in all, what was logged


class Forecaster:
    """The base of all forecasters: what the back-test, the comparison and users call.

    A forecaster of one's own is a subclass that sets `alias` and implements `fit` and `predict`; everything else has a
    default that is right for a forecaster that estimates with `fit` and has no more to tell.

    Attributes:
        alias: The name of the forecast column.
        covariates: Columns that it reads and that must be known over the horizon.
        past_covariates: Columns that it reads up to the cutoff.
        max_seconds: Training stops after so many seconds, where there is training; None = no limit.
        progress: Is told each logged step of training; None = nobody.
        verbose: Whether what takes more than two seconds shows a bar, in a terminal or a notebook.
        log: What training logged (`step`, `loss`, `eval_loss` ...), in order.
        seconds: What the last `fit` took; 0 where it is not measured.
        names: What the columns of the user's tables are called (`name_columns`).
        target_scale: How the target is transformed, and what a forecast may be (`scale_target`).
        licence: Of what is saved, as the Hub abbreviates it; empty = what backbone and data allow to say.
        rolls_at_once: Whether `predict_rolling` is more than a loop over `predict`.

    Example:
        >>> import pandas as pd, tsllm
        >>> class LastValue(tsllm.Forecaster):
        ...     alias = "LastValue"
        ...     def fit(self, df, h=None):
        ...         self.last, self.h = df.groupby("unique_id")["y"].last(), h
        ...         self.ahead = tsllm.future_frame(df, h)
        ...         return self
        ...     def predict(self, df=None, h=None, level=None, X_df=None):
        ...         return self.ahead.assign(LastValue=self.ahead["unique_id"].map(self.last))
        >>> df = pd.DataFrame({"unique_id": "a", "ds": [1, 2, 3], "y": [1.0, 2.0, 4.0]})
        >>> LastValue().fit(df, h=2).predict()["LastValue"].tolist()
        [4.0, 4.0]
    """

    covariates: Sequence[str] = ()
    past_covariates: Sequence[str] = ()
    static: Mapping[str, Any] = {}  # how static covariates are encoded
    max_seconds: float | None = None
    progress: Progress | None = None
    verbose: bool = True
    log: Sequence[dict[str, Any]] = ()
    seconds: float = 0.0
    names: ColumnNames = OWN
    target_scale: TargetScale = TargetScale()
    licence: str = ""
    rolls_at_once: ClassVar[bool] = False
    scales_target: ClassVar[bool] = False  # whether it applies `target_scale` by itself
    _alias: str = ""
    _named: bool = False  # whether the history came under the user's names
    _inside: bool = False  # whether a method that translates frames is running
    _scaled: str = "none"  # transform of the history
    _scaling: bool = False  # whether a method that transforms the target is running

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in FRAMED:
            if name in vars(cls):
                setattr(cls, name, at_border(vars(cls)[name]))

    @property
    def alias(self) -> str:
        """Name of the forecast column."""
        return self._alias

    @alias.setter
    def alias(self, alias: str) -> None:
        check_alias(alias)
        self._alias = alias

    def name_columns(
        self, id_col: str | None = None, time_col: str | None = None, target_col: str | None = None
    ) -> Self:
        """Says what the columns of the frames are called that `fit` and `predict` will be given.

        Forecasts get these names back, errors speak of them, a saved model remembers them. Frames that have the names
        `unique_id, ds, y` are still taken as they are.

        Args:
            id_col: Column that names the series; None = `unique_id`.
            time_col: Column of the times; None = `ds`.
            target_col: Column of the values; None = `y`.

        Returns:
            Itself.

        Raises:
            FrameError: If a name is none, or stands for two columns.

        Example:
            >>> import pandas as pd, tsllm
            >>> sales = pd.DataFrame({"shop": "A", "day": pd.date_range("2024", periods=14), "sold": range(14)})
            >>> naive = tsllm.SeasonalNaive(7).name_columns("shop", "day", "sold")
            >>> list(naive.fit(sales, h=1).predict().columns)
            ['shop', 'day', 'SeasonalNaive']
        """
        self.names = ColumnNames.of(id_col, time_col, target_col)
        return self

    def scale_target(self, transform: str = "none", *, non_negative: bool = False, integer: bool = False) -> Self:
        """Says on which scale the target is forecast, and what a forecast may be.

        Applied to point forecasts, interval bounds and sample paths alike. Give it before `fit`.

        Args:
            transform: "log1p" (values from 0), "asinh" (both signs) or "none": the target is learned and forecast on
                this scale, and forecasts are taken back.
            non_negative: Whether forecasts below 0 become 0.
            integer: Whether forecasts are rounded to whole numbers.

        Returns:
            Itself.

        Raises:
            ValueError: If a value is none of these.

        Example:
            >>> import pandas as pd, tsllm
            >>> df = pd.DataFrame({"unique_id": "a", "ds": range(8), "y": [0, 3, 0, 4, 0, 3, 0, 4]})
            >>> naive = tsllm.SeasonalNaive(2).scale_target(non_negative=True, integer=True)
            >>> naive.fit(df, h=1).predict(level=[90]).iloc[0, 2:].tolist()
            [0.0, 0.0, 1.0]
        """
        self.target_scale = TargetScale(transform, non_negative, integer)  # type: ignore[arg-type]
        return self

    def fit(self, df: pd.DataFrame, h: int | None = None) -> Self:
        """Learns from a long frame `unique_id, ds, y` (and covariates) and remembers it as the history.

        Args:
            df: Training data, validated here.
            h: Steps that will be asked for; models of fixed horizon check it.

        Returns:
            Itself.
        """
        raise NotImplementedError

    def predict(
        self,
        df: pd.DataFrame | None = None,
        h: int | None = None,
        level: Sequence[float] | None = None,
        X_df: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """Forecasts the `h` steps after the end of each series.

        Args:
            df: History to forecast from, without fitting again; None = the data of `fit`.
            h: Steps ahead; None = the horizon of `fit`.
            level: Coverage of central intervals in per cent, e.g. [80].
            X_df: Future values of covariates that are known ahead: `unique_id, ds, ...`.

        Returns:
            Frame `unique_id, ds, <alias>` and, for each level, `<alias>-lo-80`, `<alias>-hi-80`; h rows a series. The
            bounds of a forecaster that returns none are added as NaN, with a warning.
        """
        raise NotImplementedError

    @at_border
    def predict_rolling(
        self, df: pd.DataFrame, h: int, n_windows: int, step_size: int, level: Sequence[float] | None = None
    ) -> pd.DataFrame:
        """Forecasts from the last `n_windows` cutoffs of each series without fitting; here, one after the other.

        Known covariates of the horizon are read from `df` itself.

        Args:
            df: Whole series; the last cutoff lies `h` steps before the end.
            h: Steps ahead.
            n_windows: How many cutoffs.
            step_size: Steps between cutoffs.
            level: Coverage of central intervals in per cent.

        Returns:
            Frame `unique_id, ds, cutoff, <alias>, ...`, sorted by series, cutoff and time.

        Raises:
            FrameError: If a series is too short for the windows.
        """
        check_windows(df, h, n_windows, step_size)
        parts = []
        for k in range(n_windows):
            ahead = h + (n_windows - 1 - k) * step_size
            history = df.groupby(ID, sort=False).head(-ahead).reset_index(drop=True)
            steps = df.groupby(ID, sort=False).tail(ahead).groupby(ID, sort=False).head(h)
            part = self.predict(history, h, level, steps.drop(columns=TARGET) if self.covariates else None)
            part.insert(2, CUTOFF, part[ID].map(history.groupby(ID)[TIME].last()))
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
    ) -> pd.DataFrame | None:
        """Draws joint paths where the forecaster has a way of its own, as `simulate` returns them; else None.

        `options` holds those of `n_windows`, `step_size` and `pool` that were given.
        """
        return None

    @at_border
    def simulate(
        self,
        df: pd.DataFrame,
        n_samples: int = 100,
        seed: int = 0,
        h: int | None = None,
        X_df: pd.DataFrame | None = None,
        **options: Any,
    ) -> pd.DataFrame:
        """Draws joint sample paths of the steps after each series: its own, or from its forecasts and past errors.

        Args:
            df: History; its last part gives the errors that the paths are made of.
            n_samples: Paths a series.
            seed: Of the draws.
            h: Steps ahead; None = the horizon of `fit`.
            X_df: As in `predict`.
            **options: Of `tsllm.forecasting.paths.simulate`: `method`, `n_windows`, `step_size`, `level`, `pool`.

        Returns:
            Frame `unique_id, ds, sample, <alias>`, sorted by series, sample and time.
        """
        from tsllm.forecasting.paths import simulate

        return simulate(self, df, n_samples, seed, h=h, X_df=X_df, **options)

    @at_border
    def update(self, df: pd.DataFrame) -> Self:
        """Takes `df` as the new history; nothing is trained. Here that is `fit`, which only remembers.

        A forecaster whose `fit` learns parameters overrides it.
        """
        return self.fit(df)

    def expect_levels(self, level: Sequence[float]) -> None:
        """Is told before `fit` which intervals `predict` will be asked for; most need not know."""

    def _complete_levels(self, frame: pd.DataFrame, level: Sequence[float] | None) -> pd.DataFrame:
        """Returns a forecast with the bounds of all levels: NaN if it has none, which a warning says.

        Raises:
            ValueError: If the forecast has another name, or lacks some of its bounds.
        """
        bounds = name_interval_columns(self.alias, level)
        lacking = [column for column in bounds if column not in frame.columns]
        if self.alias not in frame.columns or 0 < len(lacking) < len(bounds):
            missing = lacking[0] if self.alias in frame.columns else self.alias
            raise ValueError(
                f"{self.alias} gave the columns {[str(c) for c in frame.columns]}, which lack {missing!r}; a forecast "
                f"is named by its alias ({self.alias!r}), its bounds by alias and level, as '{self.alias}-lo-80'"
            )
        if not lacking:
            return frame
        warnings.warn(f"{self.alias} gives no intervals; its bounds are NaN", stacklevel=3)
        return frame.assign(**dict.fromkeys(bounds, np.nan))

    def count_parameters(self) -> tuple[int | None, int | None]:
        """Returns how many parameters training changes and how many there are; None where that says nothing."""
        return None, None

    @property
    def context_length(self) -> int | None:
        """Steps of history that it reads; None = all, or not known."""
        return None

    @property
    def reads_texts(self) -> bool:
        """Whether it reads texts itself, so that `fit` and `predict` take `context`."""
        return False

    def tell(self, context: Any, timeless: bool = False) -> Self:
        """Takes texts for every later `fit` that is given none, where it reads texts.

        Args:
            context: One text, a mapping series -> text, or a frame `unique_id, text[, published, start, end]`.
            timeless: Whether texts without `published` may be read at every cutoff.

        Raises:
            ValueError: If it reads none.
        """
        self.refuse_context()

    def explain_context(
        self,
        df: pd.DataFrame | None = None,
        h: int | None = None,
        X_df: pd.DataFrame | None = None,
        context: Any = None,
    ) -> list[Any]:
        """Raises an error that says who explains what texts do; `ContextForecaster` does.

        Raises:
            NotImplementedError: Always.
        """
        if self.reads_texts:
            raise NotImplementedError(
                f"{self.alias} reads texts without saying effects, so that none can be listed; see which words matter "
                "with tsllm.forecasting.words.weigh_words(forecaster, df, context), or what they change by comparing "
                'predict(context=...) with predict(context="")'
            )
        raise NotImplementedError(
            f"{self.alias} reads no texts; tsllm.ContextForecaster({self.alias}).explain_context does"
        )

    def refuse_context(self, what: str = "context") -> NoReturn:
        """Raises the ValueError of a forecaster that is told something and reads no texts.

        Args:
            what: The option that was given: `context` or `timeless`.
        """
        given = "" if what == "context" else f", so {what} has no effect on it"
        raise ValueError(
            f"{self.alias} reads no texts{given}; wrap it in tsllm.forecasting.context.ContextForecaster, or train "
            f"a neural model with {READS_ITSELF}"
        )

    @property
    def known_ahead(self) -> list[str]:
        """Covariates whose values over the horizon must be given, as columns of `X_df`."""
        return list(self.covariates)

    @property
    def trained_on(self) -> TrainingFacts:
        """What it was trained or chosen on before it came here, as far as it says."""
        return TrainingFacts()

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes the forecaster into a folder.

        Raises:
            NotImplementedError: If it cannot be saved.
        """
        raise NotImplementedError(f"{self.alias} ({type(self).__name__}) keeps nothing that could be saved")

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool = False,
        token: str | None = None,
        revision: str | None = None,
        licence: str | None = None,
    ) -> str:
        """Uploads what `save_pretrained` writes in one commit, and returns the commit's address.

        Args:
            repo_id: "owner/name"; made if it does not exist.
            private: Whether a new repository is private; the texts that a `ContextForecaster` keeps stand in
                `context.json` for all who may read it.
            token: Access token; None = the stored one.
            revision: Branch to commit to; None = main.
            licence: Of the weights, as the Hub abbreviates it ("apache-2.0"); None = what was said before, else what
                backbone and data allow to say.

        Raises:
            NotImplementedError: If it cannot be saved.
            ValueError: If there is nothing trained to upload, or the licence is no abbreviation.
            huggingface_hub.errors.HfHubHTTPError: If the Hub refuses.

        Example:
            ```python
            forecaster.push_to_hub("me/prices", private=True, licence="cc-by-4.0")
            tsllm.NeuralForecaster.from_pretrained("me/prices").predict(df)
            ```
        """
        from tsllm.hub.licence import check_licence
        from tsllm.hub.package import push_to_hub

        self.licence = check_licence(licence) or self.licence
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / repo_id.rpartition("/")[2]
            self.save_pretrained(target)
            said = self.licence or None
            return push_to_hub(target, repo_id, private=private, token=token, revision=revision, licence=said)


class HistoryForecaster(Forecaster):
    """What forecasters share that are estimated with the forecast: they remember the history and the horizon of `fit`.

    A subclass sets `alias` and implements `_validate`; one that can be estimated once also implements `_estimate`.
    """

    _history: pd.DataFrame | None = None
    _h: int | None = None
    freq: Freq | None = None
    refit = True  # False: estimated by `fit`, and later histories are read with the same parameters
    _estimates: Mapping[Any, Any] | None = None  # series -> what was estimated once; None = nothing yet
    _estimated_on: tuple[Freq, str] | None = None  # frequency and transform of it

    def fit(self, df: pd.DataFrame, h: int | None = None) -> Self:
        """Remembers the history and the horizon; without `refit` it estimates, too."""
        history = self._validate(df)
        if not self.refit:
            self._estimates = self._estimate(history)
            self._estimated_on = self._find_freq(history), self.target_scale.transform
        self._history, self._h = history, h
        return self

    def _estimate(self, history: pd.DataFrame) -> dict[Any, Any]:
        """Returns what the history says of the parameters of each series."""
        raise NotImplementedError

    def _find_freq(self, history: pd.DataFrame) -> Freq:
        return normalize_freq(self.freq) if self.freq is not None else infer_freq(history)

    def _find_estimates(self, name: Any, freq: Freq) -> Any:
        """Returns what was estimated once of a series, for a history of this frequency.

        Raises:
            ValueError: If nothing was, or on another scale.
            FrameError: If the series or the frequency is another one.
        """
        if self._estimates is None or self._estimated_on is None:
            raise ValueError(f"{self.alias} is estimated once, by fit: call fit(df) first")
        before, scale = self._estimated_on
        if scale != self.target_scale.transform:
            raise ValueError(f"{self.alias} was fitted on another scale ({scale!r}); call fit(df) again")
        if before != freq:
            raise FrameError(f"{self.alias} was fitted on data of freq {before!r}, not {freq!r}; call fit(df) again")
        if name not in self._estimates:
            raise FrameError(f"series {name!r} was not in the data of fit; {self.alias} has no parameters for it")
        return self._estimates[name]

    def update(self, df: pd.DataFrame) -> Self:
        """Takes `df` as the new history; the horizon stays."""
        self._history = self._validate(df)
        return self

    def _validate(self, df: pd.DataFrame) -> pd.DataFrame:
        raise NotImplementedError

    def _recall(self, df: pd.DataFrame | None, h: int | None) -> tuple[pd.DataFrame, int]:
        """Returns history and horizon of a call of `predict`, those of `fit` where it leaves them out.

        Raises:
            ValueError: If there is no history or no horizon.
        """
        history = self._validate(df) if df is not None else self._history
        if history is None:
            raise ValueError(f"{self.alias} has no history: call fit(df), or predict(df=...)")
        steps = h if h is not None else self._h
        if steps is None:
            raise ValueError(f"{self.alias} does not know how far to forecast: give h to fit or to predict")
        check_count("h", steps)
        return history, steps


def write_refit_rule(alias: str, input_size: int | None, refit: bool = True) -> str:
    """Says when a statistical model is estimated, and on what.

    >>> write_refit_rule("MSTL", 1344)
    'MSTL is estimated anew at each cutoff, on the last 1,344 steps of each series.'
    >>> write_refit_rule("MSTL", 1344, refit=False)
    'MSTL is estimated once, by fit, on the last 1,344 steps of each series.'
    """
    seen = f"the last {input_size:,} steps" if input_size is not None else "all steps"
    return f"{alias} is estimated {'anew at each cutoff' if refit else 'once, by fit'}, on {seen} of each series."


def check_refit(refit: Any) -> None:
    """Refuses what is neither True nor False; a comparison's number of cutoffs is no option of a model.

    Raises:
        ValueError: Naming it.
    """
    if not isinstance(refit, bool):
        raise ValueError(f"refit is {refit!r}; it must be True (anew at each cutoff) or False (once, by fit)")


def count_torch_parameters(model: Any) -> tuple[int, int]:
    """Returns trained and total parameters of a torch module."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, trained in sizes if trained), sum(n for n, _ in sizes)


def check_count(name: str, value: Any) -> None:
    """Refuses what is no whole number of steps.

    Raises:
        ValueError: Naming it.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < 1:
        raise ValueError(f"{name} is {value!r}; it must be a whole number of at least 1 step")


def check_seconds(seconds: Any) -> None:
    """Refuses what is no limit of seconds; None = no limit.

    Raises:
        ValueError: Naming it.
    """
    number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if seconds is not None and not (number and seconds > 0):
        raise ValueError(f"max_seconds is {seconds!r}; it must be a number above 0, or None for no limit")


def check_windows(df: pd.DataFrame, h: int, n_windows: int, step_size: int) -> None:
    """Refuses windows that a series has no room for, with at least one step before the first cutoff.

    Raises:
        FrameError: Naming the shortest series.
        ValueError: If a number is no count.
    """
    for name, value in (("h", h), ("n_windows", n_windows), ("step_size", step_size)):
        check_count(name, value)
    span = h + (n_windows - 1) * step_size
    sizes = df.groupby(ID, sort=False).size()
    if sizes.min() <= span:
        raise FrameError(
            f"series {sizes.idxmin()!r} has {sizes.min()} steps; {n_windows} windows of {h} steps, {step_size} apart, "
            f"need at least {span + 1}; ask for fewer windows or leave the series out"
        )


def name_interval_columns(alias: str, level: Sequence[float] | None) -> list[str]:
    """Returns the interval columns in the order lo, hi for each level: `TimeLLM-lo-80`, `TimeLLM-hi-80`."""
    return [f"{alias}-{side}-{format_level(lv)}" for lv in read_levels(level) for side in ("lo", "hi")]


def read_levels(level: Sequence[float] | None) -> list[float]:
    """Returns the levels as a list, empty for None.

    Raises:
        ValueError: If they are no list of numbers between 1 and 100 per cent.
    """
    if level is None:
        return []
    if isinstance(level, str) or not isinstance(level, Sequence | np.ndarray):
        raise ValueError(f"level is {level!r}; give a list of per cents, such as [80] or [80, 95]")
    for lv in level:
        if not isinstance(lv, (int, float, np.integer, np.floating)) or isinstance(lv, bool):
            raise ValueError(f"level holds {lv!r}; give numbers in per cent, such as [80] or [80, 95]")
        if not 0 < lv < 100:
            raise ValueError(f"level must lie between 0 and 100 per cent, got {lv}")
        if lv < 1:
            raise ValueError(f"level is {lv} per cent; a level is given in per cent, so write {100 * lv:g} for {lv}")
    return list(level)


def format_level(level: float) -> str:
    """Writes a level as statsforecast does: 80 -> "80", 97.5 -> "97.5"."""
    return f"{level:g}"


def compute_quantile_levels(level: Sequence[float] | None) -> list[float]:
    """Returns the two quantile levels of each central interval, in the order of `name_interval_columns`.

    Raises:
        ValueError: As `read_levels`.
    """
    return [round(0.5 + sign * lv / 200, 6) for lv in read_levels(level) for sign in (-1, 1)]


def forecast_columns(frame: pd.DataFrame) -> list[str]:
    """Returns the columns of a forecast frame that are forecasts (not keys, not `y`)."""
    return [c for c in frame.columns if c not in {ID, TIME, CUTOFF, TARGET}]

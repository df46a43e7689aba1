"""The weighted mean of forecasters, by how well each did on the last windows before the end; what is saved of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from tsllm.data.facts import TrainingFacts, holds, parse_time
from tsllm.data.frame import validate_frame
from tsllm.data.frequency import Freq
from tsllm.data.names import ColumnNames
from tsllm.data.target import TargetScale
from tsllm.files import replace_folder
from tsllm.forecasting.base import Forecaster, check_count, check_windows, name_interval_columns
from tsllm.hub.artefacts import OWNED
from tsllm.hub.ensemble import MEMBERS, EnsembleSpec, write_ensemble_card
from tsllm.types import CUTOFF, ID, TARGET, TIME

RULES = ("validation", "equal")


class WeightedMean(Forecaster):
    """What an `Ensemble` is once its members are there: how it weighs, forecasts, is saved and opened again."""

    rolls_at_once = True
    members: list[Any]

    def __init__(
        self,
        members: Sequence[Forecaster | str],
        alias: str = "Ensemble",
        *,
        weights: str | Sequence[float] = "validation",
        n_windows: int = 3,
        freq: Freq | None = None,
        seed: int = 0,
    ) -> None:
        if isinstance(members, str) or not members:
            raise ValueError(
                f"members is {members!r}; give a list of forecasters or names, such as ['AutoETS', 'dlinear']"
            )
        check_count("n_windows", n_windows)
        self.alias, self.n_windows, self.freq, self.seed = alias, n_windows, freq, seed
        self.members: list[Any] = list(members)  # names become forecasters in `fit`
        self.rule = weights if isinstance(weights, str) else "given"
        self._fixed = _check_weights(weights, len(self.members))
        self.weights: dict[str, float] | None = None
        self._levels: list[float] = []
        self.errors: dict[str, float] = {}
        self._h: int | None = None
        self._check_aliases()
        self._name_covariates()
        self._take_names()

    def fit(self, df: pd.DataFrame, h: int | None = None) -> Self:
        """Weighs the members on the last windows, then fits each on all of `df`.

        Args:
            df: Training data.
            h: Steps ahead.

        Raises:
            ValueError: If there is no horizon, or a saved member was trained on the validation windows.
            FrameError: If a series is too short for the validation windows.
        """
        if h is None:
            raise ValueError(f"{self.alias} needs a horizon to weigh its members: fit(df, h=24)")
        check_count("h", h)
        self._build_members(df, h)
        df = validate_frame(df, freq=self.freq, covariates=[*self.covariates, *self.past_covariates])
        self.errors = self._validate_members(df, h) if self.rule == "validation" and len(self.members) > 1 else {}
        shares = self._fixed
        if self.errors:
            shares = [1 / max(self.errors[member.alias], 1e-12) ** 2 for member in self.members]
        total = sum(shares)
        self.weights = {member.alias: share / total for member, share in zip(self.members, shares, strict=True)}
        for member in self.members:
            member.fit(df, h)
        self._h = h
        return self

    def update(self, df: pd.DataFrame) -> Self:
        """Takes `df` as the new history; weights and members stay."""
        for member in self._require_fit():
            member.update(df)
        return self

    def predict(
        self,
        df: pd.DataFrame | None = None,
        h: int | None = None,
        level: Sequence[float] | None = None,
        X_df: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """Forecasts the `h` steps after each series; see `Forecaster.predict`. `X_df` is for members that read it."""
        steps = h if h is not None else self._h
        parts = [m.predict(df, steps, level, X_df if m.known_ahead else None) for m in self._require_fit()]
        return self._combine(parts, [ID, TIME], level)

    def predict_rolling(
        self, df: pd.DataFrame, h: int, n_windows: int, step_size: int, level: Sequence[float] | None = None
    ) -> pd.DataFrame:
        """Forecasts from the last cutoffs with the weights of `fit`; see `Forecaster.predict_rolling`."""
        parts = [m.predict_rolling(df, h, n_windows, step_size, level) for m in self._require_fit()]
        return self._combine(parts, [ID, TIME, CUTOFF], level)

    def expect_levels(self, level: Sequence[float]) -> None:
        """Tells the members."""
        self._levels = list(level)
        for member in self.members:
            if isinstance(member, Forecaster):
                member.expect_levels(level)

    def count_parameters(self) -> tuple[int | None, int | None]:
        """Returns the sums over the members that count theirs."""
        counts = [member.count_parameters() for member in self.members if isinstance(member, Forecaster)]
        known = [(trained, total) for trained, total in counts if trained is not None and total is not None]
        return (sum(t for t, _ in known), sum(n for _, n in known)) if known else (None, None)

    @property
    def trained_on(self) -> TrainingFacts:
        """What saved members were trained on."""
        members = [member for member in self.members if isinstance(member, Forecaster)]
        return TrainingFacts([read for member in members for read in member.trained_on.reads])

    def save_pretrained(self, folder: str | Path, *, licence: str | None = None) -> None:
        """Writes weights and members into one folder, in one step or not at all: `members/0`, `members/1` ...

        `tsllm.Ensemble.from_pretrained(folder)` and `tsllm predict FOLDER` open it again.

        Args:
            folder: Where.
            licence: Of all members' weights; None = what was said of each before.

        Raises:
            NotImplementedError: If a member keeps nothing that could be saved; the text names it.
            ValueError: If it is not fitted.
            OSError: If another process writes the folder, or the disk is full.
        """
        members = self._require_fit()
        assert self.weights is not None
        assert self._h is not None
        for member in members:
            if type(member).save_pretrained is Forecaster.save_pretrained:
                raise NotImplementedError(self._say_unsaved(member, "it is estimated anew with each forecast"))
        options = {"licence": licence or self.licence} if licence or self.licence else {}
        spec = EnsembleSpec(
            self.alias, [m.alias for m in members], list(self.weights.values()), self._h, self.rule, self.errors,
            self.n_windows, self.freq, self.names.to_dict(), self.target_scale.to_dict(),
        )  # fmt: skip
        with replace_folder(folder, (*OWNED, MEMBERS)) as made:
            for member, part in zip(members, spec.parts, strict=True):
                try:
                    member.save_pretrained(made / part, **options)
                except NotImplementedError as error:
                    raise NotImplementedError(self._say_unsaved(member, str(error))) from error
            spec.save(made)
            write_ensemble_card(made)

    def _say_unsaved(self, member: Forecaster, reason: str) -> str:
        return (
            f"{self.alias} cannot be saved with its member {member.alias} ({type(member).__name__}): {reason}; save "
            "an ensemble without it, or build this one again where it is needed"
        )

    @classmethod
    def load(cls, spec: EnsembleSpec, members: Sequence[Forecaster]) -> Self:
        """Puts together what `save_pretrained` wrote; `tsllm.forecasting.saved` opens the members.

        Raises:
            ValueError: If the members are others than the description says.
        """
        aliases = [member.alias for member in members]
        if aliases != spec.members:
            raise ValueError(f"{spec.alias} has the members {spec.members}, but in its folders lie {aliases}")
        weights: Any = spec.weights if spec.rule == "given" else spec.rule
        made = cls(members, spec.alias, weights=weights, n_windows=spec.n_windows, freq=spec.freq)
        made.names, made.target_scale = ColumnNames.from_dict(spec.names), TargetScale(**spec.target_scale)
        made.weights = dict(zip(spec.members, spec.weights, strict=True))
        made.errors, made._h = dict(spec.errors), spec.h
        return made

    def keep_weights(self) -> Self:
        """Lets `fit` keep the weights that there are instead of finding new ones."""
        assert self.weights is not None
        self.rule, self._fixed = "given", list(self.weights.values())
        return self

    @property
    def known_ahead(self) -> list[str]:
        """Covariates whose values over the horizon some member reads."""
        members = [member for member in self.members if isinstance(member, Forecaster)]
        return list(dict.fromkeys(column for member in members for column in member.known_ahead))

    def _build_members(self, df: pd.DataFrame, h: int) -> None:
        """Builds members that were given by name, before they are fitted; here there are none."""

    def _validate_members(self, df: pd.DataFrame, h: int) -> dict[str, float]:
        """Returns the relative error of each member on the validation windows."""
        check_windows(df, h, self.n_windows, h)
        span = h * self.n_windows
        history = df.groupby(ID, sort=False).head(-span).reset_index(drop=True)
        for member in self.members:
            self._refuse_seen(member, df, history)
        found: dict[str, pd.Series] = {}
        for member in self.members:
            member.fit(history, h)
            rolled = member.predict_rolling(df, h, self.n_windows, h)
            rolled = rolled.merge(df[[ID, TIME, TARGET]], on=[ID, TIME])
            found[member.alias] = (rolled[TARGET] - rolled[member.alias]).abs().groupby(rolled[ID]).mean()
        table = pd.DataFrame(found).dropna()
        scale = table.mean(axis=1)
        relative = table[scale > 0].div(scale[scale > 0], axis=0)
        if not len(relative):
            return dict.fromkeys(found, 1.0)  # all are exact, or nothing was observed
        return {str(alias): float(error) for alias, error in relative.mean().items()}

    def _refuse_seen(self, member: Forecaster, df: pd.DataFrame, history: pd.DataFrame) -> None:
        """Refuses to weigh a saved member by windows that it was trained on."""
        last = history.groupby(ID, sort=False)[TIME].last()
        for name, group in df.groupby(ID, sort=False):
            times, values = group[TIME].to_numpy(), group[TARGET].to_numpy(dtype=np.float64)
            for read in member.trained_on.find(name):
                if holds(times, values, read) and parse_time(read.last, times) > last[name]:
                    raise ValueError(
                        f"{member.alias} was trained on series {name!r} up to {read.last}, which the validation "
                        "windows hold, so it would look better than it is; give weights='equal', or later data"
                    )

    def _combine(self, parts: list[pd.DataFrame], keys: list[str], level: Sequence[float] | None) -> pd.DataFrame:
        assert self.weights is not None
        out = parts[0][[c for c in parts[0].columns if c in keys]].copy()
        total: Any = 0.0
        for member, part in zip(self.members, parts, strict=True):
            aligned = out[keys].merge(part, on=keys, how="left", validate="one_to_one")
            columns = [member.alias, *name_interval_columns(member.alias, level)]
            total = total + self.weights[member.alias] * aligned[columns].to_numpy(dtype=np.float64)
        out[[self.alias, *name_interval_columns(self.alias, level)]] = total
        return out

    def _require_fit(self) -> list[Any]:
        if self.weights is None:
            raise ValueError(f"{self.alias} is not fitted: call fit(df, h) first")
        return self.members

    def _check_aliases(self) -> None:
        aliases = [member.alias for member in self.members if isinstance(member, Forecaster)]
        doubled = [alias for alias in aliases if aliases.count(alias) > 1]
        if doubled:
            raise ValueError(f"two members have the alias {doubled[0]!r}; give each its own: Model(..., alias='...')")

    def _take_names(self) -> None:
        """Takes what the columns of a frame are called from the members that say it, if they agree."""
        named = [m.names for m in self.members if isinstance(m, Forecaster) and m.names]
        if named and all(names == named[0] for names in named):
            self.names = named[0]

    def _name_covariates(self) -> None:
        members = [member for member in self.members if isinstance(member, Forecaster)]
        known = [column for member in members for column in member.covariates]
        past = [column for member in members for column in member.past_covariates]
        self.covariates = list(dict.fromkeys(known))
        self.static: Mapping[str, Any] = {k: v for member in members for k, v in member.static.items()}
        self.past_covariates = [column for column in dict.fromkeys(past) if column not in known]


def _check_weights(weights: Any, count: int) -> list[float]:
    """Returns weights to fall back on: those that were given, else equal ones.

    Raises:
        ValueError: If they are no rule and no weights.
    """
    if isinstance(weights, str):
        if weights not in RULES:
            raise ValueError(f"weights is {weights!r}; choose one of {', '.join(RULES)}, or give a number a member")
        return [1.0] * count
    given = [float(weight) for weight in weights]
    if len(given) != count or not all(np.isfinite(w) and w >= 0 for w in given) or not sum(given) > 0:
        raise ValueError(f"weights are {given}; give {count} numbers from 0, not all 0")
    return given

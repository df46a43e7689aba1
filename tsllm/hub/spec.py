"""What a saved forecaster knows besides its model: series, frequency, scaler, covariates, calibration.

An artefact folder holds `config.json` and `model.safetensors` (the model), `forecaster.json` (this module's
`ForecasterSpec`) and, for models without a distribution, `calibration.safetensors` (conformal half-widths).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers.utils import cached_file

from tsllm.backbones.reach import reach_hub
from tsllm.data.facts import TrainingFacts, from_names, holds
from tsllm.data.frequency import Freq, check_horizon, normalize_freq
from tsllm.data.names import ColumnNames
from tsllm.data.scaling import StandardScaler, load_scaler
from tsllm.data.static import Static, name_static
from tsllm.data.target import TargetScale
from tsllm.data.task import ForecastTask, TaskError
from tsllm.data.windows import Layout
from tsllm.files import write_json
from tsllm.registry import describe_faults
from tsllm.types import CUTOFF, ID, TARGET, TIME

NewSeries = Literal["raise", "history"]

SPEC_FILE = "forecaster.json"
CALIBRATION_FILE = "calibration.safetensors"
FORMAT = 2
ENSEMBLE = "ensemble"  # `kind` in the file of an ensemble (`tsllm.hub.ensemble`)
ANY_FREQ = "any"  # the frequency of a model for every series, whatever their frequency
# Names that a forecast column cannot have: those of the keys and of the truth.
RESERVED = (ID, TIME, CUTOFF, TARGET, "sample")


@dataclass
class ForecasterSpec:
    """Everything that turns a long frame into batches of the model and its output into a long frame again.

    Attributes:
        alias: Name of the forecast column.
        freq: pandas alias, or an integer step for integer time; `ANY_FREQ` = the model reads every frequency.
        layout: "multivariate" (aligned series as channels) or "univariate" (one series a sample).
        season: Steps in the main season, for MASE and the seasonal naive.
        channels: Order of the series in the multivariate layout; empty in the univariate one.
        covariates: Columns known over the horizon.
        past_covariates: Columns known up to the cutoff only.
        static: How static covariates are encoded (`tsllm.data.static`); the encoded columns are among `covariates`.
        share_covariates: As in `WindowDataset`.
        scaler: `StandardScaler.to_dict()`, fitted on the training part.
        data: Everything that the model was trained or chosen on.
        h: Steps that a forecast has unless it is asked for fewer; None = the model's horizon.
        new_series: What to do with a series that the scaler never saw: "raise", or "history" to fit its scaling on
            the history that is given.
        pad_short: Whether a series shorter than the context is padded with unobserved steps instead of refused.
        names: What the columns of the table were called that it was trained on (`ColumnNames.to_dict`).
        target_scale: How the target is transformed, and what a forecast may be (`TargetScale.to_dict`).
        licence: Of the weights, as the Hub abbreviates it; empty = what backbone and data allow to say.
        format: Version of this file.
    """

    alias: str
    freq: Freq
    layout: Layout = "multivariate"
    season: int = 1
    channels: list[Any] = field(default_factory=list)
    covariates: list[str] = field(default_factory=list)
    past_covariates: list[str] = field(default_factory=list)
    share_covariates: bool = False
    scaler: dict[str, Any] = field(default_factory=lambda: {"name": "none", "stats": {}})
    data: TrainingFacts = field(default_factory=TrainingFacts)
    h: int | None = None
    new_series: NewSeries = "raise"
    pad_short: bool = False
    names: dict[str, str] = field(default_factory=dict)
    static: Static = field(default_factory=dict)
    target_scale: dict[str, Any] = field(default_factory=dict)
    licence: str = ""
    format: int = FORMAT

    def __post_init__(self) -> None:
        check_alias(self.alias)
        if self.format != FORMAT:
            raise ValueError(f"{SPEC_FILE} has format {self.format}, this version reads {FORMAT}; update tsllm")
        if self.layout not in ("multivariate", "univariate"):
            raise ValueError(f"layout {self.layout!r} is unknown; choose 'multivariate' or 'univariate'")
        if not isinstance(self.season, int) or isinstance(self.season, bool) or self.season < 1:
            raise ValueError(f"season is {self.season!r}; it must be a whole number of at least 1 step")
        for name in ("channels", "covariates", "past_covariates"):
            if not isinstance(getattr(self, name), list):
                raise ValueError(f"{SPEC_FILE} has {name} {getattr(self, name)!r}; expected a list of columns")
            wrong = [v for v in getattr(self, name) if not isinstance(v, (str, int)) or isinstance(v, bool)]
            if wrong:
                raise ValueError(f"{SPEC_FILE} has {wrong[0]!r} among its {name}; expected names (text or integers)")
        if self.new_series not in ("raise", "history"):
            raise ValueError(f"new_series is {self.new_series!r}; choose 'raise' or 'history'")
        if self.h is not None:
            check_horizon(self.h)
        for name in ("share_covariates", "pad_short"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{SPEC_FILE} has {name} {getattr(self, name)!r}; expected true or false")
        if not isinstance(self.names, dict):
            raise ValueError(f"{SPEC_FILE} has names {self.names!r}; expected an object")
        ColumnNames.from_dict(self.names)
        fits = isinstance(self.static, dict) and all(isinstance(v, list | None) for v in self.static.values())
        if not fits or not set(name_static(self.static)) <= set(self.covariates):
            raise ValueError(
                f"{SPEC_FILE} has static {self.static!r}, which does not fit covariates {self.covariates}"
            )
        try:
            TargetScale(**self.target_scale)
        except TypeError as error:
            raise ValueError(f"{SPEC_FILE} has target_scale {self.target_scale!r} ({error})") from error
        if self.freq != ANY_FREQ:
            normalize_freq(self.freq)

    @property
    def ahead(self) -> list[str]:
        """The covariates whose values over the horizon somebody must give: the known ones that are not static."""
        static = set(name_static(self.static))
        return [column for column in self.covariates if column not in static]

    def load_scaler(self) -> StandardScaler:
        """Returns the fitted scaler."""
        return load_scaler(self.scaler)

    def knows(self, name: Any, group: pd.DataFrame) -> bool:
        """Tells whether a series is one that was trained on: by the values that were read, not by its name alone."""
        times, values = group[TIME].to_numpy(), group[TARGET].to_numpy(dtype=np.float64)
        return any(holds(times, values, read) for read in self.data.find(name))

    def continue_scaler(self, df: pd.DataFrame, train: pd.DataFrame, columns: Sequence[str]) -> StandardScaler:
        """Returns the scaler of further training: kept for a series that was trained on, fitted for any other.

        Args:
            df: Whole series, in original units.
            train: Their training part.
            columns: What is scaled, where the saved scaler does not say.
        """
        saved = self.load_scaler()
        columns = list(saved.stats) or list(columns)
        own = type(saved)().fit(train, columns)
        for name, group in df.groupby(ID, sort=False):
            if self.knows(name, group):
                for column in columns:
                    own.stats[column][name] = saved.stats[column].get(name, own.stats[column][name])
        return own

    def check_task(self, task: ForecastTask) -> None:
        """Refuses data on which a saved model cannot go on: of another frequency, season or layout, other covariates.

        Raises:
            TaskError: Naming what differs.
        """
        for name in ("freq", "season", "layout") if self.freq != ANY_FREQ else ():
            saved, given = getattr(self, name), getattr(task, name)
            if saved is not None and saved != given:
                raise TaskError(
                    f"the saved model was trained with {name} {saved!r}, the data have {given!r}; start from a model "
                    "of the same, or train a new one"
                )
        for name in ("covariates", "past_covariates"):
            saved, given = list(getattr(self, name)), list(getattr(task, name))
            if saved != given:
                raise TaskError(f"the saved model reads {name} {saved}, but {given} are given; name exactly these")

    def save(self, folder: str | Path) -> None:
        """Writes `forecaster.json` into `folder`."""
        state = {f.name: getattr(self, f.name) for f in fields(self)} | {"data": self.data.to_dict()}
        write_json(Path(folder) / SPEC_FILE, state)

    @classmethod
    def load(
        cls, source: str | Path, revision: str | None = None, token: str | bool | None = None
    ) -> "ForecasterSpec":
        """Reads `forecaster.json` of a folder or a Hub repository.

        Raises:
            OSError: If the file or the folder is not there.
            ValueError: If it is damaged, holds unknown keys or lacks some.
        """
        check_saved(source)
        path = find_file(source, SPEC_FILE, revision, token)
        if path is None:
            if not Path(source).is_dir():
                reason = reach_hub(tell=False)
                raise OSError(
                    f"there is no folder {source}, nor a Hub repository of that name with a {SPEC_FILE}"
                    f"{f' that was downloaded before ({reason})' if reason else ''}; give the folder of a saved "
                    "forecaster, or its Hub id"
                )
            raise OSError(
                f"{source} holds no {SPEC_FILE}, so nothing is known about its series and scaler; save it with "
                "`forecaster.save_pretrained(folder)` or with a recipe"
            )
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} is damaged ({error}); save the forecaster again") from error
        if not isinstance(state, dict):
            raise ValueError(f"{path} holds {type(state).__name__} instead of an object; save the forecaster again")
        if state.get("kind") == ENSEMBLE:
            raise ValueError(
                f"{source} is an ensemble of {', '.join(map(str, state.get('members', ())))}; open it with "
                f"tsllm.Ensemble.from_pretrained or tsllm predict, or name one member, such as {source}/members/0"
            )
        if state.get("format") == 1:
            state = _upgrade(state)
        known = {f.name for f in fields(cls)}
        unknown, missing = sorted(set(state) - known), sorted({"alias", "freq"} - set(state))
        if unknown or missing:
            raise ValueError(f"{path} {describe_faults(unknown, missing)}; known: {sorted(known)}")
        return cls(**(state | {"data": TrainingFacts.from_dict(state.get("data", {}))}))


def check_alias(alias: str) -> None:
    """Refuses a name that a forecast column cannot have.

    Raises:
        ValueError: If it is empty or belongs to another column.
    """
    if not isinstance(alias, str) or not alias or alias in RESERVED:
        raise ValueError(
            f"alias {alias!r} cannot name a forecast: {', '.join(RESERVED)} are columns of their own; choose another"
        )


def _upgrade(state: dict[str, Any]) -> dict[str, Any]:
    """Reads the file of format 1, whose data were facts for the card alone."""
    names = [row[0] for row in state.get("scaler", {}).get("stats", {}).get(TARGET, ())]
    return state | {"data": from_names(state.get("data", {}), names).to_dict(), "format": FORMAT}


@dataclass(frozen=True)
class Calibration:
    """Split-conformal half-widths from validation residuals (Vovk 2005; Lei 2018), for each step and channel.

    Attributes:
        half_widths: [levels, H, C], in scaled units: the smallest width whose interval covers so many per cent.
        levels: Per cent, ascending [levels].
        windows: How many validation windows they come from.
    """

    half_widths: Tensor
    levels: tuple[float, ...]
    windows: int

    @classmethod
    def from_residuals(cls, residuals: Tensor) -> "Calibration":
        """Computes the half-widths at every whole per cent that so many windows can support.

        The ceil((n + 1) level)-th smallest absolute residual covers a new one with at least `level` probability if
        windows are exchangeable; neighbouring windows overlap, so the guarantee is approximate here.

        Args:
            residuals: Target minus forecast [N, H, C] in scaled units; NaN = missing target.

        Raises:
            ValueError: If a step has no observed residual.
        """
        absolute = residuals.abs().double()
        counts = (~absolute.isnan()).sum(0)  # [H, C]
        fewest = int(counts.min())
        if fewest < 1:
            raise ValueError("no observed validation target at some step, so intervals cannot be calibrated")
        ordered = absolute.nan_to_num(nan=torch.inf).sort(0).values  # [N, H, C]
        levels = [p for p in range(1, 100) if np.ceil((fewest + 1) * p / 100) <= fewest]
        if not levels:
            raise ValueError(f"{fewest} validation windows are too few to calibrate intervals; it takes at least 2")
        widths = []
        for level in levels:
            rank = torch.ceil((counts + 1) * level / 100 - 1e-9).long() - 1  # [H, C]
            widths.append(ordered.gather(0, rank[None])[0])
        return cls(torch.stack(widths).float(), tuple(float(p) for p in levels), len(residuals))

    def describe_bound(self) -> str:
        """Says what the widest interval is, and why."""
        return f"no interval above {self.levels[-1]:g} % from {self._count_windows()}"

    def _count_windows(self) -> str:
        return f"{self.windows} validation window{'s' if self.windows != 1 else ''}"

    def half_width(self, level: float) -> Tensor:
        """Returns the half-width [H, C] of a central interval, between whole per cents by interpolation.

        Raises:
            ValueError: If the level is higher than the validation windows support.
        """
        if not self.levels[0] <= level <= self.levels[-1]:
            raise ValueError(
                f"level {level} lies outside the calibrated range [{self.levels[0]:g}, {self.levels[-1]:g}] "
                f"({self._count_windows()}); give more validation data or train a distributional head"
            )
        right = int(np.searchsorted(self.levels, level - 1e-9))
        left = right if self.levels[right] <= level + 1e-9 else right - 1
        if left == right:
            return self.half_widths[right]
        weight = (level - self.levels[left]) / (self.levels[right] - self.levels[left])
        return torch.lerp(self.half_widths[left], self.half_widths[right], weight)

    def save(self, folder: str | Path) -> None:
        """Writes `calibration.safetensors` into `folder`."""
        tensors = {"half_widths": self.half_widths.contiguous(), "levels": torch.tensor(self.levels)}
        save_file(tensors, Path(folder) / CALIBRATION_FILE, metadata={"windows": str(self.windows)})

    @classmethod
    def load(
        cls, source: str | Path, revision: str | None = None, token: str | bool | None = None
    ) -> "Calibration | None":
        """Reads the file of a folder or a Hub repository; None if there is none.

        Raises:
            OSError: If it is damaged; the text names the file.
        """
        path = find_file(source, CALIBRATION_FILE, revision, token)
        if path is None:
            return None
        try:
            with safe_open(path, framework="pt") as file:
                windows = int((file.metadata() or {})["windows"])
                widths, levels = file.get_tensor("half_widths"), file.get_tensor("levels")
            fits = widths.dim() == 3 and levels.shape == widths.shape[:1] and levels.numel() > 0 and windows > 0
            if not (fits and widths.is_floating_point() and (widths >= 0).all() and (levels.diff() > 0).all()):
                raise ValueError(
                    f"half_widths {list(widths.shape)} at levels {levels.tolist()[:5]} of {windows} windows"
                )
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise OSError(
                f"{path} is damaged ({error}); calibrate and save the forecaster again, or remove the file to forecast"
                " without intervals"
            ) from error
        return cls(widths, tuple(float(x) for x in levels), windows)


def is_hub_id(source: str) -> bool:
    """Tells whether a name has the form "user/name" and is no path."""
    return source.count("/") == 1 and not source.startswith((".", "/", "~")) and not source.endswith("/")


def check_saved(source: str | Path) -> None:
    """Refuses what is neither a folder nor could be a Hub id.

    Raises:
        FileNotFoundError: Naming it.
    """
    if not (Path(source).is_dir() or is_hub_id(str(source))):
        raise FileNotFoundError(f"no folder {source}; give the output folder of a run, or a Hub id user/name")


def find_file(
    source: str | Path, name: str, revision: str | None = None, token: str | bool | None = None
) -> Path | None:
    """Returns the path of a file of a folder or a Hub repository, or None."""
    if Path(source).is_dir():
        path = Path(source) / name
        return path if path.is_file() else None
    reach_hub(tell=False)  # who misses the file says why
    found = cached_file(
        str(source),
        name,
        revision=revision,
        token=token,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        _raise_exceptions_for_gated_repo=False,
    )
    if found is None:
        return None
    reach_hub()
    return Path(found)

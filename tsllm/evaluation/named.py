"""Models of a back-test that are given by name: built for the steps before the first cutoff."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from tsllm.data.task import Asked, build_task, load_given
from tsllm.evaluation.windows import Windows
from tsllm.forecasting.base import Forecaster
from tsllm.forecasting.checks import check_forecaster
from tsllm.forecasting.model_spec import ModelSpec, give_named_covariates, name_saved, reads_covariates, reads_static
from tsllm.forecasting.roster import build_forecaster


def build_named(
    df: pd.DataFrame, models: Sequence[Any], asked: Asked, n_windows: int, step_size: int | None
) -> tuple[pd.DataFrame, list[Forecaster]]:
    """Builds models by name, as the command line does.

    Args:
        df: The data, under the names of frames.
        models: Names, mappings as in a YAML file, or `ModelSpec`s.
        asked: What was asked of the data.
        n_windows: Cutoffs.
        step_size: Steps between cutoffs; None = the horizon.

    Returns:
        The data with the columns that are read, and the forecasters.

    Raises:
        FrameError: If the frame breaks the contract, lacks a column, or is too short.
        ValueError: If a model is unknown or does not fit, or none reads the covariates that were named.
    """
    loaded = load_given(df, asked)
    h = build_task(loaded, asked).h
    windows = Windows.of(loaded.df, h, n_windows, h if step_size is None else step_size)
    # What the data decide is decided by the steps before the first cutoff.
    task = build_task(replace(loaded, df=windows.history(0)), asked)
    specs = name_saved([ModelSpec.parse(model) for model in models])
    if asked.names_covariates:
        specs = give_named_covariates(specs)
    for word, reads in (
        ("covariates", reads_covariates),
        ("past_covariates", reads_covariates),
        ("static", reads_static),
    ):
        if getattr(asked, word) and not any(map(reads, specs)):
            raise ValueError(f"{word} has no effect on any of {', '.join(s.name for s in specs)}; leave it out")
    for spec in specs:
        check_forecaster(spec, task)
    return loaded.df, [build_forecaster(spec, task) for spec in specs]

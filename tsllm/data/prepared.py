"""From data arguments to the three sets of windows that a recipe trains, chooses and tests on."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tsllm.data.scaling import StandardScaler, build_scaler
from tsllm.data.sources import LoadedData, load_frame
from tsllm.data.splits import Borders, ByCounts, ByDates, ByFractions, SplitRule, split_frame
from tsllm.data.windows import Layout, WindowDataset
from tsllm.forecasting.spec import ForecasterSpec, default_season
from tsllm.training.args import ArgumentsError, DataArguments
from tsllm.types import ID, TARGET, TIME, FrameError


@dataclass
class PreparedData:
    """Windows in scaled units and what is needed to leave them.

    Attributes:
        loaded: The frame and its source.
        train: Training windows.
        validation: Validation windows; None if the split has no validation part.
        test: Test windows.
        scaler: Fitted on the training part.
        borders: series -> ends of its parts, in steps.
        unused: Steps after the test part, over all series.
        train_frame: The training part in scaled units.
        time_features: Whether models may read calendar features.
    """

    loaded: LoadedData
    train: WindowDataset
    validation: WindowDataset | None
    test: WindowDataset
    scaler: StandardScaler
    borders: dict[Any, Borders]
    unused: int
    train_frame: pd.DataFrame
    time_features: bool = True

    def train_values(self) -> np.ndarray:
        """Returns the training part of the multivariate layout in scaled units, [T, C] in channel order."""
        groups = dict(iter(self.train_frame.groupby(ID, sort=False)))
        return np.stack([groups[name][TARGET].to_numpy() for name in self.train.segments[0].series], axis=1)


def prepare_data(args: DataArguments, *, reads_covariates: bool = False) -> PreparedData:
    """Loads, splits, scales and cuts the series.

    Args:
        args: What is read and how.
        reads_covariates: Whether the model reads covariates; if not, the data set's own are left out, and asking for
            some is an error.

    Raises:
        ArgumentsError: If the arguments do not fit the data or the model.
        FrameError: As `load_frame` and `WindowDataset`.
    """
    if not reads_covariates and (args.covariates or args.past_covariates):
        raise ArgumentsError(
            f"the model reads no covariates, but {[*(args.covariates or ()), *(args.past_covariates or ())]} were "
            "asked for; leave them out or choose a model that reads them (timexer)"
        )
    asked = None
    if not reads_covariates:
        asked = []
    elif args.covariates is not None or args.past_covariates is not None:
        asked = [*(args.covariates or ()), *(args.past_covariates or ())]
    loaded = load_frame(args.dataset, freq=args.freq, targets=args.targets, covariates=asked, data_path=args.data_path)
    context, horizon = find_lengths(args, loaded)
    known, past = find_covariates(args, loaded, reads_covariates)
    splits = split_frame(loaded.df, build_split(args.split, loaded), context)
    if not len(splits.test):
        raise ArgumentsError("the split leaves no test part; give it some steps")
    scaler = build_scaler(args.scaler).fit(splits.train, (TARGET, *known, *past))
    common: dict[str, Any] = {
        "layout": find_layout(args, loaded),
        "freq": loaded.freq,
        "covariates": known,
        "past_covariates": past,
        "share_covariates": args.share_covariates,
    }

    def cut(part: pd.DataFrame, name: str, stride: int) -> WindowDataset:
        """Scales a part of the split and cuts it into windows; an error names the part."""
        try:
            return WindowDataset(scaler.transform(part), context, horizon, stride=stride, **common)
        except FrameError as error:
            raise FrameError(f"{name} part: {error}") from error

    return PreparedData(
        loaded=loaded,
        train=cut(splits.train, "training", args.train_stride),
        validation=cut(splits.validation, "validation", args.validation_stride) if len(splits.validation) else None,
        test=cut(splits.test, "test", args.test_stride),
        scaler=scaler,
        borders=splits.borders,
        unused=splits.unused,
        train_frame=scaler.transform(splits.train),
        time_features=args.time_features,
    )


def find_lengths(args: DataArguments, loaded: LoadedData) -> tuple[int, int]:
    """Returns context and horizon in steps: the arguments', else the data set's custom.

    Raises:
        ArgumentsError: If neither says.
    """
    source = loaded.source
    context = args.context_length or (source.context_length if source else None)
    horizon = args.prediction_length or (source.prediction_length if source else None)
    if context is None or horizon is None:
        raise ArgumentsError(
            f"{loaded.name} is no named data set, so context_length and prediction_length must be given (in steps)"
        )
    return context, horizon


def find_covariates(args: DataArguments, loaded: LoadedData, reads: bool) -> tuple[list[str], list[str]]:
    """Returns the covariates known over the horizon and those known up to the cutoff."""
    if not reads:
        return [], []
    source = loaded.source
    if args.covariates is None and args.past_covariates is None:
        if source is not None:
            return list(source.covariates), list(source.past_covariates)
        # Of a file's further columns nobody said that they are known ahead, so the safe reading is that they are not.
        return [], [c for c in loaded.df.columns if c not in (ID, TIME, TARGET)]
    return list(args.covariates or ()), list(args.past_covariates or ())


def find_layout(args: DataArguments, loaded: LoadedData) -> Layout:
    """Returns the layout: the argument's, else multivariate if all series share their times."""
    if args.layout is not None:
        return "multivariate" if args.layout == "multivariate" else "univariate"
    spans = loaded.df.groupby(ID, sort=False)[TIME].agg(["min", "max", "size"])
    return "multivariate" if len(spans.drop_duplicates()) == 1 else "univariate"


def build_split(split: list[float] | dict[str, Any] | None, loaded: LoadedData) -> SplitRule:
    """Builds the split rule of the arguments; None = the data set's custom, else 70, 10 and 20 per cent.

    Raises:
        ArgumentsError: If the argument is none of the known forms.
    """
    if split is None:
        return loaded.source.split if loaded.source else ByFractions()
    if isinstance(split, dict):
        keys = set(split)
        if keys == {"train", "validation", "test"} and all(isinstance(v, int) for v in split.values()):
            return ByCounts(**split)
        if {"validation", "test"} <= keys <= {"validation", "test", "end"}:
            return ByDates(**split)
    elif len(split) == 3:
        return ByFractions(*split)
    raise ArgumentsError(
        f"split is {split!r}; give three fractions [train, validation, test], counts of steps {{train, validation, "
        "test}, or the times {validation, test} at which these parts begin"
    )


def describe_data(args: DataArguments, data: PreparedData, alias: str) -> ForecasterSpec:
    """Returns what a saved forecaster needs to read frames and to give forecasts in original units."""
    loaded, train = data.loaded, data.train
    facts = describe_frame(loaded, data.borders) | {
        "train_windows": len(train),
        "validation_windows": len(data.validation) if data.validation is not None else 0,
        "test_windows": len(data.test),
        "unused_steps": data.unused,
    }
    known = train.num_known_covariates
    return ForecasterSpec(
        alias=alias,
        freq=loaded.freq,
        layout=train.layout,
        season=loaded.source.season if loaded.source else default_season(loaded.freq),
        channels=list(train.segments[0].series) if train.layout == "multivariate" else [],
        covariates=_column_names(train.covariate_names[:known], args.share_covariates, train.layout),
        past_covariates=_column_names(train.covariate_names[known:], args.share_covariates, train.layout),
        share_covariates=args.share_covariates,
        scaler=data.scaler.to_dict(),
        data=facts,
    )


def describe_frame(loaded: LoadedData, borders: dict[Any, Borders]) -> dict[str, Any]:
    """Returns what a model card says of the data: name, origin, licence, period and where its parts end."""
    series = list(borders)
    facts: dict[str, Any] = {
        "name": loaded.name,
        "num_series": len(series),
        "series": [str(s) for s in series[:20]],
        "first": str(loaded.df[TIME].min()),
        "last": str(loaded.df[TIME].max()),
    }
    if loaded.source is not None:
        facts |= {
            "licence": loaded.source.licence,
            "origin": loaded.source.origin,
            "domain": loaded.source.domain,
        }
    first = loaded.df.groupby(ID, sort=False)[TIME].get_group(series[0]).to_numpy()
    border = borders[series[0]]
    facts["cutoffs"] = {
        "train_end": str(pd.Series(first[border.train - 1 : border.train]).iloc[0]),
        "validation_end": str(pd.Series(first[border.validation - 1 : border.validation]).iloc[0]),
        "test_end": str(pd.Series(first[border.test - 1 : border.test]).iloc[0]),
        "of_series": str(series[0]),
    }
    return facts


def _column_names(names: tuple[str, ...], shared: bool, layout: str) -> list[str]:
    """Returns the frame columns behind the names of a window set, which prefixes them by the series."""
    if layout == "multivariate" and not shared:
        names = tuple(name.split(":", 1)[1] for name in names)
    return list(dict.fromkeys(names))

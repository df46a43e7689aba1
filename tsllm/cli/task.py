"""Loading data for a command and finding out what the forecasters must be told about it."""

from collections.abc import Sequence

from tsllm.data.sources import LoadedData, load_frame
from tsllm.forecasting.roster import TaskFacts
from tsllm.forecasting.spec import default_season


def load_data(
    name: str,
    *,
    freq: str | None = None,
    targets: Sequence[str] | None = None,
    covariates: Sequence[str] | None = None,
    data_path: str | None = None,
) -> LoadedData:
    """Loads a named data set with its own covariates, or a file with the named ones."""
    kept = None if not covariates else list(covariates)
    step = int(freq) if freq is not None and freq.isdigit() else freq
    return load_frame(name, freq=step, targets=targets, covariates=kept, data_path=data_path)


def describe_task(
    loaded: LoadedData,
    *,
    h: int | None = None,
    context_length: int | None = None,
    season: int | None = None,
    val_size: int | None = None,
    covariates: tuple[Sequence[str], Sequence[str]] = ((), ()),
) -> TaskFacts:
    """Returns the task: what was asked for, else the data set's custom, else what follows from the frequency.

    Raises:
        ValueError: If the horizon is known from nowhere.
    """
    source = loaded.source
    horizon = h if h is not None else (source.prediction_length if source else None)
    if horizon is None:
        raise ValueError(f"{loaded.name} is no named data set, so give the steps ahead: --h 24")
    steps = season or (source.season if source else default_season(loaded.freq))
    if context_length is None:
        # Four seasons see a weekly pattern of daily seasons at least in part; two horizons at least.
        context_length = source.context_length if source and h is None else max(4 * steps, 2 * horizon, 16)
    known, past = covariates
    if source and not known and not past:
        known, past = source.covariates, source.past_covariates
    return TaskFacts(
        h=horizon,
        freq=loaded.freq,
        season=steps,
        context_length=context_length,
        domain=source.domain if source else "",
        val_size=val_size,
        covariates=tuple(known),
        past_covariates=tuple(past),
    )

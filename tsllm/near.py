"""The name that somebody meant: what others call the same thing, else what is written alike."""

import difflib
from collections.abc import Iterable

# What others call it -> what it is called here; of these, those count that are known in the place that asks.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "horizon": ("h", "prediction_length"),
    "forecast_horizon": ("h", "prediction_length"),
    "fh": ("h",),
    "prediction_length": ("h",),
    "pred_len": ("h", "prediction_length"),
    "h": ("horizon", "horizons", "prediction_length"),
    "lookback": ("context_length", "input_size"),
    "look_back": ("context_length", "input_size"),
    "seq_len": ("context_length", "input_size"),
    "input_size": ("context_length",),
    "context_length": ("input_size",),
    "frequency": ("freq",),
    "season_length": ("season",),
    "seasonality": ("season",),
    "period": ("season",),
    "id": ("id_col",),
    "id_col": ("id",),
    "unique_id": ("id", "id_col"),
    "series": ("id", "id_col"),
    "item_id": ("id", "id_col"),
    "time": ("time_col",),
    "time_col": ("time",),
    "date": ("time", "time_col"),
    "date_col": ("time", "time_col"),
    "timestamp": ("time", "time_col"),
    "ds": ("time", "time_col"),
    "target": ("target_col",),
    "target_col": ("target",),
    "value": ("target", "target_col"),
    "value_col": ("target", "target_col"),
    "y": ("target", "target_col"),
    "exog": ("covariates", "past_covariates"),
    "features": ("covariates", "past_covariates"),
    "regressors": ("covariates", "past_covariates"),
    "futr_exog_list": ("covariates",),
    "hist_exog_list": ("past_covariates",),
    "stat_exog_list": ("static",),
    "static_covariates": ("static",),
    "X_df": ("future",),
    "future_df": ("future", "X_df"),
    "text": ("context",),
    "prompt": ("context",),
    "steps": ("max_steps",),
    "max_steps": ("steps",),
    "iterations": ("steps", "max_steps"),
    "epochs": ("num_train_epochs",),
    "max_epochs": ("epochs", "num_train_epochs"),
    "num_epochs": ("epochs", "num_train_epochs"),
    "num_train_epochs": ("epochs",),
    "batch": ("batch_size", "per_device_train_batch_size"),
    "batch_size": ("per_device_train_batch_size",),
    "bs": ("batch_size", "per_device_train_batch_size"),
    "lr": ("learning_rate",),
    "learn_rate": ("learning_rate",),
    "patience": ("early_stopping_patience",),
    "random_state": ("seed", "seeds"),
    "random_seed": ("seed", "seeds"),
    "seed": ("seeds",),
    "seeds": ("seed",),
    "windows": ("n_windows",),
    "folds": ("n_windows",),
    "cutoffs": ("n_windows",),
    "stride": ("step_size",),
    "quantiles": ("level", "quantile_levels"),
    "levels": ("level",),
    "interval": ("level",),
    "model": ("models",),
    "models": ("model",),
    "llm": ("backbone",),
    "language_model": ("backbone",),
    "out": ("output", "output_dir"),
    "o": ("output", "output_dir"),
    "output": ("output_dir",),
    "output_dir": ("output",),
    "save": ("output", "output_dir"),
    "hidden_size": ("d_model",),
    "n_heads": ("num_heads",),
    "n_layers": ("num_layers",),
    "patch_len": ("patch_length",),
    "patch_size": ("patch_length",),
    "stride_length": ("patch_stride",),
}
_FOLDED = {name.lower(): others for name, others in SYNONYMS.items()}


def find_near(name: str, known: Iterable[str], n: int = 3, cutoff: float = 0.6) -> list[str]:
    """Returns the known names that somebody may have meant, the best first.

    Capitals, hyphens and leading dashes do not matter. A synonym goes before what is merely written alike.

    Args:
        name: What there is not.
        known: What there is.
        n: How many at most.
        cutoff: How alike the names must be, from 0 to 1 (`difflib.get_close_matches`).

    Example:
        >>> find_near("--horizon", ["--revision", "--train", "--h"])
        ['--h']
        >>> find_near("--learning_rat", ["--learning-rate", "--h"])
        ['--learning-rate']
    """
    folded: dict[str, list[str]] = {}
    for one in dict.fromkeys(known):
        folded.setdefault(_fold(one), []).append(one)
    asked = _fold(name)
    meant = [*folded.get(asked, ()), *(one for other in _FOLDED.get(asked, ()) for one in folded.get(other, ()))]
    if not meant:
        cutoff = max(cutoff, 0.92) if asked in _FOLDED else cutoff  # what has a meaning of its own is hardly another
        meant = [one for near in difflib.get_close_matches(asked, folded, n, cutoff) for one in folded[near]]
    return meant[:n]


def _fold(name: str) -> str:
    return str(name).lstrip("-").replace("-", "_").lower()

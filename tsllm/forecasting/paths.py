"""Joint sample paths from any forecaster: marginal forecasts tied together by the errors of earlier forecasts.

The dependence of steps (and of series) comes from a template: errors of forecasts that were made out of sample. Three
ways are offered: `bootstrap` adds whole error paths to a point forecast; `schaake` (Clark et al. 2004; Schefzik,
Thorarinsdottir & Gneiting 2013) reorders samples of each step's own distribution by the template's ranks; `gaussian`
does the same by the ranks of a Gaussian copula with the template's rank correlations. The latter two keep every
marginal exactly. A model that writes one step after another (a text forecaster) draws joint paths by itself: `own`.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from scipy import stats

from tsllm.types import CUTOFF, ID, TARGET, TIME

Method = Literal["schaake", "gaussian", "bootstrap"]
LEVELS = (20.0, 40.0, 60.0, 80.0, 90.0)  # per cent; intervals that a quantile forecaster is asked for
SAMPLE = "sample"


def sample_marginals(quantiles: np.ndarray, levels: Sequence[float], n_samples: int) -> np.ndarray:
    """Draws evenly spread samples of each step's distribution: those at the levels (i + 1/2) / n_samples.

    The quantile function is linear in normal scores between the given levels and beyond the outer ones, so that a
    normal distribution is given back exactly and tails are those of the outer segment.

    Args:
        quantiles: Quantile forecasts [H, Q]; crossing ones are sorted.
        levels: Their levels in (0, 1), rising [Q], at least two.
        n_samples: M.

    Returns:
        Samples [M, H], rising along the first axis.

    Raises:
        ValueError: If levels or sizes do not fit.
    """
    at = np.asarray(levels, dtype=float)
    if len(at) < 2 or quantiles.shape[-1] != len(at) or (np.diff(at) <= 0).any() or at[0] <= 0 or at[-1] >= 1:
        raise ValueError(
            f"levels {list(levels)} and quantiles {list(quantiles.shape)} do not fit: at least two rising levels in "
            "(0, 1), one for each entry of the quantiles' last axis"
        )
    knots, wanted = stats.norm.ppf(at), stats.norm.ppf((np.arange(n_samples) + 0.5) / n_samples)
    values = np.sort(quantiles, axis=-1)  # [H, Q]
    left = np.clip(np.searchsorted(knots, wanted) - 1, 0, len(at) - 2)  # [M]
    share = (wanted - knots[left]) / (knots[left + 1] - knots[left])
    return (values[:, left] * (1 - share) + values[:, left + 1] * share).T  # [M, H]


def shuffle_by_template(samples: np.ndarray, template: np.ndarray) -> np.ndarray:
    """Reorders the samples of each column so that their ranks are the template's (Schaake shuffle).

    >>> samples = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    >>> template = np.array([[0.5, 9.0], [0.1, 8.0], [0.9, 7.0]])
    >>> shuffle_by_template(samples, template).tolist()
    [[2.0, 30.0], [1.0, 20.0], [3.0, 10.0]]

    Args:
        samples: [M, ...], in any order.
        template: [M, ...] of the same shape; equal entries are ranked in their order.

    Raises:
        ValueError: If the shapes differ.
    """
    if samples.shape != template.shape:
        raise ValueError(f"samples {list(samples.shape)} and template {list(template.shape)} must have one shape")
    ranks = template.argsort(0, kind="stable").argsort(0, kind="stable")
    return np.take_along_axis(np.sort(samples, 0), ranks, 0)


def draw_rows(count: int, n_samples: int, rng: np.random.Generator, weights: np.ndarray | None = None) -> np.ndarray:
    """Draws template rows [M]: each as often as the others (up to one) unless `weights` say how likely each is."""
    if weights is not None:
        return rng.choice(count, n_samples, p=weights / weights.sum())
    rounds = [rng.permutation(count) for _ in range(-(-n_samples // count))]
    return np.concatenate(rounds)[:n_samples]


def weigh_similar(forecast: np.ndarray, earlier: np.ndarray, errors: np.ndarray, width: float) -> np.ndarray:
    """Weighs earlier windows by how much the shape of their forecast resembles this one's (Bertsimas & Kallus 2020).

    `exp(-d^2 / (2 width^2))` with d the root mean squared distance of the forecasts, each less its mean, in units of
    the root mean squared error.

    Args:
        forecast: [H].
        earlier: Forecasts of the earlier windows [N, H].
        errors: Their errors [N, H].
        width: Of the kernel; large weighs all alike.

    Returns:
        Weights [N] that sum to 1; for `draw_paths`.
    """
    if not width > 0:
        raise ValueError(f"width is {width}; it must be above 0")
    unit = np.sqrt(np.mean(errors**2))
    gap = (earlier - earlier.mean(1, keepdims=True)) - (forecast - forecast.mean())
    distance = np.mean(gap**2, 1) / unit**2
    weights = np.exp(-(distance - distance.min()) / (2 * width**2))
    return weights / weights.sum()


def tie_by_ranks(samples: np.ndarray, template: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Ties marginal samples together by the rows of a template; rows drawn twice are ranked at random among them.

    Args:
        samples: Of the marginals [M, ...].
        template: Errors or past paths [N, ...].
        rows: From `draw_rows` [M].
        rng: Breaks ties.
    """
    order = rng.permutation(len(rows))
    tied = shuffle_by_template(samples, template[rows[order]])
    return tied[np.argsort(order)]


def tie_by_gaussian(samples: np.ndarray, template: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Ties marginal samples together by a Gaussian copula with the template's rank correlations.

    Normal scores of the template's ranks give the correlation, shrunk by 1 / N towards independence so that it stays
    positive definite; M draws give the ranks.

    Args:
        samples: Of the marginals [M, ...].
        template: Errors or past paths [N, ...], N >= 3.
        rng: Source of the draws.
    """
    flat = template.reshape(len(template), -1)  # [N, D]
    count, width = flat.shape
    if count < 3:
        raise ValueError(f"the template has {count} rows; a correlation takes at least 3 earlier forecasts")
    scores = stats.norm.ppf(stats.rankdata(flat, axis=0) / (count + 1))
    spread = scores.std(0)
    scores = scores / np.where(spread > 0, spread, 1.0)
    correlation = scores.T @ scores / count * (1 - 1 / count)
    np.fill_diagonal(correlation, 1.0)
    draws = rng.standard_normal((len(samples), width)) @ np.linalg.cholesky(correlation).T  # [M, D]
    return shuffle_by_template(samples, draws.reshape(samples.shape))


def draw_paths(
    point: np.ndarray,
    errors: np.ndarray,
    n_samples: int,
    rng: np.random.Generator,
    *,
    method: Method = "schaake",
    quantiles: np.ndarray | None = None,
    levels: Sequence[float] | None = None,
    rows: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Draws joint sample paths of one forecast.

    Args:
        point: Point forecast [H] or [H, C].
        errors: Truth minus forecast of earlier windows, out of sample, [N, H] or [N, H, C], without gaps.
        n_samples: M.
        rng: Source of randomness.
        method: "schaake", "gaussian" or "bootstrap".
        quantiles: Quantile forecasts [H, Q] that become the marginals; None = `point` plus the empirical
            distribution of the errors. The bootstrap has no use for them.
        levels: Their levels in (0, 1).
        rows: Template rows of `bootstrap` and `schaake` [M], to share them between series; None draws them.
        weights: How likely each window is [N], for conditional paths.

    Returns:
        Paths [M, H] or [M, H, C].

    Raises:
        ValueError: If sizes do not fit, errors are missing or the method is unknown.
    """
    if method not in get_args(Method):
        raise ValueError(f"method ({method!r}) must be one of {', '.join(get_args(Method))}")
    if errors.shape[1:] != point.shape or not len(errors) or np.isnan(errors).any():
        raise ValueError(
            f"errors {list(errors.shape)} must be [N, {', '.join(map(str, point.shape))}] with N > 0 and no gaps; "
            "leave out windows whose truth is missing"
        )
    if n_samples < 1:
        raise ValueError(f"n_samples is {n_samples}; it must be at least 1")
    if rows is None:
        rows = draw_rows(len(errors), n_samples, rng, weights)
    if method == "bootstrap":
        if quantiles is not None:
            raise ValueError("bootstrap adds errors to the point forecast; use schaake or gaussian with quantiles")
        return point + errors[rows]
    if quantiles is not None:
        if point.ndim != 1:
            raise ValueError("quantiles [H, Q] go with a point forecast [H]; draw each channel with the same rows")
        samples = sample_marginals(quantiles, levels or (), n_samples)
    elif method == "gaussian":
        grid = (np.arange(n_samples) + 0.5) / n_samples
        if weights is not None:
            errors = errors[draw_rows(len(errors), max(n_samples, len(errors)), rng, weights)]
        samples = point + np.quantile(errors, grid, axis=0)
    else:
        samples = point + errors[rows]
    return tie_by_gaussian(samples, errors, rng) if method == "gaussian" else tie_by_ranks(samples, errors, rows, rng)


def simulate(forecaster: Any, df: pd.DataFrame, n_samples: int = 100, seed: int = 0, **options: Any) -> pd.DataFrame:
    """Draws joint sample paths of the steps after `df` from any forecaster.

    Args:
        forecaster: With `predict`, `predict_rolling` and `alias`, fitted where it needs to be.
        df: Histories, as in `iterate_paths`.
        n_samples: Paths for each series.
        seed: Of all randomness.
        **options: Of `iterate_paths`: `h`, `X_df`, `method`, `n_windows`, `step_size`, `level`, `pool`.

    Returns:
        Frame `unique_id, ds, sample, <alias>` with samples from 0, sorted by series, sample and time.

    Example:
        >>> import pandas as pd, tsllm
        >>> df = pd.DataFrame({"unique_id": "a", "ds": range(40), "y": [float(t % 4) for t in range(40)]})
        >>> paths = tsllm.simulate(tsllm.SeasonalNaive(4).fit(df, h=4), df, n_samples=3)
        >>> paths["sample"].unique().tolist(), paths["SeasonalNaive"].tolist()[:4]
        ([0, 1, 2], [0.0, 1.0, 2.0, 3.0])
    """
    return pd.concat(list(iterate_paths(forecaster, df, n_samples, seed, **options)), ignore_index=True)


def iterate_paths(
    forecaster: Any,
    df: pd.DataFrame,
    n_samples: int = 100,
    seed: int = 0,
    *,
    h: int | None = None,
    X_df: pd.DataFrame | None = None,
    method: Method | Literal["own"] | None = None,
    n_windows: int | None = None,
    step_size: int | None = None,
    level: Sequence[float] | None = None,
    pool: bool = False,
) -> Iterator[pd.DataFrame]:
    """Yields the paths of one series after the other, so that memory holds one series' paths.

    The errors come from `predict_rolling` over the last windows of `df`. They are honest only where the forecaster was
    not trained on these windows: fit it on data that end before them. Sample s of every series comes from the same
    earlier cutoff (`schaake` and `bootstrap`, equal numbers of windows), so that paths are joint over series too.

    Args:
        forecaster: With `predict`, `predict_rolling` and `alias`, fitted where it needs to be.
        df: Histories `unique_id, ds, y`, with the covariates that the forecaster reads.
        n_samples: Paths for each series.
        seed: Of all randomness.
        h: Steps ahead; None = the forecaster's own horizon.
        X_df: Future values of known covariates.
        method: See the module; None = "own" where the forecaster draws paths by itself, else "schaake" with `level`,
            else "bootstrap".
        n_windows: Most earlier windows, 50 unless said; fewer where the shortest series has no room.
        step_size: Steps between them; None = h.
        level: Central intervals in per cent that become the marginals, e.g. `LEVELS`; None = point plus errors.
        pool: Share the errors of all series, each in units of its own mean absolute error; for short series. Series
            are then drawn independently of one another.

    Yields:
        Frame `unique_id, ds, sample, <alias>`.

    Raises:
        ValueError: If there is no room for two windows, or their truth is missing; if a count is below its least; if
            "own" is asked of a forecaster that draws no paths.
    """
    _check_counts(n_samples=(n_samples, 1), n_windows=(n_windows, 2), step_size=(step_size, 1))
    names = forecaster.names
    translated = names.describes(df)
    df, X_df = names.read(df), None if X_df is None else names.read_later(X_df)
    if method in (None, "own") and not level:
        given = {"n_windows": n_windows, "step_size": step_size, "pool": pool or None}
        options = {name: value for name, value in given.items() if value is not None}
        own = forecaster.sample_own_paths(df, n_samples, seed, h, X_df, **options)
        if own is not None:
            yield from (names.write(made) if translated else made for _, made in own.groupby(ID, sort=False))
            return
    if method == "own":
        raise ValueError(f"{forecaster.alias} draws no paths of its own, or not by levels; leave method or level out")
    chosen: Method = method or ("schaake" if level else "bootstrap")
    future = forecaster.predict(df, h=h, level=level, X_df=X_df)
    steps = int(future.groupby(ID, sort=False).size().iloc[0])
    scale = forecaster.target_scale
    errors = collect_errors(forecaster, df, steps, n_windows or 50, step_size or steps)
    if pool:
        errors = _pool(errors)
    rng = np.random.default_rng(seed)
    counts = {len(e) for e in errors.values()}
    # A pooled row is one window of one series, and no common past of all.
    shared = draw_rows(counts.pop(), n_samples, rng) if len(counts) == 1 and not pool else None
    columns, levels = _name_quantiles(forecaster.alias, level)
    for name, part in future.groupby(ID, sort=False):
        paths = draw_paths(
            scale.transform_values(part[forecaster.alias].to_numpy(dtype=float)),
            errors[name],
            n_samples,
            rng,
            method=chosen,
            quantiles=scale.transform_values(part[columns].to_numpy(dtype=float)) if level else None,
            levels=levels,
            rows=shared,
        )  # [M, H]
        made = frame_paths(name, part[TIME].to_numpy(), scale.backward_values(paths), forecaster.alias)
        yield names.write(made) if translated else made


def _check_counts(**counts: tuple[Any, int]) -> None:
    for name, (value, least) in counts.items():
        if value is None and name != "n_samples":
            continue
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise ValueError(f"{name} is {value!r}; it must be a whole number of at least {least}")


def frame_paths(name: Any, times: np.ndarray, paths: np.ndarray, alias: str) -> pd.DataFrame:
    """Returns the paths [M, H] of a series at `times` [H] as a frame `unique_id, ds, sample, <alias>`."""
    count, steps = paths.shape
    samples = np.repeat(np.arange(count), steps)
    return pd.DataFrame({ID: name, TIME: np.tile(times, count), SAMPLE: samples, alias: paths.reshape(-1)})


def collect_errors(forecaster: Any, df: pd.DataFrame, h: int, n_windows: int, step_size: int) -> dict[Any, np.ndarray]:
    """Collects the errors, truth minus forecast, of the last windows of each series; windows with gaps are left out.

    A forecaster with a transformed target has its errors on that scale.

    Returns:
        Series -> errors [N, H], in the order of the cutoffs.

    Raises:
        ValueError: If there is no room for two windows, or fewer than two of a series are without gaps.
    """
    shortest = int(df.groupby(ID, sort=False).size().min())
    fitting = min(n_windows, (shortest - 1 - h) // step_size + 1)
    read = forecaster.context_length
    if read is not None:
        fitting = min(fitting, (shortest - read - h) // step_size + 1)
    if fitting < 2:
        raise ValueError(
            f"the shortest series has {shortest} steps, no room for two windows of {h} steps, {step_size} apart"
            f"{f', after a look-back of {read}' if read else ''}; paths need at least two earlier forecasts"
        )
    scale = forecaster.target_scale
    rolled = forecaster.predict_rolling(df, h, fitting, step_size)
    merged = rolled.merge(df[[ID, TIME, TARGET]], on=[ID, TIME], how="left", suffixes=("_forecast", ""))
    merged = merged.sort_values([ID, CUTOFF, TIME], kind="stable")
    errors = {}
    for name, part in merged.groupby(ID, sort=False):
        truth, forecast = (scale.transform_values(part[c].to_numpy(dtype=float)) for c in (TARGET, forecaster.alias))
        values = (truth - forecast).reshape(-1, h)  # [N, H]
        errors[name] = values[~np.isnan(values).any(1)]
        if len(errors[name]) < 2:
            raise ValueError(f"series {name!r} has {len(errors[name])} windows without gaps of {fitting}; it needs 2")
    return errors


def _pool(errors: dict[Any, np.ndarray]) -> dict[Any, np.ndarray]:
    scales = {name: np.abs(values).mean() for name, values in errors.items()}
    scaled = np.concatenate([errors[name] / scales[name] for name in errors if scales[name] > 0] or [np.zeros((0, 0))])
    return {name: values if scales[name] == 0 else scaled * scales[name] for name, values in errors.items()}


def _name_quantiles(alias: str, level: Sequence[float] | None) -> tuple[list[str], list[float]]:
    """Returns the columns of central intervals and the point forecast as rising quantiles, with their levels."""
    wide = sorted(level or (), reverse=True)
    low, high = [(f"{alias}-lo-{lv:g}", 0.5 - lv / 200) for lv in wide], []
    high = [(f"{alias}-hi-{lv:g}", 0.5 + lv / 200) for lv in reversed(wide)]
    pairs = low + high
    return [column for column, _ in pairs], [at for _, at in pairs]

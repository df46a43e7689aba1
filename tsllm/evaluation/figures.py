"""Figures of the report: inline SVG, told apart by line and marker as well as by colour, each also said in words.

Colours are Okabe & Ito's (2008), which readers with any colour vision tell apart; dashes, markers and labels at the
line's end carry the same information in print.
"""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tsllm.escape import escape_label
from tsllm.evaluation.findings import name_metric, write_interval
from tsllm.evaluation.significance import FriedmanNemenyi
from tsllm.forecasting.base import format_level, name_interval_columns
from tsllm.types import CUTOFF, ID, TARGET, TIME

if TYPE_CHECKING:
    from tsllm.evaluation.prototypes import PrototypeAttention

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#000000")
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "h", "p")
WIDTH = 5.6  # inches
MAX_LABELS = 6  # points that are named beside them; more would cover one another
FLOOR = -150.0  # per cent of skill; a model that fails at one step must not flatten the lines of all


@dataclass(frozen=True)
class Picture:
    """A drawn figure.

    Attributes:
        svg: Inline SVG.
        alt: What a reader who does not see it should know.
        caption: Text below it.
    """

    svg: str
    alt: str
    caption: str


def new_figure(rows: int = 1, columns: int = 1, height: float = 3.2, **options: Any) -> tuple[Any, Any]:
    """Returns a matplotlib figure and its axes without touching pyplot's state."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(rows, columns, **options)
    for ax in np.atleast_1d(axes).ravel():
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="y", color="#dddddd", linewidth=0.6)
        ax.set_axisbelow(True)
    return figure, axes


def to_svg(figure: Any) -> str:
    """Returns the figure as an SVG element with text as text; ids are made unique by matplotlib's own salt."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    # The page gives the size, the view box the proportions; the reader's own sans-serif font stands in.
    head, _, body = svg.partition(">")
    head = re.sub(r' (?:width|height)="[^"]*"', "", head)
    return f"{head}>{body}".replace("DejaVu Sans", "sans-serif")


def style_of(index: int) -> dict[str, Any]:
    """Returns colour, dash and marker of the model at a position."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "linestyle": DASHES[index % len(DASHES)],
        "marker": MARKERS[index % len(MARKERS)],
    }


def label_ends(ax: Any, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Writes each label beside the axes at the end (x, y) of its line, pushed apart so that none covers another.

    Args:
        ax: Axes, with its limits set.
        ends: (x, y, label, colour).
    """
    if not ends:
        return
    (low, high), (left, right) = ax.get_ylim(), ax.get_xlim()
    gap = (high - low) * 0.075
    placed: list[float] = []
    for x, y, label, colour in sorted(ends, key=lambda e: e[1]):
        at = max(y, placed[-1] + gap) if placed else y
        placed.append(at)
        ax.annotate(
            escape_label(label),
            (x, y),
            xytext=(right + (right - left) * 0.02, at),
            color=colour,
            fontsize=8,
            va="center",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5},
        )


def pick_typical_window(frame: pd.DataFrame, series: Any, model: str) -> Any:
    """Returns the cutoff whose MAE is the median one of `model` (the lower of two), so none is hand-picked.

    Where no target of the series was observed, it is the last one.
    """
    part = frame[frame[ID] == series]
    errors = (part[TARGET] - part[model]).abs().groupby(part[CUTOFF]).mean().dropna().sort_values(kind="stable")
    return errors.index[(len(errors) - 1) // 2] if len(errors) else part[CUTOFF].max()


def plot_forecasts(
    df: pd.DataFrame,
    frame: pd.DataFrame,
    models: Sequence[str],
    context: int,
    level: float | None = None,
    max_series: int = 4,
    order: Sequence[str] = (),
) -> Any:
    """Plots one typical window of each series: history, target, the models' forecasts, the first model's band.

    Args:
        df: The series.
        frame: Back-test frame.
        models: Aliases, the first one with its band; its median-error window is shown.
        context: Steps of history shown.
        level: Interval drawn; None = no band.
        max_series: At most so many panels.
        order: All models of the report, whose positions give the styles; empty = `models`.

    Returns:
        A matplotlib figure.
    """
    names = list(frame[ID].unique())[:max_series]
    bands: dict[str, list[float]] = {model: [] for model in models}
    if level is not None:
        bands[models[0]] = [level]
    figure, axes = new_figure(len(names), 1, height=2.6 * len(names) + 0.3, squeeze=False)
    for ax, name in zip(axes[:, 0], names, strict=True):
        cutoff = pick_typical_window(frame, name, models[0])
        window = frame[(frame[ID] == name) & (frame[CUTOFF] == cutoff)]
        past = df[(df[ID] == name) & (df[TIME] <= cutoff)].tail(context)
        draw_panel(ax, pd.concat([past[[TIME, TARGET]], window[[TIME, TARGET]]]), window, bands, cutoff, order)
        ax.set_title(f"{escape_label(name)}, forecast from {cutoff}", fontsize=9, loc="left")
    add_legend(figure, axes[0, 0])
    return figure


def draw_panel(
    ax: Any,
    observed: pd.DataFrame,
    window: pd.DataFrame,
    bands: Mapping[str, Sequence[float]],
    start: Any,
    order: Sequence[str] = (),
) -> None:
    """Draws observed steps and forecasts with their bands into one panel.

    Args:
        ax: Axes of matplotlib.
        observed: `ds, y`, history and whatever is known of the horizon.
        window: Forecasts `ds, <alias>` and their bounds.
        bands: Alias -> levels of its bands in per cent, the widest first; the models in their order.
        start: Where the line stands that parts history and forecast.
        order: All models of the report, whose positions give the styles; empty = those of `bands`.
    """
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    ax.plot(observed[TIME], observed[TARGET], color="black", linewidth=1.3, label="observed")
    places = list(order or bands)
    for alias, levels in bands.items():
        style = style_of(places.index(alias)) | {"markersize": 3, "markevery": max(1, len(window) // 6)}
        for level in levels:
            low, high = name_interval_columns(alias, [level])
            label = f"{escape_label(alias)}, {format_level(level)} % interval"
            band = {"color": style["color"], "alpha": 0.18, "linewidth": 0, "label": label}
            ax.fill_between(window[TIME], window[low], window[high], **band)
        ax.plot(window[TIME], window[alias], linewidth=1.2, label=escape_label(alias), **style)
    ax.axvline(start, color="#888888", linewidth=0.8)
    ax.tick_params(labelsize=8)
    if observed[TIME].dtype.kind == "M":
        locator = AutoDateLocator()
        ax.xaxis.set_major_locator(locator)
        ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        ax.xaxis.get_offset_text().set_fontsize(8)


def add_legend(figure: Any, ax: Any) -> None:
    """Puts the legend of one panel below the figure."""
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, ncols=3, frameon=False, loc="outside lower center")


def draw_forecasts(
    df: pd.DataFrame,
    frame: pd.DataFrame,
    models: Sequence[str],
    context: int,
    level: float | None = None,
    order: Sequence[str] = (),
) -> Picture:
    """Draws `plot_forecasts` for the report."""
    figure = plot_forecasts(df, frame, models, context, level, order=order)
    alt = (
        f"One panel a series, with {context} steps of history, the observed values that followed and the forecasts of "
        f"{', '.join(models)}."
    )
    caption = f"One window of each series, the one where {models[0]} has its median error, neither best nor worst."
    return Picture(to_svg(figure), alt, caption)


def _choose_steps(h: int) -> list[int]:
    """Returns the steps that an axis names: the first, the last, and even ones between that leave it room."""
    apart = next(n for n in (1, 2, 3, 4, 6, 12, 24, 48, 96, h) if h <= 8 * n)
    return [1, *(k for k in range(apart, h, apart) if 1 < k <= h - apart / 2), h] if h > 1 else [1]


def draw_step_skill(steps: pd.DataFrame, baseline: str, order: Sequence[str] = ()) -> Picture:
    """Draws skill by horizon step from `compute_step_skill`; styles as in `plot_forecasts`."""
    models = [c for c in steps.columns if c not in ("step", baseline)]
    figure, ax = new_figure(height=3.4)
    ax.axhline(0, color="black", linewidth=1)
    lowest = {model: 100 * float(steps[model].min()) for model in models}
    below = {model: value for model, value in lowest.items() if value < FLOOR}
    ends = []
    places = list(order or models)
    for model in models:
        style = style_of(places.index(model))
        ax.plot(
            steps["step"],
            (100 * steps[model]).clip(lower=10 * FLOOR),  # against a reference without error all is lost
            linewidth=1.4,
            markersize=3.5,
            markevery=max(1, len(steps) // 8),
            **style,
        )
        end = max(100 * float(steps[model].dropna().iloc[-1]), FLOOR)
        ends.append((float(steps["step"].iloc[-1]), end, model, style["color"]))
    if below:
        highest = max(0.0, 100 * float(steps[models].max().max()))
        ax.set_ylim(FLOOR, highest + 0.05 * (highest - FLOOR))
    # The axis ends where the lines do; the layout finds room for the labels beside it.
    lone = 0.5 if len(steps) == 1 else 0.0
    ax.set_xlim(steps["step"].iloc[0] - lone, steps["step"].iloc[-1] + lone)
    label_ends(ax, ends)
    ax.set_xticks(_choose_steps(len(steps)))
    ax.set_xlabel("step ahead", fontsize=9)
    ax.set_ylabel(f"% less MAE than {escape_label(baseline)}", fontsize=9)
    ax.tick_params(labelsize=8)
    first, last = steps.iloc[0], steps.iloc[-1]
    words = "; ".join(
        f"{m} {100 * first[m]:.0f} % at step 1, {100 * last[m]:.0f} % at step {len(steps)}" for m in models
    )
    caption = f"Share of {baseline}'s error that is saved at each step ahead; below zero is worse than {baseline}."
    if below:
        fallen = ", ".join(f"{model} to {value:,.0f} %" for model, value in below.items())
        caption += f" The axis ends at {FLOOR:.0f} %; further down go {fallen}."
    return Picture(to_svg(figure), f"Lines of the MAE saved against {baseline} by step ahead: {words}.", caption)


def draw_skill_intervals(pairs: pd.DataFrame) -> Picture:
    """Draws skill against the reference with its adjusted interval, a row a model, from `compare_to`.

    An interval without a bound is drawn to the end of the axis; a model that was not tested has none.
    """
    ordered = pairs.sort_values("skill").reset_index(drop=True)
    reference = ordered["reference"].iloc[0]
    figure, ax = new_figure(height=0.34 * len(ordered) + 0.9)
    ax.grid(axis="y", visible=False)
    ax.axvline(0, color="black", linewidth=1)
    filled = {"better": "full", "worse": "full", "no difference shown": "none", "not tested": "none"}
    known = 100 * ordered[["low", "skill", "high"]].to_numpy(dtype=float)
    known = known[np.isfinite(known)]
    margin = 0.05 * max(1.0, float(np.ptp(known)))
    ends = (min(0.0, float(known.min())) - margin, max(0.0, float(known.max())) + margin)
    for k, row in ordered.iterrows():
        low, high = np.clip([100 * row["low"], 100 * row["high"]], *ends)
        ax.plot([low, high], [k, k], color=COLOURS[0], linewidth=1.6)
        ax.plot(100 * row["skill"], k, marker="o", color=COLOURS[0], fillstyle=filled[row["verdict"]], markersize=7)
    ax.set_xlim(*ends)
    ax.set_yticks(range(len(ordered)), ordered["model"], fontsize=9)
    ax.set_xlabel(f"% less error than {escape_label(reference)} (point and adjusted 95 % interval)", fontsize=9)
    ax.tick_params(axis="x", labelsize=8)
    ax.margins(y=0.15)
    words = "; ".join(
        f"{r['model']} {100 * r['skill']:.1f} %"
        + (f" [{write_interval(r['low'], r['high'])}]" if r["low"] == r["low"] else "")
        + f", {r['verdict']}"
        for r in ordered.iloc[::-1].to_dict("records")
    )
    return Picture(
        to_svg(figure),
        f"Error saved against {reference} with 95 % intervals, adjusted by Holm: {words}.",
        "Filled: the difference is significant at 5 % after Holm's correction, at whose level the intervals are. "
        "Open: no difference shown, or not tested.",
    )


def draw_cost(table: pd.DataFrame, metric: str = "mae") -> Picture:
    """Draws accuracy against the time of fit and forecasts; needs the columns `metric`, `seconds` and `model`.

    Models that lack windows (column `failed`) are left out and named: their error is not that of the others' windows.
    """
    from matplotlib.ticker import NullFormatter

    lost = table["failed"] > 0 if "failed" in table else pd.Series(False, table.index)
    shown = table[~lost].dropna(subset=[metric, "seconds"])
    figure, ax = new_figure(height=3.2)
    ax.set_xscale("log")
    for k, row in enumerate(shown.itertuples()):
        style = style_of(k)
        x, y = max(float(row.seconds), 1e-3), float(getattr(row, metric))  # type: ignore[arg-type]
        ax.plot(
            x,
            y,
            marker=style["marker"],
            color=style["color"],
            markersize=8,
            linestyle="none",
            label=escape_label(row.model),
        )
        if len(shown) <= MAX_LABELS:
            ax.annotate(escape_label(row.model), (x, y), xytext=(6, 5), textcoords="offset points", fontsize=8)
    if len(shown) > MAX_LABELS:
        figure.legend(fontsize=8, frameon=False, ncols=3, loc="outside lower center")
    ax.margins(x=0.25, y=0.15)
    ax.set_xlabel("seconds of training and forecasting together (log scale)", fontsize=9)
    ax.set_ylabel(f"{name_metric(metric)} (lower is better)", fontsize=9)
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.tick_params(labelsize=8)
    words = "; ".join(f"{r.model} {getattr(r, metric):.3g} in {r.seconds:.1f} s" for r in shown.itertuples())
    caption = "Down and to the left is better: less error, less time."
    if lost.any():
        caption += f" Left out, as windows lack a forecast: {', '.join(map(str, table.loc[lost, 'model']))}."
    return Picture(to_svg(figure), f"Error against seconds: {words}.", caption)


def draw_training(logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Picture:
    """Draws validation loss (marked) and, for up to three models, training loss (dashed) by step of each log."""
    figure, ax = new_figure(height=3.4)
    words = []
    for k, (model, log) in enumerate(logs.items()):
        style = style_of(k)
        points = [(e["step"], e["eval_loss"]) for e in log if "eval_loss" in e]
        if points:
            x, y = zip(*points, strict=True)
            ax.plot(
                x,
                y,
                markersize=4,
                linewidth=1.2,
                label=f"{escape_label(model)}, validation",
                **(style | {"linestyle": "-"}),
            )
            words.append(f"{model} validation {y[0]:.3g} to a best of {min(y):.3g} at step {x[int(np.argmin(y))]}")
        points = [(e["step"], e["loss"]) for e in log if "loss" in e]
        if points and len(logs) <= 3:
            x, y = zip(*points, strict=True)
            ax.plot(
                x, y, linestyle="--", color=style["color"], linewidth=1.2, label=f"{escape_label(model)}, training"
            )
    ax.set_xlabel("training step", fontsize=9)
    ax.set_ylabel("loss (scaled units)", fontsize=9)
    ax.tick_params(labelsize=8)
    figure.legend(fontsize=8, frameon=False, ncols=3, loc="outside lower center")
    caption = "The weights of the best validation loss are kept. Losses of different heads are not comparable."
    return Picture(to_svg(figure), f"Loss by training step: {'; '.join(words)}.", caption)


def find_reward_curves(log: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Returns what a training log holds of rewards: name of the curve -> points (step, reward)."""
    names = {"reward": "training groups", "eval_reward": "validation decisions"}
    curves = {name: [(e["step"], e[key]) for e in log if e.get(key) is not None] for key, name in names.items()}
    return {name: points for name, points in curves.items() if points}


def plot_rewards(logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Any:
    """Plots the rewards of each log by step: a row a model, as rewards have units of their own, a column a curve.

    Training groups are samples; validation decisions are what the model would do, so their levels differ.

    Args:
        logs: Model -> training log with rewards.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: If a log holds no reward.
    """
    curves = {model: find_reward_curves(log) for model, log in logs.items()}
    without = [model for model, found in curves.items() if not found]
    if without or not curves:
        raise ValueError(f"no reward in the logs of {without}; leave them out")
    columns = max(len(found) for found in curves.values())
    figure, axes = new_figure(len(curves), columns, height=2.5 * len(curves) + 0.3, squeeze=False)
    for row, (model, found) in zip(axes, curves.items(), strict=True):
        for ax in row[len(found) :]:
            ax.set_visible(False)
        for k, (ax, (name, points)) in enumerate(zip(row, found.items(), strict=False)):
            x, y = zip(*points, strict=True)
            ax.plot(x, y, linewidth=1.2, markersize=4, markevery=max(1, len(x) // 20), **style_of(k))
            ax.set_title(escape_label(f"{model}: {name}" if model else name), fontsize=9, loc="left")
            ax.set_xlabel("training step", fontsize=9)
            ax.set_ylabel("reward", fontsize=9)
            ax.tick_params(labelsize=8)
    return figure


def draw_rewards(logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Picture:
    """Draws `plot_rewards` for the report."""
    words = []
    for model, log in logs.items():
        for name, points in find_reward_curves(log).items():
            first, last, best = points[0], points[-1], max(points, key=lambda point: point[1])
            words.append(
                f"{model}, {name}: {first[1]:.3g} at step {first[0]:g}, {last[1]:.3g} at step {last[0]:g}, at best "
                f"{best[1]:.3g}"
            )
    return Picture(
        to_svg(plot_rewards(logs)),
        f"Reward by training step. {'; '.join(words)}.",
        "Higher is better. Rewards have units of their own: compare the course of a curve, not one with another.",
    )


def draw_prototypes(model: str, found: "PrototypeAttention", count: int = 10) -> Picture:
    """Draws the mean attention of each patch over the prototypes that get most of it, in multiples of an equal share.

    Args:
        model: Alias.
        found: From `compute_prototype_attention`.
        count: Prototypes shown.
    """
    from matplotlib.colors import BoundaryNorm

    top = found.find_top(count)
    num_patches, num_prototypes = found.weights.shape
    times = found.weights[:, top].T * num_prototypes  # [K, P]
    figure, ax = new_figure(height=0.27 * len(top) + 1.2)
    ax.grid(visible=False)
    bounds = [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, *(2.0**k for k in range(4, 12) if 2.0**k < 2 * times.max())]
    mesh = ax.pcolormesh(times, cmap="Greys", norm=BoundaryNorm(bounds, 256), edgecolors="white", linewidth=0.7)
    dark = bounds[len(bounds) // 2]
    for (k, p), value in np.ndenumerate(times) if num_patches <= 16 else ():
        text = f"{value:.0f}" if value >= 9.95 else f"{value:.1f}"
        ax.text(
            p + 0.5, k + 0.5, text, ha="center", va="center", fontsize=7, color="white" if value >= dark else "black"
        )
    labels = [_label_prototype(number, found.words.get(number, [])) for number in top]
    nearest = [found.words[number][0][1] for number in top if number in found.words]
    ax.set_yticks(np.arange(len(top)) + 0.5, labels, fontsize=8, parse_math=False)
    ax.invert_yaxis()
    shown = np.arange(0, num_patches, max(1, -(-num_patches // 7)))  # as many labels as fit
    before = found.context_length - found.starts[shown]  # 0: a patch of nothing but the repeated last step
    ax.set_xticks(shown + 0.5, [f"−{steps}" if steps > 0 else "end" for steps in before], fontsize=8)
    ax.tick_params(length=0)
    ax.set_xlabel(f"patch, by its first step before the forecast ({found.patch_length} steps each)", fontsize=9)
    bar = figure.colorbar(mesh, ax=ax, ticks=bounds[1:-1], pad=0.01)
    bar.ax.set_yticklabels([f"{bound:g}" for bound in bounds[1:-1]], fontsize=8)
    bar.set_label("times an equal share", fontsize=8)
    share = float(found.weights[:, top].sum(1).mean())
    means = times.mean(1)
    words = "; ".join(f"{label} {mean:.1f} times" for label, mean in zip(labels, means, strict=True))
    return Picture(
        to_svg(figure),
        f"Attention of {num_patches} patches of {model} over {num_prototypes} prototypes, mean over heads and "
        f"{found.windows} windows. The {len(top)} shown get {100 * share:.0f} % of it, an equal share would be "
        f"{100 * len(top) / num_prototypes:.0f} %: {words}.",
        f"What the patches of {model} read. A patch spreads its attention as over {found.count_effective():.0f} equal "
        f"prototypes of {num_prototypes}. "
        + (
            "In words: the nearest of the vocabulary, means taken away, with cosine similarities of "
            f"{min(nearest):.2f} to {max(nearest):.2f}; they name a direction and explain nothing."
            if nearest
            else "The backbone has no tokenizer, so the prototypes have numbers only."
        ),
    )


def _label_prototype(number: int, words: Sequence[tuple[str, float]]) -> str:
    return " ".join([f"#{number}", *(f"“{text[:12]}”" for text, _ in words[:2])])


def draw_critical_difference(result: FriedmanNemenyi) -> Picture:
    """Draws mean ranks on an axis, bars join models that are not told apart (Demsar 2006)."""
    order = sorted(result.mean_ranks, key=result.mean_ranks.__getitem__)
    k = len(order)
    half = -(-k // 2)
    groups = result.groups()
    figure, ax = new_figure(height=0.9 + 0.3 * half + 0.16 * len(groups))
    ax.axis("off")
    # Both margins hold the longest label: a character is about 0.06 inches wide, the axis WIDTH inches.
    share = min(0.4, 0.06 * max(len(f"{m} (0.00)") for m in order) / WIDTH)
    margin = (0.3 + share * (k - 1)) / (1 - 2 * share)
    ax.set_xlim(1 - margin, k + margin)
    bottom = -(0.35 * len(groups) + 0.55 * half + 0.6)
    ax.set_ylim(bottom, 1.6)
    ax.plot([1, k], [0, 0], color="black", linewidth=1)
    for tick in range(1, k + 1):
        ax.plot([tick, tick], [0, 0.12], color="black", linewidth=1)
        ax.text(tick, 0.2, str(tick), ha="center", va="bottom", fontsize=8)
    ax.plot([1, 1 + result.critical_difference], [1.05, 1.05], color="black", linewidth=1.5)
    ax.text(1, 1.15, f"critical difference {result.critical_difference:.2f}", fontsize=8, va="bottom")
    for row, group in enumerate(groups):
        y = -0.25 - 0.35 * row
        low, high = result.mean_ranks[group[0]], result.mean_ranks[group[-1]]
        ax.plot([low - 0.04, high + 0.04], [y, y], color="black", linewidth=3.5, solid_capstyle="butt")
    for i, model in enumerate(order):
        rank = result.mean_ranks[model]
        left = i < half
        row = i if left else k - 1 - i
        y = -0.35 * len(groups) - 0.5 - 0.55 * row
        edge = 0.75 if left else k + 0.25
        ax.plot([rank, rank, edge], [0, y, y], color="#444444", linewidth=0.8)
        ax.text(
            edge + (-0.06 if left else 0.06),
            y,
            f"{model} ({rank:.2f})",
            fontsize=8,
            va="center",
            ha="right" if left else "left",
        )
    words = ", ".join(f"{m} {result.mean_ranks[m]:.2f}" for m in order)
    joined = "; ".join(" = ".join(g) for g in groups) or "none"
    return Picture(
        to_svg(figure),
        f"Mean ranks over {result.blocks} blocks, 1 is best: {words}. Not told apart: {joined}.",
        f"Critical-difference diagram: models joined by a bar are not told apart at {100 * result.alpha:g} % "
        f"(Friedman p = {result.p_value:.2g}, Nemenyi).",
    )

"""The model card of a text adapter, written from the files that the folder holds."""

from pathlib import Path
from typing import Any

import pandas as pd
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from tsllm.hub.card import (
    PACKAGED,
    PLOT_FILE,
    describe_environment,
    describe_source,
    find_hub_id,
    format_score,
    read_json,
    shorten_source,
)
from tsllm.hub.licence import Licence, check_licence, derive_licence, find_backbone_licence
from tsllm.hub.plot import draw_forecast
from tsllm.hub.record import METRICS_FILE, write_card_file
from tsllm.hub.templates import render_card
from tsllm.types import TIME

EXAMPLE_FILE = "forecast.csv"
_SHOWN = {"mae": "MAE", "mse": "MSE", "crps": "CRPS", "coverage_80": "coverage of 80 %"}


def write_text_card(
    folder: str | Path, *, recipe: str, repo_id: str | None = None, licence: str | None = None
) -> Path:
    """Writes `README.md` into the folder of a text adapter, and `forecast.png` if a test was run.

    Args:
        folder: Artefacts of a text recipe: `adapter_config.json`, `text_forecaster.json`, `metrics.json`.
        recipe: Name of the recipe.
        repo_id: Where the card will stand, for its load snippet; None = the folder's name.
        licence: Of the adapter, as the Hub abbreviates it; None = what language model and data allow to say.

    Returns:
        The card's path.

    Raises:
        OSError: If a file is missing.
    """
    path = Path(folder)
    if (path / EXAMPLE_FILE).is_file():
        _draw(path)
    card = build_text_card(path, recipe=recipe, repo_id=repo_id, licence=licence)
    return write_card_file(path, card)


def build_text_card(folder: Path, *, recipe: str, repo_id: str | None = None, licence: str | None = None) -> ModelCard:
    """Builds the card; see `write_text_card`."""
    adapter = read_json(folder / "adapter_config.json")
    settings, metrics = read_json(folder / "text_forecaster.json"), read_json(folder / METRICS_FILE)
    base = settings["base"]
    data_name = shorten_source(metrics["dataset"])
    name = repo_id or f"{settings['alias']}-{data_name}-{settings['context_length']}-{settings['h']}"
    hub_id = find_hub_id(base["name"])
    shown = [key for key in _SHOWN if metrics.get("test", {}).get(key) is not None]
    asked = check_licence(licence) or str(settings.get("licence", ""))
    found = derive_licence(asked, hub_id or base["name"], [str(metrics["data"].get("licence", ""))])
    rows = {
        "test": "this adapter, test",
        "start": "what it started from, test",
        "seasonal_naive": "seasonal naive, test",
    }
    return render_card(
        "text_card.md.j2",
        _build_data(settings, metrics, shown, name, hub_id, found),
        title=name,
        load_name=repo_id or ".",
        data_name=data_name,
        settings=settings,
        metrics=metrics,
        base=base,
        base_name=hub_id or base["name"],
        packaged=base["name"] in PACKAGED,
        on_hub=hub_id is not None and base["name"] not in PACKAGED,
        plot=PLOT_FILE if (folder / PLOT_FILE).is_file() else None,
        score_names=[_SHOWN[key] for key in shown],
        score_rows=[
            (label, [format_score(metrics[row].get(key)) for key in shown])
            for row, label in rows.items()
            if metrics.get(row)
        ],
        comparison=list(_describe_comparison(metrics)),
        model_facts=[
            *_describe_adapter(adapter, settings, metrics, folder),
            ("licence", f"{found.name}: {found.reason}"),
        ],
        data_facts=list(describe_source(metrics["data"], settings["freq"])),
        training_facts=list(_describe_training(metrics, recipe)),
    )


def _build_data(
    settings: dict[str, Any],
    metrics: dict[str, Any],
    shown: list[str],
    name: str,
    hub_id: str | None,
    licence: Licence,
) -> ModelCardData:
    results = [
        EvalResult(
            task_type="time-series-forecasting",
            task_name="Time series forecasting",
            dataset_type=shorten_source(metrics["dataset"]),
            dataset_name=shorten_source(metrics["dataset"]),
            dataset_split="test",
            dataset_args={
                "context_length": settings["context_length"],
                "prediction_length": settings["h"],
                "windows": metrics["test"]["windows"],
                "samples": settings["num_samples"],
            },
            metric_type=key,
            metric_name=_SHOWN[key],
            metric_value=round(metrics["test"][key], 6),
        )
        for key in shown
    ]
    scores: dict[str, Any] = {"eval_results": results} if results else {}
    extra: dict[str, Any] = {} if hub_id is None else {"base_model": hub_id}
    return ModelCardData(
        model_name=name,
        library_name="peft",
        pipeline_tag="time-series-forecasting",
        tags=["time-series", "forecasting", "tsllm", "text", "lora"],
        **licence.metadata,
        **scores,
        **extra,
    )


def _describe_comparison(metrics: dict[str, Any]) -> Any:
    comparison = metrics.get("comparison") or {}
    for key in ("mae", "crps"):
        found = comparison.get(key)
        if found and found["gain"] is not None:
            p_value = "too few cutoffs to tell" if found["p_value"] is None else f"p = {found['p_value']:.2g}"
            yield (
                f"{_SHOWN[key]} against the start: {found['gain']:+.4g} better over {comparison['windows']} windows "
                f"(tested over the cutoffs, with their correlation: {p_value})"
            )


def _describe_adapter(adapter: dict[str, Any], settings: dict[str, Any], metrics: dict[str, Any], folder: Path) -> Any:
    base = settings["base"]
    yield "language model", f"`{base['name']}`"
    hub_id = find_hub_id(base["name"])
    its = find_backbone_licence(hub_id or base["name"])
    if its:
        yield "its licence", its
    yield "its commit", f"`{base['revision']}`" if base["revision"] else "none, it was not loaded from the Hub"
    yield "its fingerprint", f"`{base['fingerprint']}`"
    if base["load_in_4bit"]:
        yield "its weights", "packed into four bits (NF4)"
    parameters = metrics["parameters"]
    yield "parameters", f"{parameters['trainable']:,} trained of {parameters['total']:,}"
    weights = folder / "adapter_model.safetensors"
    if weights.is_file():
        yield "size", f"{weights.stat().st_size / 1e6:.2f} MB of trained tensors"
    yield "LoRA", f"rank {adapter['r']}, alpha {adapter['lora_alpha']}, on {sorted(adapter['target_modules'])}"
    yield "context and horizon", f"{settings['context_length']} and {settings['h']} steps"
    yield "numbers", f"{settings['digits']} digits for the central span of a window's history"
    for key in ("domain", "season", "covariates"):
        if settings[key]:
            yield f"{key} in the prompt", settings[key]
    options = settings["options"]
    yield (
        "sampling",
        f"{settings['num_samples']} completions, temperature {options['temperature']:g}, "
        f"{'only tokens that lead to numbers' if options['constrained'] else 'unconstrained'}",
    )


def _describe_training(metrics: dict[str, Any], recipe: str) -> Any:
    environment = metrics["environment"]
    yield "recipe", f"`{recipe}`"
    if metrics.get("algorithm"):
        yield "algorithm", f"{metrics['algorithm']}, reward `{metrics['reward']}`"
    if metrics.get("training"):
        facts = {k: f"{v:.3g}" if isinstance(v, float) else v for k, v in metrics["training"].items()}
        yield "windows", ", ".join(f"{key} {value}" for key, value in facts.items())
    yield "seed", metrics["seed"]
    batch = metrics.get("global_batch_size")
    steps = f"{metrics['steps']} of {batch} windows" if batch else str(metrics["steps"])
    yield "steps", f"{steps}, rate {metrics['learning_rate']:g}"
    tested = metrics.get("test", {}).get("seconds", 0)
    yield "time", f"{metrics['seconds']:.0f} s training, {tested:.0f} s testing"
    yield "hardware", f"{environment['hardware']}, {metrics['processes']} process(es)"
    yield from describe_environment(environment)


def _draw(folder: Path) -> None:
    frame = pd.read_csv(folder / EXAMPLE_FILE)
    if not pd.api.types.is_numeric_dtype(frame[TIME]):
        frame[TIME] = pd.to_datetime(frame[TIME])
    history, forecast = frame[~frame["ahead"]], frame[frame["ahead"]]
    draw_forecast(history, forecast, folder / PLOT_FILE, "forecast", ("lo", "hi"), label="median")

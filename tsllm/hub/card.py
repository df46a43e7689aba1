"""The model card of an artefact folder, written from the files that the folder holds."""

import json
import re
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from tsllm.data.target import TargetScale
from tsllm.hub.licence import Licence, derive_licence, find_language_model
from tsllm.hub.record import METRICS_FILE, write_card_file
from tsllm.hub.spec import ANY_FREQ, ForecasterSpec
from tsllm.hub.templates import render_card

PLOT_FILE = "forecast.png"
_SHOWN = {
    "mse": "MSE scaled",
    "mae": "MAE scaled",
    "crps": "CRPS scaled",
    "coverage_80": "coverage of 80 %",
    "mse_original": "MSE",
    "mae_original": "MAE",
    "crps_original": "CRPS",
}
PACKAGED = {"smollm2-135m": "HuggingFaceTB/SmolLM2-135M-Instruct"}
_CITATIONS = {
    "tsllm_dlinear": "DLinear: Zeng et al., Are Transformers Effective for Time Series Forecasting?, AAAI 2023",
    "tsllm_patchtst": "PatchTST: Nie et al., A Time Series is Worth 64 Words, ICLR 2023",
    "tsllm_itransformer": "iTransformer: Liu et al., Inverted Transformers Are Effective, ICLR 2024",
    "tsllm_timesnet": "TimesNet: Wu et al., Temporal 2D-Variation Modeling, ICLR 2023",
    "tsllm_timexer": "TimeXer: Wang et al., Empowering Transformers with Exogenous Variables, NeurIPS 2024",
    "tsllm_timemixer": "TimeMixer: Wang et al., Decomposable Multiscale Mixing, ICLR 2024",
    "tsllm_pyraformer": "Pyraformer: Liu et al., Low-Complexity Pyramidal Attention, ICLR 2022",
    "tsllm_unet_tsf": "UnetTSF: Chu et al., A Better Performance Linear Complexity Model, 2024",
    "tsllm_timellm": "Time-LLM: Jin et al., Time Series Forecasting by Reprogramming Large Language Models, ICLR 2024",
}

# What a configuration says of a language model, which means nothing where there is none inside.
_OF_A_BACKBONE = {"backbone_mode", "backbone_weights", "num_backbone_layers", "num_prototypes"}


def write_card(folder: str | Path, *, recipe: str = "", repo_id: str | None = None) -> Path:
    """Writes `README.md` into an artefact folder, from the files that it holds.

    Args:
        folder: An artefact: `config.json`, `forecaster.json`, `metrics.json`, perhaps `forecast.png`.
        recipe: Name of the recipe; empty = trained in Python or by the command line.
        repo_id: Where the card will stand, for its load snippet; None = the folder's name.

    Returns:
        The card's path.

    Raises:
        OSError: If a file is missing.
    """
    path = Path(folder)
    plot = PLOT_FILE if (path / PLOT_FILE).is_file() else None
    return write_card_file(path, build_card(path, recipe=recipe, plot=plot, repo_id=repo_id))


def build_card(folder: Path, *, recipe: str = "", plot: str | None = None, repo_id: str | None = None) -> ModelCard:
    """Builds the card; see `write_card`."""
    config, metrics = read_json(folder / "config.json"), read_json(folder / METRICS_FILE)
    spec = ForecasterSpec.load(folder)
    data_name = shorten_source(spec.data.newest.name) or "own data"
    name = (
        repo_id
        or f"{spec.alias}-{data_name.replace(' ', '-')}-{config['context_length']}-{config['prediction_length']}"
    )
    test = metrics["test"] or {}
    rows = [("this model, test", test)] if test else []
    rows += [
        (label, metrics[key])
        for key, label in (
            ("start", "what it started from, test"),
            ("validation", "this model, validation"),
            ("seasonal_naive", "seasonal naive, test"),
        )
        if test and metrics.get(key)
    ]
    shown = [key for key in _SHOWN if test.get(key) is not None]
    base_model = config.get("backbone")
    intervals = config["head"] != "point" or (folder / "calibration.safetensors").is_file()
    return render_card(
        "card.md.j2",
        build_card_data(config, metrics, spec, name, base_model),
        title=name,
        summary=_summarise(config, spec),
        load_name=repo_id or ".",
        loader="ZeroShotForecaster" if spec.freq == ANY_FREQ else "NeuralForecaster",
        config=config,
        metrics=metrics,
        plot=plot,
        has_intervals=intervals,
        score_names=[_SHOWN[key] for key in shown],
        score_rows=[(label, [format_score(scores.get(key)) for key in shown]) for label, scores in rows],
        model_facts=[*_describe_model(config, metrics, folder), _write_licence(find_licence(config, spec))],
        data_facts=list(_describe_data(spec)),
        training_facts=list(_describe_training(metrics, recipe)),
        data_name=data_name,
        for_any=spec.freq == ANY_FREQ,
        base_model=base_model,
        citations=_cite(config, spec),
    )


def build_card_data(
    config: dict[str, Any], metrics: dict[str, Any], spec: ForecasterSpec, name: str, base_model: str | None
) -> ModelCardData:
    """Returns the card's metadata with the test scores as `model-index`."""
    results = [
        EvalResult(
            task_type="time-series-forecasting",
            task_name="Time series forecasting",
            dataset_type=shorten_source(spec.data.newest.name) or "own data",
            dataset_name=shorten_source(spec.data.newest.name) or "own data",
            dataset_split="test",
            dataset_args={
                "context_length": config["context_length"],
                "prediction_length": config["prediction_length"],
                "windows": metrics["windows"],
            },
            metric_type=key,
            metric_name=_SHOWN[key],
            metric_value=round(metrics["test"][key], 6),
        )
        for key in _SHOWN
        if (metrics["test"] or {}).get(key) is not None
    ]
    shown = None if base_model is None else find_hub_id(base_model)
    extra: dict[str, Any] = {} if shown is None else {"base_model": shown}
    return ModelCardData(
        model_name=name,
        eval_results=results,
        library_name="tsllm",
        pipeline_tag="time-series-forecasting",
        tags=["time-series", "forecasting", "tsllm", config["model_type"]],
        **find_licence(config, spec).metadata,
        **extra,
    )


def find_licence(config: dict[str, Any], spec: ForecasterSpec) -> Licence:
    """Returns the licence of an artefact and why it is that one."""
    return derive_licence(
        spec.licence, find_language_model(config) or None, [read.licence for read in spec.data.reads]
    )


def check_card(path: str | Path, *, results: bool = True) -> ModelCard:
    """Loads a card and checks what the Hub reads from it; `results` False allows a card without scores.

    Raises:
        ValueError: If the metadata is damaged or lacks the library or the results.
    """
    card = ModelCard.load(str(path), ignore_metadata_errors=False)
    data = card.data.to_dict()
    absent = [key for key in ("library_name", "pipeline_tag", "license") if not data.get(key)]
    absent += ["model-index"] if results and not data.get("model-index") else []
    if absent:
        raise ValueError(f"{path} lacks {absent} in its metadata; write it again with tsllm.hub.card.write_card")
    return card


def find_hub_id(backbone: str) -> str | None:
    """Returns the Hub's name of a language model, or None for a local folder, which the Hub could not show."""
    if backbone in PACKAGED:
        return PACKAGED[backbone]
    return backbone if re.fullmatch(r"[\w.-]+/[\w.-]+", backbone) and not Path(backbone).exists() else None


def _summarise(config: dict[str, Any], spec: ForecasterSpec) -> str:
    what = f"reads {config['context_length']} steps (freq {spec.freq}) and forecasts {config['prediction_length']}"
    if config.get("backbone"):
        return (
            f"A forecaster that reprograms the language model {config['backbone']}: it {what}. "
            "Only the trained tensors are stored here; the backbone is loaded by name and revision."
        )
    told = ""
    if config.get("text_backbone"):
        told = (
            f" Texts are read through the first {config['text_layers']} layers of {config['text_backbone']}, which is "
            "loaded by name and revision and not stored here."
        )
    return f"A {spec.alias} forecaster trained from scratch: it {what}.{told}"


def _describe_model(config: dict[str, Any], metrics: dict[str, Any], folder: Path) -> Any:
    weights = folder / "model.safetensors"
    yield "class", f"`{config['model_type']}`"
    yield "head", config["head"]
    parameters = metrics["parameters"]
    yield "parameters", f"{parameters['trainable']:,} trained of {parameters['total']:,}"
    if weights.is_file():
        yield "size", f"{weights.stat().st_size / 1e6:.2f} MB of trained tensors"
    hidden = {"architectures", "dtype", "transformers_version", "model_type", "head", "tsllm_version"}
    hidden |= set() if config.get("backbone") else _OF_A_BACKBONE
    for key, value in sorted(config.items()):
        if key not in hidden and not isinstance(value, dict | list) and value not in (None, "", False):
            yield key, f"`{value}`"
        elif key == "lora" and value:
            yield key, f"`{json.dumps(value)}`"


def shorten_source(name: str) -> str:
    """Returns a data set's name as a card shows it: a file without its folders, all else as it is."""
    return Path(name).name if Path(name).suffix else name


def describe_source(data: dict[str, Any], freq: Any) -> Any:
    """Yields name and value of what a card says of its data (see `tsllm.data.facts.DataRead.summarise`)."""
    labels = {"name": "data set", "num_series": "series", "first": "from", "last": "to"}
    for key in ("name", "domain", "origin", "licence", "num_series", "first", "last"):
        if data.get(key) is not None:
            yield labels.get(key, key), shorten_source(data[key]) if key == "name" else data[key]
    yield "frequency", freq
    cutoffs = data.get("cutoffs", {})
    if cutoffs:
        yield (
            f"last steps of the parts (series {cutoffs['of_series']})",
            f"training {cutoffs['train_end']}, validation {cutoffs['validation_end']}, test {cutoffs['test_end']}",
        )


def _write_licence(licence: Licence) -> tuple[str, str]:
    return "licence", f"{licence.name}: {licence.reason}"


def _describe_data(spec: ForecasterSpec) -> Any:
    yield from describe_source(spec.data.newest.summarise(), spec.freq)
    for read in spec.data.reads[:-1]:
        what = f"{read.first} to {read.last}" if read.first else read.origin
        yield "trained also on", ", ".join(filter(None, (shorten_source(read.name) or "own data", what)))
    scale = TargetScale(**spec.target_scale)
    of = "" if scale.transform == "none" else f" of {scale.transform}(y)"
    yield "scaling", f"{spec.scaler['name']}{of} per series, fitted on the training part only"
    if scale.non_negative or scale.integer:
        yield "forecasts", ", ".join(["never below 0"] * scale.non_negative + ["whole numbers"] * scale.integer)
    if spec.covariates or spec.past_covariates:
        yield "covariates", f"known ahead {spec.covariates}, known up to the cutoff {spec.past_covariates}"


def _describe_training(metrics: dict[str, Any], recipe: str) -> Any:
    environment = metrics["environment"]
    yield "trained by", f"recipe `{recipe}`" if recipe else "`NeuralForecaster.fit`"
    yield "seed", metrics["seed"]
    if metrics.get("global_batch_size"):
        rate = metrics["learning_rate"]
        yield "steps", f"{metrics['steps']} of {metrics['global_batch_size']} windows, rate {rate:g}"
    scored = f", {metrics['test_seconds']:.0f} s scoring" if metrics.get("test_seconds") is not None else ""
    yield "time", f"{metrics['seconds']:.0f} s training{scored}"
    yield "hardware", f"{environment['hardware']}, {metrics['processes']} process(es)"
    yield from describe_environment(environment)


def describe_environment(environment: dict[str, Any]) -> Any:
    """Yields name and value of the versions and the commit of a run."""
    yield "versions", ", ".join(f"{k} {v}" for k, v in environment["versions"].items())
    if environment.get("products"):
        yield "matrix products", environment["products"]
    if environment.get("commit"):
        yield "commit", environment["commit"]


def _cite(config: dict[str, Any], spec: ForecasterSpec) -> list[str]:
    entries = [_CITATIONS[config["model_type"]]] if config["model_type"] in _CITATIONS else []
    if spec.data.newest.origin:
        entries.append(f"data: {spec.data.newest.origin}")
    return entries or ["tsllm"]


def format_score(value: float | None) -> str:
    """Writes a score with four digits; nothing for None."""
    return "" if value is None else f"{value:.4g}"


def read_json(path: Path) -> dict[str, Any]:
    """Reads a file of an artefact.

    Raises:
        OSError: If it is not there.
    """
    if not path.is_file():
        raise OSError(f"{path.parent} holds no {path.name}; a card is written from a recipe's output folder")
    return json.loads(path.read_text(encoding="utf-8"))

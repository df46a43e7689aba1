"""Tables of Context is Key: our figures beside the published ones, tasks, and differences between arms."""

from collections.abc import Mapping, Sequence
from fractions import Fraction

from tsllm.context.rcrps import average, compute_difference, compute_p_value
from tsllm.paired import adjust_holm

# Williams 2025 (arXiv 2410.18959), RCRPS over all tasks; smaller is better.
PUBLISHED: dict[str, float] = {
    "Llama-3.1-405B, direct prompt": 0.143, "GPT-4o, direct prompt": 0.191, "Llama-3-70B, LLM process": 0.237,
    "Qwen-2.5-7B, direct prompt": 0.290, "Chronos-Large (blind to text)": 0.326, "Lag-Llama (blind to text)": 0.327,
    "UniTime": 0.370, "Qwen-2.5-0.5B, direct prompt": 0.463, "Time-LLM": 0.475,
}  # fmt: skip


def write_table(
    scores: Mapping[str, Mapping[str, float]],
    weights: Mapping[str, Fraction],
    seconds: Mapping[str, float],
    whole: bool,
) -> str:
    """Writes the main table in Markdown, best first.

    Args:
        scores: Arm -> instance -> RCRPS.
        weights: Instance -> weight.
        seconds: Arm -> seconds an instance.
        whole: Whether the file is the whole benchmark (355 instances); else published figures are not comparable.
    """
    rows = [(average(values, weights), f"**{arm}**", f"{seconds[arm]:.2f}") for arm, values in scores.items()]
    rows += [(value, f"{name} (published)", "") for name, value in PUBLISHED.items()]
    lines = ["| forecaster | RCRPS | seconds an instance |", "|---|---:|---:|"]
    lines += [f"| {name} | {value:.3f} | {cost} |" for value, name, cost in sorted(rows)]
    if not whole:
        lines += ["", "The published figures are over all 355 instances, ours over the instances of this file only."]
    return "\n".join(lines)


def write_differences(scores: Mapping[str, Mapping[str, float]], weights: Mapping[str, Fraction], main: str) -> str:
    """Writes paired differences to the arm `main`, with intervals from resampled tasks and adjusted p-values."""
    lines = [f"| {main} minus | difference | 95 % interval | p (sign flips over tasks, Holm) |", "|---|---:|---|---:|"]
    arms, keys = [arm for arm in scores if arm != main], list(scores[main])
    adjusted = adjust_holm([compute_p_value(scores[main], scores[arm], weights, keys) for arm in arms])
    for arm, p in zip(arms, adjusted, strict=True):
        mean, low, high = compute_difference(scores[main], scores[arm], weights, keys)
        lines.append(f"| {arm} | {mean:+.3f} | {low:+.3f} to {high:+.3f} | {p:.4f} |")
    return "\n".join(lines)


def write_tasks(scores: Mapping[str, Mapping[str, float]]) -> str:
    """Writes the mean over the instances of each task."""
    arms = list(scores)
    tasks: dict[str, list[str]] = {}
    for key in scores[arms[0]]:
        tasks.setdefault(key.rsplit("/", 1)[0], []).append(key)
    lines = ["| task | " + " | ".join(arms) + " |", "|---|" + "---:|" * len(arms)]
    for task, keys in tasks.items():
        lines.append(f"| {task} | " + " | ".join(f"{_mean(scores[arm], keys):.3f}" for arm in arms) + " |")
    return "\n".join(lines)


def _mean(scores: Mapping[str, float], keys: Sequence[str]) -> float:
    return sum(scores[key] for key in keys) / len(keys)

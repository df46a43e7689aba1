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


def compare_arms(
    scores: Mapping[str, Mapping[str, float]], weights: Mapping[str, Fraction], main: str
) -> dict[str, dict[str, float]]:
    """Compares the arm `main` with every other one, paired over the same instances.

    Returns:
        Other arm -> `difference` (main minus other), `low` and `high` of its 95 % interval from resampled tasks, `p`
        of sign flips over tasks, `p_holm` adjusted for the number of arms, and how many `instances` and `tasks`.
    """
    others, keys = [arm for arm in scores if arm != main], list(scores[main])
    found = [compute_p_value(scores[main], scores[arm], weights, keys) for arm in others]
    compared = {}
    for arm, p, adjusted in zip(others, found, adjust_holm(found), strict=True):
        mean, low, high = compute_difference(scores[main], scores[arm], weights, keys)
        compared[arm] = {"difference": mean, "low": low, "high": high, "p": p, "p_holm": float(adjusted)}
        compared[arm] |= {"instances": len(keys), "tasks": len({_name_task(key) for key in keys})}
    return compared


def write_differences(main: str, against: Mapping[str, Mapping[str, float]]) -> str:
    """Writes what `compare_arms` found in Markdown."""
    lines = [
        f"| {main} minus | difference | 95 % interval | p (sign flips over tasks, Holm) | instances | tasks |",
        "|---|---:|---|---:|---:|---:|",
    ]
    for arm, one in against.items():
        interval = f"{one['low']:+.3f} to {one['high']:+.3f}"
        counts = f"{one['instances']} | {one['tasks']}"
        lines.append(f"| {arm} | {one['difference']:+.3f} | {interval} | {one['p_holm']:.4f} | {counts} |")
    return "\n".join(lines)


def describe_refused(
    refused: Mapping[str, Mapping[str, str]], instances: int, kept: int, unreadable: Mapping[str, int]
) -> list[str]:
    """Says which instances are left out, and how many completions could not be read; empty if there are none.

    Args:
        refused: Arm -> instance -> reason.
        instances: In the file.
        kept: Instances that every arm could forecast.
        unreadable: Instance -> completions, over all arms.
    """
    said = []
    if refused:
        lines = [f"{instances - kept} of {instances} instances are left out, {kept} count:", ""]
        reasons: dict[tuple[str, str], list[str]] = {}
        for arm, left in refused.items():
            for key, reason in left.items():
                reasons.setdefault((key, reason), []).append(arm)
        lines += [f"- {key} ({', '.join(arms)}): {reason}" for (key, reason), arms in reasons.items()]
        said.append("\n".join(lines))
    if unreadable:
        said.append(
            f"Over all arms {sum(unreadable.values())} completions, of {len(unreadable)} instances, could not be "
            "read; readable ones drawn at random stand in their place."
        )
    return said


def write_families(scores: Mapping[str, Mapping[str, float]], weights: Mapping[str, Fraction]) -> str:
    """Writes the mean over each family: the tasks that share a weight, for the file names no families."""
    arms, families = list(scores), dict[Fraction, list[str]]()
    for key in scores[arms[0]]:
        families.setdefault(weights[key], []).append(key)
    whole = sum(weights[key] for key in scores[arms[0]])
    lines = [
        "| weight | tasks | share of the mean | " + " | ".join(arms) + " |",
        "|---|---:|---:|" + "---:|" * len(arms),
    ]
    for weight, keys in sorted(families.items(), reverse=True):
        tasks, share = len({_name_task(key) for key in keys}), float(len(keys) * weight / whole)
        means = " | ".join(f"{_mean(scores[arm], keys):.3f}" for arm in arms)
        lines.append(f"| {weight} | {tasks} | {share:.0%} | {means} |")
    return "\n".join(lines)


def write_tasks(scores: Mapping[str, Mapping[str, float]]) -> str:
    """Writes the mean over the instances of each task."""
    arms = list(scores)
    tasks: dict[str, list[str]] = {}
    for key in scores[arms[0]]:
        tasks.setdefault(_name_task(key), []).append(key)
    lines = ["| task | " + " | ".join(arms) + " |", "|---|" + "---:|" * len(arms)]
    for task, keys in tasks.items():
        lines.append(f"| {task} | " + " | ".join(f"{_mean(scores[arm], keys):.3f}" for arm in arms) + " |")
    return "\n".join(lines)


def _name_task(key: str) -> str:
    return key.rsplit("/", 1)[0]


def _mean(scores: Mapping[str, float], keys: Sequence[str]) -> float:
    return sum(scores[key] for key in keys) / len(keys)

"""`tsllm reward`: list the rewards and attack one."""

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from tsllm.cli.console import parse_settings

app = typer.Typer(help="Rewards of forecasts: list them, attack one.", no_args_is_help=True)


@app.command("list")
def list_rewards() -> None:
    """Lists the rewards and the decision problems that can be one, with their ranges."""
    from tsllm.decisions import PROBLEMS
    from tsllm.rl.rewards import REWARDS

    table = Table("reward", "range", "credit", "what it pays for")
    for name, reward_class in REWARDS.items():
        reward = reward_class()
        credit = "by step" if reward.additive else "whole path"
        about = (reward_class.__doc__ or "").strip().splitlines()[0]
        table.add_row(name, f"[{reward.low:g}, {reward.high:g}]".replace("[", r"\["), credit, about)
    for name, problem in PROBLEMS.items():
        about = (problem.__doc__ or "").strip().splitlines()[0]
        table.add_row(name, r"\[-bound, 0]", "whole path", f"Decision problem, minus its regret. {about}")
    Console().print(table)


@app.command("audit")
def audit(
    name: Annotated[
        str, typer.Argument(help="Name of a reward or problem, a dotted path, or a YAML file with a reward.")
    ],
    option: Annotated[list[str] | None, typer.Option("--set", help="An option of the reward: key=value.")] = None,
    horizon: Annotated[int, typer.Option(min=2, help="Steps to forecast.")] = 24,
    season: Annotated[int, typer.Option(min=1, help="Steps in a season.")] = 24,
    cases: Annotated[int, typer.Option(min=1, help="Series that each attack is tried on.")] = 8,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the series.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Attacks a reward; exit status 1 if anything beats the truth, raises or leaves the declared range."""
    from tsllm.rl.audit import audit_reward
    from tsllm.rl.rewards import build_reward

    reward = build_reward(_read_spec(name, option or []))
    result = audit_reward(reward, horizon=horizon, season=season, cases=cases, seed=seed)
    if as_json:
        content = {
            "reward": name,
            "passed": result.passed,
            "problems": result.problems,
            "attacks": [vars(found) for found in result.results],
        }
        typer.echo(json.dumps(content, indent=2))
    else:
        title = f"{name}, range [{reward.low:g}, {reward.high:g}]".replace("[", r"\[")
        table = Table("attack", "reward", "truth", "least lead of the truth", "ties", title=title)
        for found in result.results:
            numbers = (f"{found.reward:.4g}", f"{found.truth:.4g}", f"{found.margin:.4g}")
            table.add_row(found.attack, *numbers, f"{found.tied:.0%}" if found.tied else "")
        console = Console()
        if result.results:
            console.print(table)
        for problem in result.problems:
            console.print(f"FAILED {problem}", style="red", markup=False)
        if result.passed:
            console.print(f"passed: none of {len(result.results)} attacks beats the truth")
    if not result.passed:
        raise typer.Exit(1)


def _read_spec(name: str, options: list[str]) -> Any:
    if name.endswith((".yaml", ".yml")):
        from tsllm.training.args import read_yaml

        content = read_yaml(name)
        if options:
            raise ValueError("--set goes with a reward's name; write the options into the YAML file")
        return content.get("reward", content) if isinstance(content, dict) else content
    return {"name": name} | parse_settings(options)

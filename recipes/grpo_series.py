"""Optimises any reward of a forecast with GRPO, from a supervised start and next to its controls.

accelerate launch recipes/grpo_series.py --config recipes/configs/grpo_series/epf_smollm2.yaml

One step of the algorithm, which `tsllm.training.policy.trainer.PolicyTrainer` takes:

    rollout    tsllm.training.policy.trainer.PolicyTrainer._sample   G sample paths of each window [B, G, H]
    reward     tsllm.rl.rollout.RewardRunner                         of each path, in units of the data [B, G]
    advantage  tsllm.rl.advantages.compute_zscore                    (reward - mean of group) / its deviation [B, G]
    loss       tsllm.rl.objectives.compute_policy_loss               clipped probability ratio x advantage, a scalar

`tsllm.rl.objectives.OBJECTIVES` says how GRPO, Dr. GRPO, RLOO, CISPO and DAPO differ in these. Before the first step,
`tsllm.rl.dry_run.dry_run` tries the reward on training windows.
"""

from collections.abc import Sequence

from tsllm.cli.console import run_main
from tsllm.evaluation.arms import compare_arms, format_arms, plot_reward_curve
from tsllm.hub.record import add_metrics
from tsllm.programs.arms_legend import describe_table
from tsllm.programs.series_policy import POLICY, ControlArguments, run_policy
from tsllm.programs.told import ContextArguments
from tsllm.training.args import ArgumentsError, DataArguments, ModelArguments, parse_arguments
from tsllm.training.policy.args import PolicyArguments, PolicyTrainingArguments

OBJECTIVES = ("grpo", "dr_grpo", "rloo", "cispo", "reward_preference")


def main(
    argv: Sequence[str] | None = None, objectives: Sequence[str] = OBJECTIVES, recipe: str = "grpo_series"
) -> None:
    classes = (ModelArguments, DataArguments, PolicyTrainingArguments, PolicyArguments)
    classes += (ControlArguments, ContextArguments)
    model_args, data_args, args, policy, controls, told = parse_arguments(classes, argv)
    if policy.objective not in objectives:
        raise ArgumentsError(f"objective is {policy.objective!r}; this recipe runs {', '.join(objectives)}")
    found = run_policy(model_args, data_args, args, policy, controls, recipe, told)
    run = found.run
    if not run.is_main:
        return
    arms = {name: [scores] for name, scores in found.arms.items()}
    rows = compare_arms(arms, POLICY, found.overlap)
    add_metrics(run.output_dir, comparison=rows)
    scores = [name for name in found.arms[POLICY] if name != "pit"]
    legend = describe_table(list(arms), scores, list(controls.decisions), controls.decision_quantiles)
    table = format_arms(arms, rows, POLICY, legend)
    (run.output_dir / "arms.md").write_text(table + "\n", encoding="utf-8")
    plot_reward_curve(run.history, run.output_dir / "reward_curve.png")
    print(run.summary())
    print(table)


if __name__ == "__main__":
    run_main(main)

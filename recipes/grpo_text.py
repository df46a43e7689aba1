"""Optimises a reward of text forecasts with GRPO and LoRA (TRL), and tests it against its starting point.

accelerate launch recipes/grpo_text.py --config recipes/configs/grpo_text/epf_smollm2.yaml

One step of the algorithm is that of `trl.GRPOTrainer`; what is our own stands in one file:

    rollout    tsllm.training.text.policy.TextPolicyTrainer._generate_single_turn   completions, held to numbers
    reward     tsllm.training.text.policy.TextPolicyTrainer._calculate_rewards      of the numbers that were read
    advantage  tsllm.training.text.policy.TextPolicyTrainer._generate_and_score_completions   TRL's, groups refilled
    loss       trl.GRPOTrainer._compute_loss                                        clipped ratio, by token
"""

from collections.abc import Sequence

from tsllm.cli.console import run_main
from tsllm.programs.text_policy import run_text_policy
from tsllm.programs.told import NO_PROMPTS, ContextArguments, refuse_told
from tsllm.training.args import ArgumentsError, DataArguments, parse_arguments
from tsllm.training.text.policy import TextPolicyArguments
from tsllm.training.text.supervised import TextModelArguments


def main(argv: Sequence[str] | None = None, algorithm: str = "grpo") -> None:
    classes = (TextModelArguments, DataArguments, TextPolicyArguments, ContextArguments)
    model_args, data_args, args, told = parse_arguments(classes, argv)
    refuse_told(told, NO_PROMPTS)
    if args.algorithm != algorithm:
        raise ArgumentsError(f"algorithm is {args.algorithm!r}; this recipe runs {algorithm}")
    metrics = run_text_policy(model_args, data_args, args)
    if args.should_save:
        print("rewards", [round(reward, 4) for reward in metrics["rewards"]])
        for name in ("start", "test"):
            if name in metrics:
                print(name, {key: value for key, value in metrics[name].items() if isinstance(value, float | dict)})
        print("comparison", metrics["comparison"])


if __name__ == "__main__":
    run_main(main)

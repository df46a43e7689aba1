"""Optimises a reward of text forecasts with DAPO (dynamic sampling too) and LoRA (TRL), next to its starting point.

accelerate launch recipes/dapo_text.py --config recipes/configs/dapo_text/epf_smollm2.yaml
"""

from collections.abc import Sequence

from tsllm.training.args import ArgumentsError, DataArguments, parse_arguments
from tsllm.training.text_rl import TextPolicyArguments
from tsllm.training.text_rl_run import run_text_policy
from tsllm.training.text_trainers import TextModelArguments

ALGORITHM = "dapo"


def main(argv: Sequence[str] | None = None) -> None:
    classes = (TextModelArguments, DataArguments, TextPolicyArguments)
    model_args, data_args, args = parse_arguments(classes, argv)
    if args.algorithm != ALGORITHM:
        raise ArgumentsError(f"algorithm is {args.algorithm!r}; this recipe runs {ALGORITHM}")
    metrics = run_text_policy(model_args, data_args, args)
    if args.should_save:
        print("rewards", [round(reward, 4) for reward in metrics["rewards"]])
        for name in ("start", "test"):
            if name in metrics:
                print(name, {key: value for key, value in metrics[name].items() if isinstance(value, float)})
        print("comparison", metrics["comparison"])


if __name__ == "__main__":
    main()

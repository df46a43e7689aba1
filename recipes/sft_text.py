"""Fine-tunes a causal language model with LoRA to write forecasts as text, and tests it against its starting point.

accelerate launch recipes/sft_text.py --config recipes/configs/sft_text/epf_smollm2.yaml

One step of the algorithm is that of `trl.SFTTrainer`:

    window     tsllm.training.text.supervised.choose_windows   which windows are written as prompts and completions
    model      tsllm.training.text.supervised.build_lora       LoRA on a frozen language model
    training   tsllm.training.text.supervised.train_text       cross-entropy of the completion's tokens, by TRL
"""

from collections.abc import Sequence

from tsllm.cli.console import run_main
from tsllm.programs.text import run_text
from tsllm.programs.told import NO_PROMPTS, ContextArguments, refuse_told
from tsllm.training.args import DataArguments, parse_arguments
from tsllm.training.text.supervised import TextModelArguments, TextTrainingArguments


def main(argv: Sequence[str] | None = None) -> None:
    classes = (TextModelArguments, DataArguments, TextTrainingArguments, ContextArguments)
    model_args, data_args, args, told = parse_arguments(classes, argv)
    refuse_told(told, NO_PROMPTS)
    metrics = run_text(model_args, data_args, args)
    if args.should_save:
        for name in ("start", "test"):
            if name in metrics:
                print(name, {key: value for key, value in metrics[name].items() if isinstance(value, float | dict)})
        print("comparison", metrics["comparison"])


if __name__ == "__main__":
    run_main(main)

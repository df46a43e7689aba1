"""Trains a reader of texts on synthetic pairs, for `ContextForecaster` and `tsllm benchmark cik`.

python recipes/train_context_reader.py --config recipes/configs/train_context_reader/smollm2.yaml

The algorithm:

    pairs      tsllm.context.pairs.write_pairs              texts that are made, with the roles of their words
    encoding   tsllm.context.states.TextEncoder.encode      hidden states of a frozen language model
    training   tsllm.programs.context_reader.train_head     cross-entropy of the roles
    scoring    tsllm.programs.context_reader.score_reader   on wordings that no training text has
"""

import json
import logging
from collections.abc import Sequence

from tsllm.cli.console import run_main
from tsllm.programs.context_reader import ReaderArguments, run_reader_training
from tsllm.training.args import parse_arguments


def main(argv: Sequence[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    (arguments,) = parse_arguments((ReaderArguments,), argv)
    print(json.dumps(run_reader_training(arguments), indent=2))


if __name__ == "__main__":
    run_main(main)

"""Trains a reader of texts: `python recipes/train_context_reader.py --config recipes/configs/...yaml`."""

import json
import logging

from tsllm.programs.context_reader import ReaderArguments, run_reader_training
from tsllm.training.args import parse_arguments

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    (arguments,) = parse_arguments((ReaderArguments,))
    print(json.dumps(run_reader_training(arguments), indent=2))

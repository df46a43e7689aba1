"""Trains a native forecaster on a data set, tests it on every test window and writes a loadable artefact.

accelerate launch recipes/train_native.py --config recipes/configs/train_native/dlinear.yaml
"""

from collections.abc import Sequence

from tsllm.hub.card import write_card
from tsllm.training.args import DataArguments, ForecastTrainingArguments, ModelArguments, parse_arguments
from tsllm.training.supervised import run_supervised


def main(argv: Sequence[str] | None = None) -> None:
    model_args, data_args, args = parse_arguments((ModelArguments, DataArguments, ForecastTrainingArguments), argv)
    run = run_supervised(model_args, data_args, args)
    if run.is_main:
        write_card(run.output_dir, recipe="train_native", predictor=run.predictor, frame=run.tested_frame())
        print(run.summary())


if __name__ == "__main__":
    main()

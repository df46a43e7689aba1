"""Pre-trains PatchTST by reconstructing hidden patches, swaps the head and trains the forecaster.

accelerate launch recipes/pretrain_patchtst.py --config recipes/configs/pretrain_patchtst/etth1.yaml
"""

from collections.abc import Sequence

from tsllm.forecasting.neural import NeuralPredictor
from tsllm.hub.card import write_card
from tsllm.training.args import DataArguments, ForecastTrainingArguments, ModelArguments, parse_arguments
from tsllm.training.pretraining import PretrainingArguments, run_pretraining


def main(argv: Sequence[str] | None = None) -> None:
    classes = (PretrainingArguments, ModelArguments, DataArguments, ForecastTrainingArguments)
    run = run_pretraining(*parse_arguments(classes, argv))
    if run.is_main:
        predictor = NeuralPredictor.from_pretrained(run.output_dir)
        write_card(run.output_dir, recipe="pretrain_patchtst", predictor=predictor, frame=run.tested_frame())
        print(run.summary())


if __name__ == "__main__":
    main()

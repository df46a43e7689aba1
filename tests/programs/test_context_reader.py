"""The recipe that trains a reader: its configurations and its refusals."""

from pathlib import Path

import pytest

from tsllm.programs.context_reader import ReaderArguments
from tsllm.training.args import parse_arguments

CONFIGS = Path(__file__).resolve().parents[2] / "recipes" / "configs" / "train_context_reader"


def test_the_control_differs_from_the_reader_in_its_weights_only():
    (reader,) = parse_arguments((ReaderArguments,), [f"--config={CONFIGS / 'smollm2.yaml'}"])
    (control,) = parse_arguments((ReaderArguments,), [f"--config={CONFIGS / 'smollm2_spectrum.yaml'}"])
    different = {k for k, v in vars(reader).items() if vars(control)[k] != v}
    assert different == {"backbone_weights", "output_dir"}
    assert (reader.backbone_weights, control.backbone_weights) == ("pretrained", "spectrum")


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match="backbone_weights is 'random'; expected pretrained or spectrum"):
        ReaderArguments("out", backbone_weights="random")
    with pytest.raises(ValueError, match="max_steps is 0; it must be at least 1"):
        ReaderArguments("out", max_steps=0)
    with pytest.raises(ValueError, match="dtype is 'int8'"):
        ReaderArguments("out", dtype="int8")

"""The recipe that trains a reader: its configurations and its refusals."""

from pathlib import Path

import pytest

from tsllm.programs.context_reader import ReaderArguments, draw_seeds, draw_sentences, run_reader_training
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


def list_texts(**changes):
    args = ReaderArguments("out", num_pairs=15, num_clauses=15, **changes)
    return [[s.plain.text for s in sentences] for sentences in draw_sentences(args)]


def test_each_member_has_texts_of_its_own_and_so_has_each_seed():
    drawn = list_texts(seed=0) + list_texts(seed=1)
    assert len(drawn) == 6
    for k, one in enumerate(drawn):
        for other in drawn[:k]:
            assert len(set(one) & set(other)) < 0.5 * min(len(one), len(other))
    assert list_texts(seed=0) == drawn[:3]
    seeds = [s for seed in range(1000) for s in draw_seeds(seed, 3)]
    assert len(set(seeds)) == 3000


def test_one_draw_for_all_members_is_the_first():
    assert list_texts(own_texts=False) == list_texts()[:1]
    assert list_texts(num_members=1) == list_texts()[:1]


def test_the_recipe_tells_how_many_sentences_each_member_saw(tmp_path):
    args = ReaderArguments(
        str(tmp_path / "reader"), num_backbone_layers=1, num_pairs=6, num_clauses=4, num_validation=2, num_members=2,
        max_steps=2, cache_gb=0,
    )  # fmt: skip
    metrics = run_reader_training(args)
    assert metrics["sentences"] == [len(sentences) for sentences in draw_sentences(args)]
    assert (len(metrics["sentences"]), metrics["own_texts"]) == (2, True)

"""Prompts tokenised once: the same tokens, the same training, less padding."""

import numpy as np
import pytest
import torch

from tests.fixtures.backbones import save_tiny_backbone
from tests.training.test_trainer import HORIZON, LENGTH, assert_equal, build, parts, tiny, weights  # noqa: F401
from tsllm.data.loading import load_frame
from tsllm.data.windows import WindowDataset
from tsllm.models.inputs import Inputs, fill_missing
from tsllm.models.timellm import model as timellm
from tsllm.training.aids.prompt_store import FILE, PromptStore, write_prompts
from tsllm.training.args import ArgumentsError
from tsllm.training.batches import GlobalBatches
from tsllm.training.trainer import find_checkpoint


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return save_tiny_backbone(tmp_path_factory.mktemp("backbone") / "gpt2", layers=1)


def prompted(backbone, **options):
    sizes = {"backbone": backbone, "num_backbone_layers": 1, "d_model": 8, "d_ff": 8, "num_heads": 2}
    return tiny(name="timellm", patch_length=8, patch_stride=4, num_prototypes=6, **(sizes | options))


@pytest.fixture
def stored(backbone, series_csv, tmp_path):
    frame = load_frame(series_csv).df
    frame.loc[40:43, "y"] = np.nan
    model, windows = prompted(backbone).eval(), WindowDataset(frame, LENGTH, HORIZON, stride=3)
    write_prompts(model, windows, tmp_path / FILE, batch_size=7)
    return model, windows, PromptStore(tmp_path / FILE, model.prompt_prefix())


def _write(model, batch):
    values, mask = fill_missing(batch["past_values"], batch["past_observed_mask"])
    return model.write_prompt(Inputs(values, mask, None, None, None, None))


def _row_tails(prompt):
    return [prompt.tails[k] for k in prompt.rows]


def test_the_store_holds_what_the_model_writes_for_any_choice_of_windows(stored):
    model, windows, store = stored
    assert len(store) == len(windows)
    for chosen in ([0], [3, 1, 3], list(range(len(windows)))[::-1]):
        written = _write(model, windows.gather(torch.tensor(chosen)))
        found = store.gather(chosen)
        assert found.prefix == written.prefix
        assert _row_tails(found) == _row_tails(written)
        assert len(set(found.tails)) == len(found.tails)


def test_the_length_of_a_window_is_its_longest_tail(stored):
    _, windows, store = stored
    expected = [max(map(len, _row_tails(store.gather([k])))) for k in range(len(windows))]
    assert store.lengths.tolist() == expected
    assert len(set(expected)) > 1


def test_a_forecast_with_the_stored_prompt_is_the_same(stored):
    model, windows, store = stored
    batch = windows.gather(torch.tensor([4, 0, 9]))
    mine = {k: batch[k] for k in ("past_values", "past_observed_mask")}
    with torch.no_grad():
        expected = model(**mine).predictions
        assert torch.equal(model(**mine, prompt=store.gather([4, 0, 9])).predictions, expected)
        other = model(**mine, prompt=store.gather([4, 1, 9])).predictions
    torch.testing.assert_close(other[0], expected[0])
    assert not torch.allclose(other[1], expected[1])


@pytest.mark.parametrize("workers", [0, 2])
def test_training_from_the_store_is_the_same_and_computes_no_statistics(
    backbone, parts, tmp_path, monkeypatch, workers  # noqa: F811
):  # fmt: skip
    options = {"max_steps": 4, "eval_strategy": "no", "save_strategy": "no"}
    plain = build(tmp_path / "plain", parts, prompted(backbone), **options)
    plain.train()
    stored = build(
        tmp_path / "stored", parts, prompted(backbone), prompt_store=True, dataloader_num_workers=workers, **options
    )
    calls = []
    monkeypatch.setattr(timellm, "compute_statistics", lambda *args: calls.append(args))
    stored.train()
    assert not calls
    assert_equal(weights(stored.model), weights(plain.model))


def test_grouping_by_length_pads_less_and_keeps_every_window():
    lengths = np.random.default_rng(0).integers(10, 40, 403)

    def padded(batches):
        shares = list(batches)
        assert sorted(i for share in shares for i in share) == list(range(403))
        return sum(len(share) * lengths[share].max() for share in shares)

    random, grouped = padded(GlobalBatches(403, 8, 0)), padded(GlobalBatches(403, 8, 0, lengths=lengths))
    assert lengths.sum() <= grouped < lengths.sum() + 0.35 * (random - lengths.sum())


def test_grouped_batches_are_the_same_on_two_processes_and_new_each_epoch():
    lengths = np.random.default_rng(1).integers(10, 40, 50)
    one = GlobalBatches(50, 8, 3, lengths=lengths)
    two = [GlobalBatches(50, 4, 3, 2, rank, lengths=lengths) for rank in (0, 1)]
    for whole, left, right in zip(one, *two, strict=True):
        assert sorted(whole) == sorted(left + right)
    first = list(one)
    assert first == list(one)
    one.epoch = 1
    assert first != list(one)


def test_a_run_with_grouped_batches_resumes(backbone, parts, tmp_path):  # noqa: F811
    options = {"train_sampling_strategy": "group_by_length", "eval_strategy": "no", "save_steps": 2, "max_steps": 4}
    whole = build(tmp_path, parts, prompted(backbone), **options)
    assert whole.prompts is not None
    assert whole.batches.lengths is whole.prompts.lengths
    whole.train()
    assert (tmp_path / FILE).is_file()
    again = build(tmp_path, parts, prompted(backbone), **options)
    (find_checkpoint(tmp_path)).rename(tmp_path / "away")
    again.train(resume_from_checkpoint=True)
    assert_equal(weights(again.model), weights(whole.model))


@pytest.mark.parametrize(
    ("model", "options", "reason"),
    [
        ({}, {"prompt_store": True}, "prompt_statistics: window"),
        ({}, {"train_sampling_strategy": "group_by_length"}, "prompt_statistics: window"),
        ({}, {"train_sampling_strategy": "sequential"}, "random or group_by_length"),
        ({}, {"train_sampling_strategy": "group_by_length", "group_sampler": {}}, "group_sampler"),
    ],
)
def test_what_does_not_fit_is_refused(parts, tmp_path, model, options, reason):  # noqa: F811
    with pytest.raises((ArgumentsError, ValueError), match=reason):
        build(tmp_path, parts, tiny(**model), **options)


def test_prompts_that_do_not_speak_of_windows_are_refused(backbone, parts, tmp_path):  # noqa: F811
    with pytest.raises(ArgumentsError, match="prompt_statistics: window"):
        build(tmp_path, parts, prompted(backbone, prompt_statistics="none"), prompt_store=True)

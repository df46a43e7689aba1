"""Rollouts whose windows are drawn anew."""

import torch

from tsllm.training.policy.rollouts import merge_inputs


def test_refilled_windows_keep_their_texts_whatever_the_sizes():
    replaced = torch.tensor([False, True, False])
    told = {
        "history": torch.arange(3.0)[:, None],
        "text_states": torch.ones(3, 1, 2, 4),
        "text_mask": torch.ones(3, 1, 5, 1, 2, dtype=torch.bool),
    }
    more = {
        "history": torch.tensor([[9.0]]),
        "text_states": torch.full((1, 2, 3, 4), 7.0),
        "text_mask": torch.ones(1, 1, 5, 2, 3, dtype=torch.bool),
    }
    merged = merge_inputs(told, more, replaced)
    assert merged["history"].flatten().tolist() == [0, 9, 2]
    assert merged["text_states"].shape == (3, 2, 3, 4)
    assert (merged["text_states"][1] == 7).all()
    assert merged["text_states"][[0, 2]].sum() == 2 * 8  # the two tokens of their one text, zeros else
    assert merged["text_mask"].sum(dim=(1, 2, 3, 4)).tolist() == [10, 30, 10]
    quiet = {"history": torch.tensor([[9.0]])}
    assert merge_inputs(told, quiet, replaced)["text_mask"].sum(dim=(1, 2, 3, 4)).tolist() == [10, 0, 10]
    silent = {"history": torch.arange(3.0)[:, None]}
    assert merge_inputs(silent, more, replaced)["text_mask"].sum(dim=(1, 2, 3, 4)).tolist() == [0, 30, 0]

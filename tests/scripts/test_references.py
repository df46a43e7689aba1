"""The training of public reference code and the count of prompt tokens, on numbers worked by hand."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from tsllm.data.windows import WindowDataset

OPTIONS = {"label_len": 4, "pred_len": 3, "learning_rate": 1e-2, "train_epochs": 4, "patience": 1, "batch_size": 8}


class Level(nn.Module):
    """What the library calls a model: forecasts the last value of the decoder's known part, times a weight."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.0))

    def forward(self, x, marks, decoder, decoder_marks):
        assert decoder.shape[1] == decoder_marks.shape[1] == 4 + 3
        assert not decoder[:, 4:].any()
        torch.testing.assert_close(decoder[:, 3], x[:, -1])
        return self.weight * decoder[:, 3:4].expand(-1, 7, -1)


@pytest.fixture
def data():
    times = pd.date_range("2024-01-01", periods=60, freq="h")
    frame = pd.DataFrame({"unique_id": "a", "ds": times, "y": np.full(60, 2.0)})
    part = WindowDataset(frame, 8, 3)
    return SimpleNamespace(train=part, validation=part, test=part)


def test_errors_count_every_window(load_script, data):
    assert load_script("train_reference").evaluate(Level(), data.test, OPTIONS) == {"mse": 4.0, "mae": 2.0}


def test_training_keeps_the_best_epoch(load_script, data, capsys):
    found = load_script("train_reference").train(Level(), data, OPTIONS, "mse", seed=0)
    lines = capsys.readouterr().out.splitlines()
    # Adam moves the weight by about the rate each step: 7 steps an epoch, half the rate from the third on.
    assert found["best_epoch"] == len(lines) == 4
    assert found["test"]["mse"] == pytest.approx(4 * (1 - 7 * 0.01 * (1 + 1 + 0.5 + 0.25)) ** 2, rel=0.02)


def test_a_later_epoch_that_is_worse_is_not_kept(load_script, data, capsys):
    options = OPTIONS | {"learning_rate": 0.12, "patience": 3, "train_epochs": 3}
    found = load_script("train_reference").train(Level(), data, options, "mse", seed=0)
    errors = [json.loads(line)["validation"]["mse"] for line in capsys.readouterr().out.splitlines()]
    assert found["best_epoch"] - 1 == errors.index(min(errors)) < len(errors) - 1
    assert found["test"]["mse"] == pytest.approx(min(errors))


def test_padded_tokens(load_script):
    store = SimpleNamespace(gather=lambda batch: SimpleNamespace(tails=[(0,) * (k + 1) for k in set(batch)]))
    count = load_script("bench_prompts").count_tokens
    assert count(store, [[0, 1], [2, 3]]) == (10, 12)
    assert count(store, [[0, 3], [1, 2, 1]]) == (10, 2 * 4 + 2 * 3)

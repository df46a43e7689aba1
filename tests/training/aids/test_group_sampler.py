import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tsllm.data.frame import validate_frame
from tsllm.data.windows import WindowDataset
from tsllm.models import build_model
from tsllm.training.aids.group_sampler import (
    GroupSampler,
    GroupSamplerCallback,
    compute_excess_losses,
    number_series,
)
from tsllm.training.batches import BatchCollator

ROOT = Path(__file__).resolve().parents[2]
COLLATOR = BatchCollator(["past_values", "past_observed_mask", "future_values"])
GROUPS = np.array([0] * 10 + [1] * 30 + [2] * 60)


def make_windows():
    """Three series: learnt easily, hard but learnable, pure noise (scaled to deviation 1)."""
    rng = np.random.default_rng(0)
    t = np.arange(200)
    series = {
        "easy": np.sin(2 * np.pi * t / 8),
        "hard": 3 * np.sign(np.sin(2 * np.pi * t / 8)),
        "noise": rng.normal(size=200),
    }
    ds = pd.date_range("2024-01-01", periods=200, freq="h")
    df = pd.concat([pd.DataFrame({"unique_id": k, "ds": ds, "y": v}) for k, v in series.items()])
    return WindowDataset(validate_frame(df), 24, 8, layout="univariate")


def test_probabilities_worked_by_hand():
    sampler = GroupSampler(GROUPS, beta=2.0, floor=0.3)
    sampler.update([0.0, 2.0, 4.0])
    soft = np.exp([0.0, 1.0, 2.0]) / np.exp([0.0, 1.0, 2.0]).sum()
    np.testing.assert_allclose(sampler.probabilities, 0.7 * soft + 0.1)
    assert sampler.probabilities.sum() == pytest.approx(1.0)


def test_divergence_runs_from_uniform_to_a_single_group():
    sampler = GroupSampler(GROUPS, beta=1e-3, floor=0.0)
    assert sampler.divergence == pytest.approx(0.0)
    sampler.update([0.0, 0.0, 1.0])
    assert sampler.divergence == pytest.approx(math.log(3))


def test_hard_groups_are_drawn_more_often_whatever_their_size():
    sampler = GroupSampler(GROUPS, beta=1.0, floor=0.1, num_draws=20000)
    sampler.update([2.0, 0.0, 0.0])
    share = np.bincount(GROUPS[list(sampler)], minlength=3) / 20000
    np.testing.assert_allclose(share, sampler.probabilities, atol=0.02)
    assert share[0] > 0.6
    assert share.min() > 0.1 / 3 - 0.01


def test_windows_of_a_group_are_drawn_uniformly():
    sampler = GroupSampler([0, 0, 1, 0], num_draws=30000, seed=3)
    counts = np.bincount(list(sampler), minlength=4) / 30000
    np.testing.assert_allclose(counts, [1 / 6, 1 / 6, 1 / 2, 1 / 6], atol=0.015)


def test_ranks_draw_alike_and_epochs_differ():
    first, second = GroupSampler(GROUPS, seed=1), GroupSampler(GROUPS, seed=1)
    assert list(first) == list(second)
    second.set_epoch(1)
    assert list(first) != list(second)
    assert len(list(first)) == len(first) == 100


def test_noise_is_not_favoured_but_the_hard_series_is():
    windows = make_windows()
    groups, names = number_series(windows)
    assert names == ["easy", "hard", "noise"]
    model = build_model("dlinear", context_length=24, prediction_length=8, moving_average=9)  # forecasts the mean
    excess = compute_excess_losses(model, windows, groups, season=8, collator=COLLATOR)
    assert excess[1] > 1.0  # the naive is perfect there, the model is not
    assert excess[2] < 0.1  # the mean is better than the naive on noise, although the loss is high
    sampler = GroupSampler(groups, beta=0.5)
    sampler.update(excess)
    assert sampler.probabilities[1] > 0.6
    assert sampler.probabilities[2] < 1 / 3


def test_excess_equals_a_slow_loop():
    windows = make_windows()
    groups, _ = number_series(windows)
    model = build_model("dlinear", context_length=24, prediction_length=8, moving_average=9)
    excess = compute_excess_losses(model, windows, groups, season=3, collator=COLLATOR, num_probes=10**6)
    slow = np.zeros(3)
    for group in range(3):
        differences = []
        for index in np.flatnonzero(groups == group):
            item = windows[int(index)]
            past, future = item["past_values"][:, 0], item["future_values"][:, 0]
            forecast = model(past_values=item["past_values"][None]).predictions[0, :, 0].detach()
            for step in range(8):
                naive = past[24 - 3 + step % 3]
                differences.append(float(abs(forecast[step] - future[step]) - abs(naive - future[step])))
        slow[group] = np.mean(differences)
    np.testing.assert_allclose(excess, slow, rtol=1e-4)


def test_the_callback_scores_once_an_epoch_and_resumes_with_the_same_draws():
    windows = make_windows()
    groups, _ = number_series(windows)
    model = build_model("dlinear", context_length=24, prediction_length=8, moving_average=9)
    sampler = GroupSampler(groups)
    callback = GroupSamplerCallback(sampler, windows, 8, COLLATOR)
    state = SimpleNamespace(epoch=2.0, global_step=7, log_history=[])
    callback.on_epoch_begin(None, state, None, model=model)
    drawn, scores = list(sampler), sampler.scores.copy()
    state.epoch = 2.4
    for parameter in model.parameters():
        parameter.data.zero_()
    resumed = GroupSampler(groups)
    GroupSamplerCallback(resumed, windows, 8, COLLATOR).on_epoch_begin(None, state, None, model=model)
    np.testing.assert_array_equal(resumed.scores, scores)
    assert list(resumed) == drawn
    logs = {"loss": 1.0}
    callback.on_log(None, state, None, logs=logs)
    assert logs["group_sampler/kl"] == pytest.approx(sampler.divergence)


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="beta"):
        GroupSampler(GROUPS, beta=0.0)
    with pytest.raises(ValueError, match=r"groups \[1\]"):
        GroupSampler([0, 2])
    with pytest.raises(ValueError, match="finite"):
        GroupSampler(GROUPS).update([0.0, math.nan, 1.0])


RANKS = """
import json, sys
import numpy as np
import torch.distributed as dist
from types import SimpleNamespace
from tests.training.aids.test_group_sampler import COLLATOR, make_windows
from tsllm.models import build_model
from tsllm.training.batches import GlobalBatches
from tsllm.training.aids.group_sampler import GroupSampler, GroupSamplerCallback, number_series

rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
windows = make_windows()
model = build_model("dlinear", context_length=24, prediction_length=8, moving_average=9)
for parameter in model.parameters():
    parameter.data.mul_(1 + 0.5 * rank)  # ranks that score differently must still draw alike
sampler = GroupSampler(number_series(windows)[0], num_draws=40, seed=4)
state = SimpleNamespace(epoch=0.0, global_step=0, log_history=[])
GroupSamplerCallback(sampler, windows, 8, COLLATOR).on_epoch_begin(None, state, None, model=model)
batches = GlobalBatches(len(windows), 5, 4, 2, rank, sampler)
mine = [[int(i) for i in batch] for batch in batches]
print(json.dumps({"scores": sampler.scores.tolist(), "drawn": list(sampler), "batches": mine}))
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_ranks_draw_alike_and_share_the_draws(tmp_path):
    command = [sys.executable, "-c", RANKS]
    ranks = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "meet")], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0]
    first, second = (json.loads(output.splitlines()[-1]) for output in outputs)
    assert first["scores"] == second["scores"]
    assert first["drawn"] == second["drawn"]
    assert len(first["drawn"]) == 40
    dealt = [i for pair in zip(first["batches"], second["batches"], strict=True) for batch in pair for i in batch]
    assert sorted(dealt) == sorted(first["drawn"])

"""The training aids inside the trainer: logged, exact on resumption."""

import pytest
import torch

from tests.training.test_trainer import HORIZON, LENGTH, build, tiny
from tsllm.data.loading import load_frame
from tsllm.data.scaling import StandardScaler
from tsllm.data.splits import ByFractions, split_frame
from tsllm.data.windows import WindowDataset

AIDS = {
    "layer_clip": {"warmup": 2, "lam": 4.0, "quantile": 0.3},
    "group_sampler": {"beta": 0.1, "floor": 0.2, "season": 24, "num_draws": 40},
    "max_grad_norm": 0.0,
}


@pytest.fixture(scope="module")
def parts(series_csv):
    """One series a window, so that the series are the groups."""
    splits = split_frame(load_frame(series_csv).df, ByFractions(), LENGTH)
    scaler = StandardScaler().fit(splits.train)
    train, validation, test = (
        WindowDataset(scaler.transform(part), LENGTH, HORIZON, stride=3, layout="univariate")
        for part in (splits.train, splits.validation, splits.test)
    )
    return train, validation, test, scaler


def test_both_aids_log_what_they_did(tmp_path, parts):
    trainer = build(tmp_path, parts, tiny(num_channels=1), **AIDS)
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(logs) == 12
    assert all(
        {"layer_clip/loss", "layer_clip/clipped", "group_sampler/kl", "group_sampler/max_p"} <= set(e) for e in logs
    )
    assert logs[0]["layer_clip/clipped"] == 0.0
    assert any(entry["layer_clip/clipped"] > 0 for entry in logs)
    assert all(0.5 <= entry["group_sampler/max_p"] <= 0.9 for entry in logs)
    scores = [entry["group_sampler/scores"] for entry in trainer.state.log_history if "group_sampler/scores" in entry]
    assert len(scores) == 3  # 12 steps of 8 windows, 40 draws an epoch
    assert all(len(found) == 2 for found in scores)


def test_a_resumed_run_ends_with_the_same_weights(tmp_path, parts):
    whole = build(tmp_path / "whole", parts, tiny(num_channels=1), **AIDS)
    whole.train()
    again = build(tmp_path / "again", parts, tiny(seed=9, num_channels=1), **AIDS)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-6"))
    for name, tensor in whole.model.state_dict().items():
        torch.testing.assert_close(again.model.state_dict()[name], tensor, atol=0.0, rtol=0.0)


def test_clipping_twice_is_refused(tmp_path, parts):
    with pytest.raises(ValueError, match=r"set max_grad_norm to 0, not 1\.0"):
        build(tmp_path, parts, tiny(num_channels=1), layer_clip={}).train()

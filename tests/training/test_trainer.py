import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from tests.fixtures.backbones import save_tiny_backbone
from tsllm.data.loading import load_frame
from tsllm.data.scaling import StandardScaler
from tsllm.data.splits import ByFractions, split_frame
from tsllm.data.windows import WindowDataset
from tsllm.models import build_model
from tsllm.training.args import ForecastTrainingArguments
from tsllm.training.callbacks import StopwatchCallback
from tsllm.training.trainer import ForecastTrainer, find_checkpoint

LENGTH, HORIZON = 24, 6


@pytest.fixture(scope="module")
def parts(series_csv):
    splits = split_frame(load_frame(series_csv).df, ByFractions(), LENGTH)
    scaler = StandardScaler().fit(splits.train)
    train, validation, test = (
        WindowDataset(scaler.transform(part), LENGTH, HORIZON, stride=stride)
        for part, stride in ((splits.train, 3), (splits.validation, 1), (splits.test, 1))
    )
    return train, validation, test, scaler


def tiny(seed=0, **config):
    torch.manual_seed(seed)
    sizes = {"context_length": LENGTH, "prediction_length": HORIZON, "num_channels": 2}
    return build_model(config.pop("name", "dlinear"), **(sizes | config))


def build(folder, parts, model=None, callbacks=(), **options):
    train, validation, _, scaler = parts
    options = {
        "output_dir": str(folder),
        "use_cpu": True,
        "disable_tqdm": True,
        "per_device_train_batch_size": 8,
        "learning_rate": 1e-2,
        "max_steps": 12,
        "eval_strategy": "steps",
        "eval_steps": 3,
        "save_strategy": "steps",
        "save_steps": 3,
        "logging_steps": 1,
        "early_stopping_patience": 0,
        "save_total_limit": None,
    } | options
    trainer = ForecastTrainer(model or tiny(), ForecastTrainingArguments(**options), train, validation, scaler)
    for callback in callbacks:
        trainer.add_callback(callback)
    return trainer


def weights(model):
    return {k: v.clone() for k, v in model.state_dict().items()}


def assert_equal(left, right, tolerance=0.0):
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(left[name], right[name], atol=tolerance, rtol=tolerance, msg=name)


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KeyboardInterrupt


def test_every_window_is_scored_and_the_best_weights_are_reloaded(tmp_path, parts):
    trainer = build(tmp_path, parts)
    trainer.train()
    logged = {e["step"]: e["eval_loss"] for e in trainer.state.log_history if "eval_loss" in e}
    best = min(logged, key=logged.get)
    assert trainer.state.best_global_step == best < 12
    assert_equal(weights(trainer.model), load_file(tmp_path / f"checkpoint-{best}" / "model.safetensors"))
    found = trainer.evaluate(parts[2], metric_key_prefix="test")
    assert found["test_windows"] == len(parts[2]) == 48 - HORIZON + 1
    errors = []
    with torch.no_grad():
        for window in range(len(parts[2])):
            item = parts[2][window]
            prediction = trainer.model(item["past_values"][None]).predictions[0]
            errors.append((prediction - item["future_values"]).double())
    errors = torch.stack(errors)
    scale = torch.tensor(parts[3].loc_scale(["s0", "s1"])[1])
    assert found["test_mse"] == pytest.approx(float(errors.square().mean()), rel=1e-5)
    assert found["test_mae"] == pytest.approx(float(errors.abs().mean()), rel=1e-5)
    assert found["test_mse_original"] == pytest.approx(float((errors * scale).square().mean()), rel=1e-5)
    assert found["test_mae_original"] == pytest.approx(float((errors * scale).abs().mean()), rel=1e-5)


@pytest.mark.parametrize("stop", [5, 8])  # in the middle of an epoch, and right after a checkpoint's epoch
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path, parts, stop):
    model = {"head": "gaussian"}
    whole = build(tmp_path / "whole", parts, tiny(**model), lr_schedule="type1")
    whole.train()
    part = build(tmp_path / "part", parts, tiny(**model), [StopAt(stop)], lr_schedule="type1")
    with pytest.raises(KeyboardInterrupt):
        part.train()
    resumed = build(tmp_path / "part", parts, tiny(seed=1, **model), lr_schedule="type1")
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 12
    last = ("checkpoint-12", "model.safetensors")
    assert_equal(load_file(Path(tmp_path / "whole", *last)), load_file(Path(tmp_path / "part", *last)))
    assert_equal(weights(whole.model), weights(resumed.model))


def test_accumulation_does_not_change_the_weights(tmp_path, parts):
    train = parts[0]
    assert len(train) % 8  # so that the last batch is short
    once = build(tmp_path / "once", parts, eval_strategy="no", save_strategy="no")
    once.train()
    twice = build(
        tmp_path / "twice",
        parts,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        eval_strategy="no",
        save_strategy="no",
    )
    twice.train()
    assert_equal(weights(once.model), weights(twice.model), 1e-6)
    losses = [[e["loss"] for e in t.state.log_history if "loss" in e] for t in (once, twice)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_the_shares_of_two_processes_add_up_to_the_global_loss(tmp_path, parts):
    trainer = build(tmp_path, parts)
    trainer.model.double()
    values = {"past_values": torch.randn(5, LENGTH, 2).double(), "future_values": torch.randn(5, HORIZON, 2).double()}
    values["future_values"][1, :4] = torch.nan
    total = int((~torch.isnan(values["future_values"])).sum())
    whole = torch.autograd.grad(trainer.model(**values).loss, list(trainer.model.parameters()))
    halves = []
    for rank in range(2):
        share = {k: v[rank::2] for k, v in values.items()}
        loss = trainer.compute_loss(trainer.model, share, num_items_in_batch=total)
        halves.append(torch.autograd.grad(loss, list(trainer.model.parameters())))
    # One process scales by 1; two scale by 2 and average, which is the same sum.
    for g, left, right in zip(whole, *halves, strict=True):
        torch.testing.assert_close(g, left + right, atol=1e-12, rtol=1e-12)


def test_early_stopping_ends_the_run_and_a_resumption_changes_nothing(tmp_path, parts):
    options = {"learning_rate": 0.5, "early_stopping_patience": 1, "max_steps": 60}
    stopped = build(tmp_path, parts, **options)
    stopped.train()
    assert stopped.state.global_step < 60
    resumed = build(tmp_path, parts, tiny(seed=3), **options)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == stopped.state.global_step
    assert_equal(weights(stopped.model), weights(resumed.model))
    assert resumed.stopwatch.seconds >= stopped.stopwatch.seconds * 0.5


def test_an_incomplete_checkpoint_is_passed_over(tmp_path, parts):
    build(tmp_path, parts, max_steps=6).train()
    torn = tmp_path / "checkpoint-9"
    shutil.copytree(tmp_path / "checkpoint-6", torn)
    state = (torn / "trainer_state.json").read_text()
    (torn / "trainer_state.json").write_text(state[: len(state) // 2])
    assert find_checkpoint(tmp_path).name == "checkpoint-6"
    (tmp_path / "checkpoint-6" / "rng_state.pth").unlink()
    assert find_checkpoint(tmp_path).name == "checkpoint-3"
    with pytest.raises(FileNotFoundError, match=r"no complete checkpoint \(0 incomplete\)"):
        find_checkpoint(tmp_path / "empty")


def test_a_damaged_checkpoint_is_an_error_that_names_it(tmp_path, parts):
    build(tmp_path, parts, max_steps=3).train()
    file = tmp_path / "checkpoint-3" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(OSError, match=r"checkpoint-3/model.safetensors is missing or damaged"):
        build(tmp_path, parts).train(resume_from_checkpoint=True)


def test_a_frozen_backbone_is_neither_saved_nor_changed(tmp_path, parts):
    backbone = save_tiny_backbone(tmp_path / "gpt2", "gpt2", layers=1, width=16)
    config = {"backbone": backbone, "num_backbone_layers": 1, "d_model": 8, "num_heads": 2, "d_ff": 8}
    config |= {"num_prototypes": 5, "dropout": 0.0, "patch_length": 8, "patch_stride": 4}
    model = tiny(name="timellm", **config)
    frozen = weights(model.backbone)
    trainer = build(tmp_path / "run", parts, model, max_steps=4, eval_steps=2, save_steps=2, learning_rate=1e-3)
    trainer.train()
    saved = load_file(tmp_path / "run" / "checkpoint-4" / "model.safetensors")
    assert not [name for name in saved if name.startswith("backbone.")]
    assert saved.keys() == model.trained_state().keys()
    assert_equal(frozen, weights(model.backbone))
    again = build(
        tmp_path / "run", parts, tiny(seed=5, name="timellm", **config), max_steps=4, eval_steps=2, save_steps=2
    )
    again.train(resume_from_checkpoint=True)
    assert_equal(model.trained_state(), again.model.trained_state())


def test_a_diverged_loss_ends_the_run(tmp_path, parts):
    trainer = build(tmp_path, parts, learning_rate=1e30, max_grad_norm=0, max_steps=40, eval_strategy="no")
    with pytest.raises(FloatingPointError, match=r"loss is (nan|inf) at step \d+; lower learning_rate"):
        trainer.train()


def test_a_split_without_validation_needs_evaluation_turned_off(tmp_path, parts):
    train, _, _, scaler = parts
    with pytest.raises(ValueError, match="eval_strategy: 'no'"):
        build(tmp_path, (train, None, None, scaler))
    trainer = build(tmp_path, (train, None, None, scaler), eval_strategy="no", save_strategy="no", max_steps=2)
    trainer.train()
    assert trainer.state.best_model_checkpoint is None


def test_dropping_the_last_batch_is_refused(tmp_path, parts):
    with pytest.raises(ValueError, match="every window counts"):
        build(tmp_path, parts, dataloader_drop_last=True)


def test_the_trainer_state_keeps_patience_and_time(tmp_path, parts):
    build(tmp_path, parts, max_steps=3, early_stopping_patience=2).train()
    state = json.loads((tmp_path / "checkpoint-3" / "trainer_state.json").read_text())["stateful_callbacks"]
    assert state["ValidationStopping"]["args"]["early_stopping_patience"] == 2
    times = state["StopwatchCallback"]["args"]
    assert times["seconds"] > 0
    assert 0 < times["processor_seconds"] <= times["seconds"] * 1.01 * torch.get_num_threads() + 0.05
    again = build(tmp_path, parts, max_steps=3, early_stopping_patience=2)
    again.train(resume_from_checkpoint=True)
    assert again.stopwatch.processor_seconds >= times["processor_seconds"]
    kept = {"seconds": 100.0, "processor_seconds": 90.0}
    assert StopwatchCallback(**kept).state()["args"] == kept


def test_worker_processes_deliver_the_same_batches(tmp_path, parts):
    options = {"dataloader_num_workers": 2, "dataloader_prefetch_factor": 3, "dataloader_persistent_workers": True}
    alone = build(tmp_path, parts).get_train_dataloader()
    loader = build(tmp_path, parts, **options).get_train_dataloader()
    assert (loader.num_workers, loader.prefetch_factor, loader.persistent_workers) == (2, 3, True)
    assert not loader.pin_memory  # only a CUDA device reads pinned memory faster
    for expected, found in zip(alone, loader, strict=True):
        assert_equal(expected, found)

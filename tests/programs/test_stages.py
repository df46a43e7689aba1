"""What an interrupted reward run left is taken up again under equal settings, and refused by name under others."""

import json
import time

import numpy as np
import pytest

from tests.fixtures.series import write_series_csv
from tsllm.programs import series_policy
from tsllm.programs.series_policy import ControlArguments, run_policy
from tsllm.programs.stages import Stage, list_differences
from tsllm.rl.dry_run import RewardError
from tsllm.training.args import ArgumentsError, DataArguments, ModelArguments
from tsllm.training.policy.args import PolicyArguments, PolicyTrainingArguments

HERE = "tests.programs.test_stages"


def real_units(samples, target, history, season):
    return -1000 * (samples - target[:, None]).abs().nanmean(-1)


def raises_late(samples, target, history, season):
    raise KeyError("price")


@pytest.fixture
def csv(tmp_path):
    return write_series_csv(tmp_path / "series.csv")


def run(csv, folder, *, start=None, policy=None, controls=None, **training):
    start_steps = 4 if start is None else start
    values = {
        "max_steps": 4, "eval_steps": 2, "save_steps": 2, "logging_steps": 1, "use_cpu": True, "disable_tqdm": True,
        "per_device_train_batch_size": 8, "load_best_model_at_end": False,
    }  # fmt: skip
    return run_policy(
        ModelArguments(model="dlinear", model_config={"head": "gaussian"}),
        DataArguments(dataset=str(csv), freq="h", context_length=24, prediction_length=6, split=[0.6, 0.2, 0.2]),
        PolicyTrainingArguments(output_dir=str(folder), **values | training),
        PolicyArguments(**({"reward": "newsvendor", "num_samples": 8} | (policy or {}))),
        ControlArguments(**({"start_steps": start_steps, "decisions": {}} | (controls or {}))),
    )


def interrupt(monkeypatch, name):
    """Lets the run end where `name` of the program is called, as Ctrl-C would."""

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(series_policy, name, stop)


def scores(found, arm):
    return found.arms[arm]


def test_a_start_is_taken_up_with_equal_settings_and_refused_with_others(csv, tmp_path, monkeypatch, caplog):
    out, alone = tmp_path / "out", {"controls": False}
    with monkeypatch.context() as patched:
        interrupt(patched, "train_policy")
        with pytest.raises(KeyboardInterrupt):
            run(csv, out, controls=alone)
    weights = (out / "start" / "model.safetensors").read_bytes()
    with pytest.raises(ArgumentsError, match=r"start was made with other settings \(training.max_steps: was 4, is 6"):
        run(csv, out, start=6)
    with pytest.raises(ArgumentsError, match=r"training.per_device_train_batch_size: was 8, is 4"):
        run(csv, out, per_device_train_batch_size=4)
    with pytest.raises(ArgumentsError, match=r"model.weights: was .*training.seed: was 42, is 1"):
        run(csv, out, seed=1)
    moved = write_series_csv(tmp_path / "elsewhere.csv")
    taken = run(moved, out, controls=alone)  # the same series from another file have the same start
    assert "is taken from" in caplog.text
    assert (out / "start" / "model.safetensors").read_bytes() == weights
    whole = run(csv, tmp_path / "whole", controls=alone)
    for arm in ("start", "policy"):
        for name, values in scores(whole, arm).items():
            np.testing.assert_array_equal(scores(taken, arm)[name], values)
    write_series_csv(csv, seed=1)
    with pytest.raises(ArgumentsError, match=r"start was made with other settings \(data\.?: was"):
        run(csv, out, resume_from_checkpoint=True)
    interrupt(monkeypatch, "train_policy")
    with pytest.raises(KeyboardInterrupt):
        run(csv, out, overwrite_output_dir=True, start=6, controls=alone)
    assert json.loads((out / "start" / "settings.json").read_text())["settings"]["training"]["max_steps"] == 6


def test_a_control_that_was_scored_otherwise_is_refused(csv, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        interrupt(patched, "train_policy")
        with pytest.raises(KeyboardInterrupt):
            run(csv, out)
    assert not list(out.glob("checkpoint-*"))
    with pytest.raises(ArgumentsError, match=r"supervised was made with other settings \(policy.reward: was 'newsv"):
        run(csv, out, policy={"reward": "mae"}, resume_from_checkpoint=True)
    with pytest.raises(ArgumentsError, match=r"supervised was .*scoring.quantiles"):
        run(csv, out, controls={"decision_quantiles": {"q90": 0.9}}, resume_from_checkpoint=True)
    run(csv, out, resume_from_checkpoint=True)  # there is no checkpoint of the policy yet
    with pytest.raises(ArgumentsError, match=r"policy was made with other settings \(policy.num_samples: was 8, is 4"):
        run(csv, out, policy={"num_samples": 4}, controls={"controls": False}, resume_from_checkpoint=True)


def test_a_start_without_its_settings_or_with_damaged_ones_is_refused(csv, tmp_path):
    out = tmp_path / "out" / "start"
    out.mkdir(parents=True)
    (out / "model.safetensors").write_bytes(b"")
    with pytest.raises(ArgumentsError, match="not the settings that it was made with; pass --overwrite_output_dir"):
        run(csv, out.parent)
    (out / "settings.json").write_text("{")
    with pytest.raises(ArgumentsError, match="is damaged"):
        run(csv, out.parent)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"policy": {"reward": f"{HERE}:real_units"}}, r"it measures -.* to -.*, but its range is \[-1, 1\]"),
        ({"policy": {"reward": f"{HERE}:raises_late"}}, "raised KeyError: 'price'"),
        ({"controls": {"decisions": {"own": f"{HERE}:raises_late"}}}, "raises_late raised KeyError"),
    ],
)
def test_a_bad_reward_is_told_before_anything_is_trained(csv, tmp_path, options, match):
    began = time.monotonic()
    with pytest.raises(RewardError, match=match):
        run(csv, tmp_path / "out", **options)
    assert time.monotonic() - began < 10
    assert not (tmp_path / "out" / "start").exists()


def test_a_stage_counts_as_finished_only_when_it_said_so(tmp_path):
    stage = Stage(tmp_path / "arm", {"steps": 4, "rate": 0.1, "path": tmp_path})
    assert not stage.is_finished
    stage.begin()
    assert not stage.is_finished
    stage.finish()
    assert stage.is_finished
    assert not Stage(tmp_path / "other", {"steps": 4}).is_finished
    reader = Stage(tmp_path / "arm", {"steps": 4, "rate": 0.1, "path": tmp_path}, writes=False)
    assert reader.is_finished
    reader.begin()
    assert reader.is_finished


def test_differences_are_named_by_their_path():
    earlier, now = {"a": {"b": 1, "c": [1]}, "d": 2}, {"a": {"b": 1, "c": [2]}, "e": 3}
    assert list_differences(earlier, now) == ["a.c: was [1], is [2]", "d: was 2, is None", "e: was None, is 3"]

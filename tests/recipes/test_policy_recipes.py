"""GRPO and DAPO recipes: every configuration parses, a short run leaves all artefacts and goes on after a stop."""

import inspect
import json
import os
import pkgutil
import re
import signal
import time

import numpy as np
import pytest

from tests.fixtures.series import write_series_csv
from tests.recipes.programs import RECIPES, finish, launch, load_recipe
from tests.training.policy.test_trainer import flat_where_low
from tsllm.models import MODELS
from tsllm.programs.series_policy import ControlArguments
from tsllm.rl.dry_run import RewardError
from tsllm.training.args import ArgumentsError, DataArguments, ModelArguments, parse_arguments
from tsllm.training.build import read_model_config
from tsllm.training.policy.args import PolicyArguments, PolicyTrainingArguments

SERIES = sorted((RECIPES / "configs").glob("*po_series/*.yaml"))
TEXT = sorted((RECIPES / "configs").glob("*po_text/*.yaml"))


def name(path):
    return f"{path.parent.name}/{path.name}"


@pytest.mark.parametrize("path", SERIES, ids=name)
def test_a_series_configuration_parses_strictly(path):
    classes = (ModelArguments, DataArguments, PolicyTrainingArguments, PolicyArguments, ControlArguments)
    model, _, _, policy, controls = parse_arguments(classes, [f"--config={path}", "--use_cpu"])
    values = read_model_config(MODELS.get(model.model).config_class, model.model_config)
    assert values["head"] == "student_t"
    assert controls.controls
    assert policy.build_objective().name.startswith(path.parent.name.split("_")[0])


@pytest.mark.parametrize("path", TEXT, ids=name)
def test_a_text_configuration_parses_strictly(path, tmp_path):
    from tsllm.training.text.policy import TextPolicyArguments
    from tsllm.training.text.supervised import TextModelArguments

    classes = (TextModelArguments, DataArguments, TextPolicyArguments)
    _, _, args = parse_arguments(classes, [f"--config={path}", "--use_cpu", f"--output_dir={tmp_path}"])
    assert args.algorithm == path.parent.name.split("_")[0]
    assert (args.beta == 0) == (args.algorithm == "dapo")


def common(csv, folder, **changes):
    values = {
        "model": "dlinear", "dataset": csv, "freq": "h", "context_length": 24, "prediction_length": 6,
        "split": "[0.6, 0.2, 0.2]", "start_steps": 4, "max_steps": 4, "eval_steps": 2, "save_steps": 2,
        "logging_steps": 1, "num_samples": 8, "use_cpu": "true", "disable_tqdm": "true", "output_dir": folder,
        "model_config": "{head: gaussian}", "per_device_train_batch_size": 8, "save_total_limit": 5,
        "load_best_model_at_end": "false",
    }  # fmt: skip
    return [f"{key}={value}" for key, value in (values | changes).items()]


def test_a_run_leaves_artefacts_and_every_arm(tmp_path, caplog):
    csv = write_series_csv(tmp_path / "series.csv")
    out = tmp_path / "out"
    load_recipe("grpo_series").main([*common(csv, out), "objective=grpo", "reward=newsvendor"])
    names = {path.name for path in out.iterdir()}
    assert {
        "config.json", "model.safetensors", "README.md", "metrics.json", "history.json", "forecaster.json",
        "arms.md", "reward_curve.png", "scores.npz", "start", "supervised", "direct",
    } <= names  # fmt: skip
    metrics = json.loads((out / "metrics.json").read_text())
    assert set(metrics["arms"]) == {"start", "supervised", "direct", "policy"}
    assert metrics["steps"] == 4
    table, _, legend = (out / "arms.md").read_text().partition("\n\n")
    assert [line.split(" | ")[0] for line in table.splitlines()[2:]] == [
        "| reward",
        "| mae",
        "| crps",
        "| coverage_80",
    ]
    assert "- supervised: the start trained for as many more supervised steps." in legend
    assert (
        "- crps: continuous ranked probability score from quantiles, in units of the data, lower is better." in legend
    )
    assert [r.getMessage() for r in caplog.records if r.getMessage().startswith("training of")] == [
        "training of start (the supervised start): 4 steps",
        "training of supervised (the start trained for as many more supervised steps): 4 steps",
        "training of direct (the start trained by gradient ascent on the reward itself): 4 steps",
        "training of policy (the start trained by this recipe, the model that is kept): 4 steps",
    ]
    assert {"mse", "mae", "crps", "coverage_80", "reward"} <= set(metrics["test"])
    assert {row["against"] for row in metrics["comparison"]} == {"start", "supervised", "direct"}
    assert metrics["test"]["reward"] == pytest.approx(metrics["arms"]["policy"]["reward"], rel=1e-5)
    for arm in metrics["arms"].values():
        assert sum(arm["pit"]) == pytest.approx(1.0, abs=1e-2)


def test_a_resumed_run_ends_as_the_whole_one(tmp_path):
    csv = write_series_csv(tmp_path / "series.csv")
    out = tmp_path / "out"
    recipe = load_recipe("dapo_series")
    options = ["objective=dapo", "reward=battery_profit", "decisions={}"]
    recipe.main([*common(csv, out), *options])
    whole = dict(np.load(out / "scores.npz"))
    recipe.main([*common(csv, out), *options, f"--resume_from_checkpoint={out / 'checkpoint-2'}"])
    again = dict(np.load(out / "scores.npz"))
    for score, values in whole.items():
        np.testing.assert_array_equal(again[score], values)


@pytest.mark.slow  # three programs, two of them killed
@pytest.mark.parametrize("place", ["start/checkpoint-50", "direct/checkpoint-50"])
def test_a_run_killed_in_start_or_controls_goes_on_and_ends_as_the_whole_one(place, tmp_path):
    csv = write_series_csv(tmp_path / "series.csv")
    sizes = {"start_steps": 300, "max_steps": 150, "save_steps": 50, "eval_steps": 50}
    options = ["objective=grpo", "reward=newsvendor", "decisions={}"]
    finish(launch("grpo_series", *common(csv, tmp_path / "whole", **sizes), *options))
    out = tmp_path / "out"
    process = launch("grpo_series", *common(csv, out, **sizes), *options)
    deadline = time.monotonic() + 120
    while not (out / place).exists() and time.monotonic() < deadline:
        assert process.poll() is None, process.stdout.read()[-2000:]
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not list(out.glob("checkpoint-*"))
    finish(launch("grpo_series", *common(csv, out, **sizes), *options, "--resume_from_checkpoint"))
    for arm in ("start", "supervised", "direct", ""):
        whole, again = (dict(np.load(root / arm / "scores.npz")) for root in (tmp_path / "whole", out))
        for name, values in whole.items():
            np.testing.assert_array_equal(again[name], values)


def test_a_recipe_runs_its_own_algorithm_only(tmp_path):
    csv = write_series_csv(tmp_path / "series.csv")
    with pytest.raises(ArgumentsError, match="this recipe runs"):
        load_recipe("grpo_series").main([*common(csv, tmp_path / "out"), "objective=dapo"])


@pytest.mark.slow
def test_two_processes_stay_in_step(tmp_path, monkeypatch):
    csv = write_series_csv(tmp_path / "series.csv")
    out = tmp_path / "out"
    source = "import torch\n\n\n" + inspect.getsource(flat_where_low)
    (tmp_path / "own_rewards.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    reward = "reward={name: 'own_rewards:flat_where_low', low: -1.0, high: 1.0}"
    options = [
        # One series a window: about half the windows of the series around zero have no spread.
        *common(csv, out, per_device_train_batch_size=4, gradient_accumulation_steps=2, num_iterations=2),
        "layout=univariate", "objective=dapo", reward, "controls=false", "decisions={}",
    ]  # fmt: skip
    output = finish(launch("dapo_series", *options, config_file="cpu2.yaml"))
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["processes"] == 2
    assert metrics["steps"] == 4
    log = [e for e in json.loads((out / "history.json").read_text()) if "refills" in e]
    assert log, output[-2000:]
    assert any(entry["refills"] > 0 for entry in log)


def test_a_decision_problem_is_the_reward_of_a_run_and_one_cut_everywhere_stops_before_training(tmp_path):
    csv = write_series_csv(tmp_path / "series.csv")
    problem = "{name: peak_shaving, energy: 4, power: 2, step_hours: 1, bound: %s}"
    with pytest.raises(RewardError, match=r"peak_shaving: it measures .* are cut; declare low and high that hold"):
        load_recipe("grpo_series").main(
            [*common(csv, tmp_path / "cut"), "objective=grpo", f"reward={problem % '1.0e-6'}"]
        )
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    out = tmp_path / "out"
    load_recipe("grpo_series").main([*common(csv, out), "objective=grpo", f"reward={problem % 1000}"])
    metrics = json.loads((out / "metrics.json").read_text())
    assert set(metrics["arms"]) == {"start", "supervised", "direct", "policy"}  # its plan has a gradient
    assert -1000 < metrics["test"]["reward"] < 0


@pytest.mark.parametrize("recipe", ["grpo_series", "grpo_text"])
def test_a_reader_of_the_recipe_finds_the_algorithm_by_name(recipe):
    """Rollout, reward, advantage and loss are named in the order of a step, and what they name is there."""
    assert [part for part, _ in name_parts(recipe)] == ["rollout", "reward", "advantage", "loss"]


@pytest.mark.parametrize("recipe", sorted(path.stem for path in RECIPES.glob("*.py")))
def test_what_a_recipe_names_of_its_algorithm_is_there(recipe):
    """In its own docstring, or in that of the recipe that it is."""
    text = (RECIPES / f"{recipe}.py").read_text()
    of = re.search(r"^It is recipes/(\w+)\.py, which names", text, re.MULTILINE)
    parts = name_parts(of[1] if of else recipe)
    assert len(parts) >= 3
    for _, path in parts:
        assert callable(pkgutil.resolve_name(path)), path


def name_parts(recipe):
    text = (RECIPES / f"{recipe}.py").read_text().split('"""')[1]
    return re.findall(r"^    (\w+) +((?:tsllm|trl|transformers)\.[\w.]+)", text, re.MULTILINE)

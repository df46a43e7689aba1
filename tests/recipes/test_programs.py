"""The recipes as real programs: what they write, that a killed run resumes exactly, that two processes act as one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from tests.fixtures.backbones import save_tiny_backbone
from tests.recipes.programs import ROOT, finish, launch, launch_sharded, load_recipe
from tsllm.forecasting.neural import NeuralForecaster
from tsllm.hub.card import check_card
from tsllm.hub.package import PackageError, check_package

ARTEFACTS = {"README.md", "config.json", "forecast.png", "forecaster.json", "metrics.json", "model.safetensors"}
TIMELLM = ["model=timellm", "model_config.num_backbone_layers=1", "model_config.d_model=8", "model_config.num_heads=2"]
TIMELLM += ["model_config.d_ff=8", "model_config.num_prototypes=5", "model_config.patch_length=8"]
TIMELLM += ["model_config.patch_stride=4", "model_config.dropout=0.0"]


def steps(count, every):
    return [f"max_steps={count}", f"eval_steps={every}", f"save_steps={every}"]


def read(folder):
    return load_file(Path(folder) / "model.safetensors")


def assert_equal(left, right, tolerance=0.0):
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(left[name], right[name], atol=tolerance, rtol=tolerance, msg=name)


@pytest.fixture(scope="module")
def artefact(tmp_path_factory, tiny):
    """Folder of a finished run of `train_native`, made in this process."""
    folder = tmp_path_factory.mktemp("native") / "run"
    load_recipe("train_native").main([*tiny, "model=dlinear", f"output_dir={folder}", *steps(4, 2)])
    return folder


def test_a_run_leaves_the_artefacts_of_the_contract(artefact):
    assert {p.name for p in artefact.iterdir()} >= ARTEFACTS
    metrics = json.loads((artefact / "metrics.json").read_text())
    assert set(metrics["test"]) >= {"mse", "mae", "mse_original", "mae_original"}
    assert (metrics["scaled"], metrics["windows"], metrics["steps"], metrics["seed"]) == (True, 43, 4, 3)
    assert metrics["test"]["windows"] == 48 - 6 + 1
    assert metrics["seconds"] > 0
    assert metrics["seasonal_naive"]["mse"] > 0
    assert not list(artefact.glob("*.bin"))
    card = check_card(artefact / "README.md")
    results = {r.metric_type: r.metric_value for r in card.data.eval_results}
    assert results["mse"] == pytest.approx(metrics["test"]["mse"], abs=1e-6)


def test_a_second_run_into_the_same_folder_is_refused(artefact, tiny):
    with pytest.raises(FileExistsError, match="pass --resume_from_checkpoint to go on"):
        load_recipe("train_native").main([*tiny, "model=dlinear", f"output_dir={artefact}", *steps(4, 2)])


def test_a_truncated_artefact_is_an_error_for_its_reader_and_its_packer(artefact, tmp_path):
    folder = tmp_path / "torn"
    folder.mkdir()
    for name in ARTEFACTS:
        (folder / name).write_bytes((artefact / name).read_bytes())
    assert set(check_package(folder)) == ARTEFACTS
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(OSError, match=r"model\.safetensors is damaged"):
        NeuralForecaster.from_pretrained(folder)
    with pytest.raises(PackageError, match=r"model\.safetensors is damaged"):
        check_package(folder)
    (folder / "forecaster.json").write_text((artefact / "forecaster.json").read_text()[:50])
    with pytest.raises(ValueError, match=r"forecaster\.json is damaged"):
        NeuralForecaster.from_pretrained(folder)


@pytest.fixture(scope="module")
def resumed(tmp_path_factory, tiny, backbone):
    """Folders of a launched run that was killed in the middle and resumed, and of an uninterrupted one."""
    root = tmp_path_factory.mktemp("resumed")
    arguments = [*tiny, *TIMELLM, f"model_config.backbone={backbone}", *steps(40, 4), "lr_scheduler_type=cosine"]
    arguments.append("save_total_limit=3")
    killed = launch("sft_series", *arguments, f"output_dir={root / 'killed'}")
    deadline = time.monotonic() + 280
    while not (root / "killed" / "checkpoint-8").exists():
        assert killed.poll() is None, killed.communicate()[0][-4000:]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert not (root / "killed" / "metrics.json").exists()
    recipe, threads = load_recipe("sft_series"), torch.get_num_threads()
    torch.set_num_threads(1)  # as in the launched part: equal bits are promised for equal thread counts alone
    try:
        recipe.main([*arguments, f"output_dir={root / 'killed'}", "--resume_from_checkpoint"])
        recipe.main([*arguments, f"output_dir={root / 'whole'}"])
    finally:
        torch.set_num_threads(threads)
    return root / "killed", root / "whole"


def test_a_run_killed_in_the_middle_resumes_to_the_weights_of_an_uninterrupted_one(resumed):
    killed, whole = resumed
    assert_equal(read(whole), read(killed))
    assert_equal(read(whole / "checkpoint-40"), read(killed / "checkpoint-40"))
    left, right = (json.loads((folder / "metrics.json").read_text()) for folder in resumed)
    assert left["test"] == right["test"]
    assert left["steps"] == right["steps"] == 40


def test_a_saved_adapter_forecasts_identically_in_another_process(resumed, tmp_path, tiny):
    folder = resumed[0]
    assert {p.name for p in folder.iterdir()} >= ARTEFACTS
    assert not [k for k in read(folder) if k.startswith("backbone.")]
    program = (
        "import sys, pandas as pd\n"
        "from tsllm.forecasting.neural import NeuralForecaster\n"
        "df = pd.read_csv(sys.argv[2], parse_dates=['date'])\n"
        "NeuralForecaster.from_pretrained(sys.argv[1]).predict(df).to_parquet(sys.argv[3])\n"
    )
    csv = next(a.removeprefix("dataset=") for a in tiny if a.startswith("dataset="))
    command = [sys.executable, "-c", program, str(folder), csv, str(tmp_path / "there.parquet")]
    subprocess.run(command, cwd=ROOT, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    here = NeuralForecaster.from_pretrained(folder).predict(pd.read_csv(csv, parse_dates=["date"]))
    there = pd.read_parquet(tmp_path / "there.parquet")
    assert len(here) == 12
    assert (here["TimeLLM"].to_numpy() == there["TimeLLM"].to_numpy()).all()


@pytest.mark.slow
def test_the_native_recipe_runs_under_accelerate(tmp_path, tiny):
    arguments = [*tiny, "model=dlinear", f"output_dir={tmp_path / 'run'}", *steps(1, 1)]
    assert "1 steps (best 1)" in finish(launch("train_native", *arguments))
    assert {p.name for p in (tmp_path / "run").iterdir()} >= ARTEFACTS


@pytest.mark.slow
@pytest.mark.parametrize("model", ["dlinear", "timellm"])
def test_two_processes_reach_the_weights_of_one_with_the_same_global_batch(tmp_path, tiny, backbone, model):
    name = "train_native" if model == "dlinear" else "sft_series"
    # The bias of attention keys has a gradient of 0 but for rounding, which Adam would blow up to whole steps.
    own = ["model=dlinear"] if model == "dlinear" else [*TIMELLM, f"model_config.backbone={backbone}", "optim=sgd"]
    shared = [*tiny, *own, "max_steps=30", "eval_strategy=no", "save_strategy=no", "train_stride=3"]
    finish(launch(name, *shared, "per_device_train_batch_size=4", f"output_dir={tmp_path / 'two'}",
                  config_file="cpu2.yaml"))  # fmt: skip
    load_recipe(name).main([*shared, "per_device_train_batch_size=8", f"output_dir={tmp_path / 'one'}"])
    one, two = (json.loads((tmp_path / n / "metrics.json").read_text()) for n in ("one", "two"))
    assert (one["processes"], two["processes"]) == (1, 2)
    assert one["global_batch_size"] == two["global_batch_size"] == 8
    assert_equal(read(tmp_path / "one"), read(tmp_path / "two"), 2e-5)
    assert two["windows"] == one["windows"] == 43
    for name in ("mse", "mae", "loss", "mse_original"):
        assert two["test"][name] == pytest.approx(one["test"][name], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["dlinear", "gpt2"])
def test_sharded_processes_save_the_artefact_of_one(tmp_path, tiny, model):
    name = "train_native" if model == "dlinear" else "sft_series"
    own = ["model=dlinear"]
    if name == "sft_series":
        folder = save_tiny_backbone(tmp_path / model, model, width=16)
        own = [*TIMELLM, f"model_config.backbone={folder}", "model_config.num_backbone_layers=3", "optim=sgd"]
        own += ["model_config.backbone_mode=lora", "model_config.lora.r=2"]
    shared = [*tiny, *own, *steps(6, 3), "train_stride=3"]
    output = finish(
        launch_sharded(tmp_path, name, *shared, "per_device_train_batch_size=4", f"output_dir={tmp_path / 'two'}")
    )
    # Three layers and the rest; accelerate makes the empty normalisation a unit too.
    assert output.count(f"DistributedType.FSDP, {1 if model == 'dlinear' else 5} units") == 2
    load_recipe(name).main([*shared, "per_device_train_batch_size=8", f"output_dir={tmp_path / 'one'}"])
    assert_equal(read(tmp_path / "one"), read(tmp_path / "two"), 2e-5)
    if name == "sft_series":
        adapters = [load_file(tmp_path / n / "lora" / "adapter_model.safetensors") for n in ("one", "two")]
        assert_equal(*adapters, 2e-5)
        assert max(tensor.abs().max() for n, tensor in adapters[1].items() if "lora_B" in n) > 1e-4
    assert {p.name for p in (tmp_path / "two").iterdir()} >= ARTEFACTS
    metrics = json.loads((tmp_path / "two" / "metrics.json").read_text())
    assert metrics["parameters"] == json.loads((tmp_path / "one" / "metrics.json").read_text())["parameters"]

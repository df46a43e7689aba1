"""An engineer who fine-tunes: LoRA on an own table, then GRPO with an own reward that is wrong at first."""

import json

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file

import tsllm
from tests.fixtures.backbones import save_tiny_backbone
from tests.recipes.programs import load_recipe
from tests.recipes.test_policy_recipes import common
from tests.recipes.test_programs import TIMELLM, steps
from tsllm.rl.dry_run import RewardError
from tsllm.training.trainer import ForecastTrainer

COLUMNS = ["id_col=meter", "time_col=when", "target_col=load"]
RUN = ["context_length=24", "prediction_length=6", "per_device_train_batch_size=8", "--use_cpu", "disable_tqdm=true"]
RUN += ["learning_rate=1e-2", "eval_strategy=steps", "save_strategy=steps", "early_stopping_patience=0", "seed=3"]

REWARDS = """
import torch


def raising(samples, target, history, season):
    return prices[season]


def wrong_shape(samples, target, history, season):
    return -(samples - target[:, None]).abs()


def constant(samples, target, history, season):
    return torch.zeros(samples.shape[:2])


def mended(samples, target, history, season):
    scale = history.nan_to_num().std(1)[:, None]
    return -((samples - target[:, None]).abs().nanmean(-1) / scale).clamp(max=10.0)
"""


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    rng = np.random.default_rng(0)
    times = pd.date_range("2024", periods=240, freq="h")
    day = np.sin(2 * np.pi * np.arange(240) / 24)
    parts = [
        pd.DataFrame(
            {"meter": name, "when": times, "load": size * (3 + day + 0.1 * rng.normal(size=240)), "site": "A"}
        )
        for name, size in (("007", 1.0), ("008", 40.0))
    ]
    path = tmp_path_factory.mktemp("own") / "load.csv"
    pd.concat(parts).to_csv(path, index=False)
    return path


def test_lora_on_an_own_table_saves_a_forecaster_of_its_columns(table, tmp_path):
    backbone = save_tiny_backbone(tmp_path / "gpt2", "gpt2", layers=1, width=16)
    lora = [f"model_config.backbone={backbone}", "model_config.backbone_mode=lora", "model_config.lora.r=2"]
    out = tmp_path / "run"
    data = [f"dataset={table}", *COLUMNS]
    load_recipe("sft_series").main([*RUN, *data, *TIMELLM, *lora, f"output_dir={out}", *steps(2, 1)])
    assert sum("lora_B" in name and bool(t.any()) for name, t in load_file(out / "model.safetensors").items()) == 1
    forecaster = tsllm.NeuralForecaster.from_pretrained(out)
    own = pd.read_csv(table, dtype={"meter": str})
    forecasts = forecaster.predict(own)
    assert forecasts.columns.tolist() == ["meter", "when", "TimeLLM"]
    assert forecasts["meter"].tolist() == ["007"] * 6 + ["008"] * 6


@pytest.fixture
def trained_steps(monkeypatch):
    """How many training steps any trainer of series has taken."""
    count = []
    step = ForecastTrainer.training_step

    def counted(self, *args, **kwargs):
        count.append(1)
        return step(self, *args, **kwargs)

    monkeypatch.setattr(ForecastTrainer, "training_step", counted)
    return count


@pytest.fixture
def recipe(table, tmp_path, monkeypatch):
    """Runs GRPO with a reward of the engineer's own module, as its name says."""
    (tmp_path / "my_rewards_of_story.py").write_text(REWARDS)
    monkeypatch.syspath_prepend(str(tmp_path))

    def run(reward, **changes):
        named = f"reward={{name: 'my_rewards_of_story:{reward}', low: -10.0, high: 0.0}}"
        out = tmp_path / reward
        arguments = [*common(table, out, **changes), *COLUMNS, "objective=grpo", named, "decisions={}"]
        load_recipe("grpo_series").main(arguments)
        return out

    return run


@pytest.mark.parametrize(
    ("reward", "texts"),
    [
        ("raising", ["my_rewards_of_story", "NameError", "prices"]),
        ("wrong_shape", ["wrong_shape must return a tensor of shape [1, 16], found [1, 16, 6]"]),
        ("constant", ["reward", "same"]),
    ],
)
def test_a_reward_that_cannot_be_learned_from_is_told_before_any_step(reward, texts, recipe, trained_steps):
    with pytest.raises(RewardError) as error:
        recipe(reward)
    assert not trained_steps
    for text in texts:
        assert text in str(error.value), str(error.value)


def test_the_mended_reward_is_optimised(recipe, trained_steps):
    out = recipe("mended", max_steps=2, start_steps=2, controls="false")
    assert trained_steps
    metrics = json.loads((out / "metrics.json").read_text())
    assert set(metrics["arms"]) == {"start", "policy"}
    assert -10 <= metrics["test"]["reward"] <= 0
    assert json.loads((out / "forecaster.json").read_text())["names"]["id_col"] == "meter"

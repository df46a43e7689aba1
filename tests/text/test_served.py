"""Language models behind vLLM: what is asked of it, what becomes of its answers, and who is refused.

A stand-in with vLLM's interface answers; `test_vllm.py` asks vLLM itself where it is installed.
"""

import copy
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from tests.fixtures.backbones import save_tiny_backbone
from tsllm.data.task import ForecastTask
from tsllm.forecasting.checks import check_forecaster
from tsllm.forecasting.model_spec import ModelSpec
from tsllm.forecasting.roster import build_forecaster
from tsllm.forecasting.text import TextForecaster
from tsllm.text.codec import NumberCodec
from tsllm.text.generate import SamplingOptions, sample_completions
from tsllm.text.served import ServedModel, check_engine, load_served_model

TIMES = pd.date_range("2024-01-01", periods=8, freq="h")
FRAME = pd.concat([pd.DataFrame({"unique_id": n, "ds": TIMES, "y": np.arange(8.0) + k}) for k, n in enumerate("ab")])
FIRST, SECOND = "2024-01-01 08:00:00", "2024-01-01 09:00:00"
FREE = {"constrained": False, "temperature": 0.5, "top_p": 0.9}


class StandIn:
    """Answers each prompt with forecasts whose values are 10 j and 10 j + 1 in the j-th completion."""

    def __init__(self, **options):
        self.options, self.asked = options, []

    def generate(self, prompts, params, use_tqdm):
        assert use_tqdm is False
        self.asked.append((prompts, params))
        assert all(wanted.n == 1 or wanted.temperature for wanted in params)  # else vLLM refuses the request
        return [
            SimpleNamespace(
                outputs=[
                    SimpleNamespace(text=f"Sure. <forecast>({FIRST}, {10 * j})\n({SECOND}, {10 * j + 1})</forecast>")
                    for j in range(wanted.n)
                ]
            )
            for _, wanted in zip(prompts, params, strict=True)
        ]


@pytest.fixture
def vllm(monkeypatch):
    module = ModuleType("vllm")
    module.LLM, module.SamplingParams = StandIn, lambda **given: SimpleNamespace(**given)
    module.__spec__ = SimpleNamespace(name="vllm")
    monkeypatch.setitem(sys.modules, "vllm", module)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(save_tiny_backbone(tmp_path_factory.mktemp("model") / "llama", "llama"))


def make(folder, **options):
    model, tokenizer = load_served_model(folder)
    given = {"h": 2, "context_length": 2, "style": "direct", "num_samples": 5, "options": SamplingOptions(**FREE)}
    return TextForecaster(model, tokenizer, **given | options)


def test_its_answers_become_paths_with_their_median_and_quantiles(vllm, folder):
    made = make(folder).fit(FRAME)
    forecast = made.predict(level=[80], context={"a": "Capped at 9."})
    assert forecast["TextLLM"].tolist() == [20.0, 21.0] * 2
    assert forecast["TextLLM-lo-80"].tolist() == [4.0, 5.0] * 2
    assert forecast["TextLLM-hi-80"].tolist() == [36.0, 37.0] * 2
    assert (made.report.num_samples, made.report.failures.total()) == (10, 0)
    assert made.count_parameters() == (0, None)


def test_the_most_likely_completion_is_asked_for_once_and_counts_for_every_sample(vllm, folder):
    greedy = SamplingOptions(constrained=False, temperature=0)
    made = make(folder, options=greedy).fit(FRAME)
    assert made.predict(level=[80])["TextLLM-hi-80"].tolist() == [0.0, 1.0] * 2
    ((_, params),) = made.model.engine.asked
    assert [(p.n, p.temperature) for p in params] == [(1, 0)] * 2
    assert made.report.num_samples == 10


def test_it_is_asked_for_the_tokens_of_the_prompts_with_the_options_and_a_seed_that_returns(vllm, folder):
    made = make(folder).fit(FRAME)
    asked = made.model.engine.asked
    made.predict(context={"a": "Capped at 9."})
    made.predict(context={"a": "Capped at 9."})
    (prompts, params), again = asked
    texts = sorted(made.tokenizer.decode(prompt["prompt_token_ids"]) for prompt in prompts)
    assert ["Capped at 9." in text for text in texts].count(True) == 1
    assert all("<history>" in text for text in texts)
    assert [(p.n, p.temperature, p.top_p) for p in params] == [(5, 0.5, 0.9)] * 2
    assert params[0].max_tokens == params[1].max_tokens > 2 * 36
    assert params[0].seed != params[1].seed
    assert [p.seed for p in again[1]] == [p.seed for p in params]


def test_it_starts_from_safetensors_without_code_and_is_never_copied(vllm, folder):
    model, _ = load_served_model(folder, gpu_memory_utilization=0.5)
    wanted = {"model": folder, "load_format": "safetensors", "trust_remote_code": False, "gpu_memory_utilization": 0.5}
    assert wanted.items() <= model.engine.options.items()
    assert copy.deepcopy(model) is model


def test_an_entry_of_a_comparison_names_the_engine(vllm, folder, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    options = {"language_model": folder, "engine": "vllm", "style": "direct", "num_samples": 3, **FREE}
    spec = ModelSpec("text", "Large", options)
    task = ForecastTask(name="x", h=2, context_length=2, freq="h", season=1)
    check_forecaster(spec, task)
    made = build_forecaster(spec, task)
    assert isinstance(made.model, ServedModel)
    assert made.fit(FRAME).predict()["Large"].tolist() == [10.0, 11.0] * 2


def test_without_the_package_it_says_so_before_anything_is_loaded(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ImportError, match=r"needs the package vllm, which is not installed; install it \(pip install"):
        load_served_model("nothing")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    task = ForecastTask(name="x", h=2, context_length=4, freq="h", season=24)
    spec = ModelSpec("text", options={"language_model": "nothing", "engine": "vllm", "constrained": False})
    with pytest.raises(ImportError, match="engine is vllm, which needs the package vllm, which is not installed"):
        check_forecaster(spec, task)


def test_what_it_cannot_do_is_refused(vllm, folder):
    with pytest.raises(ValueError, match="samples without the grammar of numbers; set constrained: false"):
        make(folder, options=SamplingOptions(), style="numbers")
    model, tokenizer = load_served_model(folder)
    with pytest.raises(ValueError, match="samples without the grammar of numbers"):
        sample_completions(model, tokenizer, ["1"], 1, NumberCodec(digits=2, separator=","))
    for given, message in (
        ({"engine": "vlm", "constrained": False}, "engine is 'vlm'; choose transformers or vllm"),
        ({"engine": "vllm", "constrained": True}, "set constrained: false, or leave engine out"),
        ({"engine": "vllm", "constrained": False, "adapter": "x"}, "is given no adapter here, but adapter is 'x'"),
    ):
        with pytest.raises(ValueError, match=message):
            check_engine(**given)
    assert model.device == torch.device("cpu")

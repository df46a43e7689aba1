"""Thought and answer: what is read, what is asked for, and that no thought knows the future."""

import doctest
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import DynamicCache

from tests.fixtures.series import write_series_csv
from tsllm.forecasting.text import TextForecaster
from tsllm.rl.rewards import build_reward
from tsllm.text import reasoning
from tsllm.text.codec import NumberCodec, ParseFailure
from tsllm.text.generate import SamplingOptions, sample_completions
from tsllm.text.reasoning import (
    ReasoningCodec,
    ReasoningPrompt,
    build_prompt,
    find_chat_frame,
    split_reasoning,
    write_rationale,
)
from tsllm.training.args import ArgumentsError
from tsllm.training.text.rewards import TextReward, ThoughtBudget
from tsllm.training.text.supervised import TextModelArguments

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
HISTORY = np.array([10.0, 20, 30, 20, 12, 22, 32, 22])


def test_docstrings():
    assert doctest.testmod(reasoning).failed == 0


@pytest.mark.parametrize(
    ("text", "thought", "answer"),
    [
        ("<think>up\nand down</think>\n<answer>1\n2</answer>", "up\nand down", "1\n2"),
        ("  <think></think><answer>3</answer>  ", "", "3"),
        ("up</think><answer>1</answer>", "up", "1"),  # the template had opened the thought
        ("<think>a</think><answer>1</answer> bye", "a", None),
        ("so <think>a</think><answer>1</answer>", None, None),
        ("<think>a</think><think>b</think><answer>1</answer>", "a", None),
        ("<think>a</think><answer>1</answer><answer>2</answer>", "a", None),
        ("<think>a <answer>1</answer></think><answer>2</answer>", "a <answer>1</answer>", None),
        ("<think>never ends", None, None),
        ("<think>a</think><answer>never ends", "a", None),
        ("", None, None),
    ],
)
def test_a_completion_is_split_strictly(text, thought, answer):
    found = split_reasoning(text)
    assert (found.thought, found.answer) == (thought, answer)


def test_numbers_are_read_from_the_answer_alone():
    codec = ReasoningCodec(digits=2, thought_words=5)
    scale = codec.fit(HISTORY)
    answer = NumberCodec(digits=2).encode([15.0, 25.0], scale)
    found = codec.decode(f"<think>1 2 3</think><answer>{answer}</answer>", 2, scale)
    np.testing.assert_allclose(found.values, [15.0, 25.0], atol=scale.resolution / 2)
    assert codec.decode(answer, 2, scale).failure is ParseFailure.NO_THOUGHT
    assert codec.decode(f"<think>x</think>{answer}", 2, scale).failure is ParseFailure.NO_ANSWER
    more = codec.decode(f"<think>x</think><answer>{answer}\n7</answer>", 2, scale, allow_extra=True)
    assert more.failure is ParseFailure.TOO_LONG


def test_a_chat_template_frames_the_request(tokenizer):
    assert find_chat_frame(tokenizer) == ("", "")
    tokenizer.chat_template = TEMPLATE
    try:
        prompt = build_prompt(NumberCodec(digits=2), tokenizer, "Prices.", 4, 20)
        assert isinstance(prompt, ReasoningPrompt)
        text = prompt.build(HISTORY, 2, prompt.codec.fit(HISTORY))
        assert text.startswith("<|user|>Prices.\nContinue the series by 2 numbers, season 4 steps.\nHistory:\n")
        assert text.endswith(
            "First think between <think> and </think>, in at most 20 words. "
            "Then write the 2 numbers, and nothing else, between <answer> and </answer>.\n<|end|><|assistant|>"
        )
        tokenizer.chat_template = TEMPLATE.replace("m['content']", "m['content'] | upper")
        with pytest.raises(ValueError, match="changes the user's message"):
            find_chat_frame(tokenizer)
    finally:
        tokenizer.chat_template = None


def test_a_warm_up_answer_parses_back_and_its_thought_never_sees_the_future(tokenizer):
    prompt = build_prompt(NumberCodec(digits=3), tokenizer, "", 4, 60)
    scale = prompt.codec.fit(HISTORY)
    texts = [prompt.build_completion(future, scale, HISTORY) for future in ([14.0, 24.0], [99.0, -5.0])]
    thoughts = [split_reasoning(text) for text in texts]
    assert thoughts[0].thought == thoughts[1].thought
    for text, future in zip(texts, ([14.0, 24.0], [99.0, -5.0]), strict=True):
        found = prompt.codec.decode(text, 2, scale)
        np.testing.assert_allclose(found.values, future, atol=scale.resolution / 2)
    short = build_prompt(NumberCodec(digits=3), tokenizer, "", 4, 7)
    assert split_reasoning(short.build_completion([1.0, 2.0], scale, HISTORY)).num_words == 7
    opened = ReasoningPrompt(prompt.codec, after="<|assistant|><think>\n")
    assert not opened.build_completion([1.0], scale, HISTORY).startswith("<think>")
    assert prompt.codec.decode(opened.build_completion([14.0], scale, HISTORY), 1, scale).values is not None


def test_a_rationale_says_what_the_history_shows():
    scale = SimpleNamespace(offset=0.0, resolution=1.0)
    assert write_rationale(HISTORY, scale, 4) == (
        "The last season of 4 steps runs from 12 to 32, with mean 22. Its peak stands at step 3, its low at step 1. "
        "The mean is 2 higher than in the one before. I carry the shape of the last season on from the last value, 22."
    )
    gaps = HISTORY.copy()
    gaps[[1, 7]] = np.nan
    text = write_rationale(gaps, scale, 0)
    assert "2 values are missing." in text
    assert text.endswith("I carry the last level on from the last value, 32.")
    assert "is not known" in write_rationale([1.0, 2.0, np.nan, np.nan], scale, 2)


def test_thoughts_beyond_their_budget_cost_and_both_parts_are_logged():
    budget = ThoughtBudget(4)
    texts = ["<think>a b c</think><answer>1</answer>", "<think>a b c d e f</think>", "<think>" + "w " * 40, ""]
    assert budget(texts) == [0.0, -0.5, -1.0, 0.0]
    codec = ReasoningCodec(digits=2, thought_words=4)
    extra, metrics = {}, {}
    reward = TextReward(build_reward("format"), codec, 1, 50, "task", 2)
    found = reward(
        ["p"] * 4, texts, [[1]] * 4, history=[HISTORY.tolist()] * 4, target=[[5.0]] * 4,
        log_extra=extra.__setitem__, log_metric=metrics.__setitem__,
    )  # fmt: skip
    assert found == [1.0, 0.0, 0.0, 0.0]
    assert extra == {"thought": ["a b c", "a b c d e f", "", ""], "answer": ["1", "", "", ""]}
    assert metrics == {"thought/words": 2.25, "thought/ended": 0.5, "thought/answered": 0.25}


class Scripted:
    """A causal language model that writes one text whatever it reads."""

    def __init__(self, tokenizer, text):
        self.ids = [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
        self.vocabulary, self.written = len(tokenizer), 0
        self.device, self.config = torch.device("cpu"), SimpleNamespace(max_position_embeddings=4096)

    def __call__(self, input_ids, **options):
        logits = torch.full((len(input_ids), 1, self.vocabulary), -1e4)
        logits[..., self.ids[min(self.written, len(self.ids) - 1)]] = 0.0
        self.written += 1
        return SimpleNamespace(logits=logits, past_key_values=DynamicCache())


def test_separators_inside_a_thought_do_not_end_a_completion(tokenizer):
    text = "<think>a\nb\nc\nd</think>\n<answer>3\n4</answer>"
    codec, options = ReasoningCodec(digits=2, thought_words=10), SamplingOptions(constrained=False)
    (found,) = sample_completions(Scripted(tokenizer, text), tokenizer, ["p"], 2, codec, 2, options)
    assert found == [text, text]
    (plain,) = sample_completions(Scripted(tokenizer, text), tokenizer, ["p"], 2, NumberCodec(digits=2), 1, options)
    assert len(plain[0]) < len(text)
    with pytest.raises(ValueError, match="no grammar of numbers"):
        sample_completions(Scripted(tokenizer, text), tokenizer, ["p"], 2, codec, 1, SamplingOptions())


def test_thoughts_and_grammar_exclude_each_other(tokenizer):
    with pytest.raises(ArgumentsError, match="constrained: false"):
        TextModelArguments(thought_words=10)
    with pytest.raises(ValueError, match="constrained: false"):
        TextForecaster(Scripted(tokenizer, "1"), tokenizer, h=2, thought_words=10)


@pytest.mark.slow  # two short runs of TRL
def test_warm_up_and_reward_optimisation_run_on_a_tiny_model(language_model, tokenizer, tmp_path):
    from tsllm.programs.text import run_text
    from tsllm.programs.text_policy import run_text_policy
    from tsllm.training.args import DataArguments
    from tsllm.training.text.policy import TextPolicyArguments
    from tsllm.training.text.supervised import TextTrainingArguments

    if language_model.config.model_type != "llama":
        pytest.skip("one architecture is enough")
    tokenizer.chat_template = TEMPLATE
    try:
        language_model.config.max_position_embeddings = 2048
        language_model.save_pretrained(tmp_path / "llm")
        tokenizer.save_pretrained(tmp_path / "llm")
    finally:
        tokenizer.chat_template = None
    csv = write_series_csv(tmp_path / "series.csv")
    data = DataArguments(dataset=str(csv), context_length=12, prediction_length=2, train_stride=20)
    options = {"digits": 1, "lora_r": 2, "num_samples": 2, "thought_words": 10, "constrained": False}
    common = {"use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "max_steps": 2, "test_windows": 1}
    model = TextModelArguments(language_model=str(tmp_path / "llm"), lora_target_modules="all-linear", **options)
    warm = TextTrainingArguments(output_dir=str(tmp_path / "warm"), learning_rate=1e-2, **common)
    losses = run_text(model, data, warm)["loss"]
    assert all(np.isfinite(losses))
    forecaster = TextForecaster.from_pretrained(tmp_path / "warm")
    assert isinstance(forecaster.prompt, ReasoningPrompt)
    assert forecaster.prompt.before == "<|user|>"
    assert forecaster.thought_words == 10
    tuned = TextModelArguments(adapter=str(tmp_path / "warm"), **options)
    policy = TextPolicyArguments(
        output_dir=str(tmp_path / "policy"), num_generations=2, per_device_train_batch_size=2, beta=0.0,
        max_completion_length=40, reward=["mae", "format"], **common,
    )  # fmt: skip
    content = run_text_policy(tuned, data, policy)
    assert len(content["rewards"]) == 2

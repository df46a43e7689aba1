"""Text GRPO and DAPO with tiny language models: rewards rise, groups are refilled, positions are counted right."""

import copy
import functools

import numpy as np
import pytest
import torch
from datasets import Dataset

from tests.text.conftest import language_model, tokenizer  # noqa: F401
from tsllm.programs.text_policy import train_text_policy
from tsllm.rl.rewards import build_reward
from tsllm.text.codec import NumberCodec
from tsllm.text.grammar import NumberGrammar
from tsllm.training.args import ArgumentsError
from tsllm.training.text.policy import (
    TextPolicyArguments,
    add_position_ids,
    constrained_generation,
    fill_groups,
)
from tsllm.training.text.rewards import TextReward, find_groups
from tsllm.training.text.supervised import TextModelArguments


def make_arguments(folder, **options):
    values = {
        "output_dir": str(folder), "max_steps": 12, "per_device_train_batch_size": 32, "num_generations": 16,
        "max_completion_length": 4, "learning_rate": 3e-2, "use_cpu": True, "disable_tqdm": True,
        "constrained": True, "overlong_cache": 0, "reward": {"name": "mae", "bound": 5.0},
    }  # fmt: skip
    return TextPolicyArguments(**(values | options))


def make_rows(codec):
    """Windows whose truth is always the top of the history's range."""
    rows = []
    for k in range(24):
        history = [0.0, 4.0 + k % 3, 8.0, 2.0]
        rows.append({"prompt": f"History {k % 7}:\n", "history": history, "target": [8.0]})
    return Dataset.from_list(rows)


@pytest.mark.slow  # three short runs of TRL
@pytest.mark.parametrize("algorithm", ["grpo", "dapo"])
def test_reward_rises_beyond_the_noise_of_three_seeds(algorithm, language_model, tokenizer, tmp_path):  # noqa: F811
    codec = NumberCodec(digits=1)
    first, last = [], []
    for seed in range(3):
        arguments = make_arguments(tmp_path, algorithm=algorithm, seed=seed)
        model_arguments = TextModelArguments(lora_r=4, lora_alpha=8, digits=1)
        trainer = train_text_policy(
            copy.deepcopy(language_model), tokenizer, make_rows(codec), codec, 1, model_arguments, arguments
        )
        rewards = [entry["rewards/task/mean"] for entry in trainer.state.log_history if "reward" in entry]
        first.append(np.mean(rewards[:3]))
        last.append(np.mean(rewards[-3:]))
    gain = np.subtract(last, first)
    assert gain.mean() > 2 * gain.std(ddof=1) / 3**0.5
    assert gain.min() > 0


def test_padded_prompts_score_as_they_were_sampled(language_model, tokenizer):  # noqa: F811
    """Left padding must not change the log-probabilities of a short prompt, also with absolute positions."""
    add_position_ids(language_model)
    try:
        short = torch.tensor([[5, 9, 12, 7]])
        padded = torch.cat([torch.full((1, 6), tokenizer.eos_token_id), short], 1)
        mask = torch.tensor([[0] * 6 + [1] * 4])
        with torch.no_grad():
            alone = language_model(short, attention_mask=torch.ones_like(short)).logits
            among = language_model(input_ids=padded, attention_mask=mask).logits[:, 6:]
        torch.testing.assert_close(alone, among, atol=1e-5, rtol=1e-5)
    finally:
        base = language_model.base_model
        base._forward_pre_hooks.clear()
        base._forward_pre_hooks_with_kwargs.clear()


def test_constrained_rollouts_always_parse(language_model, tokenizer):  # noqa: F811
    codec = NumberCodec(digits=2)
    grammar = NumberGrammar(tokenizer, codec, 3)
    prompt = torch.tensor(tokenizer(["a b", "c d"])["input_ids"])
    torch.manual_seed(0)
    with constrained_generation(language_model, grammar):
        found = language_model.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=True, max_new_tokens=20,
            pad_token_id=tokenizer.eos_token_id, num_return_sequences=8,
        )  # fmt: skip
    scale = codec.fit([0.0, 10.0])
    for row in found[:, prompt.shape[1] :]:
        assert codec.decode(tokenizer.decode(row, skip_special_tokens=True), 3, scale).values is not None
    assert "generate" not in vars(language_model)


def test_constrained_rollouts_leave_generate_as_it_was(language_model, tokenizer):  # noqa: F811
    codec = NumberCodec(digits=2)
    model = copy.deepcopy(language_model)
    with constrained_generation(model, NumberGrammar(tokenizer, codec, 3)):
        assert "generate" in vars(model)
    assert "generate" not in vars(model)
    own = model.generate = functools.partial(language_model.generate)  # as FSDP puts one there
    with constrained_generation(model, NumberGrammar(tokenizer, codec, 3)):
        assert model.generate is not own
    assert model.generate is own


def test_text_rewards_score_groups_and_survive_bad_text():
    codec = NumberCodec(digits=3)
    history = [0.0, 10.0, 0.0, 10.0]
    scale = codec.fit(history)
    good = codec.encode([5.0, 5.0], scale)
    texts = [good, codec.encode([9.0, 9.0], scale), "", "what?", codec.encode([5.0], scale), good + "\n1\n2"]
    columns = {"history": [history] * 6, "target": [[5.0, 5.0]] * 6}
    arguments = (["p"] * 6, texts, [[1] * len(t) for t in texts])
    scores = TextReward(build_reward("mae"), codec, 1, 50, "task")(*arguments, **columns, trainer_state=None)
    assert scores[0] == pytest.approx(0.0, abs=0.01)
    assert scores[1] == pytest.approx(-4.0 / 5.0, abs=0.02)
    assert scores[2:] == [-50.0] * 4
    assert TextReward(build_reward("length"), codec, 1, 50, "task")(*arguments, **columns) == [1, 1, 0, 0, 0.5, 0.5]
    assert TextReward(build_reward("format"), codec, 1, 50, "task")(*arguments, **columns) == [1, 1, 0, 0, 0, 0]


def test_groups_are_neighbours_and_a_window_may_follow_itself():
    assert find_groups(["a", "a", "b", "b"], [[1]] * 4) == [[0, 1], [2, 3]]
    assert find_groups(["a"] * 4 + ["b"] * 2, [[1]] * 6) == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(ValueError, match="multiple of num_generations"):
        find_groups(["a", "a", "a", "b", "b"], [[1]] * 5)


def test_flat_groups_are_filled_from_fresh_ones_with_padding_on_the_right_sides():
    output = {
        "prompt_ids": torch.tensor([[1, 2]] * 4), "prompt_mask": torch.ones(4, 2),
        "completion_ids": torch.tensor([[3]] * 4), "completion_mask": torch.ones(4, 1),
        "advantages": torch.tensor([1.0, -1.0, 0.0, 0.0]), "num_items_in_batch": torch.tensor(4),
    }  # fmt: skip
    fresh = {
        "prompt_ids": torch.tensor([[7]] * 4), "prompt_mask": torch.ones(4, 1),
        "completion_ids": torch.tensor([[8, 9]] * 4), "completion_mask": torch.ones(4, 2),
        "advantages": torch.tensor([2.0, -2.0, 3.0, -3.0]), "num_items_in_batch": torch.tensor(8),
    }  # fmt: skip
    kept = torch.tensor([True, True, False, False])
    merged, now = fill_groups(output, kept, fresh, torch.tensor([False, False, True, True]), pad_id=0)
    assert now.all()
    assert merged["advantages"].tolist() == [1.0, -1.0, 3.0, -3.0]
    assert merged["prompt_ids"].tolist() == [[1, 2], [1, 2], [0, 7], [0, 7]]
    assert merged["completion_ids"].tolist() == [[3, 0], [3, 0], [8, 9], [8, 9]]
    assert merged["completion_mask"].tolist() == [[1, 0], [1, 0], [1, 1], [1, 1]]


def test_groups_that_stay_flat_are_masked(language_model, tokenizer, tmp_path):  # noqa: F811
    codec = NumberCodec(digits=1)
    arguments = make_arguments(tmp_path, algorithm="dapo", reward="format", max_steps=2, max_refills=1)
    trainer = train_text_policy(
        language_model, tokenizer, make_rows(codec), codec, 1, TextModelArguments(lora_r=4), arguments
    )
    log = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert [entry["dynamic_sampling/masked"] for entry in log] == [1.0, 1.0]  # constrained answers are all valid
    assert all(entry["grad_norm"] == 0.0 for entry in trainer.state.log_history if "grad_norm" in entry)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"algorithm": "dapo", "beta": 0.1}, "published"),
        ({"algorithm": "grpo", "loss_type": "dapo"}, "published"),
        ({"algorithm": "grpo", "epsilon_high": 0.28}, "published"),
        ({"algorithm": "ppo"}, "choose one"),
        ({"per_device_train_batch_size": 24}, "multiple of num_generations"),
    ],
)
def test_settings_that_contradict_the_algorithm_are_refused(tmp_path, options, match):
    with pytest.raises(ArgumentsError, match=match):
        make_arguments(tmp_path, **options)


def test_algorithms_carry_their_published_settings(tmp_path):
    grpo, dapo = (make_arguments(tmp_path, algorithm=name, overlong_cache=2) for name in ("grpo", "dapo"))
    assert (grpo.loss_type, grpo.beta, grpo.epsilon, grpo.epsilon_high) == ("grpo", 0.04, 0.2, 0.2)
    assert (dapo.loss_type, dapo.beta, dapo.epsilon, dapo.epsilon_high) == ("dapo", 0.0, 0.2, 0.28)
    assert dapo.mask_truncated_completions
    assert not grpo.mask_truncated_completions
    assert list(dapo.build_rewards()) == ["task", "overlong"]

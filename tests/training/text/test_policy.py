"""Text GRPO and DAPO with tiny language models: rewards rise, groups are refilled, positions are counted right."""

import copy
import functools
import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from trl import GRPOTrainer

from tests.text.conftest import language_model, tokenizer  # noqa: F401
from tsllm.programs.text_policy import train_text_policy
from tsllm.rl.rewards import build_reward
from tsllm.text.codec import NumberCodec
from tsllm.text.grammar import NumberGrammar
from tsllm.text.prompt import TextPrompt
from tsllm.training.args import ArgumentsError
from tsllm.training.text.data import TextWindows
from tsllm.training.text.policy import (
    TextPolicyArguments,
    TextPolicyTrainer,
    add_position_ids,
    constrained_generation,
    fill_groups,
)
from tsllm.training.text.rewards import TextReward, build_reward_rows, find_groups
from tsllm.training.text.supervised import TextModelArguments, build_lora


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
            copy.deepcopy(language_model), tokenizer, make_rows(codec), codec, 1, 1, model_arguments, arguments
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
    scores = TextReward(build_reward("mae"), codec, 1, 50, "task", 6)(*arguments, **columns, trainer_state=None)
    assert scores[0] == pytest.approx(0.0, abs=0.01)
    assert scores[1] == pytest.approx(-4.0 / 5.0, abs=0.02)
    assert scores[2:] == [-50.0] * 4
    assert TextReward(build_reward("length"), codec, 1, 50, "task", 6)(*arguments, **columns) == [1, 1, 0, 0, 0.5, 0.5]
    assert TextReward(build_reward("format"), codec, 1, 50, "task", 6)(*arguments, **columns) == [1, 1, 0, 0, 0, 0]


def test_groups_are_the_trainers_repetition():
    assert find_groups(6, 2) == [range(0, 2), range(2, 4), range(4, 6)]
    with pytest.raises(ValueError, match="5 completions on this process are no whole groups of 2"):
        find_groups(5, 2)


def test_windows_with_equal_texts_stay_apart_and_gaps_split_no_group():
    """A history with gaps is not equal to itself, and equal histories may go on differently."""
    codec, gap = NumberCodec(digits=3), float("nan")
    histories = [[0.0, 10.0, gap, 10.0]] * 2 + [[0.0, 10.0, 0.0, 10.0]] * 4
    targets = [[5.0]] * 2 + [[5.0]] * 2 + [[9.0]] * 2
    texts = [codec.encode([y], codec.fit(h)) for y, h in zip([5.0, 7.0, 5.0, 9.0, 5.0, 9.0], histories, strict=True)]
    reward = TextReward(build_reward("energy"), codec, 1, 50, "task", 2)
    found = reward(["p"] * 6, texts, [[1]] * 6, history=histories, target=targets)
    # Naive error 10: of a pair a and b, one earns (|a - b| - |a - y|) / 10.
    assert found == pytest.approx([0.2, 0.0, 0.4, 0.0, 0.0, 0.4], abs=0.01)


def ask_for_facts(samples, target, history, season, *, unique_id, ds, cutoff, covariates, scale):
    """Pays for the facts alone, so that a test can read them."""
    holiday = covariates["holiday"][:, -target.shape[1] :].sum(1)
    hour = torch.tensor([int(str(row[0])[11:13]) for row in ds])
    assert all(c < row[0] for c, row in zip(cutoff, ds, strict=True))
    south = torch.tensor([float(name == "south") for name in unique_id])
    return (100 * south + hour + 1000 * holiday)[:, None] + 0 * samples[..., 0] + 0 * scale[:, None]


def test_text_rewards_are_told_the_facts_of_their_windows():
    frame = pd.concat(
        pd.DataFrame({
            "unique_id": name, "ds": pd.date_range("2024-01-01", periods=40, freq="h"),
            "y": np.arange(40.0), "holiday": (np.arange(40) >= 24) * 1.0,
        })
        for name in ("north", "south")
    )  # fmt: skip
    windows = TextWindows(TextPrompt(NumberCodec(digits=2)), 12, 2, stride=13, covariates=("holiday",))
    rows = Dataset.from_list([row for row in build_reward_rows(frame, windows) for _ in range(2)])
    spec = {"name": "tests.training.text.test_policy:ask_for_facts", "low": -1.0, "high": 1e4}
    reward = TextReward(build_reward(spec), windows.prompt.codec, 1, 50, "task", 2)
    columns = {name: rows[name] for name in rows.column_names if name != "prompt"}
    columns_of = (rows["target"], rows["history"])
    texts = [windows.prompt.codec.encode(y, windows.prompt.codec.fit(h)) for y, h in zip(*columns_of, strict=True)]
    found = reward(rows["prompt"], texts, [[1]] * len(rows), **columns)
    # Windows begin at 0, 13 and 26, so that the horizon begins at 12, 25 and 38.
    north = [12.0, 2000.0 + 1, 2000.0 + 14]
    expected = [v for series in (north, [v + 100 for v in north]) for v in series for _ in range(2)]
    assert found == pytest.approx(expected)


def enumerate_completions(max_digits):
    """All texts of one number, as tokens of single characters."""
    for sign in ("", "-"):
        for length in range(1, max_digits + 1):
            for digits in itertools.product("0123456789", repeat=length):
                yield sign + "".join(digits)


def test_constrained_log_probabilities_are_those_of_brute_force(language_model, tokenizer, tmp_path):  # noqa: F811
    """Over all texts that the grammar allows, probabilities sum to 1 and are products of renormalised softmaxes."""
    codec = NumberCodec(digits=1)
    arguments = make_arguments(tmp_path, temperature=0.7)
    trainer = TextPolicyTrainer(
        grammar=NumberGrammar(tokenizer, codec, 1), model=copy.deepcopy(language_model), args=arguments,
        reward_funcs=[lambda completions, **_: [0.0] * len(completions)], train_dataset=make_rows(codec),
        processing_class=tokenizer, peft_config=build_lora(TextModelArguments(lora_r=2)),
    )  # fmt: skip
    texts = list(enumerate_completions(2))
    assert len(texts) == 220
    prompt = tokenizer("History:\n")["input_ids"]
    rows = [prompt + tokenizer(text)["input_ids"] + [tokenizer.eos_token_id] for text in texts]
    width = max(map(len, rows)) + 1
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    ids = torch.tensor([row + [tokenizer.eos_token_id] * (width - len(row)) for row in rows])
    keep = width - len(prompt)
    with torch.no_grad():
        found, entropy, _ = trainer._get_per_token_logps_and_entropies(
            trainer.model, ids, mask, keep, batch_size=50, compute_entropy=True
        )
        logits = trainer.model(input_ids=ids, attention_mask=mask).logits / 0.7
    total = (found * mask[:, -keep:]).sum(1)
    assert float(total.exp().sum()) == pytest.approx(1.0, abs=1e-5)
    digits = {c: tokenizer(c)["input_ids"][0] for c in "0123456789-"}
    for k in (0, 5, 10, 73, 110, 118, 219):
        text, expected = texts[k], 0.0
        for step in range(len(text) + 1):
            written = text[:step].lstrip("-")
            allowed = [digits[c] for c in "0123456789"] if len(written) < 2 else []
            allowed += [digits["-"]] if step == 0 else []
            allowed += [tokenizer.eos_token_id] if written else []
            scores = logits[k, len(prompt) + step - 1]
            token = int(ids[k, len(prompt) + step])
            here = scores[allowed].log_softmax(0)
            expected += float(here[allowed.index(token)])
            assert float(entropy[k, step]) == pytest.approx(float(-(here.exp() * here).sum()), abs=1e-4)
        assert float(total[k]) == pytest.approx(expected, abs=1e-4)
    free, _, _ = GRPOTrainer._get_per_token_logps_and_entropies(trainer, trainer.model, ids, mask, keep)
    assert float((free.detach() * mask[:, -keep:]).sum(1).exp().sum()) < 0.5  # the free model gives most elsewhere


def test_completions_from_outside_the_grammar_are_refused(tokenizer):  # noqa: F811
    grammar = NumberGrammar(tokenizer, NumberCodec(digits=1), 2)
    good = torch.tensor([[*tokenizer("3\n-4")["input_ids"], tokenizer.eos_token_id, 7]])
    allowed, taken, live = grammar.trace(good)
    assert live.tolist() == [[True] * 5 + [False]]
    assert grammar.ids[taken[0, :5]].tolist() == good[0, :5].tolist()
    assert not allowed[0, 0, -1]  # no end before the second number
    with pytest.raises(ValueError, match=r"completion 0 takes token .* at step 1, which the grammar does not allow"):
        grammar.trace(torch.tensor([tokenizer("3x")["input_ids"]]))


def test_a_text_run_without_any_gradient_stops_with_the_reason(language_model, tokenizer, tmp_path):  # noqa: F811
    codec = NumberCodec(digits=1)
    arguments = make_arguments(
        tmp_path, reward="format", max_steps=30, beta=0.0, num_generations=2, per_device_train_batch_size=2
    )
    with pytest.raises(RuntimeError, match=r"nothing was learned in 10 steps: in all 10 groups .*\(1 to 1\)"):
        train_text_policy(
            copy.deepcopy(language_model),
            tokenizer,
            make_rows(codec),
            codec,
            1,
            1,
            TextModelArguments(lora_r=4),
            arguments,
        )


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
        language_model, tokenizer, make_rows(codec), codec, 1, 1, TextModelArguments(lora_r=4), arguments
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
        ({"use_vllm": True}, "constrained rollouts follow"),
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

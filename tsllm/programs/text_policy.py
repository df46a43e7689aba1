"""One run of reward optimisation on text: data, starting point, training, test, files."""

import logging
import time
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import PeftModel
from transformers import set_seed

from tsllm.programs.artefacts import writing
from tsllm.programs.text import TEXT_OWNED, TextProgram, prepare_text
from tsllm.rl.dry_run import DryRun, draw_forecasts, judge_reward
from tsllm.rl.rewards import Completions
from tsllm.text.grammar import NumberGrammar, TokenGrammar
from tsllm.text.loading import read_commit
from tsllm.text.reasoning import ReasoningCodec
from tsllm.training.args import ArgumentsError, DataArguments
from tsllm.training.text.effects import GAIN, build_gain, names_gain
from tsllm.training.text.policy import TextPolicyArguments, TextPolicyTrainer
from tsllm.training.text.rewards import TextReward, ThoughtBudget, build_reward_rows
from tsllm.training.text.supervised import TextModelArguments, build_lora, save_adapter

logger = logging.getLogger(__name__)

TRIED = 16  # windows that a reward is tried on


def run_text_policy(
    model_args: TextModelArguments, data_args: DataArguments, args: TextPolicyArguments
) -> dict[str, Any]:
    """Optimises a reward of text forecasts, tests before and after on the same windows, and writes the adapter.

    Returns:
        The content of `metrics.json`.

    Raises:
        ArgumentsError: If the split leaves no training window, or what is written and the reward do not go together.
    """
    if (model_args.writes == "effects") != names_gain(args.reward):
        raise ArgumentsError(
            f"writes is {model_args.writes!r} and reward {args.reward!r}; effects and {GAIN} belong together"
        )
    if model_args.writes == "effects":
        from tsllm.programs.text_effects import run_effects

        return run_effects(model_args, data_args, args, build_gain(args.reward), train_on_rewards)
    program = prepare_text(model_args, data_args, args, check=lambda program: try_reward(program, args))
    forecaster = program.forecaster
    model, tokenizer, codec = forecaster.model, forecaster.tokenizer, forecaster.prompt.codec
    dataset = build_dataset(program, args)
    began = time.monotonic()
    trainer = train_text_policy(model, tokenizer, dataset, codec, forecaster.h, program.season, model_args, args)
    seconds = time.monotonic() - began
    with writing(trainer, TEXT_OWNED) as folder:
        save_adapter(trainer, tokenizer, folder)
        program.take_over(trainer, folder)
        program.test("test")
        log = [entry for entry in trainer.state.log_history if "reward" in entry]
        content = program.describe(trainer, model_args, seconds) | {
            "algorithm": args.algorithm,
            "reward": args.reward,
            "rewards": [entry["rewards/task/mean"] for entry in log],
        }
        program.write(trainer, content, folder, f"{args.algorithm}_text")
    return content


def try_reward(program: TextProgram, args: TextPolicyArguments) -> DryRun:
    """Tries the task's reward on completions of training windows, before anything is tested or trained.

    In each group one completion cannot be read and one is too short, as an untrained model writes them.

    Raises:
        RewardError: If the reward raises, or nothing can be learned from it.
    """
    forecaster = program.forecaster
    codec, tokenizer, horizon = forecaster.prompt.codec, forecaster.tokenizer, forecaster.h
    rows = list(build_reward_rows(program.splits.train, program.windows))
    rows = [rows[k] for k in np.linspace(0, len(rows) - 1, min(len(rows), TRIED)).round().astype(int)]
    if not rows:
        raise ArgumentsError("the training part holds no complete window; shorten context_length or the horizon")
    group, limit = args.num_generations or 2, args.max_completion_length or 0
    reward = args.build_rewards()["task"][1]
    season = program.season
    function = TextReward(reward, codec, season, limit, "task", group)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    target, history = (torch.tensor(columns[name], dtype=torch.float64) for name in ("target", "history"))
    drawn = draw_forecasts(history, horizon, season, group, torch.Generator().manual_seed(args.seed))  # [R, G, H]
    samples, counts, tokens = drawn.clone(), torch.full(drawn.shape[:2], horizon), torch.zeros(drawn.shape[:2])
    for k, past in enumerate(history.numpy()):
        scale = codec.fit(past)
        for j in range(group):
            text = codec.encode(drawn[k, j].numpy(), scale)
            text = f"<think></think><answer>{text}</answer>" if codec.thought_tokens else text
            samples[k, j] = torch.from_numpy(codec.decode(text, horizon, scale).values)
            tokens[k, j] = len(tokenizer(text, add_special_tokens=False)["input_ids"]) + 1
    broken = min(2, group - 1)
    samples[:, :broken], counts[:, 0], counts[:, 1:broken] = torch.nan, 0, horizon - 1
    found = judge_reward(
        reward,
        samples,
        target,
        history,
        season,
        completions=Completions(counts, tokens.long(), limit),
        known=function.find_known(columns, range(len(rows))),
        scale_rewards=str(args.scale_rewards) not in ("none", "False"),
    )
    logger.warning(found.summary())
    for warning in found.warnings:
        logger.warning(warning)
    return found.check()


def build_dataset(program: TextProgram, args: TextPolicyArguments) -> Dataset:
    """Returns the prompts of the training part with what their rewards need, `max_windows` of them at most.

    Raises:
        ArgumentsError: If the split leaves no training window.
    """
    dataset = Dataset.from_list(list(build_reward_rows(program.splits.train, program.windows)))
    if not len(dataset):
        raise ArgumentsError("the training part holds no complete window; shorten context_length or the horizon")
    if args.max_windows and len(dataset) > args.max_windows:
        generator = np.random.default_rng(args.seed)
        dataset = dataset.select(np.sort(generator.choice(len(dataset), args.max_windows, replace=False)))
    return dataset


def train_text_policy(
    model: Any,
    tokenizer: Any,
    dataset: Dataset,
    codec: Any,
    horizon: int,
    season: int,
    model_args: TextModelArguments,
    args: TextPolicyArguments,
) -> TextPolicyTrainer:
    """Trains LoRA on the rewards of completions.

    Args:
        model: A causal language model, plain or with an adapter that is trained further.
        tokenizer: Its tokenizer.
        dataset: Rows of `build_reward_rows`.
        codec: Reads numbers.
        horizon: Numbers asked for.
        season: Steps in the main season, for rewards.
        model_args: LoRA's options.
        args: Algorithm and reward.
    """
    weighted = args.build_rewards()
    functions: list[Any] = [
        TextReward(reward, codec, season, args.max_completion_length or 0, name, args.num_generations or 1)
        for name, (_, reward) in weighted.items()
    ]
    weights = [weight for weight, _ in weighted.values()]
    if isinstance(codec, ReasoningCodec) and args.thought_weight:
        functions.append(ThoughtBudget(codec.thought_words))
        weights.append(args.thought_weight)
    args.reward_weights = weights
    grammar = NumberGrammar(tokenizer, codec, horizon) if args.constrained else None
    return train_on_rewards(model, tokenizer, dataset, functions, model_args, args, grammar)


def train_on_rewards(
    model: Any, tokenizer: Any, dataset: Dataset, functions: list[Any], model_args: TextModelArguments,
    args: TextPolicyArguments, grammar: TokenGrammar | None = None,
) -> TextPolicyTrainer:  # fmt: skip
    """Trains LoRA, fresh or that which the model carries, on rewards of completions.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        dataset: Rows with `prompt` and what the rewards read.
        functions: Rewards as TRL calls them, the task's first.
        model_args: LoRA's options.
        args: Of the algorithm.
        grammar: Restricts rollouts; None = free.
    """
    set_seed(args.seed)
    fresh = not isinstance(model, PeftModel)
    if not fresh:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("lora_" in name)
    trainer = TextPolicyTrainer(
        grammar=grammar,
        model=model,
        args=args,
        reward_funcs=functions,
        train_dataset=dataset,
        processing_class=tokenizer,
        peft_config=build_lora(model_args, read_commit(model)) if fresh else None,
    )
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    return trainer

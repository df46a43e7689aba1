"""One run of reward optimisation on text: data, starting point, training, test, files."""

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from peft import PeftModel
from transformers import set_seed

from tsllm.data.sources import load_frame
from tsllm.data.splits import split_frame
from tsllm.text.grammar import NumberGrammar
from tsllm.text.loading import load_language_model, read_commit
from tsllm.training.args import ArgumentsError, DataArguments
from tsllm.training.artefacts import HISTORY_FILE, count_parameters, describe_environment, write_json
from tsllm.training.data import build_split, describe_frame, find_lengths
from tsllm.training.text_data import TextWindows
from tsllm.training.text_rewards import TextReward, build_reward_rows
from tsllm.training.text_rl import TextPolicyArguments, TextPolicyTrainer
from tsllm.training.text_run import (
    build_forecaster,
    compare_windows,
    describe_training_part,
    evaluate_text,
    score_naive,
    write_results,
)
from tsllm.training.text_trainers import TextModelArguments, build_lora

logger = logging.getLogger(__name__)


def run_text_policy(
    model_args: TextModelArguments, data_args: DataArguments, args: TextPolicyArguments
) -> dict[str, Any]:
    """Optimises a reward of text forecasts, tests before and after on the same windows, and writes the adapter.

    Returns:
        The content of `metrics.json`.

    Raises:
        ArgumentsError: If the split leaves no training window.
    """
    covariates = list(data_args.covariates or ())
    loaded = load_frame(
        data_args.dataset,
        freq=data_args.freq,
        targets=data_args.targets,
        covariates=covariates,
        data_path=data_args.data_path,
    )
    context, horizon = find_lengths(data_args, loaded)
    splits = split_frame(loaded.df, build_split(data_args.split, loaded), context)
    model, tokenizer = load_language_model(
        model_args.language_model,
        adapter=model_args.adapter,
        revision=model_args.revision,
        device=args.device,
        load_in_4bit=model_args.load_in_4bit,
    )
    forecaster = build_forecaster(model, tokenizer, model_args, loaded, context, horizon, covariates)
    evaluates = args.test_windows > 0 and args.should_save
    results: dict[str, Any] = {}
    if evaluates and args.evaluate_start:
        results["start"] = evaluate_text(forecaster, splits.test, args.test_windows)
        logger.warning("starting point: %s", results["start"].summary)
    windows = TextWindows(forecaster.prompt, context, horizon, data_args.train_stride, tuple(covariates))
    dataset = Dataset.from_list(list(build_reward_rows(splits.train, windows)))
    if not len(dataset):
        raise ArgumentsError("the training part holds no complete window; shorten context_length or the horizon")
    if args.max_windows and len(dataset) > args.max_windows:
        generator = np.random.default_rng(args.seed)
        dataset = dataset.select(np.sort(generator.choice(len(dataset), args.max_windows, replace=False)))
    began = time.monotonic()
    trainer = train_text_policy(model, tokenizer, dataset, forecaster.prompt.codec, horizon, model_args, args)
    seconds = time.monotonic() - began
    forecaster.model = trainer.accelerator.unwrap_model(trainer.model).eval()
    if evaluates:
        results["test"] = evaluate_text(forecaster, splits.test, args.test_windows)
        logger.warning("after training: %s", results["test"].summary)
    log = [entry for entry in trainer.state.log_history if "reward" in entry]
    content: dict[str, Any] = {name: result.summary for name, result in results.items()}
    content |= {
        "seasonal_naive": score_naive(splits.test, context, horizon, args.test_windows, loaded) if evaluates else None,
        "scaled": False,
        "windows": results["test"].summary["windows"] if evaluates else 0,
        "seconds": round(seconds, 3),
        "steps": trainer.state.global_step,
        "learning_rate": args.learning_rate,
        "processes": args.world_size,
        "seed": args.seed,
        "algorithm": args.algorithm,
        "reward": args.reward,
        "rewards": [entry["rewards/task/mean"] for entry in log],
        "comparison": compare_windows(results) if len(results) == 2 else None,
        "language_model": model_args.language_model,
        "dataset": loaded.name,
        "data": describe_frame(loaded, splits.borders),
        "context_length": context,
        "prediction_length": horizon,
        "parameters": count_parameters(trainer.model),  # type: ignore[arg-type]
        "environment": describe_environment(),
    }
    if trainer.is_world_process_zero():
        folder = Path(str(args.output_dir))
        trainer.accelerator.unwrap_model(trainer.model).save_pretrained(str(folder))
        tokenizer.save_pretrained(str(folder))
        forecaster.data = describe_training_part(loaded.name, splits.train)
        forecaster.save(folder)
        write_results(folder, content, results)
        write_json(folder / HISTORY_FILE, trainer.state.log_history)
    return content


def train_text_policy(
    model: Any,
    tokenizer: Any,
    dataset: Dataset,
    codec: Any,
    horizon: int,
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
        model_args: LoRA's options and the season.
        args: Algorithm and reward.
    """
    set_seed(args.seed)
    weighted = args.build_rewards()
    season = model_args.season or 1
    functions = [
        TextReward(reward, codec, season, args.max_completion_length or 0, name)
        for name, (_, reward) in weighted.items()
    ]
    args.reward_weights = [weight for weight, _ in weighted.values()]
    fresh = not isinstance(model, PeftModel)
    if not fresh:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("lora_" in name)
    trainer = TextPolicyTrainer(
        grammar=NumberGrammar(tokenizer, codec, horizon) if args.constrained else None,
        model=model,
        args=args,
        reward_funcs=functions,
        train_dataset=dataset,
        processing_class=tokenizer,
        peft_config=build_lora(model_args, read_commit(model)) if fresh else None,
    )
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    return trainer

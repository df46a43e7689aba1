"""Supervised fine-tuning of a text forecaster: TRL's SFTTrainer with LoRA on prompt/answer windows."""

import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from peft import LoraConfig, PeftModel
from torch import Tensor
from transformers import set_seed
from trl import SFTConfig, SFTTrainer

from tsllm.backbones.adapters import find_public_name
from tsllm.context.events import KINDS, check_kinds
from tsllm.files import write_json
from tsllm.nn.matmul import run_fast
from tsllm.progress import quiet_bars
from tsllm.text.constrained import score_constrained
from tsllm.text.grammar import TokenGrammar
from tsllm.text.loading import (
    ADAPTER_CONFIG,
    SETTINGS,
    fetch_folder,
    load_language_model,
    read_base_model,
    read_commit,
)
from tsllm.training.args import ArgumentsError
from tsllm.training.text.data import TextWindows, build_text_dataset, score_rows, select_hard_cases

FOCUSES = ("all", "hard_cases")
WRITES = ("numbers", "effects")
_SHUFFLE_BUFFER = 10_000


@dataclass
class TextModelArguments:
    """Which language model is fine-tuned and how it writes numbers.

    Attributes:
        language_model: A packaged name (`smollm2-135m`), a folder or a Hub id; None = the adapter's base model, or
            `smollm2-135m`.
        revision: Branch, tag or commit of a Hub repository.
        adapter: A LoRA adapter to go on from.
        load_in_4bit: Pack the language model into four bits (extra `quantization`, CUDA only); LoRA on top stays
            whole (Dettmers 2023, QLoRA), and the result cannot be merged.
        digits: Digits of the written numbers.
        domain: One sentence about the data; None = the data set's own.
        season: Steps of a season told to the model; None = the data set's own.
        thought_words: Words that the model may think before it answers, `<think>...</think><answer>...</answer>`;
            0 = none. Needs constrained: false.
        lora_r: Rank of the adapter.
        lora_alpha: Its scale (alpha / rank multiplies the update).
        lora_dropout: Dropout on its input.
        lora_target_modules: Layers that get it: names, `all-linear`, or a regular expression; None = PEFT's own choice
            for the architecture.
        lora_rslora: Scale by alpha / sqrt(rank) instead of alpha / rank (Kalajdzievski 2023).
        lora_dora: Train length and direction of each column apart (Liu 2024).
        num_samples: Completions a forecast in the evaluation.
        temperature: Of the sampling in the evaluation.
        constrained: Whether the evaluation allows only tokens that lead to numbers.
        writes: `numbers`, a forecast; or `effects`, what a text says about one, learned from events that are written
            about the data. Constrained, answers and the loss follow the grammar of effects.
        languages: Of the texts that effects are learned from: `en`, `de`, `fr`, `es`.
        test_languages: Further languages to test effects in.
        kinds: Of events that effects are learned from (`tsllm.context.events.KINDS`, `tsllm.context.further.FURTHER`).
        copies: Where effects are written under the grammar: whether it holds numbers and moments to those of the text.
    """

    language_model: str | None = None
    revision: str | None = None
    adapter: str | None = None
    load_in_4bit: bool = False
    digits: int = 3
    domain: str | None = None
    season: int | None = None
    thought_words: int = 0
    lora_r: int = 8
    lora_alpha: int = 16
    lora_dropout: float = 0.0
    lora_target_modules: list[str] | str | None = None
    lora_rslora: bool = False
    lora_dora: bool = False
    num_samples: int = 20
    temperature: float = 1.0
    constrained: bool = True
    writes: str = "numbers"
    copies: bool = True
    languages: list[str] = field(default_factory=lambda: ["en"])
    test_languages: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=lambda: list(KINDS))

    def __post_init__(self) -> None:
        if self.lora_target_modules == ["all-linear"]:  # the command line makes a list of one word
            self.lora_target_modules = "all-linear"
        if self.writes not in WRITES:
            raise ArgumentsError(f"writes is {self.writes!r}; choose one of {', '.join(WRITES)}")
        if self.writes == "effects" and self.thought_words:
            raise ArgumentsError("effects are written without thoughts; set thought_words: 0")
        if self.writes == "effects":
            try:
                check_kinds(self.kinds, [*self.languages, *self.test_languages])
            except ValueError as error:
                raise ArgumentsError(f"writes: effects: {error}") from error
        if self.thought_words < 0:
            raise ArgumentsError(f"thought_words is {self.thought_words}; it must be at least 0")
        if self.thought_words and self.constrained:
            raise ArgumentsError(
                "a thought follows no grammar of numbers; set constrained: false, or thought_words: 0"
            )


@dataclass
class TextTrainingArguments(SFTConfig):
    """TRL's `SFTConfig` with the defaults of number text and the choice of windows.

    Attributes:
        focus: `all` windows, or `hard_cases`: score them with the current model first and train on the worst.
        hard_fraction: Share of the windows that count as hard.
        ordinary_share: Share of ordinary windows among those trained on.
        max_windows: Train on at most so many windows, drawn at random; 0 = all.
        streaming: Write windows as they are read instead of caching them on disk; they are shuffled within a buffer
            of 10,000.
        test_windows: Rolling origins of the evaluation; 0 = no evaluation.
        evaluate_start: Evaluate the model before training too (zero-shot, or the given adapter).
    """

    output_dir: str | None = "runs/sft_text"
    per_device_train_batch_size: int = 4
    learning_rate: float = 2e-4
    max_length: int | None = None
    bf16: bool | None = False  # type: ignore[assignment]
    gradient_checkpointing: bool = False
    logging_steps: float = 5
    save_strategy: str = field(default="epoch", metadata={"help": "'no', steps, epoch or best"})
    save_total_limit: int | None = 1
    report_to: Any = "none"
    resume_from_checkpoint: str | bool | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "bare = the last, or a folder"}
    )
    focus: str = "all"
    hard_fraction: float = 0.25
    ordinary_share: float = 0.25
    max_windows: int = 0
    streaming: bool = False
    test_windows: int = 14
    evaluate_start: bool = True

    def __post_init__(self) -> None:
        if self.focus not in FOCUSES:
            raise ArgumentsError(f"focus is {self.focus!r}; choose one of {', '.join(FOCUSES)}")
        if self.focus == "hard_cases" and self.streaming:
            raise ArgumentsError("focus hard_cases scores all training windows first, so it cannot stream; drop one")
        if self.max_windows and self.streaming:
            raise ArgumentsError("max_windows draws from all windows, so it cannot stream; use max_steps instead")
        if self.streaming and self.max_steps <= 0:
            raise ArgumentsError("streaming has no known length; give max_steps")
        if self.packing or self.padding_free:
            raise ArgumentsError(
                "packing lets windows read one another unless a kernel for it is installed; set packing and "
                "padding_free to false (windows have nearly equal lengths, so padding costs little)"
            )
        if self.completion_only_loss is False:
            raise ArgumentsError("completion_only_loss false would train the history too; leave it out")
        super().__post_init__()


def build_lora(arguments: TextModelArguments, commit: str | None = None) -> LoraConfig:
    """Builds the adapter's configuration: LoRA (Hu 2021), on query and value projections unless told otherwise.

    Args:
        arguments: Rank, scale, dropout, targets.
        commit: The base model's commit on the Hub, which the adapter then asks for; None = a local folder.
    """
    return LoraConfig(
        task_type="CAUSAL_LM",
        revision=commit,
        r=arguments.lora_r,
        lora_alpha=arguments.lora_alpha,
        lora_dropout=arguments.lora_dropout,
        target_modules=arguments.lora_target_modules,
        use_rslora=arguments.lora_rslora,
        use_dora=arguments.lora_dora,
    )


def choose_windows(
    df: pd.DataFrame, windows: TextWindows, arguments: TextTrainingArguments, model: Any, tokenizer: Any
) -> tuple[Any, dict[str, Any]]:
    """Builds the training set.

    Returns:
        The data set, and what was chosen: windows in all, left out for missing values, hard, trained on.
    """
    dataset = build_text_dataset(df, windows, arguments.streaming)
    total, incomplete = windows.count(df)
    facts: dict[str, Any] = {"windows": total, "incomplete": incomplete, "focus": arguments.focus}
    if arguments.streaming:
        # Windows come series by series, in order of time.
        return dataset.shuffle(seed=arguments.seed, buffer_size=_SHUFFLE_BUFFER), facts
    generator = np.random.default_rng(arguments.seed)
    if arguments.max_windows and len(dataset) > arguments.max_windows:
        dataset = dataset.select(np.sort(generator.choice(len(dataset), arguments.max_windows, replace=False)))
    if arguments.focus == "hard_cases":
        scores = score_rows(model, tokenizer, list(dataset))
        chosen = select_hard_cases(scores, arguments.hard_fraction, arguments.ordinary_share, generator)
        facts |= {"scored": len(scores), "mean_score": float(scores.mean())}
        facts["mean_score_chosen"] = float(scores[chosen].mean())
        dataset = dataset.select(chosen)
    return dataset, facts | {"trained_on": len(dataset)}


class GrammarTrainer(SFTTrainer):
    """TRL's trainer whose loss is taken under a grammar: of each token among those that were allowed there.

    A token without a choice costs nothing, so that all of the loss is about what there is to decide.

    Args:
        grammar: Knows the prompts.
        **options: Of `SFTTrainer`.
    """

    def __init__(self, grammar: TokenGrammar, **options: Any) -> None:
        super().__init__(**options)
        self.grammar = grammar

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Returns the mean negative log-probability of the tokens of completions, in nats."""
        ids, answered = inputs["input_ids"], inputs["labels"] != -100  # [B, L], padded on the right
        tokenizer: Any = self.processing_class
        prompts, tokens, starts = split_answers(ids, answered, tokenizer.pad_token_id)
        kept = ids.shape[1] - int(starts.min()) + 1
        outputs = model(input_ids=ids, attention_mask=inputs["attention_mask"], logits_to_keep=kept)
        steps = torch.arange(tokens.shape[1], device=ids.device)
        places = (starts[:, None] - int(starts.min()) + steps).clamp(max=kept - 1)  # [B, T] the logits before a token
        logits = outputs.logits.gather(1, places[..., None].expand(-1, -1, outputs.logits.shape[-1]))  # [B, T, V]
        log_probs, _ = score_constrained(self.grammar, logits, tokens, prompts=prompts)
        number = answered.sum() if num_items_in_batch is None else num_items_in_batch
        loss = -log_probs.sum() / number
        return (loss, outputs) if return_outputs else loss


def split_answers(ids: Tensor, answered: Tensor, pad_id: int) -> tuple[Tensor, Tensor, Tensor]:
    """Takes rows apart into prompts and completions.

    Args:
        ids: Prompt, completion and padding, [B, L].
        answered: Where the completion stands, [B, L].
        pad_id: Fills prompts on the left, completions on the right.

    Returns:
        Prompts [B, P], completions [B, T], and where these begin [B].
    """
    starts, counts = answered.int().argmax(1), answered.sum(1)  # [B]
    prompts = ids.new_full((len(ids), int(starts.max())), pad_id)
    tokens = ids.new_full((len(ids), int(counts.max())), pad_id)
    for row, (start, count) in enumerate(zip(starts.tolist(), counts.tolist(), strict=True)):
        prompts[row, prompts.shape[1] - start :] = ids[row, :start]
        tokens[row, :count] = ids[row, start : start + count]
    return prompts, tokens, starts


def train_text(
    model: Any, tokenizer: Any, dataset: Any, model_arguments: TextModelArguments, arguments: TextTrainingArguments,
    grammar: TokenGrammar | None = None,
) -> SFTTrainer:  # fmt: skip
    """Fine-tunes with LoRA; `save_adapter` writes what came of it.

    A model that carries an adapter already goes on training that one. With a grammar that knows the prompts, the loss
    is that of the choices that it leaves.

    Returns:
        The trainer, whose `state.log_history` holds the losses.
    """
    set_seed(arguments.seed)
    columns = ["prompt", "completion"]
    dataset = dataset.select_columns(columns)
    fresh = not isinstance(model, PeftModel)
    if not fresh:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("lora_" in name)
    trainer = (SFTTrainer if grammar is None else partial(GrammarTrainer, grammar))(
        model=model,
        args=arguments,
        train_dataset=dataset,
        processing_class=tokenizer,
        peft_config=build_lora(model_arguments, read_commit(model)) if fresh else None,
    )
    # Layers that are computed anew in the backward pass would not be reached there, and so differ.
    train = trainer.train if arguments.gradient_checkpointing else run_fast(trainer.train)
    train(resume_from_checkpoint=arguments.resume_from_checkpoint)
    trainer.accelerator.unwrap_model(trainer.model).eval()
    return trainer


def save_adapter(trainer: Any, tokenizer: Any, folder: str | Path) -> None:
    """Writes adapter and tokenizer into a folder; every process takes part in gathering what is sharded."""
    state = trainer.accelerator.get_state_dict(trainer.model) if trainer.is_fsdp_enabled else None
    if trainer.is_world_process_zero():
        # Not `save_model`, which would add a pickle of the arguments.
        trained = trainer.accelerator.unwrap_model(trainer.model)
        for config in trained.peft_config.values():
            name, revision = find_public_name(str(config.base_model_name_or_path))
            config.base_model_name_or_path, config.revision = name, config.revision or revision or None
        with quiet_bars():
            trained.save_pretrained(str(folder), state_dict=state)
        tokenizer.save_pretrained(str(folder))


def merge_adapter(adapter: str | Path, output_dir: str | Path) -> None:
    """Writes base model and adapter as one plain model (`merge_and_unload`), with its tokenizer and settings.

    Raises:
        OSError: If the folder or repository, or its base model, is not there.
        ValueError: If there is no adapter, or it was trained on 4-bit weights.
    """
    source = fetch_folder(adapter)
    if not (source / ADAPTER_CONFIG).is_file():
        raise ValueError(f"{adapter} holds no adapter; there is nothing to merge")
    if read_base_model(source).load_in_4bit:
        raise ValueError(
            f"{adapter} was trained on 4-bit weights; merged into whole ones it would be another model than the one "
            "that was tested, and into packed ones it would be rounded: use it as an adapter, or train without "
            "load_in_4bit"
        )
    model, tokenizer = load_language_model(source)
    with quiet_bars():
        model.merge_and_unload().save_pretrained(output_dir)
    tokenizer.save_pretrained(output_dir)
    if (source / SETTINGS).is_file():
        settings = json.loads((source / SETTINGS).read_text())
        settings.pop("base", None)  # there is no weight beside the merged ones to compare with
        write_json(Path(output_dir) / SETTINGS, settings)

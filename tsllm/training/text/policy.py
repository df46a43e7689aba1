"""Reward optimisation of text forecasters: TRL's GRPOTrainer with LoRA, forecast rewards and real dynamic sampling."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from trl import GRPOConfig, GRPOTrainer

from tsllm.nn.matmul import run_fast
from tsllm.rl.rewards import Reward, build_reward
from tsllm.rl.rollout import seeded
from tsllm.text.constrained import build_processors, score_constrained
from tsllm.text.grammar import TokenGrammar
from tsllm.training.args import ArgumentsError
from tsllm.training.policy.idle import IdleWatch
from tsllm.training.text.effects import GAIN, EffectsReward, build_gain, names_gain
from tsllm.training.text.rewards import TextReward

ALGORITHMS = ("grpo", "dapo")
_UNREADABLE = (
    "no answer is a list of effects; start from a model that writes some (recipes/sft_text.py with writes: effects, "
    "then --adapter), or raise max_completion_length"
)


@dataclass
class TextPolicyArguments(GRPOConfig):
    """TRL's `GRPOConfig` with the published settings of GRPO or DAPO and the defaults of number text.

    Attributes:
        algorithm: `grpo` (z-scored advantages, loss by sequence, KL to the start) or `dapo` (clip-higher, loss by
            token, truncated completions masked, overlong penalty, dynamic sampling, no KL). Settings that contradict
            it are errors.
        reward: As for series, and rewards on text (`format`, `length`); `effects_gain` where the model writes effects.
        overlong_cache: DAPO: tokens before `max_completion_length` over which the penalty grows; 0 = no penalty.
        overlong_weight: DAPO: its weight beside the reward.
        thought_weight: Weight of the penalty on thoughts beyond their budget (`thought_words`), if thoughts are asked
            for; 0 = no penalty.
        min_group_spread: DAPO: groups whose task rewards spread by no more than this are replaced.
        max_refills: DAPO: rounds of replacement; afterwards such groups are masked.
        constrained: Whether rollouts allow only tokens that lead to numbers. Log-probabilities are those of the
            distribution that sampled: renormalised over the allowed tokens, for the policy and the reference alike.
        max_windows: Train on at most so many windows, drawn at random; 0 = all.
        test_windows: Rolling origins of the evaluation; 0 = no evaluation.
        evaluate_start: Evaluate the model before training too.
    """

    output_dir: str | None = "runs/text_rl"
    per_device_train_batch_size: int = 8
    learning_rate: float = 1e-5
    bf16: bool | None = False  # type: ignore[assignment]
    gradient_checkpointing: bool = False
    disable_dropout: bool = True
    logging_steps: float = 1
    report_to: Any = "none"
    save_strategy: str = field(default="no", metadata={"help": "'no', steps, epoch or best"})
    resume_from_checkpoint: str | bool | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "bare = the last, or a folder"}
    )
    algorithm: str = "grpo"
    reward: Any = field(default="energy", metadata={"help": "name, dotted path, mapping or list of mappings"})
    loss_type: str = ""
    beta: float | None = None  # type: ignore[assignment]
    epsilon_high: float | None = None
    mask_truncated_completions: bool | None = None  # type: ignore[assignment]
    overlong_cache: int = 16
    overlong_weight: float = 1.0
    thought_weight: float = 0.1
    min_group_spread: float = 1e-6
    max_refills: int = 3
    constrained: bool = False
    max_windows: int = 0
    test_windows: int = 14
    evaluate_start: bool = True

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            raise ArgumentsError(f"algorithm is {self.algorithm!r}; choose one of {', '.join(ALGORITHMS)}")
        dapo = self.algorithm == "dapo"
        self._settle("loss_type", self.algorithm, empty="")
        self._settle("beta", 0.0 if dapo else None, default=0.04)
        self._settle("epsilon_high", None if dapo else self.epsilon, default=0.28)
        self._settle("mask_truncated_completions", dapo)
        if self.num_generations and self.per_device_train_batch_size % self.num_generations:
            raise ArgumentsError(
                f"per_device_train_batch_size ({self.per_device_train_batch_size}) must be a multiple of "
                f"num_generations ({self.num_generations}), so that no group is split"
            )
        if self.constrained and self.use_vllm:
            raise ArgumentsError(
                "constrained rollouts follow the tokens of this process, which vLLM does not sample; set constrained: "
                "false (and reward the format), or use_vllm: false"
            )
        if names_gain(self.reward):
            build_gain(self.reward)
            if dapo:
                raise ArgumentsError(
                    f"reward {GAIN} has groups of events, which grpo alone draws; set algorithm: grpo"
                )
        else:
            self.build_rewards()
        super().__post_init__()

    def _settle(self, name: str, published: Any, default: Any = None, empty: Any = None) -> None:
        """Fills a setting that was left open; one that the algorithm fixes must not contradict it."""
        value = getattr(self, name)
        if value == empty and value is not False:
            setattr(self, name, default if published is None else published)
        elif published is not None and value != published:
            raise ArgumentsError(f"{name} is {value!r}, but {self.algorithm} as published has {published!r}")

    def build_rewards(self) -> dict[str, tuple[float, Reward]]:
        """Returns name -> (weight, reward): the task, and for DAPO the overlong penalty."""
        rewards = {"task": (1.0, build_reward(self.reward))}
        if self.algorithm == "dapo" and self.overlong_cache:
            penalty = build_reward({"name": "soft_overlong", "cache": self.overlong_cache})
            rewards["overlong"] = (self.overlong_weight, penalty)
        return rewards


class TextPolicyTrainer(GRPOTrainer):
    """TRL's trainer with dynamic sampling, position ids for left-padded prompts and constrained rollouts.

    Args:
        grammar: Restricts rollouts; None = free.
        **options: Of `GRPOTrainer`; the first reward function is the task's.
    """

    args: TextPolicyArguments

    def __init__(self, grammar: TokenGrammar | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.idle: IdleWatch | None = None
        if isinstance(self.reward_funcs[0], TextReward):
            self.idle = IdleWatch(self.accelerator, self.reward_funcs[0].reward)
        elif isinstance(self.reward_funcs[0], EffectsReward):
            self.idle = IdleWatch(self.accelerator, self.reward_funcs[0].gain, _UNREADABLE)
        if self.idle is not None:
            self.add_callback(self.idle)
        self.grammar = grammar
        self._task_rewards: Tensor | None = None
        self._draws = 0
        tokenizer: Any = self.processing_class
        self._pad_id: int = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        add_position_ids(self.accelerator.unwrap_model(self.model))

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """Draws answers where they are due, and makes a step."""
        step: Callable[..., Tensor] = super().training_step
        return (step if self.args.gradient_checkpointing else run_fast(step))(*args, **kwargs)

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Tensor:
        training = bool(self.model.training)  # type: ignore[union-attr]
        group: int = self.num_generations if training else self.num_generations_eval  # type: ignore[assignment]
        for function in self.reward_funcs:
            if isinstance(function, TextReward):
                function.group_size = group
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        here = slice(
            self.accelerator.process_index * len(prompts), (self.accelerator.process_index + 1) * len(prompts)
        )
        self._task_rewards = rewards[here, 0]  # the shaped sum would hide that all answers are equally good
        if self.idle is not None and training:
            groups = self._task_rewards.unflatten(0, (-1, group))  # [groups, G]
            self.idle.note(groups, groups.std(1) <= self.args.min_group_spread)
        return rewards

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **options: Any,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Scores completions under the distribution that sampled them: with a grammar, the constrained one."""
        if self.grammar is None:
            return super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, batch_size, compute_entropy, **options
            )
        parts = []
        size = batch_size or len(input_ids)
        for ids, mask in zip(input_ids.split(size), attention_mask.split(size), strict=True):
            with self.accelerator.autocast():
                logits = model(input_ids=ids, attention_mask=mask, logits_to_keep=logits_to_keep + 1).logits
            parts.append(
                score_constrained(
                    self.grammar,
                    logits[:, :-1],
                    ids[:, -logits_to_keep:],
                    float(self.temperature),
                    ids[:, :-logits_to_keep].masked_fill(mask[:, :-logits_to_keep] == 0, self._pad_id),
                )
            )
        log_probs, entropies = (torch.cat(columns) for columns in zip(*parts, strict=True))
        return log_probs, entropies if compute_entropy else None, None

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        with constrained_generation(self.accelerator.unwrap_model(self.model), self.grammar):
            return super()._generate_single_turn(*args, **kwargs)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        if self.args.algorithm != "dapo" or not self.model.training:  # type: ignore[union-attr]
            return output
        spread = self._find_spread()
        first = float(spread.float().mean())
        for turn in range(self.args.max_refills):
            if int(self.accelerator.gather((~spread).sum()[None]).sum()) == 0:  # type: ignore[attr-defined]
                break
            self._metrics["train"]["dynamic_sampling/round"].append(float(turn + 1))
            fresh = super()._generate_and_score_completions(self._draw(len(inputs)))
            output, spread = fill_groups(output, spread, fresh, self._find_spread(), self._pad_id)
        self._metrics["train"]["dynamic_sampling/spread_at_first"].append(first)
        self._metrics["train"]["dynamic_sampling/masked"].append(1 - float(spread.float().mean()))
        output["completion_mask"] = output["completion_mask"] * spread[:, None].to(output["completion_mask"].dtype)
        output["num_items_in_batch"] = self.accelerator.gather(output["completion_mask"].sum()[None]).sum()  # type: ignore[attr-defined]
        return output

    def _find_spread(self) -> Tensor:
        """Returns for each completion of this process whether its group's task rewards differ, [n]."""
        assert self._task_rewards is not None
        groups = self._task_rewards.unflatten(0, (-1, self.num_generations))  # [groups, G]
        return (groups.std(1) > self.args.min_group_spread).repeat_interleave(self.num_generations)

    def _draw(self, rows: int) -> list[dict[str, Any]]:
        """Draws fresh windows, each once for every completion of its group."""
        self._draws += 1
        dataset: Any = self.train_dataset
        group: int = self.num_generations  # type: ignore[assignment]
        with seeded(self.args.seed, self.state.global_step, self._draws, self.accelerator.process_index):
            chosen = torch.randint(len(dataset), (rows // group,))
        return [dataset[int(k)] for k in chosen for _ in range(group)]


def fill_groups(
    output: dict[str, Any], kept: Tensor, fresh: dict[str, Any], fresh_kept: Tensor, pad_id: int
) -> tuple[dict[str, Any], Tensor]:
    """Puts completions of `fresh` that are kept in the places of those of `output` that are not, whole groups at once.

    Args:
        output: TRL's batch, tensors [n, ...].
        kept: Which of its rows stay, [n].
        fresh: Another batch.
        fresh_kept: Which of its rows may be used, [n].
        pad_id: Fills token ids where one batch is shorter.

    Returns:
        The batch, and which of its rows now count.
    """
    places, donors = (~kept).nonzero()[:, 0], fresh_kept.nonzero()[:, 0]
    count = min(len(places), len(donors))  # both are whole groups, hence so is the lesser
    if count == 0:
        return output, kept
    places, donors = places[:count], donors[:count]
    merged = dict(output)
    for name, value in output.items():
        other = fresh.get(name)
        if not isinstance(value, Tensor) or value.ndim == 0 or value.shape[0] != len(kept):
            continue
        assert isinstance(other, Tensor)
        if value.ndim == 2:
            fill = pad_id if name.endswith("_ids") else 0
            width = max(value.shape[1], other.shape[1])
            left = name.startswith("prompt")  # prompts are padded on the left, completions on the right
            value, other = (_pad(x, width, fill, left) for x in (value, other))
        value = value.clone()
        value[places] = other[donors]
        merged[name] = value
    kept = kept.clone()
    kept[places] = True
    return merged, kept


def _pad(value: Tensor, width: int, fill: int, left: bool) -> Tensor:
    missing = width - value.shape[1]
    return functional.pad(value, (missing, 0) if left else (0, missing), value=fill)


def add_position_ids(model: Any) -> None:
    """Makes a model count positions from the first token that is no padding.

    With absolute positions (GPT-2), left padding shifts every token of a short prompt unless `position_ids` say
    otherwise. `generate` says so, a plain forward pass does not: the same tokens would be sampled and scored under
    different log-probabilities.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    decoder = getattr(base, "base_model", base)

    def fill(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        del module
        mask, ids = kwargs.get("attention_mask"), kwargs.get("input_ids", args[0] if args else None)
        if kwargs.get("position_ids") is None and isinstance(mask, Tensor) and mask.ndim == 2 and ids is not None:
            positions = (mask.long().cumsum(-1) - 1).clamp(min=0)
            kwargs["position_ids"] = positions[:, -ids.shape[1] :]
        return args, kwargs

    decoder.register_forward_pre_hook(fill, with_kwargs=True)


@contextmanager
def constrained_generation(model: Any, grammar: TokenGrammar | None) -> Iterator[None]:
    """Lets `model.generate` follow a grammar inside the block."""
    if grammar is None:
        yield
        return
    plain, own = model.generate, vars(model).get("generate")  # sharding (FSDP) puts one of its own there

    def generate(*args: Any, **kwargs: Any) -> Any:
        return partial(plain, logits_processor=build_processors(grammar))(*args, **kwargs)

    model.generate = generate
    try:
        yield
    finally:
        del model.generate
        if own is not None:
            model.generate = own

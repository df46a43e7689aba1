"""Reward optimisation of any `ForecastModel` with a distributional head: one forward pass, a group of forecasts."""

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.utils.data import DataLoader

from tsllm.data.scaling import StandardScaler
from tsllm.data.windows import WindowDataset
from tsllm.models.base import ForecastModel
from tsllm.rl.dry_run import describe_skew
from tsllm.rl.objectives import Objective
from tsllm.rl.rollout import RewardRunner, build_policy, has_dependent_steps, score_rollout, seeded
from tsllm.rl.windows import ScaledWindows, fold_channels, unfold_problem
from tsllm.training.args import ArgumentsError
from tsllm.training.batches import build_loader
from tsllm.training.policy.args import PolicyArguments, PolicyTrainingArguments
from tsllm.training.policy.idle import IdleWatch
from tsllm.training.policy.rollouts import (
    RepeatedBatches,
    Rollout,
    compute_log_probs,
    compute_sample_scores,
    merge_rollouts,
)
from tsllm.training.policy.scores import score_decisions
from tsllm.training.trainer import ForecastTrainer
from tsllm.types import ForecastOutput

logger = logging.getLogger(__name__)

EXTRA = ("series_loc", "series_scale", "window")  # what a batch has for rewards, not for the model


class PolicyTrainer(ForecastTrainer):
    """Optimises a reward of forecasts by policy gradient, or directly where the reward has a gradient.

    The model's distribution is the policy, its forecasts are the actions: a forward pass gives the distribution of all
    steps, from which a group of G forecasts is drawn at hardly any cost. Policies run in eval mode throughout, so that
    dropout does not make the sampling policy another than the trained one. The reference of the KL term is a copy of
    the trained tensors alone; the frozen backbone is shared.

    Args:
        model: The model, at its supervised start.
        args: Training arguments.
        policy: Reward and objective.
        train: Training windows.
        validation: Windows that choose the best checkpoint by reward; None = no evaluation during training.
        scaler: Of the windows; rewards are computed in original units.
        season: Steps in a season.

    Raises:
        ArgumentsError: If the head is no policy, or checkpoints would fall between inner iterations.
    """

    args: PolicyTrainingArguments

    def __init__(
        self,
        model: ForecastModel,
        args: PolicyTrainingArguments,
        policy: PolicyArguments,
        train: WindowDataset,
        validation: WindowDataset | None,
        scaler: StandardScaler,
        season: int,
    ) -> None:
        check_policy(model, args, policy)
        self.units = ScaledWindows(train, scaler)
        super().__init__(model, args, self.units, validation, scaler)  # type: ignore[arg-type]
        self.policy, self.season = policy, season
        self.keys = frozenset(model.input_keys())
        self.collator.keys = self.keys | {*EXTRA, "past_observed_mask"}
        self.runner = RewardRunner(policy.build_reward(), policy.reward_workers)
        self.objective: Objective | None = None if policy.is_direct else policy.build_objective()
        self.reference: dict[str, Tensor] = {}
        if self.objective is not None and self.objective.beta > 0:
            self.reference = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
        self._rollouts: dict[int, Rollout] = {}
        self._rolled_ahead = False
        self._step_tokens: Tensor | None = None
        self._warned_of_skew = False
        self.idle = IdleWatch(self.accelerator, self.runner.reward)
        self.add_callback(self.idle)
        self._slot, self._slot_step = 0, -1
        self._record: dict[str, list[Tensor]] = {}

    def get_train_dataloader(self) -> DataLoader:
        """Returns the loader of this process's share, each step's batches repeated for the inner iterations."""
        repeated = RepeatedBatches(self.batches, self.args.gradient_accumulation_steps, self.policy.num_iterations)
        return build_loader(
            self.padded_train(),
            repeated,  # type: ignore[arg-type]
            self.collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory and self.args.device.type == "cuda",
        )

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Trains, or goes on from a checkpoint; ends the reward's worker processes afterwards."""
        try:
            return super().train(*args, **kwargs)
        finally:
            self.runner.close()

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device) -> tuple[list, Any]:
        """Collects the micro-batches of a step; where its loss counts tokens, forecasts of all are drawn at once.

        How many tokens count in a step is known only when all its forecasts are scored; a micro-batch that counted
        for itself would weigh its tokens by 1 / their number.
        """
        batches, count = super().get_batch_samples(epoch_iterator, num_batches, device)
        counts_tokens = self.objective is not None and self.objective.aggregation == "total"
        self._rolled_ahead, self._step_tokens = counts_tokens and len(batches) > 1, None
        if self._rolled_ahead:
            if self.state.global_step % self.policy.num_iterations == 0:
                self.accelerator.unwrap_model(self.model).eval()
                for slot, batch in enumerate(batches):
                    inputs: Any = self._prepare_inputs(batch)
                    with torch.no_grad(), self.compute_loss_context_manager():
                        self._rollouts[slot] = self._roll_out(self._forward(self.model_wrapped, inputs), inputs, slot)
            masks = [self._rollouts[slot].scored.mask.sum() for slot in range(len(batches))]
            self._step_tokens = self._sum_over_processes(torch.stack(masks).sum())
        return batches, count

    def _sum_over_processes(self, value: Tensor) -> Tensor:
        return self.accelerator.gather(value[None]).sum() if self.args.world_size > 1 else value  # type: ignore[attr-defined]

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Returns this micro-batch's share of the step's loss."""
        self.accelerator.unwrap_model(model).eval()
        slot = self._next_slot()
        if self.objective is None:
            output = self._forward(model, inputs)
            loss = self._compute_direct(output, inputs, slot)
        else:
            if self.state.global_step % self.policy.num_iterations == 0 and not self._rolled_ahead:
                output = self._forward(model, inputs)
                rollout = self._roll_out(output, inputs, slot)
                if rollout.refills:
                    output = self._forward(model, rollout.inputs)
                self._rollouts[slot] = rollout
            else:
                rollout = self._rollouts[slot]
                output = self._forward(model, rollout.inputs)
            loss = self._compute_policy(output, rollout)
        loss = loss / self.current_gradient_accumulation_steps
        return (loss, output) if return_outputs else loss

    def _next_slot(self) -> int:
        """Returns which micro-batch of its optimiser step this is."""
        step = self.state.global_step
        self._slot = self._slot + 1 if step == self._slot_step else 0
        self._slot_step = step
        return self._slot

    def _forward(self, model: Any, inputs: dict[str, Tensor]) -> ForecastOutput:
        wanted = self.keys if self.policy.nll_coef else self.keys - {"future_values"}
        return model(**{k: v for k, v in inputs.items() if k in wanted})

    def _policy_of(self, output: ForecastOutput) -> Distribution:
        assert output.distribution is not None
        return build_policy(output.distribution, self.policy.temperature, self.policy.fixed_spread)

    def _stream(self, slot: int, turn: int) -> Any:
        return seeded(self.args.seed, self.state.global_step, slot, self.args.process_index, turn)

    def _roll_out(self, output: ForecastOutput, inputs: dict[str, Tensor], slot: int) -> Rollout:
        assert self.objective is not None
        with torch.no_grad():
            with self._stream(slot, 0):
                rollout = self._sample(self._policy_of(output), inputs)
            if self.objective.dynamic_sampling:
                rollout = self._refill(rollout, slot)
            if self.reference:
                rollout.reference_log_probs = self._compute_reference(rollout)
        self._note_rollout(rollout)
        return rollout

    def _sample(self, distribution: Distribution, inputs: dict[str, Tensor]) -> Rollout:
        """Draws a group of forecasts of each window and scores them."""
        assert self.objective is not None
        samples = distribution.sample((self.policy.num_samples,))  # type: ignore[arg-type]  # [G, B, H, C]
        target, history = unfold_problem(inputs)
        asked = self.runner.reward.asks
        scored = score_rollout(
            self.runner,
            self.objective,
            fold_channels(samples * inputs["series_scale"] + inputs["series_loc"]),
            target,
            history,
            self.season,
            credit=self.policy.credit,
            dependent=has_dependent_steps(distribution),
            min_spread=self.policy.min_group_spread if self.objective.dynamic_sampling else -1.0,
            known=self.units.find_known(inputs["window"], asked) if asked else None,
        )
        return Rollout(inputs, samples, compute_log_probs(distribution, samples), None, scored, 0)

    def _refill(self, rollout: Rollout, slot: int) -> Rollout:
        """Replaces windows none of whose groups spreads; all processes go through as many rounds."""
        policy = self.accelerator.unwrap_model(self.model)
        for turn in range(1, self.policy.max_refills + 1):
            flat = ~rollout.scored.mask.any(1).unflatten(0, (rollout.samples.shape[1], -1)).any(1)  # [B]
            if int(self._sum_over_processes(flat.sum())) == 0:
                break
            rollout.refills += 1
            if not bool(flat.any()):
                continue
            with self._stream(slot, turn):
                chosen = torch.randint(len(self.units), (int(flat.sum()),))
                fresh = self.collator(self.units.gather(chosen))
                fresh = {k: v.to(flat.device) for k, v in fresh.items()}
                part = self._sample(self._policy_of(self._forward(policy, fresh)), fresh)
            rollout = merge_rollouts(rollout, part, flat)
        return rollout

    def _compute_reference(self, rollout: Rollout) -> Tensor:
        policy = self.accelerator.unwrap_model(self.model)
        inputs = {k: v for k, v in rollout.inputs.items() if k in self.keys and k != "future_values"}
        output = torch.func.functional_call(policy, self.reference, args=(), kwargs=inputs)
        return compute_log_probs(self._policy_of(output), rollout.samples)

    def _compute_policy(self, output: ForecastOutput, rollout: Rollout) -> Tensor:
        assert self.objective is not None
        group = rollout.samples.shape[0]
        scored = rollout.scored
        log_probs = compute_log_probs(self._policy_of(output), rollout.samples)  # [R * G, H]
        mask = scored.mask[:, None].expand(-1, group, -1).flatten(0, 1)  # [R * G, H]
        # The shares of all micro-batches and processes, which are averaged later, add up to the loss of the step.
        shares, total = 1, mask.sum()
        if self.objective.aggregation == "total":
            tokens = self._sum_over_processes(scored.mask.sum()) if self._step_tokens is None else self._step_tokens
            shares, total = self.args.world_size * self.current_gradient_accumulation_steps, tokens * group
        found = self.objective.compute_loss(
            log_probs,
            rollout.old_log_probs,
            scored.advantages.flatten(0, 1),
            mask,
            rollout.reference_log_probs,
            total_tokens=total,
        )
        self._note(clip_fraction=found.clip_fraction, ratio_max=found.ratio_max)
        if self.reference:
            self._note(kl=found.kl)
        return self._regularise(found.loss * shares, output, rollout.inputs)

    def _regularise(self, loss: Tensor, output: ForecastOutput, inputs: dict[str, Tensor]) -> Tensor:
        assert output.distribution is not None
        observed = ~torch.isnan(inputs["future_values"])
        count = observed.sum().clamp(min=1)
        if self.policy.entropy_coef:
            # Student-t entropy has no gradient everywhere; it is computed only if asked for.
            entropy = (output.distribution.entropy() * observed).sum() / count
            self._note(entropy=entropy.detach())
            loss = loss - self.policy.entropy_coef * entropy
        if self.policy.nll_coef:
            assert output.loss is not None
            self._note(nll=output.loss.detach())
            loss = loss + self.policy.nll_coef * output.loss
        return loss

    def _compute_direct(self, output: ForecastOutput, inputs: dict[str, Tensor], slot: int) -> Tensor:
        """Returns minus the reward of forecasts that carry the gradient themselves (reparametrisation)."""
        with self._stream(slot, 0):
            samples = self._policy_of(output).rsample((self.policy.num_samples,))  # type: ignore[arg-type]
        samples = fold_channels(samples * inputs["series_scale"] + inputs["series_loc"])  # [R, G, H]
        target, history = unfold_problem(inputs)
        known = ~target.isnan().all(1)
        if not bool(known.any()):
            return samples.sum() * 0.0
        reward = self.runner.reward
        facts = self.units.find_known(inputs["window"], reward.asks).take(known) if reward.asks else None
        utility = reward.utility(samples[known], target[known], history[known], self.season, **reward.tell(facts))
        self._note(reward=utility.detach().mean())
        return self._regularise(-utility.mean(), output, inputs)

    def _note_rollout(self, rollout: Rollout) -> None:
        scored = rollout.scored
        known = scored.known
        flat = scored.spread <= self.policy.min_group_spread
        self.idle.note(scored.rewards[known], flat[known])
        assert self.objective is not None
        if self.objective.advantage == "zscore" and not self._warned_of_skew and bool(known.any()):
            self._warned_of_skew = True
            loc, scale = rollout.inputs["series_loc"], rollout.inputs["series_scale"]
            samples, target = fold_channels(rollout.samples * scale + loc), unfold_problem(rollout.inputs)[0]
            if warning := describe_skew(scored.rewards[known], samples[known], target[known]):
                logger.warning(warning)
        nothing = scored.spread.new_tensor(torch.nan)
        self._note(
            reward=scored.rewards[known].mean() if bool(known.any()) else nothing,
            reward_spread=scored.spread[known].mean() if bool(known.any()) else nothing,
            flat_groups=flat[known].float().mean() if bool(known.any()) else nothing,
            refills=nothing.new_tensor(float(rollout.refills)),
        )
        if scored.effective_size is not None:
            self._note(effective_sample_size=scored.effective_size)
        if self.state.global_step % max(int(self.args.logging_steps), 1) == 0:
            self._note(**compute_sample_scores(rollout))

    def _note(self, **values: Tensor) -> None:
        for name, value in values.items():
            self._record.setdefault(name, []).append(value.detach().float())

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Adds the means of what the steps since the last log noted, over all processes."""
        if "loss" in logs and self._record:
            names = list(self._record)
            means = torch.stack([torch.stack(self._record[name]).nanmean() for name in names])
            if self.args.world_size > 1:
                means = self.accelerator.gather(means[None]).nanmean(0)
            logs |= {name: float(value) for name, value in zip(names, means, strict=True)}
            self._record = {}
        super().log(logs, *args, **kwargs)

    def evaluation_loop(self, dataloader: DataLoader, *args: Any, **kwargs: Any) -> Any:
        """Scores all windows of the loader's set, and the reward of the decisions made from them."""
        output = super().evaluation_loop(dataloader, *args, **kwargs)
        assert self.scaler is not None
        assert self._evaluated is not None
        scored = score_decisions(
            self.accelerator.unwrap_model(self.model),
            ScaledWindows(self._evaluated, self.scaler),
            {"reward": self.runner.reward},
            self.season,
            keys=self.keys,
            num_samples=self.policy.eval_samples,
            batch_size=self.args.per_device_eval_batch_size,
            seed=self.args.seed,
        )
        output.metrics[f"{kwargs.get('metric_key_prefix', 'eval')}_reward"] = float(np.nanmean(scored["reward"]))
        return output


def check_policy(model: ForecastModel, args: PolicyTrainingArguments, policy: PolicyArguments) -> None:
    """Refuses what cannot be trained as asked.

    Raises:
        ArgumentsError: Naming the argument and the way out.
    """
    if model.config.head in ("point", "quantile"):
        raise ArgumentsError(
            f"head {model.config.head!r} is no distribution to sample from; train the start with head: gaussian, "
            "student_t, ar_gaussian or bins"
        )
    if policy.is_direct and model.config.head == "bins":
        raise ArgumentsError("objective 'direct' differentiates through samples, which bins do not allow")
    if policy.fixed_spread and model.config.head == "bins":
        raise ArgumentsError("bins have no spread apart from their location; set fixed_spread: false")
    for name in ("save_steps", "max_steps"):
        value = getattr(args, name)
        if value > 0 and value % policy.num_iterations and (name == "max_steps" or str(args.save_strategy) == "steps"):
            raise ArgumentsError(
                f"{name} ({value:g}) must be a multiple of num_iterations ({policy.num_iterations}): a checkpoint "
                "between inner iterations would lose the rollout"
            )

"""Dynamic sampling of groups of windows: where the model lags behind a naive forecaster, more windows are drawn.

p = (1 - floor) softmax(s / beta) + floor / N maximises sum p s - beta KL(p || uniform) up to the floor, which is
group-wise distributionally robust optimisation (Sagawa 2020). Scores are excess losses over a naive forecaster: a
group of pure noise has a high loss but no excess, so it is not favoured.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler
from transformers import TrainerCallback

from tsllm.data.windows import WindowDataset
from tsllm.types import ID

_SCORES = "group_sampler/scores"


class GroupSampler(Sampler[int]):
    """Draws a group with probability p, then one of its windows uniformly, with replacement.

    Every rank that holds the same scores and seed draws the same indices, so a batch sampler that deals them out to
    ranks stays correct.

    Args:
        groups: Group of each window, 0 .. N - 1 [windows].
        beta: Temperature in units of the score; large = uniform.
        floor: Share of the draws that stays uniform over groups, in [0, 1].
        num_draws: Windows an epoch; None = as many as there are.
        seed: Seed of the draws.
    """

    def __init__(
        self,
        groups: Sequence[int] | np.ndarray,
        beta: float = 1.0,
        floor: float = 0.1,
        num_draws: int | None = None,
        seed: int = 0,
    ) -> None:
        if not beta > 0:
            raise ValueError(f"beta must be positive, got {beta}")
        if not 0 <= floor <= 1:
            raise ValueError(f"floor must lie in [0, 1], got {floor}")
        self.groups = np.asarray(groups)
        self.num_groups = int(self.groups.max()) + 1
        empty = sorted(set(range(self.num_groups)) - set(self.groups.tolist()))
        if empty:
            raise ValueError(f"groups {empty} hold no window; number the groups 0, 1, ... without gaps")
        self.beta, self.floor, self.seed, self.epoch = beta, floor, seed, 0
        self.num_draws = len(self.groups) if num_draws is None else num_draws
        self.scores = np.zeros(self.num_groups)
        order = np.argsort(self.groups, kind="stable")
        self._members = np.split(order, np.cumsum(np.bincount(self.groups))[:-1])

    @property
    def probabilities(self) -> np.ndarray:
        """The probability p of each group [N]."""
        z = (self.scores - self.scores.max()) / self.beta
        soft = np.exp(z) / np.exp(z).sum()
        return (1 - self.floor) * soft + self.floor / self.num_groups

    @property
    def divergence(self) -> float:
        """L_sample = KL(p || uniform), in nats: 0 = uniform, log N = one group only."""
        p = self.probabilities
        kept = p[p > 0]
        return float((kept * np.log(kept * self.num_groups)).sum())

    def update(self, scores: Sequence[float] | np.ndarray) -> None:
        """Sets the score of each group [N]; higher = drawn more often."""
        array = np.asarray(scores, dtype=np.float64)
        if array.shape != (self.num_groups,) or not np.isfinite(array).all():
            raise ValueError(f"scores must be {self.num_groups} finite numbers, got {array}")
        self.scores = array

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch's draws; the same epoch draws the same."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_draws

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng([self.seed, self.epoch])
        chosen = generator.choice(self.num_groups, self.num_draws, p=self.probabilities)
        sizes = np.array([len(m) for m in self._members])
        offsets = (generator.random(self.num_draws) * sizes[chosen]).astype(int)
        yield from (int(self._members[g][o]) for g, o in zip(chosen, offsets, strict=True))


def check_group_sampler(*, season: int | None = None, num_probes: int = 32, **options: Any) -> None:
    """Checks the options of `group_sampler` before there are windows.

    Args:
        season: Steps of a season of the naive forecaster; None = by frequency.
        num_probes: Probe windows a group.
        **options: Of `GroupSampler`.

    Raises:
        TypeError: For an unknown option.
        ValueError: For an impossible value.
    """
    for name, value in (("season", season), ("num_probes", num_probes), ("num_draws", options.get("num_draws"))):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(f"{name} is {value!r}; it must be a whole number of at least 1")
    GroupSampler([0], **options)


def number_series(windows: WindowDataset) -> tuple[np.ndarray, list[Any]]:
    """Returns the group of each window when each (first) series is a group [windows], and the groups' names."""
    frame = windows.window_frame()
    first = frame[frame["channel"] == 0]
    codes, names = first[ID].factorize()
    return np.asarray(codes), list(names)


@torch.no_grad()
def compute_excess_losses(
    model: Any,
    windows: WindowDataset,
    groups: np.ndarray,
    season: int,
    collator: Callable[[Any], dict[str, Tensor]],
    num_probes: int = 32,
    seed: int = 0,
) -> np.ndarray:
    """Computes each group's mean absolute error minus that of the seasonal naive, on the same probe windows.

    Args:
        model: A `ForecastModel`; it is put into eval mode for the call.
        windows: The training windows.
        groups: Group of each window [windows].
        season: Steps of a season of the naive forecaster, at most the context.
        collator: Leaves the tensors that the model reads (`BatchCollator`).
        num_probes: Probe windows a group, drawn without replacement; fewer if the group is smaller.
        seed: Seed of the draw.

    Returns:
        Excess [N] in the windows' (scaled) units; groups whose probes have no observed target get 0.
    """
    if not 1 <= season <= windows.context_length:
        raise ValueError(f"season ({season}) must lie in 1..context_length ({windows.context_length})")
    generator = np.random.default_rng(seed)
    was_training = model.training
    model.eval()
    excess = np.zeros(int(groups.max()) + 1)
    for group in range(len(excess)):
        members = np.flatnonzero(groups == group)
        probes = generator.choice(members, min(num_probes, len(members)), replace=False)
        batch = collator(windows.gather(torch.from_numpy(np.sort(probes))))
        future = batch.pop("future_values")
        inputs = {name: tensor.to(model.device) for name, tensor in batch.items()}
        forecast = model(**inputs).predictions.cpu()
        steps = torch.arange(future.shape[1]) % season
        naive = batch["past_values"][:, -season:][:, steps]  # [B, H, C]
        difference = (forecast - future).abs() - (naive - future).abs()
        observed = ~torch.isnan(difference)
        if observed.any():
            excess[group] = float(difference[observed].mean())
    model.train(was_training)
    return excess


class GroupSamplerCallback(TrainerCallback):
    """Scores the groups before the first epoch and after each, on every rank alike, and logs p and L_sample.

    Args:
        sampler: The sampler of the training loader.
        windows: The training windows.
        season: Steps of a season of the naive forecaster.
        collator: Leaves the tensors that the model reads.
        num_probes: Probe windows a group.
    """

    def __init__(
        self,
        sampler: GroupSampler,
        windows: WindowDataset,
        season: int,
        collator: Callable[[Any], dict[str, Tensor]],
        num_probes: int = 32,
    ) -> None:
        self.sampler, self.windows, self.season = sampler, windows, season
        self.collator, self.num_probes = collator, num_probes

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Scores with the current weights and fixes the epoch's draws.

        The scores are written into the trainer's history, so that a run that resumes within an epoch draws as the
        uninterrupted one did.
        """
        epoch = int(state.epoch or 0)
        known = [entry[_SCORES] for entry in state.log_history if _SCORES in entry and entry["epoch"] == epoch]
        if known:
            scores = np.asarray(known[-1])
        else:
            model, groups = kwargs["model"], self.sampler.groups
            scores = compute_excess_losses(
                model, self.windows, groups, self.season, self.collator, self.num_probes, seed=epoch
            )
            scores = _from_first_rank(scores)
            state.log_history.append({"epoch": epoch, "step": state.global_step, _SCORES: scores.tolist()})
        self.sampler.update(scores)
        self.sampler.set_epoch(epoch)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Adds L_sample and the largest p to the log."""
        if logs is not None and "loss" in logs:
            found = {
                "group_sampler/kl": self.sampler.divergence,
                "group_sampler/max_p": float(self.sampler.probabilities.max()),
            }
            logs.update(found)
            state.log_history[-1].update(found)  # the library writes the history before it asks callbacks


def _from_first_rank(scores: np.ndarray) -> np.ndarray:
    """Returns rank 0's scores, so that rounding never lets ranks draw differently."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return scores
    holder = [scores.tolist()]
    torch.distributed.broadcast_object_list(holder, src=0)
    return np.asarray(holder[0])

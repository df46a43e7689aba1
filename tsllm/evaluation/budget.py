"""How long models of a comparison may train: one rule for all, counted in windows seen, and a check that it is one.

Steps are no measure: a step of 64 windows learns from four times as many as one of 16. A sentence about equal budgets
is written from the rule (`BudgetRule.describe`), never typed.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from tsllm.evaluation.findings import join_words
from tsllm.forecasting.model_spec import ModelSpec
from tsllm.forecasting.refusals import OF_VALIDATION
from tsllm.training.args import ForecastTrainingArguments
from tsllm.training.options import DEFAULT_TRAINING, merge_training
from tsllm.training.schedules import FALL

# Budgets that differ by no more than rounding to whole steps and evaluations count as equal.
TOLERANCE = 0.05
_DEFAULTS = {f.name: f.default for f in fields(ForecastTrainingArguments)}


# What depends on the length of training or decides the best step in another way.
_UNREPEATABLE = (
    "lr_schedule",
    "lr_scheduler_type",
    "lr_scheduler_kwargs",
    "warmup_ratio",
    "warmup_steps",
    "metric_for_best_model",
)


@dataclass(frozen=True)
class BudgetRule:
    """When training ends, for every trainable model alike.

    Attributes:
        kind: "convergence" ends it by the validation loss, "windows" after so many windows.
        patience_windows: Of convergence: windows seen without a better validation loss.
        cap_windows: Of convergence: windows seen at most, however much it still improves.
        decay_windows: Of convergence: windows seen without a better validation loss after which the learning rate
            falls to three tenths, again and again; less than the patience, or 0 = the rate stays constant.
        windows: Of windows: windows seen.
        eval_every_windows: Windows seen between validations; the best one's weights are kept.
        retrain: Of convergence: whether the length until the best validation and the falls of the rate are found
            once, with the first seed, and every seed is then trained anew for so long on all steps before the first
            cutoff, the validation steps among them.

    Raises:
        ValueError: If numbers do not fit together.
    """

    kind: Literal["convergence", "windows"] = "convergence"
    patience_windows: int = 9600
    cap_windows: int = 192_000
    decay_windows: int = 0
    windows: int = 0
    eval_every_windows: int = 1600
    retrain: bool = False

    def __post_init__(self) -> None:
        if self.kind not in ("convergence", "windows"):
            raise ValueError(f"kind is {self.kind!r}; choose convergence or windows")
        if self.kind == "windows" and self.windows < 1:
            raise ValueError(f"windows is {self.windows}; kind windows needs how many windows a model sees")
        if self.kind == "convergence" and self.windows:
            raise ValueError(f"windows is {self.windows}, but kind is convergence; give kind: windows, or cap_windows")
        names = ("patience_windows", "cap_windows") if self.kind == "convergence" else ("windows",)
        if self.eval_every_windows < 1:
            raise ValueError(f"eval_every_windows is {self.eval_every_windows}; it must be at least 1")
        for name in names:
            if getattr(self, name) < self.eval_every_windows:
                raise ValueError(
                    f"{name} is {getattr(self, name)}, less than eval_every_windows ({self.eval_every_windows})"
                )
        if self.kind == "convergence" and self.cap_windows <= self.patience_windows:
            raise ValueError(
                f"cap_windows ({self.cap_windows}) must exceed patience_windows ({self.patience_windows})"
            )
        if self.decay_windows:
            self._check_decay()
        if self.retrain and self.kind == "windows":
            raise ValueError("retrain is of kind convergence; with a fixed number of windows give val_size: 0 instead")

    def _check_decay(self) -> None:
        if self.kind == "windows":
            raise ValueError(
                "decay_windows is of kind convergence; over a fixed number of windows the rate follows a cosine"
            )
        if not self.eval_every_windows <= self.decay_windows < self.patience_windows:
            raise ValueError(
                f"decay_windows is {self.decay_windows}; give at least eval_every_windows ({self.eval_every_windows}) "
                f"and less than patience_windows ({self.patience_windows}), or 0 for a constant rate"
            )

    def training_for(self, batch_size: int, num_train_windows: int) -> dict[str, Any]:
        """Returns the training options that keep the rule.

        Training ends with a validation. Over a fixed number of windows the distance between validations gives way, by
        half at most, if they would end much later than the windows asked for. Until convergence the learning rate
        stays constant or falls where the validation loss does not, because a schedule as long as the cap would not
        have fallen when training ends; over a fixed number of windows it follows a cosine.

        Args:
            batch_size: Windows of one optimiser step, over all devices and accumulated batches.
            num_train_windows: Windows of the training part; the last batch of an epoch is smaller.
        """
        every = count_steps(self.eval_every_windows, batch_size, num_train_windows)
        if self.kind == "windows":
            steps = count_steps(self.windows, batch_size, num_train_windows)
            asked, nearby = every, range(-(-2 * every // 3), every * 3 // 2 + 1)
            every = min(nearby, key=lambda e: (max(-steps % e, TOLERANCE / 2 * steps), abs(e - asked)))
            patience = 0
        else:
            steps = count_steps(self.cap_windows, batch_size, num_train_windows)
            patience = -(-self.patience_windows // self.eval_every_windows)
        return {
            "max_steps": -(-steps // every) * every,
            "eval_steps": every,
            "early_stopping_patience": patience,
        } | self._schedule()

    def _schedule(self) -> dict[str, Any]:
        if self.kind == "windows":
            return {"lr_scheduler_type": "cosine"}
        if not self.decay_windows:
            return {"lr_scheduler_type": "constant"}
        # torch lowers the rate at the validation after `patience` ones that were no better.
        borne = -(-self.decay_windows // self.eval_every_windows) - 1
        kwargs = {"factor": FALL, "patience": borne, "threshold": 0.0}
        return {"lr_scheduler_type": "reduce_lr_on_plateau", "lr_scheduler_kwargs": kwargs}

    def apply(
        self, training: Mapping[str, Any], num_train_windows: int, *, validates: bool = True, trial_windows: int = 0
    ) -> dict[str, Any]:
        """Returns training options with the rule's, where none is given; what is given wins.

        Args:
            training: What is given.
            num_train_windows: As in `training_for`.
            validates: Whether there is a validation part; without one the rule's rhythm of validation is left out.
            trial_windows: Windows seen at most, for a trial of a search; 0 = as the rule says.
        """
        batch = count_batch(training)
        rule = self.training_for(batch, num_train_windows)
        if trial_windows:
            steps = count_steps(trial_windows, batch, num_train_windows)
            rule["max_steps"] = min(rule["max_steps"], -(-steps // rule["eval_steps"]) * rule["eval_steps"])
        if not validates:
            validation = ("eval_steps", "early_stopping_patience", "lr_scheduler_kwargs")
            rule = {name: value for name, value in rule.items() if name not in validation}
            rule["lr_scheduler_type"] = "cosine" if self.kind == "windows" else "constant"
        if {"lr_scheduler_type", "lr_schedule"} & set(training):
            rule.pop("lr_scheduler_kwargs", None)  # they belong to the rule's own schedule
        return merge_training(rule, training)

    def retraining(self, training: Mapping[str, Any], log: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Returns the options of a training without validation that repeats another one up to its best step.

        Args:
            training: Options of the other one, as `apply` gave them.
            log: Its entries, those of validations with `step` and `eval_loss`.

        Raises:
            ValueError: If nothing was validated.
        """
        losses = [(int(e["step"]), float(e["eval_loss"])) for e in log if "eval_loss" in e]
        if not losses:
            raise ValueError("training was never validated, so that its best length is not known; give val_size")
        best = min(losses, key=lambda one: (one[1], one[0]))[0]
        self.check_repeatable("training", training)
        idle = ("lr_scheduler_kwargs", *OF_VALIDATION)
        kept = {name: value for name, value in training.items() if name not in idle}
        kept["max_steps"] = best
        if str(training.get("lr_scheduler_type", "")).endswith("reduce_lr_on_plateau"):
            borne = int(training["lr_scheduler_kwargs"]["patience"])
            kept |= {"lr_scheduler_type": "constant"}
            # A validation before the first step does not reach the schedule.
            falls = find_falls([one for one in losses if one[0] > 0], borne)
            kept |= {"lr_falls": [step for step in falls if step < best] or None}
        return kept

    def check_repeatable(self, name: str, training: Mapping[str, Any], searched: Iterable[str] = ()) -> None:
        """Refuses options with which another training could not repeat the found one up to its best step.

        Args:
            name: Whose options they are, for the message.
            training: What is given, or what `apply` made of it.
            searched: Options that a search sets.

        Raises:
            ValueError: Naming the option.
        """
        if not self.retrain:
            return
        own = self._schedule()
        given = {k: v for k, v in training.items() if v and own.get(k) != v and not _is_constant(k, v)}
        given |= dict.fromkeys(searched, "searched")
        fault = next((option for option in _UNREPEATABLE if option in given), None)
        if fault is None and str(given.get("eval_strategy", "")) == "no":
            fault = "eval_strategy"
        if fault is not None:
            raise ValueError(
                f"{name}: {fault} is {given[fault]!r}, but retrain finds the length by the validation loss and "
                "repeats a constant rate with its falls; leave one of them out"
            )

    def describe(self) -> str:
        """Returns the rule as a sentence."""
        every = f"validated every {self.eval_every_windows:,} windows"
        if self.kind == "windows":
            return (
                f"Every trainable model sees {self.windows:,} training windows, {every}, and keeps its best weights."
            )
        falls = (
            f" Its learning rate falls to three tenths after {self.decay_windows:,} windows without improvement."
            if self.decay_windows
            else ""
        )
        return (
            "Every trainable model trains until its validation loss has not improved for "
            f"{self.patience_windows:,} windows seen, at most {self.cap_windows:,}, {every}, and keeps its best "
            f"weights.{falls}{self._describe_retraining()}"
        )

    def _describe_retraining(self) -> str:
        return (
            " That is done once, with the first seed; every seed is then trained anew on all steps before the cutoff, "
            "the validation steps among them, for as many steps as led to the best validation and with the same falls "
            "of the rate."
            if self.retrain
            else ""
        )


def _is_constant(option: str, value: Any) -> bool:
    return option == "lr_scheduler_type" and str(value).rpartition(".")[2].lower() == "constant"


def find_falls(losses: Sequence[tuple[int, float]], borne: int) -> list[int]:
    """Returns the steps after which `ReduceLROnPlateau` (threshold 0) lowers the rate.

    Args:
        losses: Step and validation loss, in order.
        borne: Validations without a better loss that it bears.

    >>> find_falls([(10, 3.0), (20, 2.0), (30, 2.0), (40, 2.5), (50, 1.0)], borne=1)
    [40]
    """
    best, bad, falls = math.inf, 0, []
    for step, loss in losses:
        best, bad = (loss, 0) if loss < best else (best, bad + 1)
        if bad > borne:
            bad = 0
            falls.append(step)
    return falls


def count_windows(steps: int, batch_size: int, num_train_windows: int) -> int:
    """Returns how many windows have been seen after so many steps; an epoch's last batch holds what is left.

    >>> count_windows(3, 16, 40), count_windows(4, 16, 40)
    (40, 56)
    """
    per_epoch = -(-num_train_windows // batch_size)
    epochs, rest = divmod(steps, per_epoch)
    return epochs * num_train_windows + rest * batch_size


def count_steps(windows: int, batch_size: int, num_train_windows: int) -> int:
    """Returns the first step after which so many windows have been seen.

    >>> count_steps(40, 16, 40), count_steps(41, 16, 40), count_steps(64, 16, 1000)
    (3, 4, 4)
    """
    for name, value in (("batch_size", batch_size), ("num_train_windows", num_train_windows), ("windows", windows)):
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
    epochs, rest = divmod(windows, num_train_windows)
    return epochs * -(-num_train_windows // batch_size) + -(-rest // batch_size)


def count_batch(training: Mapping[str, Any]) -> int:
    """Returns the windows of one optimiser step on one device, for given training options.

    >>> count_batch({}), count_batch({"per_device_train_batch_size": 16, "gradient_accumulation_steps": 4})
    (32, 64)
    """
    names = ("per_device_train_batch_size", "gradient_accumulation_steps")
    batch, accumulated = (int(training.get(name, _DEFAULTS[name])) for name in names)
    return batch * accumulated


def collect_budgets(models: Sequence[ModelSpec]) -> list[tuple[str, Mapping[str, Any], int]]:
    """Returns what `check_budgets` reads, of the models that tsllm trains; others count steps in their own way."""
    trained = [m for m in models if m.kind == "native" and m.is_trainable]
    return [(m.name, m.training, count_batch(m.training)) for m in trained]


def describe_own_budgets(models: Sequence[ModelSpec], ruled: bool = False) -> str:
    """Names the trained models that no rule of budget or search reaches; empty if there is none beside another.

    Models of neuralforecast count steps and batches in their own way, a few-shot model goes on from a training that it
    brings along, and members of an ensemble are trained as they come.

    Args:
        models: Those compared.
        ruled: Whether there is a rule, so that one that stands alone is named, too.
    """
    trained = [m for m in models if m.is_seeded]
    own = [m.name for m in trained if m.kind != "native"]
    if not own or (len(trained) < 2 and not ruled):
        return ""
    verb, whose = ("is", "its") if len(own) == 1 else ("are", "their")
    return f"{join_words(own)} {verb} trained by options of {whose} own, which no rule of budget or search reaches."


def check_budgets(specs: Sequence[tuple[str, Mapping[str, Any], int]], max_seconds: float | None = None) -> list[str]:
    """Finds unequal budgets.

    Args:
        specs: Name, training options and windows of one step (`count_batch`) of each trainable model.
        max_seconds: Time limit of each training, if there is one.

    Returns:
        A sentence for each way in which they differ, by more than rounding; empty if all are equal.
    """
    if len(specs) < 2:
        return []
    budgets = {name: _read_budget(training, batch) for name, training, batch in specs}
    found = []
    for what, write in _WAYS.items():
        groups: list[tuple[float | str, list[str]]] = []
        for name, budget in budgets.items():
            near = next((g for g in groups if _is_near(g[0], budget[what])), None)
            if near is None:
                groups.append((budget[what], [name]))
            else:
                near[1].append(name)
        if len(groups) > 1:
            sides = "; ".join(f"{write(value)} for {', '.join(names)}" for value, names in groups)
            found.append(f"unequal {what}: {sides}")
    if max_seconds is not None:
        found.append(
            f"max_seconds is {max_seconds:g}: training ends by the clock, so a slower model sees fewer windows"
        )
    return found


def _read_budget(training: Mapping[str, Any], batch: int) -> dict[str, float | str]:
    """Returns windows seen at most (negative: epochs), until patience ends (0: never) and between validations.

    And the schedule of the learning rate, which decides how much the same windows teach.
    """
    merged = merge_training(DEFAULT_TRAINING, training)
    options = {**_DEFAULTS, **merged}
    steps, epochs = options["max_steps"], options["num_train_epochs"]
    # As in training: a rhythm in steps means validation by steps, unless that is overruled.
    by_step = "eval_steps" in merged and str(training.get("eval_strategy", "steps")) == "steps"
    every = float(options["eval_steps"] * batch) if by_step else -1.0
    schedule = options["lr_schedule"] or options["lr_scheduler_type"]
    falls = f" with falls after {join_words(list(map(str, options['lr_falls'])))} steps" if options["lr_falls"] else ""
    return {
        "training windows": float(steps * batch) if steps > 0 else -float(epochs),
        "patience": float(options["early_stopping_patience"] * every),
        "validation": every,
        "schedule of the learning rate": str(getattr(schedule, "value", schedule)) + _write_kwargs(options) + falls,
    }


def _write_kwargs(options: Mapping[str, Any]) -> str:
    kwargs = options.get("lr_scheduler_kwargs")
    return (
        f" ({', '.join(f'{k} {v}' for k, v in sorted(kwargs.items()))})"
        if isinstance(kwargs, Mapping) and kwargs
        else ""
    )


def _is_near(left: float | str, right: float | str) -> bool:
    if isinstance(left, str) or isinstance(right, str):
        return left == right
    return (left < 0) == (right < 0) and abs(left - right) <= TOLERANCE * max(abs(left), abs(right))


def _write_most(value: float) -> str:
    return f"at most {value:,.0f} windows" if value >= 0 else f"{-value:g} epochs"


def _write_patience(value: float) -> str:
    return "none" if value == 0 else f"{value:,.0f} windows" if value > 0 else f"{-value:g} epochs"


def _write_rhythm(value: float) -> str:
    return f"every {value:,.0f} windows" if value >= 0 else "every epoch"


_WAYS: dict[str, Callable[[Any], str]] = {
    "training windows": _write_most,
    "patience": _write_patience,
    "validation": _write_rhythm,
    "schedule of the learning rate": str,
}

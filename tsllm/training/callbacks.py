"""What happens around training steps: the epoch of the sampler, the clock, early stopping, diverged losses."""

import math
import time
from collections.abc import Callable
from typing import Any

from transformers import EarlyStoppingCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from tsllm.progress import Bar
from tsllm.training.batches import GlobalBatches

Progress = Callable[[int, int, dict[str, float]], None]  # step, steps in all, what was logged


class EpochCallback(TrainerCallback):
    """Tells the sampler which epoch begins, also when a run resumes in the middle of one.

    Args:
        batches: The sampler.
    """

    def __init__(self, batches: GlobalBatches) -> None:
        self.batches = batches

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Sets the epoch; `state.epoch` is whole here, or a fraction in a resumed epoch."""
        self.batches.epoch = math.floor((state.epoch or 0.0) + 1e-9)


class StopwatchCallback(TrainerCallback, ExportableState):
    """Measures the time of training in seconds, over all resumptions: on the wall and of this process's processors.

    Args:
        seconds: Wall time that earlier parts of the run took.
        processor_seconds: Processor time that they took, all threads, without worker processes.
    """

    def __init__(self, seconds: float = 0.0, processor_seconds: float = 0.0) -> None:
        self.earlier, self.earlier_processor = seconds, processor_seconds
        self._began: tuple[float, float] | None = None

    @property
    def seconds(self) -> float:
        """Wall time so far."""
        return self.earlier + (time.monotonic() - self._began[0] if self._began is not None else 0.0)

    @property
    def processor_seconds(self) -> float:
        """Processor time so far; other programs on the machine hardly disturb it."""
        return self.earlier_processor + (time.process_time() - self._began[1] if self._began is not None else 0.0)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Starts the clock."""
        self._began = time.monotonic(), time.process_time()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stops the clock."""
        self.earlier, self.earlier_processor = self.seconds, self.processor_seconds
        self._began = None

    def state(self) -> dict[str, Any]:
        """Returns what a checkpoint keeps."""
        return {"args": {"seconds": self.seconds, "processor_seconds": self.processor_seconds}, "attributes": {}}


class DivergenceCallback(TrainerCallback):
    """Ends a run whose loss is no number any more, instead of training on."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Checks the logged losses.

        Raises:
            FloatingPointError: If one is NaN or infinite.
        """
        for name in ("loss", "eval_loss"):
            value = (logs or {}).get(name)
            if value is not None and not math.isfinite(value):
                raise FloatingPointError(
                    f"{name} is {value} at step {state.global_step}; lower learning_rate ({args.learning_rate:g}) or "
                    f"max_grad_norm ({args.max_grad_norm:g}), or look for extreme values in the data"
                )


class ValidationStopping(EarlyStoppingCallback):
    """Ends training after some evaluations without a better one; evaluations of the test part do not count."""

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Counts an evaluation of the validation part."""
        if any(name.startswith("eval_") for name in metrics or ()):
            super().on_evaluate(args, state, control, metrics=metrics, **kwargs)


def build_early_stopping(patience: int, threshold: float) -> list[TrainerCallback]:
    """Returns the callback that ends training after `patience` evaluations without a better one; none for 0."""
    if patience == 0:
        return []
    return [ValidationStopping(early_stopping_patience=patience, early_stopping_threshold=threshold)]


class ProgressLine(TrainerCallback):
    """Tells each log line to a function as `step, total, values`.

    Args:
        tell: What hears it.
    """

    def __init__(self, tell: Progress) -> None:
        self.tell = tell

    def on_log(
        self,
        args: Any,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Passes on loss and validation loss."""
        values = _pick_losses(logs)
        if values:
            self.tell(state.global_step, state.max_steps, values)


class TrainingBar(TrainerCallback):
    """Shows steps, losses and the time left.

    Args:
        bar: Where it is shown.
    """

    def __init__(self, bar: Bar) -> None:
        self.bar = bar

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Learns how many steps there are at most."""
        self.bar.total = state.max_steps

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Counts a step."""
        self.bar.update(state.global_step)

    def on_log(
        self,
        args: Any,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Shows loss and validation loss."""
        self.bar.update(**_pick_losses(logs))


def _pick_losses(logs: dict[str, Any] | None) -> dict[str, Any]:
    return {k: float(v) for k, v in (logs or {}).items() if k in ("loss", "eval_loss")}


class TimeLimit(TrainerCallback):
    """Ends training after a number of seconds, with a last validation so that the newest weights can be the best.

    Args:
        seconds: The limit.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.started = 0.0
        self.is_over = False  # whether it ended a training

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Starts the clock."""
        self.started = time.perf_counter()

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Looks at the clock."""
        if time.perf_counter() - self.started >= self.seconds:
            control.should_evaluate = control.should_save = str(args.eval_strategy) != "no"
            control.should_training_stop = self.is_over = True

"""The supervised trainer of every forecasting model: exact losses, whole-part scores, exact resumption."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import EvalPrediction, TrainOutput
from transformers.utils import SAFE_WEIGHTS_NAME

from tsllm.data.frequency import default_season
from tsllm.data.scaling import StandardScaler
from tsllm.data.windows import WindowDataset
from tsllm.models.base import ForecastModel
from tsllm.progress import quiet_rotation
from tsllm.training.aids.group_sampler import GroupSampler, GroupSamplerCallback, number_series
from tsllm.training.aids.layer_clip import LayerClip
from tsllm.training.aids.prompt_store import PromptedWindows, open_store
from tsllm.training.args import ForecastTrainingArguments
from tsllm.training.batches import BatchCollator, GlobalBatches, OrderedBatches, PaddedWindows, build_loader
from tsllm.training.callbacks import DivergenceCallback, EpochCallback, StopwatchCallback, build_early_stopping
from tsllm.training.schedules import build_epoch_schedule, build_falls
from tsllm.training.scores import compute_scores, find_window_scales, reduce_scores


class ForecastTrainer(Trainer):
    """Trains a `ForecastModel` on windows.

    The loss of an optimiser step is the mean over all observed targets of the global batch: accumulation, the number
    of processes, a short last batch and missing targets do not change it. Scores count every window of a part. A
    checkpoint holds the trained tensors only and resumes exactly.

    Args:
        model: The model.
        args: Training arguments.
        train: Training windows.
        validation: Windows that choose the best checkpoint; None = no evaluation during training.
        scaler: Of the windows, for scores in original units; None = scores in the windows' units only.
    """

    model: ForecastModel
    args: ForecastTrainingArguments

    def __init__(
        self,
        model: ForecastModel,
        args: ForecastTrainingArguments,
        train: WindowDataset,
        validation: WindowDataset | None,
        scaler: StandardScaler | None = None,
    ) -> None:
        check_arguments(args, validation)
        self.scaler = scaler
        self._evaluated: WindowDataset | None = None
        seed = args.seed if args.data_seed is None else args.data_seed
        self.collator = BatchCollator(model.input_keys())
        by_length = args.train_sampling_strategy == "group_by_length"
        self.prompts = open_store(model, train, args) if args.prompt_store or by_length else None
        aids = build_aids(args, train, self.collator, seed)
        self.batches = GlobalBatches(
            len(train),
            args.per_device_train_batch_size,
            seed,
            args.world_size,
            args.process_index,
            next((aid.sampler for aid in aids if isinstance(aid, GroupSamplerCallback)), None),
            self.prompts.lengths if self.prompts is not None and by_length else None,
        )
        super().__init__(
            model=model,
            args=args,
            train_dataset=train,
            eval_dataset=validation,
            data_collator=self.collator,
            compute_metrics=self._compute_metrics,
            callbacks=[
                EpochCallback(self.batches),
                StopwatchCallback(),
                DivergenceCallback(),
                *build_early_stopping(args.early_stopping_patience, args.early_stopping_threshold),
                *aids,
            ],
        )
        # `compute_loss` divides by the count over the whole accumulated batch, so nothing is left to scale.
        self.model_accepts_loss_kwargs = True
        self.loss_is_scaled_for_ga = True

    def get_train_dataloader(self) -> DataLoader:
        """Returns the loader of this process's share of the global batches."""
        return self._build_loader(self.padded_train(), self.batches)

    def padded_train(self) -> PaddedWindows:
        """Returns the training windows as a loader reads them, with their prompts if those are stored."""
        windows: Any = self.train_dataset
        return PaddedWindows(windows) if self.prompts is None else PromptedWindows(windows, self.prompts)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """Returns the loader of this process's share of a part, in order."""
        windows: Any = self.eval_dataset if eval_dataset is None else eval_dataset
        size, processes = self.args.per_device_eval_batch_size, self.args.world_size
        batches = OrderedBatches(len(windows), size, processes, self.args.process_index)
        return self._build_loader(PaddedWindows(windows), batches)

    def _build_loader(self, windows: PaddedWindows, batches: Any) -> DataLoader:
        return build_loader(
            windows,
            batches,
            self.collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory and self.args.device.type == "cuda",
            persistent_workers=self.args.dataloader_persistent_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor,
        )

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """Builds the schedule by epoch if `lr_schedule` names one, that of `lr_falls`, or the library's by step."""
        if self.args.lr_schedule is None and not self.args.lr_falls:
            return super().create_scheduler(num_training_steps, optimizer)
        used = optimizer or self.optimizer
        assert used is not None
        if self.args.lr_falls:
            self.lr_scheduler = build_falls(self.args.lr_falls, used)
        else:
            assert self.args.lr_schedule is not None
            steps = self._steps_per_epoch()
            self.lr_scheduler = build_epoch_schedule(self.args.lr_schedule, used, steps, num_training_steps / steps)
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Returns this process's part of the global mean loss, times the processes that DDP averages over."""
        output = model(**inputs)
        loss = output.loss
        if num_items_in_batch is not None:
            here = count_targets(inputs["future_values"])
            total = torch.as_tensor(num_items_in_batch, device=loss.device).clamp_min(1)
            loss = loss * (here * self.args.world_size / total)
        return (loss, output) if return_outputs else loss

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> Tensor:
        """Returns the observed targets of the accumulated batch on all processes."""
        counts = [count_targets(batch["future_values"]) for batch in batch_samples]
        total = torch.stack(counts).sum().to(device) if counts else torch.zeros((), dtype=torch.long, device=device)
        return self.accelerator.gather(total.reshape(1)).sum() if self.args.world_size > 1 else total

    def evaluation_loop(self, dataloader: DataLoader, *args: Any, **kwargs: Any) -> Any:
        """Scores all windows of the loader's set."""
        self._evaluated = dataloader.dataset.windows  # type: ignore[attr-defined]
        return super().evaluation_loop(dataloader, *args, **kwargs)

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[None, Tensor, Tensor]:
        """Returns the score sums of a batch [B, C, columns] (the loss is one of them) and a placeholder of labels."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            output = model(**inputs)
        scores = compute_scores(self.accelerator.unwrap_model(model), output, inputs["future_values"])
        return None, scores, scores.new_zeros(len(scores))

    def _compute_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        windows, gathered = self._evaluated, np.asarray(prediction.predictions)
        assert windows is not None
        scores = gathered[: len(windows)]
        if len(scores) < len(windows) or gathered[len(windows) :, :, 0].any():
            raise RuntimeError(f"{len(gathered)} windows were scored, but the part has {len(windows)}")
        scale = None if self.scaler is None else find_window_scales(windows, self.scaler)
        return reduce_scores(scores, scale) | {"windows": len(windows)}

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Trains, or goes on from a checkpoint; one with which its run had ended only reloads the best weights.

        `max_steps: 0` trains nothing, where the library would take one step.
        """
        if self.args.max_steps == 0:
            return TrainOutput(0, float("nan"), {})
        checkpoint = resume_from_checkpoint or None
        if checkpoint is True:
            checkpoint = str(find_checkpoint(self.args.output_dir or ".", self.args.world_size))
        if isinstance(checkpoint, str) and is_final(Path(checkpoint), self.planned_steps(), self.args):
            self._finish_from(checkpoint)
            return TrainOutput(self.state.global_step, float("nan"), {})
        with quiet_rotation():
            result = super().train(checkpoint, *args, **kwargs)
        if self.args.load_best_model_at_end and self.state.best_model_checkpoint is None:
            raise RuntimeError(
                f"the best checkpoint (step {self.state.best_global_step}) of {self.args.output_dir} is gone, so the "
                "best weights cannot be reloaded; train again"
            )
        return result

    def planned_steps(self) -> int:
        """Returns how many steps training has unless it ends early."""
        if self.args.max_steps > 0:
            return self.args.max_steps
        return math.ceil(self.args.num_train_epochs * self._steps_per_epoch())

    def _steps_per_epoch(self) -> int:
        return -(-len(self.batches) // self.args.gradient_accumulation_steps)

    def _finish_from(self, checkpoint: str) -> None:
        """Puts the trainer where the run had ended; the library's loop would train a step more."""
        self.state = TrainerState.load_from_json(str(Path(checkpoint) / TRAINER_STATE_NAME))
        saved: Any = self.state.stateful_callbacks
        times = saved["StopwatchCallback"]["args"]
        self.stopwatch.earlier = times["seconds"]
        self.stopwatch.earlier_processor = times.get("processor_seconds", 0.0)
        if self.args.load_best_model_at_end and self.state.best_model_checkpoint is not None:
            self._load_best_model()
        else:
            self._load_from_checkpoint(checkpoint)

    @property
    def stopwatch(self) -> StopwatchCallback:
        """The clock; resuming replaces callbacks, so it is looked up."""
        return next(c for c in self.callback_handler.callbacks if isinstance(c, StopwatchCallback))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Loads the trained tensors; the library's own way would miss a frozen backbone's."""
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        self._load_trained(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        """Loads the trained tensors of the best checkpoint."""
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            super()._load_best_model()
            return
        assert self.state.best_model_checkpoint is not None
        self._load_trained(self.state.best_model_checkpoint)

    def _load_trained(self, folder: str) -> None:
        path = Path(folder) / SAFE_WEIGHTS_NAME
        try:
            state = load_file(path, device="cpu")
        except (SafetensorError, OSError) as error:
            raise OSError(f"{path} is missing or damaged ({error}); resume from an earlier checkpoint") from error
        self.model.load_trained_state(state, origin=str(path))

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """Writes `config.json` and `model.safetensors`, and no pickled arguments beside them."""
        if self.args.should_save:
            folder = Path(output_dir or self.args.output_dir or ".")
            folder.mkdir(parents=True, exist_ok=True)
            self.accelerator.unwrap_model(self.model).save_pretrained(folder, state_dict=state_dict)


def check_arguments(args: ForecastTrainingArguments, validation: WindowDataset | None) -> None:
    """Refuses what this trainer cannot honour.

    Raises:
        ValueError: Naming the argument and the way out.
    """
    if args.n_gpu > 1:
        raise ValueError(
            f"{args.n_gpu} GPUs are visible to one process; start one process each with "
            "`accelerate launch --num_processes N`, or set CUDA_VISIBLE_DEVICES to one of them"
        )
    if str(args.train_sampling_strategy) not in ("random", "group_by_length"):
        raise ValueError(
            f"train_sampling_strategy is {str(args.train_sampling_strategy)!r}; choose random or group_by_length"
        )
    if args.train_sampling_strategy == "group_by_length" and args.group_sampler is not None:
        raise ValueError("group_sampler draws the windows itself; leave out train_sampling_strategy: group_by_length")
    if args.dataloader_drop_last:
        raise ValueError("dataloader_drop_last is not supported: every window counts")
    if validation is None and args.load_best_model_at_end:
        raise ValueError(
            "the split has no validation part, so no best checkpoint can be chosen; give it one, or set "
            "eval_strategy: 'no' and train a fixed number of epochs"
        )


def build_aids(
    args: ForecastTrainingArguments, train: WindowDataset, collator: BatchCollator, seed: int
) -> list[TrainerCallback]:
    """Builds the training aids that the arguments ask for: layer-wise clipping and group sampling."""
    aids: list[TrainerCallback] = []
    if args.layer_clip is not None:
        aids.append(LayerClip(**args.layer_clip))
    if args.group_sampler is not None:
        options = dict(args.group_sampler)
        season = options.pop("season", None) or min(default_season(train.freq), train.context_length)
        probes = options.pop("num_probes", 32)
        sampler = GroupSampler(number_series(train)[0], seed=seed, **options)
        aids.append(GroupSamplerCallback(sampler, train, season, collator, probes))
    return aids


def count_targets(future_values: Tensor) -> Tensor:
    """Returns how many targets are observed."""
    return (~torch.isnan(future_values)).sum()


def find_checkpoint(output_dir: str | Path, world_size: int = 1) -> Path:
    """Returns the newest complete checkpoint; what a run killed while saving left behind is passed over.

    Raises:
        FileNotFoundError: If there is none.
    """
    folders = [p for p in Path(output_dir).glob("checkpoint-*") if p.name.removeprefix("checkpoint-").isdigit()]
    for folder in sorted(folders, key=lambda p: int(p.name.removeprefix("checkpoint-")), reverse=True):
        if is_complete(folder, world_size):
            return folder
    raise FileNotFoundError(
        f"{output_dir} holds no complete checkpoint ({len(folders)} incomplete); start without "
        "--resume_from_checkpoint"
    )


def is_complete(checkpoint: Path, world_size: int = 1) -> bool:
    """Tells whether all files of a checkpoint were written; the trainer's state comes last."""
    try:
        json.loads((checkpoint / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return False
    names = ["rng_state.pth"] if world_size == 1 else [f"rng_state_{rank}.pth" for rank in range(world_size)]
    return all((checkpoint / name).is_file() for name in names)


def is_final(checkpoint: Path, planned_steps: int, args: ForecastTrainingArguments) -> bool:
    """Tells whether the run ended with this checkpoint: by its number of steps or by early stopping.

    Raises:
        FileNotFoundError: If it is no checkpoint.
    """
    try:
        state = json.loads((checkpoint / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
    except OSError as error:
        raise FileNotFoundError(f"{checkpoint} is no checkpoint of a run: {error}") from error
    if state["global_step"] >= planned_steps:
        return True
    saved = state.get("stateful_callbacks", {}).get("ValidationStopping", {}).get("attributes", {})
    patience = args.early_stopping_patience
    return patience > 0 and saved.get("early_stopping_patience_counter", 0) >= patience

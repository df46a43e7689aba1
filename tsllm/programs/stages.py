"""Stages of a run (supervised start, controls) that a later command takes up again, under equal settings only."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainingArguments
from transformers.utils import SAFE_WEIGHTS_NAME

from tsllm.files import write_json
from tsllm.training.args import ArgumentsError
from tsllm.training.trainer import find_checkpoint

SETTINGS_FILE = "settings.json"
# What decides where and how a run reports, not what it computes.
_ASIDE = (
    "output_dir", "overwrite_output_dir", "resume_from_checkpoint", "restore_callback", "logging", "log_", "report_to",
    "run_name", "project", "trackio", "disable_tqdm", "hub_", "push_to_hub", "dataloader_", "local_rank", "save_total",
    "save_safetensors", "save_on_each", "do_", "prompt_store", "include_", "eval_on_start", "skip_memory",
)  # fmt: skip
_RESULTS = ("checkpoint-*", SAFE_WEIGHTS_NAME, "scores.npz")


class Stage:
    """One stage: a folder, and beside its results the settings that they depend on.

    Args:
        folder: Of the stage.
        settings: Everything that its results depend on, as JSON.
        writes: Whether this process writes.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], writes: bool = True) -> None:
        self.folder, self.writes = folder, writes
        self.settings: dict[str, Any] = json.loads(json.dumps(settings, default=str, sort_keys=True))

    @property
    def is_finished(self) -> bool:
        """Whether an earlier command finished this stage with these settings.

        Raises:
            ArgumentsError: If it holds something that was made with others; the text names them.
        """
        return bool(self._read().get("finished"))

    def check(self) -> None:
        """Refuses what was made with other settings.

        Raises:
            ArgumentsError: As `is_finished`.
        """
        self._read()

    def find_checkpoint(self, world_size: int) -> str | None:
        """Returns the newest checkpoint that an earlier command with these settings left; None = begin anew.

        Raises:
            ArgumentsError: As `is_finished`.
        """
        self._read()
        try:
            return str(find_checkpoint(self.folder, world_size))
        except FileNotFoundError:
            return None

    def begin(self) -> None:
        """Writes down the settings before anything else is written."""
        self._write(finished=False)

    def finish(self) -> None:
        """Marks the stage as complete, after its results were written."""
        self._write(finished=True)

    def _write(self, finished: bool) -> None:
        if not self.writes:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / SETTINGS_FILE, {"finished": finished, "settings": self.settings})

    def _read(self) -> dict[str, Any]:
        path = self.folder / SETTINGS_FILE
        if not path.is_file():
            left = sorted(p.name for pattern in _RESULTS for p in self.folder.glob(pattern))
            if left:
                raise ArgumentsError(
                    f"{self.folder} holds {', '.join(left[:3])}, but not the settings that it was made with; pass "
                    "--overwrite_output_dir to make it anew, or choose another --output_dir"
                )
            return {}
        try:
            found = json.loads(path.read_text("utf-8"))
            earlier = found["settings"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ArgumentsError(f"{path} is damaged ({error}); pass --overwrite_output_dir to begin anew") from error
        if earlier != self.settings:
            differences = "; ".join(list_differences(earlier, self.settings)[:5])
            raise ArgumentsError(
                f"{self.folder} was made with other settings ({differences}); give those, pass "
                "--overwrite_output_dir to make it anew, or choose another --output_dir"
            )
        return found


def list_differences(earlier: Any, now: Any, name: str = "") -> list[str]:
    """Returns what differs between two settings, one text each: `name: was ..., is ...`."""
    if isinstance(earlier, dict) and isinstance(now, dict):
        keys = sorted({*earlier, *now})
        inner = (list_differences(earlier.get(k), now.get(k), f"{name}.{k}" if name else k) for k in keys)
        return [text for texts in inner for text in texts]
    return [] if earlier == now else [f"{name}: was {earlier!r}, is {now!r}"]


def describe_training(args: TrainingArguments, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """Returns the training arguments that a result depends on, without those named in `leave_out`."""
    kept = {k: v for k, v in args.to_dict().items() if not k.startswith(("_", *_ASIDE)) and k not in leave_out}
    return kept | {"processes": args.world_size}


@torch.no_grad()
def describe_model(model: nn.Module) -> dict[str, Any]:
    """Returns a model's configuration and a hash of its trained tensors as they are now."""
    digest = hashlib.sha256()
    for name, value in sorted(model.trained_state().items()):  # type: ignore[operator]
        digest.update(f"{name}{list(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
    config = {k: v for k, v in model.config.to_dict().items() if k not in ("transformers_version", "_name_or_path")}  # type: ignore[operator, union-attr]
    return {"config": config, "weights": digest.hexdigest()[:16]}

"""Forecasters as programs of `torch.export`: one file that needs torch alone, for batches of any size."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from tsllm.models.base import ForecastModel
from tsllm.models.inputs import Inputs
from tsllm.models.timellm import TimeLLM
from tsllm.models.timellm.prompt import Prompt
from tsllm.models.timesnet import TimesNet


class _Program(nn.Module):
    """A model between plain dictionaries of tensors, which is what a program reads and returns."""

    def __init__(self, model: ForecastModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Forecasts a batch; the result has `predictions` and, where the head knows them, `quantiles`."""
        output = self.model(**batch)
        found = {"predictions": output.predictions, "quantiles": output.quantiles}
        return {name: tensor for name, tensor in found.items() if tensor is not None}


def build_program(model: ForecastModel, example: Mapping[str, Tensor]) -> ExportedProgram:
    """Traces a forecaster.

    Args:
        model: A forecaster in evaluation mode.
        example: A batch of at least two windows with the tensors that the program shall read, as `forward` names
            them. The number of windows is free afterwards; which tensors there are is not.

    Returns:
        A program from a dictionary like `example` to `predictions` [B, H, C] and perhaps `quantiles` [B, H, C, Q],
        in the units of the model's input.

    Raises:
        ValueError: If the model cannot be a program, is in training mode, or the example has a single window.
    """
    check_exportable(model)
    windows = example["past_values"].shape[0]
    if windows < 2:
        raise ValueError(f"the example has {windows} window; give at least 2: torch takes a size of 1 for a constant")
    sizes = ({name: {0: Dim("batch", min=1)} for name in example},)
    with torch.no_grad(), constants_fixed(model):
        return torch.export.export(_Program(model), (dict(example),), dynamic_shapes=sizes)


def export_model(model: ForecastModel, path: str | Path, example: Mapping[str, Tensor]) -> Path:
    """Writes a forecaster as a program; `torch.export.load(path).module()(batch)` runs it without this package.

    Args:
        model: As in `build_program`.
        path: The file, by custom `*.pt2`; its folder is made. It holds a frozen backbone too.
        example: As in `build_program`.

    Returns:
        The path.

    Raises:
        ValueError: As `build_program`.
    """
    path = Path(path)
    program = build_program(model, example)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.export.save(program, path)
    return path


def check_exportable(model: ForecastModel) -> None:
    """Tells why a model cannot be a program.

    Raises:
        ValueError: If it is in training mode, or computes what depends on the values as no fixed program does.
    """
    if model.training:
        raise ValueError(f"{type(model).__name__} is in training mode; call eval() first")
    if isinstance(model, TimesNet):
        raise ValueError(
            "TimesNet folds each window by the periods found in it, so shapes depend on the values, which no program "
            "of torch.export can have; use the model itself"
        )
    if isinstance(model, TimeLLM) and model.config.prompt and model.config.prompt_statistics == "window":
        raise ValueError(
            "this Time-LLM writes and tokenizes a text for each window, which no program of torch.export can do; "
            "train with prompt_statistics 'series' or 'none', or with prompt: false"
        )


@contextmanager
def constants_fixed(model: ForecastModel) -> Iterator[None]:
    """Puts constants where a Time-LLM would look up what it computed before: keys and values of prototypes and prompt.

    Other models have none.
    """
    if not isinstance(model, TimeLLM):
        yield
        return
    prompt = model.write_prompt(_empty_window(model))
    source = tuple(part.clone() for part in model._project_prototypes())
    reader = None if prompt is None else _PromptReader(model, prompt)
    # What they were made from would be written into the file, and is most of it.
    table, prototypes = model.backbone.llm.get_input_embeddings(), model.prototypes
    words = model.backbone.words
    table.weight = nn.Parameter(words[:1].clone(), requires_grad=False)
    model.prototypes = nn.Identity()
    model._project_prototypes = lambda: source  # type: ignore
    if reader is not None:
        model.write_prompt = lambda _: None  # type: ignore
        model.backbone.forward = reader  # type: ignore
    try:
        yield
    finally:
        table.weight, model.prototypes = words, prototypes
        for owner, name in ((model, "_project_prototypes"), (model, "write_prompt"), (model.backbone, "forward")):
            vars(owner).pop(name, None)


class _PromptReader:
    """`Backbone.forward` behind the prompt of one window, for any number of windows.

    Args:
        model: The model.
        prompt: Of one window [C rows].
    """

    def __init__(self, model: TimeLLM, prompt: Prompt) -> None:
        self.backbone, self.num_channels = model.backbone, model.config.num_channels
        self.offset = len(prompt.prefix)
        self.shared = [self.backbone._prefix_key_values(prompt.prefix, False)]
        self.tails = None
        if any(prompt.tails):
            device = self.backbone.words.device
            self.tails = self.backbone._tail_key_values(prompt, self.shared, False)
            self.rows = torch.tensor(prompt.rows, device=device)  # [C]
            self.lengths = torch.tensor([len(tail) for tail in prompt.tails], device=device)

    def __call__(self, patches: Tensor, prompt: None = None) -> Tensor:
        """Reads patches [B * C, P, d]."""
        patches = patches.to(self.backbone.words.dtype)
        if self.tails is None:
            return self.backbone._read_patches(patches, self.shared, None, self.offset)
        rows = self.rows.repeat(patches.shape[0] // self.num_channels)  # [B * C]
        parts = [*self.shared, self.tails.select(rows)]
        return self.backbone._read_patches(patches, parts, self.lengths[rows], self.offset)


def _empty_window(model: TimeLLM) -> Inputs:
    config = model.config
    return Inputs(torch.zeros(1, config.context_length, config.num_channels), None, None, None, None, None)

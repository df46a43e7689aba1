"""The header of a safetensors file: names, shapes and dtypes of its tensors, read without its numbers."""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

INDEX = "model.safetensors.index.json"
WEIGHTS = "model.safetensors"
_WIDTHS = (
    "hidden_size",
    "intermediate_size",
    "vocab_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
)


@dataclass(frozen=True)
class Header:
    """What a weights file announces.

    Attributes:
        shapes: Name -> shape.
        dtypes: Name -> dtype as safetensors names it, such as "F32" or "I64".
    """

    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]

    @property
    def largest(self) -> int:
        """The largest dimension of all tensors."""
        return max((n for shape in self.shapes.values() for n in shape), default=0)

    @property
    def numbers(self) -> int:
        """How many numbers the file holds."""
        return sum(math.prod(shape) for shape in self.shapes.values())


def read_header(*paths: str | Path) -> Header:
    """Reads the header of a file, or of the shards of one model.

    Raises:
        OSError: If a file is damaged or shorter than its header says; the text names it.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: dict[str, str] = {}
    for path in paths:
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 (no mapping)
                    tensor = file.get_slice(name)
                    shapes[name], dtypes[name] = tuple(tensor.get_shape()), tensor.get_dtype()
        except (SafetensorError, ValueError, OSError) as error:
            raise OSError(f"{path} is damaged or no safetensors file ({error}); download or save it again") from error
    return Header(shapes, dtypes)


def find_weight_files(folder: Path) -> list[Path]:
    """Returns the safetensors files of a model's folder: the one, or the shards that its index names.

    Raises:
        OSError: If the index is damaged, or names a file that is missing or outside the folder.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / INDEX).is_file():
        return []
    try:
        names = sorted(set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
        files = [folder / name for name in names]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OSError(f"{folder / INDEX} is damaged ({error!r}); download it again") from error
    for name, file in zip(names, files, strict=True):
        if Path(name).name != name or not file.is_file():
            raise OSError(f"{folder / INDEX} names {name!r}, which is no file of the folder; download it again")
    return files


def check_language_model(folder: Path, config: Any) -> None:
    """Compares the sizes in a language model's configuration with its weights, before memory is taken for them.

    Raises:
        OSError: As `read_header` and `find_weight_files`.
        ValueError: If the configuration asks for more than the weights hold, or they are no floating numbers.
    """
    files = find_weight_files(folder)
    if not files:
        return
    header = read_header(*files)
    indices = [int(k) for name in header.shapes for k in re.findall(r"\.(\d+)\.", f".{name}")]
    limits = {"num_hidden_layers": max(indices, default=-1) + 1} | dict.fromkeys(_WIDTHS, header.largest)
    for name, limit in limits.items():
        value = getattr(config, name, None)
        if isinstance(value, int) and value > limit:
            raise ValueError(
                f"the configuration in {folder} has {name} {value}, but its weights have at most {limit}: they do not "
                "belong together, or one is damaged"
            )
    if getattr(config, "quantization_config", None) is None:
        check_floating(header, str(folder))


def check_floating(header: Header, origin: str) -> None:
    """Raises a ValueError for tensors that are no floating numbers."""
    wrong = [f"{name} ({dtype})" for name, dtype in header.dtypes.items() if not dtype.startswith(("F", "BF"))]
    if wrong:
        raise ValueError(f"the weights of {origin} hold tensors that are no floating numbers: {', '.join(wrong[:5])}")

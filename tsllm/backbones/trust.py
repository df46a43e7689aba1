"""Loading what others wrote: no code of theirs runs, nobody is asked, and no other model slips in."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from tsllm.backbones.reach import reach_hub
from tsllm.backbones.weights import check_language_model

ADAPTER_CONFIG = "adapter_config.json"


@contextmanager
def refuse_code(where: str) -> Iterator[None]:
    """Says in our words that a repository wants its own Python code to run; the library's advice is to allow it."""
    try:
        yield
    except ValueError as error:
        if "custom code" not in str(error) and "trust_remote_code" not in str(error):
            raise
        raise ValueError(
            f"{where} is of a kind that transformers does not know and asks to run Python code of its own (auto_map); "
            "that is never done here: choose a model that transformers knows"
        ) from None


def load_config(where: str, **options: Any) -> PreTrainedConfig:
    """Loads the configuration of any model; none of its code runs.

    Raises:
        OSError: If it is not there or damaged.
        ValueError: If its type is unknown, or it asks for code of its own.
    """
    check_json(Path(where) / "config.json")
    if not Path(where).is_dir():
        reach_hub()
    try:
        with refuse_code(where):
            config = AutoConfig.from_pretrained(where, trust_remote_code=False, **options)
    except (ValueError, OSError, ImportError):
        raise
    except Exception as error:  # a value of the wrong kind meets the library somewhere, with an error of any type
        raise ValueError(f"the configuration of {where} cannot be used ({type(error).__name__}: {error})") from error
    for name in ("_attn_implementation", "_experts_implementation"):
        kernel = getattr(config, name, None)
        if kernel is not None and not re.fullmatch(r"[\w|]+", str(kernel)):
            raise ValueError(f"{where} asks for compiled code of others ({kernel!r}); that is never fetched here")
    return config


def load_tokenizer(where: str, **options: Any) -> Any:
    """Loads a tokenizer; none of its code runs.

    Raises:
        OSError: If it cannot be loaded.
        ValueError: If it asks for code of its own.
    """
    from transformers import AutoTokenizer

    if not Path(where).is_dir():
        reach_hub()
    with refuse_code(where):
        return AutoTokenizer.from_pretrained(where, trust_remote_code=False, **options)


def check_folder(where: str, config: PreTrainedConfig) -> None:
    """Checks the folder of a language model before its weights are loaded; a Hub id passes.

    Raises:
        OSError: If a weights file is damaged.
        ValueError: If it holds an adapter, which would put another model under it, or sizes do not fit.
    """
    folder = Path(where)
    if not folder.is_dir():
        return
    if (folder / ADAPTER_CONFIG).is_file():
        raise ValueError(
            f"{folder} holds {ADAPTER_CONFIG}, so it is an adapter of another model and no model; merge it into its "
            "base (merge_and_unload) and save that"
        )
    check_language_model(folder, config)


def check_json(path: Path) -> Any:
    """Returns the object in a JSON file; None if there is no such file.

    Raises:
        OSError: If it is damaged or holds no object; the text names it.
    """
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise OSError(f"{path} is damaged ({error}); download or save it again") from error
    if not isinstance(content, dict):
        raise OSError(f"{path} holds {type(content).__name__} instead of an object; download or save it again")
    return content

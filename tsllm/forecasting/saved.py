"""Saved forecasters of every sort, opened by their folder or Hub id."""

from pathlib import Path
from typing import Any

from tsllm.forecasting.loading import check_hub_options
from tsllm.hub.spec import ANY_FREQ, ForecasterSpec, check_saved, find_file
from tsllm.hub.told import BASE, CONTEXT_FILE
from tsllm.text.settings import SETTINGS


def open_saved(source: str, **options: Any) -> Any:
    """Loads a saved forecaster: of series (`NeuralForecaster`), of all series (`ZeroShotForecaster`), of text, or one
    of these with what it is told (`ContextForecaster`).

    Args:
        source: A folder or a Hub id.
        **options: Of `from_pretrained`; of the base's for one that is told something.

    Raises:
        FileNotFoundError: If there is no such folder and it is no Hub id.
        ValueError: If a folder of a told forecaster holds another one as its base.
    """
    check_saved(source)
    check_hub_options(source, options.get("revision"), options.get("token"))
    if find_file(source, CONTEXT_FILE, options.get("revision"), options.get("token")) is not None:
        from tsllm.forecasting.context import ContextForecaster
        from tsllm.text.loading import fetch_folder

        folder = fetch_folder(source, options.pop("revision", None), options.pop("token", None))
        return ContextForecaster.load(folder, open_saved(find_base(folder), **options))
    if find_file(source, SETTINGS, options.get("revision"), options.get("token")) is not None:
        from tsllm.forecasting.text import TextForecaster

        return TextForecaster.from_pretrained(source, **options)
    if ForecasterSpec.load(source, options.get("revision"), options.get("token")).freq == ANY_FREQ:
        from tsllm.forecasting.zero_shot import ZeroShotForecaster

        return ZeroShotForecaster.from_pretrained(source, **options)
    from tsllm.forecasting.neural import NeuralForecaster

    return NeuralForecaster.from_pretrained(source, **options)


def find_base(folder: Path) -> str:
    """Returns the folder of the base in that of a told forecaster.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If the base is a told forecaster itself.
    """
    base = folder / BASE
    if not base.is_dir():
        raise FileNotFoundError(f"{folder} holds no {BASE}/, the forecaster that is told something; save it again")
    if (base / CONTEXT_FILE).is_file():
        raise ValueError(f"{base} is told something itself; a told forecaster's base must be a plain one")
    return str(base)

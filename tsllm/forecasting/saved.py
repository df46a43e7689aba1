"""Saved forecasters of every sort, opened by their folder or Hub id."""

from pathlib import Path
from typing import Any

from tsllm.forecasting.loading import check_hub_options
from tsllm.hub.ensemble import EnsembleSpec
from tsllm.hub.spec import ANY_FREQ, SPEC_FILE, ForecasterSpec, check_saved, find_file
from tsllm.hub.told import BASE, CONTEXT_FILE
from tsllm.text.settings import SETTINGS


def open_saved(source: str, **options: Any) -> Any:
    """Loads a saved forecaster: of series (`NeuralForecaster`), of all series (`ZeroShotForecaster`), of text, several
    of these as one (`WeightedMean`), or one of these with what it is told (`ContextForecaster`).

    Args:
        source: A folder or a Hub id.
        **options: Of `from_pretrained`; of the base's for one that is told something, of every member's for several.

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
    several = open_members(source, **options)
    if several is not None:
        from tsllm.forecasting.weighted import WeightedMean

        return WeightedMean.load(*several)
    if ForecasterSpec.load(source, options.get("revision"), options.get("token")).freq == ANY_FREQ:
        from tsllm.forecasting.zero_shot import ZeroShotForecaster

        return ZeroShotForecaster.from_pretrained(source, **options)
    from tsllm.forecasting.neural import NeuralForecaster

    return NeuralForecaster.from_pretrained(source, **options)


def take_season(forecaster: Any, season: int) -> None:
    """Tells a saved forecaster the season of the data that it is to forecast, where it has none of its own.

    Args:
        forecaster: As `open_saved` returns it.
        season: Steps.

    Raises:
        ValueError: If it keeps the season that it was trained with, or reads none.
    """
    from tsllm.forecasting.base import check_count

    check_count("season", season)
    if not _take_season(forecaster, season):
        raise ValueError(
            f"--season has no effect on {forecaster.alias}: it keeps the season that it was trained with, or reads "
            "none; leave it out"
        )


def _take_season(forecaster: Any, season: int) -> bool:
    from tsllm.forecasting.context import ContextForecaster
    from tsllm.forecasting.weighted import WeightedMean
    from tsllm.forecasting.zero_shot import ZeroShotForecaster

    if isinstance(forecaster, ContextForecaster):
        forecaster.season = season
        _take_season(forecaster.base, season)
        return True
    if isinstance(forecaster, WeightedMean):
        taken = [_take_season(member, season) for member in forecaster.members]  # each is told, not up to the first
        return any(taken)
    if isinstance(forecaster, ZeroShotForecaster) and forecaster.model.uses_season:
        forecaster.season = season
        return True
    return False


def open_members(source: str, **options: Any) -> tuple[EnsembleSpec, list[Any]] | None:
    """Opens the members of a saved ensemble; None if it is no ensemble.

    Args:
        source: A folder or a Hub id.
        **options: Of `from_pretrained`, for every member.

    Raises:
        OSError: If a member is missing or damaged.
    """
    spec = EnsembleSpec.find(source, options.get("revision"), options.get("token"))
    if spec is None:
        return None
    folders = find_members(source, spec, options.pop("revision", None), options.pop("token", None))
    return spec, [open_saved(folder, **options) for folder in folders]


def find_members(
    source: str, spec: EnsembleSpec, revision: str | None = None, token: str | bool | None = None
) -> list[str]:
    """Returns the folders of the members of an ensemble, downloaded if it lies on the Hub.

    Raises:
        FileNotFoundError: If one is not there.
    """
    from tsllm.text.loading import fetch_folder

    folder = fetch_folder(source, revision, token)
    for part in spec.parts:
        if not (folder / part).is_dir():
            raise FileNotFoundError(f"{folder} holds no {part}/, which its {SPEC_FILE} names; save the ensemble again")
    return [str(folder / part) for part in spec.parts]


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

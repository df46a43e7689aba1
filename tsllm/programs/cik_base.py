"""Any forecaster as the base of Context is Key: built and fitted anew on the history of each instance."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from tsllm.data.cik import CikInstance
from tsllm.data.frame import future_frame
from tsllm.data.frequency import infer_alias
from tsllm.data.task import Asked, build_task, load_given
from tsllm.forecasting.base import Forecaster
from tsllm.forecasting.base_paths import sample_paths
from tsllm.forecasting.builders import build_text, load_written
from tsllm.forecasting.model_spec import ModelSpec, check_known, reads_texts
from tsllm.forecasting.paths import LEVELS
from tsllm.forecasting.roster import build_forecaster
from tsllm.forecasting.text import TextForecaster
from tsllm.hub.spec import ANY_FREQ, SPEC_FILE, ForecasterSpec, check_saved, find_file
from tsllm.types import ID, TARGET, TIME

_NAME = "target"


def _take_new_series(spec: ModelSpec) -> ModelSpec:
    """Has a saved model that was trained on series of its own scale the benchmark's by their history, if it can."""
    revision = spec.options.get("revision")
    if "new_series" in spec.options or find_file(spec.source, SPEC_FILE, revision) is None:
        return spec
    saved = ForecasterSpec.load(spec.source, revision)
    if saved.freq == ANY_FREQ or saved.layout == "multivariate":
        return spec
    return replace(spec, options={"new_series": "history"} | spec.options)


class CikBase:
    """Draws the paths of instances by a forecaster that is named as in a comparison.

    It sees the history of the target alone, the season of the benchmark and the times to come. A text model reads the
    whole history, unless its options say `context_length`, and its completions are the paths; any other's paths are
    drawn from its quantiles, or are its point forecast where it has none.

    Args:
        model: A name, a mapping as an entry of a comparison, or a `ModelSpec`.
        seed: Of training and draws.

    Attributes:
        spec: The model.
        unreadable: Instance -> completions of a text model, over all arms, that could not be read, for which others
            stand.

    Raises:
        ValueError: If there is no such model.

    Example:
        >>> from tsllm.programs.cik_base import CikBase
        >>> CikBase("SeasonalNaive").reads_texts, CikBase({"model": "timellm", "options": {"text_layers": 8}}).reads_texts
        (False, True)
    """  # noqa: E501

    def __init__(self, model: str | Mapping[str, Any] | ModelSpec, seed: int = 0) -> None:
        self.spec, self.seed = ModelSpec.parse(model), seed
        if self.spec.reader:
            raise ValueError(f"{self.spec.name}: the arms say who reads the texts; leave `reader` out of the model")
        check_known(self.spec.model)
        if self.spec.kind == "saved":
            check_saved(self.spec.source)
            self.spec = _take_new_series(self.spec)
        self.unreadable: dict[str, int] = {}
        self._language: tuple[Any, Any] | None = None

    @property
    def reads_texts(self) -> bool:
        """Whether it is known to read texts itself."""
        return self.spec.kind != "own" and reads_texts(self.spec)

    def draw(self, instance: CikInstance, past: np.ndarray, n: int, text: str = "") -> np.ndarray:
        """Draws paths [n, H] of an instance.

        Args:
            instance: Whose times and season count.
            past: Its history, or what effects made of it [L].
            n: Paths.
            text: What the forecaster reads itself.

        Raises:
            ValueError: If the times fit no frequency, the forecaster cannot take this history, or what it gives has
                another shape.
        """
        horizon = len(instance.future)
        freq = infer_alias(pd.DatetimeIndex(instance.past.index.append(instance.future)))
        history = pd.DataFrame({ID: _NAME, TIME: instance.past.index, TARGET: past})
        if freq is None or not (future_frame(history, horizon, freq)[TIME].to_numpy() == instance.future).all():
            raise ValueError(f"the times from {instance.past.index[0]} to {instance.future[-1]} fit no frequency")
        length = len(past) if self.spec.kind == "text" else None
        asked = Asked(h=horizon, context_length=length, freq=freq, season=instance.season)
        made = self._build(history, asked)
        made.verbose = False
        if text:
            made.tell({_NAME: text}, timeless=True)
        if isinstance(made, TextForecaster):
            paths = self._write(made.fit(history, horizon), history, n, instance.key)[:, :horizon]
        else:
            made.expect_levels(list(LEVELS))
            paths = sample_paths(made.fit(history, horizon), history, horizon, None, n, self.seed)[_NAME]
        if paths.shape != (n, horizon) or not np.isfinite(paths).all():
            gaps = int((~np.isfinite(paths)).sum())
            raise ValueError(f"its paths have shape {list(paths.shape)} and {gaps} gaps; due are {[n, horizon]}, none")
        return paths

    def _build(self, history: pd.DataFrame, asked: Asked) -> Forecaster:
        task = build_task(load_given(history, asked), asked)
        if self.spec.kind != "text":
            return build_forecaster(self.spec, task, self.seed)
        if self._language is None:
            self._language = load_written(self.spec)
        return build_text(self.spec, task, self._language)

    def _write(self, made: TextForecaster, history: pd.DataFrame, n: int, key: str) -> np.ndarray:
        """Returns n completions; where some cannot be read, readable ones drawn at random stand for them."""
        made.num_samples, made.seed = n, self.seed
        paths = made.sample(history)[_NAME]
        good = np.isfinite(paths).all(1)
        if not good.any():
            raise ValueError(f"none of its {n} completions can be read: {dict(made.report.failures)}")
        if not good.all():
            lost = int((~good).sum())
            self.unreadable[key] = self.unreadable.get(key, 0) + lost
            paths[~good] = paths[np.random.default_rng(self.seed).choice(np.flatnonzero(good), lost)]
        return paths

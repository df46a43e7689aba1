"""Several forecasters as one: their mean, weighted by how well each did on the last windows before the end."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pandas as pd

from tsllm.forecasting.base import Forecaster
from tsllm.forecasting.weighted import WeightedMean

if TYPE_CHECKING:
    from tsllm.data.task import ForecastTask
    from tsllm.forecasting.model_spec import ModelSpec


class Ensemble(WeightedMean):
    """The weighted mean of forecasters; interval bounds are averaged like the point forecasts (Lichtendahl 2013).

    Weights are inverse to the squared error on the validation windows (Bates & Granger 1969, without the covariances).
    Errors of a series are relative to the members' mean error on it, so that no series counts for its size. Then every
    member is fitted on all data.

    Members that can be saved (`NeuralForecaster`, `TextForecaster` ...) are saved with their weights in one folder.

    Args:
        members: Forecasters, or names of the roster ("AutoETS", "dlinear" ...), which `fit` builds for the data.
        alias: Name of the forecast column.
        weights: "validation"; "equal", which needs no validation; or the weights themselves, scaled to sum to 1.
        n_windows: Validation windows of `h` steps at the end of each series, one horizon apart.
        freq: Frequency of the data; None infers it. For members given by name.
        seed: Of members given by name.

    Attributes:
        weights: Alias -> weight; None before `fit`.
        errors: Alias -> relative error on the validation windows, 1 = as good as the mean of all; empty = none.

    Raises:
        ValueError: If there is no member, two have one alias, or the weights are none.

    Example:
        >>> import pandas as pd, tsllm
        >>> df = pd.DataFrame({"unique_id": "a", "ds": range(40), "y": [float(t % 4) for t in range(40)]})
        >>> both = tsllm.Ensemble([tsllm.SeasonalNaive(4), tsllm.SeasonalNaive(1, "Naive")]).fit(df, h=4)
        >>> {alias: round(weight, 2) for alias, weight in both.weights.items()}
        {'SeasonalNaive': 1.0, 'Naive': 0.0}
    """

    @classmethod
    def from_pretrained(
        cls, source: str | Path, *, revision: str | None = None, token: str | bool | None = None, **options: Any
    ) -> Self:
        """Opens an ensemble that `save_pretrained` or `push_to_hub` wrote; it forecasts at once.

        Args:
            source: A folder or a Hub id.
            revision: Branch, tag or commit on the Hub.
            token: Access token; None = the stored one.
            **options: Of the members' `from_pretrained` (`new_series`, `batch_size` ...), the same for all.

        Raises:
            OSError: If there is no such folder, or a file is missing or damaged.
            ValueError: If it holds something else than an ensemble.

        Example:
            ```python
            tsllm.Ensemble([narrow, wide], weights=[1, 3]).fit(df, h=24).save_pretrained("runs/both")
            tsllm.Ensemble.from_pretrained("runs/both").weights  # {'narrow': 0.25, 'wide': 0.75}
            ```
        """
        from tsllm.forecasting.saved import open_members

        opened = open_members(str(source), revision=revision, token=token, **options)
        if opened is None:
            raise ValueError(f"{source} holds no ensemble; tsllm.NeuralForecaster.from_pretrained opens a single one")
        return cls.load(*opened)

    def _build_members(self, df: pd.DataFrame, h: int) -> None:
        """Builds the members that were given by name."""
        if all(isinstance(member, Forecaster) for member in self.members):
            return
        from tsllm.data.task import Asked, build_task, load_given
        from tsllm.forecasting.builders import build_spec
        from tsllm.forecasting.model_spec import ModelSpec

        asked = Asked(h=h, freq=self.freq)
        task = build_task(load_given(df, asked), asked)
        self.members = [
            m if isinstance(m, Forecaster) else build_spec(ModelSpec.parse(m), task, self.seed, build_ensemble)
            for m in self.members
        ]
        for member in self.members:
            member.expect_levels(self._levels)
        self._check_aliases()
        self._name_covariates()


def build_ensemble(spec: "ModelSpec", task: "ForecastTask", seed: int) -> Forecaster:
    """Builds an ensemble of the roster with its members.

    Raises:
        ValueError: As `check_ensemble`, or if its options do not fit.
    """
    from tsllm.forecasting.builders import build_spec
    from tsllm.forecasting.checks import check_ensemble

    check_ensemble(spec, task)
    options = {name: value for name, value in spec.options.items() if name != "members"}
    members = [build_spec(member, task, seed, build_ensemble) for member in spec.members]
    return Ensemble(members, spec.name, freq=task.freq, **options)

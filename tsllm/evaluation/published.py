"""Published figures, to stand beside one's own: the same setting is compared, another one is named."""

from dataclasses import dataclass
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Cell:
    """A published figure.

    Attributes:
        data: Data set as named in `DATASETS`.
        context: Look-back, steps; 0 = the whole series.
        h: Steps ahead.
        model: As published.
        metric: Column of our tables.
        value: Figure.
        source: Where it stands.
    """

    data: str
    context: int
    h: int
    model: str
    metric: str
    value: float
    source: str


def _ett(context: int, source: str, rows: dict[str, tuple[float, ...]]) -> list[Cell]:
    """Reads rows of MSE and MAE in turn for the horizons 96, 192, 336 and 720."""
    cells = []
    for model, values in rows.items():
        for k, h in enumerate((96, 192, 336, 720)):
            cells.append(Cell("etth1", context, h, model, "scaled_mse", values[2 * k], source))
            cells.append(Cell("etth1", context, h, model, "scaled_mae", values[2 * k + 1], source))
    return cells


def _m3(data: str, h: int, rows: dict[str, float]) -> list[Cell]:
    return [Cell(data, 0, h, m, "smape", v, "Makridakis & Hibon (2000)") for m, v in rows.items()]


PUBLISHED: list[Cell] = [
    *_ett(
        96,
        "tables of TimeXer and iTransformer (2024)",
        {
            "TimeXer": (0.382, 0.403, 0.429, 0.435, 0.468, 0.448, 0.469, 0.461),
            "TimeMixer": (0.375, 0.400, 0.429, 0.421, 0.484, 0.458, 0.498, 0.482),
            "ITransformer": (0.386, 0.405, 0.441, 0.436, 0.487, 0.458, 0.503, 0.491),
            "PatchTST": (0.414, 0.419, 0.460, 0.445, 0.501, 0.466, 0.500, 0.488),
            "TimesNet": (0.384, 0.402, 0.436, 0.429, 0.491, 0.469, 0.521, 0.500),
            "DLinear": (0.386, 0.400, 0.437, 0.432, 0.481, 0.459, 0.519, 0.516),
        },
    ),
    *_ett(
        512,
        "table of Time-LLM (Jin 2024)",
        {
            "TimeLLM": (0.362, 0.392, 0.398, 0.418, 0.430, 0.427, 0.442, 0.457),
            "GPT4TS": (0.376, 0.397, 0.416, 0.418, 0.442, 0.433, 0.477, 0.456),
            "PatchTST": (0.370, 0.399, 0.413, 0.421, 0.422, 0.436, 0.447, 0.466),
            "DLinear": (0.375, 0.399, 0.405, 0.416, 0.439, 0.448, 0.472, 0.490),
            "ITransformer": (0.395, 0.420, 0.427, 0.441, 0.445, 0.457, 0.537, 0.530),
        },
    ),
    *_m3("m3-monthly", 18, {"DynamicOptimizedTheta": 13.89, "ForecastPro": 13.90, "SeasonalNaive": 16.89}),
    *_m3("m3-quarterly", 8, {"DynamicOptimizedTheta": 8.96, "ForecastPro": 9.82, "SeasonalNaive": 9.95}),
    *_m3("m3-yearly", 6, {"DynamicOptimizedTheta": 16.97, "ForecastPro": 17.27, "SeasonalNaive": 17.88}),
]
# Entrants whose published method is near ours but not the same.
_NEAR = {
    "DynamicOptimizedTheta": "published: the original Theta",
    "SeasonalNaive": "published: Naive2, which adjusts for season only where a test finds one",
}


def compare_with_published(table: pd.DataFrame, data: str, setting: dict[str, Any]) -> pd.DataFrame:
    """Sets own scores beside published ones.

    Args:
        table: From `score`.
        data: Name of the data set.
        setting: `h`; `context_length` (model -> look-back, or one for all); `all_windows`: whether each window of the
            customary test part was forecast; `split`: whether training ended at the customary border.

    Returns:
        One row a published figure of a model that was run, or of a model that was not (own value missing):
        `model, metric, yours, published, setting, source`; `setting` is "same" or names what differs. Empty where
        nothing is published for data and horizon.
    """
    own = table.set_index("model")
    rows = []
    for cell in PUBLISHED:
        if cell.data != data or cell.h != setting["h"]:
            continue
        value = own[cell.metric].get(cell.model) if cell.metric in own else None
        context = setting["context_length"]
        context = context.get(cell.model) if isinstance(context, dict) else context
        differs = []
        if cell.context and context is not None and context != cell.context:
            differs.append(f"look-back {context} instead of {cell.context}")
        if cell.context and not setting.get("all_windows", False):
            differs.append("not every test window")
        if not setting.get("split", True):
            differs.append("another split")
        if data.startswith("m3") and cell.model in _NEAR:
            differs.append(_NEAR[cell.model])
        rows.append(
            {
                "model": cell.model,
                "metric": cell.metric,
                "yours": value,
                "published": cell.value,
                "setting": "; ".join(differs) or "same",
                "source": cell.source,
            }
        )
    return pd.DataFrame(rows)

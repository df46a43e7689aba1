"""What `tsllm predict` shows on the screen."""

import pandas as pd
import pytest

from tsllm.cli.predict import pick_rows


def forecasts(series, h):
    return pd.DataFrame({"unique_id": [f"s{k}" for k in range(series) for _ in range(h)], "ds": [*range(h)] * series})


@pytest.mark.parametrize(
    ("series", "h", "shown", "title"),
    [
        (1, 3, {"s0": 3}, "3 rows"),
        (1, 48, {"s0": 24}, "48 rows, the first 24"),
        (2, 12, {"s0": 12, "s1": 12}, "24 rows"),
        (2, 13, {"s0": 12, "s1": 12}, "26 rows, the first 12 of each series"),
        (3, 48, {"s0": 8, "s1": 8, "s2": 8}, "144 rows, the first 8 of each series"),
        (
            9,
            5,
            {f"s{k}": 4 for k in range(6)},
            "45 rows, the first 4 of each of the first 6 series; 3 more series not shown",
        ),
        (
            7,
            2,
            {f"s{k}": 2 for k in range(6)},
            "14 rows, the first 2 of each of the first 6 series; 1 more series not shown",
        ),
    ],
)
def test_some_rows_of_each_series_are_shown_and_what_is_not_is_said(series, h, shown, title):
    rows, said = pick_rows(forecasts(series, h))
    assert rows["unique_id"].value_counts(sort=False).to_dict() == shown
    assert said == title

"""Which words mattered: parts are deleted one by one."""

import doctest

import numpy as np
import pandas as pd
import pytest

import tsllm.forecasting.words
from tsllm.forecasting.context import ContextForecaster
from tsllm.forecasting.naive import SeasonalNaive
from tsllm.forecasting.words import weigh_words

TIMES = pd.date_range("2024-01-01", periods=48, freq="h")
DF = pd.concat([pd.DataFrame({"unique_id": k, "ds": TIMES, "y": y}) for k, y in (("a", 10.0), ("b", 20.0))])
DF.loc[DF["ds"] < "2024-01-01 06:00", "y"] = 1.0  # a bound that the history never kept is not believed


def test_the_docstring_holds():
    assert doctest.testmod(tsllm.forecasting.words).failed == 0


def test_each_part_is_weighed_by_what_the_forecast_loses_without_it():
    told = ContextForecaster(SeasonalNaive(24)).fit(DF, 4)
    texts = {
        "a": "It rains. Output is capped at 4 from 2024-01-03 00:00 to 2024-01-03 02:00. Output is capped at 7.",
        "b": "It rains.",
    }
    found = weigh_words(told, DF, texts)
    assert found["unique_id"].tolist() == ["a", "a", "a", "b"]
    # With the text 4, 4, 7, 7; without the second sentence 7, 7, 7, 7; without the third 4, 4, 10, 10; plain 10.
    assert found["change"].tolist() == [0.0, 1.5, 1.5, 0.0]
    np.testing.assert_allclose(found["share"], [0.0, 1.5 / 4.5, 1.5 / 4.5, np.nan])
    words = weigh_words(told, DF, {"a": "Output is capped at 4."}, unit="word").set_index("part")["change"]
    assert words["capped"] == words["4."] == 6.0
    assert words["Output"] == 0.0
    assert weigh_words(told, DF, "").empty
    with pytest.raises(ValueError, match="unit is 'letter'; choose one of sentence, word"):
        weigh_words(told, DF, "", unit="letter")

import doctest

import numpy as np
import pandas as pd
import pytest

import tsllm
from tsllm.evaluation import plotting
from tsllm.types import FrameError


def make_history(names=("a", "b"), steps=20):
    return pd.concat(
        [
            pd.DataFrame({"unique_id": name, "ds": np.arange(steps), "y": 100.0 * k + np.arange(steps)})
            for k, name in enumerate(names)
        ]
    )


def make_forecasts(names=("a", "b"), start=20):
    frame = pd.concat([pd.DataFrame({"unique_id": name, "ds": [start, start + 1]}) for name in names])
    frame["One"], frame["Two"] = np.arange(len(frame)) + 50.0, -np.arange(len(frame)) * 1.0
    for level, width in ((80, 1.0), (95, 2.0)):
        frame[f"One-lo-{level}"], frame[f"One-hi-{level}"] = frame["One"] - width, frame["One"] + width
    return frame


def lines(ax):
    """Label -> (x, y) of each drawn line but the rule at the forecast's start."""
    return {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata()))
        for line in ax.lines
        if not line.get_label().startswith("_")
    }


def bands(ax):
    """Label -> corners of each band."""
    return {
        band.get_label(): {(float(x), float(y)) for x, y in band.get_paths()[0].vertices} for band in ax.collections
    }


def test_a_panel_holds_the_end_of_the_history_every_forecast_and_the_widest_band():
    figure = tsllm.plot(make_history(), make_forecasts())
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["a", "b"]
    drawn = lines(figure.axes[1])
    assert drawn == {
        "observed": ([14, 15, 16, 17, 18, 19], [114, 115, 116, 117, 118, 119]),  # three horizons of two steps
        "One": ([20, 21], [52, 53]),
        "Two": ([20, 21], [-2, -3]),
    }
    assert list(bands(figure.axes[1])) == ["One, 95 % interval"]
    assert bands(figure.axes[1])["One, 95 % interval"] >= {(20, 50), (20, 54), (21, 51), (21, 55)}


def test_models_levels_series_and_context_choose():
    figure = tsllm.plot(make_history(), make_forecasts(), models=["One"], level=[80, 95], series=["b"], context=3)
    (ax,) = figure.axes
    assert list(lines(ax)) == ["observed", "One"]
    assert lines(ax)["observed"] == ([17, 18, 19], [117, 118, 119])
    assert list(bands(ax)) == ["One, 95 % interval", "One, 80 % interval"]
    assert bands(ax)["One, 80 % interval"] >= {(20, 51), (20, 53), (21, 52), (21, 54)}
    assert not bands(tsllm.plot(make_history(), make_forecasts(), level=[]).axes[0])


def test_the_last_cutoff_of_a_back_test_is_drawn_with_what_happened():
    df = make_history()
    windows = tsllm.backtest(df, [tsllm.SeasonalNaive(4)], h=2, n_windows=3)
    drawn = lines(tsllm.plot(df, windows, context=1).axes[0])
    assert drawn == {"observed": ([17, 18, 19], [17, 18, 19]), "SeasonalNaive": ([18, 19], [14, 15])}


def test_what_came_later_is_drawn_as_far_as_the_forecast_goes():
    drawn = lines(tsllm.plot(make_history(), make_forecasts(start=16), context=1).axes[0])
    assert drawn["observed"] == ([15, 16, 17], [15, 16, 17])


def test_the_title_says_how_many_series_are_left_out():
    names = tuple("abcdef")
    figure = tsllm.plot(make_history(names), make_forecasts(names))
    assert figure.get_suptitle() == "4 of 6 series"
    assert len(figure.axes) == 4
    assert tsllm.plot(make_history(), make_forecasts()).get_suptitle() == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"models": ["Three"]}, "no model 'Three'; there are One, Two"),
        ({"models": "One"}, r"'One' is one name; give a list: \['One'\]"),
        ({"series": ["c"]}, "no series 'c'; there are a, b"),
        ({"series": []}, "no series is named"),
        ({"level": [50]}, "no model has an interval of 50 %"),
        ({"context": -1}, "context is -1"),
        ({"context": 2.5}, "context is 2.5"),
        ({"level": 80}, "level is 80; give a list"),
    ],
)
def test_what_is_not_there_is_told(options, message):
    with pytest.raises(ValueError, match=message):
        tsllm.plot(make_history(), make_forecasts(), **options)


def test_an_empty_forecast_is_told():
    with pytest.raises(FrameError, match="nothing to draw"):
        tsllm.plot(make_history(), make_forecasts().head(0))


def test_a_series_without_history_is_told():
    with pytest.raises(FrameError, match="df has no history of series 'b'"):
        tsllm.plot(make_history(("a",)), make_forecasts())


def test_the_example_holds():
    assert doctest.testmod(plotting).failed == 0

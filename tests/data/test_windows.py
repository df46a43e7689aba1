import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from tsllm.data.frame import validate_frame
from tsllm.data.scaling import StandardScaler
from tsllm.data.splits import ett_rule, split_frame
from tsllm.data.timefeatures import time_features
from tsllm.data.windows import WindowDataset, collate_windows, prediction_windows
from tsllm.types import FrameError


def series(n, name="a", offset=0.0, first=1):
    return pd.DataFrame({"unique_id": name, "ds": np.arange(first, first + n), "y": np.arange(float(n)) + offset})


def two(n=6, m=6):
    return pd.concat([series(n, "a"), series(m, "b", 100)], ignore_index=True)


def test_windows_of_two_channels_worked_by_hand():
    windows = WindowDataset(two(), context_length=3, prediction_length=2)
    assert len(windows) == 2
    first, second = windows[0], windows[1]
    assert first["past_values"].tolist() == [[0, 100], [1, 101], [2, 102]]
    assert first["future_values"].tolist() == [[3, 103], [4, 104]]
    assert second["past_values"].tolist() == [[1, 101], [2, 102], [3, 103]]
    assert second["future_values"].tolist() == [[4, 104], [5, 105]]
    assert first["past_observed_mask"].all()
    assert first["past_time_features"].shape == (3, 0)
    assert first["future_time_features"].shape == (2, 0)
    assert "past_covariates" not in first


def test_windows_of_a_panel_worked_by_hand():
    windows = WindowDataset(two(6, 5), context_length=3, prediction_length=2, layout="univariate")
    assert windows.num_channels == 1
    assert [windows[k]["past_values"][:, 0].tolist() for k in range(len(windows))] == [
        [0, 1, 2],
        [1, 2, 3],
        [100, 101, 102],
    ]
    frame = windows.window_frame()
    assert frame.to_dict("list") == {
        "window": [0, 1, 2],
        "channel": [0, 0, 0],
        "unique_id": ["a", "a", "b"],
        "cutoff": [3, 4, 3],
    }


@pytest.mark.parametrize(("stride", "starts"), [(1, [0, 1, 2, 3, 4, 5]), (2, [0, 2, 4, 5]), (5, [0, 5]), (9, [0, 5])])
def test_the_last_window_belongs_whatever_the_stride(stride, starts):
    windows = WindowDataset(series(10), 3, 2, stride=stride)
    assert [windows[k]["past_values"][0, 0].item() for k in range(len(windows))] == starts


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    context=st.integers(1, 6),
    horizon=st.integers(1, 4),
    stride=st.integers(1, 7),
)
def test_every_window_equals_the_slow_slice_and_none_is_left_out(lengths, context, horizon, stride):
    df = pd.concat([series(n, f"s{k}", 1000.0 * k) for k, n in enumerate(lengths)], ignore_index=True)
    if min(lengths) < context + horizon:
        with pytest.raises(FrameError, match="pad_short"):
            WindowDataset(df, context, horizon, layout="univariate", stride=stride)
        return
    windows = WindowDataset(df, context, horizon, layout="univariate", stride=stride)
    expected = []
    for k, n in enumerate(lengths):
        last = n - context - horizon
        for start in sorted({*range(0, last + 1, stride), last}):
            values = 1000.0 * k + np.arange(start, start + context + horizon)
            expected.append((f"s{k}", start + context, values[:context].tolist(), values[context:].tolist()))
    frame = windows.window_frame()
    got = [
        (
            row.unique_id,
            row.cutoff,
            windows[i]["past_values"][:, 0].tolist(),
            windows[i]["future_values"][:, 0].tolist(),
        )
        for i, row in enumerate(frame.itertuples())
    ]
    assert got == expected


def test_etth1_has_the_windows_of_the_field(data_folder):
    df = validate_frame(pd.read_csv(data_folder / "ETTh1.csv"))
    for context, horizon, count in ((512, 96, 2785), (96, 720, 2161), (96, 96, 2785)):
        parts = split_frame(df, ett_rule(), context)
        scaler = StandardScaler().fit(parts.train)
        windows = WindowDataset(scaler.transform(parts.test), context, horizon)
        assert len(windows) == count
        assert len(WindowDataset(parts.train, context, horizon)) == 8640 - context - horizon + 1
    order = ["HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"]
    windows = WindowDataset(scaler.transform(parts.test), 96, 96, channels=order)
    raw = pd.read_csv(data_folder / "ETTh1.csv")[order].to_numpy()
    train = raw[:8640]
    scaled = (raw - train.mean(0)) / train.std(0)
    first, last = windows[0], windows[-1]
    assert first["past_values"].numpy() == pytest.approx(scaled[11520 - 96 : 11520], abs=1e-5)
    assert last["future_values"].numpy() == pytest.approx(scaled[14400 - 96 : 14400], abs=1e-5)


def test_missing_values_are_zero_and_masked_in_the_past_and_stay_nan_in_the_future():
    df = series(6, offset=1)
    df.loc[[1, 4], "y"] = np.nan
    first, second = WindowDataset(df, 3, 2)[0], WindowDataset(df, 3, 2)[1]
    assert first["past_values"][:, 0].tolist() == [1, 0, 3]
    assert first["past_observed_mask"][:, 0].tolist() == [True, False, True]
    assert first["future_values"][0, 0].item() == 4
    assert first["future_values"][1, 0].isnan()
    assert second["past_values"][:, 0].tolist() == [0, 3, 4]
    assert second["future_values"][:, 0].isnan().tolist() == [True, False]


def test_a_batch_is_its_windows_stacked_in_the_order_asked():
    df = two(30, 30).assign(x=np.arange(60.0))
    df["ds"] = list(pd.date_range("2024-01-01", periods=30, freq="h")) * 2
    windows = WindowDataset(df, 5, 3, covariates=["x"])
    indices = [7, 0, 22, 7]
    fetched = windows.__getitems__(indices)
    stacked = collate_windows([windows[k] for k in indices])
    assert fetched.keys() == stacked.keys()
    for key in fetched:
        assert torch.equal(fetched[key], stacked[key]), key
    loader = DataLoader(windows, batch_size=4, collate_fn=collate_windows)
    seen = torch.cat([batch["past_values"][:, 0, 0] for batch in loader])
    assert seen.tolist() == list(range(23))


def test_time_features_belong_to_their_steps():
    df = series(30)
    df["ds"] = pd.date_range("2024-02-28 20:00", periods=30, freq="h")
    window = WindowDataset(df, 5, 3)[11]
    expected = time_features(df["ds"].iloc[11:19], "h")
    assert window["past_time_features"].numpy() == pytest.approx(expected[:5])
    assert window["future_time_features"].numpy() == pytest.approx(expected[5:])


def test_covariates_known_ahead_come_first_and_alone_reach_into_the_future():
    df = two().assign(known=np.arange(12.0), seen=-np.arange(12.0))
    panel = WindowDataset(df, 3, 2, layout="univariate", covariates=["known"], past_covariates=["seen"])
    window = panel[2]  # the first of series b
    assert panel.covariate_names == ("known", "seen")
    assert window["past_covariates"].tolist() == [[6, -6], [7, -7], [8, -8]]
    assert window["future_covariates"].tolist() == [[9], [10]]
    stacked = WindowDataset(df, 3, 2, covariates=["known"], past_covariates=["seen"])
    assert stacked.covariate_names == ("a:known", "b:known", "a:seen", "b:seen")
    assert stacked[0]["past_covariates"][0].tolist() == [0, 6, 0, -6]
    assert stacked[0]["future_covariates"].tolist() == [[3, 9], [4, 10]]
    only_past = WindowDataset(df, 3, 2, past_covariates=["seen"])
    assert "future_covariates" not in only_past[0]


def test_shared_covariates_take_one_column_or_are_refused():
    df = two().assign(holiday=[0.0, 1, 0, 0, 1, 1] * 2)
    windows = WindowDataset(df, 3, 2, covariates=["holiday"], share_covariates=True)
    assert windows[1]["past_covariates"][:, 0].tolist() == [1, 0, 0]
    df.loc[9, "holiday"] = 1.0
    with pytest.raises(FrameError, match="'holiday' differs between series"):
        WindowDataset(df, 3, 2, covariates=["holiday"], share_covariates=True)


def test_forecasts_are_dated_and_named():
    df = two()
    df["ds"] = list(pd.date_range("2024-01-01", periods=6, freq="h")) * 2
    windows = WindowDataset(df, 3, 2)
    truth = torch.stack([windows[k]["future_values"] for k in range(2)]).numpy()  # [N, H, C]
    frame = windows.to_frame({"TimeLLM": truth, "twice": 2 * truth})
    assert list(frame.columns) == ["unique_id", "ds", "cutoff", "TimeLLM", "twice"]
    assert frame["unique_id"].tolist() == ["a", "a", "b", "b"] * 2
    assert frame["cutoff"].dt.hour.tolist() == [2] * 4 + [3] * 4
    joined = frame.merge(df, on=["unique_id", "ds"])
    assert len(joined) == 8
    assert joined["TimeLLM"].tolist() == joined["y"].tolist()
    assert joined["twice"].tolist() == (2 * joined["y"]).tolist()
    assert (joined["ds"] > joined["cutoff"]).all()
    part = windows.to_frame({"TimeLLM": truth[1:]}, indices=[1])
    pd.testing.assert_frame_equal(part, frame.iloc[4:, :4].reset_index(drop=True))
    with pytest.raises(ValueError, match=r"shape \(2, 2\); expected \[N, H, C\] = \(2, 2, 2\)"):
        windows.to_frame({"TimeLLM": truth[..., 0]})


def test_forecasts_of_a_panel_are_dated_by_their_own_series():
    df = pd.concat([series(6, 1), series(9, 2, 100, first=50)], ignore_index=True)
    windows = WindowDataset(df, 3, 2, layout="univariate")
    truth = windows.gather(torch.arange(len(windows)))["future_values"].numpy()
    joined = windows.to_frame({"m": truth}).merge(df, on=["unique_id", "ds"])
    assert joined["unique_id"].dtype == df["unique_id"].dtype
    assert len(joined) == (2 + 5) * 2
    assert joined["m"].tolist() == joined["y"].tolist()


def test_short_series_are_refused_or_padded_with_unobserved_steps():
    df = two(8, 3)
    with pytest.raises(FrameError, match="series 'b' has 3 steps, context_length \\+ prediction_length is 6"):
        WindowDataset(df, 4, 2, layout="univariate")
    padded = WindowDataset(df, 4, 2, layout="univariate", pad_short=True)
    window = padded[len(padded) - 1]
    assert len(padded) == 3 + 1
    assert window["past_values"][:, 0].tolist() == [0, 0, 0, 100]
    assert window["past_observed_mask"][:, 0].tolist() == [False, False, False, True]
    assert window["future_values"][:, 0].tolist() == [101, 102]
    assert padded.window_frame()["cutoff"].iloc[-1] == 1


def test_series_that_do_not_share_their_times_are_no_channels():
    with pytest.raises(
        FrameError, match=r"'b' \(5 steps, 1 to 5\) and 'a' \(6 steps, 1 to 6\) do not share their times"
    ):
        WindowDataset(two(6, 5), 2, 1)
    with pytest.raises(FrameError, match="name each series once"):
        WindowDataset(two(), 2, 1, channels=["a"])


def test_channels_take_the_order_asked():
    windows = WindowDataset(two(), 2, 1, channels=["b", "a"])
    assert windows[0]["past_values"].tolist() == [[100, 0], [101, 1]]
    assert windows.window_frame()["unique_id"].tolist()[:2] == ["b", "a"]


def test_prediction_windows_reach_beyond_the_end():
    df = two().assign(x=np.arange(12.0))
    df["ds"] = list(pd.date_range("2024-01-01", periods=6, freq="h")) * 2
    ahead = pd.DataFrame(
        {
            "unique_id": ["b", "b", "a", "a"],
            "ds": list(pd.date_range("2024-01-01 06:00", periods=2, freq="h")) * 2,
            "x": [8.0, 9.0, 6.0, 7.0],
        }
    )
    windows = prediction_windows(df, 3, 2, future=ahead, covariates=["x"])
    assert len(windows) == 1
    window = windows[0]
    assert window["past_values"].tolist() == [[3, 103], [4, 104], [5, 105]]
    assert window["future_values"].isnan().all()
    assert window["future_covariates"].tolist() == [[6, 8], [7, 9]]
    dated = windows.to_frame({"m": np.arange(4.0).reshape(1, 2, 2)})
    assert dated["ds"].dt.hour.tolist() == [6, 7, 6, 7]
    assert dated["cutoff"].dt.hour.tolist() == [5] * 4
    assert dated["m"].tolist() == [0, 2, 1, 3]


def test_prediction_windows_of_a_panel_pad_short_histories_and_keep_the_order():
    df = pd.concat([series(2, "z"), series(9, "a", 100)], ignore_index=True)
    windows = prediction_windows(df, 4, 3, layout="univariate")
    assert windows.window_frame()["unique_id"].tolist() == ["z", "a"]
    assert windows[0]["past_values"][:, 0].tolist() == [0, 0, 0, 1]
    assert windows[0]["past_observed_mask"][:, 0].tolist() == [False, False, True, True]
    assert windows[1]["past_values"][:, 0].tolist() == [105, 106, 107, 108]
    assert windows.to_frame({"m": np.zeros((2, 3, 1))})["ds"].tolist() == [3, 4, 5, 10, 11, 12]


def test_unknown_covariates_of_the_horizon_are_told():
    df = two().assign(x=1.0)
    with pytest.raises(FrameError, match=r"\['x'\] must be known over the horizon"):
        prediction_windows(df, 3, 2, covariates=["x"])
    ahead = pd.DataFrame({"unique_id": ["a", "a", "b"], "ds": [7, 8, 7], "x": 1.0})
    with pytest.raises(FrameError, match="series 'b': no covariates for 8"):
        prediction_windows(df, 3, 2, covariates=["x"], future=ahead)
    with pytest.raises(FrameError, match="lacks column 'x'"):
        prediction_windows(df, 3, 2, covariates=["x"], future=ahead[["unique_id", "ds"]])


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"context_length": 0}, "context_length is 0"),
        ({"prediction_length": 0}, "prediction_length is 0"),
        ({"stride": 0}, "stride is 0"),
        ({"layout": "wide"}, "layout 'wide' is unknown"),
        ({"covariates": ["wind"]}, "covariate 'wind' is not in the frame"),
    ],
)
def test_impossible_settings_are_told(kwargs, text):
    with pytest.raises(ValueError, match=text):
        WindowDataset(two(), **{"context_length": 3, "prediction_length": 2, **kwargs})
    with pytest.raises(IndexError, match="window 2 of 2"):
        WindowDataset(two(), 3, 2)[2]

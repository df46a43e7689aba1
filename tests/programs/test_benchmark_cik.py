"""The benchmark as one command, on two instances made here."""

import json
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from tsllm.cli.main import app
from tsllm.context.effects import Effect
from tsllm.context.readers import EffectSpeaker
from tsllm.data.cik import load_cik
from tsllm.forecasting.neural import NeuralForecaster
from tsllm.forecasting.readers import OpenReader
from tsllm.programs.benchmark_cik import run_cik
from tsllm.programs.cik_table import compare_arms, write_differences, write_families


@pytest.fixture
def file(tmp_path):
    lines = []
    for seed, cap in ((1, 5.0), (2, 3.0)):
        times = pd.date_range("2024-01-01", periods=72, freq="h")
        y = 4 + 4 * np.sin(np.arange(72) / 24 * 2 * np.pi)
        truth = np.minimum(y[48:], cap)
        lines.append(
            {
                "name": "Capped", "seed": seed, "weight": "1/2", "background": "", "scenario": "",
                "constraints": f"Suppose that the values are bounded above by {cap}.", "seasonal_period": 24,
                "past_time": json.dumps({"y": {str(t): v for t, v in zip(times[:48], y, strict=False)}}),
                "future_time": json.dumps({"y": {str(t): v for t, v in zip(times[48:], truth, strict=True)}}),
                "region_of_interest": None, "metric_scaling": 0.5, "constraint_min": None, "constraint_max": cap,
                "constraint_variable_max_index": [], "constraint_variable_max_values": [],
            }
        )  # fmt: skip
    path = tmp_path / "cik.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def test_the_command_writes_forecasts_scores_and_report(file, tmp_path):
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["benchmark", "cik", str(file), "--output-dir", str(out), "--samples", "40"])
    assert result.exit_code == 0, result.output
    forecasts = np.load(out / "forecasts.npz")
    assert sorted(forecasts.files) == ["Capped/1", "Capped/2"]
    assert forecasts["Capped/2"].shape == (40, 24)
    assert forecasts["Capped/2"].max() == 3.0
    figures = json.loads((out / "metrics.json").read_text())["rcrps"]
    scores = pd.read_csv(out / "scores.csv", index_col=0)
    assert scores["rules"].mean() == pytest.approx(figures["rules"])
    # Without the text, and with the looser bound of the other instance, the penalty is paid.
    assert figures["rules"] < 0.2 < min(figures["none"], figures["data"])
    assert figures["rules"] < figures["swapped"]
    report = (out / "report.md").read_text()
    assert "GPT-4o, direct prompt (published) | 0.191" in report
    assert "not" not in report.split("published figures are over")[0]
    assert (out / "effects.txt").read_text().count("cap ") == 2


def test_equal_seeds_give_equal_figures(file, tmp_path):
    first, again = (run_cik(file, tmp_path / str(k), arms=["rules"], samples=20) for k in range(2))
    assert first == again


def test_arms_without_their_reader_are_refused(file, tmp_path):
    with pytest.raises(ValueError, match="`learned` needs a trained reader"):
        run_cik(file, tmp_path, arms=["learned"])
    with pytest.raises(ValueError, match="choose among none, data"):
        run_cik(file, tmp_path, arms=["oracle"])
    with pytest.raises(ValueError, match="the one that counts first"):
        run_cik(file, tmp_path, arms=["swapped", "rules"])
    with pytest.raises(ValueError, match=r"--samples is 1; .*give at least 2"):
        run_cik(file, tmp_path, samples=1)


def test_a_text_is_swapped_for_another_or_the_arm_is_refused(file, tmp_path):
    file.write_text(file.read_text().splitlines()[0])
    with pytest.raises(ValueError, match=r"`swapped` needs another text.*one instance.*--arms"):
        run_cik(file, tmp_path, samples=4)
    assert list(run_cik(file, tmp_path, arms=["rules", "none"], samples=4)) == ["rules", "none"]


class _Endless(EffectSpeaker):
    """Says of one instance what no score can be computed of."""

    def speak(self, text, window):
        return [Effect("multiply", 1e200), Effect("multiply", 1e201)] if "3.0" in text else [Effect("set", 1.0)]


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_a_forecast_that_cannot_be_scored_is_left_out_and_the_run_goes_on(file, tmp_path, monkeypatch):
    monkeypatch.setattr("tsllm.programs.benchmark_cik.open_reader", lambda _: OpenReader(_Endless()))
    figures = run_cik(file, tmp_path / "out", arms=["learned", "none"], reader="mine", samples=4)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["scored"], list(metrics["refused"])) == (1, ["learned"])
    assert "not finite" in metrics["refused"]["learned"]["Capped/2"]
    assert np.load(tmp_path / "out" / "forecasts.npz").files == ["Capped/1"]
    assert figures["learned"] > 0


def _add(file, name, times, horizon, season, weight="1/2", text=""):
    """Appends an instance whose values count 0, 1, 2 ..."""
    values = dict(zip(times.astype(str), map(float, range(len(times))), strict=True))
    past, future = (dict(list(values.items())[part]) for part in (slice(-horizon), slice(-horizon, None)))
    line = {"name": name, "seed": 1, "weight": weight, "constraints": text, "seasonal_period": season}
    line |= {"past_time": json.dumps({"y": past}), "future_time": json.dumps({"y": future}), "metric_scaling": 1.0}
    file.write_text(f"{file.read_text()}\n{json.dumps(line)}")


def test_a_forecaster_named_as_the_model_is_the_base(file, tmp_path):
    _add(file, "Months", pd.date_range("2024-01-01", periods=9, freq="MS"), 3, 1)
    _add(file, "Seconds", pd.date_range("2024-01-01", periods=30, freq="s"), 10, 1)
    arguments = ["benchmark", "cik", str(file), "--output-dir", str(tmp_path / "out"), "--samples", "20"]
    result = CliRunner().invoke(app, [*arguments, "--model", "SeasonalNaive", "--arms", "rules,none"])
    assert result.exit_code == 0, result.output
    told, blind = (np.load(tmp_path / "out" / name) for name in ("forecasts.npz", "forecasts-none.npz"))
    season = 4 + 4 * np.sin(np.arange(24) / 24 * 2 * np.pi)
    assert blind["Capped/1"] == pytest.approx(np.tile(season, (20, 1)))  # both days are alike, so nothing varies
    assert told["Capped/1"] == pytest.approx(np.tile(np.minimum(season, 5), (20, 1)))
    assert np.median(blind["Months/1"], 0) == pytest.approx([5, 5, 5], abs=0.3)
    assert blind["Seconds/1"].shape == (20, 10)
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["model"] == "SeasonalNaive"


def test_instances_that_the_model_cannot_take_are_left_out_and_told(file, tmp_path):
    _add(file, "Short", pd.date_range("2024-01-01", periods=6, freq="MS"), 3, 12)
    _add(file, "Ragged", pd.DatetimeIndex(["2024-01-01", "2024-01-02", "2024-01-09", "2024-03-01 05:00:01"]), 1, 1)
    out, said = tmp_path / "out", []
    figures = run_cik(file, out, model="SeasonalNaive", arms=["rules", "none"], samples=20, tell=said.append)
    metrics = json.loads((out / "metrics.json").read_text())
    assert (metrics["instances"], metrics["scored"]) == (4, 2)
    assert list(metrics["refused"]["rules"]) == ["Short/1", "Ragged/1"]
    assert "no observed value to repeat" in metrics["refused"]["none"]["Short/1"]
    assert "2 of 4 instances left out" in said[0]
    report = (out / "report.md").read_text()
    assert "2 of 4 instances are left out, 2 count:" in report
    assert report.count("Short/1 (rules, none)") == 1
    scores = pd.read_csv(out / "scores.csv", index_col=0)
    assert scores["rules"].mean() == pytest.approx(figures["rules"])
    assert sorted(np.load(out / "forecasts.npz").files) == ["Capped/1", "Capped/2"]


def test_a_model_that_can_take_no_instance_is_an_error_with_the_reason(tmp_path):
    file = tmp_path / "short.jsonl"
    file.write_text("")
    _add(file, "Short", pd.date_range("2024-01-01", periods=6, freq="MS"), 3, 12)
    with pytest.raises(ValueError, match=r"no instance .*Short/1.*no observed value to repeat"):
        run_cik(file, tmp_path / "out", model="SeasonalNaive", arms=["none"])
    with pytest.raises(ValueError, match="did you mean SeasonalNaive"):
        run_cik(file, tmp_path / "out", model="SeasonalNaiv")


def test_a_saved_model_forecasts_series_that_it_never_saw(file, tmp_path):
    hours = pd.date_range("2023-01-01", periods=200, freq="h")
    df = pd.DataFrame({"unique_id": "a", "ds": hours, "y": np.sin(np.arange(200) / 24 * 2 * np.pi)})
    options = {"context_length": 24, "layout": "univariate", "training": {"max_steps": 3}}
    made = NeuralForecaster("dlinear", 24, **options).fit(df)
    made.save_pretrained(tmp_path / "saved")
    _add(file, "Days", pd.date_range("2024-01-01", periods=60, freq="D"), 7, 7)
    out = tmp_path / "out"
    run_cik(file, out, model=tmp_path / "saved", arms=["none"], samples=4)
    past = load_cik(file)[0].past
    opened = NeuralForecaster.from_pretrained(tmp_path / "saved", new_series="history")
    expected = opened.predict(pd.DataFrame({"unique_id": "b", "ds": past.index, "y": past.to_numpy()}))
    assert np.median(np.load(out / "forecasts.npz")["Capped/1"], 0) == pytest.approx(expected["DLinear"], abs=1e-4)
    refused = json.loads((out / "metrics.json").read_text())["refused"]["none"]
    assert list(refused) == ["Days/1"]
    assert "freq" in refused["Days/1"]


def _answer(value):
    lines = "\n".join(f"({time}, {value})" for time in pd.date_range("2024-01-03", periods=24, freq="h"))
    return f"<forecast>{lines}</forecast>"


def test_a_text_model_reads_the_text_itself_and_unreadable_completions_are_counted(file, tmp_path, monkeypatch):
    def complete(model, tokenizer, prompts, h, codec, count, *args):
        assert count == 20
        told = [next((cap for cap in ("3.0", "5.0") if f"bounded above by {cap}." in p), "9") for p in prompts]
        assert all(prompt.count("(2024-01-0") == 48 for prompt in prompts)  # the whole history
        return [["nothing", *[_answer(value)] * 19] for value in told]

    tokenizer = type("Tokenizer", (), {"chat_template": None})()
    model = type("Model", (), {"device": "cpu"})()
    monkeypatch.setattr("tsllm.programs.cik_base.load_written", lambda spec: (model, tokenizer))
    monkeypatch.setattr("tsllm.forecasting.text.choose_separator", lambda tokenizer: ",")
    monkeypatch.setattr("tsllm.forecasting.text.sample_completions", complete)
    out = tmp_path / "out"
    options = ["--model", "text", "--set", "style=direct", "--set", "constrained=false", "--samples", "20"]
    result = CliRunner().invoke(app, ["benchmark", "cik", str(file), "--output-dir", str(out), *options])
    assert result.exit_code == 0, result.output
    drawn = {name: np.load(out / f"forecasts{name}.npz")["Capped/2"] for name in ("", "-none", "-swapped")}
    assert {name: np.unique(paths).tolist() for name, paths in drawn.items()} == {
        "": [3],
        "-none": [9],
        "-swapped": [5],
    }
    assert json.loads((out / "metrics.json").read_text())["unreadable"] == {"Capped/1": 3, "Capped/2": 3}
    assert "Over all arms 6 completions, of 2 instances, could not be read" in (out / "report.md").read_text()


def test_a_reader_that_speaks_is_an_arm_and_takes_no_turns(file, tmp_path, monkeypatch):
    class Capping(EffectSpeaker):
        def speak(self, text, window):
            return [Effect("cap", 3.0)]

    monkeypatch.setattr("tsllm.programs.benchmark_cik.open_reader", lambda folder: OpenReader(Capping()))
    run_cik(file, tmp_path / "out", arms=["learned", "none"], reader="spoken", samples=20)
    assert np.load(tmp_path / "out" / "forecasts.npz")["Capped/1"].max() == 3.0
    with pytest.raises(ValueError, match=r"spoken says effects .* take the arms rules and learned"):
        run_cik(file, tmp_path / "out", arms=["rules+learned"], reader="spoken")


def test_the_arm_model_needs_a_model_that_reads(file, tmp_path):
    with pytest.raises(ValueError, match="and there is none: give --model text"):
        run_cik(file, tmp_path, arms=["model"])
    with pytest.raises(ValueError, match="and SeasonalNaive reads none"):
        run_cik(file, tmp_path, arms=["model"], model="SeasonalNaive")


def test_every_other_arm_is_compared_with_p_values_for_their_number():
    keys = [f"Task{k}/{seed}" for k in range(5) for seed in (1, 2)]
    weights = dict.fromkeys(keys, Fraction(1, 2))
    best = dict.fromkeys(keys, 0.0)
    mixed = {key: -0.1 if key.startswith("Task0") else 0.4 for key in keys}
    found = compare_arms({"a": best, "control": dict.fromkeys(keys, 0.3), "none": mixed}, weights, "a")
    # Of 32 flips only all signs and none reach the sum of five equal differences.
    assert found["control"] | {"low": 0, "high": 0} == {
        "difference": pytest.approx(-0.3), "low": 0, "high": 0, "p": 2 / 32, "p_holm": 4 / 32, "instances": 10,
        "tasks": 5,
    }  # fmt: skip
    # |4 * .4 - .1| = 1.5 is also reached where the sign of the first task is the other.
    assert (found["none"]["p"], found["none"]["p_holm"]) == (4 / 32, 4 / 32)
    assert "| none | -0.300 |" in write_differences("a", found)


def test_families_are_the_tasks_of_one_weight():
    weights = {"A/1": Fraction(1), "B/1": Fraction(1, 4), "C/1": Fraction(1, 4), "C/2": Fraction(1, 4)}
    table = write_families({"rules": {"A/1": 0.5, "B/1": 0.1, "C/1": 0.3, "C/2": 0.2}}, weights)
    assert table.splitlines()[2:] == ["| 1 | 1 | 57% | 0.500 |", "| 1/4 | 2 | 43% | 0.200 |"]

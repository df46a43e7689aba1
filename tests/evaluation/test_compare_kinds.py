"""Comparisons of every kind of model: text, saved, pretrained, those of other packages, and ones that fail."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM
from typer.testing import CliRunner

from tests.evaluation.test_compare import QUICK, TINY, Interrupting, data, make_config, read_tables, run_with  # noqa: F401
from tests.forecasting.test_chronos import save_bolt
from tests.text.conftest import tokenizer  # noqa: F401
from tsllm.cli.main import app
from tsllm.data.facts import ANY, DataRead, SeriesRead, TrainingFacts
from tsllm.evaluation.compare import run_compare
from tsllm.evaluation.config import CompareConfig, DataEntry, ModelSpec
from tsllm.evaluation.leakage import LeakageError, check_saved_model, find_flags, flag_pretraining
from tsllm.evaluation.prepare import prepare_task
from tsllm.evaluation.saved import find_pretrained_base, read_history
from tsllm.evaluation.windows import Windows
from tsllm.forecasting.neural import NeuralForecaster
from tsllm.forecasting.text import TextForecaster

FIRST_CUTOFF = pd.Timestamp("2024-01-05 19:00")  # 140 hours less four windows of six
TEXT = {"context_length": 12, "num_samples": 3, "digits": 1}


@pytest.fixture
def llm(tmp_path, tokenizer):  # noqa: F811
    """A tiny causal language model with its tokenizer."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.3, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    folder = tmp_path / "tiny-llm"
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def save_adapter(tmp_path, llm, tokenizer):  # noqa: F811
    """Writes a text adapter as the recipes do: a PEFT folder beside `text_forecaster.json`."""

    def save(h, last="2024-01-05 19:00"):
        torch.manual_seed(1)
        model = get_peft_model(LlamaForCausalLM.from_pretrained(llm), LoraConfig(r=2, target_modules=["q_proj"]))
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter)
        model.save_pretrained(tmp_path / "adapter")
        read = dict.fromkeys("ab", SeriesRead("2024-01-01 00:00:00", last, 0))
        facts = TrainingFacts([DataRead("series", read)])
        TextForecaster(model.eval(), tokenizer, h=h, freq="h", facts=facts, **TEXT).save(tmp_path / "adapter")
        return tmp_path / "adapter"

    return save


@pytest.fixture
def save_series(tmp_path, data):  # noqa: F811
    """Trains a small model up to a time and saves it."""

    def save(last=FIRST_CUTOFF, seed=0):
        frame = pd.read_parquet(data)
        model = NeuralForecaster("dlinear", 6, freq="h", val_size=18, training=QUICK | {"seed": seed}, **TINY)
        model.fit(frame[frame["ds"] <= last]).save_pretrained(tmp_path / "saved")
        return tmp_path / "saved"

    return save


def test_text_saved_native_and_statistical_models_stand_side_by_side_and_a_failure_is_shown(
    data,  # noqa: F811
    tmp_path,
    llm,
    save_adapter,
    save_series,
):
    adapter, saved = save_adapter(h=8), save_series()
    (tmp_path / "gone").mkdir()  # a folder, so that it shows only when it is loaded that it holds no model
    models = [
        "SeasonalNaive",
        {"model": "AutoETS", "options": {"input_size": 48}},
        {"model": "dlinear", "options": TINY, "training": QUICK},
        {"model": "text", "options": {"language_model": str(llm), **TEXT}},
        str(adapter),
        {"model": str(saved), "alias": "Kept"},
        {"model": "text", "alias": "Gone", "options": {"language_model": str(tmp_path / "gone")}},
    ]
    config = make_config(data, tmp_path, models, focus="Kept")
    (result,) = results = run_compare(config)
    report, table, _ = read_tables(config, results)
    table = table.set_index("model")
    assert table["failed"].to_dict() == {
        "SeasonalNaive": 0, "AutoETS": 0, "DLinear": 0, "tiny-llm-text": 0, "TextLLM": 0, "Kept": 0, "Gone": 8,
    }  # fmt: skip
    assert "Gone failed in 8 windows, counted in each series (run): OSError" in report.to_html()
    assert "Gone gave no forecast in 8 windows (counted in each series); it is shown but not ranked." in report.finding
    # Their columns are those of the models themselves, from each cutoff's own history.
    frame, run = pd.read_parquet(data), result.runs[0].frame
    last = run[run["cutoff"] == run["cutoff"].max()]
    history = frame[frame["ds"] <= last["cutoff"].iloc[0]]
    alone = NeuralForecaster.from_pretrained(saved).predict(history, level=[80])
    np.testing.assert_allclose(last[["Kept", "Kept-lo-80"]], alone[["DLinear", "DLinear-lo-80"]])
    text = TextForecaster.from_pretrained(adapter)
    assert text.h == 8  # longer than the comparison's six
    np.testing.assert_allclose(last[["TextLLM", "TextLLM-hi-80"]], text.predict(history, 6, [80]).iloc[:, [2, 4]])
    assert not np.allclose(last["TextLLM"], last["tiny-llm-text"])
    # What is trained: all of the native model, an adapter's own tensors, nothing of a model that is as it was.
    sizes = table["trained_parameters"]
    assert sizes["DLinear"] == sizes["Kept"] == table.loc["Kept", "total_parameters"] > 0
    assert sizes["tiny-llm-text"] == 0 < sizes["TextLLM"] == 2 * (32 + 32) < table.loc["TextLLM", "total_parameters"]
    files = ("config.json", "model.safetensors", "forecaster.json", "calibration.safetensors")
    assert table.loc["Kept", "artefact_mb"] == pytest.approx(sum((saved / f).stat().st_size for f in files) / 1e6)
    counted = Interrupting(after=99)
    run_with(config, counted)
    assert counted.built == [("Gone", 0)]


def test_a_text_adapter_of_a_shorter_horizon_is_refused_in_words(data, tmp_path, save_adapter):  # noqa: F811
    config = make_config(data, tmp_path, ["SeasonalNaive", str(save_adapter(h=4))])
    with pytest.raises(ValueError, match="TextLLM: it forecasts 1 to 4 steps, the comparison asks for 6"):
        run_compare(config)


def test_large_models_that_nothing_trains_are_built_once(data, tmp_path, llm):  # noqa: F811
    text = {"model": "text", "alias": "Text", "options": {"language_model": str(llm), **TEXT}}
    config = make_config(data, tmp_path, ["SeasonalNaive", text])
    first = Interrupting(after=99)
    run_with(config, first)
    assert first.built.count(("Text", 0)) == 1
    assert first.built.count(("SeasonalNaive", 0)) == 4


@pytest.mark.parametrize("kind", ["saved", "text"])
def test_a_model_that_was_trained_on_test_windows_is_refused_before_the_first_step(
    data,  # noqa: F811
    tmp_path,
    kind,
    save_adapter,
    save_series,
):
    late = FIRST_CUTOFF + pd.Timedelta("1h")
    folder = save_series(late) if kind == "saved" else save_adapter(8, str(late))
    if kind == "text":
        settings = json.loads((folder / "text_forecaster.json").read_text())
        settings["data"]["reads"][0]["name"] = str(data)  # the very data that it is tested on
        (folder / "text_forecaster.json").write_text(json.dumps(settings))
    config = make_config(data, tmp_path, ["SeasonalNaive", "Naive", {"model": str(folder), "alias": "Late"}])
    with pytest.raises(ValueError, match=r"Late was trained or chosen on data of series .* up to 2024-01-05 20:00:00"):
        run_compare(config)
    assert not (tmp_path / "out").exists()


def test_training_on_other_series_is_no_leak_but_is_told(data):  # noqa: F811
    windows = prepare_task(DataEntry(str(data), h=6, n_windows=4)).windows
    known = SeriesRead("2024-01-01 00:00:00", "2024-06-01 00:00:00", 0)
    elsewhere = TrainingFacts([DataRead("elsewhere", {"x": known, "y": known})])
    said = check_saved_model("M", elsewhere, windows, "here")
    assert said.startswith("M was trained on other series (elsewhere) up to 2024-06-01")
    # Of these nothing is known but names; a series without a name may be any.
    for names in (["x", "a"], ["b"], [ANY]):
        facts = TrainingFacts([DataRead("elsewhere", dict.fromkeys(names, known))])
        with pytest.raises(LeakageError):
            check_saved_model("M", facts, windows, "here")


def test_the_end_of_a_series_is_compared_with_that_series_own_cutoff():
    frame = pd.DataFrame({"unique_id": ["a"] * 44 + ["b"] * 84, "ds": [*range(44), *range(84)], "y": 1.0})
    windows = Windows.of(frame, 1, 1, 1)  # cutoffs 42 and 82

    def facts(**ends):
        return TrainingFacts([DataRead(series={n: SeriesRead("0", end, 0) for n, end in ends.items()})])

    assert check_saved_model("M", facts(a="42", b="82"), windows) == ""
    for ends in ({"a": "43"}, {"b": "83"}, {"a": "1", "b": "83"}):
        with pytest.raises(LeakageError, match=f"up to {max(ends.values(), key=int)}"):
            check_saved_model("M", facts(**ends), windows)
    assert "cannot be placed" in check_saved_model("M", facts(a="2024-01-01"), windows)


def test_a_folder_that_was_trained_again_is_another_cell(data, tmp_path, save_series):  # noqa: F811
    folder = save_series(seed=0)
    config = make_config(data, tmp_path, ["SeasonalNaive", str(folder)])
    before = run_compare(config)[0].runs[0].frame["DLinear"]
    (folder / "metrics.json").write_text("{}")  # no part of the model
    counted = Interrupting(after=99)
    run_with(config, counted)
    assert counted.built == []
    save_series(seed=1)
    after = run_with(config, counted)[0].runs[0].frame["DLinear"]
    assert counted.built == [("DLinear", 0)]
    assert not np.allclose(before, after)


def test_look_backs_that_fail_are_left_out_and_named_and_none_left_is_a_failure(data, tmp_path):  # noqa: F811
    model = {"model": "dlinear", "options": {"moving_average": 3}, "training": QUICK}
    config = make_config(data, tmp_path, ["SeasonalNaive", model], seeds=[0], look_backs=[12, 4000])
    (result,) = run_compare(config)
    facts = result.facts["DLinear"][0]
    assert facts["look_back"] == 12
    assert list(facts["look_back_losses"]) == ["12"]
    assert "4000" in facts["look_back_failures"]
    config = make_config(data, tmp_path, ["SeasonalNaive", model], seeds=[0], look_backs=[4000])
    (result,) = run_compare(config)
    (failure,) = result.runs[0].failures
    assert failure.windows == 8
    assert "no look-back of [4000] could be validated" in failure.error


def test_packages_that_are_not_installed_are_failures_with_a_way_out(data, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setitem(sys.modules, "chronos", None)
    monkeypatch.setitem(sys.modules, "neuralforecast", None)
    models = ["SeasonalNaive", "Naive", "chronos:amazon/chronos-bolt-small", "neuralforecast:NHITS"]
    config = make_config(data, tmp_path, models, seeds=[0])
    (result,) = run_compare(config)
    errors = {f.model: f.error for f in result.runs[0].failures}
    assert errors["chronos-bolt-small"].endswith("pip install chronos-forecasting")
    assert errors["NHITS"].endswith("pip install neuralforecast")


def test_neuralforecast_models_are_trained_by_seed_and_share_look_back_search_and_levels(data, tmp_path):  # noqa: F811
    pytest.importorskip("neuralforecast", reason="neuralforecast is optional")
    model = {"model": "neuralforecast:MLP", "options": {"max_steps": 4, "hidden_size": 8}}
    config = make_config(data, tmp_path, ["SeasonalNaive", model], look_backs=[8, 12], max_seconds=30)
    (result,) = results = run_compare(config)
    table = read_tables(config, results)[1].set_index("model")
    assert table.loc["MLP", "failed"] == 0
    assert table.loc["MLP", "trained_parameters"] > 0
    assert table.loc["MLP", "artefact_mb"] > 0
    assert table.loc["MLP", "mae_sd"] > 0  # two seeds, two models
    frame = result.runs[0].frame
    assert (frame["MLP-lo-80"] <= frame["MLP"]).all()
    facts = result.facts["MLP"][0]
    losses = facts["look_back_losses"]
    assert facts["look_back"] == int(min(losses, key=losses.get))
    assert facts["steps"] == 4
    counted = Interrupting(after=99)
    run_with(config, counted)
    assert counted.built == []


def test_chronos_models_forecast_in_a_comparison(data, tmp_path):  # noqa: F811
    pytest.importorskip("chronos", reason="chronos-forecasting is optional")
    save_bolt(tmp_path / "tiny-bolt")
    config = make_config(data, tmp_path, ["SeasonalNaive", "Naive", f"chronos:{tmp_path}/tiny-bolt"], seeds=[0])
    results = run_compare(config)
    table = read_tables(config, results)[1].set_index("model")
    assert table.loc["tiny-bolt", "failed"] == 0
    assert table.loc["tiny-bolt", "trained_parameters"] == 0 < table.loc["tiny-bolt", "total_parameters"]


@pytest.mark.parametrize(
    ("model", "kind", "name", "trainable"),
    [
        ("timellm", "native", "TimeLLM", True),
        ("neuralforecast:NHITS", "neuralforecast", "NHITS", True),
        ("chronos:amazon/chronos-bolt-small", "chronos", "chronos-bolt-small", False),
        ("user/price-adapter", "saved", "price-adapter", False),
        ("runs/fit", "saved", "fit", False),
        ("package.module.Mine", "own", "Mine", False),
        ("AutoETS", "statistical", "AutoETS", False),
        ("SeasonalNaive", "naive", "SeasonalNaive", False),
    ],
)
def test_names_say_what_kind_a_model_is(model, kind, name, trainable):
    spec = ModelSpec(model)
    assert (spec.kind, spec.name, spec.is_trainable) == (kind, name, trainable)


def test_entries_that_would_be_ignored_are_refused():
    with pytest.raises(ValueError, match="text needs options"):
        ModelSpec("text")
    with pytest.raises(ValueError, match="unknown model 'dlinaer'; did you mean dlinear"):
        ModelSpec.parse({"model": "dlinaer", "training": {"max_steps": 1}})
    assert ModelSpec.parse({"model": "dlinear", "training": {"max_steps": 1}}).kind == "native"
    with pytest.raises(ValueError, match="AutoETS: training is for models of tsllm"):
        ModelSpec("AutoETS", training={"max_steps": 3})
    with pytest.raises(ValueError, match="look_backs are chosen by validation loss, but val_size is 0"):
        CompareConfig([{"name": "x", "val_size": 0}], ["SeasonalNaive"], look_backs=[12])


def test_pretrained_models_are_flagged_by_what_they_have_read(tmp_path, data, save_adapter, llm):  # noqa: F811
    adapter = save_adapter(8)
    assert find_pretrained_base(ModelSpec(str(adapter))) == "tiny-llm"
    assert find_pretrained_base(ModelSpec("timellm")) == "openai-community/gpt2"
    assert find_pretrained_base(ModelSpec("timellm", options={"backbone_weights": "random"})) == ""
    assert find_pretrained_base(ModelSpec("timellm", options={"reader": "none"})) == ""
    assert find_pretrained_base(ModelSpec("AutoETS")) == ""
    old = pd.DataFrame({"ds": pd.to_datetime(["2016-01-01"])})
    newer = pd.DataFrame({"ds": pd.to_datetime(["2025-02-01"])})
    assert "written as this model writes them" in flag_pretraining("T", "smollm2-135m", old, "text")
    assert "the series themselves may be among" in flag_pretraining("C", "amazon/chronos-bolt-small", old, "chronos")
    assert flag_pretraining("C", "amazon/chronos-bolt-small", newer, "chronos") == ""
    assert "up to 2025-10" in flag_pretraining("C", "amazon/chronos-2", newer, "chronos")
    text = {"model": "text", "alias": "T", "options": {"language_model": str(llm), **TEXT}}
    config = make_config(data, tmp_path, ["SeasonalNaive", text, str(adapter)])
    flags = find_flags(run_compare(config), config.models)
    assert [flag.split(":")[0] for flag in flags] == ["T", "TextLLM"]


def test_the_report_shows_how_saved_models_were_trained(data, tmp_path, save_series):  # noqa: F811
    folder = save_series()
    (folder / "history.json").unlink()
    config = make_config(data, tmp_path, ["SeasonalNaive", "Naive", str(folder)])
    results = run_compare(config)
    title = "How the saved models were trained"
    assert title not in [s.title for s in read_tables(config, results)[0].sections]
    log = [{"step": 1, "reward": 0.5}, {"step": 2, "eval_reward": 0.75, "eval_loss": 1.5}]
    (folder / "history.json").write_text(json.dumps(log))
    (section,) = [s for s in read_tables(config, results)[0].sections if s.title == title]
    rewards, losses = section.pictures
    assert "DLinear, validation decisions: 0.75 at step 2" in rewards.alt
    assert "DLinear validation 1.5" in losses.alt


def test_the_history_of_a_saved_model_is_read_where_there_is_one(tmp_path):
    assert read_history(ModelSpec(str(tmp_path))) == []
    (tmp_path / "history.json").write_text('[{"step": 1, "reward": 0.5}]')
    assert read_history(ModelSpec(str(tmp_path))) == [{"step": 1, "reward": 0.5}]


def test_saved_models_are_called_what_they_were_saved_as_and_by_their_folders_where_two_are_the_same(tmp_path):
    frame = pd.DataFrame({"unique_id": "a", "ds": range(60), "y": np.arange(60.0) % 7})
    for folder, alias in (("one", "Mine"), ("two", "Same"), ("three", "Same")):
        made = NeuralForecaster("dlinear", 3, alias=alias, season=7, training={"max_steps": 0}, **TINY)
        made.fit(frame).save_pretrained(tmp_path / folder)
    folders = [str(tmp_path / name) for name in ("one", "two", "three")]
    config = CompareConfig(["x"], ["Naive", *folders, {"model": folders[0], "alias": "Other"}], reference="Mine")
    assert [m.name for m in config.models] == ["Naive", "Mine", "two", "three", "Other"]
    later = pd.DataFrame({"unique_id": "a", "ds": range(70), "y": [*frame["y"], *range(10)]})
    later.to_csv(tmp_path / "d.csv", index=False)
    words = ["backtest", tmp_path / "d.csv", "--models", ",".join(["Naive", *folders]), "--h", 3, "--n-windows", 1]
    result = CliRunner().invoke(app, [*map(str, words), "--season", "7", "--output", str(tmp_path / "out.csv")])
    assert result.exit_code == 0, result.output
    columns = pd.read_csv(tmp_path / "out.csv").columns
    assert [c for c in columns if c in ("Naive", "Mine", "two", "three")] == ["Naive", "Mine", "two", "three"]

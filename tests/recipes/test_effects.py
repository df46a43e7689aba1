"""Teaching a language model to say effects: supervised, then by the CRPS gained, and used as a reader afterwards."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.recipes.programs import RECIPES, finish, launch, load_recipe
from tests.text.conftest import tokenizer  # noqa: F401
from tsllm.backbones.adapters import find_public_name
from tsllm.context.applying import Window
from tsllm.context.effects import Effect
from tsllm.context.events import Event
from tsllm.context.gain import EffectsGain
from tsllm.context.grammar import TAUGHT, open_answers
from tsllm.context.spoken import write_request, write_said
from tsllm.data.loading import load_frame
from tsllm.forecasting.context import ContextForecaster
from tsllm.forecasting.naive import SeasonalNaive
from tsllm.forecasting.neural import NeuralForecaster
from tsllm.forecasting.readers import open_reader
from tsllm.forecasting.saved import open_saved
from tsllm.forecasting.spoken import SpokenReader, SpokenSettings
from tsllm.hub.package import PackageError, check_package
from tsllm.programs.text_effects import keep_sayable
from tsllm.programs.text_start import check_spoken_start
from tsllm.text.loading import load_language_model, read_base_model
from tsllm.training.args import ArgumentsError
from tsllm.training.text.effects import EffectsReward, build_effects_dataset, build_gain, collect_events

SFT, GRPO = (f"--config={RECIPES}/configs/{name}/effects_smollm2.yaml" for name in ("sft_text", "grpo_text"))


@pytest.fixture(scope="module")
def place(tmp_path_factory, tokenizer):  # noqa: F811
    """A folder with forty days of an hourly series and a tiny language model."""
    folder = tmp_path_factory.mktemp("effects")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=1024, initializer_range=0.2,
        eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder / "llm")
    tokenizer.save_pretrained(folder / "llm")
    ds = pd.date_range("2024-01-01", periods=24 * 40, freq="h")
    y = 50 + 20 * np.sin(np.arange(24 * 40) * 2 * np.pi / 24)
    pd.DataFrame({"unique_id": "a", "ds": ds, "y": y}).to_csv(folder / "series.csv", index=False)
    return folder


def options(place, out, **changes):
    values = {
        "language_model": place / "llm", "dataset": place / "series.csv", "context_length": 48, "max_windows": 6,
        "prediction_length": 24, "test_windows": 2, "max_steps": 2, "bf16": "false", "output_dir": place / out,
        "lora_r": 4, "disable_tqdm": "true", "per_device_train_batch_size": 2, "season": 24,
    }  # fmt: skip
    return [f"{key}={value}" for key, value in (values | changes).items()]


@pytest.fixture(scope="module")
def taught(place):
    load_recipe("sft_text").main([SFT, *options(place, "sft")])
    return place / "sft"


def test_a_supervised_run_leaves_an_adapter_that_says_effects(place, taught):
    names = {path.name for path in taught.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "effects.json", "metrics.json", "README.md"} <= names
    metrics = json.loads((taught / "metrics.json").read_text())
    assert (metrics["writes"], metrics["steps"], metrics["events"]) == ("effects", 2, 6)
    assert set(metrics["test"]) == {"seen", "held_out"}
    rows = pd.read_csv(taught / "events_test.csv")
    assert rows.groupby("wordings")["reward"].mean().to_dict() == pytest.approx(
        {name: scores["reward"] for name, scores in metrics["test"].items()}
    )
    for name, beside in metrics["against_rules"].items():
        scores = metrics["test"][name]
        assert beside["difference"] == pytest.approx(scores["reward"] - scores["rules"])
    for scores in metrics["test"].values():
        assert scores["written"] > scores["reward"] >= -3.0
        assert scores["used"] >= scores["reward"]
        assert scores["silent"] <= scores["readable"]
    reader = open_reader(taught).read
    assert isinstance(reader, SpokenReader)
    df = pd.read_csv(place / "series.csv", parse_dates=["ds"])
    told = ContextForecaster(SeasonalNaive(24), reader).fit(df, 24)
    assert (told.predict(context="")["SeasonalNaive+context"] == told.base.predict()["SeasonalNaive"]).all()


def test_an_adapter_that_says_effects_is_kept_in_the_folder_of_a_told_forecaster(place, taught, tmp_path, caplog):
    df = pd.read_csv(place / "series.csv", parse_dates=["ds"])
    base = NeuralForecaster("dlinear", 24, context_length=48, training={"max_steps": 1}).fit(df)
    reader = SpokenReader.from_pretrained(taught)
    told = ContextForecaster(base, reader, context={"a": "Seven it is."}, timeless=True).fit(df)
    told.save_pretrained(tmp_path / "told")
    back = open_saved(str(tmp_path / "told"))
    assert isinstance(back.reader, SpokenReader)
    window = collect_events(df, 48, 24, 24, stride=24, most=1, seed=0)[0].window
    said = [r.say([r.ask(window, "Seven it is.")]) for r in (reader, back.reader)]
    assert said[0] == said[1]
    with caplog.at_level("WARNING"):
        SpokenReader.from_pretrained(taught, constrained=False).save_pretrained(tmp_path / "free")
    assert "was trained under the grammar of effects and is now free of it" in caplog.text
    caplog.clear()
    assert SpokenReader.from_pretrained(tmp_path / "free").constrained is False
    assert not caplog.text
    assert SpokenReader.from_pretrained(tmp_path / "free", constrained=True).grammar is not None
    assert "was trained without the grammar of effects and is now held to it" in caplog.text
    pd.testing.assert_frame_equal(back.predict(df), told.predict(df), check_exact=True)
    kept = {p.name for p in (tmp_path / "told" / "reader").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "effects.json", "README.md"} <= kept
    assert not {p.name for p in taught.iterdir() if p.is_dir()} & kept  # no checkpoints
    assert "Reader: spoken." in (tmp_path / "told" / "README.md").read_text()
    # The opened one can be saved again, and a folder without its adapter is refused by name.
    back.save_pretrained(tmp_path / "again")
    assert {p.name for p in (tmp_path / "again" / "reader").iterdir()} == kept
    assert {f"reader/{name}" for name in kept} <= set(check_package(tmp_path / "again"))
    (tmp_path / "again" / "reader" / "effects.json").unlink()
    with pytest.raises(PackageError, match=r"reader/effects.json is missing"):
        check_package(tmp_path / "again")
    with pytest.raises(FileNotFoundError, match=r"holds no effects\.json"):
        open_saved(str(tmp_path / "again"))
    whole = ContextForecaster(base, SpokenReader(reader.model, reader.tokenizer, 8))
    with pytest.raises(NotImplementedError, match=r"kept where it is an adapter of .*--reader FOLDER"):
        whole.save_pretrained(tmp_path / "whole")


def test_an_answer_is_used_and_one_that_is_none_is_warned_about(place, taught, caplog, monkeypatch):
    reader = SpokenReader.from_pretrained(taught)
    df = pd.read_csv(place / "series.csv", parse_dates=["ds"])
    told = ContextForecaster(SeasonalNaive(24), reader).fit(df, 24)
    asked = []
    monkeypatch.setattr(reader, "say", lambda requests: asked.extend(requests) or ["set 7 to 2024-02-10 03:00"])
    forecast = told.predict(context="Seven it is.")
    assert (forecast["SeasonalNaive+context"] == 7).tolist() == [True] * 3 + [False] * 21
    assert asked[0].startswith("Saturday 2024-02-10 00:00 to 23:00, values 30 to 70.")
    assert asked[0].endswith("\nText: Seven it is.\nEffects:")
    monkeypatch.setattr(reader, "say", lambda requests: ["seven"])
    assert (
        told.predict(context="Seven it is.")["SeasonalNaive+context"] == told.base.predict()["SeasonalNaive"]
    ).all()
    assert "the language model wrote 'seven', which is no list of effects; nothing is changed" in caplog.text
    monkeypatch.undo()
    with pytest.raises(ValueError, match="but the model reads 1024; give a shorter text"):
        told.predict(context="word " * 600)
    with pytest.raises(ValueError, match=r"max_tokens 0; it must lie in 1 to 1024"):
        SpokenSettings(0)
    with pytest.raises(FileNotFoundError, match=r"holds no effects\.json"):
        SpokenReader.from_pretrained(place / "llm")


def test_an_adapter_knows_the_weights_that_it_was_trained_on(taught, tmp_path):
    folder = shutil.copytree(taught, tmp_path / "copy")
    settings = json.loads((folder / "effects.json").read_text())
    assert settings["base"]["fingerprint"]
    (folder / "effects.json").write_text(json.dumps(settings | {"base": settings["base"] | {"fingerprint": "other"}}))
    with pytest.raises(ValueError, match=r"fingerprint other.*the weights are others"):
        SpokenReader.from_pretrained(folder)
    # PEFT's file names the packaged model as others can load it; here it is opened from the package.
    config = json.loads((folder / "adapter_config.json").read_text())
    public = {"base_model_name_or_path": find_public_name("smollm2-135m")[0]}
    (folder / "adapter_config.json").write_text(json.dumps(config | public))
    (folder / "effects.json").write_text(json.dumps(settings | {"base": settings["base"] | {"name": "smollm2-135m"}}))
    assert read_base_model(folder).name == "smollm2-135m" != public["base_model_name_or_path"]


def test_events_are_of_their_part_and_their_reward_is_that_of_the_effects(place):
    df = load_frame(str(place / "series.csv")).df
    events = collect_events(df, 48, 24, 24, stride=24, most=0, seed=0)
    last = collect_events(df, 48, 24, 24, stride=1, most=0, seed=0, last=2)
    assert {e.window.future_times[0] for e in last} <= set(pd.to_datetime(["2024-02-08", "2024-02-09"]))
    assert len(collect_events(df, 48, 24, 24, stride=24, most=5, seed=0)) == 5
    rows = build_effects_dataset(events)
    assert rows["prompt"][3] == write_request(events[3].window, events[3].text)
    assert rows["completion"][3] == " " + write_said(events[3].effects, events[3].window, events[3].text)
    logged = {}
    reward = EffectsReward(EffectsGain(), events)
    said = [*rows["completion"][:3], "nonsense"]
    scores = reward(rows["prompt"][:4], said, event=[0, 1, 2, 3], log_metric=logged.__setitem__)
    assert scores == [EffectsGain()(e.window, e.truth, s) for e, s in zip(events, said, strict=False)]
    assert scores[3] == -3.0
    assert logged == {"effects/readable": 0.75}
    # What was cut off is no answer: here the first ends with token 9, the second and an empty one do not.
    strict = EffectsReward(EffectsGain(), events, ends=[9])
    found = strict(rows["prompt"][:3], said[:3], [0, 1, 2], completion_ids=[[1, 9], [1, 9, 2], []])
    assert found == [scores[0], -3.0, -3.0]
    strict(rows["prompt"][:2], said[:2], [0, 1], completion_ids=[[9], [1]], log_metric=logged.__setitem__)
    assert logged == {"effects/readable": 0.5}
    assert reward(rows["prompt"][:2], said[:2], [0, 1], completion_ids=[[1], [2]]) == scores[:2]


def test_what_does_not_go_together_is_refused(place):
    sft, grpo = load_recipe("sft_text").main, load_recipe("grpo_text").main
    more = [[], ["num_generations=2"]]
    for main, config, change, message in (
        (sft, SFT, "thought_words=9", "effects are written without thoughts"),
        (sft, SFT, "writes=poems", "writes is 'poems'; choose one of numbers, effects"),
        (sft, SFT, "kinds=[sums]", "events have no kind 'sums'; choose of multiply, .*, place"),
        (sft, SFT, "kinds=[holiday]", "in which an event of the kinds holiday has a place; change context_length, or"),
        (sft, SFT, "focus=hard_cases", "leave focus and streaming out"),
        (grpo, GRPO, "reward=mase", "effects and effects_gain belong together"),
        (grpo, GRPO, "writes=numbers", "effects and effects_gain belong together"),
        (grpo, GRPO, "reward={name: effects_gain, weight: 2}", "has no option 'weight'"),
        (grpo, GRPO, "max_completion_length=16", "max_completion_length is 16, but an answer takes up to"),
    ):
        with pytest.raises(ArgumentsError, match=message):
            main([config, *options(place, "refused", test_windows=0), *more[main is grpo], change])
    with pytest.raises(ArgumentsError, match="bound"):
        build_gain({"name": "effects_gain", "bound": 0})
    weeks = pd.DataFrame({"unique_id": "a", "ds": pd.date_range("2024", periods=99, freq="W"), "y": 1.0})
    with pytest.raises(
        ArgumentsError, match=r"writes: effects: events are written for at least 8 steps ahead, .*window has 14"
    ):
        collect_events(weeks, 28, 14, 7, stride=7, most=0, seed=0)
    with pytest.raises(ArgumentsError, match="needs dates"):
        collect_events(weeks.assign(ds=range(99)), 28, 14, 7, stride=7, most=0, seed=0)


def test_training_goes_on_from_an_adapter_that_writes_the_same_and_was_asked_alike(place, taught, tmp_path, caplog):
    settings = json.loads((taught / "effects.json").read_text())
    numbers, old, free = (tmp_path / name for name in ("numbers", "old", "free"))
    numbers.mkdir()
    (numbers / "text_forecaster.json").write_text("{}")
    for folder, changes in ((old, {"format": 1}), (free, {"constrained": False, "kinds": ["cap", "floor"]})):
        folder.mkdir()
        (folder / "effects.json").write_text(json.dumps(settings | changes))
    sft, grpo = load_recipe("sft_text").main, load_recipe("grpo_text").main
    given = options(place, "refused", test_windows=0)
    refused = r"numbers was trained to write numbers \(text_forecaster.json\), but this run writes effects; give an"
    for main, config, more in ((sft, SFT, []), (grpo, GRPO, ["num_generations=2"])):
        with pytest.raises(ArgumentsError, match=refused):
            main([config, *given, *more, f"adapter={numbers}"])
    with pytest.raises(ArgumentsError, match=r"was trained to write effects \(effects.json\), but this run writes"):
        sft([f"--config={RECIPES}/configs/sft_text/epf_smollm2.yaml", *given, f"adapter={taught}"])
    with pytest.raises(ValueError, match=r"format 1, which asks in other words than this version"):
        grpo([GRPO, *given, "num_generations=2", f"adapter={old}"])
    check_spoken_start(taught, SpokenSettings(1, kinds=tuple(settings["kinds"])))
    assert not caplog.text
    check_spoken_start(free, SpokenSettings(1, kinds=tuple(settings["kinds"])))
    assert f"{free} was trained with constrained False, and goes on with True" in caplog.text
    assert f"{free} was trained with kinds ('cap', 'floor'), and goes on with ('multiply', 'raise'," in caplog.text


def test_training_goes_on_from_an_adapter_of_the_same_weights_alone(place, taught, tmp_path):
    torch.manual_seed(1)
    other = LlamaForCausalLM(LlamaForCausalLM.from_pretrained(place / "llm").config)
    other.save_pretrained(tmp_path / "other")
    load_language_model(str(place / "llm"))[1].save_pretrained(tmp_path / "other")
    changes = {"adapter": taught, "language_model": tmp_path / "other", "num_generations": 2, "test_windows": 0}
    with pytest.raises(ValueError, match="the weights are others"):
        load_recipe("grpo_text").main([GRPO, *options(place, "refused", **changes)])


def test_events_whose_answers_cannot_be_copied_are_counted_and_never_leave_silence_alone(caplog):
    ds = pd.date_range("2024-01-01", periods=72, freq="h")
    window = Window(np.arange(48.0), ds[:48], ds[48:], 24)
    said = Event(window, "Output is capped at 9.", [Effect("cap", 9.0)], np.full(24, 9.0))
    foreign = Event(window, "Zwanzig sind das Hoechste.", [Effect("cap", 20.0)], np.full(24, 20.0))
    quiet = Event(window, "It is winter.", [], np.arange(24.0))
    assert keep_sayable([said, quiet], TAUGHT) == [said, quiet]
    assert not caplog.text
    assert keep_sayable([said, foreign, quiet], TAUGHT) == [said, quiet]
    assert "1 of 3 events are left out of training: their answers cannot be copied from their texts" in caplog.text
    with pytest.raises(ArgumentsError, match=r"of 1 events that tell something none has .* set copies: false"):
        keep_sayable([foreign, quiet], TAUGHT)


def teach(folder, prompts, answers, steps=300):
    """Teaches the tiny model to give one of a few answers to any prompt, as fine-tuning would begin to."""
    model, words = load_language_model(str(folder / "llm"))
    model.train().requires_grad_(True)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        ids = [
            (words(str(rng.choice(prompts)))["input_ids"], [*words(f" {rng.choice(answers)}")["input_ids"],
             words.eos_token_id]) for _ in range(4)
        ]  # fmt: skip
        loss = sum(model(torch.tensor([p + a]), labels=torch.tensor([[-100] * len(p) + a])).loss for p, a in ids)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder / "half")
    words.save_pretrained(folder / "half")
    return folder / "half"


def test_rollouts_under_the_grammar_can_all_be_read_and_keep_to_their_texts(place, taught):
    changes = {"adapter": taught, "num_generations": 4, "per_device_train_batch_size": 8, "max_steps": 2}
    changes |= {"max_completion_length": 60, "test_windows": 2, "reward": "{name: effects_gain, silence: 0.5}"}
    load_recipe("grpo_text").main([GRPO, *options(place, "held", **changes)])
    metrics = json.loads((place / "held" / "metrics.json").read_text())
    assert metrics["reward"] == {"name": "effects_gain", "bound": 3.0, "cost": 0.02, "silence": 0.5}
    scores = [metrics[when][name] for when in ("start", "test") for name in ("seen", "held_out")]
    assert [score["readable"] for score in scores] == [1.0] * 4
    assert (place / "held" / "events_start.csv").is_file()
    for name, changed in metrics["comparison"].items():
        assert changed["paired"]["difference"] == pytest.approx(changed["reward"])
        assert changed["paired"]["events"] == metrics["test"][name]["events"]
    history = json.loads((place / "held" / "history.json").read_text())
    assert [entry["effects/readable"] for entry in history if "effects/readable" in entry] == [1.0] * 2
    reader = SpokenReader.from_pretrained(place / "held")
    events = collect_events(load_frame(str(place / "series.csv")).df, 48, 24, 24, stride=24, most=5, seed=3)
    for event, said in zip(events, reader.say([reader.ask(e.window, e.text) for e in events]), strict=True):
        assert open_answers(event.window, event.text).accepts(f" {said}")
    free = SpokenReader.from_pretrained(place / "held", constrained=False)
    assert free.grammar is None
    assert free.ask(events[0].window, events[0].text) == write_request(events[0].window, events[0].text)
    with pytest.raises(ValueError, match="not told what may stand behind the prompt"):
        reader.say(["Closed."])


def test_a_run_on_further_kinds_leaves_an_adapter_that_may_say_their_effects(place):
    kinds = ("sum", "delay", "trend", "fault")
    load_recipe("sft_text").main([SFT, *options(place, "kinds", kinds=f"[{', '.join(kinds)}]", max_steps=1)])
    metrics = json.loads((place / "kinds" / "metrics.json").read_text())
    assert (metrics["kinds"], metrics["unsayable"]) == (list(kinds), 0)
    reader = SpokenReader.from_pretrained(place / "kinds")
    assert reader.kinds == (*TAUGHT, "delay", "slope", "ignore")
    df = load_frame(str(place / "series.csv")).df
    events = collect_events(df, 48, 24, 24, stride=24, most=8, seed=0, kinds=kinds)
    assert {e.kind for event in events for e in event.effects} >= {"delay", "slope"}
    for event, said in zip(events, reader.say([reader.ask(e.window, e.text) for e in events]), strict=True):
        assert open_answers(event.window, event.text, reader.kinds).accepts(f" {said}")
    judge = EffectsReward(EffectsGain(), events)
    written = [judge.score(k, write_said(e.effects, e.window, e.text)) for k, e in enumerate(events)]
    assert min(written) > -3.0  # every one can be read


def test_silence_costs_where_something_is_told():
    ds = pd.date_range("2024-01-01", periods=72, freq="h")
    y = 10 + 4.0 * (np.arange(72) % 24 > 11)
    window = Window(y[:48], ds[:48], ds[48:], 24)
    told = Event(window, "Closed.", [Effect("set", 0.0)], np.zeros(24))
    quiet = Event(window, "Nothing.", [], y[48:])
    reward = EffectsReward(EffectsGain(silence=0.5), [told, quiet])
    assert reward([""] * 2, ["none", "none"], event=[0, 1]) == [-0.5, 0.0]
    assert reward.score(0, "none") == 0  # where a reader is judged, silence is what it is
    assert reward([""], ["set 0"], event=[0]) == [reward.score(0, "set 0")]
    for silence in (-1, 4, True):
        with pytest.raises(ValueError, match="silence"):
            EffectsGain(silence=silence)


@pytest.mark.slow
def test_grpo_turns_a_model_to_what_gains_and_away_from_what_cannot_be_read(place):
    df = load_frame(str(place / "series.csv")).df
    prompts = build_effects_dataset(collect_events(df, 48, 24, 24, stride=24, most=0, seed=0))["prompt"]
    model = teach(place, list(prompts), ["none", "set 900", "?"])
    changes = {"num_generations": 8, "per_device_train_batch_size": 16, "max_steps": 20, "max_windows": 0}
    changes |= {"max_completion_length": 160, "learning_rate": 0.01, "beta": 0.0, "language_model": model}
    changes |= {"lora_target_modules": "all-linear", "lora_r": 8, "constrained": "false"}
    output = finish(launch("grpo_text", GRPO, *options(place, "grpo", **changes)), 600)
    metrics = json.loads((place / "grpo" / "metrics.json").read_text())
    assert metrics["steps"] == len(metrics["rewards"]) == 20
    assert f"rewards {[round(reward, 4) for reward in metrics['rewards']]}" in output
    assert -3.0 < np.mean(metrics["rewards"][:3]) < -1.0  # none, far off and unreadable, about a third each
    assert np.mean(metrics["rewards"][-3:]) > np.mean(metrics["rewards"][:3]) + 0.8
    assert set(metrics["comparison"]) == {"seen", "held_out"}
    assert metrics["test"]["seen"]["silent"] == 1.0
    assert SpokenReader.from_pretrained(place / "grpo").say(list(prompts[:4])) == ["none"] * 4


@pytest.mark.slow
def test_a_run_in_which_no_answer_can_be_read_stops_and_says_how_to_begin(place, taught):
    changes = {
        "adapter": taught,
        "num_generations": 2,
        "max_completion_length": 160,
        "max_steps": 12,
        "constrained": "false",
    }
    with pytest.raises(RuntimeError, match=r"nothing was learned in 10 steps.*sft_text.py with writes: effects"):
        load_recipe("grpo_text").main([GRPO, *options(place, "idle", **changes)])

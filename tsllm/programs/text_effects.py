"""One run that teaches a language model to say effects: from written events, or by the CRPS that they gain."""

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tsllm.backbones.pretrained import SMOLLM2
from tsllm.context.effects import Effect
from tsllm.context.events import Event
from tsllm.context.gain import EffectsGain
from tsllm.context.grammar import name_effects, open_answers
from tsllm.context.readers import read_effects
from tsllm.context.spoken import align, read_said, write_said
from tsllm.data.splits import split_frame
from tsllm.data.task import build_task, load_data
from tsllm.forecasting.spoken import SpokenReader
from tsllm.hub.artefacts import describe_environment
from tsllm.hub.package import TEXT_ARTEFACTS
from tsllm.hub.record import write_card_file, write_history, write_metrics
from tsllm.programs.artefacts import writing
from tsllm.text.loading import fetch_folder, load_language_model, read_base_model
from tsllm.training.args import ArgumentsError, DataArguments
from tsllm.training.text.effects import EffectsReward, build_effects_dataset, collect_events, write_event_answer
from tsllm.training.text.supervised import TextModelArguments, save_adapter, train_text

logger = logging.getLogger(__name__)
OWNED = TEXT_ARTEFACTS
MORE_TOKENS = 8  # room of an answer beyond the longest that was written


@dataclass
class EffectsProgram:
    """What both ways of training share: events, the reader, tests before and after, files.

    Attributes:
        reader: Asks the model.
        train: Events to train on.
        tests: Name -> events of the test part, in `seen` and `held_out` wordings; empty = no test, or not here.
        gain: The reward, which also judges the tests.
        facts: For `metrics.json`.
        results: "start" and "test" -> name of the events -> scores.
    """

    reader: SpokenReader
    train: list[Event]
    tests: dict[str, list[Event]]
    gain: EffectsGain
    facts: dict[str, Any]
    results: dict[str, dict[str, Any]] = field(default_factory=dict)

    def test(self, when: str) -> None:
        """Tests the model as it is now."""
        if self.tests:
            self.results[when] = {
                name: score_reader(self.reader, found, self.gain) for name, found in self.tests.items()
            }
            logger.warning("%s: %s", when, self.results[when])

    def write(self, trainer: Any, folder: Path, content: dict[str, Any]) -> None:
        """Writes everything but the adapter, in the first process."""
        if not trainer.is_world_process_zero():
            return
        self.reader.describe().save(folder)
        write_metrics(folder, content)
        write_history(folder, trainer.state.log_history)
        write_card_file(folder, _CARD)


_CARD = """# Says effects

A LoRA adapter of tsllm that writes what a text means for a forecast, one effect a line.

```python
from tsllm import ContextForecaster, SeasonalNaive
from tsllm.forecasting.spoken import SpokenReader

told = ContextForecaster(SeasonalNaive(24), SpokenReader.from_pretrained("FOLDER"))
```
"""


def run_effects(
    model_args: TextModelArguments,
    data_args: DataArguments,
    args: Any,
    gain: EffectsGain,
    train_on_rewards: Callable[..., Any] | None = None,
) -> dict[str, Any]:
    """Trains a language model to say effects, tests before and after on the same events, and writes the adapter.

    Args:
        model_args: Model and LoRA.
        data_args: The panel that events are written about.
        args: `TextTrainingArguments` (written answers) or `TextPolicyArguments` (the reward).
        gain: The reward.
        train_on_rewards: Optimises the reward and returns its trainer; None = fine-tuning on the written answers.

    Returns:
        The content of `metrics.json`.

    Raises:
        ArgumentsError: If the data have no dates or no step of minutes to a day, or hold no window.
    """
    program = prepare_effects(model_args, data_args, args, gain)
    reader, dataset = program.reader, build_effects_dataset(program.train, program.reader.ask)
    began = time.monotonic()
    if train_on_rewards is not None:
        trainer = _train_by_reward(program, dataset, model_args, args, train_on_rewards)
    else:
        trainer = train_text(reader.model, reader.tokenizer, dataset, model_args, args, reader.grammar)
    seconds = time.monotonic() - began
    with writing(trainer, OWNED) as folder:
        save_adapter(trainer, reader.tokenizer, folder)
        reader.model = trainer.accelerator.unwrap_model(trainer.model).eval()
        program.test("test")
        log = trainer.state.log_history
        content = program.results | program.facts | {
            "seconds": round(seconds, 3), "steps": trainer.state.global_step, "seed": args.seed,
            "learning_rate": args.learning_rate, "processes": args.world_size,
            "loss": [entry["loss"] for entry in log if "loss" in entry],
            "rewards": [entry["rewards/task/mean"] for entry in log if "rewards/task/mean" in entry],
            "environment": describe_environment(), "comparison": compare(program.results),
        }  # fmt: skip
        program.write(trainer, folder, content)
    return content


def prepare_effects(
    model_args: TextModelArguments, data_args: DataArguments, args: Any, gain: EffectsGain
) -> EffectsProgram:
    """Loads data and model, writes the events, and tests the starting point if that is asked for."""
    data_args.refuse_scale("what a text means is learned on the values as they are")
    asked = data_args.asked()
    loaded = load_data(data_args.dataset, asked, data_path=data_args.data_path, targets=data_args.targets)
    task = build_task(loaded, asked)
    splits = split_frame(loaded.df, task.split, task.context_length)
    cut = (task.context_length, task.h, task.season)
    train = collect_events(
        splits.train,
        *cut,
        stride=data_args.train_stride,
        most=args.max_windows,
        seed=args.seed,
        languages=model_args.languages,
        kinds=model_args.kinds,
    )
    tested = args.test_windows if args.should_save else 0
    tests = {
        name: collect_events(
            splits.test,
            *cut,
            stride=1,
            most=0,
            seed=10_000 + args.seed,
            held_out=name != "seen",
            last=tested,
            languages=[name] if name in model_args.test_languages else ["en"],
            kinds=model_args.kinds,
        )
        for name in ("seen", "held_out", *model_args.test_languages)
        if tested
    }
    if model_args.language_model is None:
        adapter = model_args.adapter
        model_args.language_model = read_base_model(fetch_folder(adapter)).name if adapter else SMOLLM2
    model, tokenizer = load_language_model(
        model_args.language_model, adapter=model_args.adapter, revision=model_args.revision, device=args.device,
        load_in_4bit=model_args.load_in_4bit,
    )  # fmt: skip
    written, said = len(train), name_effects(model_args.kinds)
    if model_args.constrained and model_args.copies:
        train = [e for e in train if open_answers(e.window, e.text, said).accepts(write_event_answer(e))]
    longest = max(len(tokenizer(write_event_answer(e))["input_ids"]) for e in train) + MORE_TOKENS
    facts = {
        "writes": "effects", "dataset": loaded.name, "language_model": model_args.language_model,
        "context_length": task.context_length, "prediction_length": task.h, "events": len(train),
        "quiet": sum(not e.effects for e in train), "unsayable": written - len(train),
        "windows": {name: len(found) for name, found in tests.items()},
        "reward": {"name": "effects_gain", "bound": gain.bound, "cost": gain.cost, "silence": gain.silence},
        "constrained": model_args.constrained, "copies": model_args.copies, "kinds": list(model_args.kinds),
    }  # fmt: skip
    reader = SpokenReader(model, tokenizer, longest, model_args.constrained, model_args.copies, said)
    program = EffectsProgram(reader, train, tests, gain, facts)
    if args.evaluate_start:
        program.test("start")
    return program


def _train_by_reward(
    program: EffectsProgram, dataset: Any, model_args: TextModelArguments, args: Any, train: Callable[..., Any]
) -> Any:
    longest = args.max_completion_length or 0
    if longest < program.reader.max_tokens:
        raise ArgumentsError(
            f"max_completion_length is {longest}, but an answer takes up to {program.reader.max_tokens} tokens; "
            "raise it"
        )
    function = EffectsReward(program.gain, program.train)
    reader = program.reader
    return train(reader.model, reader.tokenizer, dataset, [function], model_args, args, reader.grammar)


@dataclass(frozen=True)
class ReaderScores:
    """How a reader did on events.

    Attributes:
        events: How many.
        readable: Share of answers that could be read.
        exact: Share that say what was written.
        kinds: Share of the told events (not quiet) whose answer has the kinds of effects that were written.
        numbers: The same with their numbers.
        spans: The same with their spans, whatever the numbers.
        silent: Share of answers that say nothing; 1 = training has learned to keep silent, and `quiet` is blind to it.
        reward: Mean reward; what cannot be read has the floor.
        used: The same where what cannot be read changes nothing, as in a forecast.
        written: Mean reward of the effects that the texts were written from.
        rules: Mean reward of what the regular expressions read.
        quiet: Mean reward on events that say nothing; 0 is best.
    """

    events: int
    readable: float
    exact: float
    kinds: float
    numbers: float
    spans: float
    silent: float
    reward: float
    used: float
    written: float
    rules: float
    quiet: float


def score_reader(reader: SpokenReader, events: list[Event], gain: EffectsGain) -> dict[str, Any]:
    """Scores answers to the texts of events; means are over the events, in units of the seasonal scale."""
    said = reader.say([reader.ask(e.window, e.text) for e in events])
    judge = EffectsReward(gain, events)
    rewards = np.array([judge.score(k, answer) for k, answer in enumerate(said)])
    read = [read_said(answer, e.window, text=e.text) for answer, e in zip(said, events, strict=True)]
    readable = np.array([effects is not None for effects in read])
    pairs = [(align(found or (), e.window), align(e.effects, e.window)) for found, e in zip(read, events, strict=True)]
    exact = [set(found) == set(meant) for found, meant in pairs]
    used = np.where(readable, rewards, 0.0)
    quiet = np.array([not e.effects for e in events])
    rules = [judge.score(k, write_said(read_effects(e.text, e.window), e.window)) for k, e in enumerate(events)]
    written = [judge.score(k, write_said(e.effects, e.window, e.text)) for k, e in enumerate(events)]
    scores = ReaderScores(
        len(events), float(readable.mean()), float(np.mean(readable & np.array(exact))),
        share_right(pairs, lambda e: (e.kind,)), share_right(pairs, lambda e: (e.kind, e.number)),
        share_right(pairs, lambda e: (e.kind, e.start, e.end)),
        float(np.mean([found == [] for found in read])), float(rewards.mean()),
        float(used.mean()), float(np.mean(written)), float(np.mean(rules)),
        float(used[quiet].mean()) if quiet.any() else 0.0,
    )  # fmt: skip
    return asdict(scores)


def share_right(pairs: list[tuple[list[Effect], list[Effect]]], part: Callable[[Effect], tuple[Any, ...]]) -> float:
    """Returns in which share of the pairs (said, meant) that mean something a part of the effects is the same."""
    right = [set(map(part, said)) == set(map(part, meant)) for said, meant in pairs if meant]
    return float(np.mean(right)) if right else 1.0


def compare(results: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """Returns what training changed on each set of events: the score at the end less that at the start."""
    if len(results) < 2:
        return None
    return {
        name: {
            key: end[key] - results["start"][name][key] for key in ("readable", "exact", "silent", "reward", "used")
        }
        for name, end in results["test"].items()
    }

"""One run that teaches a language model to say effects: from written events, or by the CRPS that they gain."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from tsllm.backbones.pretrained import SMOLLM2
from tsllm.context.events import Event
from tsllm.context.gain import EffectsGain
from tsllm.context.grammar import name_effects, open_answers
from tsllm.data.splits import split_frame
from tsllm.data.task import build_task, load_data
from tsllm.forecasting.spoken import SpokenReader, SpokenSettings
from tsllm.hub.artefacts import describe_environment
from tsllm.hub.package import TEXT_ARTEFACTS
from tsllm.hub.record import write_card_file, write_history, write_metrics
from tsllm.programs.artefacts import writing
from tsllm.programs.effects_scores import compare, compare_with_rules, score_reader
from tsllm.programs.text_start import check_spoken_start
from tsllm.text.loading import fetch_folder, load_language_model, read_base_model
from tsllm.training.args import ArgumentsError, DataArguments
from tsllm.training.text.effects import EffectsReward, build_effects_dataset, collect_events, write_event_answer
from tsllm.training.text.supervised import TextModelArguments, save_adapter, train_text

logger = logging.getLogger(__name__)
OWNED = (*TEXT_ARTEFACTS, "events_*.csv")
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
        rows: The same with a row for each event.
    """

    reader: SpokenReader
    train: list[Event]
    tests: dict[str, list[Event]]
    gain: EffectsGain
    facts: dict[str, Any]
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: dict[str, dict[str, pd.DataFrame]] = field(default_factory=dict)

    def test(self, when: str) -> None:
        """Tests the model as it is now."""
        if self.tests:
            scored = {name: score_reader(self.reader, found, self.gain) for name, found in self.tests.items()}
            self.results[when] = {name: scores for name, (scores, _) in scored.items()}
            self.rows[when] = {name: rows for name, (_, rows) in scored.items()}
            logger.warning("%s: %s", when, self.results[when])

    def write(self, trainer: Any, folder: Path, content: dict[str, Any]) -> None:
        """Writes everything but the adapter, in the first process."""
        if not trainer.is_world_process_zero():
            return
        self.reader.describe().save(folder)
        write_metrics(folder, content)
        write_history(folder, trainer.state.log_history)
        for when, found in self.rows.items():
            named = [rows.assign(wordings=name) for name, rows in found.items()]
            pd.concat(named).to_csv(folder / f"events_{when}.csv", index=False)
        write_card_file(folder, _CARD)


_CARD = """# Says effects

A LoRA adapter of tsllm that writes what a text means for a forecast, one effect a line.

```python
from tsllm import ContextForecaster, SeasonalNaive
from tsllm.forecasting.spoken import SpokenReader, SpokenSettings

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
            "environment": describe_environment(),
            "comparison": compare(program.results, program.rows),
            "against_rules": compare_with_rules(program.rows.get("test", {})),
        }  # fmt: skip
        program.write(trainer, folder, content)
    return content


def prepare_effects(
    model_args: TextModelArguments, data_args: DataArguments, args: Any, gain: EffectsGain
) -> EffectsProgram:
    """Loads data and model, writes the events, and tests the starting point if that is asked for."""
    data_args.refuse_scale("what a text means is learned on the values as they are")
    said = name_effects(model_args.kinds)
    check_spoken_start(model_args.adapter, SpokenSettings(1, {}, model_args.constrained, model_args.copies, said))
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
    written = len(train)
    if model_args.constrained and model_args.copies:
        train = keep_sayable(train, said)
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


def keep_sayable(events: list[Event], kinds: Sequence[str]) -> list[Event]:
    """Returns the events whose answers can be copied from their texts; how many are left out is logged.

    Raises:
        ArgumentsError: If of those that tell something none can, so that silence alone would be learned.
    """
    kept = [e for e in events if open_answers(e.window, e.text, kinds).accepts(write_event_answer(e))]
    told = sum(bool(e.effects) for e in events)
    if told and not any(e.effects for e in kept):
        raise ArgumentsError(
            f"of {told} events that tell something none has an answer whose numbers and moments are found in its "
            "text, as copies: true wants; set copies: false, as texts in other languages than English need it"
        )
    if len(kept) < len(events):
        logger.warning(
            "%d of %d events are left out of training: their answers cannot be copied from their texts (copies: true)",
            len(events) - len(kept), len(events),
        )  # fmt: skip
    return kept


def _train_by_reward(
    program: EffectsProgram, dataset: Any, model_args: TextModelArguments, args: Any, train: Callable[..., Any]
) -> Any:
    longest = args.max_completion_length or 0
    if longest < program.reader.max_tokens:
        raise ArgumentsError(
            f"max_completion_length is {longest}, but an answer takes up to {program.reader.max_tokens} tokens; "
            "raise it"
        )
    reader = program.reader
    function = EffectsReward(program.gain, program.train, reader.ends)
    return train(reader.model, reader.tokenizer, dataset, [function], model_args, args, reader.grammar)

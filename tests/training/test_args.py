import enum
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from tsllm.programs.series_policy import ControlArguments
from tsllm.training.args import (
    ArgumentsError,
    DataArguments,
    ForecastTrainingArguments,
    ModelArguments,
    check_training,
    coerce,
    load_yaml,
    parse_arguments,
)
from tsllm.training.policy.args import PolicyArguments, PolicyTrainingArguments


@dataclass
class Toy:
    rate: float = 0.1
    steps: int = 1
    name: str = "x"
    flag: bool = False
    columns: list[str] | None = None
    split: list[float] | dict[str, Any] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    resume: str | bool | None = None
    resume_from_checkpoint: str | bool | None = None


def parse(*tokens):
    return parse_arguments((Toy,), tokens)[0]


def test_the_command_line_overrides_yaml_in_each_of_its_spellings(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("rate: 1e-4\nsteps: 3\noptions: {d_model: 8, dropout: 0.1}\n")
    toy = parse("--config", str(file), "--steps", "5", "name=b", "--options.d_model=16")
    assert (toy.rate, toy.steps, toy.name, toy.options) == (1e-4, 5, "b", {"d_model": 16, "dropout": 0.1})
    assert parse(f"--config={file}").steps == 3
    assert parse(f"config={file}").steps == 3


@pytest.mark.parametrize(
    ("tokens", "field_name", "value"),
    [
        (["--rate", "3"], "rate", 3.0),
        (["--rate", "5e-5"], "rate", 5e-5),
        (["--flag"], "flag", True),
        (["--flag", "false"], "flag", False),
        (["--name", "12"], "name", "12"),
        (["name=no"], "name", "no"),
        (["--columns", "a", "b"], "columns", ["a", "b"]),
        (["--columns", "a"], "columns", ["a"]),
        (["columns=[a, b]"], "columns", ["a", "b"]),
        (["columns=[]"], "columns", []),
        (["--columns", "null"], "columns", None),
        (["--split", "0.7", "0.1", "0.2"], "split", [0.7, 0.1, 0.2]),
        (["split={validation: 2024-01-03, test: 2024-01-05}"], "split", "dict"),
        (["--resume_from_checkpoint"], "resume_from_checkpoint", True),
        (["--resume_from_checkpoint", "steps=3"], "resume_from_checkpoint", True),
        (["--resume-from-checkpoint", "runs/x/checkpoint-3"], "resume_from_checkpoint", "runs/x/checkpoint-3"),
        (["--resume", "true"], "resume", True),
        (["options.lora={r: 4}", "options.rate=1e-3"], "options", {"lora": {"r": 4}, "rate": 1e-3}),
    ],
)
def test_values_are_read_as_their_fields_type(tokens, field_name, value):
    found = getattr(parse(*tokens), field_name)
    if value == "dict":
        assert sorted(found) == ["test", "validation"]
    else:
        assert found == value
        assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepz: 3", r"unknown argument 'stepz'; did you mean steps\?"),
        ("steps: 3.5", "steps is 3.5 .*must be a whole number"),
        ("steps: '3'", "steps is '3' .*must be a whole number"),
        ("flag: 1", "flag is 1 .*must be true or false"),
        ("flag: 'yes'", "flag is 'yes'"),
        ("rate: fast", "rate is 'fast'"),
        ("rate: true", "rate is True"),
        ("name: 3", "name is 3 .*must be text"),
        ("name: no", "name is False .*must be text; YAML reads a bare no"),
        ("columns: [1]", r"columns\[0\] is 1"),
        ("columns: a", "columns is 'a'"),
        ("options: [1]", "options is"),
        ("steps: 1\nsteps: 2", "'steps' appears twice"),
        ("- steps", "must hold a mapping"),
        ("steps: [", "no valid YAML"),
    ],
)
def test_yaml_is_held_to_names_and_types(tmp_path, text, message):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ArgumentsError, match=message):
        parse("--config", str(file))


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("hint", "value", "told"),
    [
        (Literal["mean", "median"], "mode", "x is 'mode' (text); it must be mean or median"),
        (Literal["a", "b"] | None, 3, "x is 3 (whole number); it must be null, a or b"),
        (list[Literal["a", "b"]], ["c"], "x[0] is 'c' (text); it must be a or b"),
        (int, None, "x is null; it must be a whole number"),
        (str | None, 1.5, "x is 1.5 (number); it must be null or text"),
        (dict[str, Any], [], "x is [] (list); it must be a mapping"),
        (list[Any], None, "x is null; it must be a list"),
        (list[str] | str, {}, "x is {} (mapping); it must be a list of texts or text"),
        (tuple[int, ...], "a", "x is 'a' (text); it must be a list of whole numbers"),
        (Colour, "blue", "x is 'blue' (text); it must be red"),
        (float, 10**400, "it must be a number"),
        (bool, "yes", "x is 'yes' (text); it must be true or false"),
    ],
)
def test_errors_name_what_is_allowed_in_the_words_of_yaml(hint, value, told):
    with pytest.raises(ArgumentsError) as caught:
        coerce(value, hint, "x")
    assert told in str(caught.value)
    assert not re.search(r"Literal|typing|NoneType|<class|\bAny\b", str(caught.value))


def test_a_file_nested_without_end_is_no_valid_yaml(tmp_path):
    file = tmp_path / "deep.yaml"
    file.write_text("x: " + "[" * 5000)
    with pytest.raises(ArgumentsError, match=r"deep\.yaml is no valid YAML"):
        load_yaml(file)


@pytest.mark.parametrize("tokens", [["steps"], ["-s", "3"], ["--config"], ["--steps", "2", "--steps.inner", "3"]])
def test_a_token_that_is_no_option_is_an_error(tokens):
    with pytest.raises(ArgumentsError):
        parse(*tokens)


def test_a_missing_configuration_is_named():
    with pytest.raises(FileNotFoundError, match=r"no configuration nowhere\.yaml"):
        load_yaml("nowhere.yaml")


def test_help_lists_the_fields(capsys):
    with pytest.raises(SystemExit):
        parse("--help")
    assert "--steps" in capsys.readouterr().out


def test_help_tells_what_the_docstring_says_of_a_field(capsys):
    classes = (ModelArguments, PolicyTrainingArguments, PolicyArguments, ControlArguments)
    with pytest.raises(SystemExit):
        parse_arguments(classes, ["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "Supervised steps of the start; not used if `pretrained` names one." in shown
    assert "Forecasts drawn a window to score a distribution in evaluation." in shown
    assert "as `reward@name`; a newsvendor with costs u and o takes u / (u + o)." in shown
    assert "name, dotted path, mapping or list of mappings" in shown, "a field's own help comes first"
    assert "%%" not in shown


def test_the_recipes_arguments_parse_together(tmp_path):
    model, data, args = parse_arguments(
        (ModelArguments, DataArguments, ForecastTrainingArguments),
        ["model=dlinear", "dataset=etth1", f"output_dir={tmp_path}", "learning_rate=1e-3", "--use_cpu"],
    )
    assert (model.model, data.dataset, args.learning_rate, args.use_cpu) == ("dlinear", "etth1", 1e-3, True)
    assert args.restore_callback_states_from_checkpoint
    assert not args.remove_unused_columns


def test_half_precision_that_nothing_here_computes_is_refused_and_both_ways_out_work(tmp_path, monkeypatch):
    monkeypatch.setattr("tsllm.training.args.is_torch_bf16_gpu_available", lambda: False)
    file = "recipes/configs/sft_series/etth1_gpt2.yaml"
    classes = (ModelArguments, DataArguments, ForecastTrainingArguments)
    tokens = [f"--config={Path(__file__).parents[2] / file}", f"output_dir={tmp_path}"]
    with pytest.raises(ArgumentsError, match="bf16 is true, but no GPU here computes in bfloat16") as refused:
        parse_arguments(classes, tokens)
    advised = re.findall(r"(--\w+) (true|false)", str(refused.value))
    assert advised == [("--bf16", "false"), ("--use_cpu", "true")]
    found = [parse_arguments(classes, [*tokens, *words])[2] for words in advised]
    assert [(args.bf16, args.use_cpu) for args in found] == [(False, False), (True, True)]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train_stride=0", "train_stride is 0"),
        ("layout=wide", "layout is 'wide'"),
        ("lr_schedule=type9", "lr_schedule is 'type9'"),
        ("early_stopping_patience=-1", "early_stopping_patience is -1"),
        ("lr_scheduler_type=sometimes", "sometimes is not a valid SchedulerType"),
    ],
)
def test_values_out_of_range_are_errors(tmp_path, override, message):
    with pytest.raises(ValueError, match=message):
        parse_arguments(
            (ModelArguments, DataArguments, ForecastTrainingArguments),
            ["model=dlinear", "dataset=etth1", f"output_dir={tmp_path}", override],
        )


def test_a_missing_data_set_is_an_error():
    with pytest.raises(ArgumentsError, match="dataset is missing"):
        DataArguments()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr_scheduler_type": "foo"}, r"training\.lr_scheduler_type is 'foo'; choose one of linear, cosine"),
        ({"optim": "foo"}, r"training\.optim is 'foo'"),
        ({"warmup_steps": -3}, r"training\.warmup_steps is -3\.0; it must be at least 0"),
        ({"metric_for_best_model": "foo"}, r"training\.metric_for_best_model is 'foo'; choose one of loss, mse"),
        ({"eval_strategy": "foo"}, r"training\.eval_strategy is 'foo'; choose one of no, steps, epoch"),
        ({"seed": -1}, r"training\.seed is -1"),
        ({"seed": 2**32}, "below 2"),
        ({"report_to": "foo"}, r"report_to is \['foo'\]"),
        ({"layer_clip": {"foo": 1}}, "layer_clip is {'foo': 1}.*'foo'"),
        ({"layer_clip": {"lam": 1}}, r"set max_grad_norm to 0, not 1\.0"),
        ({"group_sampler": {"foo": 1}}, "group_sampler is {'foo': 1}.*'foo'"),
        ({"group_sampler": {"num_probes": 0}}, "num_probes is 0"),
        ({"group_sampler": {"floor": 2}}, r"floor must lie in \[0, 1\], got 2"),
        ({"save_strategy": "no"}, "save_strategy has no effect"),
        ({"save_steps": 7}, "save_steps has no effect"),
        ({"resume_from_checkpoint": "x"}, "resume_from_checkpoint has no effect"),
        ({"eval_strategy": "epoch", "eval_steps": 5}, "eval_strategy is 'epoch', so eval_steps has no effect"),
        ({"eval_strategy": "no", "early_stopping_patience": 2}, "early_stopping_patience has no effect"),
        ({"max_steps": 5, "num_train_epochs": 2}, r"max_steps \(5\) ends training, so num_train_epochs has no effect"),
    ],
)
def test_options_of_a_training_in_memory_are_refused_before_it(options, message):
    with pytest.raises(ValueError, match=message):
        check_training(options)


@pytest.mark.parametrize(
    "options",
    [
        {"lr_scheduler_type": "linear", "optim": "sgd", "warmup_steps": 3, "metric_for_best_model": "eval_mae"},
        {"eval_strategy": "steps"},
        {"eval_strategy": "epoch", "num_train_epochs": 2},
        {"layer_clip": {"lam": 1.0}, "max_grad_norm": 0, "group_sampler": {"beta": 2.0, "season": 7}},
        {"eval_steps": 7, "max_steps": -1, "num_train_epochs": 2},
    ],
)
def test_options_of_a_training_in_memory_are_passed_on(options):
    assert check_training(options) == options


@pytest.mark.parametrize("key", ["learning_rate", "weight_decay", "adam_epsilon", "max_grad_norm"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_an_option_that_is_not_finite_is_refused_by_name(key, value):
    with pytest.raises(ArgumentsError, match=f"training.{key} is .*; give a finite number"):
        check_training({key: value})

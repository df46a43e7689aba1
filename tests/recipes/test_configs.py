"""Every configuration names the command that launches it and parses strictly, without loading data or weights."""

import re

import pytest
import yaml

from tests.recipes.programs import RECIPES, ROOT
from tsllm.backbones.pretrained import find_smollm2
from tsllm.data.sources import DATASETS
from tsllm.models import MODELS
from tsllm.training.args import (
    DataArguments,
    ForecastTrainingArguments,
    ModelArguments,
    parse_arguments,
)
from tsllm.training.build import read_model_config

CONFIGS = sorted((RECIPES / "configs").glob("*/*.yaml"))
SUPERVISED = [p for p in CONFIGS if p.parent.name in ("sft_series", "train_native")]
PRETRAINING = sorted((RECIPES / "configs" / "pretrain_series").glob("*.yaml"))
TEXT = sorted((RECIPES / "configs" / "sft_text").glob("*.yaml"))
ACCELERATE = sorted((RECIPES / "accelerate").glob("*.yaml"))


def name(path):
    return str(path.relative_to(RECIPES))


@pytest.mark.parametrize("path", CONFIGS, ids=name)
def test_a_configuration_opens_with_the_command_that_launches_it(path):
    first = path.read_text(encoding="utf-8").splitlines()[0]
    if first.startswith("# tsllm "):
        command = {"long_term": "benchmark long-term"}.get(path.parent.name, path.parent.name)
        assert first == f"# tsllm {command} {path.relative_to(ROOT)}"
        return
    # A recipe that starts no training process is launched by python itself.
    command = r"# (?:accelerate launch (?:--\S+ \S+ )*|python )(recipes/\w+\.py) (?:--config )?(\S+)(?: .*)?"
    found = re.fullmatch(command, first)
    assert found, first
    assert ROOT / found[2] == path
    assert (ROOT / found[1]).is_file()
    assert found[1] == f"recipes/{path.parent.name}.py"


@pytest.mark.parametrize("path", SUPERVISED, ids=name)
def test_a_supervised_configuration_parses_strictly(path):
    model, data, args = parse_arguments(
        (ModelArguments, DataArguments, ForecastTrainingArguments), [f"--config={path}", "--use_cpu", "bf16=false"]
    )
    config_class = MODELS.get(model.model).config_class
    source = DATASETS.get(data.dataset)
    values = read_model_config(config_class, model.model_config)
    config = config_class(
        **values,
        context_length=data.context_length or source.context_length,
        prediction_length=data.prediction_length or source.prediction_length,
        num_channels=7,
    )
    assert {k: getattr(config, k) for k in values} == values
    assert not config.reference_quirks
    assert args.output_dir.startswith("runs/")
    assert args.num_train_epochs <= 100


@pytest.mark.parametrize("path", sorted((RECIPES / "configs" / "long_term").glob("*.yaml")), ids=name)
def test_a_configuration_of_the_long_term_protocol_parses_strictly(path):
    from tsllm.evaluation.protocol import LongTermConfig

    config = LongTermConfig.load(path)
    assert config.output_dir == f"runs/long_term/{path.stem}"
    for spec in config.models:
        if spec.kind == "native":
            known = MODELS.get(spec.model).config_class.own_fields()
            read_model_config(
                MODELS.get(spec.model).config_class, {k: v for k, v in spec.options.items() if k in known}
            )


@pytest.mark.parametrize("path", TEXT, ids=name)
def test_a_text_configuration_parses_strictly(path, tmp_path):
    from tsllm.training.text.supervised import TextModelArguments, TextTrainingArguments

    classes = (TextModelArguments, DataArguments, TextTrainingArguments)
    changes = ["--use_cpu", "bf16=false", f"output_dir={tmp_path}"]
    model, data, args = parse_arguments(classes, [f"--config={path}", *changes])
    text = yaml.safe_load(path.read_text(encoding="utf-8"))
    found = vars(model) | vars(data) | vars(args)
    skipped = {"output_dir", "bf16", "use_cpu"}
    assert {k: found[k] for k in text if k not in skipped} == {k: v for k, v in text.items() if k not in skipped}
    assert text["output_dir"] == f"runs/sft_text/{path.stem}"
    assert DATASETS.get(data.dataset).season


@pytest.mark.parametrize("path", PRETRAINING, ids=name)
def test_a_pretraining_configuration_parses_strictly(path):
    from tsllm.programs.pretrain_series import StreamArguments

    classes = (StreamArguments, ModelArguments, ForecastTrainingArguments)
    stream, model, args = parse_arguments(classes, [f"--config={path}", "--use_cpu", "bf16=false"])
    config_class = MODELS.get(model.model).config_class
    values = read_model_config(config_class, model.model_config)
    sizes = {"context_length": stream.context_length, "prediction_length": stream.prediction_length}
    config = config_class(**values, **sizes)
    assert {k: getattr(config, k) for k in values} == values
    text = yaml.safe_load(path.read_text(encoding="utf-8"))
    skipped = {"model_config", "bf16"}  # read above; refused without a GPU's support or set otherwise here
    found = vars(stream) | vars(model) | vars(args)
    told = {k: float(v) if k in ("learning_rate", "weight_decay") else v for k, v in text.items() if k not in skipped}
    assert {k: found[k] for k in told} == told
    assert config.head == "quantile"
    assert stream.build_config(args.seed).context_length == stream.context_length
    assert args.max_steps > 0
    assert args.output_dir == f"runs/pretrain_series/{path.stem}"


@pytest.mark.parametrize("path", [p for p in PRETRAINING if "gpu" not in p.stem], ids=name)
def test_what_a_cpu_pretrains_is_an_artefact_below_ten_megabytes(path):
    from tsllm.models import build_model

    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    if "backbone" in values["model_config"]:
        try:
            find_smollm2()
        except (OSError, ImportError):
            pytest.skip("SmolLM2-135M is not at hand")
    sizes = {key: values[key] for key in ("context_length", "prediction_length")}
    model = build_model(values["model"], **sizes, num_channels=1, **values["model_config"])
    kept = sum(tensor.numel() * tensor.element_size() for tensor in model.trained_state().values())
    assert 1e6 < kept < 10e6
    assert not [name for name in model.trained_state() if ".llm." in name]


@pytest.mark.parametrize("path", [*SUPERVISED, *PRETRAINING, *TEXT], ids=name)
def test_configurations_for_a_gpu_use_bfloat16_and_the_others_run_on_a_cpu(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    header = " ".join(line for line in lines if line.startswith("#"))
    values = yaml.safe_load("\n".join(lines))
    for_gpu = "GPU" in header
    assert values.get("bf16", False) is for_gpu
    assert not (for_gpu and values.get("use_cpu"))
    if for_gpu and (path.parent.name == "sft_text" or values["model_config"].get("backbone_mode") == "lora"):
        assert values.get("gradient_checkpointing") or values["model_config"]["gradient_checkpointing"]


def test_every_model_of_the_table_has_a_configuration():
    covered = {yaml.safe_load(p.read_text(encoding="utf-8"))["model"] for p in [*SUPERVISED, *PRETRAINING]}
    assert covered == set(MODELS)


@pytest.mark.parametrize("path", ACCELERATE, ids=name)
def test_an_accelerate_configuration_is_one_that_accelerate_reads(path):
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(path))
    text = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert config.num_processes == text["num_processes"]
    # What is left out, accelerate lists as not passed.
    assert {"num_processes", "num_machines", "mixed_precision", "dynamo_backend"} <= set(text)
    assert config.distributed_type.value == text["distributed_type"]
    for section in ("fsdp_config", "deepspeed_config"):
        assert getattr(config, section) == text.get(section, {})

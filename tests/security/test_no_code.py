"""Nothing of an artefact or a model repository is executed, fetched or unpickled, whatever a user answers."""

import ast
import io
import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from tests.fixtures.backbones import save_tiny_backbone
from tsllm.backbones.trust import check_folder, load_config, load_tokenizer
from tsllm.cli.main import app
from tsllm.forecasting.neural import NeuralForecaster
from tsllm.models.timellm import TimeLLM, TimeLLMConfig
from tsllm.models.timellm.backbone import load_backbone
from tsllm.text.loading import load_language_model
from tsllm.training.args import _UniqueLoader

ROOT = Path(__file__).parents[2]
# Loaders of other libraries that run code of a repository unless they are told not to.
AUTO = {"AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoTokenizer", "AutoProcessor", "BaseChronosPipeline"}
LOADERS = {"from_pretrained", "from_config"}


@pytest.fixture(scope="module")
def calls():
    """(file, call) of every call of our own code."""
    files = [file for folder in ("tsllm", "recipes", "scripts") for file in sorted((ROOT / folder).rglob("*.py"))]
    return [
        (file.relative_to(ROOT), node)
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    ]


def is_loader(call):
    function = call.func
    if not isinstance(function, ast.Attribute):
        return isinstance(function, ast.Name) and function.id in {"load_dataset", "pipeline"}
    owner = function.value
    return (function.attr in LOADERS and isinstance(owner, ast.Name) and owner.id in AUTO) or (
        function.attr == "load_dataset"
    )


def test_every_loading_call_says_that_no_code_is_trusted(calls):
    seen, faults = 0, []
    for file, call in calls:
        if not is_loader(call):
            continue
        seen += 1
        said = [k.value for k in call.keywords if k.arg == "trust_remote_code"]
        if not (said and isinstance(said[0], ast.Constant) and said[0].value is False):
            faults.append(f"{file}:{call.lineno}")
    assert not faults
    assert seen >= 10


def test_our_own_yaml_loader_is_a_safe_one():
    assert issubclass(_UniqueLoader, yaml.SafeLoader)
    with pytest.raises(yaml.YAMLError):
        yaml.load("!!python/object/apply:os.getcwd []", Loader=_UniqueLoader)


def test_nobody_trusts_code_unpickles_or_evaluates_text(calls):
    faults = []
    for file, call in calls:
        function = call.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        owner = getattr(getattr(function, "value", None), "id", "")
        trusting = [
            k for k in call.keywords if k.arg == "trust_remote_code" and getattr(k.value, "value", 1) is not False
        ]
        if trusting or (owner, name) in {("pickle", "load"), ("pickle", "loads"), ("yaml", "unsafe_load")}:
            faults.append(f"{file}:{call.lineno}")
        if (owner, name) == ("yaml", "load"):
            loaders = [getattr(k.value, "id", "") for k in call.keywords if k.arg == "Loader"]
            if loaders != ["_UniqueLoader"]:
                faults.append(f"{file}:{call.lineno}")
        if isinstance(function, ast.Name) and name in {"eval", "exec", "__import__"}:
            faults.append(f"{file}:{call.lineno}")
        if (owner, name) == ("torch", "load"):
            safe = [k.value for k in call.keywords if k.arg == "weights_only"]
            if not (safe and getattr(safe[0], "value", None) is True):
                faults.append(f"{file}:{call.lineno}")
    assert not faults


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A module whose import leaves a mark, and a user who answers yes to everything; tells whether it ran."""
    mark = tmp_path / "ran"
    code = (
        f"open({str(mark)!r}, 'w').write('ran')\n"
        "from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast\n"
        "class Evil(PreTrainedConfig):\n    model_type = 'evil'\n"
        "class EvilModel(PreTrainedModel):\n    config_class = Evil\n"
        "class EvilTokenizer(PreTrainedTokenizerFast):\n    pass\n"
        "def generate(*a, **k):\n    return None\n"
    )
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 50))
    monkeypatch.setattr("builtins.input", lambda *_: "y")

    def arm(folder):
        folder = Path(folder)
        (folder / "evil.py").write_text(code)
        (folder / "custom_generate").mkdir(exist_ok=True)
        (folder / "custom_generate" / "generate.py").write_text(code)
        return folder

    arm.mark = mark
    yield arm
    assert not mark.exists(), "code of the folder ran"


AUTO_MAP = {
    "AutoConfig": "evil.Evil",
    "AutoModel": "evil.EvilModel",
    "AutoModelForCausalLM": "evil.EvilModel",
    "AutoTokenizer": ["evil.EvilTokenizer", "evil.EvilTokenizer"],
}


def change_json(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def save_unknown(folder):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": AUTO_MAP}))
    save_file({"w": torch.zeros(2)}, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "forecaster.json").write_text(json.dumps({"alias": "x", "freq": "h", "format": 1}))
    return folder


def test_predict_on_a_folder_of_unknown_type_runs_nothing(trap, tmp_path):
    folder = trap(save_unknown(tmp_path / "evil"))
    (tmp_path / "d.csv").write_text("ds,y\n" + "".join(f"{k},1\n" for k in range(50)))
    result = CliRunner().invoke(app, ["predict", str(folder), str(tmp_path / "d.csv")], input="y\ny\ny\n")
    assert result.exit_code == 2
    assert "run Python code of its own (auto_map); that is never done here" in result.output.replace("\n", " ")
    with pytest.raises(ValueError, match="never done here"):
        NeuralForecaster.from_pretrained(folder)


@pytest.mark.parametrize("load", [load_backbone, load_language_model, load_config])
def test_a_language_model_of_unknown_type_runs_nothing(trap, tmp_path, load):
    with pytest.raises((ValueError, OSError), match="never done here"):
        load(str(trap(save_unknown(tmp_path / "evil"))))


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_known_type_is_loaded_by_the_librarys_own_code(trap, tmp_path, kind):
    folder = trap(save_tiny_backbone(tmp_path / "base", kind))
    change_json(folder / "config.json", auto_map=AUTO_MAP)
    change_json(folder / "tokenizer_config.json", auto_map=AUTO_MAP)
    assert type(load_backbone(str(folder)).llm).__module__.startswith("transformers.")
    model, tokenizer = load_language_model(folder)
    assert type(model).__module__.startswith("transformers.")
    assert "Evil" not in type(tokenizer).__name__


def test_a_tokenizer_of_its_own_runs_nothing(trap, tmp_path):
    folder = trap(save_tiny_backbone(tmp_path / "base"))
    change_json(folder / "tokenizer_config.json", auto_map=AUTO_MAP, tokenizer_class="EvilTokenizer")
    try:
        loaded = load_tokenizer(str(folder))
    except (ValueError, OSError):
        return
    assert "Evil" not in type(loaded).__name__


@pytest.mark.parametrize("name", ["someone/kernel", "someone/kernel@main:fn", "paged|someone/kernel"])
def test_compiled_code_of_others_is_not_fetched(tmp_path, name):
    folder = Path(save_tiny_backbone(tmp_path / "base"))
    change_json(folder / "config.json", attn_implementation=name)
    with pytest.raises((ValueError, OSError), match="compiled code of others"):
        load_language_model(folder)


class Bomb:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.write_text, (self.mark, "ran")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "adapter_model.bin"])
def test_pickles_are_never_opened(trap, tmp_path, name):
    folder = Path(save_tiny_backbone(tmp_path / "base"))
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Bomb(trap.mark)))
    for load in (load_backbone, load_language_model):
        with pytest.raises((OSError, ValueError)):
            load(str(folder))


def test_a_checkpoint_that_hides_a_pickle_is_not_converted(trap, tmp_path):
    torch.save({"w": Bomb(trap.mark)}, tmp_path / "checkpoint.pth")
    result = CliRunner().invoke(
        app, ["convert", str(tmp_path / "checkpoint.pth"), "DLinear", "-o", str(tmp_path / "o")]
    )
    assert result.exit_code == 2
    assert not (tmp_path / "o" / "model.safetensors").exists()


def test_a_base_model_that_is_an_adapter_of_another_one_is_refused(tmp_path):
    folder = Path(save_tiny_backbone(tmp_path / "base"))
    other = save_tiny_backbone(tmp_path / "other", seed=1)
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": other, "r": 2})
    )
    with pytest.raises(ValueError, match="is an adapter of another model and no model"):
        check_folder(str(folder), load_config(str(folder)))
    with pytest.raises(OSError, match=r"holds no adapter_model\.safetensors; pickles are refused"):
        load_backbone(str(folder))


def test_an_index_may_not_name_files_outside_the_folder(tmp_path):
    folder = Path(save_tiny_backbone(tmp_path / "base"))
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").rename(tmp_path / "outside.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(state, "../outside.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(OSError, match=r"names '\.\./outside\.safetensors', which is no file of the folder"):
        load_backbone(str(folder))


def test_a_time_llm_names_its_backbone_and_nothing_of_it_runs(trap, tmp_path):
    base = save_tiny_backbone(tmp_path / "base")
    model = TimeLLM(
        TimeLLMConfig(
            context_length=24, prediction_length=4, backbone=base, num_backbone_layers=1, d_ff=8, num_prototypes=10
        )
    )
    model.save_pretrained(tmp_path / "artefact")
    change_json(trap(tmp_path / "artefact") / "config.json", auto_map=AUTO_MAP, backbone=str(trap(base)))
    with pytest.raises(ValueError, match="auto_map"):  # an unknown key of our configuration
        TimeLLM.from_pretrained(tmp_path / "artefact")


@pytest.mark.parametrize(
    "path", ["os.system", "subprocess.getoutput", "os.path.exists", "builtins.open", "pathlib.Path"]
)
@pytest.mark.parametrize("command", ["compare", "backtest", "fit", "decide", "ensemble"])
def test_a_dotted_path_that_is_no_forecaster_is_refused_before_anything_of_it_is_called(
    path, command, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    rows = {"unique_id": "a", "ds": pd.date_range("2024", periods=96, freq="h"), "y": np.arange(96.0) % 7}
    pd.DataFrame(rows).to_csv("d.csv", index=False)
    ran = str(tmp_path / "ran")
    options = {"os.system": {"command": f"touch {ran}"}, "subprocess.getoutput": {"cmd": f"touch {ran}"}}
    options["builtins.open"] = {"file": ran, "mode": "w"}
    own = {"model": path, "options": options.get(path, {})}
    if command == "ensemble":
        own = {"model": "ensemble", "options": {"members": ["Naive", own]}}
    content = {"data": [{"name": "d.csv", "h": 2, "n_windows": 2}], "models": ["SeasonalNaive", own]}
    if command == "decide":
        content = {"problem": {"name": path, **options.get(path, {})}, "data": {"name": "d.csv"}}
    Path("c.yaml").write_text(yaml.safe_dump(content))
    arguments = {
        "backtest": ["backtest", "d.csv", "--models", path, "--h", "2"],
        "fit": ["fit", "d.csv", "--model", path, "--h", "2"],
        "decide": ["decide", "c.yaml"],
    }.get(command, ["compare", "c.yaml"])
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2, result.output
    assert "error:" in result.output
    assert not Path(ran).exists()

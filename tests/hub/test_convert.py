"""Checkpoints as the reference's programs write them, made here from torch modules under the reference's names."""

import json

import pytest
import torch
import yaml
from torch import nn
from typer.testing import CliRunner

from tests.models.reference_states import LIBRARY_ARGUMENTS, itransformer_state, patchtst_state
from tsllm.cli.main import app
from tsllm.hub.convert import (
    CONVERTERS,
    describe_reference,
    from_reference,
    load_arguments,
    load_checkpoint,
    name_references,
)
from tsllm.models import MODELS
from tsllm.models.dlinear import DLinear
from tsllm.models.itransformer import ITransformer
from tsllm.models.patchtst import PatchTST
from tsllm.registry import UnknownNameError


def dlinear_state(individual=False):
    torch.manual_seed(0)
    if not individual:
        maps = nn.ModuleDict({n: nn.Linear(48, 16) for n in ("Linear_Seasonal", "Linear_Trend")})
    else:
        maps = nn.ModuleDict(
            {n: nn.ModuleList(nn.Linear(48, 16) for _ in range(3)) for n in ("Linear_Seasonal", "Linear_Trend")}
        )
    return maps.state_dict()


@pytest.fixture
def files(tmp_path):
    """A checkpoint of DLinear and the arguments of its run."""
    torch.save(dlinear_state(), tmp_path / "checkpoint.pth")
    (tmp_path / "args.yaml").write_text(yaml.safe_dump(LIBRARY_ARGUMENTS))
    (tmp_path / "args.json").write_text(json.dumps(LIBRARY_ARGUMENTS))
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, ["convert", *map(str, arguments)])


@pytest.mark.parametrize("arguments", ["args.yaml", "args.json"])
def test_a_checkpoint_becomes_a_folder_that_forecasts_what_its_maps_say(files, arguments):
    folder = files / "ours"
    result = run(files / "checkpoint.pth", "--model", "DLinear", "--args", files / arguments, "-o", folder)
    assert result.exit_code == 0, result.output
    assert {p.name for p in folder.iterdir()} == {"config.json", "model.safetensors"}
    state, x = dlinear_state(), torch.randn(2, 48, 3)
    padded = torch.cat([x[:, :1].expand(-1, 12, -1), x, x[:, -1:].expand(-1, 12, -1)], 1)
    trend = torch.stack([padded[:, t : t + 25].mean(1) for t in range(48)], 1)
    maps = {n: (state[f"Linear_{n}.weight"], state[f"Linear_{n}.bias"]) for n in ("Seasonal", "Trend")}
    expected = sum(
        nn.functional.linear(part.transpose(1, 2), *maps[n]) for part, n in ((x - trend, "Seasonal"), (trend, "Trend"))
    )
    with torch.no_grad():
        found = DLinear.from_pretrained(folder)(x).predictions
    torch.testing.assert_close(found, expected.transpose(1, 2), atol=1e-5, rtol=1e-5)


def test_a_data_parallel_checkpoint_and_one_inside_a_mapping_are_read(files):
    wrapped = {f"module.{k}": v for k, v in dlinear_state().items()}
    torch.save({"state_dict": wrapped, "epoch": 3}, files / "wrapped.pth")
    meta = describe_reference("DLinear", LIBRARY_ARGUMENTS)
    first = from_reference(meta, load_checkpoint(files / "wrapped.pth"))
    second = from_reference(meta, load_checkpoint(files / "checkpoint.pth"))
    assert all(torch.equal(first.state_dict()[k], v) for k, v in second.state_dict().items())


def test_one_map_a_channel_is_seen_from_the_tensors():
    model = from_reference(describe_reference("DLinear", LIBRARY_ARGUMENTS), dlinear_state(individual=True))
    assert model.config.individual
    assert torch.equal(model.trend.weight[2], dlinear_state(individual=True)["Linear_Trend.2.weight"])


def test_patch_sizes_that_the_arguments_lack_are_read_from_the_tensors():
    meta = describe_reference("PatchTST", LIBRARY_ARGUMENTS)
    model = from_reference(meta, patchtst_state(patch_length=16, stride=8))
    assert isinstance(model, PatchTST)
    assert (model.config.patch_length, model.config.patch_stride) == (16, 8)
    assert from_reference(meta, patchtst_state(patch_length=12, stride=5)).config.num_patches == 9
    with pytest.raises(ValueError, match=r"3 patches of 16 steps fit the strides \[17, .*add `stride`"):
        from_reference(meta, patchtst_state(patch_length=16, stride=20))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: s.pop("Linear_Trend.bias"), "missing trend.bias"),
        (lambda s: s.update({"Linear_Extra.bias": torch.zeros(3)}), "unexpected Linear_Extra.bias"),
        (lambda s: s.update({"Linear_Trend.bias": torch.zeros(9)}), r"trend.bias has shape \[9\], expected \[16\]"),
    ],
)
def test_tensors_that_do_not_fit_are_listed(files, change, named):
    state = dlinear_state()
    change(state)
    with pytest.raises(ValueError, match=named):
        from_reference(describe_reference("DLinear", LIBRARY_ARGUMENTS), state)
    torch.save(state, files / "checkpoint.pth")
    result = run(files / "checkpoint.pth", "--model", "DLinear", "--args", files / "args.yaml", "-o", files / "ours")
    assert result.exit_code == 2
    assert not (files / "ours").exists()


def test_missing_channels_of_a_list_are_told():
    state = dlinear_state(individual=True)
    del state["Linear_Trend.1.weight"]
    with pytest.raises(ValueError, match=r"Linear_Trend.weight of the channels \[0, 2\]"):
        from_reference(describe_reference("DLinear", LIBRARY_ARGUMENTS), state)


def test_the_reference_itransformer_reads_marks_as_tokens():
    model = from_reference(describe_reference("iTransformer", LIBRARY_ARGUMENTS), itransformer_state())
    assert isinstance(model, ITransformer)
    assert model.config.num_time_features == 4
    assert model.config.reference_quirks


def test_a_pickle_with_code_is_refused(files):
    torch.save(nn.Linear(2, 2), files / "module.pth")
    with pytest.raises(ValueError, match="cannot be read as tensors only"):
        load_checkpoint(files / "module.pth")
    torch.save([torch.zeros(2)], files / "list.pth")
    with pytest.raises(ValueError, match="must hold a state_dict"):
        load_checkpoint(files / "list.pth")


def test_files_that_are_not_there_and_arguments_that_lack_something_are_errors(files):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint .*gone\.pth"):
        load_checkpoint(files / "gone.pth")
    with pytest.raises(FileNotFoundError, match="no arguments"):
        load_arguments(files / "gone.yaml")
    (files / "list.yaml").write_text("- 1\n")
    with pytest.raises(ValueError, match="must hold a mapping"):
        load_arguments(files / "list.yaml")
    with pytest.raises(ValueError, match="lack 'pred_len'"):
        from_reference(describe_reference("DLinear", {"seq_len": 48}), dlinear_state())
    with pytest.raises(ValueError, match="imputation"):
        from_reference(describe_reference("DLinear", LIBRARY_ARGUMENTS | {"task_name": "imputation"}), dlinear_state())


def test_a_folder_that_is_not_empty_stays_as_it_is(files):
    result = run(files / "checkpoint.pth", "--model", "DLinear", "--args", files / "args.yaml", "-o", files)
    assert result.exit_code == 2
    assert not (files / "config.json").exists()


def test_every_reference_has_a_short_name_and_an_unknown_one_lists_the_nearest():
    names = name_references()
    assert len(names) == len(CONVERTERS)
    assert {"DLinear", "PatchTST", "PatchTST-ssl", "iTransformer", "UNetTSF", "TimeLLM"} <= set(names)
    with pytest.raises(UnknownNameError, match="did you mean 'DLinear'"):
        describe_reference("Dlinear", {})
    with pytest.raises(ValueError, match=r"no conversion for someone/else models\.X"):
        from_reference({"reference": {"repo": "someone/else", "class": "models.X"}, "constructor": {}}, {})


def test_every_published_model_of_the_table_can_be_converted():
    ours = {name.lower().split("-")[0].replace("unettsf", "unet_tsf") for name in name_references()}
    assert ours == set(MODELS) - {"recurrent", "patchcast"}

"""States with tensors that our modules do without: what is left out goes into the batch norm behind, exactly."""

import copy

import pytest
import torch
from torch import nn

from tsllm.backbones.weights import Header
from tsllm.models.patchtst import PatchTST, PatchTSTConfig
from tsllm.models.sizes import check_sizes
from tsllm.nn.attention.pyramidal import CoarsenConv, CoarseScaleConstruction
from tsllm.nn.attention.relu_linear import ReluLinearAttention
from tsllm.nn.conv.local import LocalRepresentation
from tsllm.nn.encoder import build_encoder
from tsllm.nn.gating.coordinate import CoordinateAttention
from tsllm.nn.older_state import fold_affine, fold_constant

C = 8


def _with_bias(layer):
    """The layer as it was, with a bias of its own."""
    older = copy.deepcopy(layer)
    rows = layer.weight.shape[0]
    older.bias = nn.Parameter(torch.linspace(-3.0, 3.0, rows, dtype=layer.weight.dtype))
    return older


def _set(module, path, child):
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent) if parent else module, name, child)


BLOCKS = {  # a block, its input, and the layers in front of a batch norm
    "coarsen": (lambda: CoarsenConv(C, 3), (2, C, 12), ["conv"]),
    "construct": (lambda: CoarseScaleConstruction(C, [2, 3]), (2, 12, C), ["down", "convs.0.conv", "convs.1.conv"]),
    "local": (lambda: LocalRepresentation(C), (2, C, 12), ["depthwise"]),
    "coordinate": (lambda: CoordinateAttention(C), (2, C, 4, 5), ["squeeze"]),
    "relu_linear": (lambda: ReluLinearAttention(C), (2, 12, C), ["out"]),
}


def _older(name):
    """A block as it was: with biases, after some training, so that its running statistics mean something."""
    make, shape, layers = BLOCKS[name]
    torch.manual_seed(0)
    block = make().double()
    for layer in layers:
        _set(block, layer, _with_bias(block.get_submodule(layer)))
    for module in block.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_()
    x = torch.randn(shape, dtype=torch.float64) + 2.0
    for _ in range(30):
        block.train()(x + 0.3 * torch.randn_like(x))
    return block.eval(), x


@pytest.mark.parametrize("name", BLOCKS)
def test_an_older_state_computes_the_same_in_evaluation(name):
    older, x = _older(name)
    block = BLOCKS[name][0]().double().eval()
    block.load_state_dict(older.state_dict())
    torch.testing.assert_close(block(x), older(x), atol=1e-12, rtol=1e-12)
    assert not [n for n, _ in block.named_parameters() if n.removesuffix(".bias") in BLOCKS[name][2] and "bias" in n]


@pytest.mark.parametrize("name", BLOCKS)
def test_dropping_the_bias_alone_would_change_forecasts(name):
    older, x = _older(name)
    block = BLOCKS[name][0]().double().eval()
    kept = {k: v for k, v in older.state_dict().items() if k in block.state_dict()}
    block.load_state_dict(kept)
    assert (block(x) - older(x)).abs().max() > 1e-3


@pytest.mark.parametrize("name", BLOCKS)
def test_in_training_the_bias_never_counted(name):
    older, x = _older(name)
    block = BLOCKS[name][0]().double()
    block.load_state_dict(older.state_dict())
    torch.testing.assert_close(block.train()(x), older.train()(x), atol=1e-11, rtol=1e-11)
    torch.testing.assert_close(block.eval()(x), older.eval()(x), atol=1e-11, rtol=1e-11)  # statistics went on alike


def test_a_state_of_today_is_left_as_it_is():
    block = CoarsenConv(C, 3)
    block.norm.running_mean.normal_()
    state = block.state_dict()
    fresh = CoarsenConv(C, 3)
    fresh.load_state_dict(state)
    assert torch.equal(fresh.norm.running_mean, block.norm.running_mean)


def test_the_given_state_stays_as_it_was():
    older, _ = _older("coarsen")
    state = older.state_dict()
    copies = {key: value.clone() for key, value in state.items()}
    CoarsenConv(C, 3).double().load_state_dict(state)
    assert state.keys() == copies.keys()
    assert all(torch.equal(state[key], copies[key]) for key in copies)


def test_a_bias_whose_norm_is_not_there_stays_an_error():
    older, _ = _older("coarsen")
    state = older.state_dict()
    del state["norm.running_mean"]
    with pytest.raises(RuntimeError, match=r"conv\.bias"):
        CoarsenConv(C, 3).double().load_state_dict(state)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t[:-1],
        lambda t: t.unsqueeze(0),
        lambda t: t.long(),
        lambda t: t.index_fill(0, torch.tensor([0]), torch.nan),
    ],
    ids=["short", "matrix", "integers", "nan"],
)
@pytest.mark.parametrize("name", BLOCKS)
def test_a_damaged_bias_is_never_folded_away(name, change):
    older, _ = _older(name)
    state, first = older.state_dict(), BLOCKS[name][2][0]
    state[f"{first}.bias"] = change(state[f"{first}.bias"])
    with pytest.raises(RuntimeError, match=rf"{first}\.bias"):
        BLOCKS[name][0]().double().load_state_dict(state)


def test_a_constant_is_taken_off_the_running_mean_through_what_stands_between():
    state = {"b": torch.tensor([1.0, 2.0]), "n.running_mean": torch.tensor([10.0, 20.0, 30.0])}
    fold_constant(state, "b", "n", torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    assert state.keys() == {"n.running_mean"}
    assert state["n.running_mean"].tolist() == [9.0, 18.0, 27.0]


def test_scale_and_shift_go_into_the_norm_even_where_the_scale_is_zero_or_negative():
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(4).double().eval()
    state = {f"n.{k}": v for k, v in norm.state_dict().items()}
    for key in ("running_mean", "weight", "bias"):
        state[f"n.{key}"] = torch.randn(4, dtype=torch.float64)
    state["n.running_var"] = torch.tensor([0.5, 1e-6, 2.0, 4.0], dtype=torch.float64)
    scale, shift = torch.tensor([2.0, 0.01, 0.0, -1.5]).double(), torch.tensor([1.0, -1.0, 3.0, 0.5]).double()
    x = torch.randn(7, 4, dtype=torch.float64)
    norm.load_state_dict({k[2:]: v for k, v in state.items()})
    want = norm(scale * x + shift)
    fold_affine(state | {}, "s", "n", norm.eps)  # without the source nothing happens
    state |= {"s.weight": scale, "s.bias": shift}
    fold_affine(state, "s", "n", norm.eps)
    assert "s.weight" not in state
    norm.load_state_dict({k[2:]: v for k, v in state.items()})
    torch.testing.assert_close(norm(x), want, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_an_encoder_folds_its_last_norm_into_the_batch_norm_behind(norm):
    torch.manual_seed(0)
    options = {"norm": norm, "final_norm": "batch"}
    encoder = build_encoder(2, C, 2, 16, **options).double().eval()
    last = encoder.layers[-1].norm_feed_forward
    plain = last if norm == "layer" else last.norm
    assert plain.weight is None
    older = copy.deepcopy(encoder)
    for key, buffer in older.named_buffers():
        if "running" in key:
            buffer.uniform_(0.5, 1.5)
    affine = older.layers[-1].norm_feed_forward
    affine = affine if norm == "layer" else affine.norm
    affine.weight = nn.Parameter(torch.linspace(0.5, 1.5, C).double())
    affine.bias = nn.Parameter(torch.linspace(-1.0, 1.0, C).double())
    x = torch.randn(3, 5, C, dtype=torch.float64)
    encoder.load_state_dict(older.state_dict())
    torch.testing.assert_close(encoder(x)[0], older(x)[0], atol=1e-12, rtol=1e-12)


def test_only_a_norm_with_a_batch_norm_behind_loses_scale_and_shift():
    for options in ({}, {"final_norm": "layer"}, {"final_norm": "batch", "norm_position": "pre"}):
        encoder = build_encoder(2, C, 2, 16, **options)
        assert all(layer.norm_feed_forward.weight is not None for layer in encoder.layers), options


def test_an_artefact_of_an_earlier_version_forecasts_the_same(tmp_path):
    """A PatchTST whose last layer norm still scales and shifts, saved, loads and forecasts alike."""
    torch.manual_seed(0)
    config = PatchTSTConfig(context_length=32, prediction_length=4, d_model=C, num_heads=2, num_layers=1, d_ff=8)
    older = PatchTST(config).eval()
    last = older.backbone.encoder.layers[-1].norm_feed_forward
    last.weight, last.bias = nn.Parameter(torch.linspace(0.5, 1.5, C)), nn.Parameter(torch.linspace(-1.0, 1.0, C))
    older.backbone.encoder.final_norm.norm.running_mean.normal_()
    older.save_pretrained(tmp_path)
    past = torch.randn(3, 32, 1)
    with torch.no_grad():
        want = older(past_values=past).predictions
        got = PatchTST.from_pretrained(tmp_path)(past_values=past).predictions
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


def test_sizes_beyond_all_counting_are_an_error_of_shapes(tmp_path):
    """A tensor of no elements may claim any size in a file of a few bytes."""
    config = PatchTSTConfig(context_length=32, prediction_length=4, d_model=C, num_heads=2, num_layers=1, d_ff=8)
    shapes = {name: tuple(t.shape) for name, t in PatchTST(config).state_dict().items()}
    shapes["head.bias"] = (0, 2**62, 2**62)
    with pytest.raises(ValueError, match=r"head\.bias has shape \[0, 4611686018427387904"):
        check_sizes(PatchTST, config, Header(shapes, dict.fromkeys(shapes, "F32")), "a file")

"""The contracts of the block families, proven on random input over the whole tables and over compositions."""

import copy
import pickle

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tsllm.nn.attention import ATTENTION
from tsllm.nn.attention.agent import AgentAttention
from tsllm.nn.attention.full import FullAttention
from tsllm.nn.attention.log_sparse import LogSparseAttention
from tsllm.nn.attention.pyramidal import PyramidalHeads
from tsllm.nn.attention.trend_aware import TrendAwareAttention
from tsllm.nn.blocks import build_conv, build_gate, build_map_block, build_mixer
from tsllm.nn.conv import CONVS
from tsllm.nn.gating import FUSIONS, GATES
from tsllm.nn.gating.dual import PositionAttention
from tsllm.registry import UnknownNameError

LENGTH, WIDTH, HEADS, BATCH = 19, 8, 2, 3

MIXER_OPTIONS = {
    "full": [{}, {"causal": True}],
    "agent": [
        {"num_agents": 4},
        {"num_agents": 4, "agents": "learned", "bias": "none", "kernel_size": 0},
        {"num_agents": 3, "bias": "full"},
        {"num_agents": 4, "num_class_tokens": 2},
        {"num_agents": 4, "reduction": 3},
        {"num_agents": 3, "bias": "full", "reduction": 2},
        {"num_agents": 3, "bias": "full", "num_class_tokens": 1},
    ],
    "relu_linear": [{}, {"scales": (3, 5, 7)}, {"scales": ()}, {"causal": True, "scales": (3,)}],
    "additive": [{}, {"expansion": 2}],
    "trend_aware": [
        {},
        {"kernel_size": 5, "dilation": 2},
        {"convolution": "causal", "causal": True},
        {"convolution": "causal_query"},
        {"segments": (4, 15)},
    ],
    "log_sparse": [{}, {"kernel_size": 1}],
    "window": [{"window_size": 4}, {"window_size": 4, "causal": False}, {"window_size": 3, "dilation": 2}],
    "growing_windows": [{}, {"window_sizes": (3, 5), "causal": False}],
    "pyramidal": [
        {"window_sizes": (2, 2), "inner_size": 3},
        {"window_sizes": (4,), "readout": "finest", "construction": "average"},
        {"window_sizes": (3, 2), "construction": "conv", "dense": True},
        {"window_sizes": (2, 3), "construction": "max"},
    ],
    "lstm": [{}],
    "gru": [{"num_layers": 2}],
    "pooling": [{}, {"window_size": 5}],
    "time_linear": [{}],
}
GATE_OPTIONS = {
    "se": [{}, {"reduction": 2, "bias": True}],
    "channel_gate": [{}, {"light": True, "reduction": 1}],
    "spatial_gate": [{}, {"kind": "mlp"}, {"batch_norm": False, "kernel_size": 3}],
    "cbam": [{}, {"order": "parallel", "kernel_size": 3}],
    "cbam_mlp": [{}],
    "selective_kernel": [
        {"d_hidden": 4},
        {"kernel_sizes": (3, 5, 7), "dilated": False, "depthwise": True, "d_hidden": 4},
    ],
    "coordinate": [{}],
    "triplet": [{}, {"spatial": False}],
    "position": [{}],
    "channel_affinity": [{}, {"favour": "similar"}],
    "self_gate": [{}, {"branches": "gate"}, {"branches": "none"}],
}
CONV_OPTIONS = {
    "conv": [{}, {"padding": "same", "dilation": 2}, {"depthwise": True}, {"kernel_size": 1}],
    "inception": [{}, {"combine": "sum", "kernel_sizes": (3, 5, 7), "dilation": 2}, {"combine": "softmax"}],
    "gated_inception": [{}, {"dilation": 2}],
    "gtu": [{}, {"padding": "same"}],
    "mgtu": [{}, {"pool": 2}, {"residual": False, "times_input": True, "kernel_sizes": (3,), "dilation": 2}],
    "local": [{}, {"layer_scale": False, "kernel_size": 5}],
}
WINDOW = {"type": "window", "window_size": 4}
TREND = [{"type": "trend_aware", "kernel_size": k} for k in (3, 5, 7)]
BRANCHES = [{"type": "sequence", "blocks": [{"type": "conv", "kernel_size": k}, "se"]} for k in (2, 3, 5)]
SELECTIVE = {"type": "selective", "d_hidden": 4}
AGENTS = {"type": "agent", "num_agents": 4}
COMPOSED = {
    "scales_in_parallel_by_many": {"type": "parallel", "blocks": TREND, "fuse": "sigmoid_softmax"},
    "scales_in_parallel_by_selection": {
        "type": "parallel",
        "blocks": TREND,
        "fuse": SELECTIVE,
    },
    "scales_in_series": {"type": "sequence", "blocks": TREND},
    "windows_and_linear": {"type": "parallel", "blocks": [WINDOW, "relu_linear"], "fuse": "convex"},
    "windows_and_agents": {
        "type": "parallel",
        "blocks": [WINDOW, AGENTS],
        "fuse": "convex",
    },
    "causal_local_and_global": {
        "type": "parallel",
        "blocks": [WINDOW, {"type": "relu_linear", "causal": True}],
        "fuse": {"type": "convex", "combine": "concat"},
    },
    "conv_then_attention": {"type": "sequence", "blocks": ["gated_inception", AGENTS]},
    "gtu_then_attention": {"type": "sequence", "blocks": ["mgtu", "additive"]},
    "channel_after_scale": {"type": "parallel", "blocks": BRANCHES, "fuse": SELECTIVE},
    "gate_swap": {"type": "gated", "value": "gtu", "gate": "relu_linear"},
    "output_times_input": {"type": "residual", "block": "mgtu", "combine": "multiply"},
    "residual_mean": {"type": "residual", "block": {"type": "parallel", "blocks": ["lstm", "pooling"]}},
}


def _spread(table):
    return [(name, options) for name, variants in table.items() for options in variants]


def _ident(value):
    return "-".join(f"{k}={v}" for k, v in value.items()) or "default" if isinstance(value, dict) else value


def _randomise(block):
    """Draws every parameter and statistic, so that nothing hides behind a zero; double precision, evaluation."""
    block = block.double().eval()
    for name, tensor in [*block.named_parameters(), *block.named_buffers()]:
        if tensor.is_floating_point():
            with torch.no_grad():
                tensor.uniform_(0.5, 1.5) if name.endswith("running_var") else tensor.normal_(0.0, 0.4)
    return block


def _mixer(name, options):
    return _randomise(build_mixer({"type": name, **options}, WIDTH, HEADS, LENGTH))


def _series(name, options):
    return _randomise(build_gate({"type": name, **options}, WIDTH, LENGTH))


CASES = {f"attention:{n}:{_ident(o)}": lambda n=n, o=o: _mixer(n, o) for n, o in _spread(MIXER_OPTIONS)}
CASES |= {f"composed:{n}": lambda s=s: _randomise(build_mixer(s, WIDTH, HEADS, LENGTH)) for n, s in COMPOSED.items()}
SERIES = {
    f"series:{n}:{_ident(o)}": lambda n=n, o=o: _series(n, o)
    for n, o in _spread({**GATE_OPTIONS, **CONV_OPTIONS})
    if n not in ("coordinate", "triplet")
}
MAPS = {
    f"map:{n}:{_ident(o)}": lambda n=n, o=o: _randomise(build_map_block({"type": n, **o}, WIDTH))
    for n, o in _spread({**GATE_OPTIONS, "local": CONV_OPTIONS["local"]})
}
TOKENS_ON_MAPS = ("full", "agent", "additive", "relu_linear")
MAPS |= {f"map:{n}": lambda n=n: _randomise(build_map_block(n, WIDTH)) for n in TOKENS_ON_MAPS}
SHAPES = {"attention": (BATCH, LENGTH, WIDTH), "composed": (BATCH, LENGTH, WIDTH)}
SHAPES |= {"series": (BATCH, WIDTH, LENGTH), "map": (BATCH, WIDTH, 4, 5)}
ALL = {**CASES, **SERIES, **MAPS}


def _input(key):
    shape = SHAPES[key.split(":")[0]]
    return torch.randn(shape, dtype=torch.float64)


def _as_tokens(key, x):
    """Any family's tensor as [B, positions, channels], sharing memory."""
    return x if key.split(":")[0] in ("attention", "composed") else x.flatten(2).transpose(1, 2)


def _mask(key, x):
    """A random mask of the family's shape with real and masked positions in every sample."""
    shape = x.shape[:2] if key.split(":")[0] in ("attention", "composed") else (x.shape[0], *x.shape[2:])
    flat = torch.rand(shape[0], torch.Size(shape[1:]).numel()) > 0.35
    flat[:, 0], flat[:, -1], flat[:, 2], flat[:, 5] = True, False, False, True
    return flat.view(shape)


def test_the_options_tried_here_cover_the_tables():
    assert set(MIXER_OPTIONS) == set(ATTENTION)
    assert set(GATE_OPTIONS) == set(GATES)
    assert set(CONV_OPTIONS) == set(CONVS)
    names = [*ATTENTION, *GATES, *CONVS]
    assert len(names) == len(set(names)), "a name must say which block is meant in any place"


@pytest.mark.parametrize("key", ALL)
def test_the_shape_is_kept_and_samples_do_not_mix(key):
    block, x = ALL[key](), _input(key)
    y = block(x)
    assert y.shape == x.shape
    other = x.clone()
    other[0] += 3.0
    changed = block(other)
    assert torch.equal(changed[1:], y[1:])
    assert not torch.equal(changed[0], y[0])


@pytest.mark.parametrize("key", ALL)
def test_what_is_declared_as_mixed_is_what_mixes(key):
    block, x = ALL[key](), _input(key)
    y = _as_tokens(key, block(x))
    time, channel = False, False
    for position in range(_as_tokens(key, x).shape[1]):
        other = x.clone()
        _as_tokens(key, other)[:, position] += torch.randn(WIDTH, dtype=torch.float64)
        moved = (_as_tokens(key, block(other)) != y).any(dim=(0, 2))
        moved[position] = False
        time |= bool(moved.any())
    for feature in range(WIDTH):
        other = x.clone()
        _as_tokens(key, other)[:, :, feature] += 1.0
        moved = (_as_tokens(key, block(other)) != y).any(dim=(0, 1))
        moved[feature] = False
        channel |= bool(moved.any())
    mixed = {name for name, found in (("time", time), ("channel", channel)) if found}
    assert mixed == set(block.mixes)


@pytest.mark.parametrize("key", {**CASES, **SERIES})
def test_a_causal_block_leaves_the_past_bit_equal_and_others_do_not(key):
    block, x = ALL[key](), _input(key)
    y = _as_tokens(key, block(x))
    intact = True
    for start in range(1, LENGTH):
        other = x.clone()
        _as_tokens(key, other)[:, start:] += torch.randn(BATCH, LENGTH - start, WIDTH, dtype=torch.float64)
        intact &= torch.equal(_as_tokens(key, block(other))[:, :start], y[:, :start])
    assert intact == block.causal


@pytest.mark.parametrize("key", ALL)
def test_masked_positions_come_back_as_zero_and_influence_none(key):
    block, x = ALL[key](), _input(key)
    mask = _mask(key, x)
    real = mask.flatten(1)
    y = _as_tokens(key, block(x, mask))
    assert y.isfinite().all()
    assert torch.equal(y[~real], torch.zeros_like(y[~real]))
    other = x.clone()
    tokens = _as_tokens(key, other)
    tokens[~real] = 50.0 * torch.randn_like(tokens[~real])
    assert torch.equal(_as_tokens(key, block(other, mask))[real], y[real])


@pytest.mark.parametrize("key", ALL)
def test_a_full_mask_is_no_mask_and_an_empty_one_gives_zero_gradients(key):
    block, x = ALL[key](), _input(key)
    shape = _mask(key, x).shape
    whole = torch.ones(shape, dtype=torch.bool)
    torch.testing.assert_close(block(x, whole), block(x), atol=1e-12, rtol=1e-10)
    whole[0] = False
    x.requires_grad_()
    y = block(x, whole)
    y.square().sum().backward()
    assert torch.equal(y[0], torch.zeros_like(y[0]))
    assert torch.equal(x.grad[0], torch.zeros_like(x.grad[0]))
    assert all(p.grad is None or p.grad.isfinite().all() for p in block.parameters())


BOUND_TO_A_LENGTH = ("agent", "pyramidal", "growing", "time_linear", "mgtu", "segments", "_then_", "times_input")
PADDABLE = {k: make for k, make in {**CASES, **SERIES}.items() if not any(word in k for word in BOUND_TO_A_LENGTH)}


@pytest.mark.parametrize("key", PADDABLE)
def test_padding_on_the_right_changes_nothing_at_real_positions(key):
    block, x = PADDABLE[key](), _input(key)
    time = 1 if key.startswith(("attention", "composed")) else 2
    short = x.narrow(time, 0, 14)
    mask = torch.arange(LENGTH).expand(BATCH, -1) < 14
    torch.testing.assert_close(block(x, mask).narrow(time, 0, 14), block(short), atol=1e-11, rtol=1e-9)


SOFTMAX = (FullAttention, AgentAttention, PyramidalHeads, TrendAwareAttention, LogSparseAttention, PositionAttention)


def _key_biases(block):
    """Names of the biases of softmax keys: they add the same to all scores of a query and so have no effect."""
    found = set()
    for prefix, module in block.named_modules():
        if isinstance(module, SOFTMAX):
            dot = f"{prefix}." if prefix else ""
            found |= {f"{dot}key.bias", f"{dot}key.conv.bias"}
    return found


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("key", ALL)
def test_gradients_reach_every_parameter(key, training):
    """In training batch norms take away what is constant in front of them, in evaluation they do not."""
    block, x = ALL[key]().train(training), _input(key)
    if not list(block.parameters()):
        pytest.skip("the block has no parameters")
    weights, inert = torch.randn_like(x), _key_biases(block)
    (block(x) * weights).sum().backward()
    for name, parameter in block.named_parameters():
        assert parameter.grad is not None, name
        strongest = float(parameter.grad.abs().max())
        if name in inert:
            assert strongest < 1e-10, f"{name} has an effect"
        else:
            assert strongest > 1e-9, f"no gradient reaches {name}"


@pytest.mark.parametrize("key", ALL)
def test_blocks_pickle_and_their_state_loads_into_a_fresh_one(key):
    block, x = ALL[key](), _input(key)
    y = block(x)
    assert torch.equal(pickle.loads(pickle.dumps(block))(x), y)
    fresh = ALL[key]()
    fresh.load_state_dict(block.state_dict())
    assert torch.equal(fresh(x), y)
    assert torch.equal(copy.deepcopy(block)(x), y)


@pytest.mark.parametrize("key", ALL)
def test_a_step_of_training_lowers_the_loss_on_its_batch(key):
    block, x = ALL[key]().train(), _input(key)
    parameters = list(block.parameters())
    if not parameters:
        pytest.skip("the block has no parameters")
    target = torch.randn_like(x)

    def loss():
        return (block(x) - target).square().mean()

    before = loss()
    gradients = torch.autograd.grad(before, parameters)
    step = 1e-4 / max(1.0, max(float(g.norm()) for g in gradients))
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter -= step * gradient
    assert loss() < before


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest tensor that any operation makes."""

    def __init__(self):
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        return result


def _largest(block, length):
    with LargestTensor() as recorder:
        block(torch.randn(1, length, WIDTH, requires_grad=True)).sum().backward()
    return recorder.largest


CHEAP = [(n, o) for n, o in _spread(MIXER_OPTIONS) if n != "growing_windows" and "segments" not in o]


@pytest.mark.parametrize(("name", "options"), CHEAP, ids=_ident)
def test_no_block_that_claims_less_than_quadratic_cost_builds_a_square_matrix(name, options):
    if build_mixer({"type": name, **options}, WIDTH, HEADS, 64).cost == "quadratic":
        pytest.skip("the block declares quadratic cost")
    length = 256 if name in ("lstm", "gru") else 8192  # step by step in Python, backwards, is slow
    small, large = (
        _largest(build_mixer({"type": name, **options}, WIDTH, HEADS, n), n) for n in (length // 2, length)
    )
    assert large <= 2.3 * small
    assert length < 8192 or large < length * length / 8


def test_the_recorder_sees_a_square_matrix_where_there_is_one():
    dense = build_mixer({"type": "pyramidal", "dense": True}, WIDTH, HEADS)
    assert dense.cost == "quadratic"
    assert _largest(dense, 512) >= 512 * 512
    assert _largest(build_mixer("pyramidal", WIDTH, HEADS), 512) < 512 * 512 / 2


def test_series_blocks_declared_linear_build_no_square_matrix():
    for name in [*GATES, *CONVS]:
        if name in ("coordinate", "triplet", "mgtu"):
            continue
        block = build_mixer(name, WIDTH, HEADS, 4096).eval()
        if block.cost == "linear":
            assert _largest(block, 4096) < 4096 * 4096 / 32, name


REFUSED = [
    (lambda: build_mixer("coordinate", WIDTH), "map block"),
    (lambda: build_gate("triplet", WIDTH), "map block"),
    (lambda: build_map_block("gtu", WIDTH), "one time axis"),
    (lambda: build_map_block("mgtu", WIDTH), "length"),
    (lambda: build_map_block("time_linear", WIDTH), "length"),
    (lambda: build_mixer("growing_windows", WIDTH), "length"),
    (lambda: build_mixer({"type": "agent", "bias": "full"}, WIDTH), "length"),
    (lambda: build_mixer({"type": "agent", "reduction": 2, "num_class_tokens": 1}, WIDTH), "one of the two"),
    (lambda: build_mixer({"type": "agent", "reduction": 0}, WIDTH), "at least 1"),
    (lambda: build_mixer({"type": "agent", "num_class_tokens": 9}, WIDTH)(torch.randn(1, 9, WIDTH)), "not more than"),
    (lambda: build_mixer({"type": "agent", "num_agents": [2, 2]}, WIDTH), "1 axes"),
    (lambda: build_mixer({"type": "full", "causual": True}, WIDTH), "no argument causual"),
    (lambda: build_mixer("full", WIDTH, num_heads=3), "must divide"),
    (lambda: build_mixer({"type": "trend_aware", "causal": True}, WIDTH), "look ahead"),
    (lambda: build_mixer({"type": "trend_aware", "kernel_size": 4}, WIDTH), "odd"),
    (lambda: build_mixer({"type": "relu_linear", "causal": True, "grid": [4, 4]}, WIDTH), "no order of time"),
    (lambda: build_mixer({"type": "parallel", "blocks": ["full"], "fuse": "convex"}, WIDTH), "exactly two"),
    (lambda: build_mixer({"type": "parallel", "blocks": []}, WIDTH), "at least one"),
    (lambda: build_mixer({"type": "sequence", "block": "full"}, WIDTH), "missing: \\['blocks'\\]"),
    (lambda: build_mixer({"blocks": ["full"]}, WIDTH), "key 'type'"),
    (lambda: build_mixer({"type": "residual", "block": "full", "combine": "subtract"}, WIDTH), "subtract"),
    (lambda: build_gate({"type": "se", "reduction": 16}, WIDTH), "lower reduction"),
    (lambda: build_gate({"type": "inception", "kernel_sizes": [2, 3, 5]}, WIDTH), "without losing some"),
    (lambda: build_conv({"type": "conv", "padding": "none"}, WIDTH), "shorten"),
    (lambda: build_mixer({"type": "pyramidal", "readout": "finest"}, WIDTH), "never sees above"),
    (lambda: build_mixer("pyramidal", WIDTH)(torch.randn(1, 9, WIDTH)), "levels of"),
    (lambda: build_mixer("full", WIDTH)(torch.randn(1, 2, 9, WIDTH)), "expects tokens"),
    (lambda: build_mixer("full", WIDTH)(torch.randn(1, 9, WIDTH), torch.ones(1, 9)), "bool mask"),
    (lambda: build_gate("se", WIDTH)(torch.randn(WIDTH, 9)), "a series"),
    (lambda: build_map_block("cbam", WIDTH)(torch.randn(1, WIDTH, 9)), "a map"),
    (lambda: build_mixer("time_linear", WIDTH, length=8)(torch.randn(1, 9, WIDTH)), "built for 8"),
]


@pytest.mark.parametrize(("build", "reason"), REFUSED, ids=[reason for _, reason in REFUSED])
def test_combinations_without_a_meaning_are_refused_with_the_reason(build, reason):
    with pytest.raises(ValueError, match=reason):
        build()


def test_an_unknown_block_is_answered_with_the_nearest_names():
    with pytest.raises(UnknownNameError, match="did you mean 'pyramidal'"):
        build_mixer("pyramid", WIDTH)
    with pytest.raises(UnknownNameError, match="unknown fusion"):
        build_mixer({"type": "parallel", "blocks": ["full"], "fuse": "glue"}, WIDTH)


@pytest.mark.parametrize("fuse", sorted(FUSIONS))
def test_one_scale_alone_is_the_block_itself(fuse):
    if fuse == "convex":
        pytest.skip("convex fusion joins exactly two")
    x = torch.randn(2, LENGTH, WIDTH, dtype=torch.float64)
    block = _randomise(build_mixer({"type": "parallel", "blocks": ["trend_aware"], "fuse": fuse}, WIDTH, HEADS))
    torch.testing.assert_close(block(x), block.blocks[0](x))

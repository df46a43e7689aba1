import math

import pytest
import torch

from tsllm.nn.attention.pyramidal import (
    CoarseScaleConstruction,
    PyramidalAttention,
    PyramidalHeads,
    PyramidalLayer,
    build_node_mask,
    build_pyramid,
)

SHAPES = [(48, (4, 4), 5), (64, (4, 4, 4), 3), (64, (2, 2), 3), (51, (4, 3), 4), (37, (5,), 1), (10, (), 3)]


def _slow_allowed(sizes, windows, inner):
    """Who reads whom, pair by pair."""
    nodes = [(level, i) for level, size in enumerate(sizes) for i in range(size)]

    def reads(a, b):
        if a[0] == b[0]:
            return abs(a[1] - b[1]) <= inner // 2
        low, high = sorted((a, b))
        return high[0] == low[0] + 1 and min(low[1] // windows[low[0]], sizes[high[0]] - 1) == high[1]

    return torch.tensor([[reads(a, b) for b in nodes] for a in nodes])


@pytest.mark.parametrize(("length", "windows", "inner"), SHAPES)
def test_the_mask_is_symmetric_open_on_the_diagonal_and_right_pair_by_pair(length, windows, inner):
    pyramid = build_pyramid(length, windows, inner)
    allowed = pyramid.allowed()
    assert torch.equal(allowed, _slow_allowed(pyramid.sizes, windows, inner))
    assert torch.equal(allowed, allowed.T)
    assert bool(allowed.diagonal().all())
    for level, size in enumerate(pyramid.sizes):
        degree = allowed[pyramid.start(level) : pyramid.start(level) + size].sum(1)
        children = windows[level - 1] if level else 0
        inside = degree[:-1] if level else degree  # the last parent adopts what is left over
        assert size == 1 or int(inside.max()) <= 2 * (inner // 2) + 1 + children + 1


@pytest.mark.parametrize(
    ("length", "windows", "inner", "layers"), [(48, (4, 4), 5, 5), (64, (4, 4, 4), 3, 6), (64, (2, 2), 3, 19)]
)
def test_any_two_steps_connect_within_the_bound_of_the_paper(length, windows, inner, layers):
    pyramid = build_pyramid(length, windows, inner)
    levels, top = len(pyramid.sizes), pyramid.sizes[-1]
    assert layers == 2 * (levels - 1) + math.ceil((top - 1) / (inner // 2))
    step, reached = pyramid.allowed().float(), torch.eye(pyramid.num_nodes)
    needed = 0
    while not bool((reached[:length, :length] > 0).all()):
        reached, needed = ((reached @ step) > 0).float(), needed + 1
    assert needed == layers


@pytest.mark.parametrize(("length", "windows", "inner"), SHAPES)
@pytest.mark.parametrize("masked", [False, True])
def test_gathering_equals_the_dense_form(length, windows, inner, masked):
    pyramid = build_pyramid(length, windows, inner)
    heads = PyramidalHeads(8, 2).eval()
    nodes = torch.randn(3, pyramid.num_nodes, 8)
    mask = build_node_mask(torch.rand(3, length) > 0.4, pyramid) if masked else None
    allowed = pyramid.allowed() if mask is None else pyramid.allowed() & mask.unsqueeze(1)
    dense, _ = heads.attend(nodes, nodes, allowed)
    gathered = heads(nodes, nodes, pyramid, mask)
    open_rows = torch.ones(3, pyramid.num_nodes, dtype=torch.bool) if mask is None else mask
    torch.testing.assert_close(gathered[open_rows], dense[open_rows], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("position", ["post", "pre", "query"])
def test_both_forms_of_a_layer_agree_with_and_without_attention_residual(position):
    pyramid = build_pyramid(21, (4, 2), 3)
    for residual in (True, False):
        layer = PyramidalLayer(
            8, 2, 12, norm_position=position, attention_residual=residual, qkv_bias=not residual
        ).eval()
        nodes = torch.randn(2, pyramid.num_nodes, 8)
        dense, maps = layer.attend(nodes, pyramid.allowed())
        torch.testing.assert_close(layer(nodes, pyramid), dense, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(maps.sum(-1), torch.ones(2, 2, pyramid.num_nodes))


@pytest.mark.parametrize("kind", ["bottleneck", "conv", "max", "average"])
def test_a_coarse_node_depends_on_its_own_steps_only_and_the_finest_level_is_the_normalised_input(kind):
    windows, length = (4, 3), 29
    block = CoarseScaleConstruction(8, windows, kind).double().eval()
    pyramid = build_pyramid(length, windows, 3)
    assert pyramid.sizes == (29, 7, 2)
    x = torch.randn(1, length, 8, dtype=torch.float64)
    nodes = block(x)
    torch.testing.assert_close(nodes[:, :length], block.norm(x))
    for step in range(length):
        other = x.clone()
        other[:, step] += torch.randn(8, dtype=torch.float64)
        moved = (block(other) != nodes).any(dim=2)[0].nonzero().flatten().tolist()
        family = [step] + [length + step // 4] * (step < 28) + [36 + step // 12] * (step < 24)
        assert set(moved) <= set(family)
        assert kind == "max" or moved == family


def test_a_parent_is_real_if_any_child_adopted_ones_included_is():
    pyramid = build_pyramid(7, (3,), 1)
    mask = torch.tensor([[False, False, False, False, False, False, True], [True] + [False] * 6])
    assert build_node_mask(mask, pyramid)[:, 7:].tolist() == [[False, True], [True, False]]


def test_ancestors_walk_up_through_the_last_parent():
    assert build_pyramid(11, (4, 2), 3).ancestors()[[0, 5, 10]].tolist() == [[0, 11, 13], [5, 12, 13], [10, 12, 13]]


def test_the_mixer_sees_as_far_as_its_ancestors_and_a_level_too_many_is_refused():
    block = PyramidalAttention(8, 2, (4, 4), 3).double().eval()
    x = torch.randn(1, 32, 8, dtype=torch.float64, requires_grad=True)
    block(x)[0, 2].sum().backward()
    seen = (x.grad.abs().sum(-1)[0] > 0).nonzero().flatten().tolist()
    assert seen == list(range(32)), "the top ancestor reads its neighbour, which sums up the other half"
    with pytest.raises(ValueError, match="use fewer or smaller windows"):
        PyramidalAttention(8, 2, (4, 4, 4))(torch.randn(1, 32, 8))

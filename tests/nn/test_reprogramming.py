import math

import pytest
import torch

from tsllm.nn.reprogramming import (
    PROTOTYPES,
    DirectPrototypes,
    GramPrototypes,
    MappingPrototypes,
    Reprogramming,
    compute_gram_root,
    draw_mixtures,
)


def test_attention_equals_a_loop_over_heads():
    layer = Reprogramming(d_model=6, num_heads=3, head_width=4, d_source=10).eval()
    patches, prototypes = torch.randn(2, 5, 6), torch.randn(7, 10)
    query, key, value = layer.query(patches), layer.key(prototypes), layer.value(prototypes)
    heads = []
    for h in range(3):
        part = slice(4 * h, 4 * h + 4)
        weights = (query[..., part] @ key[:, part].T / math.sqrt(4)).softmax(-1)
        heads.append(weights @ value[:, part])
    expected = layer.out(torch.cat(heads, -1))
    torch.testing.assert_close(layer(patches, *layer.project(prototypes)), expected)


def test_attention_weights_sum_to_one_and_give_the_forward():
    layer = Reprogramming(d_model=6, num_heads=2, head_width=3, d_source=8).eval()
    patches, prototypes = torch.randn(2, 4, 6), torch.randn(9, 8)
    keys, values = layer.project(prototypes)
    weights = layer.attend(patches, keys)
    assert weights.shape == (2, 2, 4, 9)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 4))
    mixed = (weights @ values).transpose(1, 2).flatten(2)
    torch.testing.assert_close(layer(patches, keys, values), layer.out(mixed))


def test_the_order_of_the_prototypes_does_not_matter():
    layer = Reprogramming(d_model=6, num_heads=2, head_width=3, d_source=8).eval()
    patches, prototypes = torch.randn(2, 4, 6), torch.randn(9, 8)
    shuffled = prototypes[torch.randperm(9)]
    torch.testing.assert_close(
        layer(patches, *layer.project(prototypes)), layer(patches, *layer.project(shuffled)), atol=1e-6, rtol=1e-6
    )


def test_mapping_is_a_linear_layer_over_the_words():
    words = torch.randn(30, 8)
    block = MappingPrototypes(words, 5)
    torch.testing.assert_close(block(words), block.mapping(words.T).T)


def test_every_mode_starts_at_the_scale_of_the_mapping_layer():
    words = torch.randn(400, 8) * 3
    spread = MappingPrototypes(words, 300)(words).std().item()
    for mode in ("direct", "gram"):
        prototypes = PROTOTYPES.get(mode)(words, 300)(words)
        assert prototypes.shape == (300, 8)
        assert prototypes.std().item() == pytest.approx(spread, rel=0.1)


def test_mixtures_are_those_of_a_linear_layer_whatever_the_chunk():
    words = torch.randn(50, 4)
    torch.manual_seed(3)
    drawn = draw_mixtures(words, 6, chunk=6)
    torch.manual_seed(3)
    bound = 1 / math.sqrt(50)
    weight = torch.empty(6, 50).uniform_(-bound, bound)
    bias = torch.empty(6, 1).uniform_(-bound, bound)
    torch.testing.assert_close(drawn, weight @ words + bias)
    assert draw_mixtures(words, 7, chunk=3).shape == (7, 4)


def test_the_root_squares_to_the_gram_matrix_of_words_and_bias():
    words = torch.randn(60, 8)
    root = compute_gram_root(words)
    torch.testing.assert_close(root, root.T)
    torch.testing.assert_close(root @ root, words.T @ words + 1, atol=1e-3, rtol=1e-4)


def test_one_gradient_step_moves_gram_prototypes_as_it_moves_the_mapping_layer():
    words = torch.randn(60, 8)
    mapping, gram = MappingPrototypes(words, 5), GramPrototypes(words, 5)
    with torch.no_grad():
        gram.initial.copy_(mapping(words))
    target = torch.randn(5, 8)
    moved = []
    for block in (mapping, gram):
        loss = (block(words) - target).square().sum()
        gradients = torch.autograd.grad(loss, list(block.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(block.parameters(), gradients, strict=True):
                parameter -= 1e-4 * gradient
        moved.append(block(words).detach())
    assert (moved[0] - gram.initial).abs().max() > 1e-3
    torch.testing.assert_close(moved[1], moved[0], atol=1e-5, rtol=1e-4)


def test_direct_prototypes_are_trained_themselves():
    block = DirectPrototypes(torch.randn(30, 8), 5)
    block(torch.empty(0)).sum().backward()
    assert torch.equal(block.prototypes.grad, torch.ones(5, 8))

import torch

from tsllm.nn.attention.relu_linear import ReluLinearAttention, attend_linear


def _slow(q, k, v, causal=False):
    """The quadratic order, weight by weight."""
    weights = torch.relu(q) @ torch.relu(k).transpose(-1, -2)
    weights = weights.tril() if causal else weights
    total = weights.sum(-1, keepdim=True)
    return torch.where(total > 0, weights / total.clamp_min(1e-300), 0.0), v


def test_the_linear_and_the_quadratic_order_agree_and_weights_are_shares():
    q, k, v = torch.randn(3, 2, 4, 150, 3, dtype=torch.float64).unbind(0)
    for causal in (False, True):
        weights, values = _slow(q, k, v, causal)
        torch.testing.assert_close(attend_linear(q, k, v, causal), weights @ values, atol=1e-10, rtol=1e-8)
        assert float(weights.min()) >= 0.0
        sums = weights.sum(-1)
        assert bool(((sums - 1).abs() < 1e-12).logical_or(sums == 0).all())


def test_queries_that_are_clipped_everywhere_give_exactly_zero():
    q, k, v = torch.randn(3, 1, 1, 6, 4).unbind(0)
    q[..., 2, :] = -q[..., 2, :].abs()
    assert torch.equal(attend_linear(q, k, v)[..., 2, :], torch.zeros(1, 1, 4))
    assert torch.equal(attend_linear(q, k, v, causal=True)[..., 2, :], torch.zeros(1, 1, 4))


def test_only_without_scales_it_is_equivariant_to_permutations():
    x, order = torch.randn(1, 12, 8, dtype=torch.float64), torch.randperm(12)
    plain = ReluLinearAttention(8, 2, scales=()).double().eval()
    torch.testing.assert_close(plain(x[:, order]), plain(x)[:, order])
    scaled = ReluLinearAttention(8, 2, scales=(3,)).double().eval()
    assert not torch.allclose(scaled(x[:, order]), scaled(x)[:, order], atol=1e-4)


def test_the_number_of_parameters_is_the_one_of_the_formula():
    d_model, heads, scales = 16, 4, (3, 5)
    dim = d_model // heads
    block = ReluLinearAttention(d_model, heads, scales=scales, batch_norm=False)
    want = 3 * d_model**2 + sum(3 * d_model * (s + dim) for s in scales) + (1 + len(scales)) * d_model**2
    assert sum(p.numel() for p in block.parameters()) == want


def test_across_chunks_the_causal_form_leaves_the_past_bit_equal():
    block = ReluLinearAttention(8, 2, causal=True).eval()
    x = torch.randn(1, 150, 8)
    y = block(x)
    for start in (1, 64, 100, 128):
        other = x.clone()
        other[:, start:] += 3.0
        assert torch.equal(block(other)[:, :start], y[:, :start])

import pytest
import torch

from tsllm.nn.attention.full import FullAttention
from tsllm.nn.attention.log_sparse import LogSparseAttention
from tsllm.nn.attention.trend_aware import TrendAwareAttention


def test_with_kernel_one_it_is_multi_head_attention():
    ours, full = TrendAwareAttention(8, 2, kernel_size=1).double(), FullAttention(8, 2).double()
    with torch.no_grad():
        for name in ("query", "key"):
            getattr(full, name).weight.copy_(getattr(ours, name).conv.weight[..., 0])
            getattr(full, name).bias.copy_(getattr(ours, name).conv.bias)
    full.value.load_state_dict(ours.value.state_dict())
    full.out.load_state_dict(ours.out.state_dict())
    x = torch.randn(2, 9, 8, dtype=torch.float64)
    torch.testing.assert_close(ours(x), full(x))


def test_causal_convolutions_without_the_mask_let_the_future_into_the_past():
    block = TrendAwareAttention(8, 2, convolution="causal").double()
    assert block.causal is False
    x = torch.randn(1, 9, 8, dtype=torch.float64)
    other = x.clone()
    other[:, 6:] += 3.0
    assert float((block(x) - block(other))[:, :6].abs().max()) > 1e-3


@pytest.mark.parametrize(("kernel", "dilation"), [(3, 1), (5, 1), (3, 2)])
def test_centred_queries_look_half_a_kernel_ahead_and_no_further(kernel, dilation):
    block = TrendAwareAttention(4, 1, kernel_size=kernel, dilation=dilation).double()
    x = torch.randn(1, 4, 15, dtype=torch.float64)
    other = x.clone()
    other[..., 8] += 1.0
    moved = (block.query(x) != block.query(other)).any(dim=(0, 1)).nonzero().flatten().tolist()
    reach = dilation * (kernel - 1) // 2
    assert moved == list(range(8 - reach, 8 + reach + 1, dilation))


def test_rows_sum_to_one_and_closed_pairs_get_nothing():
    block = TrendAwareAttention(8, 2).double()
    q, k = torch.randn(1, 4, 8, dtype=torch.float64), torch.randn(1, 6, 8, dtype=torch.float64)
    allowed = torch.rand(4, 6) > 0.4
    allowed[:, 0] = True
    _, maps = block.attend(q, k, k, allowed)
    torch.testing.assert_close(maps.sum(-1), torch.ones(1, 2, 4, dtype=torch.float64))
    assert float(maps[..., ~allowed].abs().max()) == 0.0


def test_segments_are_convolved_apart_and_attended_together():
    block = TrendAwareAttention(4, 1, segments=(5, 6)).double()
    x = torch.randn(1, 11, 4, dtype=torch.float64)
    q = block._project(x, x, x, (5, 6), (5, 6))[0][:, 0]
    torch.testing.assert_close(q[:, :5], block.query(x[:, :5].transpose(1, 2)).transpose(1, 2))
    torch.testing.assert_close(q[:, 5:], block.query(x[:, 5:].transpose(1, 2)).transpose(1, 2))
    other = x.clone()
    other[:, 9] += 1.0
    assert bool((block(other) != block(x))[:, :5].any()), "the segments attend to each other"
    with pytest.raises(ValueError, match="sum to 11"):
        block(x[:, :10])


def test_log_sparse_equals_dense_causal_attention_with_the_closed_pairs_masked():
    sparse = LogSparseAttention(8, 2, kernel_size=3).double()
    dense = TrendAwareAttention(8, 2, kernel_size=3, convolution="causal").double()
    dense.load_state_dict(sparse.state_dict())
    x = torch.randn(2, 21, 8, dtype=torch.float64)
    behind = torch.arange(21).unsqueeze(1) - torch.arange(21)
    allowed = (behind == 0) | ((behind > 0) & ((behind & (behind - 1)) == 0))  # 0 and powers of two
    want, _ = dense.attend(x, x, x, allowed)
    torch.testing.assert_close(sparse(x), want)


def test_equal_shapes_get_equal_queries_and_keys_whatever_came_before():
    block = LogSparseAttention(4, 1, kernel_size=3).double()
    x = torch.randn(1, 4, 12, dtype=torch.float64)
    x[..., 8:11] = x[..., 3:6]
    for projection in (block.query, block.key):
        torch.testing.assert_close(projection(x)[..., 10], projection(x)[..., 5])
        assert float((projection(x)[..., 9] - projection(x)[..., 4]).abs().max()) > 1e-3

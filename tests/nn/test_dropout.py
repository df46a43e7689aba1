"""Dropout: how many elements fall, what the others become, and what flows back."""

import pytest
import torch

from tsllm.nn.dropout import Dropout, drop_out


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.3, 0.9])
def test_the_share_of_zeros_is_the_rate_and_the_expectation_stays(rate):
    torch.manual_seed(0)
    out = drop_out(torch.ones(1_000_000), rate)
    spread = (rate * (1 - rate) / 1e6) ** 0.5
    assert abs((out == 0).double().mean().item() - rate) < 4 * spread + 2**-17
    assert abs(out.double().mean().item() - 1) < 4 * spread / (1 - rate)
    assert out.unique().tolist() == pytest.approx([0.0, 1 / (1 - rate)], rel=1e-4)


def test_neighbours_that_share_a_draw_fall_independently():
    torch.manual_seed(0)
    dropped = (drop_out(torch.ones(250_000, 4), 0.5) == 0).double()
    correlation = torch.corrcoef(dropped.T) - torch.eye(4)
    assert correlation.abs().max() < 4 / 250_000**0.5


def test_the_gradient_passes_where_the_value_passed():
    torch.manual_seed(0)
    x = torch.randn(3, 5, 7, requires_grad=True)
    out = drop_out(x, 0.4)
    out.sum().backward()
    torch.testing.assert_close(x.grad * x.detach(), out.detach())
    assert 0 < (x.grad == 0).sum() < x.numel()


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (0, 4)])
def test_any_shape_and_layout_and_type(shape):
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        x = torch.ones(shape, dtype=dtype).T if len(shape) == 2 else torch.ones(shape, dtype=dtype)
        out = drop_out(x, 0.5)
        assert (out.shape, out.dtype) == (x.shape, dtype)
        assert set(out.flatten().tolist()) <= {0.0, 2.0}


def test_the_seed_decides_and_eval_changes_nothing():
    x, layer = torch.randn(100), Dropout(0.5)
    torch.manual_seed(3)
    first = layer(x)
    torch.manual_seed(3)
    assert torch.equal(layer(x), first)
    assert not torch.equal(layer(x), first)
    assert layer.eval()(x) is x


def test_rates_of_zero_and_one():
    x = torch.randn(10)
    assert torch.equal(drop_out(x, 0.0), x)
    assert torch.equal(drop_out(x, 1.0), torch.zeros(10))
    with pytest.raises(ValueError, match=r"1\.5"):
        Dropout(1.5)

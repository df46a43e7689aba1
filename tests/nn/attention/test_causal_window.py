import pytest
import torch

from tsllm.nn.attention.causal_window import GrowingWindows, WindowAttention, fold_windows, unfold_windows
from tsllm.nn.attention.full import FullAttention


@pytest.mark.parametrize("dilation", [1, 3])
def test_folding_and_unfolding_are_inverse_and_windows_hold_every_rth_step(dilation):
    x = torch.arange(24.0).view(1, 24, 1).expand(2, -1, -1)
    windows = fold_windows(x, 4, dilation)
    assert windows[0, :, 0].tolist() == [dilation * i for i in range(4)]
    torch.testing.assert_close(unfold_windows(windows, 2, dilation), x)


@pytest.mark.parametrize("causal", [True, False])
def test_one_window_over_everything_is_full_attention(causal):
    block, full = WindowAttention(8, 2, 12, causal=causal, qkv_bias=True), FullAttention(8, 2, causal=causal)
    full.load_state_dict(block.state_dict())
    x = torch.randn(2, 12, 8)
    torch.testing.assert_close(block(x), full(x))


@pytest.mark.parametrize("length", [12, 10, 5, 1])
def test_each_window_is_attention_of_its_own_whatever_the_length(length):
    block, full = WindowAttention(8, 2, 4, qkv_bias=True), FullAttention(8, 2, causal=True)
    full.load_state_dict(block.state_dict())
    x = torch.randn(3, length, 8)
    want = torch.cat([full(part) for part in x.split(4, dim=1)], dim=1)
    torch.testing.assert_close(block(x), want)


def test_nothing_leaks_across_windows():
    block = WindowAttention(8, 2, 4, causal=False).double()
    x = torch.randn(1, 12, 8, dtype=torch.float64)
    other = x.clone()
    other[:, 4:8] += 5.0
    same = (block(x) == block(other)).all(dim=2)[0]
    assert same.tolist() == [True] * 4 + [False] * 4 + [True] * 4


def test_after_windows_of_2_4_8_the_last_of_8_steps_sees_all_and_after_2_4_it_does_not():
    for sizes, sees in (((2, 4, 8), 8), ((2, 4), 4)):
        block = GrowingWindows(8, 8, 2, sizes).double()
        x = torch.randn(1, 8, 8, dtype=torch.float64, requires_grad=True)
        block(x)[0, -1].sum().backward()
        assert int((x.grad.abs().sum(-1)[0] > 0).sum()) == sees

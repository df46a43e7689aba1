import pytest
import torch

from tsllm.nn.attention.baselines import Pooling
from tsllm.nn.attention.recurrent import GruMixer, LstmMixer


def _lstm_by_hand(block, x):
    w, u, b = block.recurrent.weight_ih_l0, block.recurrent.weight_hh_l0, block.recurrent.bias_ih_l0
    b = b + block.recurrent.bias_hh_l0
    h = c = torch.zeros(x.shape[0], x.shape[2], dtype=x.dtype)
    out = []
    for t in range(x.shape[1]):
        i, f, g, o = (x[:, t] @ w.T + h @ u.T + b).chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        out.append(h)
    return torch.stack(out, dim=1)


def _gru_by_hand(block, x):
    w, u = block.recurrent.weight_ih_l0, block.recurrent.weight_hh_l0
    b, d = block.recurrent.bias_ih_l0, block.recurrent.bias_hh_l0
    h = torch.zeros(x.shape[0], x.shape[2], dtype=x.dtype)
    out = []
    for t in range(x.shape[1]):
        from_x, from_h = (x[:, t] @ w.T + b).chunk(3, dim=1), (h @ u.T + d).chunk(3, dim=1)
        r, z = torch.sigmoid(from_x[0] + from_h[0]), torch.sigmoid(from_x[1] + from_h[1])
        h = (1 - z) * torch.tanh(from_x[2] + r * from_h[2]) + z * h
        out.append(h)
    return torch.stack(out, dim=1)


@pytest.mark.parametrize(("cls", "by_hand"), [(LstmMixer, _lstm_by_hand), (GruMixer, _gru_by_hand)])
def test_the_gates_follow_their_equations_and_masked_steps_are_passed_over(cls, by_hand):
    block = cls(5).double()
    x = torch.randn(2, 7, 5, dtype=torch.float64)
    torch.testing.assert_close(block(x), by_hand(block, x))
    mask = torch.tensor([[True, False, True, True, False, True, False]] * 2)
    torch.testing.assert_close(block(x, mask)[mask].view(2, 4, 5), by_hand(block, x[:, mask[0]]))


def test_a_gru_whose_update_gate_is_one_copies_its_state():
    block = GruMixer(4).double()
    with torch.no_grad():
        block.recurrent.bias_ih_l0[4:8] = 60.0
    y = block(torch.randn(1, 6, 4, dtype=torch.float64))
    assert float(y.abs().max()) < 1e-12, "the state starts at zero and stays there"


def test_an_open_forget_gate_and_a_shut_input_gate_keep_the_cell():
    block = LstmMixer(4).double()
    with torch.no_grad():
        block.recurrent.bias_ih_l0[:4] = -60.0
        block.recurrent.bias_ih_l0[4:8] = 60.0
    x = torch.randn(1, 6, 4, dtype=torch.float64)
    start = (torch.zeros(1, 1, 4, dtype=torch.float64), torch.randn(1, 1, 4, dtype=torch.float64))
    _, (_, cell) = block.recurrent(x, start)
    torch.testing.assert_close(cell, start[1])


def test_pooling_is_the_mean_of_real_neighbours_minus_the_token():
    x = torch.tensor([[1.0, 4.0, 10.0, 3.0, 8.0]]).unsqueeze(-1)
    mask = torch.tensor([[True, True, False, True, True]])
    want = [1.5, -1.5, 0.0, 2.5, -2.5]  # means 2.5, 2.5, -, 5.5, 5.5
    assert Pooling(1)(x, mask)[0, :, 0].tolist() == pytest.approx(want)
    assert Pooling(1)(x)[0, :, 0].tolist() == pytest.approx([1.5, 1.0, 17 / 3 - 10, 4.0, -2.5])

import torch
import torch.nn.functional as F

from tsllm.nn.attention.additive import AdditiveAttention


def test_it_equals_the_sum_written_token_by_token():
    block = AdditiveAttention(6, expansion=2).double()
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    want = torch.empty_like(x)
    for b in range(2):
        q = [F.normalize(block.query(x[b, i]), dim=0) for i in range(5)]
        k = [F.normalize(block.key(x[b, i]), dim=0) for i in range(5)]
        a = torch.stack([row @ block.weight for row in q])
        summary = sum(a[i] / a.norm() * q[i] for i in range(5))
        for i in range(5):
            want[b, i] = block.out(block.mix(summary * k[i]) + q[i])
    torch.testing.assert_close(block(x), want)


def test_the_squares_of_the_weights_sum_to_one_and_the_length_of_w_is_without_effect():
    block = AdditiveAttention(6).double()
    x = torch.randn(2, 9, 6, dtype=torch.float64)
    weights = block.compute_weights(F.normalize(block.query(x), dim=-1))
    torch.testing.assert_close(weights.square().sum(1), torch.ones(2, dtype=torch.float64))
    assert float(weights.detach().min()) < 0.0
    y = block(x)
    with torch.no_grad():
        block.weight *= 7.5
    torch.testing.assert_close(block(x), y)


def test_it_is_equivariant_to_permutations_and_as_wide_as_asked():
    block = AdditiveAttention(6, num_outputs=10).double()
    x, order = torch.randn(1, 9, 6, dtype=torch.float64), torch.randperm(9)
    assert block(x).shape == (1, 9, 10)
    torch.testing.assert_close(block(x[:, order]), block(x)[:, order])

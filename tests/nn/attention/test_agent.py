import pytest
import torch

from tsllm.nn.attention.agent import AgentAttention, GridReduction


def _double(block):
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.4)
    return block.double().eval()


@pytest.mark.parametrize("agents", ["pooled", "learned"])
def test_both_softmaxes_sum_to_one(agents):
    block = _double(AgentAttention(8, 2, num_agents=5, agents=agents))
    mask = torch.rand(2, 17) > 0.3
    _, gather, hand_out = block.attend(torch.randn(2, 17, 8, dtype=torch.float64), mask)
    assert gather.shape == (2, 2, 5, 17)
    assert hand_out.shape == (2, 2, 17, 5)
    torch.testing.assert_close(gather.sum(-1), torch.ones(2, 2, 5, dtype=torch.float64))
    torch.testing.assert_close(hand_out.sum(-1), torch.ones(2, 2, 17, dtype=torch.float64))
    assert float(gather.detach().transpose(2, 3)[~mask.unsqueeze(1).expand(-1, 2, -1)].abs().max()) == 0.0


def test_constant_values_give_a_constant_output_without_the_convolution():
    block = _double(AgentAttention(8, 2, num_agents=4, kernel_size=0))
    with torch.no_grad():
        block.value.weight.zero_()
    y = block(torch.randn(2, 13, 8, dtype=torch.float64))
    torch.testing.assert_close(y, y[:1, :1].expand_as(y))
    torch.testing.assert_close(y[0, 0], block.out(block.value.bias))


def test_only_learned_agents_without_bias_and_convolution_are_equivariant_to_permutations():
    x, order = torch.randn(1, 12, 8, dtype=torch.float64), torch.randperm(12)
    free = _double(AgentAttention(8, 2, num_agents=3, agents="learned", bias="none", kernel_size=0))
    torch.testing.assert_close(free(x[:, order]), free(x)[:, order])
    pooled = _double(AgentAttention(8, 2, num_agents=3, bias="none", kernel_size=0))
    assert not torch.allclose(pooled(x[:, order]), pooled(x)[:, order], atol=1e-4)


def test_pooled_agents_of_a_masked_series_are_means_over_real_tokens():
    block = _double(AgentAttention(4, 1, num_agents=2, bias="none"))
    x = torch.randn(1, 6, 4, dtype=torch.float64)
    mask = torch.tensor([[True, False, True, False, False, False]])
    agents, exists = block._build_agents(block.query(x), mask, (6,))
    assert exists.tolist() == [[True, False]]
    torch.testing.assert_close(agents[0, 0], block.query(x)[0, [0, 2]].mean(0))


def test_pooled_agents_may_outnumber_the_tokens():
    block = _double(AgentAttention(8, 2, num_agents=9))
    assert block(torch.randn(1, 4, 8, dtype=torch.float64)).isfinite().all()


def test_a_class_token_is_read_and_reads_but_stands_at_no_place():
    """Agents are pooled from the others alone, and the convolution passes it by."""
    block = _double(AgentAttention(8, 2, num_agents=3, num_class_tokens=1))
    x = torch.randn(2, 10, 8, dtype=torch.float64)
    other = x.clone()
    other[:, 0] += 1.0
    agents, _ = block._build_agents(block.query(x), None, (9,))
    moved, _ = block._build_agents(block.query(other), None, (9,))
    assert torch.equal(agents, moved)
    assert not torch.allclose(block(other)[:, 1:], block(x)[:, 1:], atol=1e-4)  # every agent reads it
    values = block.value(x)
    detail = block._convolve(values, (9,))
    assert torch.equal(detail[:, 0], torch.zeros_like(detail[:, 0]))
    torch.testing.assert_close(detail[:, 1:], block.conv(values[:, 1:].transpose(1, 2)).transpose(1, 2))


def test_reduced_keys_are_the_norm_of_joined_neighbours_and_their_mask_that_of_any_of_them():
    reduce = GridReduction(2, 3, 1).double()
    with torch.no_grad():
        reduce.conv.weight.copy_(torch.eye(2, dtype=torch.float64)[:, :, None].expand(-1, -1, 3))
        reduce.conv.bias.zero_()
    x = torch.arange(14, dtype=torch.float64).reshape(1, 7, 2).square()  # seven steps: two are filled up in front
    mask = torch.tensor([[False, True, True, True, False, False, False]])
    joined, real = reduce(x, mask, (7,))
    hidden = torch.cat([torch.zeros(1, 2, 2, dtype=torch.float64), x * mask.unsqueeze(-1)], 1)
    torch.testing.assert_close(joined, reduce.norm(hidden.unflatten(1, (3, 3)).sum(2)))
    assert real.tolist() == [[False, True, False]]
    assert reduce.shrink((7,)) == (3,)


def test_reduction_reads_as_many_keys_as_are_left():
    block = _double(AgentAttention(8, 2, num_agents=4, reduction=4))
    _, gather, hand_out = block.attend(torch.randn(2, 18, 8, dtype=torch.float64))
    assert gather.shape == (2, 2, 4, 5)
    assert hand_out.shape == (2, 2, 18, 4)


def test_values_that_grow_evenly_come_back_evenly_from_the_joined_tokens():
    """Between the centres of joined tokens the way back is linear; beyond the outermost centre it stays level."""
    reduce = GridReduction(1, 2, 1).double()
    back = reduce.restore(torch.tensor([[[1.0], [3.0], [5.0]]], dtype=torch.float64), (6,))
    assert back[0, 0].tolist() == [1.0, 1.5, 2.5, 3.5, 4.5, 5.0]
    assert reduce.restore(torch.tensor([[[1.0], [3.0], [5.0]]], dtype=torch.float64), (5,))[0, 0].tolist() == [
        1.5,
        2.5,
        3.5,
        4.5,
        5.0,
    ]


def test_agents_may_stand_on_a_grid_that_is_no_square():
    block = _double(AgentAttention(8, 2, num_agents=(2, 3), grid=(4, 6), bias="full", table_size=(2, 5)))
    x = torch.randn(1, 24, 8, dtype=torch.float64)
    agents, _ = block._build_agents(block.query(x), None, (4, 6))
    want = block.query(x).view(1, 2, 2, 3, 2, 8).mean(dim=(2, 4)).flatten(1, 2)  # two rows and two columns an agent
    torch.testing.assert_close(agents, want)
    assert block(x).isfinite().all()

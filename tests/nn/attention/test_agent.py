import pytest
import torch

from tsllm.nn.attention.agent import AgentAttention


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

import pytest
import torch

from tsllm.nn.attention.full import CrossAttention, FullAttention


def test_it_equals_multi_head_attention_of_torch_with_copied_weights():
    ours, theirs = FullAttention(12, 3).double(), torch.nn.MultiheadAttention(12, 3, batch_first=True).double()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    x = torch.randn(2, 7, 12, dtype=torch.float64)
    mask = torch.tensor([[True] * 7, [True, False, True, True, False, False, True]])
    want, maps = theirs(x, x, x, key_padding_mask=~mask, average_attn_weights=False)
    got, our_maps, _ = ours.attend(x, mask)
    torch.testing.assert_close(ours(x, mask)[mask], want[mask])
    torch.testing.assert_close(got[mask], want[mask])
    torch.testing.assert_close(our_maps, maps)


@pytest.mark.parametrize("causal", [False, True])
def test_the_explicit_softmax_equals_the_fused_kernel_and_its_rows_sum_to_one(causal):
    block = FullAttention(8, 2, causal=causal).double()
    x = torch.randn(2, 9, 8, dtype=torch.float64)
    y, maps, scores = block.attend(x)
    torch.testing.assert_close(y, block(x))
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 2, 9, dtype=torch.float64))
    assert scores.shape == maps.shape
    if causal:
        assert float(maps.triu(1).abs().max()) == 0.0


def test_previous_scores_are_added_before_the_softmax():
    block = FullAttention(8, 2).double()
    x = torch.randn(1, 5, 8, dtype=torch.float64)
    _, _, scores = block.attend(x)
    carried = torch.randn_like(scores)
    _, maps, total = block.attend(x, previous_scores=carried)
    torch.testing.assert_close(total, scores + carried)
    torch.testing.assert_close(maps, torch.softmax(scores + carried, dim=-1))


def test_it_is_equivariant_to_permutations_of_the_tokens():
    block = FullAttention(8, 4).double()
    x, order = torch.randn(2, 11, 8, dtype=torch.float64), torch.randperm(11)
    torch.testing.assert_close(block(x[:, order]), block(x)[:, order])


def test_cross_attention_does_not_care_for_the_order_of_its_context_nor_for_masked_parts_of_it():
    block = CrossAttention(8, 2, d_context=5).double()
    x, context = torch.randn(2, 3, 8, dtype=torch.float64), torch.randn(2, 6, 5, dtype=torch.float64)
    order = torch.randperm(6)
    torch.testing.assert_close(block(x, context[:, order]), block(x, context))
    mask = torch.tensor([[True, True, False, True, False, False]] * 2)
    torch.testing.assert_close(block(x, context, mask), block(x, context[:, [0, 1, 3]]))
    y, maps = block.attend(x, context, mask)
    torch.testing.assert_close(y, block(x, context, mask))
    assert float(maps[..., [2, 4, 5]].abs().max()) == 0.0

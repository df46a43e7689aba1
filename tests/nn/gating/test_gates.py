import pytest
import torch

from tsllm.nn.channel_block import PositionBatchNorm
from tsllm.nn.gating.cbam import Cbam, CbamMlp
from tsllm.nn.gating.channel import SqueezeExcitation
from tsllm.nn.gating.coordinate import CoordinateAttention
from tsllm.nn.gating.dual import ChannelAffinity, PositionAttention
from tsllm.nn.gating.selective_kernel import SelectiveKernel
from tsllm.nn.gating.self_gate import SelfGate
from tsllm.nn.gating.spatial import SpatialGate
from tsllm.nn.gating.triplet import TripletAttention

SHRINKING = {
    "se": lambda: SqueezeExcitation(8),
    "cbam": lambda: Cbam(8, dims=2),
    "cbam_parallel": lambda: Cbam(8, dims=2, order="parallel"),
    "cbam_mlp": lambda: CbamMlp(8),
    "coordinate": lambda: CoordinateAttention(8),
    "triplet": lambda: TripletAttention(8),
}


def _map(channels=8, rows=5, columns=7):
    return torch.randn(2, channels, rows, columns, dtype=torch.float64)


def _shuffle_positions(x, order):
    return x.flatten(2)[..., order].unflatten(2, x.shape[2:])


@pytest.mark.parametrize("name", SHRINKING)
def test_gates_lie_between_zero_and_one(name):
    x, block = _map(), SHRINKING[name]().double().eval()
    y = block(x)
    assert bool((y.abs() <= x.abs()).all())
    assert bool((y * x >= 0).all())


def test_se_gates_whole_channels_and_follows_a_permutation_of_positions():
    block, x, order = SqueezeExcitation(8).double(), _map(), torch.randperm(35)
    ratio = (block(x) / x).flatten(2)
    torch.testing.assert_close(ratio, ratio[..., :1].expand_as(ratio))
    torch.testing.assert_close(block(_shuffle_positions(x, order)), _shuffle_positions(block(x), order))
    with torch.no_grad():
        block.excite.weight.zero_()
    torch.testing.assert_close(block(x), x / 2)


def test_a_shut_spatial_convolution_halves_what_the_channel_gate_passes():
    block, x = Cbam(8, dims=2).double().eval(), _map()
    with torch.no_grad():
        block.spatial.conv.weight.zero_()
    torch.testing.assert_close(block(x), 0.5 * x * block.channel.compute_gate(x))


def test_the_spatial_gate_is_one_for_all_channels_and_only_the_mlp_follows_permutations():
    x, order = _map(), torch.randperm(35)
    conv, mlp = SpatialGate(dims=2).double().eval(), SpatialGate("mlp").double()
    for gate in (conv, mlp):
        assert gate.compute_gate(x).shape == (2, 1, 5, 7)
    torch.testing.assert_close(mlp(_shuffle_positions(x, order)), _shuffle_positions(mlp(x), order))
    assert not torch.allclose(conv(_shuffle_positions(x, order)), _shuffle_positions(conv(x), order), atol=1e-4)


def test_a_linear_mlp_gate_is_a_convolution_of_kernel_one():
    mlp, conv = SpatialGate("mlp", d_hidden=1).double(), SpatialGate(kernel_size=1, batch_norm=False).double()
    mlp.mlp[1] = torch.nn.Identity()
    with torch.no_grad():
        weight = mlp.mlp[2].weight * mlp.mlp[0].weight
        conv.conv.weight.copy_(weight.unsqueeze(-1))
        conv.conv.bias.copy_(mlp.mlp[2].weight[0] * mlp.mlp[0].bias + mlp.mlp[2].bias)
    x = torch.randn(2, 6, 9, dtype=torch.float64)
    torch.testing.assert_close(mlp(x), conv(x))


def test_selective_weights_sum_to_one_and_equal_branches_give_that_branch():
    block, x = SelectiveKernel(8, (3, 5, 7), d_hidden=4).double().eval(), torch.randn(2, 8, 12, dtype=torch.float64)
    outputs = block.compute_branches(x)
    weights = block.fusion.compute_weights(outputs)
    torch.testing.assert_close(weights.sum(0), torch.ones(2, 8, 1, dtype=torch.float64))
    torch.testing.assert_close(block.fusion([outputs[0]] * 3), outputs[0])
    single = SelectiveKernel(8, (3,), d_hidden=4).double().eval()
    torch.testing.assert_close(single(x), single.compute_branches(x)[0])


def test_selective_weights_do_not_move_with_a_circular_shift():
    block = SelectiveKernel(8, (3, 5), d_hidden=4).double().eval()
    for branch in block.branches:
        branch.conv.padding_mode = "circular"
        branch.conv._reversed_padding_repeated_twice = [branch.conv.padding[0]] * 2
    x = torch.randn(2, 8, 12, dtype=torch.float64)
    before = block.fusion.compute_weights(block.compute_branches(x))
    after = block.fusion.compute_weights(block.compute_branches(x.roll(5, dims=2)))
    torch.testing.assert_close(after, before)


def test_the_coordinate_gate_has_rank_one_in_every_channel():
    block, x = CoordinateAttention(8).double().eval(), _map()
    values = torch.linalg.svdvals(block.compute_gate(x))
    assert float((values[..., 1] / values[..., 0]).detach().max()) < 1e-12


def test_transposing_the_map_and_swapping_rows_with_columns_transposes_the_coordinate_gate():
    block, x = CoordinateAttention(8).double().eval(), _map()
    y = block(x)
    block.rows, block.columns = block.columns, block.rows
    torch.testing.assert_close(block(x.transpose(2, 3)), y.transpose(2, 3))


def test_triplet_with_shut_convolutions_halves_and_knows_no_size():
    x = _map()
    for spatial in (True, False):
        block = TripletAttention(8, spatial=spatial).double().eval()
        with torch.no_grad():
            for gate in (block.across_rows, block.across_columns, block.across_channels):
                if gate is not None:
                    gate.conv.weight.zero_()
        torch.testing.assert_close(block(x), x / 2)
        assert any(key.startswith("across_channels") for key in block.state_dict()) == spatial
    assert sum(p.numel() for p in TripletAttention(8).parameters()) == 3 * (98 + 2)
    assert sum(p.numel() for p in TripletAttention(64).parameters()) == 3 * (98 + 2)


def test_position_attention_starts_as_identity_follows_permutations_and_its_rows_sum_to_one():
    block, x, order = PositionAttention(8).double(), _map(), torch.randperm(35)
    assert torch.equal(block(x), x)
    torch.testing.assert_close(block.compute_map(x).sum(-1), torch.ones(2, 35, dtype=torch.float64))
    torch.nn.init.constant_(block.gamma, 0.7)
    torch.testing.assert_close(block(_shuffle_positions(x, order)), _shuffle_positions(block(x), order))


def test_channel_affinity_favours_the_least_similar_channel_or_the_most_similar():
    x = _map(channels=6)
    block = ChannelAffinity(6).double()
    assert torch.equal(block(x), x)
    maps = block.compute_map(x)
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 6, dtype=torch.float64))
    assert torch.equal(maps.argmin(-1), torch.arange(6).expand(2, -1)), "a channel weighs itself least"
    similar = ChannelAffinity(6, favour="similar").double().compute_map(x)
    assert torch.equal(similar.argmax(-1), torch.arange(6).expand(2, -1))
    torch.nn.init.constant_(block.gamma, 0.7)
    positions, channels = torch.randperm(35), torch.randperm(6)
    torch.testing.assert_close(block(_shuffle_positions(x, positions)), _shuffle_positions(block(x), positions))
    torch.testing.assert_close(block(x[:, channels]), block(x)[:, channels])


def test_the_self_gate_is_torch_glu_and_silu():
    block, x = SelfGate(6).double(), torch.randn(2, 6, 9, dtype=torch.float64)
    joint = torch.cat([block.value(x), block.gate(x)], dim=1)
    torch.testing.assert_close(block(x), torch.nn.functional.glu(joint, dim=1))
    torch.testing.assert_close(SelfGate(6, "none")(x), torch.nn.functional.silu(x))
    with torch.no_grad():
        block.gate.weight.zero_()
        block.gate.bias.zero_()
    torch.testing.assert_close(block(x), block.value(x) / 2)


def test_batch_norm_over_positions_equals_torch_and_counts_real_positions_only():
    x = torch.randn(3, 4, 5, 6)
    ours, theirs = PositionBatchNorm(4), torch.nn.BatchNorm2d(4)
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.norm.running_var, theirs.running_var)
    alone = x[:1, :, :1, :1]
    assert ours.training
    want = torch.nn.functional.batch_norm(alone, ours.norm.running_mean, ours.norm.running_var)
    torch.testing.assert_close(ours(alone), want, msg="one value has no variance: the running statistics measure it")
    mask = torch.rand(3, 5, 6) > 0.4
    fresh = PositionBatchNorm(4)
    y = fresh(x, mask).movedim(1, -1)[mask]
    torch.testing.assert_close(y.mean(0), torch.zeros(4), atol=1e-6, rtol=0)
    torch.testing.assert_close(fresh.norm.running_mean, 0.1 * x.movedim(1, -1)[mask].mean(0))

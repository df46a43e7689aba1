import pytest
import torch

from tsllm.nn.conv.gated_tanh import GatedTanh, MultiScaleGatedTanh
from tsllm.nn.conv.inception import DilatedInception, GatedInception, compute_receptive_field
from tsllm.nn.conv.local import LocalRepresentation


def _series(channels=8, length=20):
    return torch.randn(2, channels, length, dtype=torch.float64)


@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_without_padding_six_dilations_are_lost_and_one_step_less_is_refused(dilation):
    block = DilatedInception(8, dilation=dilation, padding="none")
    assert block(torch.randn(1, 8, 6 * dilation + 1)).shape == (1, 8, 1)
    with pytest.raises(ValueError, match=f"at least {6 * dilation + 1} steps"):
        block(torch.randn(1, 8, 6 * dilation))


def test_padding_adds_what_is_missing_on_the_left():
    padded, bare = DilatedInception(8, dilation=2).double(), DilatedInception(8, dilation=2, padding="none").double()
    bare.load_state_dict(padded.state_dict())
    x = _series()
    torch.testing.assert_close(padded(x)[..., 12:], bare(x))
    torch.testing.assert_close(padded(x), bare(torch.nn.functional.pad(x, (12, 0))))


@pytest.mark.parametrize(("layers", "growth", "field"), [(3, 1, 19), (2, 2, 19), (3, 2, 43), (1, 5, 7)])
def test_an_impulse_is_heard_no_longer_than_the_receptive_field(layers, growth, field):
    assert compute_receptive_field(layers, growth) == field
    stack = torch.nn.Sequential(*(DilatedInception(4, dilation=growth**i) for i in range(layers))).double()
    x = torch.zeros(1, 4, 60, dtype=torch.float64)
    other = x.clone()
    other[..., 5] = 1.0
    moved = (stack(other) != stack(x)).any(dim=1)[0].nonzero().flatten()
    assert int(moved.min()) == 5
    assert int(moved.max()) == 5 + field - 1


def test_gated_inception_is_bounded_and_is_the_product_of_its_halves():
    block, x = GatedInception(8).double(), _series()
    y = block(10 * x)
    assert float(y.detach().abs().max()) < 1.0
    torch.testing.assert_close(block(x), torch.tanh(block.extract(x)) * torch.sigmoid(block.select(x)))


def test_the_branches_may_be_added_evenly_or_by_weights_that_sum_to_one():
    plain, weighted = DilatedInception(8, combine="sum").double(), DilatedInception(8, combine="softmax").double()
    weighted.load_state_dict(plain.state_dict(), strict=False)
    x = _series()
    torch.testing.assert_close(4 * weighted(x), plain(x))
    with torch.no_grad():
        weighted.logits[2] = 100.0
    torch.testing.assert_close(weighted(x), weighted.branches[2](x))


def test_the_number_of_parameters_of_an_inception_is_the_one_of_the_formula():
    assert sum(p.numel() for p in DilatedInception(8, num_outputs=12).parameters()) == 8 * 3 * 18 + 12


def test_a_gated_tanh_unit_is_bounded_and_causal_when_padded_on_the_left():
    block, bare = GatedTanh(8, 5).double(), GatedTanh(8, 5, padding="none").double()
    bare.load_state_dict(block.state_dict())
    x = _series()
    assert float(block(10 * x).detach().abs().max()) < 1.0
    torch.testing.assert_close(block(x)[..., 4:], bare(x))


def test_with_a_zero_linear_map_the_multi_scale_unit_is_a_relu():
    block, x = MultiScaleGatedTanh(8, 20).double().eval(), _series()
    assert float(block(x).detach().min()) >= 0.0
    torch.nn.init.zeros_(block.linear.weight)
    torch.nn.init.zeros_(block.linear.bias)
    torch.testing.assert_close(block(x), torch.relu(x))


@pytest.mark.parametrize(("pool", "inputs"), [(None, 3 * 20 - 12), (2, 9 + 8 + 7), (3, 6 + 5 + 4)])
def test_the_linear_map_is_as_wide_as_its_pooled_scales(pool, inputs):
    block = MultiScaleGatedTanh(8, 20, pool=pool).double()
    assert block.linear.in_features == inputs
    scales, x = block.compute_scales(x := _series()), x
    assert sum(scale.shape[-1] for scale in scales) == inputs
    if pool:
        bare = block.units[0](x)[..., : pool * scales[0].shape[-1]]
        torch.testing.assert_close(scales[0], bare.unflatten(2, (-1, pool)).amax(-1))


def test_the_multi_scale_unit_multiplied_by_its_input():
    block, x = MultiScaleGatedTanh(8, 20).double().eval(), _series()
    y = block(x)
    block.times_input = True
    torch.testing.assert_close(block(x), y * x)


def test_local_representation_without_its_branch_is_the_identity():
    block, x = LocalRepresentation(8).double().eval(), _series()
    torch.nn.init.zeros_(block.scale)
    torch.testing.assert_close(block(x), x)


def test_a_local_block_of_a_map_with_one_row_is_the_one_of_the_series():
    flat, tall = LocalRepresentation(8).double().eval(), LocalRepresentation(8, dims=2).double().eval()
    state = {k: v for k, v in flat.state_dict().items() if k not in ("depthwise.weight", "scale")}
    tall.load_state_dict(state, strict=False)
    with torch.no_grad():
        tall.depthwise.weight.zero_()
        tall.depthwise.weight[:, :, 1] = flat.depthwise.weight
    x = _series()
    torch.testing.assert_close(tall(x.unsqueeze(2)).squeeze(2), flat(x))

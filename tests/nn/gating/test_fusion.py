import math

import pytest
import torch

from tsllm.nn.gating.fusion import ConvexFusion, MeanFusion, SelectiveFusion, SigmoidSoftmaxFusion


def _inputs(count, channels=6, length=9):
    return list(torch.randn(count, 2, channels, length, dtype=torch.float64))


def test_a_convex_fusion_lies_between_its_inputs_and_starts_from_any_mean():
    first, second = _inputs(2)
    fusion = ConvexFusion(6).double()
    y = fusion([first, second])
    assert bool((y >= torch.minimum(first, second)).all())
    assert bool((y <= torch.maximum(first, second)).all())
    torch.testing.assert_close(fusion([first, first]), first)
    torch.nn.init.zeros_(fusion.gate.weight)
    torch.nn.init.zeros_(fusion.gate.bias)
    torch.testing.assert_close(fusion([first, second]), (first + second) / 2)


def test_swapping_the_inputs_together_with_the_weights_changes_nothing():
    first, second = _inputs(2)
    fusion = ConvexFusion(6).double()
    y = fusion([first, second])
    with torch.no_grad():  # a -> 1 - a is the gate with swapped halves and the sign turned
        left, right = fusion.gate.weight.clone().chunk(2, dim=1)
        fusion.gate.weight.copy_(-torch.cat([right, left], dim=1))
        fusion.gate.bias.neg_()
    torch.testing.assert_close(fusion([second, first]), y)


def test_the_other_ways_to_combine_are_a_product_and_a_map_of_both_parts():
    first, second = _inputs(2)
    fusion = ConvexFusion(6, combine="multiply").double()
    a, b = fusion.compute_weights([first, second])
    torch.testing.assert_close(fusion([first, second]), a * first * b * second)
    fusion = ConvexFusion(6, combine="concat").double()
    a, b = fusion.compute_weights([first, second])
    want = fusion.join(torch.cat([a * first, b * second], dim=1))
    torch.testing.assert_close(fusion([first, second]), want)


@pytest.mark.parametrize("count", [1, 2, 4, 7])
@pytest.mark.parametrize("options", [{}, {"shared": True}, {"reduction": 2}])
def test_many_weights_sum_to_one_within_the_bound_of_the_sigmoid(count, options):
    fusion = SigmoidSoftmaxFusion(6, count, **options).double()
    for parameter in fusion.parameters():
        torch.nn.init.normal_(parameter, 0.0, 5.0)
    weights = fusion.compute_weights(_inputs(count))
    torch.testing.assert_close(weights.sum(0), torch.ones(2, 6, 1, dtype=torch.float64))
    low, high = 1 / (1 + (count - 1) * math.e), math.e / (math.e + count - 1)
    assert float(weights.detach().min()) >= low - 1e-12
    assert float(weights.detach().max()) <= high + 1e-12
    if count == 4:
        assert (round(low, 3), round(high, 3)) == (0.109, 0.475)


def test_a_low_temperature_and_no_sigmoid_leave_the_bound():
    inputs = _inputs(4)
    for options in ({"temperature": 0.05}, {"use_sigmoid": False}):
        fusion = SigmoidSoftmaxFusion(6, 4, **options).double()
        for parameter in fusion.parameters():
            torch.nn.init.normal_(parameter, 0.0, 5.0)
        assert float(fusion.compute_weights(inputs).detach().max()) > 0.475


@pytest.mark.parametrize("cls", [MeanFusion, SigmoidSoftmaxFusion, SelectiveFusion])
def test_equal_inputs_come_back_and_one_input_alone_is_the_identity(cls):
    (x,) = _inputs(1)
    torch.testing.assert_close(cls(6, 3).double().eval()([x, x, x]), x)
    torch.testing.assert_close(cls(6, 1).double().eval()([x]), x)


def test_reordering_the_inputs_with_their_gates_changes_nothing():
    inputs = _inputs(3)
    fusion = SigmoidSoftmaxFusion(6, 3).double()
    y = fusion(inputs)
    order = [2, 0, 1]
    fusion.gates = torch.nn.ModuleList(fusion.gates[index] for index in order)
    torch.testing.assert_close(fusion([inputs[index] for index in order]), y)


def test_the_wrong_number_of_inputs_is_refused():
    with pytest.raises(ValueError, match="built for 3 inputs, got 2"):
        SigmoidSoftmaxFusion(6, 3).double()(_inputs(2))
    with pytest.raises(ValueError, match="temperature must be positive"):
        SigmoidSoftmaxFusion(6, 3, temperature=0.0)

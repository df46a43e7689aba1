import math

import numpy as np
import pytest
import torch
from torch import nn

from tsllm.training.aids.layer_clip import LayerClip, compute_proximal_norm, group_by_layer


class Stack(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
        self.head = nn.Linear(2, 1)
        self.frozen = nn.Linear(2, 1).requires_grad_(False)


def set_gradients(model, norm, only=None):
    """Gives each layer (or only one) a gradient of this norm."""
    for name, parameters in group_by_layer(model).items():
        size = sum(p.numel() for p in parameters)
        value = (norm if only in (None, name) else 1.0) / math.sqrt(size)
        for p in parameters:
            p.grad = torch.full_like(p, value)


def read_norms(model):
    return {k: math.sqrt(sum(p.grad.square().sum().item() for p in v)) for k, v in group_by_layer(model).items()}


def test_layers_are_numbered_blocks_or_modules_without_frozen_ones():
    assert list(group_by_layer(Stack())) == ["layers.0", "layers.1", "head"]


@pytest.mark.parametrize(
    ("norm", "threshold", "lam", "want"),
    [
        (0.5, 1.0, 2.0, 0.5),
        (3.0, 1.0, 0.0, 3.0),
        (3.0, 1.0, 0.5, 2.0),
        (9.0, 1.0, math.inf, 1.0),
        (5.0, 0.0, 2.0, 1.0),
    ],
)
def test_proximal_norm_worked_by_hand(norm, threshold, lam, want):
    assert compute_proximal_norm(norm, threshold, lam) == pytest.approx(want)


def test_the_map_minimises_its_own_objective():
    norm, threshold, lam = 4.0, 1.5, 0.7
    grid = np.linspace(0, 5, 200001)
    objective = 0.5 * (grid - norm) ** 2 + lam * np.maximum(0, grid - threshold) ** 2
    assert compute_proximal_norm(norm, threshold, lam) == pytest.approx(grid[objective.argmin()], abs=1e-4)


def test_an_outlier_is_bounded_in_its_own_layer_only():
    model, clip = Stack(), LayerClip(quantile=0.9, warmup=5, window=50)
    for _ in range(20):
        set_gradients(model, 1.0)
        clip.clip(model)
    set_gradients(model, 1000.0, only="layers.1")
    clip.clip(model)
    assert read_norms(model) == pytest.approx({"layers.0": 1.0, "layers.1": 1.0, "head": 1.0}, rel=1e-5)
    assert clip.last["layer_clip/loss"] == pytest.approx(999.0**2, rel=1e-4)
    assert clip.last["layer_clip/clipped"] == pytest.approx(1 / 3)


def test_direction_is_kept_and_warmup_only_observes():
    model, clip = Stack(), LayerClip(warmup=3)
    for norm in (1.0, 1.0, 50.0):
        set_gradients(model, norm)
        clip.clip(model)
        assert read_norms(model)["head"] == pytest.approx(norm, rel=1e-5)
    for p in model.parameters():
        if p.requires_grad:
            p.grad = torch.randn_like(p) * 1e3
    before = [p.grad.clone() for p in model.head.parameters()]
    clip.clip(model)
    after = [p.grad for p in model.head.parameters()]
    flat_before, flat_after = torch.cat([g.flatten() for g in before]), torch.cat([g.flatten() for g in after])
    assert torch.cosine_similarity(flat_before, flat_after, dim=0).item() == pytest.approx(1.0, abs=1e-5)
    assert flat_after.norm() < flat_before.norm()


def test_a_gradient_that_is_not_finite_is_dropped_counted_and_forgotten():
    model, clip = Stack(), LayerClip(warmup=1)
    set_gradients(model, 1.0)
    clip.clip(model)
    set_gradients(model, 1.0)
    model.head.weight.grad[0, 0] = math.inf
    clip.clip(model)
    assert clip.last["layer_clip/nonfinite"] == 1.0
    assert read_norms(model)["head"] == 0.0
    assert clip.recent_norms["head"] == pytest.approx([1.0])


def test_its_state_survives_a_checkpoint():
    model, clip = Stack(), LayerClip(lam=2.0, warmup=1)
    set_gradients(model, 1.5)
    clip.clip(model)
    again = LayerClip.from_state(clip.state())
    assert again.options == clip.options
    assert again.recent_norms == clip.recent_norms


@pytest.mark.parametrize("options", [{"lam": -1.0}, {"quantile": 0.0}, {"warmup": 0}, {"warmup": 200}])
def test_bad_options_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        LayerClip(**options)

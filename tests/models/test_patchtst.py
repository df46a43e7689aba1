"""PatchTST: patches, independence of channels, attention maps; masking, its loss, and the swap of the head."""

import logging

import pytest
import torch

from tests.models.properties import (
    CHANNELS,
    LENGTH,
    NARROW,
    build,
    check_channel_independence,
    check_equivariance,
    draw,
    forecast,
)
from tsllm.models import build_model
from tsllm.models.inputs import Inputs
from tsllm.models.patchtst import (
    PatchTST,
    PatchTSTPretraining,
    PatchTSTPretrainingConfig,
    compute_reconstruction_loss,
    mask_patches,
)

SMALL = {**NARROW, "patch_length": 8, "patch_stride": 4}
VARIANTS = [
    {},
    {"residual_attention": True, "norm": "batch", "final_norm": "none", "positions": "learned"},
    {"norm_position": "stream", "embedding_bias": True, "end_padding": False},
    {"individual_head": True, "individual_embedding": True, "affine_norm": True},
    {"attention": {"type": "sequence", "blocks": ["local", "additive"]}} | {"norm_position": "pre"},
]


def build_pretraining(**options):
    torch.manual_seed(0)
    sizes = {"context_length": LENGTH, "num_channels": CHANNELS, **NARROW, "patch_length": 4, "patch_stride": 4}
    return PatchTSTPretraining(PatchTSTPretrainingConfig(**(sizes | options))).eval()


@pytest.mark.parametrize("options", VARIANTS)
def test_channels_are_independent_and_scale_and_shift_carry_over(options):
    model = build("patchtst", **(SMALL | options))
    check_channel_independence(model)
    check_equivariance(model)


@pytest.mark.parametrize(("length", "patch", "stride"), [(32, 8, 4), (33, 8, 4), (35, 8, 5), (20, 20, 3), (50, 7, 7)])
def test_the_number_of_patches_is_the_formulas(length, patch, stride):
    model = build("patchtst", **NARROW, context_length=length, patch_length=patch, patch_stride=stride)
    assert model.config.num_patches == (length - patch) // stride + 2
    patches = model._cut(draw(length=length))
    assert patches.shape == (2, CHANNELS, (length - patch) // stride + 2, patch)
    assert torch.equal(patches[:, :, 0], draw(length=length).transpose(1, 2)[..., :patch])


def test_without_end_padding_the_newest_steps_are_kept_and_the_oldest_remainder_is_not_read():
    model, x = build("patchtst", **SMALL, context_length=35, end_padding=False, instance_norm=False), draw(length=35)
    patches = model._cut(x)
    assert torch.equal(patches[:, :, -1], x.transpose(1, 2)[..., -8:])
    changed = x.clone()
    changed[:, :3] += 10  # 35 - 8 leaves a remainder of 3
    assert torch.equal(forecast(model, x), forecast(model, changed))
    changed[:, 3] += 10
    assert not torch.equal(forecast(model, x), forecast(model, changed))


def test_rows_of_the_attention_maps_sum_to_one():
    model = build("patchtst", **SMALL)
    maps = model.compute_attention_maps(Inputs(draw(), None, None, None, None, None))
    assert [m.shape for m in maps] == [(2 * CHANNELS, 2, 8, 8)] * 2
    for layer in maps:
        torch.testing.assert_close(layer.sum(-1), torch.ones(6, 2, 8))


def test_the_loss_that_reads_maps_leaves_the_forecast_as_it_is():
    plain, exposed = build("patchtst", **SMALL), build("patchtst", **SMALL, loss="patchtst_uniform")
    torch.testing.assert_close(forecast(exposed, draw()), forecast(plain, draw()), atol=1e-5, rtol=1e-5)


# Pre-training


@pytest.mark.parametrize("ratio", [0.1, 0.4, 0.75])
def test_the_count_of_hidden_patches_is_exact_and_the_others_stay(ratio):
    patches, noise = torch.randn(3, 2, 11, 4), torch.rand(3, 2, 11)
    masked, hidden = mask_patches(patches, noise, ratio)
    assert (hidden.sum(2) == 11 - int(11 * (1 - ratio))).all()
    assert (masked[hidden] == 0).all()
    assert torch.equal(masked[~hidden], patches[~hidden])
    assert noise[~hidden].max() < noise[hidden].max()


def test_each_sample_and_channel_hides_its_own_patches():
    _, hidden = mask_patches(torch.randn(4, 3, 20, 2), torch.rand(4, 3, 20), 0.4)
    assert len({tuple(row) for row in hidden.flatten(0, 1).int().tolist()}) == 12


def test_the_loss_is_the_mean_over_hidden_patches_and_ignores_the_others():
    patches, guess = torch.randn(2, 3, 6, 4), torch.randn(2, 3, 6, 4)
    _, hidden = mask_patches(patches, torch.rand(2, 3, 6), 0.4)
    counted = hidden.unsqueeze(-1).expand_as(patches)
    loss = compute_reconstruction_loss(guess, patches, counted)
    per_patch = (guess - patches).square().mean(-1)
    torch.testing.assert_close(loss, per_patch[hidden].mean())
    elsewhere = torch.where(counted, guess, torch.randn_like(guess) * 100)
    assert compute_reconstruction_loss(elsewhere, patches, counted) == loss


def test_what_is_hidden_never_reaches_the_reconstruction():
    model, x, noise = build_pretraining(instance_norm=False), draw(), torch.rand(2, CHANNELS, 8)
    first = model(x, noise=noise).extras
    changed = x.clone()
    steps = first["hidden"].repeat_interleave(4, dim=2).transpose(1, 2)  # [B, L, C]
    changed[steps] += 7
    assert torch.equal(model(changed, noise=noise).extras["reconstruction"], first["reconstruction"])


def test_missing_steps_are_not_counted_and_never_matter():
    model, x, noise = build_pretraining(), draw(), torch.rand(2, CHANNELS, 8)
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(2)) > 0.3
    first = model(x, mask, noise)
    second = model(torch.where(mask, x, 1e6), mask, noise)
    assert torch.equal(first.loss, second.loss)
    counted = first.extras["counted"].flatten(2).transpose(1, 2)  # [B, L, C]
    assert not (counted & ~mask).any()


def test_every_parameter_is_pretrained():
    model = build_pretraining().train()
    model(draw(4)).loss.backward()
    silent = [
        n for n, p in model.named_parameters() if not n.endswith("key.bias") and (p.grad is None or not p.grad.any())
    ]
    assert not silent


def test_overlapping_patches_warn(caplog):
    with caplog.at_level(logging.WARNING):
        build_pretraining(patch_length=8)
    assert "hidden values can be read from overlapping patches" in caplog.text


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.2])
def test_a_ratio_that_hides_nothing_or_all_is_refused(ratio):
    with pytest.raises(ValueError, match=str(ratio)):
        build_pretraining(mask_ratio=ratio)


def test_swapping_the_head_keeps_the_encoder_and_starts_a_fresh_head(tmp_path):
    pretraining = build_pretraining()
    pretraining.save_pretrained(tmp_path)
    model = PatchTST.from_pretrained(tmp_path)
    assert all(torch.equal(p, pretraining.state_dict()[n]) for n, p in model.state_dict().items() if "head" not in n)
    patches = model._cut(draw())
    assert torch.equal(model.backbone(patches)[0], pretraining.backbone(patches)[0])
    longer = PatchTST.from_pretraining(pretraining, prediction_length=50, head="quantile")
    assert longer(draw()).quantiles.shape == (2, 50, CHANNELS, 9)
    with pytest.raises(ValueError, match="has shape"):
        PatchTST.from_pretraining(pretraining, d_model=16)


def test_a_probe_trains_the_head_alone_and_leaves_batch_statistics_untouched():
    model = PatchTST.from_pretraining(build_pretraining(), linear_probe=True, dropout=0.5).train()
    before = {n: b.clone() for n, b in model.backbone.state_dict().items()}
    loss = model(draw(4), future_values=torch.randn(4, model.config.prediction_length, CHANNELS)).loss
    loss.backward()
    assert {n for n, p in model.named_parameters() if p.grad is not None} == {"head.weight", "head.bias"}
    assert all(torch.equal(before[n], b) for n, b in model.backbone.state_dict().items())
    assert not model.backbone.training
    assert model.training


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"positions": "rotary"}, "rotary"),
        ({"final_norm": "rms"}, "rms"),
        ({"norm": "rms"}, "rms"),
        ({"attention": "fully"}, "fully"),
        ({"residual_attention": True, "attention": "additive"}, "residual_attention"),
        ({"num_heads": 3}, "num_heads"),
    ],
)
def test_bad_options_are_named(options, named):
    with pytest.raises((ValueError, TypeError, KeyError), match=named):
        build_model("patchtst", **(SMALL | {"context_length": LENGTH} | options))

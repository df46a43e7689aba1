import pytest
import torch
import torch.nn.functional as F

from tsllm.nn.attention.base import TokenBatchNorm
from tsllm.nn.encoder import build_encoder, build_norm


def _tokens(length=9):
    return torch.randn(3, length, 8, dtype=torch.float64)


def _norm(x, norm):
    return F.layer_norm(x, (8,), norm.weight, norm.bias)


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_a_post_norm_layer_is_the_one_written_out(activation):
    encoder = build_encoder(2, 8, 2, 12, activation=activation, final_norm="layer").double()
    x = want = _tokens()
    for layer in encoder.layers:
        want = _norm(want + layer.mixer(want), layer.norm_mixer)
        hidden = getattr(F, activation)(want @ layer.feed_forward.up.weight.T + layer.feed_forward.up.bias)
        hidden = hidden @ layer.feed_forward.down.weight.T + layer.feed_forward.down.bias
        want = _norm(want + hidden, layer.norm_feed_forward)
    torch.testing.assert_close(encoder(x)[0], _norm(want, encoder.final_norm))


def test_pre_norm_leaves_the_stream_alone_and_stream_norm_replaces_it():
    for position in ("pre", "stream"):
        encoder = build_encoder(1, 8, 2, 12, norm_position=position).double()
        layer, x = encoder.layers[0], _tokens()
        entering = layer.norm_mixer(x)
        stream = (x if position == "pre" else entering) + layer.mixer(entering)
        entering = layer.norm_feed_forward(stream)
        want = (stream if position == "pre" else entering) + layer.feed_forward(entering)
        torch.testing.assert_close(encoder(x)[0], want)


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_asking_for_maps_changes_nothing_but_returns_rows_that_sum_to_one(norm):
    encoder = build_encoder(3, 8, 2, 12, norm=norm).double().eval()
    x = _tokens()
    y, maps = encoder(x, output_attentions=True)
    torch.testing.assert_close(y, encoder(x)[0])
    assert encoder(x)[1] == []
    assert [m.shape for m in maps] == [(3, 2, 9, 9)] * 3
    for layer_map in maps:
        torch.testing.assert_close(layer_map.sum(-1), torch.ones(3, 2, 9, dtype=torch.float64))


def test_residual_attention_adds_the_scores_of_the_layer_below():
    plain = build_encoder(2, 8, 2, 12).double()
    carried = build_encoder(2, 8, 2, 12, residual_attention=True).double()
    carried.load_state_dict(plain.state_dict())
    x = _tokens()
    first, maps, scores = plain.layers[0].attend(x)
    want, want_map, _ = plain.layers[1].attend(first, previous_scores=scores)
    y, got = carried(x, output_attentions=True)
    torch.testing.assert_close(y, want)
    torch.testing.assert_close(got[0], maps)
    torch.testing.assert_close(got[1], want_map)
    assert float((plain(x)[0] - y).detach().abs().max()) > 1e-4


def test_batch_norm_counts_real_tokens_only():
    norm = TokenBatchNorm(8)
    x, mask = torch.randn(3, 9, 8), torch.rand(3, 9) > 0.4
    y = norm(x, mask)
    torch.testing.assert_close(y[mask].mean(0), torch.zeros(8), atol=1e-6, rtol=0)
    assert torch.equal(y[~mask], torch.zeros_like(y[~mask]))
    torch.testing.assert_close(norm.norm.running_mean, 0.1 * x[mask].mean(0))
    torch.testing.assert_close(build_norm("batch", 8)(x), torch.nn.BatchNorm1d(8)(x.transpose(1, 2)).transpose(1, 2))


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_in_training_masked_tokens_reach_no_real_one(norm):
    encoder = build_encoder(2, 8, 2, 12, norm=norm, final_norm=norm).double()
    x, mask = _tokens(), torch.rand(3, 9) > 0.3
    mask[:, 0] = True
    y, _ = encoder(x, mask)
    other = torch.where(mask.unsqueeze(-1), x, 9.0 * torch.randn_like(x))
    torch.testing.assert_close(encoder(other, mask)[0][mask], y[mask])


@pytest.mark.parametrize(
    ("parts", "kind"),
    [
        ({"attention": "additive"}, "AdditiveAttention"),
        ({"attention": "lstm", "gate": "se"}, "SequenceMixer"),
        (
            {"attention": {"type": "agent", "num_agents": 3, "bias": "full"}, "conv": "gated_inception"},
            "SequenceMixer",
        ),
        ({"attention": {"type": "parallel", "blocks": ["window", "relu_linear"], "fuse": "convex"}}, "ParallelMixer"),
    ],
)
def test_any_block_plugs_in_by_configuration_and_every_layer_has_its_own(parts, kind):
    encoder = build_encoder(2, 8, 2, 12, length=9, **parts).double()
    assert [type(layer.mixer).__name__ for layer in encoder.layers] == [kind] * 2
    y, _ = encoder(_tokens())
    y.square().sum().backward()
    grads = [layer.feed_forward.up.weight.grad for layer in encoder.layers]
    assert not torch.equal(grads[0], grads[1])
    with pytest.raises(TypeError, match="need attention 'full'"):
        encoder(_tokens(), output_attentions=True)
    with pytest.raises(TypeError, match="residual_attention needs full attention"):
        build_encoder(2, 8, 2, 12, length=9, residual_attention=True, **parts)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"norm": "group"}, "unknown norm 'group'"),
        ({"norm_position": "middle"}, "unknown norm_position 'middle'"),
        ({"activation": "tan"}, "unknown activation 'tan'"),
        ({"gate": "coordinate"}, "map block"),
    ],
)
def test_what_it_does_not_know_is_refused(options, reason):
    with pytest.raises(ValueError, match=reason):
        build_encoder(1, 8, 2, 12, **options)

"""The losses by value, by their properties, and with missing targets."""

import itertools
import math

import pytest
import torch
from torch.distributions import Normal

from tsllm.models import MODELS, build_model
from tsllm.models.losses import LOSSES
from tsllm.nn import losses
from tsllm.nn.losses import (
    compute_attention_uniformity,
    compute_half_squares,
    compute_huber,
    compute_mae,
    compute_mse,
    compute_nll,
    compute_orthogonality,
    compute_pinball,
    compute_smooth_l1,
    compute_spectral_variation,
    compute_token_correlation,
)

NAN = float("nan")


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def draw_orthogonal(rows, columns, seed=0):
    return torch.linalg.qr(draw(max(rows, columns), max(rows, columns), seed=seed))[0][:rows, :columns]


def as_layer(*weights):
    return [{"query": w} for w in weights]


# Pointwise losses


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (compute_mse, (0.25 + 9) / 2),
        (compute_mae, (0.5 + 3) / 2),
        (compute_smooth_l1, (0.125 + 2.5) / 2),
        (lambda p, t: compute_smooth_l1(p, t, threshold=2.0), (0.25 / 4 + 2) / 2),
        (lambda p, t: compute_huber(p, t, threshold=2.0), (0.125 + 4) / 2),
    ],
)
def test_pointwise_losses_have_the_values_worked_by_hand(loss, expected):
    predictions, target = torch.tensor([[[1.0], [5.0], [7.0]]]), torch.tensor([[[1.5], [2.0], [NAN]]])
    assert loss(predictions, target).item() == pytest.approx(expected, rel=1e-6)


def test_the_pinball_loss_charges_by_the_side_of_the_error():
    quantiles, target = torch.tensor([[[[1.0, 3.0]]]]), torch.tensor([[[2.0]]])
    assert compute_pinball(quantiles, target, [0.1, 0.9]).item() == pytest.approx((0.1 * 1 + 0.1 * 1) / 2)
    quantiles = torch.tensor([[[[3.0, 1.0]]]])
    assert compute_pinball(quantiles, target, [0.1, 0.9]).item() == pytest.approx((0.9 * 1 + 0.9 * 1) / 2)


def test_the_median_minimises_the_pinball_loss_at_one_half():
    target = draw(200, 1, 1)
    grid = torch.linspace(-1, 1, 401)
    costs = [compute_pinball(q.expand(200, 1, 1, 1), target, [0.5]).item() for q in grid]
    assert grid[costs.index(min(costs))].item() == pytest.approx(target.median().item(), abs=0.02)


def test_the_likelihood_is_that_of_the_distribution():
    target = torch.tensor([[[0.5], [NAN]]])
    loss = compute_nll(Normal(torch.zeros(1, 2, 1), torch.ones(1, 2, 1)), target)
    assert loss.item() == pytest.approx(0.5 * math.log(2 * math.pi) + 0.125)


@pytest.mark.parametrize("loss", [compute_mse, compute_mae, compute_smooth_l1, compute_huber])
def test_missing_targets_neither_count_nor_poison_the_gradient(loss):
    predictions, target = draw(2, 4, 3).requires_grad_(), draw(2, 4, 3, seed=1)
    target[0, 1:] = NAN
    observed = ~torch.isnan(target)
    value = loss(predictions, target)
    torch.testing.assert_close(value, loss(predictions[observed], target[observed]))
    (gradient,) = torch.autograd.grad(value, predictions)
    assert torch.isfinite(gradient).all()
    assert (gradient[~observed] == 0).all()


def test_a_target_of_which_nothing_is_known_costs_nothing():
    predictions = draw(2, 3, 1).requires_grad_()
    loss = compute_mse(predictions, torch.full((2, 3, 1), NAN))
    loss.backward()
    assert loss.item() == 0
    assert (predictions.grad == 0).all()


# Orthogonal weights (TimeXer)


@pytest.mark.parametrize(("rows", "columns"), [(6, 6), (8, 5), (5, 8)])
def test_orthogonal_weights_cost_nothing(rows, columns):
    assert compute_orthogonality(as_layer(draw_orthogonal(rows, columns)), ["query"]).item() < 1e-9


def test_twice_the_identity_costs_nine_a_column_in_every_layer():
    weight = 2 * torch.eye(7)
    assert compute_orthogonality(as_layer(weight, weight), ["query"]).item() == pytest.approx(2 * 9 * 7)


def test_a_rotation_in_front_changes_nothing_and_the_gradient_is_the_formulas():
    weight, rotation = draw(6, 6).requires_grad_(), draw_orthogonal(6, 6, seed=3)
    penalty = compute_orthogonality(as_layer(weight), ["query"])
    torch.testing.assert_close(compute_orthogonality(as_layer(rotation @ weight), ["query"]), penalty)
    (gradient,) = torch.autograd.grad(penalty, weight)
    torch.testing.assert_close(gradient, 4 * weight @ (weight.T @ weight - torch.eye(6)))


def test_only_the_named_projections_count_and_unknown_ones_are_errors():
    layer = {"query": 2 * torch.eye(3), "key": draw(3, 3)}
    assert compute_orthogonality([layer], ["query"]).item() == pytest.approx(27)
    with pytest.raises(ValueError, match="value"):
        compute_orthogonality([layer], ["query", "value"])


# Change of the spectrum (TimesNet)


def test_waves_that_divide_the_window_and_a_level_cost_nothing():
    steps = torch.arange(40.0)
    waves = 3.0 + torch.sin(2 * math.pi * steps / 4) + 2 * torch.cos(2 * math.pi * steps / 8 + 1)
    assert compute_spectral_variation(waves.view(1, 40, 1), window=8).item() < 1e-9


def test_the_change_ignores_the_level_and_grows_with_the_square():
    forecast = draw(2, 30, 3)
    change = compute_spectral_variation(forecast, window=8)
    torch.testing.assert_close(compute_spectral_variation(forecast + 5, window=8), change, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(compute_spectral_variation(3 * forecast, window=8), 9 * change, rtol=1e-4, atol=1e-6)


def test_the_change_equals_a_slow_loop():
    forecast, window, eps = draw(2, 12, 2).double(), 5, 1e-6
    total = 0.0
    for b in range(2):
        frames = []
        for s in range(12 - window + 1):
            frame = []
            for c in range(2):
                for k in range(1, window // 2 + 1):
                    terms = [
                        forecast[b, s + n, c] * torch.tensor(-2j * math.pi * k * n / window).exp() for n in range(5)
                    ]
                    value = sum(terms)
                    frame.append(math.sqrt(value.real**2 + value.imag**2 + eps**2) / window)
            frames.append(frame)
        changes = [sum((x - y) ** 2 for x, y in zip(f, g, strict=True)) for f, g in itertools.pairwise(frames)]
        total += sum(changes) / len(changes) / 2
    assert compute_spectral_variation(forecast, window, eps).item() == pytest.approx(total, rel=1e-4)


def test_a_flat_forecast_has_a_finite_gradient_and_a_short_one_costs_nothing():
    flat = torch.zeros(1, 20, 1, requires_grad=True)
    compute_spectral_variation(flat, window=8).backward()
    assert torch.isfinite(flat.grad).all()
    assert compute_spectral_variation(draw(1, 8, 1), window=8).item() == 0
    with pytest.raises(ValueError, match="window is 1"):
        compute_spectral_variation(draw(1, 8, 1), window=1)


def test_given_features_replace_the_spectrum():
    features = torch.tensor([[[0.0, 0.0], [1.0, 2.0], [1.0, 2.0]]])  # [1, 3, 2]: changes of 5 and 0
    assert compute_spectral_variation(draw(1, 3, 1), features=features).item() == pytest.approx(2.5)


# Attention close to uniform (PatchTST)


def draw_maps(seed=0):
    return [draw(3, 2, 5, 5, seed=seed + i).mul(2).softmax(-1) for i in range(2)]


@pytest.mark.parametrize("reduce", ["marginal", "row"])
def test_uniform_attention_costs_nothing_and_one_patch_costs_log_n(reduce):
    uniform = [torch.full((2, 2, 6, 6), 1 / 6)]
    single = [torch.eye(6)[0].expand(2, 2, 6, 6)]
    assert compute_attention_uniformity(uniform, reduce).item() == pytest.approx(0, abs=1e-6)
    assert compute_attention_uniformity(single, reduce).item() == pytest.approx(math.log(6), rel=1e-5)


def test_the_marginal_never_exceeds_the_rows():
    for seed in range(5):
        maps = draw_maps(10 * seed)
        low, high = compute_attention_uniformity(maps), compute_attention_uniformity(maps, "row")
        assert 0 <= low <= high <= math.log(5)


@pytest.mark.parametrize("reduce", ["marginal", "row"])
def test_the_order_of_patches_changes_nothing(reduce):
    maps, order = draw_maps(), torch.tensor([3, 1, 4, 0, 2])
    permuted = [m[:, :, order][..., order] for m in maps]
    torch.testing.assert_close(
        compute_attention_uniformity(permuted, reduce), compute_attention_uniformity(maps, reduce)
    )


# Tokens close to orthonormal (iTransformer)


def test_orthonormal_tokens_cost_nothing_and_two_equal_ones_cost_two():
    assert compute_token_correlation(draw_orthogonal(4, 9).unsqueeze(0)).item() < 1e-9
    twins = torch.nn.functional.normalize(draw(1, 1, 9), dim=-1).expand(1, 2, 9)
    assert compute_token_correlation(twins).item() == pytest.approx(2, rel=1e-5)


def test_normalised_tokens_lose_their_length_and_stay_within_bounds():
    tokens = draw(3, 5, 7)
    value = compute_token_correlation(tokens, normalize=True)
    scaled = tokens * torch.tensor([1.0, 10.0, 0.1, 3.0, 7.0]).view(1, 5, 1)
    torch.testing.assert_close(compute_token_correlation(scaled, normalize=True), value)
    assert 0 <= value <= 5 * 4
    same = draw(1, 1, 7).expand(1, 5, 7)
    assert compute_token_correlation(same, normalize=True).item() == pytest.approx(20, rel=1e-5)


@pytest.mark.parametrize("ord", ["fro", "spectral"])
def test_the_order_of_channels_changes_nothing(ord):
    tokens = draw(2, 5, 7)
    shuffled = tokens[:, [4, 2, 0, 1, 3]]
    torch.testing.assert_close(
        compute_token_correlation(shuffled, ord=ord), compute_token_correlation(tokens, ord=ord), rtol=1e-4, atol=1e-5
    )


def test_the_spectral_norm_is_the_largest_singular_value_squared():
    tokens = draw(1, 4, 6)
    gap = tokens[0] @ tokens[0].T - torch.eye(4)
    expected = torch.linalg.svdvals(gap)[0].square()
    torch.testing.assert_close(compute_token_correlation(tokens, ord="spectral"), expected, rtol=1e-4, atol=1e-5)


# Trend branch (DLinear)


def test_the_literal_sum_is_h_times_c_times_the_mean_which_is_half_the_mse():
    predictions, target = draw(3, 6, 2), draw(3, 6, 2, seed=1)
    literal = sum(((predictions[i] - target[i]) ** 2).sum() for i in range(3)) / (2 * 3)
    torch.testing.assert_close(compute_half_squares(predictions, target), literal)
    torch.testing.assert_close(compute_half_squares(predictions, target, "mean"), compute_mse(predictions, target) / 2)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: compute_half_squares(draw(1, 1, 1), draw(1, 1, 1), "sum"), "sum"),
        (lambda: compute_token_correlation(draw(1, 2, 3), ord="nuc"), "nuc"),
        (lambda: compute_attention_uniformity(draw_maps(), "column"), "column"),
    ],
)
def test_unknown_options_are_errors_that_name_them(call, named):
    with pytest.raises(ValueError, match=named):
        call()


# The named losses in their models

SMALL = {"context_length": 32, "prediction_length": 20, "num_channels": 3}
NARROW = {"d_model": 8, "num_heads": 2, "num_layers": 1, "d_ff": 8}
OWN = {
    "timexer_orthogonal": ("timexer", {**NARROW, "patch_length": 8}),
    "timesnet_spectral": ("timesnet", {"d_model": 8, "d_ff": 8, "num_layers": 1, "top_k": 2, "num_kernels": 2}),
    "patchtst_uniform": ("patchtst", {**NARROW, "patch_length": 8, "patch_stride": 4}),
    "itransformer_orthogonal": ("itransformer", NARROW),
    "dlinear_trend": ("dlinear", {"moving_average": 5}),
}
# The option that turns each loss into a plain one, the plain one and the factor between them.
PLAIN = {
    "timexer_orthogonal": ({"lam": 0.0}, compute_mse, 1.0),
    "timesnet_spectral": ({"beta": 0.0}, compute_mse, 3.0),
    "patchtst_uniform": ({"gamma": 0.0}, compute_mae, 1.0),
    "itransformer_orthogonal": ({"mu": 0.0}, compute_smooth_l1, 1.0),
    "dlinear_trend": ({"lam": 0.0}, compute_mse, 0.5),
}
# Parameters that the second term alone must reach.
REACHED = {
    "timexer_orthogonal": "cross_attention.query.weight",
    "timesnet_spectral": "projection.weight",
    "patchtst_uniform": "mixer.query.weight",
    "itransformer_orthogonal": "embedding.weight",
    "dlinear_trend": "trend.weight",
}


def build(name, **options):
    model, sizes = OWN[name]
    torch.manual_seed(0)
    return build_model(model, **SMALL, **sizes, loss=name, **options).eval()


def batch():
    return {"past_values": draw(4, 32, 3), "future_values": draw(4, 20, 3, seed=1)}


@pytest.mark.parametrize("name", OWN)
def test_without_its_second_term_a_named_loss_is_a_plain_one(name):
    options, plain, factor = PLAIN[name]
    output = build(name, loss_kwargs=options)(**batch())
    torch.testing.assert_close(output.loss, factor * plain(output.predictions, batch()["future_values"]))


@pytest.mark.parametrize("name", OWN)
def test_the_second_term_adds_to_the_loss_and_reaches_its_weights(name):
    weighted = next(iter(PLAIN[name][0]))
    with_term, without = (build(name, loss_kwargs={weighted: w}) for w in (1.0, 0.0))
    first, second = with_term(**batch()).loss, without(**batch()).loss
    assert first > second + 1e-4
    first.backward()
    second.backward()
    other = dict(without.named_parameters())
    moved = [
        n for n, p in with_term.named_parameters() if p.grad is not None and not torch.allclose(p.grad, other[n].grad)
    ]
    assert any(n.endswith(REACHED[name]) for n in moved)
    if name == "dlinear_trend":
        assert not any(n.startswith("season") for n in moved)


def test_a_forecast_that_is_all_trend_pays_the_error_twice():
    model = build("dlinear_trend", loss_kwargs={"lam": 0.3})
    torch.nn.init.zeros_(model.season.weight)
    torch.nn.init.zeros_(model.season.bias)
    output = model(**batch())
    torch.testing.assert_close(output.loss, 1.3 * compute_mse(output.predictions, batch()["future_values"]) / 2)


@pytest.mark.parametrize("name", OWN)
def test_a_named_loss_refuses_other_models_heads_and_options(name):
    model, sizes = OWN[name]
    other = "dlinear" if model != "dlinear" else "recurrent"
    with pytest.raises(ValueError, match=name):
        build_model(other, **SMALL, loss=name)
    with pytest.raises(ValueError, match=name):
        build_model(model, **SMALL, **sizes, loss=name, head="quantile")
    with pytest.raises(ValueError, match="weight_of_term"):
        build(name, loss_kwargs={"weight_of_term": 1.0})


def test_attention_maps_cost_nothing_where_no_loss_reads_them():
    plain = build_model("patchtst", **SMALL, **OWN["patchtst_uniform"][1])
    assert plain.eval()(**batch()).extras == {}
    with pytest.raises(ValueError, match="additive"):
        build("patchtst_uniform", attention="additive")


def test_every_named_loss_tells_its_options():
    assert LOSSES.get("huber").options == ["threshold"]
    own = MODELS.get("timesnet").config_class.own_losses
    assert own["timesnet_spectral"].options == ["alpha", "beta", "window", "eps"]
    assert LOSSES.get("mse").options == []
    assert losses.PROJECTIONS == ("query", "key", "value", "out")

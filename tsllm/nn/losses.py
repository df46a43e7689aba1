"""Training losses as pure functions; a NaN in the target marks a missing value, which no loss counts."""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def compute_masked_mean(values: Tensor, target: Tensor) -> Tensor:
    """Averages `values` over the entries whose target is not NaN.

    Args:
        values: [B, H, C] or [B, H, C, Q], one number an entry; may be NaN where the target is.
        target: [B, H, C].

    Returns:
        Scalar; 0 (still attached to the graph) if every target is missing.
    """
    observed = ~torch.isnan(target)
    while observed.dim() < values.dim():
        observed = observed.unsqueeze(-1)
    observed = observed.expand_as(values)
    return torch.where(observed, values, 0.0).sum() / observed.sum().clamp_min(1)


def _pointwise(loss: Callable[[Tensor, Tensor], Tensor], predictions: Tensor, target: Tensor) -> Tensor:
    # Missing targets are replaced before the loss, not after it: 0 * NaN would poison the gradient.
    safe = torch.where(torch.isnan(target), predictions.detach(), target).float()
    return compute_masked_mean(loss(predictions.float(), safe), target)


def compute_mse(predictions: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over observed entries of [B, H, C]."""
    return _pointwise(lambda p, t: (p - t).square(), predictions, target)


def compute_mae(predictions: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error over observed entries of [B, H, C]."""
    return _pointwise(lambda p, t: (p - t).abs(), predictions, target)


def compute_smooth_l1(predictions: Tensor, target: Tensor, threshold: float = 1.0) -> Tensor:
    """Smooth L1: quadratic below `threshold` (then divided by it), linear above."""
    return _pointwise(lambda p, t: F.smooth_l1_loss(p, t, reduction="none", beta=threshold), predictions, target)


def compute_huber(predictions: Tensor, target: Tensor, threshold: float = 1.0) -> Tensor:
    """Huber loss (Huber 1964): quadratic below `threshold`, linear above."""
    return _pointwise(lambda p, t: F.huber_loss(p, t, reduction="none", delta=threshold), predictions, target)


def compute_smape(predictions: Tensor, target: Tensor) -> Tensor:
    """Symmetric percentage error, 0 to 200 (Makridakis 1993), over the observed entries of [B, H, C]; 0 / 0 is 0."""

    def error(p: Tensor, t: Tensor) -> Tensor:
        total = p.abs() + t.abs()
        known = total > 0
        return torch.where(known, 200 * (p - t).abs() / torch.where(known, total, 1.0), 0.0)

    return _pointwise(error, predictions, target)


def compute_pinball(quantiles: Tensor, target: Tensor, levels: Sequence[float]) -> Tensor:
    """Quantile loss (Koenker and Bassett 1978), mean over entries and levels.

    Args:
        quantiles: [B, H, C, Q].
        target: [B, H, C].
        levels: The Q levels, each in (0, 1).
    """
    tau = torch.as_tensor(levels, dtype=torch.float32, device=quantiles.device)
    wide = target.unsqueeze(-1)
    safe = torch.where(torch.isnan(wide), quantiles.detach(), wide).float()
    error = safe - quantiles.float()
    return compute_masked_mean(torch.maximum(tau * error, (tau - 1) * error), target)


def compute_nll(distribution: torch.distributions.Distribution, target: Tensor) -> Tensor:
    """Mean negative log-likelihood of the observed entries of [B, H, C], in nats."""
    safe = torch.where(torch.isnan(target), distribution.mean.detach().nan_to_num(), target).float()
    return compute_masked_mean(-distribution.log_prob(safe), target)


PROJECTIONS = ("query", "key", "value", "out")


def compute_orthogonality(layers: Sequence[Mapping[str, Tensor]], targets: Sequence[str] = PROJECTIONS) -> Tensor:
    """Sum over layers and projections of ||W'W - I||_F^2, 0 for orthogonal weights (project notes, TimeXer).

    A weight with fewer rows than columns cannot have orthonormal columns; its rows are compared, ||WW' - I||_F^2.

    Args:
        layers: For each layer, its weights [out, in] by the name of the projection.
        targets: The projections that count.

    Raises:
        ValueError: If a layer lacks one of `targets`, or none is named.
    """
    missing = [name for name in targets if any(name not in layer for layer in layers)]
    if missing or not targets or not layers:
        found = [list(layer) for layer in layers]
        raise ValueError(f"targets {list(targets)} do not fit the layers' projections {found}")
    weights = [layer[name].float() for layer in layers for name in targets]
    return torch.stack([_compute_gram_gap(w if w.shape[0] >= w.shape[1] else w.T) for w in weights]).sum()


def _compute_gram_gap(weight: Tensor) -> Tensor:
    """Computes ||W'W - I||_F^2 of a matrix [rows, columns]."""
    gram = weight.T @ weight
    return (gram - torch.eye(len(gram), dtype=gram.dtype, device=gram.device)).square().sum()


def compute_spectral_variation(
    predictions: Tensor, window: int | None = None, eps: float = 1e-6, features: Tensor | None = None
) -> Tensor:
    """Mean over time of ||F_t - F_(t-1)||_F^2, how fast the spectrum of a forecast changes (project notes, TimesNet).

    F_s[k, c] = sqrt(Re^2 + Im^2 + eps^2) / window of the window that starts at step s, for the frequencies
    k = 1 .. window // 2. Amplitudes, since a steady wave turns its phase and must cost nothing.

    Args:
        predictions: [B, H, C].
        window: Steps of the sliding window; None = min(16, H).
        eps: Keeps the gradient finite where an amplitude is 0; units of the predictions.
        features: [B, T, ...], used as F instead.

    Returns:
        Scalar, averaged over batch and time; 0 (still attached to the graph) if H <= window.

    Raises:
        ValueError: If `window` is below 2.
    """
    if features is None:
        window = min(16, predictions.shape[1]) if window is None else window
        if window < 2:
            raise ValueError(f"window is {window} steps; a spectrum needs at least 2")
        if predictions.shape[1] <= window:
            return predictions.float().sum() * 0.0
        frames = predictions.float().unfold(1, window, 1)  # [B, H - window + 1, C, window]
        spectrum = torch.fft.rfft(frames)[..., 1:]  # [B, H - window + 1, C, window // 2]
        features = (spectrum.real.square() + spectrum.imag.square() + eps**2).sqrt() / window
    change = features.float().diff(dim=1).square()  # [B, T - 1, ...]
    return change.flatten(2).sum(2).mean() if change.dim() > 2 else change.mean()


def compute_attention_uniformity(maps: Sequence[Tensor], reduce: str = "marginal") -> Tensor:
    """KL divergence of attention from the uniform distribution over patches, in nats (project notes, PatchTST).

    Args:
        maps: One softmax map [R, h, P, P] a layer; rows sum to 1.
        reduce: "marginal" averages the maps over layers, heads and queries first: no patch may be ignored overall.
            "row" averages the divergence of every row, which also forbids sharp attention.

    Returns:
        Scalar in [0, log P].

    Raises:
        ValueError: If `reduce` is neither.
    """
    if reduce not in ("marginal", "row"):
        raise ValueError(f"unknown reduce {reduce!r}; expected 'marginal' or 'row'")
    stacked = torch.stack([layer.float() for layer in maps])  # [layers, R, h, P, P]
    share = stacked.mean((0, 2, 3)) if reduce == "marginal" else stacked  # [..., P]
    return (share * (share.shape[-1] * share.clamp_min(1e-12)).log()).sum(-1).mean()


def compute_token_correlation(tokens: Tensor, normalize: bool = False, ord: str = "fro") -> Tensor:
    """Mean over samples of ||E'E - I||^2 with the tokens as columns of E (project notes, iTransformer).

    Args:
        tokens: [B, C, D], one a channel.
        normalize: Scale every token to length 1 first; then only angles count, and the value lies in [0, C (C - 1)].
        ord: "fro" (sum of squares) or "spectral" (squared largest singular value).

    Raises:
        ValueError: If `ord` is neither.
    """
    if ord not in ("fro", "spectral"):
        raise ValueError(f"unknown ord {ord!r}; expected 'fro' or 'spectral'")
    tokens = F.normalize(tokens.float(), dim=-1) if normalize else tokens.float()
    gram = tokens @ tokens.transpose(1, 2)  # [B, C, C]
    gap = gram - torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    if ord == "fro":
        return gap.square().sum((1, 2)).mean()
    return torch.linalg.matrix_norm(gap, ord=2).square().mean()


def compute_half_squares(predictions: Tensor, target: Tensor, reduction: str = "literal") -> Tensor:
    """Sum of squared errors over horizon and channels, halved and averaged over the batch (project notes, DLinear).

    Args:
        predictions: [B, H, C].
        target: [B, H, C]; a missing entry counts as the average observed one.
        reduction: "literal" as above; "mean" divides by H * C besides, so that learning rates carry over from MSE.

    Raises:
        ValueError: If `reduction` is neither.
    """
    if reduction not in ("literal", "mean"):
        raise ValueError(f"unknown reduction {reduction!r}; expected 'literal' or 'mean'")
    count = target.shape[1] * target.shape[2] if reduction == "literal" else 1
    return compute_mse(predictions, target) * (count / 2)

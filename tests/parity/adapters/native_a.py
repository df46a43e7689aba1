"""DLinear, PatchTST, iTransformer, UNetTSF, the norm, the decomposition and the losses of the notes."""

import torch

from tests.parity.golden import Case
from tsllm.hub.convert import from_reference
from tsllm.hub.convert_common import LIBRARY
from tsllm.hub.convert_tsl_a import PATCHTST_REPO, UNET_REPO, read_arguments
from tsllm.models.inputs import Inputs
from tsllm.models.patchtst import PatchTSTPretraining, compute_reconstruction_loss, mask_patches
from tsllm.nn import losses
from tsllm.nn.decomposition import SeriesDecomposition
from tsllm.nn.normalization import InstanceNorm
from tsllm.nn.patching import patchify


def _inputs(past_values, past_time_features=None):
    return Inputs(past_values, None, past_time_features, None, None, None)


@torch.no_grad()
def run_dlinear(case: Case):
    return {"pred": from_reference(case.meta, case.state)(case.inputs["x_enc"]).predictions}


@torch.no_grad()
def run_patchtst(case: Case):
    model = from_reference(case.meta, case.state)
    x = case.inputs["x_enc"]
    tokens = model.backbone.embed(model._cut(model.norm(x)[0]))
    maps = model.compute_attention_maps(_inputs(x))
    return {"pred": model(x).predictions, "tokens": tokens} | {f"attn.{i}": m for i, m in enumerate(maps)}


@torch.no_grad()
def run_itransformer(case: Case):
    model = from_reference(case.meta, case.state)
    x, marks = case.inputs["x_enc"], case.inputs.get("x_mark_enc")
    tokens = model.embed(model.norm(x)[0], marks)
    maps = model.compute_attention_maps(_inputs(x, marks))
    pred = model(x, past_time_features=marks).predictions
    return {"pred": pred, "tokens": tokens} | {f"attn.{i}": m for i, m in enumerate(maps)}


@torch.no_grad()
def run_unet_tsf(case: Case):
    model = from_reference(case.meta, case.state)
    seen = {}
    for name, maps in (("down", list(model.down)), ("up", list(model.up)[::-1])):
        for i, linear in enumerate(maps):
            linear.register_forward_hook(lambda _m, _i, out, key=f"{name}.{i}": seen.update({key: out}))
    pred = model(case.inputs["x"]).predictions
    return seen | {"pred": pred}


def _cut(x, options):
    """The reference's order of axes: [B, P, C, patch_length]."""
    length, stride = options["patch_len"], options["stride"]
    rest = (x.shape[1] - length) % stride
    return patchify(x.transpose(1, 2)[..., rest:], length, stride).transpose(1, 2)


def _mask(patches, noise, ratio):
    masked, hidden = mask_patches(patches.transpose(1, 2), noise.transpose(1, 2), ratio)
    return masked.transpose(1, 2), hidden.transpose(1, 2)


def run_patch_and_mask(case: Case):
    options = read_arguments(case.meta)
    patches = _cut(case.inputs["x"], options)
    outputs = {"patches": patches}
    if "noise" in case.inputs:
        masked, hidden = _mask(patches, case.inputs["noise"], options["mask_ratio"])
        outputs |= {"masked": masked, "mask": hidden.float()}
    return outputs


@torch.no_grad()
def run_patchtst_ssl(case: Case):
    outputs = run_patch_and_mask(case)
    model = from_reference(case.meta, case.state)
    if not isinstance(model, PatchTSTPretraining):
        return outputs | {"pred": model(case.inputs["x"]).predictions}
    patches = outputs.get("masked", outputs["patches"]).transpose(1, 2)  # [B, C, P, patch_length]
    reconstruction = model.reconstruct(patches)
    outputs["pred"] = reconstruction.transpose(1, 2)
    if "mask" in outputs:
        counted = outputs["mask"].transpose(1, 2).bool().unsqueeze(-1).expand_as(patches)
        loss = compute_reconstruction_loss(reconstruction, outputs["patches"].transpose(1, 2), counted)
        outputs["loss"] = loss.reshape(1)
    return outputs


@torch.no_grad()
def run_normalize(case: Case):
    options = {"affine": False, "subtract_last": False, "non_norm": False, "eps": 1e-5} | read_arguments(case.meta)
    x = case.inputs["x"]
    if options["non_norm"]:
        return {"norm": x, "denorm_of_scaled": 2 * x + 0.5}
    norm = InstanceNorm(options["num_features"], options["affine"], options["subtract_last"], options["eps"])
    norm.load_state_dict({name.removeprefix("affine_"): tensor for name, tensor in case.state.items()})
    normalised, loc, scale = norm(x)
    return {"norm": normalised, "denorm_of_scaled": (2 * normalised + 0.5) * scale + loc}


def run_series_decomposition(case: Case):
    season, trend = SeriesDecomposition(read_arguments(case.meta)["kernel_size"])(case.inputs["x"])
    return {"seasonal": season, "trend": trend}


def run_series_decomposition_multi(case: Case):
    """The mean of the decompositions by several kernels."""
    parts = [SeriesDecomposition(kernel)(case.inputs["x"]) for kernel in read_arguments(case.meta)["kernel_size"]]
    season, trend = (torch.stack(side).mean(0) for side in zip(*parts, strict=True))
    return {"seasonal": season, "trend": trend}


def _run_loss(case: Case, compute):
    """Runs `compute(y, yhat, inputs, options)`, which gives named terms and the loss, and the loss's gradient."""
    double = {name: tensor.double() for name, tensor in case.inputs.items()}
    forecast = double["yhat"].requires_grad_()
    terms = compute(double["y"], forecast, double, read_arguments(case.meta))
    (gradient,) = torch.autograd.grad(terms["loss"], forecast)
    return {name: value.detach().reshape(1) for name, value in terms.items()} | {"grad_yhat": gradient}


def run_timexer_loss(case: Case):
    def compute(y, forecast, inputs, options):
        layers = {}
        for name, weight in inputs.items():
            if name.startswith("W."):
                _, layer, projection = name.split(".")
                layers.setdefault(int(layer), {})[projection] = weight
        weights = [layers[i] for i in sorted(layers)]
        targets = options.get("targets") or [p for p in losses.PROJECTIONS if p in weights[0]]
        main, penalty = losses.compute_mse(forecast, y), losses.compute_orthogonality(weights, targets)
        return {"main": main, "penalty": penalty, "loss": main + options.get("lam", 1e-4) * penalty}

    return _run_loss(case, compute)


def run_timesnet_loss(case: Case):
    def compute(y, forecast, inputs, options):
        window, eps = options.get("window"), options.get("eps", 1e-6)
        main = y.shape[-1] * losses.compute_mse(forecast, y)
        spectral = losses.compute_spectral_variation(forecast, window, eps, inputs.get("features"))
        loss = options.get("alpha", 1.0) * main + options.get("beta", 0.5) * spectral
        return {"main": main, "spectral": spectral, "loss": loss}

    return _run_loss(case, compute)


def run_patchtst_loss(case: Case):
    def compute(y, forecast, inputs, options):
        names = sorted((n for n in inputs if n.startswith("A.")), key=lambda n: int(n.split(".")[1]))
        main = losses.compute_mae(forecast, y)
        kl = losses.compute_attention_uniformity([inputs[n] for n in names], options.get("reduce", "marginal"))
        return {"main": main, "kl": kl, "loss": main + options.get("gamma", 0.01) * kl}

    return _run_loss(case, compute)


def run_itransformer_loss(case: Case):
    def compute(y, forecast, inputs, options):
        main = losses.compute_smooth_l1(forecast, y, options.get("threshold", 1.0))
        penalty = losses.compute_token_correlation(
            inputs["tokens"], options.get("normalize", False), options.get("ord", "fro")
        )
        return {"main": main, "penalty": penalty, "loss": main + options.get("mu", 1e-6) * penalty}

    return _run_loss(case, compute)


def run_dlinear_loss(case: Case):
    def compute(y, forecast, inputs, options):
        reduction = options.get("reduction", "literal")
        first = losses.compute_half_squares(forecast, y, reduction)
        second = losses.compute_half_squares(inputs["trend"], y, reduction)
        loss = first + options.get("lam", 0.1) * second
        return {"forecast_term": first, "trend_term": second, "loss": loss}

    return _run_loss(case, compute)


ADAPTERS = {
    (LIBRARY, "models.DLinear.Model"): run_dlinear,
    (LIBRARY, "models.PatchTST.Model"): run_patchtst,
    (LIBRARY, "models.iTransformer.Model"): run_itransformer,
    (LIBRARY, "layers.StandardNorm.Normalize"): run_normalize,
    (LIBRARY, "layers.Autoformer_EncDec.series_decomp"): run_series_decomposition,
    (LIBRARY, "layers.Autoformer_EncDec.series_decomp_multi"): run_series_decomposition_multi,
    ("KimMeen/Time-LLM", "layers.StandardNorm.Normalize"): run_normalize,
    (UNET_REPO, "models.Time_Unet.Model"): run_unet_tsf,
    (PATCHTST_REPO, "src.models.patchTST.PatchTST"): run_patchtst_ssl,
    (PATCHTST_REPO, "src.callback.patch_mask"): run_patch_and_mask,
    ("none", "timexer"): run_timexer_loss,
    ("none", "timesnet"): run_timesnet_loss,
    ("none", "patchtst"): run_patchtst_loss,
    ("none", "itransformer"): run_itransformer_loss,
    ("none", "dlinear"): run_dlinear_loss,
}

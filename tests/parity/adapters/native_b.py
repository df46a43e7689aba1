"""TimesNet, TimeXer, TimeMixer and Pyraformer, whole models and the blocks that are only theirs."""

import torch

from tests.parity.golden import Case
from tsllm.hub.convert_tsl_b import LIBRARY, convert_timemixer, convert_timexer
from tsllm.models.base import Inputs
from tsllm.nn.decomposition import FourierDecomposition


def _batch(case: Case, target_last: bool = False) -> dict[str, torch.Tensor | None]:
    """Our names for the inputs of a library model; with `target_last` all series but the last are covariates."""
    x = case.inputs["x_enc"]
    marks = case.inputs.get("x_mark_enc")
    batch = {"past_values": x[..., -1:] if target_last else x, "past_time_features": marks}
    if target_last and x.shape[-1] > 1:
        batch["past_covariates"] = x[..., :-1]
    return batch


@torch.no_grad()
def run_timexer(case: Case):
    model = convert_timexer(case.meta, case.state)
    batch = _batch(case, target_last=not model.config.channels_as_exogenous)
    outputs = {"pred": model(**batch).predictions}
    names = ("past_observed_mask", "future_time_features", "past_covariates", "future_covariates")
    maps = model.compute_attention_maps(Inputs(**(dict.fromkeys(names) | batch)))
    for layer, (own, cross) in enumerate(maps):
        outputs |= {f"attn.{2 * layer}": own, f"attn.{2 * layer + 1}": cross}
    return outputs


@torch.no_grad()
def run_timemixer(case: Case):
    return {"pred": convert_timemixer(case.meta, case.state)(**_batch(case)).predictions}


def run_fourier_decomposition(case: Case):
    options = dict(case.meta["constructor"].get("kwargs", {}))
    season, trend = FourierDecomposition(options.get("top_k", 5), reference_quirks=True)(case.inputs["x"])
    return {"seasonal": season, "season": season, "trend": trend}


ADAPTERS = {
    (LIBRARY, "models.TimeXer.Model"): run_timexer,
    (LIBRARY, "models.TimeMixer.Model"): run_timemixer,
    (LIBRARY, "models.TimeMixer.DFT_series_decomp"): run_fourier_decomposition,
}

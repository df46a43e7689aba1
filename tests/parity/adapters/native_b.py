"""TimesNet, TimeXer, TimeMixer and Pyraformer, whole models and the blocks that are only theirs."""

import torch

from tests.parity.golden import Case
from tsllm.hub.convert import from_reference
from tsllm.hub.convert_common import LIBRARY, rename
from tsllm.hub.convert_tsl_b import INCEPTION, PYRAFORMER, read_timesnet
from tsllm.models.inputs import Inputs
from tsllm.models.timesnet import TimesBlock, find_periods
from tsllm.nn.conv.map_inception import MapInception
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
    model = from_reference(case.meta, case.state)
    batch = _batch(case, target_last=not model.config.channels_as_exogenous)
    outputs = {"pred": model(**batch).predictions}
    names = ("past_observed_mask", "future_time_features", "past_covariates", "future_covariates")
    maps = model.compute_attention_maps(Inputs(**(dict.fromkeys(names) | batch)))
    for layer, (own, cross) in enumerate(maps):
        outputs |= {f"attn.{2 * layer}": own, f"attn.{2 * layer + 1}": cross}
    return outputs


@torch.no_grad()
def run_timemixer(case: Case):
    return {"pred": from_reference(case.meta, case.state)(**_batch(case)).predictions}


def run_fourier_decomposition(case: Case):
    options = dict(case.meta["constructor"].get("kwargs", {}))
    season, trend = FourierDecomposition(options.get("top_k", 5), reference_quirks=True)(case.inputs["x"])
    return {"seasonal": season, "season": season, "trend": trend}


@torch.no_grad()
def run_timesnet(case: Case):
    output = from_reference(case.meta, case.state)(**_batch(case))
    outputs = {"pred": output.predictions}
    for layer, (periods, amplitudes) in enumerate(
        zip(output.extras["periods"], output.extras["amplitudes"], strict=True)
    ):
        assert torch.equal(periods, periods[:1].expand_as(periods)), "the reference has one list for the batch"
        outputs |= {f"periods.{layer}": periods[0], f"period_weight.{layer}": amplitudes}
    return outputs


@torch.no_grad()
def run_times_block(case: Case):
    block = TimesBlock(read_timesnet(case.meta["constructor"]["configs"], 0)).eval()
    block.load_state_dict(rename(case.state, INCEPTION))
    y, periods, amplitudes = block(case.inputs["x"])
    return {"y": y, "periods": periods[0], "period_weight": amplitudes}


def run_find_periods(case: Case):
    constructor = case.meta["constructor"]
    top_k = (constructor.get("kwargs") or constructor.get("configs") or {}).get("k", 2)
    periods, amplitudes = find_periods(case.inputs["x"], top_k, batch_average=True)
    names = {"period": periods[0], "weight": amplitudes, "amplitude": amplitudes, "period_weight": amplitudes}
    return names | {"periods": periods[0], "weights": amplitudes, "period_weights": amplitudes}


def run_inception(kind: str):
    @torch.no_grad()
    def run(case: Case):
        options = case.meta["constructor"]["kwargs"]
        sizes = options["in_channels"], options.get("num_kernels", 6), options["out_channels"]
        block = MapInception(*sizes, kind=kind).eval()
        block.load_state_dict(rename(case.state, [(r"kernels\.(.*)", r"branches.\1")]))
        return {"y": block(case.inputs["x"])}

    return run


@torch.no_grad()
def run_pyraformer(case: Case):
    return {"pred": from_reference(case.meta, case.state)(**_batch(case)).predictions}


@torch.no_grad()
def run_pyraformer_official(case: Case):
    # The recorded tensors enter as they are: the prediction token stands in x_enc already, and x_dec may be anything.
    model = from_reference(case.meta, case.state)
    x = case.inputs["x_enc"]
    empty = x.new_zeros(len(x), model.config.prediction_length, x.shape[-1])
    decoder = case.inputs.get("x_dec", empty), case.inputs.get("x_mark_dec")
    return {"pred": model.compute_parameters(x, case.inputs["x_mark_enc"], *decoder).squeeze(-1)}


ADAPTERS = {
    (LIBRARY, "models.Pyraformer.Model"): run_pyraformer,
    (PYRAFORMER, "pyraformer.Pyraformer_LR.Model"): run_pyraformer_official,
    (LIBRARY, "models.TimesNet.Model"): run_timesnet,
    (LIBRARY, "models.TimesNet.TimesBlock"): run_times_block,
    (LIBRARY, "models.TimesNet.FFT_for_Period"): run_find_periods,
    (LIBRARY, "layers.Conv_Blocks.Inception_Block_V1"): run_inception("square"),
    (LIBRARY, "layers.Conv_Blocks.Inception_Block_V2"): run_inception("cross"),
    (LIBRARY, "models.TimeXer.Model"): run_timexer,
    (LIBRARY, "models.TimeMixer.Model"): run_timemixer,
    (LIBRARY, "models.TimeMixer.DFT_series_decomp"): run_fourier_decomposition,
}

"""Time-LLM: the whole model through `from_reference`, and its two blocks."""

import torch

from tests.parity.golden import Case
from tsllm.hub.convert import from_reference
from tsllm.models.timellm.prompt import Prompt
from tsllm.nn.patching import PatchEmbedding
from tsllm.nn.reprogramming import Reprogramming

REPO = "KimMeen/Time-LLM"


@torch.no_grad()
def run_model(case: Case):
    model = from_reference(case.meta, case.state)
    x = case.inputs["x_enc"]
    normalised, loc, scale = model.norm(x)
    rows = normalised.transpose(1, 2).flatten(0, 1)  # [B * C, L]
    # The recorded ids contain the padding, to which the reference attends.
    ids = [tuple(row) for row in case.outputs["prompt_ids"].tolist()]
    prompt = Prompt((), tuple(ids), tuple(range(len(ids))))
    patches = model.patch_embedding(rows)
    prototypes = model.prototypes(model.backbone.words)
    tokens = model.reprogramming(patches, *model.reprogramming.project(prototypes))
    hidden = model.backbone(tokens, prompt)
    parameters = model.read(rows, prompt).unflatten(0, (x.shape[0], -1)).squeeze(-1)  # [B, C, H]
    return {
        "normalised": normalised,
        "patch_embedding": patches,
        "prototypes": prototypes,
        "reprogrammed": tokens,
        "llm_hidden_patches": hidden,
        "pred": parameters.transpose(1, 2) * scale + loc,
    }


@torch.no_grad()
def run_reprogramming(case: Case):
    options = dict(case.meta["constructor"]["kwargs"])
    width = options.get("d_keys") or options["d_model"] // options["n_heads"]
    block = Reprogramming(options["d_model"], options["n_heads"], width, options["d_llm"])
    names = {"query": "query_projection", "key": "key_projection", "value": "value_projection"}
    names["out"] = "out_projection"
    block.load_state_dict({f"{n}.{p}": case.state[f"{o}.{p}"] for n, o in names.items() for p in ("weight", "bias")})
    block.eval()
    return {"y": block(case.inputs["patches"], *block.project(case.inputs["prototypes"]))}


@torch.no_grad()
def run_patch_embedding(case: Case):
    options = case.meta["constructor"]["kwargs"]
    block = PatchEmbedding(options["patch_len"], options["stride"], options["d_model"])
    block.load_state_dict({"conv.weight": case.state["value_embedding.tokenConv.weight"]})
    block.eval()
    return {"y": block(case.inputs["x"].flatten(0, 1))}


ADAPTERS = {
    (REPO, "models.TimeLLM.Model"): run_model,
    (REPO, "models.TimeLLM.ReprogrammingLayer"): run_reprogramming,
    (REPO, "layers.Embed.PatchEmbedding"): run_patch_embedding,
}

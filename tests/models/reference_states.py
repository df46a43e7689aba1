"""Tensors under the names that the Time-Series-Library gives them, of random values."""

import torch

LIBRARY_ARGUMENTS = {
    "task_name": "long_term_forecast",
    "seq_len": 48,
    "label_len": 24,
    "pred_len": 16,
    "enc_in": 3,
    "d_model": 8,
    "n_heads": 2,
    "e_layers": 1,
    "d_ff": 12,
    "moving_avg": 25,
    "dropout": 0.1,
    "embed": "timeF",
    "freq": "h",
    "activation": "gelu",
    "features": "M",
}
WIDTH, INNER = LIBRARY_ARGUMENTS["d_model"], LIBRARY_ARGUMENTS["d_ff"]


def draw(*shapes):
    return [torch.randn(*shape) for shape in shapes]


def encoder_state():
    """One encoder layer."""
    layer = "encoder.attn_layers.0"
    state = {}
    for part in ("query", "key", "value", "out"):
        state[f"{layer}.attention.{part}_projection.weight"], state[f"{layer}.attention.{part}_projection.bias"] = (
            draw((WIDTH, WIDTH), (WIDTH,))
        )
    state[f"{layer}.conv1.weight"], state[f"{layer}.conv1.bias"] = draw((INNER, WIDTH, 1), (INNER,))
    state[f"{layer}.conv2.weight"], state[f"{layer}.conv2.bias"] = draw((WIDTH, INNER, 1), (WIDTH,))
    for norm in ("norm1", "norm2"):
        state[f"{layer}.{norm}.weight"], state[f"{layer}.{norm}.bias"] = draw((WIDTH,), (WIDTH,))
    return state


def patchtst_state(patch_length, stride):
    """PatchTST with the position table that real checkpoints hold."""
    torch.manual_seed(0)
    patches = (48 - patch_length) // stride + 2
    state = encoder_state()
    state["patch_embedding.value_embedding.weight"] = torch.randn(WIDTH, patch_length)
    state["patch_embedding.position_embedding.pe"] = torch.zeros(1, 5000, WIDTH)
    for name in ("weight", "bias", "running_mean"):
        state[f"encoder.norm.1.{name}"] = torch.randn(WIDTH)
    state["encoder.norm.1.running_var"] = torch.rand(WIDTH) + 0.5
    state["encoder.norm.1.num_batches_tracked"] = torch.tensor(7)
    state["head.linear.weight"], state["head.linear.bias"] = draw((16, patches * WIDTH), (16,))
    return state


def itransformer_state():
    """iTransformer."""
    torch.manual_seed(0)
    state = encoder_state()
    state["enc_embedding.value_embedding.weight"], state["enc_embedding.value_embedding.bias"] = draw(
        (WIDTH, 48), (WIDTH,)
    )
    state["encoder.norm.weight"], state["encoder.norm.bias"] = draw((WIDTH,), (WIDTH,))
    state["projection.weight"], state["projection.bias"] = draw((16, WIDTH), (16,))
    return state

"""Time-LLM computed the way the official code computes it: the slow side of the benchmark, and an oracle in the tests.

Same parameters and same functions as `TimeLLM` under `reference_quirks`, but nothing shared, fused or left out: the
mapping layer over the whole vocabulary at every step, prompts with full-precision statistics inline and in the graph,
eager attention, GELU written out, attentions and all hidden states collected, dropout wherever the official code has
it (the frozen language model included).
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import NewGELUActivation

from tsllm.models.timellm import TimeLLM, TimeLLMConfig
from tsllm.models.timellm.backbone import Backbone
from tsllm.models.timellm.prompt import Prompt
from tsllm.nn.matmul import choose_matmul
from tsllm.types import ForecastOutput


class SlowTimeLLM(TimeLLM):
    """The slow twin of a `TimeLLM`.

    Args:
        config: Its configuration; must have `prototype_mode: mapping` and `reference_quirks: true`.
        backbone: A loaded backbone, changed in place.
    """

    def __init__(self, config: TimeLLMConfig, backbone: Backbone | None = None) -> None:
        if config.prototype_mode != "mapping" or not config.reference_quirks:
            raise ValueError("the slow twin needs prototype_mode: mapping and reference_quirks: true")
        super().__init__(config, backbone)
        self.backbone.llm.set_attn_implementation("eager")
        for module in self.backbone.llm.modules():
            for name, child in module.named_children():
                if isinstance(child, nn.GELU) and child.approximate == "tanh":
                    setattr(module, name, NewGELUActivation())

    def train(self, mode: bool = True) -> "SlowTimeLLM":
        """Switches everything, the language model's dropout included."""
        super().train(mode)
        self.backbone.llm.train(mode)
        return self

    def forward(self, *args: Any, **kwargs: Any) -> ForecastOutput:
        """Forecasts with torch's own matrix products."""
        with choose_matmul("torch"):
            return super().forward(*args, **kwargs)

    def read(self, rows: Tensor, prompt: Prompt | None) -> Tensor:
        """Maps normalised series [N, L] behind their prompts to head parameters [N, H, K]."""
        assert prompt is not None
        ids = torch.tensor([prompt.tails[k] for k in prompt.rows or ()], device=rows.device)
        embeddings = self.backbone.llm.get_input_embeddings()(ids)  # [N, T, d]
        prototypes = self.prototypes.mapping(self.backbone.words.permute(1, 0)).permute(1, 0)  # [S, d]
        tokens = self._reprogram(self.patch_embedding(rows), prototypes)  # [N, P, d]
        result = self.backbone.llm(
            inputs_embeds=torch.cat([embeddings, tokens], 1), output_attentions=True, output_hidden_states=True
        )
        hidden = result.last_hidden_state[:, :, : self.config.d_ff].permute(0, 2, 1)  # [N, d_ff, T + P]
        flat = hidden[:, :, -self.config.num_patches :].flatten(1)  # [N, d_ff * P]
        return self.head(flat).unflatten(-1, (self.config.prediction_length, -1))  # [N, H, K]

    def _reprogram(self, patches: Tensor, prototypes: Tensor) -> Tensor:
        layer = self.reprogramming
        queries = layer.query(patches).unflatten(-1, (layer.num_heads, -1))  # [N, P, h, w]
        keys = layer.key(prototypes).unflatten(-1, (layer.num_heads, -1))  # [S, h, w]
        values = layer.value(prototypes).unflatten(-1, (layer.num_heads, -1))  # [S, h, w]
        scores = torch.einsum("nphw,shw->nhps", queries, keys) / math.sqrt(queries.shape[-1])
        weights = nn.functional.dropout(scores.softmax(-1), layer.dropout, self.training)
        return layer.out(torch.einsum("nhps,shw->nphw", weights, values).flatten(2))  # [N, P, d]

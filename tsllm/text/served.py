"""Language models that vLLM runs in this process: for large models with a GPU, where the package is installed."""

import importlib.util
from collections.abc import Sequence
from typing import Any

import torch

from tsllm.backbones.pretrained import find_pretrained, resolve_commit
from tsllm.backbones.trust import check_folder, load_config, load_tokenizer

TRANSFORMERS, VLLM = "transformers", "vllm"
ENGINES = (TRANSFORMERS, VLLM)
NO_GRAMMAR = "vLLM samples without the grammar of numbers; set constrained: false, or leave engine out"
_HOW = (
    "the package vllm, which is not installed; install it (pip install vllm, on a machine that it supports), or leave "
    "engine out"
)


class ServedModel:
    """A causal language model behind vLLM; `tsllm.text.generate.sample_completions` takes it in place of a model.

    Args:
        engine: A `vllm.LLM`.
        config: The model's configuration.

    Attributes:
        device: Where generators live that draw its seeds.
    """

    def __init__(self, engine: Any, config: Any) -> None:
        self.engine, self.config = engine, config
        self.device = torch.device("cpu")

    def __deepcopy__(self, memo: dict[int, Any]) -> "ServedModel":
        return self  # nothing trains it, and a GPU holds it once

    def complete(
        self,
        prompts: Sequence[Sequence[int]],
        count: int,
        max_tokens: int,
        *,
        temperature: float,
        top_p: float,
        seeds: Sequence[int],
    ) -> list[list[str]]:
        """Draws completions.

        Args:
            prompts: B lists of tokens.
            count: G completions a prompt.
            max_tokens: Of a completion.
            temperature: Divides the logits; 0 = the most likely token each time.
            top_p: Share of the nucleus.
            seeds: One a prompt [B].

        Returns:
            B lists of G texts, without the end-of-text token.
        """
        from vllm import SamplingParams

        drawn = count if temperature else 1  # vLLM refuses to draw the most likely tokens more than once
        wanted = [
            SamplingParams(n=drawn, temperature=temperature, top_p=top_p, max_tokens=max_tokens, seed=seed)
            for seed in seeds
        ]
        asked = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        answers = self.engine.generate(asked, wanted, use_tqdm=False)
        return [[completion.text for completion in answer.outputs] * (count // drawn) for answer in answers]


def check_engine(engine: Any, *, constrained: bool, adapter: Any = None) -> None:
    """Refuses an engine that is unknown, not installed, or cannot do what is asked.

    Raises:
        ValueError: If it is unknown, rollouts are to keep to the grammar, or there is an adapter.
        ImportError: If vLLM is not installed.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine is {engine!r}; choose {' or '.join(ENGINES)}")
    if engine != VLLM:
        return
    if constrained:
        raise ValueError(NO_GRAMMAR)
    if adapter:
        raise ValueError(f"vLLM is given no adapter here, but adapter is {str(adapter)!r}; leave engine out")
    if importlib.util.find_spec("vllm") is None:
        raise ImportError(f"engine is vllm, which needs {_HOW}")


def load_served_model(name: str, *, revision: str | None = None, **options: Any) -> tuple[ServedModel, Any]:
    """Starts vLLM on a causal language model, from safetensors and without its own code, and loads its tokenizer.

    Args:
        name: A packaged name, a folder or a Hub id.
        revision: Branch, tag or commit of the Hub repository.
        **options: Of `vllm.LLM`: dtype, tensor_parallel_size, gpu_memory_utilization, max_model_len ...

    Returns:
        What `TextForecaster` takes, with `SamplingOptions(constrained=False)`.

    Raises:
        ImportError: If vLLM is not installed.
        OSError: If the model cannot be found.
    """
    try:
        from vllm import LLM
    except ImportError as error:
        raise ImportError(f"load_served_model needs {_HOW} ({error})") from error
    source = find_pretrained(name)
    commit = resolve_commit(source, revision or "") or None
    config = load_config(source, revision=commit or "main")
    check_folder(source, config)
    tokenizer = load_tokenizer(source, revision=commit or "main")
    engine = LLM(
        **{"model": str(source), "revision": commit, "tokenizer_revision": commit}
        | {"load_format": "safetensors", "trust_remote_code": False}
        | options
    )
    return ServedModel(engine, config), tokenizer

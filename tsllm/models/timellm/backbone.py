"""The language model that is reprogrammed: loading, freezing, and reading embedded patches behind a prompt.

No forecasting maths here. `Backbone.forward` runs prompt tokens without gradients where nothing in the model is
trained: what all rows share once and for all, what a row says of its own once a row, and only the patches as a part of
the differentiated graph.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.activations import NewGELUActivation
from transformers.utils import logging as library_logging

from tsllm.backbones.adapters import find_adapter, merge_adapter
from tsllm.backbones.fingerprint import check_tokenizer
from tsllm.backbones.pretrained import find_pretrained, resolve_commit
from tsllm.backbones.quantization import build_quantization
from tsllm.backbones.trust import check_folder, load_config, load_tokenizer, refuse_code
from tsllm.escape import first_line
from tsllm.models.timellm.cache import CollectingCache, KeyValues, LastLayerReached, PromptCache, TailStore, stack_rows
from tsllm.models.timellm.prompt import Prompt
from tsllm.nn.matmul import fast_matmul
from tsllm.progress import quiet_bars


class Backbone(nn.Module):
    """A decoder that reads patches behind a prompt.

    Args:
        llm: The bare decoder (no language-modelling head).
        tokenizer: Its tokenizer; None if no prompt will be written.
        commit: The commit of the Hub repository that it came from; empty for a local one.
    """

    def __init__(self, llm: PreTrainedModel, tokenizer: Any = None, commit: str = "") -> None:
        super().__init__()
        self.llm = llm
        self.tokenizer = tokenizer
        self.commit = commit
        self.causal = is_causal(llm.config)
        # Uncached computation of the same function, for tests and benchmarks.
        self.inline = False
        # Runs every tail by itself: its keys and values depend on no other text of the batch, nor on what is stored.
        self.alone = False
        self.tails = TailStore()
        self._tails_alone = False
        self._prefix: tuple[tuple[int, ...], KeyValues] | None = None
        self._tails_behind: tuple[int, ...] = ()
        self._precision: torch.dtype | None = None
        self._collecting = False
        self._no_split_modules = set(llm._no_split_modules or ())  # the layers that FSDP shards one by one
        fuse_activations(llm)
        llm.requires_grad_(False)
        llm.eval()

    @property
    def hidden_size(self) -> int:
        """Width d of a token."""
        return self.llm.config.hidden_size

    @property
    def num_layers(self) -> int:
        """Layers kept."""
        return self.llm.config.num_hidden_layers

    @property
    def words(self) -> Tensor:
        """The word embeddings [V, d]."""
        weight: Tensor = self.llm.get_input_embeddings().weight  # type: ignore[assignment]
        return weight

    def train(self, mode: bool = True) -> "Backbone":
        """Leaves the language model in eval mode, apart from what is trained in it (dropout of adapters)."""
        super().train(mode)
        self.llm.eval()
        for module in self.llm.modules():
            dropout = getattr(module, "lora_dropout", None)
            if isinstance(dropout, nn.Module):
                dropout.train(mode)
        return self

    def forget(self) -> None:
        """Drops cached keys and values; needed after weights were changed by hand."""
        self._prefix = None
        self.tails.clear()

    def checkpoint_layers(self) -> None:
        """Makes the layers recompute their inner values in the backward pass instead of keeping them."""
        from transformers.modeling_layers import GradientCheckpointingLayer  # which reads processors of images, too

        for layer in self.llm.modules():
            if isinstance(layer, GradientCheckpointingLayer):
                layer.forward = self._recomputed(layer.forward)

    def _recomputed(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        def run(hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
            # A run that collects keys and values ends by an exception, which cannot be replayed.
            if self._collecting or not (torch.is_grad_enabled() and hidden.requires_grad):
                return forward(hidden, *args, **kwargs)
            return checkpoint(replayed, hidden, *args, use_reentrant=False, **kwargs)

        def replayed(*args: Any, **kwargs: Any) -> Any:
            with fast_matmul():  # the backward pass replays this outside the model's own
                return forward(*args, **kwargs)

        return run

    def _apply(self, fn: Any, recurse: bool = True) -> "Backbone":
        self.forget()
        return super()._apply(fn, recurse)

    def forward(self, patches: Tensor, prompt: Prompt | None = None) -> Tensor:
        """Reads embedded patches behind their prompts.

        Args:
            patches: [N, P, d].
            prompt: Token ids; None = no prompt.

        Returns:
            The last hidden states of the patches [N, P, d].

        Raises:
            ValueError: If prompt and patches together exceed the positions of the model.
        """
        patches = patches.to(self.words.dtype)
        prompt = prompt or Prompt(())
        if self._precision != find_precision(patches):
            self.forget()
            self._precision = find_precision(patches)
        self._check_positions(prompt, patches.shape[1])
        if self.inline or not self.causal:
            return self._read_inline(patches, prompt)
        differentiate = torch.is_grad_enabled() and self._is_trained()
        parts = []
        if prompt.prefix:
            parts.append(self._prefix_key_values(prompt.prefix, differentiate))
        lengths = None
        if any(prompt.tails):
            tail = self._tail_key_values(prompt, parts, differentiate)
            lengths = torch.tensor([len(t) for t in prompt.tails], device=patches.device)
            if prompt.rows is not None and prompt.rows != tuple(range(len(prompt.tails))):
                rows = torch.tensor(prompt.rows, device=patches.device)
                tail, lengths = tail.select(rows), lengths[rows]
            parts.append(tail)
        return self._read_patches(patches, parts, lengths, len(prompt.prefix))

    def _check_positions(self, prompt: Prompt, num_patches: int) -> None:
        limit = getattr(self.llm.config, "max_position_embeddings", None)
        needed = len(prompt.prefix) + max(map(len, prompt.tails)) + num_patches
        if limit is not None and needed > limit:
            raise ValueError(
                f"prompt ({needed - num_patches} tokens) and patches ({num_patches}) need {needed} positions, but the "
                f"backbone has {limit}; shorten prompt_domain, or raise patch_stride"
            )

    def _is_trained(self) -> bool:
        return any(p.requires_grad for p in self.llm.parameters())

    def _prefix_key_values(self, prefix: tuple[int, ...], differentiate: bool) -> KeyValues:
        """Computes the shared prefix, once for all as long as nothing in the model is trained."""
        trained = self._is_trained()
        if not trained and self._prefix is not None and self._prefix[0] == prefix:
            return self._prefix[1]
        result = self._collect(torch.tensor([prefix], device=self.words.device), [], None, differentiate)
        if not trained:
            self._prefix = prefix, result
        return result

    def _tail_key_values(self, prompt: Prompt, before: list[KeyValues], differentiate: bool) -> KeyValues:
        """Returns keys and values of the distinct tails, padded on the right: [U, heads, T, width] a layer."""
        if not self.tails.capacity or self._is_trained():
            return self._run_tails(prompt.tails, before, differentiate)
        if (self._tails_behind, self._tails_alone) != (prompt.prefix, self.alone):
            self.tails.clear()
            self._tails_behind, self._tails_alone = prompt.prefix, self.alone
        known = [tail for tail in prompt.tails if tail in self.tails]
        fresh = [tail for tail in prompt.tails if tail not in self.tails]
        parts = [self.tails.get(known)] if known else []
        if fresh:
            parts.append(self._run_tails(fresh, before, differentiate))
            self.tails.put(fresh, parts[-1])
        stacked = stack_rows(parts)
        if len(parts) == 1:
            return stacked
        position = {tail: k for k, tail in enumerate([*known, *fresh])}
        return stacked.select(torch.tensor([position[tail] for tail in prompt.tails], device=self.words.device))

    def _run_tails(self, tails: Sequence[tuple[int, ...]], before: list[KeyValues], differentiate: bool) -> KeyValues:
        """Computes keys and values of tails, padded on the right: [U, heads, T, width] a layer."""
        if self.alone and len(tails) > 1:
            return stack_rows([self._run_tails([tail], before, differentiate) for tail in tails])
        ids = pad_ids(tails, self.words.device)  # [U, T]
        offset = sum(part.num_tokens for part in before)
        length = ids.shape[1]
        # Right padding needs no mask of its own: a token never attends to what stands behind it.
        mask = self._causal_mask(length, offset, self.words.dtype)  # [1, 1, T, offset + T]
        return self._collect(ids, before, mask, differentiate)

    def _collect(self, ids: Tensor, before: list[KeyValues], mask: Tensor | None, differentiate: bool) -> KeyValues:
        """Runs tokens [U, T] for their keys and values alone, with gradients or without."""
        cache = CollectingCache(before, self.num_layers)
        offset = cache.get_seq_length()
        positions = torch.arange(offset, offset + ids.shape[1], device=ids.device).unsqueeze(0)
        self._collecting = True
        try:
            with gradients(differentiate), suppress(LastLayerReached):
                embeddings = self.llm.get_input_embeddings()(ids)  # [U, T, d]
                self.llm(inputs_embeds=embeddings, attention_mask=mask, position_ids=positions, past_key_values=cache)
        finally:
            self._collecting = False
        return cache.collected()

    def _read_patches(self, patches: Tensor, before: list[KeyValues], lengths: Tensor | None, offset: int) -> Tensor:
        """Runs the patches [N, P, d] behind keys and values of `offset` shared tokens and tails of `lengths` [N]."""
        num_patches = patches.shape[1]
        steps = torch.arange(num_patches, device=patches.device)
        if not before:
            return self.llm(inputs_embeds=patches, position_ids=steps.unsqueeze(0), use_cache=False).last_hidden_state
        cache = PromptCache(before)
        width = cache.get_seq_length()
        mask = self._causal_mask(num_patches, width, patches.dtype)  # [1, 1, P, width + P]
        positions = steps.unsqueeze(0) + width
        if lengths is not None:
            positions = offset + lengths.unsqueeze(1) + steps  # [N, P]
            column = torch.arange(width + num_patches, device=patches.device)
            padding = (column >= offset + lengths.unsqueeze(1)) & (column < width)  # [N, width + P]
            mask = mask.masked_fill(padding[:, None, None, :], torch.finfo(mask.dtype).min)  # [N, 1, P, width + P]
        return self.llm(
            inputs_embeds=patches, attention_mask=mask, position_ids=positions, past_key_values=cache
        ).last_hidden_state

    def _causal_mask(self, length: int, offset: int, dtype: torch.dtype) -> Tensor:
        """Additive mask [1, 1, length, offset + length] of queries that stand behind `offset` visible tokens."""
        mask = torch.full((length, offset + length), torch.finfo(dtype).min, dtype=dtype, device=self.words.device)
        return mask.triu_(offset + 1)[None, None]

    def _read_inline(self, patches: Tensor, prompt: Prompt) -> Tensor:
        """Runs prompt and patches as one sequence, padded between them, with mask and positions."""
        rows = prompt.rows if prompt.rows is not None else (0,) * patches.shape[0]
        sequences = [prompt.prefix + prompt.tails[k] for k in rows]
        ids = pad_ids(sequences, patches.device)  # [N, T]
        lengths = torch.tensor([len(s) for s in sequences], device=patches.device).unsqueeze(1)
        steps = torch.arange(ids.shape[1], device=patches.device)
        ahead = torch.arange(patches.shape[1], device=patches.device)
        seen = torch.cat([steps < lengths, torch.ones_like(ahead, dtype=torch.bool).expand(len(rows), -1)], 1)
        positions = torch.cat([steps.expand(len(rows), -1), lengths + ahead], 1)  # [N, T + P]
        embeddings = torch.cat([self.llm.get_input_embeddings()(ids), patches], 1)  # [N, T + P, d]
        hidden = self.llm(
            inputs_embeds=embeddings, attention_mask=seen.long(), position_ids=positions, use_cache=False
        ).last_hidden_state
        return hidden[:, -patches.shape[1] :]  # [N, P, d]


@contextmanager
def gradients(differentiate: bool) -> Iterator[None]:
    """Computes with gradients, or without; then ordinary tensors come out, which a later graph may keep."""
    if differentiate:
        yield
        return
    with torch.inference_mode(False), torch.no_grad():
        yield


def find_precision(values: Tensor) -> torch.dtype:
    """Returns the dtype that matrix products of `values` come out in, autocast considered."""
    device = values.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else values.dtype


def pad_ids(sequences: Any, device: torch.device) -> Tensor:
    """Pads lists of token ids with 0 on the right: [N, T] integers, T at least 1."""
    width = max(1, *map(len, sequences))
    return torch.tensor([[*s, *[0] * (width - len(s))] for s in sequences], dtype=torch.long, device=device)


def fuse_activations(llm: nn.Module) -> None:
    """Replaces GELU's tanh approximation written in Python by torch's fused kernel of the same function."""
    for module in llm.modules():
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(module, name, nn.GELU(approximate="tanh"))


def is_causal(config: PreTrainedConfig) -> bool:
    """Tells whether tokens of this architecture attend only to what stands before them."""
    return config.model_type not in {"bert", "roberta", "distilbert", "albert", "electra", "deberta", "deberta-v2"}


def load_backbone(
    name: str,
    *,
    revision: str = "",
    num_layers: int = 0,
    weights: str = "pretrained",
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    quantization: str | None = None,
    with_tokenizer: bool = True,
) -> Backbone:
    """Loads a decoder by name.

    Args:
        name: A packaged name, a folder or a Hub id, of a model or of a PEFT adapter on one.
        revision: Hub revision; empty = main.
        num_layers: Layers kept from the first on; 0 = all.
        weights: "pretrained"; "random" for freshly drawn ones; "spectrum" for random ones that keep the singular
            values of the pretrained matrices.
        seed: Seed of the random weights.
        dtype: dtype of the weights.
        quantization: "4bit" packs the matrices of pretrained weights; None = whole.
        with_tokenizer: Whether a prompt will be written.

    Raises:
        OSError: If it cannot be loaded, with the way out.
        ValueError: If weights are missing or not finite, sizes do not fit, the folder asks for code of its own or has
            no usable tokenizer, or more layers are asked for than there are.
        ImportError: If 4-bit weights are asked for without bitsandbytes.
        RuntimeError: If 4-bit weights are asked for without a CUDA device.
    """
    where = find_pretrained(name)
    adapter = find_adapter(where, revision)
    if adapter is not None:
        if quantization:
            raise ValueError(f"backbone {name!r} is an adapter, which cannot be merged into 4-bit weights")
        where, revision = find_pretrained(adapter.base), adapter.base_revision
    # On the CPU like all that a model is built from; the trainer moves the whole.
    packed = {"quantization_config": build_quantization(dtype), "device_map": {"": "cpu"}} if quantization else {}
    try:
        commit = resolve_commit(where, revision)
        options: dict[str, Any] = {"revision": commit} if commit else {}
        config = load_config(where, **options)
        check_folder(where, config)
        keep_layers(config, num_layers, name)
        if weights == "random":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                llm = AutoModel.from_config(config, attn_implementation="sdpa", dtype=dtype, trust_remote_code=False)
        else:
            llm = _load_weights(where, config, dtype, options | packed)
            if adapter is not None:
                merge_adapter(llm, adapter)
            if weights == "spectrum":
                rotate_weights(llm, seed)
        tokenizer = load_tokenizer(where, **options) if with_tokenizer else None
    except OSError as error:
        at = f" at revision {revision!r}" if revision else ""
        raise OSError(
            f"backbone {name!r}{at} cannot be loaded: {first_line(error)}; give the path of a local folder, check the "
            "name and your access to the Hub, or use smollm2-135m, which needs no Hub (`backbone: smollm2-135m` in "
            "YAML, --set backbone=smollm2-135m on the command line)"
        ) from error
    if tokenizer is not None:
        check_tokenizer(tokenizer, name, llm.get_input_embeddings().weight.shape[0])
    return Backbone(llm, tokenizer, commit if adapter is None else adapter.commit)


def _load_weights(
    where: str, config: PreTrainedConfig, dtype: torch.dtype, options: dict[str, Any]
) -> PreTrainedModel:
    verbosity = library_logging.get_verbosity()
    library_logging.set_verbosity_error()  # the layers left out and the output head are unused on purpose
    try:
        with refuse_code(where), quiet_bars():
            llm, info = AutoModel.from_pretrained(
                where,
                config=config,
                dtype=dtype,
                attn_implementation="sdpa",
                use_safetensors=True,
                output_loading_info=True,
                trust_remote_code=False,
                **options,
            )
    finally:
        library_logging.set_verbosity(verbosity)
    missing = sorted(info["missing_keys"]) + sorted(str(m) for m in info["mismatched_keys"])
    if missing:
        raise ValueError(
            f"the weights of backbone {where!r} do not fit its configuration; missing or of another shape: "
            f"{', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''} ({len(missing)} tensors)"
        )
    damaged = [n for n, p in llm.named_parameters() if p.is_floating_point() and not torch.isfinite(p).all()]
    if damaged:
        raise ValueError(f"the weights of backbone {where!r} hold NaN or infinities in {', '.join(damaged[:5])}")
    return llm


@torch.no_grad()
def rotate_weights(llm: PreTrainedModel, seed: int) -> None:
    """Rotates all weight matrices at random: what they learned is gone, their singular values stay.

    Embedding tables are rotated in the space of features only; vectors (norms, biases) are shuffled.
    """
    generator = torch.Generator().manual_seed(seed)
    tables = {id(m.weight) for m in llm.modules() if isinstance(m, nn.Embedding)}
    for parameter in llm.parameters():
        value = parameter.float().cpu()
        if value.dim() < 2:
            value = value[torch.randperm(len(value), generator=generator)]
        else:
            value = value @ draw_rotation(value.shape[1], generator)
            if id(parameter) not in tables:
                value = draw_rotation(value.shape[0], generator) @ value
        parameter.copy_(value)


def draw_rotation(size: int, generator: torch.Generator) -> Tensor:
    """Draws an orthogonal matrix [size, size], uniformly (Mezzadri 2007)."""
    q, r = torch.linalg.qr(torch.randn(size, size, generator=generator))
    return q * r.diagonal().sign()


def keep_layers(config: PreTrainedConfig, num_layers: int, name: str) -> None:
    """Sets the configuration to its first `num_layers` layers (0 = all).

    Raises:
        ValueError: If there are fewer.
    """
    available = config.num_hidden_layers
    if num_layers > available:
        raise ValueError(f"num_backbone_layers is {num_layers}, but backbone {name!r} has {available}; lower it")
    if num_layers:
        config.num_hidden_layers = num_layers
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:num_layers]

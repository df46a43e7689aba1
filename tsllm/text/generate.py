"""Sampling many completions of a prompt: the prompt is read once, its cache shared by all samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from tsllm.nn.matmul import run_fast
from tsllm.text.codec import NumberCodec
from tsllm.text.grammar import NumberGrammar
from tsllm.text.served import NO_GRAMMAR, ServedModel
from tsllm.text.tokens import encode_requests


@dataclass(frozen=True)
class SamplingOptions:
    """How completions are drawn.

    Attributes:
        temperature: Divides the logits; 0 = the most likely token each time.
        top_p: Keep the smallest set of tokens whose probability reaches this.
        constrained: Allow only tokens that lead to exactly h integers.
        max_tokens_per_number: Stops an unconstrained completion after h times this many tokens.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    constrained: bool = True
    max_tokens_per_number: int = 8

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"temperature must not be negative, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must lie in (0, 1], got {self.top_p}")
        if self.max_tokens_per_number < 1:
            raise ValueError(f"max_tokens_per_number must be positive, got {self.max_tokens_per_number}")


@run_fast
@torch.inference_mode()
def sample_completions(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    h: int,
    codec: NumberCodec,
    num_samples: int = 1,
    options: SamplingOptions | None = None,
    generator: torch.Generator | None = None,
) -> list[list[str]]:
    """Draws `num_samples` completions of each prompt.

    Args:
        model: A causal language model in eval mode, or a `ServedModel`.
        tokenizer: Its tokenizer; padding side and pad token do not matter.
        prompts: B prompts, read in one batch.
        h: Numbers wanted in each completion.
        codec: The codec of the prompts.
        num_samples: G samples a prompt.
        options: Temperature, nucleus, constraint.
        generator: Makes the draw reproducible; must live on the model's device.

    Returns:
        B lists of G texts, without the end-of-text token.

    Raises:
        ValueError: If prompt and completion do not fit into the model's positions, or a served model is to keep to the
            grammar.
    """
    options = options or SamplingOptions()
    if options.constrained and codec.thought_tokens:
        raise ValueError("a thought follows no grammar of numbers; set constrained to False")
    encoded = encode_requests(tokenizer, prompts)
    num_steps = h * (codec.digits + 3 if options.constrained else options.max_tokens_per_number)
    num_steps += codec.thought_tokens
    _check_positions(model, max(map(len, encoded)), h * (codec.digits + 1) + codec.thought_tokens)
    if isinstance(model, ServedModel):
        return _ask_served(model, encoded, num_samples, num_steps, options, generator)
    ids, mask = _pad_left(encoded, tokenizer, model.device)
    positions = (mask.cumsum(1) - 1).clamp_min(0)
    out = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True, logits_to_keep=1)
    cache = make_room(out.past_key_values, num_samples, num_steps)
    padded = None if bool(mask.all()) else mask.repeat_interleave(num_samples, 0)
    session = _Session(padded, positions[:, -1].repeat_interleave(num_samples), cache)
    logits = out.logits[:, -1].repeat_interleave(num_samples, 0)  # [B * G, V]
    chooser: _Chooser = (
        _ConstrainedChooser(NumberGrammar(tokenizer, codec, h), len(logits), model.device)
        if options.constrained
        else _FreeChooser(tokenizer, codec, h, len(logits), model.device)
    )
    tokens = _decode(model, session, logits, chooser, options, num_steps, generator)
    texts = [tokenizer.decode([t for t in row if t >= 0]) for row in tokens.tolist()]
    return [texts[i * num_samples : (i + 1) * num_samples] for i in range(len(prompts))]


def _ask_served(
    model: ServedModel,
    prompts: list[list[int]],
    count: int,
    max_tokens: int,
    options: SamplingOptions,
    generator: torch.Generator | None,
) -> list[list[str]]:
    if options.constrained:
        raise ValueError(NO_GRAMMAR)
    seeds = torch.randint(2**31, (len(prompts),), generator=generator).tolist()
    return model.complete(
        prompts, count, max_tokens, temperature=options.temperature, top_p=options.top_p, seeds=seeds
    )


@dataclass
class _Session:
    mask: Tensor | None  # [N, tokens so far], None = no pads
    position: Tensor  # [N] position of the newest token
    cache: Any


class _RoomyLayer(DynamicLayer):
    """A cache layer with room for `extra` more tokens: a decoding step copies one token, not the whole past."""

    def __init__(self, layer: DynamicLayer, repeats: int, extra: int) -> None:
        super().__init__()
        assert layer.keys is not None
        assert layer.values is not None
        self.lazy_initialization(layer.keys, layer.values)
        self._length = layer.get_seq_length()
        self._all_keys = _repeat_with_room(layer.keys, repeats, extra)
        self._all_values = _repeat_with_room(layer.values, repeats, extra)
        self._expose()

    def _expose(self) -> tuple[Tensor, Tensor]:
        self.keys = self._all_keys[:, :, : self._length]
        self.values = self._all_values[:, :, : self._length]
        return self.keys, self.values

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        start, self._length = self._length, self._length + key_states.shape[2]
        self._all_keys[:, :, start : self._length] = key_states
        self._all_values[:, :, start : self._length] = value_states
        return self._expose()


def _repeat_with_room(states: Tensor, repeats: int, extra: int) -> Tensor:
    repeated = states.repeat_interleave(repeats, 0)  # [N, heads, tokens, width]
    return torch.nn.functional.pad(repeated, (0, 0, 0, extra))  # [N, heads, tokens + extra, width]


def make_room(cache: Any, repeats: int, extra: int) -> Any:
    """Repeats each row of a cache `repeats` times and gives its plain layers room for `extra` tokens.

    Layers of other kinds (sliding windows) are only repeated; they grow as the library lets them.
    """
    for i, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer:
            cache.layers[i] = _RoomyLayer(layer, repeats, extra)
        elif repeats > 1:
            layer.batch_repeat_interleave(repeats)
    return cache


def _decode(
    model: Any,
    session: _Session,
    logits: Tensor,
    chooser: "_Chooser",
    options: SamplingOptions,
    num_steps: int,
    generator: torch.Generator | None,
) -> Tensor:
    """Returns tokens [N, steps]; -1 after (and at) the end of a completion."""
    ended = torch.zeros(len(logits), dtype=torch.bool, device=logits.device)
    rows = []
    for step in range(num_steps):
        token, ends = chooser.choose(logits.float(), options, generator)
        ended = ended | ends
        rows.append(torch.where(ended, -1, token))
        if step == num_steps - 1 or bool(ended.all()):
            break
        session.position = session.position + 1
        if session.mask is not None:
            session.mask = torch.cat([session.mask, torch.ones_like(session.mask[:, :1])], 1)
        out = model(
            input_ids=token.unsqueeze(1),
            attention_mask=session.mask,
            position_ids=session.position.unsqueeze(1),
            past_key_values=session.cache,
            use_cache=True,
        )
        logits = out.logits[:, -1]
    return torch.stack(rows, 1)


class _Chooser:
    """Picks the next token of each completion: tokens [N] and whether the completion ends with it [N]."""

    def choose(
        self, logits: Tensor, options: SamplingOptions, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


class _ConstrainedChooser(_Chooser):
    def __init__(self, grammar: NumberGrammar, batch_size: int, device: torch.device) -> None:
        self.grammar = grammar
        self.ids = grammar.ids.to(device)
        self.state = grammar.start(batch_size, device)

    def choose(
        self, logits: Tensor, options: SamplingOptions, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        scores = logits[:, self.ids].masked_fill(~self.grammar.compute_allowed(self.state), -torch.inf)
        blocked = torch.isinf(scores).all(1)  # completions that have ended
        choice = _draw(scores.masked_fill(blocked.unsqueeze(1), 0.0), options, generator)
        ends = self.grammar.is_end(choice) | blocked
        self.state = self.grammar.advance(self.state, choice)
        return self.ids[choice], ends


class _FreeChooser(_Chooser):
    def __init__(self, tokenizer: Any, codec: NumberCodec, h: int, batch_size: int, device: torch.device) -> None:
        self.end_id = tokenizer.eos_token_id
        self.separator_id = tokenizer(codec.separator, add_special_tokens=False)["input_ids"][-1]
        # Separators until the h-th number is complete; a thought may hold any, so that only its end counts.
        self.left = torch.full(
            (batch_size,), torch.iinfo(torch.long).max if codec.thought_tokens else h, device=device
        )

    def choose(
        self, logits: Tensor, options: SamplingOptions, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        token = _draw(logits, options, generator)
        self.left = self.left - (token == self.separator_id).long()
        return token, (token == self.end_id) | (self.left <= 0)


def _draw(scores: Tensor, options: SamplingOptions, generator: torch.Generator | None) -> Tensor:
    """Draws one index a row from scores [N, A]."""
    if options.temperature == 0:
        return scores.argmax(-1)
    probabilities = (scores / options.temperature).softmax(-1)
    if options.top_p < 1:
        ordered, order = probabilities.sort(-1, descending=True)
        outside = ordered.cumsum(-1) - ordered >= options.top_p
        probabilities = probabilities.scatter(-1, order, ordered.masked_fill(outside, 0.0))
    return torch.multinomial(probabilities, 1, generator=generator).squeeze(-1)


def _pad_left(encoded: list[list[int]], tokenizer: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    width = max(map(len, encoded))
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    ids = torch.tensor([[pad] * (width - len(e)) + e for e in encoded], device=device)
    mask = torch.tensor([[0] * (width - len(e)) + [1] * len(e) for e in encoded], device=device)
    return ids, mask


def _check_positions(model: Any, prompt_tokens: int, completion_tokens: int) -> None:
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit is not None and prompt_tokens + completion_tokens > limit:
        raise ValueError(
            f"prompt ({prompt_tokens} tokens) and completion (about {completion_tokens}) exceed the model's "
            f"{limit} positions; lower context_length, digits or h"
        )

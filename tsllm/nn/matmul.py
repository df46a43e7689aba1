"""Linear maps by oneDNN where torch's own choice, MKL, runs at half speed: on AMD CPUs with AVX-512.

On an AMD EPYC with AVX-512, one thread, [1792, 768] x [768, 3072]: MKL 53 GFLOP/s, oneDNN 119. Both compute in
float32; results differ by rounding. The variable TSLLM_MATMUL chooses: `auto` (default), `torch`, `onednn`.
"""

import math
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import register_flop_formula

P = ParamSpec("P")
R = TypeVar("R")
CPU_INFO = Path("/proc/cpuinfo")
VARIABLE = "TSLLM_MATMUL"
CHOICES = ("auto", "torch", "onednn")
FEWEST_PRODUCTS = 2**20  # below, calling costs more than is gained
FEWEST_ROWS = 128  # below, the backward pass would be slower
_ONEDNN = getattr(torch.ops.mkldnn, "_linear_pointwise", None)  # None where torch was built without oneDNN


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Computes x [..., K] weight' [N, K] + bias [N] -> [..., N] by oneDNN; no gradients."""
    assert _ONEDNN is not None
    result: Tensor = _ONEDNN(x, weight, bias, "none", [], "")
    return result


class OneDnnLinear(torch.autograd.Function):
    """`torch.nn.functional.linear` by oneDNN, forward and backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Maps x [..., K] to [..., N]."""
        ctx.save_for_backward(x, weight)
        return multiply(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Returns the gradients of x, weight and bias that are asked for."""
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        rows = gradient.flatten(0, -2)  # [M, N]
        return (
            multiply(gradient, weight.T) if of_x else None,
            multiply(rows.T.contiguous(), x.flatten(0, -2).T.contiguous()) if of_weight else None,
            rows.sum(0) if of_bias else None,
        )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Does what `torch.nn.functional.linear` does, by oneDNN if that is worth while.

    Args:
        x: [..., K].
        weight: [N, K].
        bias: [N] or None.

    Returns:
        [..., N].
    """
    tensors = [x, weight] if bias is None else [x, weight, bias]
    if not all(type(t) in (Tensor, nn.Parameter) and t.dtype is torch.float32 and t.is_cpu for t in tensors):
        return F.linear(x, weight, bias)
    learns = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    products = x.numel() * len(weight)
    if x.dim() < 2 or weight.dim() != 2 or products < FEWEST_PRODUCTS or torch.is_autocast_enabled("cpu"):
        return F.linear(x, weight, bias)
    if not learns:
        return multiply(x, weight, bias)
    if products < FEWEST_ROWS * x.shape[-1] * len(weight):
        return F.linear(x, weight, bias)
    result: Tensor = OneDnnLinear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return result


class _FastMatmul(TorchFunctionMode):
    """Sends the linear maps of everything that runs within, GPT-2's included, to `linear`."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Calls `linear` in place of `F.linear` and of `torch.addmm` with a bias vector."""
        if func is F.linear:
            return linear(*args, **(kwargs or {}))
        if func is torch.addmm and not kwargs and args[0].dim() == 1:
            return linear(args[1], args[2].T, args[0])
        return func(*args, **(kwargs or {}))


_choice: list[str] = []


@contextmanager
def choose_matmul(choice: str) -> Iterator[None]:
    """Overrules TSLLM_MATMUL within; `choice` is one of `CHOICES`."""
    _choice.append(choice)
    try:
        yield
    finally:
        _choice.pop()


def read_choice() -> str:
    """Returns which of `CHOICES` holds.

    Raises:
        ValueError: If TSLLM_MATMUL is none of them, or asks for oneDNN where torch has none.
    """
    choice = _choice[-1] if _choice else os.environ.get(VARIABLE, "auto")
    if choice not in CHOICES:
        raise ValueError(f"{VARIABLE} is {choice!r}; choose one of {', '.join(CHOICES)}")
    if choice == "onednn" and not has_onednn():
        raise ValueError(f"{VARIABLE} is 'onednn', but this torch was built without it; choose auto or torch")
    return choice


def has_onednn() -> bool:
    """Tells whether this torch can compute linear maps by oneDNN; builds for some systems cannot."""
    return _ONEDNN is not None and torch.backends.mkldnn.is_available()


def uses_onednn() -> bool:
    """Tells whether large linear maps of float32 on a CPU are computed by oneDNN.

    The one place where this is decided: forecasting models ask for every forward pass, language models where they
    generate and train (`run_fast`).

    Raises:
        ValueError: As `read_choice`.
    """
    choice = read_choice()
    return choice == "onednn" or (choice == "auto" and is_mkl_slow())


def describe_matmul() -> str:
    """Says by what linear maps on the CPU are computed, for records that go with numbers.

    Numbers differ by rounding between libraries, instruction sets and thread counts, and are equal to the bit where
    this text, the torch version and the batch are the same.

    Returns:
        Such as `oneDNN (TSLLM_MATMUL=auto), AVX512, 2 threads`; small maps and other dtypes are torch's either way.

    Raises:
        ValueError: As `read_choice`.
    """
    by = "oneDNN" if uses_onednn() else "torch"
    threads = torch.get_num_threads()
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{by} ({VARIABLE}={read_choice()}), {capability}, {threads} thread{'' if threads == 1 else 's'}"


def fast_matmul() -> AbstractContextManager[Any]:
    """Returns what a model's forward pass runs in; it does nothing where torch's own way is the better one.

    Raises:
        ValueError: As `uses_onednn`.
    """
    if not uses_onednn() or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return nullcontext()
    return _FastMatmul()


def run_fast(function: Callable[P, R]) -> Callable[P, R]:
    """Decorates a function so that it runs in `fast_matmul`."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with fast_matmul():
            return function(*args, **kwargs)

    return run


@cache
def is_mkl_slow() -> bool:
    """Tells whether torch computes on an AMD CPU with AVX-512, by MKL, and oneDNN is at hand."""
    at_hand = torch.backends.mkl.is_available() and has_onednn()
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    if torch.accelerator.is_available() or not (at_hand and wide):
        return False
    known = CPU_INFO.is_file()
    vendor = CPU_INFO.read_text(encoding="utf-8", errors="replace") if known else platform.processor()
    return "AuthenticAMD" in vendor


def count_flops(x_shape: Sequence[int], weight_shape: Sequence[int], *_: Any, **__: Any) -> int:
    """Returns the FLOPs of `multiply`, for `torch.utils.flop_counter`."""
    return 2 * math.prod(x_shape) * weight_shape[0]


if _ONEDNN is not None:
    register_flop_formula(_ONEDNN)(count_flops)

"""Linear maps by oneDNN: the same numbers and gradients as torch's, and torch's own where they do not apply."""

import importlib.util

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode
from transformers.pytorch_utils import Conv1D

from tsllm.nn import matmul
from tsllm.nn.matmul import OneDnnLinear, choose_matmul, describe_matmul, fast_matmul, linear, multiply, run_fast

pytestmark = pytest.mark.skipif(not matmul.has_onednn(), reason="torch has no oneDNN here")
BIG = (192, 96, 80)  # rows, inputs, outputs: above both thresholds


@pytest.fixture
def onednn():
    with choose_matmul("onednn"):
        yield


@pytest.fixture
def calls(monkeypatch):
    """Counts the maps that oneDNN computes."""
    found = []

    def counted(x, weight, bias=None):
        found.append(tuple(x.shape))
        return multiply(x, weight, bias)

    monkeypatch.setattr(matmul, "multiply", counted)
    return found


def _draw(rows, inputs, outputs, lead=()):
    torch.manual_seed(0)
    x = torch.randn(*lead, rows, inputs, requires_grad=True)
    return x, nn.Parameter(torch.randn(outputs, inputs)), nn.Parameter(torch.randn(outputs))


@pytest.mark.parametrize("lead", [(), (3,), (2, 2)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_values_and_gradients_are_those_of_double_precision(lead, with_bias, onednn, calls):
    x, weight, bias = _draw(*BIG, lead)
    tensors = [x, weight, bias] if with_bias else [x, weight]
    given = torch.randn(*lead, BIG[0], BIG[2])
    found = linear(*tensors)
    gradients = torch.autograd.grad(found, tensors, given)
    assert calls[0] == (*lead, BIG[0], BIG[1])
    exact = [t.detach().double().requires_grad_() for t in tensors]
    expected = F.linear(*exact)
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-5)
    for mine, theirs in zip(gradients, torch.autograd.grad(expected, exact, given.double()), strict=True):
        torch.testing.assert_close(mine.double(), theirs, atol=2e-4, rtol=1e-5)


def test_strided_arguments(onednn, calls):
    x, weight, bias = torch.randn(96, 192).T, torch.randn(96, 160).T[::2], torch.randn(80)
    found = linear(x, weight, bias)
    assert calls
    torch.testing.assert_close(found, F.linear(x, weight, bias), atol=1e-4, rtol=1e-5)


def test_only_gradients_that_are_asked_for_are_computed(onednn, calls):
    x, weight, bias = _draw(*BIG)
    weight.requires_grad_(False)
    bias.requires_grad_(False)
    linear(x, weight, bias).sum().backward()
    assert weight.grad is bias.grad is None
    assert len(calls) == 2
    torch.testing.assert_close(x.grad, weight.sum(0).expand_as(x))


@pytest.mark.parametrize(
    "change",
    [
        lambda x, w, b: (x.double(), w.double(), b.double()),
        lambda x, w, b: (x.bfloat16(), w.bfloat16(), b.bfloat16()),
        lambda x, w, b: (x[:2], w, b),  # too small
        lambda x, w, b: (x[:64].repeat(1, 30), w.repeat(1, 30), b),  # too few rows to learn from
        lambda x, w, b: (x[0], w, b),  # a vector
    ],
)
def test_what_gains_nothing_is_left_to_torch(change, onednn, calls):
    arguments = change(*_draw(*BIG))
    torch.testing.assert_close(linear(*arguments), F.linear(*arguments), atol=0.0, rtol=0.0)
    assert not calls


def test_autocast_is_left_to_torch(onednn, calls):
    x, weight, bias = _draw(*BIG)
    with torch.autocast("cpu", dtype=torch.bfloat16), fast_matmul():
        assert F.linear(x, weight, bias).dtype is torch.bfloat16
    assert not calls


def test_a_model_s_linear_layers_and_gpt2_s_are_reached(onednn, calls):
    model = nn.Sequential(nn.Linear(96, 80), nn.GELU(), Conv1D(96, 80))
    nn.init.normal_(model[2].bias)
    x = torch.randn(4, 192, 96)
    expected = model(x)
    with fast_matmul():
        found = model(x)
    assert [shape[-1] for shape in calls] == [96, 80]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_torch_is_not_touched_if_so_chosen(monkeypatch, calls):
    layer, x = nn.Linear(96, 80), torch.randn(192, 96)
    monkeypatch.setenv("TSLLM_MATMUL", "torch")
    with fast_matmul():
        layer(x)
    assert not calls
    monkeypatch.setenv("TSLLM_MATMUL", "onednn")
    with fast_matmul():
        layer(x)
    assert len(calls) == 1
    with choose_matmul("torch"), fast_matmul():
        layer(x)
    assert len(calls) == 1
    layer(x)  # outside of the block
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("cpu", "capability", "slow"),
    [
        ("vendor_id : AuthenticAMD", "AVX512", True),
        ("vendor_id : AuthenticAMD", "AVX2", False),
        ("vendor_id : GenuineIntel", "AVX512", False),
        ("ARM", "DEFAULT", False),
    ],
)
def test_by_default_the_cpu_decides(cpu, capability, slow, monkeypatch, tmp_path):
    (tmp_path / "cpuinfo").write_text(cpu)
    monkeypatch.setattr(matmul, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    matmul.is_mkl_slow.cache_clear()
    assert matmul.is_mkl_slow() is slow
    matmul.is_mkl_slow.cache_clear()


def test_an_unknown_choice_is_refused(monkeypatch):
    monkeypatch.setenv("TSLLM_MATMUL", "fast")
    with pytest.raises(ValueError, match=r"TSLLM_MATMUL is 'fast'; choose one of auto, torch, onednn"):
        fast_matmul()


def test_a_step_that_recomputes_its_layers_learns_the_same(onednn, calls):
    def learn(recompute):
        torch.manual_seed(0)
        layers, x = nn.Sequential(nn.Linear(96, 80), nn.GELU(), nn.Linear(80, 96)), torch.randn(192, 96)
        layers[0].weight.requires_grad_(False)
        x.requires_grad_()
        out = checkpoint(run_fast(layers.forward), x, use_reentrant=False) if recompute else layers(x)
        out.square().sum().backward()
        return [x.grad, *(p.grad for p in layers.parameters() if p.requires_grad)]

    expected = run_fast(learn)(False)
    before = len(calls)
    for mine, theirs in zip(run_fast(learn)(True), expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=0.0, rtol=0.0)
    assert len(calls) - before == before + 2


def test_the_flop_counter_counts_it():
    x, weight, bias = _draw(*BIG)
    with FlopCounterMode(display=False) as counter:
        OneDnnLinear.apply(x, weight, bias).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * BIG[0] * BIG[1] * BIG[2]


def test_compiled_exported_and_traced_models_keep_torch_s_own_operations(onednn, calls):
    layer, x = nn.Linear(96, 80), torch.randn(192, 96)

    class Fast(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, values):
            with fast_matmul():
                return self.layer(values)

    program = torch.export.export(Fast(), (x,)).graph_module.code
    traced = str(torch.jit.trace(Fast(), x, check_trace=False).inlined_graph)
    assert "linear" in program
    assert "linear" in traced
    assert "mkldnn" not in program + traced
    assert not calls


def test_a_record_says_library_choice_instructions_and_threads(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setenv("TSLLM_MATMUL", "torch")
    assert describe_matmul() == "torch (TSLLM_MATMUL=torch), AVX2, 2 threads"
    torch.set_num_threads(1)
    with choose_matmul("onednn"):
        assert describe_matmul() == "oneDNN (TSLLM_MATMUL=onednn), AVX2, 1 thread"
    monkeypatch.setenv("TSLLM_MATMUL", "auto")
    monkeypatch.setattr(matmul, "is_mkl_slow", lambda: True)
    assert describe_matmul() == "oneDNN (TSLLM_MATMUL=auto), AVX2, 1 thread"
    torch.set_num_threads(threads)


def test_without_onednn_the_module_loads_and_torch_computes(monkeypatch):
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    spec = importlib.util.spec_from_file_location("matmul_without_onednn", matmul.__file__)
    other = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(other)
    assert not other.has_onednn()
    monkeypatch.setenv("TSLLM_MATMUL", "auto")
    assert not other.uses_onednn()
    assert other.describe_matmul().startswith("torch (TSLLM_MATMUL=auto), ")
    monkeypatch.setenv("TSLLM_MATMUL", "onednn")
    with pytest.raises(ValueError, match=r"built without it; choose auto or torch"):
        other.fast_matmul()

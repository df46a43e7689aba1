"""Every parity case that lies in the golden folder; a case that cannot be built fails."""

import importlib
import pkgutil

import pytest
import torch

from tests.parity import adapters
from tests.parity.golden import FOLDER, find_cases, load_case

CASES = find_cases()
TOLERANCE = 1e-5


def _load_adapters():
    table = {}
    for module in pkgutil.iter_modules(adapters.__path__):
        loaded = importlib.import_module(f"{adapters.__name__}.{module.name}")
        table.update(loaded.ADAPTERS)
    return table


def find_adapter(table, key):
    """The adapter of a class; a class named with another module before it counts if there is one of that name only."""
    repo, path = key
    short = path.rpartition(".")[2]
    same = [adapter for (r, p), adapter in table.items() if r == repo and p.rpartition(".")[2] == short]
    return table.get(key, same[0] if len(same) == 1 else None)


@pytest.mark.skipif(not CASES, reason=f"no parity data in {FOLDER}; set TSLLM_GOLDEN")
@pytest.mark.parametrize("name", CASES or ["none"])
def test_our_side_equals_the_reference(name):
    case = load_case(name)
    adapter = find_adapter(_load_adapters(), case.key)
    assert adapter is not None, f"no adapter for {case.key}"
    ours = adapter(case)
    compared = sorted(set(ours) & set(case.outputs))
    assert compared, f"the adapter gave {sorted(ours)}, the case holds {sorted(case.outputs)}"
    for key in compared:
        want, got = case.outputs[key], ours[key].detach()
        assert got.shape == want.shape, f"{key}: shape {list(got.shape)}, expected {list(want.shape)}"
        if want.is_floating_point():
            torch.testing.assert_close(
                got.to(want.dtype), want, atol=TOLERANCE, rtol=TOLERANCE, msg=lambda m, k=key: f"{k}: {m}"
            )
        else:
            assert torch.equal(got.to(want.dtype), want), f"{key} differs"

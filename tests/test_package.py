import subprocess
import sys

import pytest

import tsllm


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_imports_nothing_heavy():
    heavy = ("torch", "transformers", "trl", "datasets", "statsforecast", "matplotlib", "pandas")
    assert run(f"import sys, tsllm; print([m for m in {heavy} if m in sys.modules])") == "[]"


@pytest.mark.parametrize(
    "order", ["import tsllm; from transformers import AutoModel", "from transformers import AutoModel; import tsllm"]
)
def test_auto_model_knows_our_models_after_the_import(order, tmp_path):
    tsllm.build_model("dlinear", context_length=24, prediction_length=6).save_pretrained(tmp_path)
    code = f"{order}; print(type(AutoModel.from_pretrained({str(tmp_path)!r})).__name__)"
    assert run(code).splitlines()[-1] == "DLinear"


def test_every_public_name_resolves():
    for name in tsllm.__all__:
        assert getattr(tsllm, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'TimeLLMs'"):
        tsllm.TimeLLMs  # noqa: B018


def test_layers_with_optional_parts_import_without_them():
    """Models, data and training must run on machines without trl, datasets and statsforecast."""
    code = """
import sys
for name in ("trl", "datasets", "statsforecast"):
    sys.modules[name] = None
import tsllm.models, tsllm.training.supervised, tsllm.training.fit, tsllm.data.sources, tsllm.rl.rewards
import tsllm.training.policy_trainer
print("fine")
"""
    assert run(code).splitlines()[-1] == "fine"

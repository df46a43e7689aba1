import resource
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from setuptools import Distribution

import tsllm


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


HEAVY = ("torch", "transformers", "peft", "trl", "datasets", "statsforecast", "matplotlib", "pandas", "scipy")


def find_loaded(statement, modules):
    """Returns which of `modules` a fresh process has loaded after `statement`."""
    return run(f"import sys\n{statement}\nprint([m for m in {modules} if m in sys.modules])").splitlines()[-1]


@pytest.mark.parametrize("statement", ["import tsllm", "import tsllm.cli.main"])
def test_importing_the_package_or_its_command_imports_nothing_heavy(statement):
    assert find_loaded(statement, HEAVY) == "[]"


def test_building_a_model_imports_neither_the_training_stacks_nor_the_data_ones():
    others = [m for m in HEAVY if m not in ("torch", "transformers", "scipy")]
    assert find_loaded("import tsllm; tsllm.build_model", others) == "[]"


@pytest.mark.parametrize(
    ("words", "limit"),
    [(["-c", "import tsllm"], 0.5), (["-m", "tsllm.cli.main", "--help"], 1.0)],
    ids=["import", "help"],
)
def test_the_package_and_its_help_start_at_once(words, limit):
    """Processor time of the new process in seconds, interpreter included; waiting on a busy machine does not count."""

    def spent():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = spent()
    subprocess.run([sys.executable, *words], capture_output=True, check=True)
    assert spent() - before < limit


# What trains, fine-tunes, downloads data, draws, searches or reads images; a forecast with a saved native model needs
# none of it.
NOT_FOR_FORECASTS = (
    "transformers.trainer", "transformers.training_args", "peft", "datasets", "trl", "statsforecast", "utilsforecast",
    "scipy", "matplotlib", "rich.progress", "transformers.modeling_layers", "transformers.processing_utils",
    "tsllm.training.trainer", "tsllm.evaluation", "tsllm.programs", "tsllm.text.loading", "tsllm.context.reader",
)  # fmt: skip


def test_a_forecast_with_a_saved_native_model_imports_what_it_needs(tmp_path):
    """The command from file to file: of our modules no more than these, of the libraries none that trains."""
    df = pd.DataFrame({"unique_id": "a", "ds": range(60), "y": [float(t % 6) for t in range(60)]})
    df.to_csv(tmp_path / "data.csv", index=False)
    options = {"context_length": 12, "moving_average": 3, "training": {"max_steps": 1}}
    tsllm.NeuralForecaster("dlinear", 6, **options).fit(df).save_pretrained(tmp_path / "model")
    words = ["tsllm", "predict", "model", str(tmp_path / "data.csv")]
    code = f"""
import gc, os, sys
from tsllm.cli.main import app
os.chdir({str(tmp_path)!r})
sys.argv = {[*words, "--output", str(tmp_path / "out.csv")]!r}
try:
    app()
except SystemExit as end:
    assert not end.code
loaded = set(sys.modules)
print([m for m in {NOT_FOR_FORECASTS} if m in loaded])
print(sum(m.startswith("tsllm.") for m in loaded), len(loaded))
print(gc.get_stats()[2]["collections"], gc.isenabled(), gc.get_freeze_count() > 100_000)
from transformers.loss.loss_for_object_detection import linear_sum_assignment
print(*linear_sum_assignment([[4, 1], [2, 9]])[1], "scipy.optimize" in sys.modules)
"""
    unwanted, counts, searches, assigned = run(code).splitlines()[-4:]
    assert unwanted == "[]"
    own, all_together = map(int, counts.split())
    assert own <= 161
    assert all_together < 3250  # 3,430 with what the libraries import for losses of images
    assert len(pd.read_csv(tmp_path / "out.csv")) == 6
    # Full searches for garbage go through every object; there were dozens while the libraries were imported.
    assert searches == "0 True True"
    assert assigned == "1 0 True", "what was left out must come once it is used"


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
from pathlib import Path
for name in ("trl", "datasets", "statsforecast"):
    sys.modules[name] = None
import tsllm.models, tsllm.training.build, tsllm.forecasting.neural, tsllm.data.sources, tsllm.rl.rewards
import tsllm.training.policy.trainer
print("fine")
"""
    assert run(code).splitlines()[-1] == "fine"


def test_the_built_package_says_that_it_is_typed(monkeypatch, tmp_path):
    root = Path(tsllm.__file__).parents[1]
    monkeypatch.chdir(root)
    built = Distribution({"script_name": "setup.py"})
    built.parse_config_files([str(root / "pyproject.toml")])
    built.get_command_obj("egg_info").egg_base = str(tmp_path)
    command = built.get_command_obj("build_py")
    command.ensure_finalized()
    files = {package: names for package, _, _, names in command.data_files if names}
    assert files["tsllm"] == ["py.typed"]

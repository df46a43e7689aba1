"""What can be known to fail before the first step of a comparison, without training and without loading weights."""

import json
from collections.abc import Sequence
from dataclasses import replace

from tsllm.data.facts import TrainingFacts, from_names
from tsllm.evaluation.config import CompareConfig
from tsllm.evaluation.leakage import check_saved_model
from tsllm.evaluation.prepare import PreparedTask
from tsllm.evaluation.space import build_space
from tsllm.forecasting.checks import check_forecaster, is_absent
from tsllm.forecasting.model_spec import ModelSpec, reads_covariates
from tsllm.forecasting.neural import NeuralForecaster
from tsllm.forecasting.roster import build_forecaster
from tsllm.forecasting.saved import find_base, find_members
from tsllm.forecasting.trained import check_channels
from tsllm.hub.ensemble import EnsembleSpec
from tsllm.hub.spec import ANY_FREQ, ForecasterSpec, find_file
from tsllm.hub.told import CONTEXT_FILE
from tsllm.models import find_model_class
from tsllm.models.timellm import TimeLLM
from tsllm.text.loading import fetch_folder
from tsllm.text.settings import SETTINGS
from tsllm.types import ID, TARGET


class Faults:
    """What is wrong with models on data; the same about several models is said once, with all their names."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], list[str]] = {}

    def add(self, where: str, model: str, error: Exception) -> None:
        """Notes what is wrong with a model on some data."""
        self._found.setdefault((where, str(error)), []).append(model)

    def refuse(self, what: str, others: Sequence[str] = ()) -> None:
        """Raises a ValueError with all of it, and `others` before it, if there is anything.

        Args:
            what: What cannot be run.
            others: Faults of no model.
        """
        of_models = [f"{where}: {', '.join(models)}: {text}" for (where, text), models in self._found.items()]
        if others or of_models:
            raise ValueError(f"the {what} cannot be run: {'; '.join(dict.fromkeys([*others, *of_models]))}")


def check_models(config: CompareConfig, tasks: Sequence[PreparedTask]) -> None:
    """Checks every model on every data set, as far as that goes without training and without loading weights.

    Raises:
        ValueError: Listing all faults.
    """
    faults, of_models = check_perturbed(config.models), Faults()
    for prepared in tasks:
        read: set[str] = set()
        asked = [*(prepared.entry.covariates or ()), *(prepared.entry.past_covariates or ())]
        if asked and not any(reads_covariates(spec) for spec in config.models):
            faults.append(
                f"{prepared.name}: the covariates {asked} are named, but none of the models reads any; leave them "
                "out, or add one that does (timexer, LEAR, StepRegression; timellm, AutoARIMA with covariates: true)"
            )
        if config.budget is not None and config.budget.kind == "convergence" and prepared.task.val_size == 0:
            faults.append(f"{prepared.name}: the budget ends by validation loss, but no steps are held for validation")
        for spec in config.models:
            try:
                check_forecaster(spec, prepared.task)
                _check_levels(spec, prepared, config)
                if config.tune is not None and spec.kind == "native" and spec.is_trainable and not spec.perturb:
                    build_space(spec, prepared.task, config.tune.search)
                # A look-back that fails in the search is left out and named.
                if not config.look_backs or spec.fixes_context or not spec.is_trainable:
                    key = _describe_reading(spec)
                    if key not in read:
                        check_on_data(spec, prepared)
                    read |= {key} if key else set()
            except (ImportError, ValueError, KeyError, TypeError, OSError) as error:
                if not is_absent(spec, error):
                    of_models.add(prepared.name, spec.name, error)
    of_models.refuse("comparison", faults)


def _check_levels(spec: ModelSpec, prepared: PreparedTask, config: CompareConfig) -> None:
    """Checks whether a model that is trained here could give the intervals.

    Raises:
        ValueError: If it has a point head and nothing to calibrate it on.
    """
    retrains = config.budget is not None and config.budget.retrain
    if not config.level or spec.kind != "native" or (prepared.task.val_size != 0 and not retrains):
        return
    heads = [spec.options.get("head", find_model_class(spec.model).config_class.head)]
    if config.tune is not None and isinstance(tried := config.tune.search.get("head"), list):
        heads = tried
    if "point" in heads:
        why = "retrain holds no steps to calibrate on" if retrains else "val_size is 0"
        way = "leave retrain out" if retrains else "give the data entry a val_size"
        raise ValueError(
            f"{spec.name} has a point head and {why}, so it gives no intervals; {way}, give the model another head "
            "(options: {head: quantile}), or ask for none (level: [])"
        )


def check_perturbed(models: Sequence[ModelSpec]) -> list[str]:
    """Returns what is wrong with models that perturb another one; they need its trained weights."""
    faults: list[str] = []
    before: dict[str, ModelSpec] = {}
    for spec in models:
        base = before.get(spec.variant_of)
        before[spec.name] = spec
        if not spec.perturb:
            continue
        if base is None:
            faults.append(f"{spec.name} perturbs {spec.variant_of!r}, which stands after it; put that one before")
        elif base.kind not in ("native", "few-shot") or base.perturb:
            faults.append(
                f"{spec.name} perturbs {base.name!r}, which is no model that is trained here ({base.kind}); name one"
            )
        elif spec.perturb == "prototypes" and not _may_have_prototypes(base):
            faults.append(f"{spec.name}: {base.name} has no prototypes to shuffle; perturb: input, or leave it out")
    return faults


def _describe_reading(spec: ModelSpec) -> str:
    """Returns how a model that is trained from the start reads the data; what reads alike is checked once."""
    if spec.kind != "native":
        return ""
    model_class = find_model_class(spec.model)
    fields = model_class.config_class.own_fields() - {"context_length"}
    options = {name: value for name, value in spec.options.items() if name not in fields}
    reads = model_class.reads_covariates(spec.options) if spec.covariates is None else spec.covariates
    return repr((sorted(options.items()), reads, bool(spec.perturb)))


def _may_have_prototypes(spec: ModelSpec) -> bool:
    return spec.kind != "native" or issubclass(find_model_class(spec.model), TimeLLM)


def check_on_data(spec: ModelSpec, prepared: PreparedTask) -> None:
    """Checks whether a model could read the series, and whether it has seen what it would be tested on.

    Raises:
        ValueError: If a training part is too short or not aligned, or a saved model is for other series.
        LeakageError: If it was trained on test windows.
    """
    if spec.kind in ("native", "few-shot") and not spec.perturb:
        made = build_forecaster(replace(spec, reader=""), prepared.task)
        assert isinstance(made, NeuralForecaster)
        made.check_data(prepared.training, prepared.task.h)
        check_saved_model(spec.name, made.trained_on, prepared.windows, prepared.loaded.name)
    if spec.kind == "saved":
        _check_saved_on(spec, prepared)


def _check_saved_on(spec: ModelSpec, prepared: PreparedTask) -> None:
    """Checks a saved model by its description alone; of an ensemble every member."""
    revision = spec.options.get("revision")
    source, name = spec.source, prepared.loaded.name
    if find_file(source, CONTEXT_FILE, revision) is not None:
        source, revision = find_base(fetch_folder(source, revision)), None
    settings = find_file(source, SETTINGS, revision)
    if settings is not None:
        read = json.loads(settings.read_text(encoding="utf-8"))
        data = read.get("data", {})
        facts = TrainingFacts.from_dict(data) if "reads" in data else from_names(data)
        check_saved_model(spec.name, facts, prepared.windows, name)
        if prepared.task.h > read.get("h", prepared.task.h):
            raise ValueError(f"it forecasts 1 to {read['h']} steps, the comparison asks for {prepared.task.h}")
        return
    several = EnsembleSpec.find(source, revision)
    if several is not None:
        options = {k: v for k, v in spec.options.items() if k not in ("revision", "token")}
        for member in find_members(source, several, revision):
            _check_saved_on(replace(spec, alias=spec.name, model=member, options=options), prepared)
        return
    saved = ForecasterSpec.load(source, revision)
    check_saved_model(spec.name, saved.data, prepared.windows, name)
    if saved.freq == ANY_FREQ:
        return
    series = list(prepared.training[ID].unique())
    if saved.layout == "multivariate":
        check_channels(prepared.training, saved.channels, spec.name)
    elif (spec.options.get("new_series") or saved.new_series) == "raise":
        known = {str(k) for k in saved.load_scaler().stats.get(TARGET, {})}
        lacking = [s for s in series if str(s) not in known]
        if lacking:
            raise ValueError(
                f"it never saw the series {lacking[:5]}; set options: {{new_series: history}}, or leave them out"
            )

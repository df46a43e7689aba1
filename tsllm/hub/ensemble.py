"""An ensemble as a folder: `forecaster.json` with its weights, and `members/0` ..., each an artefact of its own."""

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tsllm.backbones.trust import check_json
from tsllm.data.frequency import Freq, check_horizon, normalize_freq
from tsllm.data.names import ColumnNames
from tsllm.data.target import TargetScale
from tsllm.files import telling_damage, write_json
from tsllm.hub.record import CARD_FILE, write_card_file
from tsllm.hub.spec import ENSEMBLE, SPEC_FILE, check_alias, find_file
from tsllm.registry import refuse_unknown

FORMAT = 1
MEMBERS = "members"


@dataclass(frozen=True)
class EnsembleSpec:
    """What `forecaster.json` says of an ensemble.

    Attributes:
        alias: Name of the forecast column.
        members: Aliases of the members; the first lies in `members/0`.
        weights: One a member, from 0, together 1.
        h: Steps that a forecast has unless others are asked for.
        rule: How the weights were found: "validation", "equal" or "given".
        errors: Alias -> relative error on the validation windows; empty = none were needed.
        n_windows: Validation windows.
        freq: Frequency of the data; None = inferred.
        names: What the columns of the table are called (`ColumnNames.to_dict`).
        target_scale: How the target of all members is transformed (`TargetScale.to_dict`).
        kind: "ensemble".
        format: Version of this file.
    """

    alias: str
    members: list[str]
    weights: list[float]
    h: int
    rule: str = "validation"
    errors: dict[str, float] = field(default_factory=dict)
    n_windows: int = 3
    freq: Freq | None = None
    names: dict[str, str] = field(default_factory=dict)
    target_scale: dict[str, Any] = field(default_factory=dict)
    kind: str = ENSEMBLE
    format: int = FORMAT

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ValueError(f"format is {self.format!r}, this version reads {FORMAT}; update tsllm")
        check_alias(self.alias)
        for alias in self.members:
            check_alias(alias)
        if not self.members or len(set(self.members)) < len(self.members):
            raise ValueError(f"members are {self.members}; each has a name of its own")
        numbers = [float(weight) for weight in self.weights]
        good = all(math.isfinite(weight) and weight >= 0 for weight in numbers) and abs(sum(numbers) - 1) < 1e-6
        if len(numbers) != len(self.members) or not good:
            raise ValueError(f"weights are {self.weights}; {len(self.members)} numbers from 0 were due, together 1")
        check_horizon(self.h)
        if self.rule not in ("validation", "equal", "given"):
            raise ValueError(f"rule is {self.rule!r}; validation, equal and given are known")
        if not isinstance(self.n_windows, int) or isinstance(self.n_windows, bool) or self.n_windows < 1:
            raise ValueError(f"n_windows is {self.n_windows!r}; it is a number from 1")
        if self.freq is not None:
            normalize_freq(self.freq)
        ColumnNames.from_dict(self.names)
        TargetScale(**self.target_scale)

    @property
    def parts(self) -> list[str]:
        """Returns the members' folders within that of the ensemble, in order."""
        return [f"{MEMBERS}/{k}" for k in range(len(self.members))]

    def save(self, folder: Path) -> None:
        """Writes `forecaster.json`."""
        write_json(folder / SPEC_FILE, asdict(self))

    @classmethod
    def find(
        cls, source: str | Path, revision: str | None = None, token: str | bool | None = None
    ) -> "EnsembleSpec | None":
        """Reads the description of a folder or Hub repository; None if it is that of no ensemble.

        Raises:
            OSError: If it is damaged; the text names the file.
        """
        path = find_file(source, SPEC_FILE, revision, token)
        given = None if path is None else _read(path)
        if path is None or given is None or given.get("kind") != ENSEMBLE:
            return None
        with telling_damage(path, "save the ensemble again"):
            refuse_unknown(given, cls, "it", "alias", "members", "weights", "h")
            return cls(**given)


def _read(path: Path) -> Any:
    """Returns the object in a file; None where it is none, which whoever reads it next will tell."""
    try:
        return check_json(path)
    except OSError:
        return None


def write_ensemble_card(folder: Path, repo_id: str | None = None) -> None:
    """Writes `README.md` of an ensemble whose members have theirs.

    Args:
        folder: Of the ensemble.
        repo_id: Its place on the Hub; None = a folder.
    """
    from huggingface_hub import ModelCard, ModelCardData

    spec = EnsembleSpec.find(folder)
    assert spec is not None
    cards = [ModelCard.load(str(folder / part / CARD_FILE), ignore_metadata_errors=True) for part in spec.parts]
    said = [{k: v for k, v in card.data.to_dict().items() if k.startswith("license")} for card in cards]
    data = ModelCardData(
        model_name=spec.alias,
        library_name="tsllm",
        pipeline_tag="time-series-forecasting",
        tags=["time-series", "forecasting", "tsllm", "ensemble"],
        **(said[0] if all(one == said[0] for one in said) else {}),  # else the members' cards say theirs
    )
    rows = [f"| `{alias}` | {weight:.3f} | {_write_error(spec, alias)} | `{part}/` |"
            for alias, weight, part in zip(spec.members, spec.weights, spec.parts, strict=True)]  # fmt: skip
    how = {"validation": f"inverse to the squared error on {spec.n_windows} validation windows of {spec.h} steps"}
    how |= {"equal": "equal", "given": "as they were given"}
    text = f"""# {spec.alias}

The weighted mean of {len(spec.members)} forecasters of tsllm; weights are {how[spec.rule]}.

| member | weight | relative error | folder |
|---|---|---|---|
{chr(10).join(rows)}

```
tsllm predict {repo_id or "FOLDER"} data.csv
```

Each member's folder has a card of its own, which says what it was trained on.
"""
    write_card_file(folder, f"---\n{data.to_yaml()}\n---\n\n{text}")


def _write_error(spec: EnsembleSpec, alias: str) -> str:
    return f"{spec.errors[alias]:.3f}" if alias in spec.errors else "–"

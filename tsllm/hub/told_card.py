"""The card of a forecaster that is told something: what the folder is, how to use it, what travels with it."""

from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData

from tsllm.backbones.trust import check_json
from tsllm.hub.record import write_card_file
from tsllm.hub.spec import SPEC_FILE
from tsllm.hub.told import BASE, CONTEXT_FILE, READER, SPOKEN

_LICENCE = ("license", "license_name", "license_link")


def write_told_card(folder: Path, repo_id: str | None = None) -> None:
    """Writes `README.md` of a folder that holds `context.json` and `base/` with its own card.

    Args:
        folder: Of the told forecaster.
        repo_id: Its place on the Hub; None = a folder.
    """
    settings = check_json(folder / CONTEXT_FILE) or {}
    base = (check_json(folder / BASE / SPEC_FILE) or {}).get("alias", "a text forecaster")
    told = ModelCard.load(str(folder / BASE / "README.md"), ignore_metadata_errors=True).data.to_dict()
    data = ModelCardData(
        model_name=settings["alias"],
        library_name="tsllm",
        pipeline_tag="time-series-forecasting",
        tags=["time-series", "forecasting", "tsllm", "context"],
        **{name: told[name] for name in _LICENCE if name in told},
    )
    place = repo_id or "FOLDER"
    spoken = ""
    if SPOKEN in settings["readers"]:
        spoken = f"\n`{READER}/README.md` says what the language model that reads was trained on."
    text = f"""# {settings["alias"]}

A forecaster of tsllm that reads texts: `{base}` in `{BASE}/`, changed where a text speaks.
Reader: {" and then ".join(settings["readers"])}. Texts kept in `{CONTEXT_FILE}`: {count_texts(folder)}.

```
tsllm predict {place} data.csv --context "The plant is closed from 2024-01-11 08:00 to 2024-01-11 14:00."
```

`{BASE}/README.md` says what the base was trained on and how well it forecasts.{spoken}
"""
    write_card_file(folder, f"---\n{data.to_yaml()}\n---\n\n{text}")


def count_texts(folder: Path) -> int:
    """Returns how many texts a told forecaster's folder keeps; 0 for any other folder."""
    if not (folder / CONTEXT_FILE).is_file():
        return 0
    texts = (check_json(folder / CONTEXT_FILE) or {}).get("texts")
    return 1 if isinstance(texts, str) else len(texts or ())

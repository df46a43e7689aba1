"""The client side of the Hub tests: run as a program, because the Hub's address is read when the library is imported.

Its arguments are scenarios; it prints one JSON object: scenario -> what happened.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import pandas as pd
import pytest
import torch
from huggingface_hub import HfApi, snapshot_download
from peft import AutoPeftModelForCausalLM
from transformers import AutoModel
from transformers.utils import logging as library_logging
from typer.testing import CliRunner

import tsllm
from tests.fixtures.artefacts import make_text_artefact
from tests.fixtures.backbones import save_tiny_backbone
from tests.hub.fake_hub import READER, WRITER
from tsllm.cli.main import app
from tsllm.context.parser import read_by_rules
from tsllm.context.reader import LearnedReader, ReaderConfig, ReaderHead
from tsllm.context.readers import read_in_turn
from tsllm.forecasting.readers import open_encoder, open_reader
from tsllm.forecasting.saved import open_saved
from tsllm.forecasting.spoken import SpokenReader, SpokenSettings
from tsllm.forecasting.text import TextForecaster
from tsllm.hub.package import push_package
from tsllm.hub.spec import ANY_FREQ, ForecasterSpec
from tsllm.hub.text_card import write_text_card
from tsllm.models import build_model
from tsllm.models.dlinear import DLinear
from tsllm.models.timellm import TimeLLM, TimeLLMConfig
from tsllm.text.loading import fetch_folder

library_logging.disable_progress_bar()
PAST = torch.linspace(-1, 1, 96).view(2, 48, 1)


def build_dlinear(seed):
    torch.manual_seed(seed)
    return build_model("dlinear", context_length=48, prediction_length=12).eval()


def difference(first, second):
    with torch.no_grad():
        return float((first(past_values=PAST).predictions - second(past_values=PAST).predictions).abs().max())


def catch(function):
    """Returns kind and text of the error that `function` raises, or None."""
    try:
        function()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def revisions():
    first, second = build_dlinear(0), build_dlinear(1)
    old = first.push_to_hub("user/dlinear", private=True, token=WRITER).rpartition("/")[2]
    second.push_to_hub("user/dlinear", token=WRITER)
    return {
        "newest": difference(second, DLinear.from_pretrained("user/dlinear", token=READER)),
        "old": difference(first, DLinear.from_pretrained("user/dlinear", revision=old, token=READER)),
        "auto": difference(second, AutoModel.from_pretrained("user/dlinear", token=READER)),
        "differ": difference(first, second),
    }


def errors(folder):
    load = DLinear.from_pretrained
    fresh = str(Path(folder) / "empty_cache")
    return {
        "missing_repository": catch(lambda: load("user/nowhere", token=READER)),
        "missing_revision": catch(lambda: load("user/dlinear", revision="v9", token=READER)),
        "no_token": catch(lambda: load("user/dlinear", token=False, cache_dir=fresh)),
        "read_only_push": catch(lambda: build_dlinear(0).push_to_hub("user/dlinear", token=READER)),
        "pickle_only": catch(lambda: load("user/pickles", token=READER)),
        "truncated_file": catch(lambda: load("user/truncated", token=READER)),
    }


def interrupted():
    return {
        "recovered": difference(build_dlinear(2), DLinear.from_pretrained("user/flaky", token=READER)),
    }


def package(folder):
    artefacts = Path(folder) / "package"
    build_dlinear(3).save_pretrained(artefacts)
    (artefacts / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A forecaster\n")
    (artefacts / "metrics.json").write_text("{}")
    (artefacts / "checkpoint-5").mkdir()
    (artefacts / "checkpoint-5" / "model.safetensors").write_bytes(b"not for travel")
    url = push_package(artefacts, "user/package", private=True, token=WRITER)
    (artefacts / "README.md").unlink()
    again = Path(snapshot_download("user/package", token=READER))
    return {
        "url": url,
        "incomplete": catch(lambda: push_package(artefacts, "user/package", token=WRITER)),
        "files": sorted(str(p.relative_to(again)) for p in again.rglob("*") if p.is_file()),
        "difference": difference(build_dlinear(3), DLinear.from_pretrained("user/package", token=READER)),
    }


def pinned_backbone(folder):
    """The adapter names the commit of its backbone, and gets just that one although the repository moved on."""
    api = HfApi(token=WRITER)
    api.create_repo("user/tiny-gpt2")
    save_tiny_backbone(Path(folder) / "llm", seed=0)
    first = api.upload_folder(repo_id="user/tiny-gpt2", folder_path=Path(folder) / "llm").oid
    torch.manual_seed(0)
    config = TimeLLMConfig(
        backbone="user/tiny-gpt2", num_backbone_layers=2, context_length=48, prediction_length=12, num_prototypes=8,
        d_model=8, d_ff=8, num_heads=2,
    )  # fmt: skip
    model = TimeLLM(config).eval()
    model.push_to_hub("user/adapter", token=WRITER)
    save_tiny_backbone(Path(folder) / "llm2", seed=7)
    api.upload_folder(repo_id="user/tiny-gpt2", folder_path=Path(folder) / "llm2")
    loaded = TimeLLM.from_pretrained("user/adapter")
    moved = catch(lambda: TimeLLM.from_pretrained("user/adapter", config=_unpinned()))
    return {
        "pinned": loaded.config.backbone_revision == first,
        "difference": difference(model, loaded),
        "moved": moved,
        "gone": catch(lambda: TimeLLM(TimeLLMConfig(backbone="user/no-such-model", num_prototypes=8))),
    }


def text_adapter(folder):
    """A text adapter trained on a language model of the Hub, which then moves on."""
    api, root = HfApi(token=WRITER), Path(folder) / "text"
    root.mkdir()
    api.create_repo("user/tiny-llm")
    save_tiny_backbone(root / "llm", "llama")
    first = api.upload_folder(repo_id="user/tiny-llm", folder_path=root / "llm").oid
    local = make_text_artefact(root, "user/tiny-llm", test_windows=0)
    write_text_card(local, recipe="sft_text", repo_id="user/text")
    api.upload_folder(repo_id="user/tiny-llm", folder_path=save_tiny_backbone(root / "other", "llama", seed=7))
    commit = push_package(local, "user/text", private=True, token=WRITER).rpartition("/")[2]
    push_package(local, "user/secret", private=True, token=WRITER)
    settings = local / "adapter_config.json"
    pinned = json.loads(settings.read_text())
    expected = compute_logits(TextForecaster.from_pretrained(local).model)
    settings.write_text(json.dumps(pinned | {"revision": "main"}))
    push_package(local, "user/moved", token=WRITER)
    load = TextForecaster.from_pretrained
    loaded = {
        "newest": load("user/text", token=READER).model,
        "of_commit": load("user/text", revision=commit, token=READER).model,
        "peft": AutoPeftModelForCausalLM.from_pretrained("user/text", token=READER).eval(),
    }
    return {
        "pinned": pinned["revision"] == first,
        "differences": {name: float((compute_logits(m) - expected).abs().max()) for name, m in loaded.items()},
        "size": float(expected.abs().max()),
        "errors": {
            "moved_base": catch(lambda: load("user/moved")),
            "missing_repository": catch(lambda: load("user/nowhere", token=READER)),
            "missing_revision": catch(lambda: load("user/text", revision="v9", token=READER)),
            "no_token": catch(lambda: load("user/secret", token=False)),
            "read_only_push": catch(lambda: push_package(local, "user/text", token=READER)),
            "no_adapter": catch(lambda: load("user/tiny-llm")),
            "pickle_only": catch(lambda: load("user/text-pickles", token=READER)),
        },
    }


def forecasters(folder):
    """Every kind of forecaster that can be saved, pushed from Python and loaded from there."""
    root = Path(folder)
    df = pd.DataFrame({"shop": "a", "day": range(60), "sold": [float(t % 7) for t in range(60)]})
    small = {"context_length": 14, "moving_average": 3, "training": {"max_steps": 1}}
    neural = tsllm.NeuralForecaster("dlinear", 7, id_col="shop", time_col="day", target_col="sold", **small).fit(df)
    url = neural.push_to_hub("user/neural", private=True, token=WRITER, licence="cc-by-4.0")
    no_token = catch(lambda: tsllm.NeuralForecaster.from_pretrained("user/neural", token=False))
    back = tsllm.NeuralForecaster.from_pretrained("user/neural", token=READER)
    neural.save_pretrained(root / "saved")
    tsllm.push_to_hub(root / "saved", "user/saved", token=WRITER)
    torch.manual_seed(0)
    any_series = build_model(
        "patchcast", context_length=32, prediction_length=8, head="quantile", quantile_levels=[0.1, 0.5, 0.9],
        d_model=16, num_layers=1, num_heads=2, d_ff=16,
    )  # fmt: skip
    spec = ForecasterSpec("PatchCast", ANY_FREQ, layout="univariate")
    zero = tsllm.ZeroShotForecaster(any_series, spec, freq=1)
    zero.push_to_hub("user/zero", token=WRITER)
    plain = df.rename(columns={"shop": "unique_id", "day": "ds", "sold": "y"})
    zero_back = tsllm.ZeroShotForecaster.from_pretrained("user/zero", freq=1)
    (root / "words").mkdir()
    written = make_text_artefact(root / "words", test_windows=0)
    write_text_card(written, recipe="sft_text")
    text = TextForecaster.from_pretrained(written)
    text.push_to_hub("user/words", token=WRITER, licence="mit")
    words = TextForecaster.from_pretrained("user/words")
    told, told_folder = make_told(root, tsllm.NeuralForecaster("dlinear", 7, **small))
    told.push_to_hub("user/told", private=True, token=WRITER, licence="cc-by-4.0")
    expected = told.predict(level=[50])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", WRITER)
        said = CliRunner().invoke(app, ["push", str(told_folder), "user/told-folder", "--licence", "mit"]).output
    spoken = make_spoken(root, written, told)
    spoken.push_to_hub("user/spoken", token=WRITER, licence="mit")
    tsllm.push_to_hub(root / "speaks", "user/speaks", token=WRITER, licence="apache-2.0")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", READER)
        heard = {"spoken": open_saved("user/spoken").reader, "speaks": open_reader("user/speaks").read}
        spoken_back = open_saved("user/spoken").predict(spoken._history)
    logits = compute_logits(spoken.reader.model)
    with spoken.reader.model.disable_adapter():
        without = compute_logits(spoken.reader.model)
    ensemble = tsllm.Ensemble([neural], "both", weights="equal").name_columns("shop", "day", "sold").fit(df, h=7)
    ensemble.push_to_hub("user/both", private=True, token=WRITER, licence="mit")
    both = tsllm.Ensemble.from_pretrained("user/both", token=READER)
    stranger = catch(lambda: open_saved("user/told", token=False))
    again = {name: open_saved(f"user/{name}", token=READER) for name in ("told", "told-folder")}
    return {
        "told": {
            name: float(abs(f.predict(told._history, level=[50])["told"] - expected["told"]).max())
            for name, f in again.items()
        },
        "ensemble": float(abs(both.predict(df)["both"] - ensemble.predict(df)["both"]).max()),
        "spoken": {n: float((compute_logits(r.model) - logits).abs().max()) for n, r in heard.items()},
        "spoken_adapts": float((logits - without).abs().max()),
        "spoken_said": [r.say(["median 2 up"]) for r in (spoken.reader, *heard.values())],
        "spoken_forecast": float(abs(spoken_back["told"] - spoken.predict()["told"]).max()),
        "told_zeros": int((expected["told"] == 0).sum()),
        "told_said": said,
        "told_stranger": stranger,
        "commit": url.rpartition("/")[2],
        "neural": abs(back.predict(df)["DLinear"] - neural.predict()["DLinear"]).max(),
        "columns": list(back.predict(df).columns),
        "licence": back.licence,
        "no_token": no_token,
        "zero": abs(zero_back.predict(plain)["PatchCast"] - zero.predict(plain)["PatchCast"]).max(),
        "text": float((compute_logits(words.model) - compute_logits(text.model)).abs().max()),
        "naive": catch(lambda: tsllm.SeasonalNaive(7).push_to_hub("user/naive", token=WRITER)),
        "wrong_licence": catch(lambda: neural.push_to_hub("user/neural", token=WRITER, licence="Apache 2.0")),
    }


def make_told(root, base):
    """A forecaster that is told of a closed day, with a reader on a language model in a folder; and its folder."""
    df = pd.DataFrame(
        {"unique_id": "a", "ds": pd.date_range("2024", periods=60), "y": [float(t % 7) for t in range(60)]}
    )
    encoder = open_encoder(save_tiny_backbone(root / "reads", "llama", layers=1), "pretrained", 1, cache_gb=0)
    torch.manual_seed(0)
    sizes = {"num_backbone_layers": 1, "hidden_size": encoder.width, "d_model": 8, "num_members": 1}
    head = ReaderHead(ReaderConfig(str(root / "reads"), fingerprint=encoder.fingerprint, **sizes))
    reader = read_in_turn(read_by_rules, LearnedReader(encoder, head).read)
    news = {"a": "The shop is closed on 2024-03-03: sales are 0."}
    told = tsllm.ContextForecaster(base, reader, alias="told", context=news, timeless=True).fit(df, 7)
    told.save_pretrained(root / "told")
    (root / "told" / "checkpoint-1").mkdir()
    (root / "told" / "base" / "notes.py").write_text("")
    return told, root / "told"


def make_spoken(root, written, told):
    """The same, with a language model that says effects as its reader; the adapter's own folder is `speaks`."""
    folder = shutil.copytree(written, root / "speaks")
    base = json.loads((folder / "text_forecaster.json").read_text())["base"]
    (folder / "text_forecaster.json").unlink()
    SpokenSettings(8, base, constrained=False).save(folder)
    reader = SpokenReader.from_pretrained(folder)
    return tsllm.ContextForecaster(told.base, reader, alias="told", context=told.context, timeless=True).fit(
        told._history, 7
    )


def compute_logits(model):
    with torch.no_grad():
        return model(torch.tensor([[5, 6, 7, 8]])).logits


def interrupted_text():
    found = fetch_folder("user/flaky-text", token=READER)
    return {"files": {p.name: p.stat().st_size for p in found.iterdir()}}


def _unpinned():
    config = TimeLLMConfig.from_pretrained("user/adapter")
    config.backbone_revision = "main"
    return config


def models(folder):
    return {
        "revisions": revisions(),
        "errors": errors(folder),
        "package": package(folder),
        "pinned": pinned_backbone(folder),
    }


SCENARIOS = {
    "models": models,
    "text": text_adapter,
    "forecasters": forecasters,
    "interrupted": lambda folder: interrupted(),
    "interrupted_text": lambda folder: interrupted_text(),
    "gives_up": lambda folder: {"given_up": catch(interrupted)},
}


def main():
    result = {}
    for name in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as folder:
            result[name] = SCENARIOS[name](folder)
    print(json.dumps(result))


if __name__ == "__main__":
    main()

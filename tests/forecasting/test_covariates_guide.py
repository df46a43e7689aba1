"""The guide to covariates and texts runs, block after block, on a tiny language model in place of SmolLM2."""

import shlex
from pathlib import Path

import pandas as pd
from typer.testing import CliRunner

from tests.docs.pages import read_blocks, read_lines
from tests.fixtures.backbones import save_tiny_backbone
from tsllm.cli.main import app

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "covariates.md"


def test_the_guide_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("TSLLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    backbone = save_tiny_backbone(tmp_path / "llama", "llama", layers=8, width=32)
    blocks = [block for block in read_blocks(GUIDE) if block.language == "python"]
    assert len(blocks) == 3
    session: dict = {}
    for block in blocks:
        exec(block.text.replace("smollm2-135m", backbone), session)
    assert session["forecaster"].model.config.reader == "horizon"
    assert session["forecaster"].model.config.num_known_covariates == 1
    assert session["forecast"]["ds"].tolist() == session["ahead"]["ds"].tolist()
    assert not session["told"]["TimeLLM"].equals(session["silent"]["TimeLLM"])
    pd.testing.assert_frame_equal(session["silent"], session["reader"].predict(context={}), check_exact=True)


SHORT = "--context-length 48 --steps 2 --set patch_length=24 --set patch_stride=24 --set num_backbone_layers=2"


def test_the_commands_on_texts_run_one_after_another(tmp_path, monkeypatch):
    """On a look-back and a training that are shorter than the default ones."""
    monkeypatch.setenv("TSLLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    backbone = save_tiny_backbone(tmp_path / "llama", "llama", layers=8, width=32)
    hours = pd.date_range("2024-01-01", periods=30 * 24, freq="h")
    df = pd.DataFrame({"unique_id": "plant", "ds": hours, "y": 10.0 + hours.hour})
    days = pd.date_range("2024-01-01", periods=30)
    news = pd.DataFrame({"unique_id": "plant", "text": "The plant is closed until 14:00.", "start": days})
    news["end"], news["published"] = news["start"] + pd.Timedelta("14h"), news["start"] - pd.Timedelta("12h")
    files, commands = read_blocks(GUIDE)[-3:-1]
    exec(files.text, {"df": df, "history": df.head(-24), "news": news})
    printed = []
    for words in read_lines(commands.text.replace("smollm2-135m", backbone)):
        result = CliRunner().invoke(app, [*words[1:], *(shlex.split(SHORT) if words[1] == "fit" else ())])
        assert result.exit_code == 0, (words, result.output)
        printed.append(result.output)
    assert "texts read for plant" in printed[1]
    assert "later.csv: 1 window of 24 steps, 1 series" in printed[2]

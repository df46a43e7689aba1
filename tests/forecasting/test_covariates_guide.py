"""The guide to covariates and texts runs, block after block, on a tiny language model in place of SmolLM2."""

import re
from pathlib import Path

import pandas as pd

from tests.fixtures.backbones import save_tiny_backbone

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "covariates.md"


def test_the_guide_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("TSLLM_CACHE", str(tmp_path / "cache"))
    backbone = save_tiny_backbone(tmp_path / "llama", "llama", layers=8, width=32)
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    session: dict = {}
    for block in blocks:
        assert "smollm2-135m" in block
        exec(block.replace("smollm2-135m", backbone), session)
    assert session["forecaster"].model.config.reader == "horizon"
    assert session["forecaster"].model.config.num_known_covariates == 1
    assert session["forecast"]["ds"].tolist() == session["ahead"]["ds"].tolist()
    assert not session["told"]["TimeLLM"].equals(session["silent"]["TimeLLM"])
    pd.testing.assert_frame_equal(session["silent"], session["reader"].predict(context={}), check_exact=True)

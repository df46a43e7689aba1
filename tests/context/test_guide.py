"""The guide "Tell the model what you know" runs, block after block, in one session."""

import re
from pathlib import Path

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "context.md"


def test_the_guide_runs():
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 9
    session: dict = {}
    for block in blocks:
        exec(block, session)
    forecast = session["forecast"].set_index("ds")["SeasonalNaive+context"]
    assert (forecast["2024-01-11 08:00":"2024-01-11 13:00"] == 0).all()
    assert forecast["2024-01-11 14:00"] == session["load"][-10]

"""The picture of a sentence that is told: what is said, and what is drawn."""

import re

import pandas as pd
import pytest

from tsllm.context.effects import Effect
from tsllm.forecasting.explanation import Explanation
from tsllm.programs.context_demo import ShortWriter, Told, draw_told, plot_told, write_sentence

AHEAD = pd.date_range("2024-01-03", periods=24, freq="h")


@pytest.fixture
def told():
    before = pd.DataFrame({"ds": AHEAD, "before": 80.0})
    said = write_sentence(before, "before")
    spoken = {"pretrained": Effect("cap", 60.0), "spectrum": Effect("add", 60.0)}
    after = {"pretrained": 60.0, "spectrum": 140.0}
    return [
        Told(name, said, Explanation("BE", said.text, [effect], before.assign(after=after[name])), 1.0)
        for name, effect in spoken.items()
    ]


def test_the_sentence_limits_the_middle_of_the_day_in_words_that_training_never_saw(told):
    said = told[0].said
    assert said.text == "Starting at 2024-01-03 08:00 for 12 hours, price must not go above 60."
    assert (said.limit, said.start, said.end) == (60, AHEAD[8], AHEAD[20])
    writer = ShortWriter(0, wide=True)
    texts = " ".join(writer.write().text.lower() for _ in range(600))
    assert "must not exceed" in texts or "at most" in texts  # limits are told, in other words
    assert "must not go above" not in texts
    assert re.search(r"starting at [^.]{0,40} for \w+ hours", texts) is None


def test_both_panels_show_one_scale_and_what_was_understood(told, tmp_path):
    times = pd.date_range("2024-01-01", periods=48, freq="h")
    df = pd.DataFrame({"unique_id": "BE", "ds": times, "y": 50.0})
    draw_told(df, told, tmp_path / "made" / "told.png")
    assert (tmp_path / "made" / "told.png").stat().st_size > 10_000
    left, right = plot_told(df, told, "price, EUR/MWh", 24).axes
    assert left.get_ylim() == right.get_ylim()
    assert left.get_title() == "A reader on SmolLM2 understood:\ncap 60"
    assert "random weights (same spectrum) understood:\nadd 60" in right.get_title()
    lines = {line.get_label(): line.get_ydata() for line in right.lines}
    assert set(lines) == {"history", "forecast without it", "forecast with it"}
    assert (len(lines["history"]), lines["forecast with it"][0], lines["forecast without it"][0]) == (24, 140, 80)
    assert left.get_ylabel() == "BE: price, EUR/MWh"

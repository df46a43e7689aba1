"""Comparisons in which models are told something."""

import numpy as np
import pandas as pd
import pytest

from tsllm.evaluation.compare import run_compare
from tsllm.evaluation.config import CompareConfig
from tsllm.forecasting.context import ContextForecaster
from tsllm.forecasting.model_spec import ModelSpec, tell_spec
from tsllm.forecasting.naive import SeasonalNaive
from tsllm.types import FrameError

HELD = "The output is held at 777 from 2024-01-05 00:00 to 2024-01-08 00:00."
TOLD = {"model": "SeasonalNaive", "reader": "rules"}


@pytest.fixture
def make(tmp_path):
    times = pd.date_range("2024", periods=140, freq="h")
    y = 10 + 3 * np.sin(np.arange(140) * 2 * np.pi / 24) + np.random.default_rng(0).normal(size=140)
    parts = [pd.DataFrame({"unique_id": name, "ds": times, "y": y + k}) for k, name in enumerate("ab")]
    pd.concat(parts).to_csv(tmp_path / "series.csv", index=False)

    def run(*models, **entry):
        data = {"name": str(tmp_path / "series.csv"), "h": 6, "n_windows": 4} | entry
        return CompareConfig([data], list(models), level=[80], output_dir=str(tmp_path / "out"))

    return run


def write_news(tmp_path, published="2024-01-06 01:00", text=HELD):
    path = tmp_path / "news.csv"
    pd.DataFrame({"unique_id": ["a"], "text": [text], "published": [published]}).to_csv(path, index=False)
    return str(path)


def test_a_told_model_stands_beside_the_plain_one_and_reads_what_was_published(make, tmp_path):
    """The canary: a text that tells the future, published later, moves no earlier forecast."""
    config = make("SeasonalNaive", TOLD, context=write_news(tmp_path))
    (result,) = run_compare(config)
    frame = result.runs[0].frame
    told, plain = frame["SeasonalNaive+context"], frame["SeasonalNaive"]
    knows = ((frame["unique_id"] == "a") & (frame["cutoff"] >= "2024-01-06 01:00")).to_numpy()
    assert knows.sum() == 18
    for column in ("", "-lo-80", "-hi-80"):
        after, before = frame["SeasonalNaive+context" + column], frame["SeasonalNaive" + column]
        assert (after[knows] == 777).all()
        assert np.array_equal(after[~knows], before[~knows])
    assert not (plain == 777).any()
    assert told.notna().all()


def test_other_texts_make_other_cells_and_the_plain_ones_stay(make, tmp_path):
    said: list[str] = []
    run_compare(make("SeasonalNaive", TOLD, context=write_news(tmp_path)))
    run_compare(make("SeasonalNaive", TOLD, context=write_news(tmp_path)), said.append)
    assert said == []
    (result,) = run_compare(make("SeasonalNaive", TOLD, context=write_news(tmp_path, text=HELD.replace("777", "5"))),
                            said.append)  # fmt: skip
    assert said
    assert all("SeasonalNaive+context" in line for line in said)
    assert (result.runs[0].frame["SeasonalNaive+context"] == 5).sum() == 18


def test_a_trained_model_is_told_and_its_base_is_kept(make, tmp_path):
    dlinear = {
        "model": "dlinear",
        "options": {"context_length": 12, "moving_average": 3},
        "training": {"max_steps": 2},
    }
    config = make("SeasonalNaive", dlinear, dlinear | {"reader": "rules"}, context=write_news(tmp_path), val_size=18)
    (result,) = run_compare(config)
    frame = result.runs[0].frame
    knows = ((frame["unique_id"] == "a") & (frame["cutoff"] >= "2024-01-06 01:00")).to_numpy()
    assert (frame.loc[knows, "DLinear+context"] == 777).all()
    assert np.array_equal(frame.loc[~knows, "DLinear+context"], frame.loc[~knows, "DLinear"])
    assert (result.folders["DLinear+context"] / "forecaster.json").is_file()


def test_options_without_effect_and_texts_that_do_not_fit_are_errors(make, tmp_path):
    news = write_news(tmp_path)
    for models, entry, message in (
        (["SeasonalNaive"], {"context": news}, "has context, but no model has a reader"),
        (["SeasonalNaive", TOLD], {}, "has a reader, but no data entry has context"),
        (["SeasonalNaive", TOLD], {"timeless": True}, "timeless has no effect without context"),
    ):
        with pytest.raises(ValueError, match=message):
            make(*models, **entry)
    undated = {"a": HELD}
    with pytest.raises(FrameError, match=r"series\.csv: .*does not say when it was published"):
        run_compare(make("SeasonalNaive", TOLD, context=undated))
    assert len(run_compare(make("SeasonalNaive", TOLD, context=undated, timeless=True))) == 1
    with pytest.raises(FrameError, match=r"series\.csv: .*series 'c', which the data do not hold"):
        run_compare(make("SeasonalNaive", TOLD, context={"c": HELD}, timeless=True))
    with pytest.raises(ValueError, match="holds no reader"):
        run_compare(make("SeasonalNaive", TOLD | {"reader": str(tmp_path)}, context=news))
    with pytest.raises(ValueError, match="a perturbed model reads no texts"):
        make("SeasonalNaive", TOLD, {"model": "timellm", "perturb": "input", "variant": "x", "variant_of": "TimeLLM",
                                     "alias": "p", "reader": "rules"}, context=news)  # fmt: skip


def test_a_model_is_told_for_every_later_fit():
    made = ContextForecaster(SeasonalNaive(1))
    assert made.tell("x", True) is made
    assert (made.context, made.texts, made.timeless) == ("x", "x", True)


@pytest.mark.parametrize(
    ("spec", "reader"),
    [
        (ModelSpec("SeasonalNaive"), "rules"),
        (ModelSpec("dlinear"), "rules"),
        (ModelSpec("dlinear", options={"text_layers": 8, "text_backbone": "smollm2-135m"}), "model"),
        (ModelSpec("text", options={"language_model": "smollm2-135m"}), "model"),
        (ModelSpec("tests.fixtures.Own"), "rules"),
    ],
)
def test_a_model_reads_by_itself_where_it_can_and_nobody_else_is_named(spec, reader):
    told = tell_spec(spec)
    assert (told.name, told.reader) == (f"{spec.name}+context", reader)
    assert tell_spec(spec, "runs/reader").reader == "runs/reader"

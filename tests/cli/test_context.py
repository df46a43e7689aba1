"""`--context` of `tsllm predict` and `tsllm backtest`: what is known, on the command line."""

import re

import numpy as np
import pandas as pd
import pytest

import tsllm.forecasting.readers
from tests.cli.running import run
from tsllm.context.parser import read_by_rules
from tsllm.context.reading import Reading

CLOSED = "The mill is closed from 2024-01-11 08:00 to 2024-01-11 14:00."
HELD = "The output is held at 777 from 2024-01-10 00:00 to 2024-01-11 00:00."
PREDICT = ("predict", "SeasonalNaive", "load.csv", "--h", 24)
BACKTEST = ("backtest", "load.csv", "--models", "SeasonalNaive,Naive", "--h", 24, "--n-windows", 3)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A folder with ten days of two series, up to 2024-01-10 23:00, in which the commands run."""
    monkeypatch.chdir(tmp_path)
    y = 20 + 5 * np.sin(np.arange(240) * 2 * np.pi / 24) + np.random.default_rng(0).normal(size=240)
    times = pd.date_range("2024", periods=240, freq="h")
    pd.DataFrame({"date": times, "north": y, "south": 2 * y}).to_csv("load.csv", index=False)
    return tmp_path


def write_news(*rows, columns=("unique_id", "text", "published")):
    pd.DataFrame(rows, columns=columns).to_csv("news.csv", index=False)
    return "news.csv"


def forecast(*arguments, plain="SeasonalNaive"):
    """What the command says, the forecasts told and plain, and where they differ: series and hours."""
    said = run(*PREDICT, *arguments, "--output", "told.csv")
    run(*PREDICT, "--output", "plain.csv")
    told, base = pd.read_csv("told.csv", parse_dates=["ds"]), pd.read_csv("plain.csv", parse_dates=["ds"])
    changed = (told["SeasonalNaive+context"] != base[plain]).to_numpy()
    return said, told[changed]


def test_a_text_changes_exactly_the_steps_that_it_names():
    said, changed = forecast("--context", CLOSED)
    assert changed.groupby("unique_id")["ds"].apply(lambda ds: ds.dt.hour.tolist()).to_dict() == {
        "north": [8, 9, 10, 11, 12, 13],
        "south": [8, 9, 10, 11, 12, 13],
    }
    assert (changed["SeasonalNaive+context"] == 0).all()
    shown = f"north, south: {CLOSED}\n  -> set 0 from 2024-01-11 08:00 to 2024-01-11 14:00\n"
    assert said.startswith(shown)
    screen = run(*PREDICT, "--context", CLOSED)
    assert screen.startswith(shown)
    assert "SeasonalNaive+context: 48 rows" in screen


def test_a_text_that_names_one_series_changes_that_alone(caplog):
    text = CLOSED.replace("mill", "mill in the south")
    said, changed = forecast("--context", text)
    assert changed["unique_id"].tolist() == ["south"] * 6
    assert said.startswith(f"south: {text}\n  -> set 0 from")
    assert "the text names series 'south', so it is read for 1 of 2 series" in caplog.text
    run("fit", "load.csv", "--model", "dlinear", "--context-length", 24, "--h", 24, "--steps", 2,
        "--set", "moving_average=5", "--context", text, "--timeless", "--output-dir", "told")  # fmt: skip
    run("predict", "told", "load.csv", "--output", "told.csv")
    told = pd.read_csv("told.csv")
    assert told.loc[told["DLinear+context"] == 0, "unique_id"].tolist() == ["south"] * 6
    said = run(*PREDICT, "--context", text.replace("in the south", "and all but south"), code=2)
    assert "excepts series 'south'" in said


def test_a_table_is_read_by_its_series_and_what_comes_later_is_told():
    news = write_news(("south", CLOSED, "2024-01-09"), ("north", "It is held at 1.", "2024-02-01"), ("south", "", ""))
    said, changed = forecast("--context", news)
    assert set(changed["unique_id"]) == {"south"}
    assert changed["ds"].dt.hour.tolist() == [8, 9, 10, 11, 12, 13]
    assert "south: The mill is closed" in said
    assert "1 of 2 texts not read: published after the end of the data" in said
    assert "north" not in said


def test_a_text_that_says_nothing_changes_nothing():
    said, changed = forecast("--context", "The town has 12,000 inhabitants.")
    assert changed.empty
    assert "-> (changes nothing: no sentence was understood" in said
    advised = re.search(r"such as '(.*?)' or '(.*?)'", said)
    assert (forecast("--context", advised[1])[1]["unique_id"].value_counts() == 24).all()
    assert len(forecast("--context", advised[2])[1]) > 10
    assert forecast("--context", "")[1].empty


def test_the_reader_of_a_folder_reads(monkeypatch, place):
    class Deaf:
        encoder = type("Encoder", (), {"check_length": staticmethod(lambda text, name: None)})

        def read(self, text):
            return Reading.open(text)

    asked = []
    monkeypatch.setattr(tsllm.forecasting.readers, "load_reader", lambda folder: asked.append(str(folder)) or Deaf())
    assert read_by_rules(CLOSED).statements != Reading.open(CLOSED).statements
    said, changed = forecast("--context", CLOSED, "--reader", "runs/reader")
    assert asked == ["runs/reader"]
    assert changed.empty
    assert "(changes nothing: no sentence was understood" in said


def test_a_text_about_another_time_says_which_time_it_is_about():
    said, changed = forecast("--context", "The mill is closed from 2024-03-11 08:00 to 2024-03-11 14:00.")
    assert changed.empty
    assert "set 0 from 2024-03-11 08:00 to 2024-03-11 14:00: no step to forecast lies in that time" in said
    assert "the forecast is of 2024-01-11 00:00:00 to 2024-01-11 23:00:00" in said


def test_a_saved_model_of_several_channels_is_told_without_a_horizon_being_given(place):
    run("fit", "load.csv", "--model", "dlinear", "--context-length", 24, "--h", 24, "--steps", 2,
        "--set", "moving_average=5", "--output-dir", "fit")  # fmt: skip
    news = write_news(("south", CLOSED, "2024-01-09"))
    run("predict", "fit", "load.csv", "--output", "plain.csv")
    run("predict", "fit", "load.csv", "--context", news, "--output", "told.csv")
    told, plain = pd.read_csv("told.csv", parse_dates=["ds"]), pd.read_csv("plain.csv")
    name = plain.columns[2]
    inside = (told["unique_id"] == "south") & told["ds"].between("2024-01-11 08:00", "2024-01-11 13:00")
    assert (told.loc[inside, f"{name}+context"] == 0).all()
    assert told.loc[~inside, f"{name}+context"].tolist() == plain.loc[~inside, name].tolist()
    assert len(told) == 48


def test_a_back_test_has_every_model_twice_and_reads_what_was_published():
    news = write_news(("north", HELD, "2024-01-09 12:00"))
    said = run(*BACKTEST, "--context", news, "--level", "80", "--output", "out.csv")
    out = pd.read_csv("out.csv", parse_dates=["ds", "cutoff"])
    names = [c for c in out.columns[4:] if "-lo-" not in c and "-hi-" not in c]
    assert names == ["SeasonalNaive", "SeasonalNaive+context", "Naive", "Naive+context"]
    knows = (out["unique_id"] == "north") & (out["cutoff"] >= "2024-01-09 12:00")
    assert knows.sum() == 24
    for name in ("SeasonalNaive", "Naive"):
        for column in ("", "-lo-80", "-hi-80"):
            told = out[f"{name}+context{column}"]
            assert (told[knows] == 777).all()
            assert told[~knows].tolist() == out.loc[~knows, name + column].tolist()
        assert f"{name}+context" in said


def test_a_trained_model_forecasts_the_same_bits_where_nothing_is_told(place):
    news = write_news(("north", HELD, "2024-01-09 12:00"))
    run("backtest", "load.csv", "--models", "dlinear", "--h", 24, "--n-windows", 3, "--context-length", 48,
        "--train", "max_steps=2", "--context", news, "--output", "out.csv")  # fmt: skip
    out = pd.read_csv("out.csv", parse_dates=["cutoff"])
    knows = (out["unique_id"] == "north") & (out["cutoff"] >= "2024-01-09 12:00")
    assert (out.loc[knows, "DLinear+context"] == 777).all()
    assert out.loc[~knows, "DLinear+context"].tolist() == out.loc[~knows, "DLinear"].tolist()


def test_undated_texts_are_read_in_a_back_test_only_as_timeless():
    dated_never = write_news(("north", HELD), columns=("unique_id", "text"))
    for context in (dated_never, HELD):
        assert "does not say when it was published" in run(*BACKTEST, "--context", context, code=2)
    run(*BACKTEST, "--context", dated_never, "--timeless", "--output", "out.csv")
    out = pd.read_csv("out.csv", parse_dates=["ds"])
    told = out["Naive+context"] == 777
    assert told.tolist() == ((out["unique_id"] == "north") & (out["ds"] >= "2024-01-10")).tolist()


@pytest.mark.parametrize("command", [PREDICT, BACKTEST])
def test_mistakes_are_told_in_a_line(command):
    def told(*arguments):
        lines = [line for line in run(*command, *arguments, code=2).splitlines() if line]
        assert len(lines) == 1, lines
        return lines[0]

    write_news(("north", "2024-01-01"), columns=("unique_id", "published"))
    assert "news.csv has no column 'text', only unique_id, published" in told("--context", "news.csv")
    write_news(("west", CLOSED, "2024-01-01"))
    assert "is about series 'west', which the data do not hold" in told("--context", "news.csv")
    write_news(("north", CLOSED, 20240101))
    assert "published is 20240101.0, a number; write times as 2024-01-31 12:00" in told("--context", "news.csv")
    write_news(("north", CLOSED, "2024-01-01T00:00Z"))
    assert "published has a time zone" in told("--context", "news.csv")
    write_news(("north", CLOSED, "soon"))
    assert "published is 'soon', which is no time" in told("--context", "news.csv")
    assert "did you mean news.csv" in told("--context", "nws.csv")
    assert "--reader without --context" in told("--reader", "news.csv")
    assert "holds no reader" in told("--context", CLOSED, "--reader", ".")


def test_fit_keeps_texts_and_reader_in_the_folder_and_predict_reads_them():
    fit = ("fit", "load.csv", "--model", "dlinear", "--context-length", 24, "--h", 24, "--steps", 2,
           "--set", "moving_average=5")  # fmt: skip
    news = write_news(("south", CLOSED, "2024-01-09"), ("north", "It is held at 1.", "2024-02-01"))
    run(*fit, "--output-dir", "plain")
    run(*fit, "--context", news, "--output-dir", "told")
    said = run("predict", "told", "load.csv", "--output", "told.csv")
    assert "south: The mill is closed" in said
    assert "1 of 2 texts not read: published after the end of the data" in said
    run("predict", "plain", "load.csv", "--output", "plain.csv")
    told, plain = pd.read_csv("told.csv", parse_dates=["ds"]), pd.read_csv("plain.csv")
    inside = (told["unique_id"] == "south") & told["ds"].between("2024-01-11 08:00", "2024-01-11 13:00")
    assert (told.loc[inside, "DLinear+context"] == 0).all()
    assert told.loc[~inside, "DLinear+context"].tolist() == plain.loc[~inside, "DLinear"].tolist()
    for arguments, message in (
        ((*fit, "--context", HELD), "does not say when it was published"),
        ((*fit, "--timeless"), "--timeless without --context"),
        (("fit", "load.csv", "--model", "told"), "training goes on from its base: --model told/base"),
        (("predict", "told", "load.csv", "--reader", "r"), "told brings its own reader of texts"),
        (("backtest", "load.csv", "--models", "told", "--h", 24, "--context", news), "has a reader and texts of its"),
        # The leakage guard sees through it to what the base was trained on.
        (("backtest", "load.csv", "--models", "told", "--h", 24), "DLinear+context was trained or chosen on data of"),
    ):
        assert message in run(*arguments, code=2)


MORNING = "The output is held at 777 from 2024-01-09 00:00 to 2024-01-11 00:00."
INHABITANTS = "The town has 12,000 inhabitants."


def test_a_backtest_says_which_texts_changed_no_forecast():
    news = write_news(
        ("south", MORNING, "2024-01-07"), ("south", INHABITANTS, "2024-01-07"), ("north", CLOSED, "2024-01-08"),
        ("north", "It is held at 1 until 2024-02-02.", "2024-02-01"), ("north", "", ""),
    )  # fmt: skip
    said = " ".join(run(*BACKTEST, "--context", news).split())
    assert "3 of 4 texts changed no forecast of this back-test:" in said
    assert f"{INHABITANTS!r} (south: not understood: it names '12,000', but no sentence" in said
    assert "no step to forecast lies in that time; the 2 windows that may read it are 2024-01-09 00:00:00" in said
    late = "north: published at 2024-02-01 00:00:00, after the last cutoff, 2024-01-09 23:00:00"
    assert f"'It is held at 1 until 2024-02-02.' ({late})" in said
    assert "777" not in said.split("changed no forecast")[1]


def test_a_single_text_that_changes_nothing_is_told_and_one_that_does_is_not():
    said = " ".join(run(*BACKTEST, "--context", INHABITANTS, "--timeless").split())
    assert f"The text changed no forecast of this back-test: {INHABITANTS!r}" in said
    assert "changed no forecast" not in run(*BACKTEST, "--context", MORNING, "--timeless")
    assert "changed no forecast" not in run(*BACKTEST)


@pytest.mark.parametrize("in_a_file", [False, True])
def test_effects_are_given_back_as_they_were_printed_or_edited(in_a_file):
    said, _ = forecast("--context", CLOSED)
    (line,) = {line.removeprefix("  -> ") for line in said.splitlines() if line.startswith("  -> ")}
    edited = line.replace("set 0", "set 3")
    given = f"{edited}; cap 30"
    if in_a_file:
        with open("effects.txt", "w", encoding="utf-8") as file:
            file.write(f"{edited}\ncap 30\n")
        given = "effects.txt"
    said, changed = forecast("--effects", given)
    assert "north, south: effects as given" in said
    assert "  -> cap 30" in said
    inside = changed["ds"].dt.hour.between(8, 13)
    assert inside.sum() == 12
    assert (changed.loc[inside, "SeasonalNaive+context"] == 3).all()
    assert (changed.loc[~inside, "SeasonalNaive+context"] == 30).all()
    assert "there is no effect 'half'" in run(*PREDICT, "--effects", "half", code=2)


def test_a_mapping_may_be_typed():
    _, changed = forecast("--context", f'{{"north": "{CLOSED}"}}')
    assert changed["unique_id"].unique().tolist() == ["north"]

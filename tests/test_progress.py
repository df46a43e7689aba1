import io
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import tsllm
from tsllm import progress
from tsllm.progress import Bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """A terminal as standard error, in which bars appear at once."""
    made = Terminal()
    monkeypatch.setattr(progress, "_find_stream", lambda: made)
    monkeypatch.setattr(progress, "DELAY", 0.0)
    monkeypatch.delenv(progress.QUIET, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return made


def series(count=120):
    return pd.DataFrame({"unique_id": "a", "ds": range(count), "y": np.sin(np.arange(count))})


def small(**options):
    training = {"max_steps": 4, "logging_steps": 1, "eval_steps": 2}
    return tsllm.NeuralForecaster("dlinear", 6, context_length=12, moving_average=3, training=training, **options)


def test_a_training_shows_steps_losses_and_the_time_left(terminal):
    small().fit(series())
    text = terminal.getvalue()
    for part in ("DLinear: training", "4/4", "0:00 left"):
        assert part in text, part
    assert re.search(r"loss \d\.\d{4}  validation \d\.\d{4}", text)


def test_a_bar_appears_after_the_delay_alone(terminal, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress, "DELAY", 2.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Bar("work", 10) as bar:
        bar.update(1)
        assert terminal.getvalue() == ""
        now[0] += 2.5
        bar.update(5)
    assert "5/10" in terminal.getvalue()
    assert "0:02 left" in terminal.getvalue()
    assert progress._shown is None


def test_bars_within_bars_share_one_display(terminal):
    with Bar("outer", 2) as outer:
        outer.update(1)
        display = progress._shown
        with Bar("inner", 3) as inner:
            inner.update(2)
            assert progress._shown is display
            assert [task.description for task in display.tasks] == ["outer", "inner"]
        assert [task.description for task in display.tasks] == ["outer"]
    assert progress._shown is None


@pytest.mark.parametrize(
    "quiet",
    [
        lambda: small(verbose=False).fit(series()).predict(),
        lambda: tsllm.backtest(series(), [small(), tsllm.SeasonalNaive(6)], 6, 2, verbose=False),
    ],
)
def test_nothing_is_shown_when_nothing_is_wanted(terminal, quiet):
    quiet()
    assert terminal.getvalue() == ""


def test_a_backtest_says_which_model_it_is_at(terminal):
    tsllm.backtest(series(), [small(), tsllm.SeasonalNaive(6)], 6, 2)
    for part in ("DLinear: fit", "DLinear: training", "SeasonalNaive: forecast 2 windows"):
        assert part in terminal.getvalue(), part


def test_an_environment_variable_keeps_bars_away(terminal, monkeypatch):
    monkeypatch.setenv(progress.QUIET, "1")
    small().fit(series())
    assert terminal.getvalue() == ""


def test_a_pipe_hears_nothing_and_libraries_show_no_bars_of_their_own(tmp_path):
    """Train, save and load in a process whose output is a file: not one character of a bar."""
    code = f"""
import numpy as np, pandas as pd, tsllm, tsllm.progress
tsllm.progress.DELAY = 0.0
df = pd.DataFrame({{"unique_id": "a", "ds": range(120), "y": np.sin(np.arange(120))}})
sizes = dict(season=1, context_length=12, moving_average=3)
made = tsllm.NeuralForecaster("dlinear", 6, training={{"max_steps": 6, "eval_steps": 1}}, **sizes).fit(df)
made.save_pretrained({str(tmp_path)!r})
tsllm.NeuralForecaster.from_pretrained({str(tmp_path)!r}).predict(df)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert done.stderr == ""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tests.text.conftest import language_model, tokenizer  # noqa: F401
from tsllm.text.codec import NumberCodec
from tsllm.text.prompt import TextPrompt
from tsllm.training.text.data import TextWindows, build_text_dataset, score_rows, select_hard_cases

CODEC = NumberCodec(digits=2, separator=",")
WINDOWS = TextWindows(TextPrompt(CODEC), context_length=4, h=2, stride=3)


def make_frame(length=11):
    ds = pd.date_range("2024-01-01", periods=length, freq="h")
    return pd.DataFrame({"unique_id": "a", "ds": ds, "y": np.arange(float(length))})


def test_windows_worked_by_hand():
    rows = list(WINDOWS.rows(make_frame()))
    assert [r["cutoff"][:13] for r in rows] == ["2024-01-01T03", "2024-01-01T06", "2024-01-01T08"]  # the last one too
    scale = CODEC.fit([0.0, 1.0, 2.0, 3.0])
    assert rows[0]["completion"] == CODEC.encode([4.0, 5.0], scale)
    assert rows[0]["prompt"].endswith(f"History:\n{CODEC.encode([0.0, 1.0, 2.0, 3.0], scale)}\nForecast:\n")
    assert "the first at 2024-01-01 04:00:00" in rows[0]["prompt"]


def test_a_window_without_its_whole_future_is_left_out_and_counted():
    df = make_frame()
    df.loc[4, "y"] = np.nan
    assert WINDOWS.count(df) == (3, 1)
    assert [r["cutoff"][:13] for r in WINDOWS.rows(df)] == ["2024-01-01T06", "2024-01-01T08"]


def test_cached_and_streamed_rows_are_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    cached = build_text_dataset(make_frame(), WINDOWS)
    streamed = build_text_dataset(make_frame(), WINDOWS, streaming=True)
    assert list(cached) == list(streamed) == list(WINDOWS.rows(make_frame()))


def test_windows_are_written_once_and_read_from_disk_afterwards(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    first = build_text_dataset(make_frame(), WINDOWS)
    files = [Path(f["filename"]) for f in first.cache_files]  # memory-mapped, not held
    assert files
    assert all(tmp_path in f.parents for f in files)
    written = {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*.arrow")}
    again = build_text_dataset(make_frame(), WINDOWS)
    assert [Path(f["filename"]) for f in again.cache_files] == files
    assert {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*.arrow")} == written
    other = build_text_dataset(make_frame(), replace(WINDOWS, stride=1))
    changed = build_text_dataset(make_frame().assign(y=1.0), WINDOWS)
    assert (len(first), len(other)) == (3, 6)
    assert changed[0]["completion"] != first[0]["completion"]


def test_a_stream_writes_no_window_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    written = []
    build = TextPrompt.build
    monkeypatch.setattr(TextPrompt, "build", lambda *args, **kwargs: written.append(1) or build(*args, **kwargs))
    rows = iter(build_text_dataset(make_frame(500), replace(WINDOWS, stride=1), streaming=True))
    assert written == []
    next(rows)
    next(rows)
    assert len(written) < 10
    assert not list(tmp_path.rglob("*.arrow"))


def test_a_frame_too_short_for_a_window_is_refused():
    with pytest.raises(ValueError, match=r"6 steps of a window .* the longest has 5"):
        build_text_dataset(make_frame(5), WINDOWS)


def test_scores_equal_a_slow_loop(language_model, tokenizer):  # noqa: F811
    rows = list(WINDOWS.rows(make_frame(14)))
    rows[1] = rows[1] | {"completion": "7"}  # of another length
    scores = score_rows(language_model, tokenizer, rows, batch_size=3)
    for row, score in zip(rows, scores, strict=True):
        prompt = tokenizer(row["prompt"])["input_ids"]
        answer = [*tokenizer(row["completion"])["input_ids"], tokenizer.eos_token_id]
        with torch.no_grad():
            logits = language_model(torch.tensor([prompt + answer])).logits[0]
        losses = [-logits[len(prompt) + i - 1].log_softmax(-1)[token].item() for i, token in enumerate(answer)]
        assert score == pytest.approx(np.mean(losses), rel=1e-4)


def test_hard_cases_are_the_worst_with_a_share_of_others():
    scores = np.arange(100.0)
    chosen = select_hard_cases(scores, 0.2, 0.5, np.random.default_rng(0))
    assert len(chosen) == 40
    assert set(range(80, 100)) <= set(chosen.tolist())
    assert len(set(chosen.tolist())) == 40
    np.testing.assert_array_equal(select_hard_cases(scores, 0.1, 0.0, np.random.default_rng(0)), np.arange(90, 100))
    with pytest.raises(ValueError, match="hard_fraction"):
        select_hard_cases(scores, 0.0, 0.5, np.random.default_rng(0))

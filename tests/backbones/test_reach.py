"""A Hub that cannot be reached is told within seconds, and is used again when it answers."""

import socket
import time

import numpy as np
import pandas as pd
import pytest
from huggingface_hub import constants
from typer.testing import CliRunner

from tsllm.backbones import reach
from tsllm.backbones.pretrained import check_pretrained
from tsllm.backbones.reach import reach_hub
from tsllm.cli.main import app


@pytest.fixture
def online(monkeypatch, tmp_path):
    """As if nobody had asked yet, with an empty cache and without a proxy."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(reach, "_last", {})
    monkeypatch.setattr(reach, "_switched", [])
    monkeypatch.setattr(reach, "_told", [])
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def closed(online, monkeypatch):
    """The address of a Hub that refuses connections."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    return port


def test_a_hub_that_refuses_is_told_and_the_library_reads_its_cache(closed, caplog):
    assert f"the Hub (http://127.0.0.1:{closed}) cannot be reached: [Errno" in reach_hub()
    assert constants.is_offline_mode()
    assert "only what was downloaded before can be read" in caplog.text
    caplog.clear()
    assert reach_hub()
    assert not caplog.text  # said once


def test_what_an_error_will_say_is_not_said_before_it(closed, caplog):
    assert reach_hub(tell=False)
    assert not caplog.text
    assert reach_hub()
    assert "only what was downloaded before can be read" in caplog.text


def test_the_hub_is_used_again_when_it_answers(closed, monkeypatch):
    assert reach_hub()
    with socket.create_server(("127.0.0.1", closed)):
        assert reach_hub()  # the answer still holds
        monkeypatch.setattr(reach, "_TRUST", 0.0)
        assert reach_hub() == ""
    assert not constants.is_offline_mode()


def test_who_works_offline_is_asked_nothing(closed, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("asked"))
    assert reach_hub() == ""
    assert constants.is_offline_mode()


def test_a_look_up_without_end_is_given_up(online, monkeypatch):
    monkeypatch.setattr(reach, "_PATIENCE", -0.9)
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: (time.sleep(1), socket.socket())[1])
    assert reach_hub().endswith("cannot be reached: no answer")


def test_a_proxy_is_asked_in_its_place(online, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setattr(constants, "ENDPOINT", "https://hub.invalid")
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        assert reach_hub() == ""


@pytest.mark.parametrize(
    "command",
    [
        ("predict", "user/name", "d.csv"),
        ("fit", "d.csv", "--model", "user/name", "--h", "2"),
        ("fit", "d.csv", "--model", "timellm", "--h", "2", "--set", "backbone=user/name"),
        ("backtest", "d.csv", "--models", "user/name", "--h", "2", "--n-windows", "2"),
        ("compare", "d.csv", "--models", "timellm", "--backbone", "user/name", "--h", "2", "--n-windows", "2"),
        ("ablate", "d.csv", "--h", "2", "--n-windows", "2", "--backbone", "user/name"),
        ("predict", "Naive", "user/data", "--h", "2"),
    ],
)
def test_a_command_that_needs_the_hub_says_at_once_that_it_is_not_there(closed, command, caplog):
    rows = {"unique_id": "a", "ds": pd.date_range("2024", periods=96, freq="h"), "y": np.arange(96.0) % 7}
    pd.DataFrame(rows).to_csv("d.csv", index=False)
    started = time.monotonic()
    result = CliRunner().invoke(app, command)
    assert time.monotonic() - started < 10
    assert result.exit_code == 2, result.output
    said = " ".join(f"{result.output} {caplog.text}".split())
    assert said.count(f"the Hub (http://127.0.0.1:{closed}) cannot be reached") == 1
    assert "not foreseen" not in result.output


def test_a_name_that_was_downloaded_before_is_no_mistake(closed, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"backbone is 'user/name', which is no folder and was not downloaded"):
        check_pretrained("user/name", "backbone")
    (tmp_path / "cache" / "models--user--name").mkdir(parents=True)
    check_pretrained("user/name", "backbone")

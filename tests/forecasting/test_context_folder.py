"""A forecaster with its reader and its texts as one folder."""

import copy
import json

import numpy as np
import pandas as pd
import pytest
import torch

from tests.fixtures.backbones import save_tiny_backbone
from tsllm.context.parser import read_by_rules
from tsllm.context.reader import LearnedReader, ReaderConfig, ReaderHead
from tsllm.context.readers import read_in_turn
from tsllm.forecasting.context import ContextForecaster
from tsllm.forecasting.naive import SeasonalNaive
from tsllm.forecasting.neural import NeuralForecaster
from tsllm.forecasting.readers import check_reader, open_encoder, open_reader
from tsllm.forecasting.saved import open_saved
from tsllm.hub.told import CONTEXT_FILE
from tsllm.text.settings import SPOKEN_SETTINGS

HELD = "The output is held at 777 from 2024-01-11 00:00 to 2024-01-11 06:00."


@pytest.fixture(scope="module")
def df():
    times = pd.date_range("2024-01-01", periods=240, freq="h")
    y = 10 + 5 * np.sin(np.arange(240) / 24 * 2 * np.pi) + np.random.default_rng(0).normal(size=240)
    return pd.concat([pd.DataFrame({"unique_id": k, "ds": times, "y": y + k}) for k in (1, 2)], ignore_index=True)


@pytest.fixture(scope="module")
def base(df):
    options = {"context_length": 24, "moving_average": 5, "training": {"max_steps": 2, "seed": 0}}
    return NeuralForecaster("dlinear", 12, **options).fit(df)


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A reader on a tiny language model, whose head takes every sentence for a standstill."""
    backbone = save_tiny_backbone(tmp_path_factory.mktemp("llm"), "llama", layers=2)
    encoder = open_encoder(backbone, "pretrained", 1, cache_gb=0)
    torch.manual_seed(0)
    head = ReaderHead(ReaderConfig(backbone, num_backbone_layers=1, hidden_size=encoder.width, d_model=8,
                                   num_members=1, fingerprint=encoder.fingerprint))  # fmt: skip
    with torch.no_grad():
        head.members[0].statement.bias[1] = 1e6
    return LearnedReader(encoder, head)


@pytest.fixture
def saved(base, df, tmp_path):
    news = pd.DataFrame({"unique_id": [1], "text": [HELD], "published": [pd.Timestamp("2024-01-10")]})
    made = ContextForecaster(base, context=news, alias="told", seed=3, samples=50)
    made._history, made._h = df, None
    made.save_pretrained(tmp_path / "told")
    return made, tmp_path / "told"


def test_a_told_forecaster_comes_back_with_base_reader_and_texts(saved, df):
    made, folder = saved
    back = open_saved(str(folder))
    assert isinstance(back, ContextForecaster)
    assert (back.alias, back.seed, back.samples, back.reader) == ("told", 3, 50, read_by_rules)
    expected, found = made.predict(df, 12, [80]), back.predict(df, 12, [80])
    pd.testing.assert_frame_equal(expected, found)
    assert (found.loc[found["unique_id"] == 1, "told"][:6] == 777).all()
    assert (found.loc[found["unique_id"] == 2, "told"] != 777).all()
    other = back.predict(df, 12, context={2: HELD})
    assert (other.loc[other["unique_id"] == 2, "told"][:6] == 777).all()
    # The texts stand: a back-test reads them where they were published, and a new fit keeps them.
    rolled = back.predict_rolling(df, 6, 2, 6)
    assert not (rolled["told"] == 777).any()
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", "base", "context.json"]


def test_texts_of_a_fit_are_kept_for_the_next_forecast_and_not_for_ever(base, df, tmp_path):
    made = ContextForecaster(base)
    made._history, made._context = df, {2: HELD}
    made.save_pretrained(tmp_path / "told")
    back = open_saved(str(tmp_path / "told"))
    assert (back.predict(df, 12)["DLinear+context"] == 777).sum() == 6
    assert back.context is None


def test_names_of_columns_and_the_scale_of_the_target_are_kept(base, df, tmp_path):
    df = df.assign(y=df["y"].round())
    own = df.rename(columns={"unique_id": "shop", "ds": "day", "y": "sold"})
    made = ContextForecaster(base).name_columns("shop", "day", "sold").scale_target(integer=True, non_negative=True)
    made.save_pretrained(tmp_path / "told")
    back = open_saved(str(tmp_path / "told"))
    pd.testing.assert_frame_equal(back.predict(own, 12), made.predict(own, 12))
    assert list(back.predict(own, 12).columns) == ["shop", "day", "DLinear+context"]
    assert (back.predict(df, 12)["DLinear+context"] % 1 == 0).all()
    assert (base.predict(df, 12)["DLinear"] % 1 != 0).any()


def test_names_of_the_base_are_those_of_what_is_around_it(base, df):
    named = copy.copy(base).name_columns("shop", "day", "sold")
    own = df.rename(columns={"unique_id": "shop", "ds": "day", "y": "sold"})
    assert list(ContextForecaster(named).predict(own, 12).columns) == ["shop", "day", "DLinear+context"]


def test_a_trained_reader_travels_with_it(base, df, reader, tmp_path):
    text = "Nothing of note on 2024-01-11."
    for read, names in ((reader.read, ["learned"]), (read_in_turn(read_by_rules, reader.read), ["rules", "learned"])):
        made = ContextForecaster(base, read, check_length=reader.encoder.check_length)
        made.save_pretrained(tmp_path / "told")
        assert json.loads((tmp_path / "told" / CONTEXT_FILE).read_text())["readers"] == names
        back = open_saved(str(tmp_path / "told"))
        assert back.reader("Closed on Friday.") == read("Closed on Friday.")
        pd.testing.assert_frame_equal(back.predict(df, 12, context=text), made.predict(df, 12, context=text))
        with pytest.raises(ValueError, match="tokens, but the model reads"):
            back.predict(df, 12, context="word " * 600)


def test_readers_are_named_one_behind_the_other(base, df, reader, tmp_path):
    """The head takes every sentence for a standstill, the rules know that this one is a limit."""
    reader.save_pretrained(tmp_path / "head")
    text = "Nothing of note. It is capped at 9."
    news = pd.DataFrame({"unique_id": [1], "text": [text], "start": ["2024-01-11"]})
    for name, readers in (("{}", ["learned"]), ("rules+{}", ["rules", "learned"]), ("rules", ["rules"])):
        opened = open_reader(name.format(tmp_path / "head"))
        check_reader(name.format(tmp_path / "head"))
        made = ContextForecaster(base, opened.read, check_length=opened.check_length)
        (told,) = made.explain_context(df, 12, context=news)
        kinds = [effect.kind for effect in told.effects]
        assert kinds == {"{}": ["set"], "rules": ["cap"]}.get(name, ["set", "cap"])
        made.save_pretrained(tmp_path / "told")
        assert json.loads((tmp_path / "told" / CONTEXT_FILE).read_text())["readers"] == readers
        back = open_saved(str(tmp_path / "told"))
        pd.testing.assert_frame_equal(back.predict(df, 12, context=news), made.predict(df, 12, context=news))


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("rules+", ValueError, r"write rules\+FOLDER, with the folder of a trained reader, or rules"),
        ("rules+rules", ValueError, r"write rules\+FOLDER"),
        ("rules+nowhere/here", FileNotFoundError, "nowhere/here holds no reader"),
        ("rulez", FileNotFoundError, r"reader is rulez, and there is no such folder; did you mean rules\?"),
        ("Rules", FileNotFoundError, r"did you mean rules\?"),
        ("rule+speaks", FileNotFoundError, r"did you mean rules\+speaks\?"),
        ("rules+speaks", ValueError, "speaks holds a language model that says effects of whole texts"),
    ],
)
def test_a_reader_that_cannot_stand_behind_the_rules_is_refused(tmp_path, monkeypatch, name, error, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "speaks").mkdir()
    (tmp_path / "speaks" / SPOKEN_SETTINGS).write_text("{}")
    for call in (open_reader, check_reader):
        with pytest.raises(error, match=said):
            call(name)


def test_what_no_folder_can_hold_is_refused_and_the_old_folder_stays(saved, base, tmp_path):
    folder = saved[1]
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    own = ContextForecaster(base, lambda text: read_by_rules(text))
    pathy = ContextForecaster(base, paths=lambda *_: {})
    untrained = ContextForecaster(NeuralForecaster("dlinear", 12))
    for made, error, said in (
        (own, NotImplementedError, "is a function of one's own"),
        (pathy, NotImplementedError, "paths and check_length of one's own"),
        (ContextForecaster(SeasonalNaive(24)), NotImplementedError, "keeps nothing that could be saved"),
        (untrained, ValueError, "fit"),
    ):
        with pytest.raises(error, match=said):
            made.save_pretrained(folder)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    assert not list(tmp_path.glob(".*saving"))


def test_a_card_says_what_is_told_and_what_is_kept(saved):
    card = (saved[1] / "README.md").read_text()
    assert "reads texts: `DLinear` in `base/`" in card
    assert "Reader: rules. Texts kept in `context.json`: 1." in card
    assert "license: unknown\n" in card


def test_a_plain_forecaster_saved_there_is_plain(saved, base):
    base.save_pretrained(saved[1])
    assert isinstance(open_saved(str(saved[1])), NeuralForecaster)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"code": "import os"}, "code"),
        ({"format": 2}, "format 2, this version reads 1"),
        ({"samples": 10**9}, "samples 1000000000; at most 100000"),
        ({"samples": 0}, "samples is 0"),
        ({"seed": -1}, "seed -1"),
        ({"season": "x"}, "season"),
        ({"alias": "y"}, "alias 'y' cannot name a forecast"),
        ({"readers": ["my.module"]}, r"readers \['my.module'\]"),
        ({"readers": []}, r"readers \[\]"),
        ({"freq": "sometimes"}, "sometimes"),
        ({"timeless": "yes"}, "timeless"),
        ({"texts": 3}, "texts that are no text"),
        ({"texts": [{"unique_id": 1, "text": 4}]}, "texts that are no text"),
        ({"texts": [{"unique_id": 1, "text": "x", "run": "y"}]}, "texts that are no text"),
    ],
)
def test_a_strangers_settings_are_held_to_their_types(saved, changes, message):
    file = saved[1] / CONTEXT_FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(ValueError, match=message):
        open_saved(str(saved[1]))


def test_damaged_and_nested_folders_are_refused_by_name(saved, tmp_path):
    folder = saved[1]
    (folder / "base").rename(tmp_path / "aside")
    with pytest.raises(FileNotFoundError, match="holds no base/"):
        open_saved(str(folder))
    (tmp_path / "aside").rename(folder / "base")
    (folder / "base" / CONTEXT_FILE).write_bytes((folder / CONTEXT_FILE).read_bytes())
    with pytest.raises(ValueError, match="is told something itself"):
        open_saved(str(folder))
    (folder / "base" / CONTEXT_FILE).unlink()
    given = json.loads((folder / CONTEXT_FILE).read_text())
    (folder / CONTEXT_FILE).write_text(json.dumps(given | {"readers": ["learned"]}))
    with pytest.raises(FileNotFoundError, match="holds no reader"):
        open_saved(str(folder))
    (folder / CONTEXT_FILE).write_text("{")
    with pytest.raises(OSError, match=r"context.json is damaged"):
        open_saved(str(folder))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 10**9}, "asks for a size of 1000000000"),
        ({"d_model": 10**8}, "asks for a size of 100000000"),
        ({"num_members": 10**7}, "asks for a size of 10000000"),
        ({"d_model": 16}, "does not fit reader.json"),
        ({"num_members": True}, "num_members is True; it must be of type int"),
        ({"backbone": 3}, "backbone is 3"),
        ({"dtype": "object"}, "dtype is 'object'"),
        ({"code": "x"}, r"unknown settings \['code'\]"),
    ],
)
def test_a_forged_reader_is_refused_before_memory_is_taken(reader, tmp_path, changes, message):
    reader.save_pretrained(tmp_path / "reader")
    file = tmp_path / "reader" / "reader.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(ValueError, match=message):
        LearnedReader.load_head(tmp_path / "reader")

"""A language model as a reader: what it is asked, and answers that had to end before they were whole."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import LlamaConfig, PreTrainedTokenizerFast

from tests.text.conftest import tokenizer  # noqa: F401
from tsllm.context.applying import Window
from tsllm.context.spoken import read_said
from tsllm.forecasting.spoken import CUT, SpokenReader

TIMES = pd.date_range("2024-01-01", periods=30, freq="h")
WINDOW = Window(np.arange(24.0), TIMES[:24], TIMES[24:], 24)
TEXT = "Output is capped at 9. It is at least 2."


class Wishful:
    """A stand-in for a language model that would say one sentence, letter by letter, and then end."""

    device = torch.device("cpu")

    def __init__(self, words, *wishes, positions=1024):
        self.words, self.wishes = words, [[*words(w, add_special_tokens=False)["input_ids"]] for w in wishes]
        self.config = LlamaConfig(max_position_embeddings=positions)
        self.generation_config = SimpleNamespace(eos_token_id=words.eos_token_id)
        self.asked = []

    def eval(self):
        return self

    def generate(self, input_ids, attention_mask, max_new_tokens, do_sample, pad_token_id, logits_processor):
        assert not do_sample
        self.asked += [row[mask.bool()].tolist() for row, mask in zip(input_ids, attention_mask, strict=True)]
        end, ids = self.words.eos_token_id, input_ids
        done = torch.zeros(len(ids), dtype=torch.bool)
        for step in range(max_new_tokens):
            scores = torch.zeros(len(ids), len(self.words))
            scores[:, end] = 1.0
            for row, wish in zip(scores, self.wishes, strict=True):
                row[wish[step] if step < len(wish) else end] = 2.0
            token = torch.where(done, pad_token_id, logits_processor(ids, scores).argmax(1))
            ids, done = torch.cat([ids, token[:, None]], 1), done | (token == end)
            if done.all():
                break
        return ids


@pytest.fixture
def words(tokenizer):  # noqa: F811
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token="<|end|>")
    made.pad_token = made.eos_token
    return made


def make_reader(words, *wishes, max_tokens=40, **options):
    return SpokenReader(Wishful(words, *wishes), words, max_tokens, copies=False, **options)


def test_an_answer_that_was_cut_off_is_no_answer_although_what_is_left_of_it_could_be_read(words, caplog):
    whole, cut = (make_reader(words, " cap 60", max_tokens=n, constrained=False) for n in (8, 7))
    assert [str(e) for e in whole.speak(TEXT, WINDOW)] == ["cap 60"]
    assert not caplog.text
    assert cut.speak(TEXT, WINDOW) == []
    assert "the language model wrote 'cap 60\\n...', which is no list of effects; nothing is changed" in caplog.text
    shorter = make_reader(words, " cap 60", " cap 6", " none", max_tokens=6, constrained=False)
    said = shorter.say([shorter.ask(WINDOW, text) for text in ("a", "b", "c")])
    assert said == [f"cap 6{CUT}", f"cap 6{CUT}", "none"]  # " cap 6" and its end are seven tokens
    assert [read_said(answer, WINDOW) for answer in said] == [None, None, []]


def test_nothing_that_was_cut_off_can_be_read_not_even_a_name(words):
    reader = make_reader(words, " follow sky", max_tokens=9, constrained=False)
    (said,) = reader.say([reader.ask(WINDOW, TEXT)])
    listed = "Sky: 2024-01-02 00:00: 1.0, 2024-01-02 01:00: 2.0."
    assert read_said("follow sk", WINDOW, text=listed) is None or said == f"follow s{CUT}"
    assert read_said(said, WINDOW, text=listed) is None


def test_an_answer_under_the_grammar_that_ran_out_of_tokens_is_whole_and_warned_about(words, caplog):
    wish = " cap 9\nfloor 2"
    enough, few = (make_reader(words, wish, max_tokens=n) for n in (len(wish) + 1, 12))
    assert [str(e) for e in enough.speak(TEXT, WINDOW)] == ["cap 9", "floor 2"]
    assert not caplog.text
    assert [str(e) for e in few.speak(TEXT, WINDOW)] == ["cap 9"]
    assert "1 of 1 answers had to end within 12 tokens, so that what the text says further on may be" in caplog.text
    assert "give its sentences as texts (rows) of their own" in caplog.text
    assert TEXT in caplog.text


def test_an_answer_that_the_grammar_itself_turns_is_not_taken_for_one_that_ran_out_of_tokens(words, caplog):
    reader = make_reader(words, " cap 9 from 99:00", max_tokens=60)
    assert reader.speak(TEXT, WINDOW)
    assert not caplog.text


def test_an_answer_with_as_many_effects_as_one_may_have_is_warned_about(words, caplog):
    wishes = ["\n".join(f"add {k}" for k in range(1, n + 1)) for n in (7, 9)]
    seven, nine = (make_reader(words, f" {wish}", max_tokens=len(wish) + 9) for wish in wishes)
    assert len(seven.speak(TEXT, WINDOW)) == 7
    assert not caplog.text
    assert [str(e) for e in nine.speak(TEXT, WINDOW)] == [f"add {k}" for k in range(1, 9)]
    assert "1 of 1 answers have 8 effects, as many as one may have" in caplog.text


def test_a_batch_counts_the_answers_that_ran_out_of_tokens(words, caplog):
    reader = make_reader(words, " cap 9\nfloor 2", " none", " cap 7\nfloor 1", max_tokens=12)
    said = reader.say([reader.ask(WINDOW, text) for text in ("one", "two", "three")])
    assert said == ["cap 9", "none", "cap 7"]
    assert "2 of 3 answers had to end within 12 tokens" in caplog.text
    assert "Text: one" in caplog.text


def test_a_request_begins_as_in_training_where_the_tokenizer_opens_a_text(words):
    words.add_special_tokens({"bos_token": "<|begin|>"})
    opening = words.bos_token_id
    words.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", opening)]
    )
    for constrained in (True, False):
        reader = make_reader(words, " cap 9", constrained=constrained)
        request = reader.ask(WINDOW, TEXT)
        assert reader.say([request]) == ["cap 9"]
        (asked,) = reader.model.asked
        assert asked == words(text=request)["input_ids"]  # what TRL trains on
        assert asked[0] == opening
        assert asked.count(opening) == 1


def test_a_text_longer_than_the_model_reads_is_refused(words):
    reader = SpokenReader(Wishful(words, " none", positions=200), words, 40)
    with pytest.raises(ValueError, match=r"has \d+ tokens and the answer up to 40, but the model reads 200; give a"):
        reader.speak("word " * 60, WINDOW)
    assert words.padding_side == "right"
    assert reader.model.asked == []

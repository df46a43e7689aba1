"""Requests as tokens: opened once, as TRL's trainers open them, and never ended."""

import copy

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing

from tests.text.test_reasoning import TEMPLATE
from tsllm.text.codec import NumberCodec
from tsllm.text.generate import SamplingOptions, sample_completions
from tsllm.text.prompt import TextPrompt
from tsllm.text.reasoning import find_chat_frame
from tsllm.text.tokens import encode_requests, find_opening
from tsllm.training.text.data import score_rows

BOS = 256  # "<|end|>" of the fixture: the tiny models know no further token


@pytest.fixture
def make_tokenizer(tokenizer):
    def make(single):
        own = copy.deepcopy(tokenizer)
        own.add_special_tokens({"bos_token": "<|end|>"})
        own.backend_tokenizer.post_processor = TemplateProcessing(single=single, special_tokens=[("<|end|>", BOS)])
        return own

    return make


def test_a_tokenizer_that_opens_no_text_gives_its_plain_tokens(tokenizer):
    assert find_opening(tokenizer) == []
    assert encode_requests(tokenizer, ["ab", ""]) == [tokenizer("ab")["input_ids"], []]


def test_a_request_is_opened_once_and_not_ended(make_tokenizer):
    opening = make_tokenizer("<|end|> $A")
    assert find_opening(opening) == [BOS]
    a, b = opening("ab", add_special_tokens=False)["input_ids"]
    assert encode_requests(opening, ["ab", "<|end|>ab"]) == [[BOS, a, b], [BOS, a, b]]
    assert encode_requests(make_tokenizer("<|end|> $A <|end|>"), ["ab"]) == [[BOS, a, b]]
    assert encode_requests(make_tokenizer("$A <|end|>"), ["ab"]) == [[a, b]]


def test_a_chat_template_that_opens_the_text_leaves_it_to_the_tokenizer(make_tokenizer, tokenizer):
    opening, plain = make_tokenizer("<|end|> $A"), make_tokenizer("$A")
    opening.chat_template = plain.chat_template = "<|end|>" + TEMPLATE
    before, after = find_chat_frame(opening)
    assert before == "<|user|>"
    assert opening(f"{before}ab{after}")["input_ids"].count(BOS) == 2  # in front, and where the template ends the turn
    assert find_chat_frame(plain) == ("<|end|><|user|>", after)


def test_completions_follow_the_opened_request(language_model, make_tokenizer):
    opening = make_tokenizer("<|end|> $A")
    codec, greedy = (
        NumberCodec(digits=2, separator=","),
        SamplingOptions(0, constrained=False, max_tokens_per_number=4),
    )
    prompt = "History:\n10,20,30,"
    ids = torch.tensor([opening(prompt)["input_ids"]])
    wanted = language_model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    bare = language_model.generate(
        ids[:, 1:], attention_mask=torch.ones_like(ids[:, 1:]), max_new_tokens=8, do_sample=False, eos_token_id=None,
        pad_token_id=0,
    )  # fmt: skip
    ((said,),) = sample_completions(language_model, opening, [prompt], 2, codec, options=greedy)
    assert ids[0, 0] == BOS
    assert opening.decode(wanted[0, ids.shape[1] :]).startswith(said)
    assert said
    assert not opening.decode(bare[0, ids.shape[1] - 1 :]).startswith(said)


def test_scores_read_the_opened_request(language_model, make_tokenizer):
    opening = make_tokenizer("<|end|> $A")
    history = np.array([10.0, 20, 30, 20])
    codec = NumberCodec(digits=2, separator=",")
    prompt = TextPrompt(codec).build(history, 2, codec.fit(history))
    row = {"prompt": prompt, "completion": "1,2"}
    answer = [*opening("1,2", add_special_tokens=False)["input_ids"], opening.eos_token_id]
    asked = opening(prompt)["input_ids"]
    with torch.no_grad():
        logits = language_model(torch.tensor([asked + answer])).logits[0].float()
    losses = [-logits[len(asked) + i - 1].log_softmax(-1)[token].item() for i, token in enumerate(answer)]
    assert score_rows(language_model, opening, [row])[0] == pytest.approx(np.mean(losses), rel=1e-4)

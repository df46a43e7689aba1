import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tsllm.text.codec import NumberCodec, choose_separator
from tsllm.text.generate import SamplingOptions, sample_completions
from tsllm.text.grammar import NumberGrammar
from tsllm.text.prompt import TextPrompt

CODEC = NumberCodec(digits=2, separator=",")


def test_the_grammar_admits_exactly_the_integers_asked_for(tokenizer):
    grammar = NumberGrammar(tokenizer, CODEC, h=2, extra_digits=0)
    texts = tokenizer.convert_ids_to_tokens(grammar.ids.tolist())
    state = grammar.start(1)
    seen = []
    for symbol in ["-", "7", "3", ",", "0", "<|end|>"]:
        allowed = {t for t, ok in zip(texts, grammar.compute_allowed(state)[0].tolist(), strict=True) if ok}
        seen.append("".join(sorted(allowed - set("0123456789"))) + ("d" if "5" in allowed else ""))
        assert symbol in allowed
        choice = torch.tensor([texts.index(symbol)])
        state = grammar.advance(state, choice)
    assert seen == ["-d", "d", ",d", ",", "-d", "<|end|>d"]
    assert grammar.is_end(choice).tolist() == [True]


def test_constrained_samples_always_parse(language_model, tokenizer):
    generator = torch.Generator().manual_seed(1)
    texts = sample_completions(
        language_model, tokenizer, ["1,2,3\n", "a longer prompt: 7,8\n"], 5, CODEC, 16, generator=generator
    )
    assert [len(group) for group in texts] == [16, 16]
    scale = CODEC.fit([0.0, 1.0])
    parsed = [CODEC.decode(t, 5, scale) for group in texts for t in group]
    assert all(p.failure is None and p.num_found == 5 for p in parsed)
    assert len({t for group in texts for t in group}) > 16


def test_greedy_equals_generate_of_transformers(language_model, tokenizer):
    options = SamplingOptions(temperature=0, constrained=False, max_tokens_per_number=3)
    prompt = "History: 12,13,14\n"
    ours = sample_completions(language_model, tokenizer, [prompt], 4, CODEC, options=options)[0][0]
    ids = torch.tensor([tokenizer(prompt)["input_ids"]])
    theirs = language_model.generate(ids, max_new_tokens=12, do_sample=False, pad_token_id=0)
    text = tokenizer.decode(theirs[0, ids.shape[1] :], skip_special_tokens=True)
    assert ours == ",".join(text.split(",")[:4])


def test_batch_mates_and_sharing_do_not_change_greedy_text(language_model, tokenizer):
    options = SamplingOptions(temperature=0)
    prompts = ["1,2\n", "a much longer prompt than the other one: 5,6,7,8\n"]
    together = sample_completions(language_model, tokenizer, prompts, 6, CODEC, 3, options)
    alone = [sample_completions(language_model, tokenizer, [p], 6, CODEC, 1, options)[0][0] for p in prompts]
    assert together == [[text] * 3 for text in alone]


class CatSizes(TorchDispatchMode):
    """Records how many values each concatenation writes."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.cat.default:
            self.sizes.append(result.numel())
        return result


def test_a_decoding_step_does_not_copy_the_past(language_model, tokenizer):
    prompt, num_samples = "History: " + "12," * 40 + "\n", 6
    tokens = len(tokenizer(prompt)["input_ids"])
    with CatSizes() as recorded:
        sample_completions(language_model, tokenizer, [prompt], 4, CODEC, num_samples)
    width = 32 if language_model.config.model_type == "gpt2" else 16  # keys of all heads
    assert max(recorded.sizes) < num_samples * tokens * width


def test_samples_follow_the_model_distribution(language_model, tokenizer):
    prompt = "History: 1,2\n"
    generator = torch.Generator().manual_seed(0)
    codec = NumberCodec(digits=1, separator=",")
    draws = sample_completions(language_model, tokenizer, [prompt], 1, codec, 4000, generator=generator)[0]
    grammar = NumberGrammar(tokenizer, codec, 1)
    logits = language_model(torch.tensor([tokenizer(prompt)["input_ids"]])).logits[0, -1]
    first = logits[grammar.ids].masked_fill(~grammar.compute_allowed(grammar.start(1))[0], -torch.inf).softmax(-1)
    texts = tokenizer.convert_ids_to_tokens(grammar.ids.tolist())
    for symbol, probability in zip(texts, first.tolist(), strict=True):
        share = np.mean([d.startswith(symbol) for d in draws])
        assert share == pytest.approx(probability, abs=4 * (probability * (1 - probability) / 4000) ** 0.5 + 1e-9)


def test_top_p_keeps_the_smallest_set():
    from tsllm.text.generate import _draw

    scores = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().repeat(500, 1)
    drawn = _draw(scores, SamplingOptions(top_p=0.7), torch.Generator().manual_seed(0))
    assert set(drawn.tolist()) == {0, 1}


def test_a_prompt_beyond_the_positions_is_refused(language_model, tokenizer):
    with pytest.raises(ValueError, match="256 positions"):
        sample_completions(language_model, tokenizer, ["1," * 125], 10, CODEC)


def test_separator_is_one_that_the_tokenizer_keeps_apart(tokenizer):
    assert choose_separator(tokenizer) == ","


def test_prompt_worked_by_hand():
    prompt = TextPrompt(NumberCodec(digits=1, separator=",", margin=0.0), domain="Prices.", season=24)
    scale = prompt.codec.fit([0.0, 10.0])
    text = prompt.build([0.0, np.nan, 10.0], 2, scale, "2020-01-01 00:00", {"load": [0.0, 5.0, 10.0, 5.0, 10.0]})
    assert text == (
        "Prices.\nContinue the series by 2 numbers, the first at 2020-01-01 00:00, season 24 steps.\n"
        "load:\n5,10\nHistory:\n0,?,10\nForecast:\n"
    )
    with pytest.raises(ValueError, match=r"expected 3 \+ 2"):
        prompt.build([0.0, 1.0, 2.0], 2, scale, future_covariates={"load": [1.0]})

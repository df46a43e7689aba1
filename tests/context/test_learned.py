"""The learned reader, its cache of hidden states and its synthetic texts, on a tiny model made on the spot."""

import dataclasses

import numpy as np
import pytest
import torch

from tests.text.conftest import tokenizer  # noqa: F401
from tsllm.context.pairs import write_pairs
from tsllm.context.reader import LearnedReader, ReaderConfig, ReaderHead, build_batch, compute_loss
from tsllm.context.reading import ALLOWED, NONE, ROLES, Reading
from tsllm.context.states import EncodedText, StateStore, TextEncoder
from tsllm.context.wordings import EFFECTS
from tsllm.context.wordings_more import EFFECTS as MORE


@pytest.fixture
def llm():
    from transformers import LlamaConfig, LlamaModel

    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=600,
    )  # fmt: skip
    return LlamaModel(config).eval()


def make_entry(size):
    return EncodedText(np.zeros((size, 4), np.float16), np.zeros((size, 2), np.int32))


def test_states_do_not_depend_on_the_batch_or_the_store(llm, tokenizer, tmp_path):  # noqa: F811
    texts = ["Closed on Friday.", "A much longer text, so that the first one is padded.", "Closed on Friday."]
    alone = TextEncoder(llm, tokenizer).encode([texts[0]])[0]
    encoder = TextEncoder(llm, tokenizer, StateStore(tmp_path))
    first = encoder.encode(texts)
    again = TextEncoder(llm, tokenizer, StateStore(tmp_path)).encode(texts)
    assert np.abs(first[0].states.astype(float) - alone.states).max() < 2e-3
    assert alone.states.shape == (len(texts[0]), 32)
    assert alone.offsets[0].tolist() == [0, 1]
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a.states, b.states)
    assert len(list(tmp_path.glob("*.npz"))) == 2


def test_what_is_stored_is_not_computed_again_and_other_weights_do_not_share(llm, tokenizer, tmp_path):  # noqa: F811
    encoder = TextEncoder(llm, tokenizer, StateStore(tmp_path))
    encoder.encode(["a", "b"])
    encoder._run = None  # would fail if it were called
    encoder.encode(["b", "a"])
    with torch.no_grad():
        llm.layers[0].mlp.up_proj.weight += 1
    other = TextEncoder(llm, tokenizer, StateStore(tmp_path))
    assert other.fingerprint != encoder.fingerprint
    assert StateStore.build_key("a", "x", 1) != StateStore.build_key("a", "x", 2)
    other.encode(["a"])
    assert len(list(tmp_path.glob("*.npz"))) == 3


def test_the_store_keeps_to_its_bound_and_drops_the_least_recently_used(tmp_path):
    size = StateStore(tmp_path / "x")
    size.put("a.npz", make_entry(100))
    one = size.num_bytes
    store = StateStore(tmp_path / "y", max_bytes=2 * one)
    store.put("a.npz", make_entry(100))
    store.put("b.npz", make_entry(100))
    assert store.get("a.npz") is not None  # now b is the oldest
    store.put("c.npz", make_entry(100))
    assert [store.get(k) is not None for k in ("a.npz", "b.npz", "c.npz")] == [True, False, True]
    assert store.num_bytes == 2 * one
    store.put("d.npz", make_entry(10_000))  # larger than the bound
    assert store.get("d.npz") is None
    assert sorted(p.name for p in (tmp_path / "y").iterdir()) == ["a.npz", "c.npz"]
    (tmp_path / "y" / "a.npz").write_bytes(b"damaged")
    assert StateStore(tmp_path / "y").get("a.npz") is None
    with pytest.raises(ValueError, match="max_bytes is 0"):
        StateStore(tmp_path / "z", max_bytes=0)


def test_a_text_longer_than_the_model_is_refused_not_cut(llm, tokenizer):  # noqa: F811
    with pytest.raises(ValueError, match="the text has 601 tokens, but the model reads 600"):
        TextEncoder(llm, tokenizer).encode(["x" * 601])


def test_an_opening_token_is_read_first_and_gives_no_state(llm, tokenizer, tmp_path):  # noqa: F811
    tokenizer.bos_token = "^"
    (opened,) = TextEncoder(llm, tokenizer, StateStore(tmp_path), opens=True).encode(["08:00"])
    (whole,) = TextEncoder(llm, tokenizer).encode(["^08:00"])
    assert opened.states.shape == (5, 32)
    assert np.abs(opened.states.astype(float) - whole.states[1:]).max() < 2e-3
    assert opened.offsets.tolist() == [[k, k + 1] for k in range(5)]
    (plain,) = TextEncoder(llm, tokenizer, StateStore(tmp_path)).encode(["08:00"])
    assert not np.array_equal(plain.states, opened.states)
    with pytest.raises(ValueError, match="the text has 600 tokens, but the model reads 599"):
        TextEncoder(llm, tokenizer, opens=True).encode(["x" * 600])
    tokenizer.bos_token = "a"  # to the encoder this looks as if the tokenizer put it in front of "a"
    assert TextEncoder(llm, tokenizer, opens=True).opening == []


def test_equal_seeds_write_equal_texts_whose_roles_the_grammar_allows():
    first, again, other = write_pairs(60, 5), write_pairs(60, 5), write_pairs(60, 6)
    assert [r.text for r in first] == [r.text for r in again]
    assert [r.text for r in first] != [r.text for r in other]
    for reading in first:
        assert reading.text
        assert all(role in ALLOWED[m.kind] for m, role in zip(reading.mentions, reading.roles, strict=True))
        assert len(reading.statements) == len(reading.sentences)
        for m in reading.mentions:
            assert reading.text[m.start : m.end] == m.text


def test_synthetic_texts_tell_of_every_role_and_hold_wordings_out():
    train, held = write_pairs(600, 0), write_pairs(600, 1, held_out=True)
    assert {role for r in train for role in r.roles} == set(ROLES) - {"add", "subtract"}
    assert {s for r in train for s in r.statements} == {NONE, "zero", "over", "holiday"}
    # Every fifth wording of a list belongs to validation, the others to training.
    seen, unseen = EFFECTS["zero"][0][0], EFFECTS["zero"][0][4]
    assert (seen, unseen) == ("{e} will be closed", "{e} does not operate")
    told = {side: " ".join(r.text for r in texts) for side, texts in (("train", train), ("held", held))}
    assert "will be closed" in told["train"].replace("will not be closed", "")
    assert "does not operate" not in told["train"]
    assert "does not operate" in told["held"]
    assert "will be closed" not in told["held"].replace("will not be closed", "")


def build(llm, tokenizer):  # noqa: F811
    encoder = TextEncoder(llm, tokenizer)
    torch.manual_seed(0)
    return encoder, ReaderHead(ReaderConfig(hidden_size=32, d_model=16, num_layers=1, fingerprint=encoder.fingerprint))


def test_a_forbidden_role_is_never_chosen(llm, tokenizer):  # noqa: F811
    encoder, head = build(llm, tokenizer)
    with torch.no_grad():
        head.role[-1].bias[ROLES.index("cap")] = 1e6
    reading = LearnedReader(encoder, head).read("From 8 am for two hours, 5% or double, at most 7.")
    assert reading.roles[-1] == "cap"
    for mention, role in zip(reading.mentions, reading.roles, strict=True):
        assert role in ALLOWED[mention.kind]


def test_batch_mates_and_padding_do_not_matter(llm, tokenizer):  # noqa: F811
    encoder, head = build(llm, tokenizer)
    head.eval()
    readings = [
        Reading.open("Closed from 8 am for 2 hours."),
        Reading.open("At most 7 of the 12,000 people may enter. " * 3),
    ]
    encoded = encoder.encode([r.text for r in readings])
    together = head(build_batch(encoded, readings))
    alone = head(build_batch(encoded[:1], readings[:1]))
    assert torch.allclose(together[0][:2], alone[0], atol=1e-5)
    assert torch.allclose(together[1][:1], alone[1], atol=1e-5)


def test_training_lowers_the_loss_on_what_it_is_shown(llm, tokenizer):  # noqa: F811
    encoder, head = build(llm, tokenizer)
    readings = write_pairs(4, 3)
    batch = build_batch(encoder.encode([r.text for r in readings]), readings)
    head.eval()
    before = compute_loss(head, batch, readings).item()
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3)
    for _ in range(60):
        loss = compute_loss(head, batch, readings)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3 * before


def test_a_reader_comes_back_as_it_was_and_only_on_its_own_weights(llm, tokenizer, tmp_path):  # noqa: F811
    encoder, head = build(llm, tokenizer)
    reader = LearnedReader(encoder, head)
    reader.save_pretrained(tmp_path / "reader")
    back = LearnedReader.load_head(tmp_path / "reader")
    assert back.config == head.config
    for name, tensor in head.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor)
    text = "Closed from 8 am for 2 hours."
    assert LearnedReader(encoder, back).read(text) == reader.read(text)
    stranger = ReaderHead(dataclasses.replace(head.config, fingerprint="0123"))
    with pytest.raises(ValueError, match="trained on weights with fingerprint 0123"):
        LearnedReader(encoder, stranger)
    with pytest.raises(FileNotFoundError, match=r"holds no reader: model.safetensors, reader.json missing"):
        LearnedReader.load_head(tmp_path / "nothing")
    with pytest.raises(ValueError, match="must be even and a multiple"):
        ReaderConfig(d_model=10, num_heads=4)


def test_further_wordings_are_for_training_alone_and_what_is_taken_back_plays_no_part():
    wide = write_pairs(300, 0, wide=True)
    assert [r.text for r in wide] == [r.text for r in write_pairs(300, 0, wide=True)]
    for reading in wide:
        assert all(role in ALLOWED[m.kind] for m, role in zip(reading.mentions, reading.roles, strict=True))
        for (first, last), statement in zip(reading.sentences, reading.statements, strict=True):
            if reading.text[first:last].startswith(("It is not the case that", "Nobody expects that", "Abroad, ")):
                inside = [r for m, r in zip(reading.mentions, reading.roles, strict=True) if first <= m.start < last]
                assert (statement, set(inside) - {NONE}) == (NONE, set())
    told, plain = (" ".join(r.text for r in texts) for texts in (wide, write_pairs(300, 0)))
    assert "Nobody expects that" in told
    assert "Nobody expects that" not in plain
    held = {words for kinds in EFFECTS.values() for part in kinds for words in part[4::5]}
    assert not held & {words for kinds in MORE.values() for part in kinds for words in part}
    with pytest.raises(ValueError, match="leave wide out"):
        write_pairs(1, 0, held_out=True, wide=True)

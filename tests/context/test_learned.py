"""The learned reader, its cache of hidden states and its synthetic texts, on a tiny model made on the spot."""

import dataclasses
import os

import numpy as np
import pytest
import torch

from tests.text.conftest import tokenizer  # noqa: F401
from tsllm.context.features import build_features
from tsllm.context.pairs import PairWriter, write_clauses, write_pairs
from tsllm.context.plain import simplify
from tsllm.context.reader import LearnedReader, ReaderConfig, ReaderHead, choose_roles, complete_text
from tsllm.context.reading import ALLOWED, NONE, ROLES, STATEMENTS, VALUES, Reading
from tsllm.context.states import EncodedText, StateStore, TextEncoder
from tsllm.context.wordings import EFFECTS, SPAN_FORMS
from tsllm.context.wordings_composed import EFFECTS as COMPOSED
from tsllm.context.wordings_more import DENIALS
from tsllm.context.wordings_more import EFFECTS as MORE
from tsllm.programs.context_reader import (
    ReaderArguments,
    collect_sentences,
    encode_sentences,
    score_reader,
    train_head,
)


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


def list_bytes(folder):
    return sum(path.stat().st_size for path in folder.iterdir())


def test_the_bound_holds_for_the_folder_whoever_writes(tmp_path):
    a, b = StateStore(tmp_path, max_bytes=10_000), StateStore(tmp_path, max_bytes=10_000)
    for k in range(6):
        a.put(f"a{k}.npz", make_entry(100))
        b.put(f"b{k}.npz", make_entry(100))
        assert list_bytes(tmp_path) <= 10_000
    assert a.num_bytes == b.num_bytes == list_bytes(tmp_path) > 5_000
    assert b.get("a5.npz") is not None
    assert a.get("b5.npz") is not None
    assert a.get("a0.npz") is None  # the oldest went first
    assert StateStore(tmp_path, max_bytes=4_000).get("b5.npz") is not None
    assert 0 < list_bytes(tmp_path) <= 4_000


def test_a_folder_that_takes_no_files_is_told_of_once_and_what_lies_there_is_read(tmp_path, monkeypatch, caplog):
    store = StateStore(tmp_path)
    store.put("a.npz", make_entry(3))

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tsllm.context.states.tempfile.NamedTemporaryFile", refuse)
    monkeypatch.setattr("tsllm.context.states.os.utime", refuse)
    assert store.get("a.npz").states.shape == (3, 4)
    store.put("b.npz", make_entry(3))
    store.put("c.npz", make_entry(3))
    assert store.get("b.npz") is None
    assert caplog.text.count("hidden states of texts are not kept in") == 1


def test_what_is_no_pair_of_states_and_offsets_is_damage(tmp_path):
    store = StateStore(tmp_path)
    store.put("short.npz", EncodedText(np.zeros((2, 4), np.float16), np.zeros((3, 2), np.int32)))
    store.put("nan.npz", EncodedText(np.full((3, 4), np.nan, np.float16), np.zeros((3, 2), np.int32)))
    assert store.get("short.npz") is None
    assert store.get("nan.npz") is None


def test_what_a_broken_process_left_is_counted_and_dropped_when_it_is_old(tmp_path):
    left = tmp_path / "x.part"
    left.write_bytes(b"0" * 5_000)
    store = StateStore(tmp_path, max_bytes=10_000)
    assert store.num_bytes == 5_000  # it may be another process that is writing
    os.utime(left, (0, 0))
    assert StateStore(tmp_path, max_bytes=10_000).num_bytes == 0
    assert not left.exists()


def damage(data, kind):
    if kind == "cut":
        return data[: len(data) // 2]
    if kind == "flipped":
        return data[:200] + bytes([data[200] ^ 255]) + data[201:]
    return {"empty": b"", "header": b"PK\x03\x04garbage", "other": b"damaged"}[kind]


@pytest.mark.parametrize("kind", ["cut", "flipped", "empty", "header", "other"])
def test_a_damaged_file_is_computed_again(kind, llm, tokenizer, tmp_path):  # noqa: F811
    encoder = TextEncoder(llm, tokenizer, StateStore(tmp_path))
    (whole,) = encoder.encode(["Closed on Friday."])
    (path,) = tmp_path.glob("*.npz")
    path.write_bytes(damage(path.read_bytes(), kind))
    assert encoder.store.get(path.name) is None
    (again,) = encoder.encode(["Closed on Friday."])
    assert np.array_equal(again.states, whole.states)
    assert encoder.store.get(path.name) is not None


def test_another_tokenizer_on_the_same_weights_gets_states_of_its_own(llm, tokenizer, tmp_path):  # noqa: F811
    class Shifted:
        bos_token_id = None

        def __call__(self, text, **options):
            tokens = tokenizer(text, **options)
            return {**tokens, "input_ids": [(k + 7) % 200 for k in tokens["input_ids"]]}

    store = StateStore(tmp_path)
    (first,) = TextEncoder(llm, tokenizer, store).encode(["Closed."])
    (other,) = TextEncoder(llm, Shifted(), store).encode(["Closed."])
    (alone,) = TextEncoder(llm, Shifted()).encode(["Closed."])
    assert np.array_equal(other.states, alone.states)
    assert not np.array_equal(other.states, first.states)


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
    return encoder, ReaderHead(
        ReaderConfig(hidden_size=32, d_model=16, num_members=2, fingerprint=encoder.fingerprint)
    )


def test_a_forbidden_role_is_never_chosen(llm, tokenizer):  # noqa: F811
    encoder, head = build(llm, tokenizer)
    with torch.no_grad():
        for member in head.members:
            member.role.bias[ROLES.index("cap")] = 1e6
    reading = LearnedReader(encoder, head).read("From 8 am for two hours, 5% or double. At most 7.")
    assert reading.roles[-1] == "cap"
    for mention, role in zip(reading.mentions, reading.roles, strict=True):
        assert role in ALLOWED[mention.kind]


def make_rows(*mentions):
    rows = torch.zeros(len(mentions), len(ROLES))
    for row, shares in zip(rows, mentions, strict=True):
        for role, share in shares.items():
            row[ROLES.index(role)] = share
    return rows


def test_no_value_is_given_twice_for_one_time():
    thought = {"multiply": 0.6, NONE: 0.4}
    meant = {"multiply": 0.9, NONE: 0.1}
    # "While 9 times the usual would be typical, it is 3 times as high": .4 x .9 against .6 x .1
    assert choose_roles(make_rows(thought, meant)) == [NONE, "multiply"]
    assert choose_roles(make_rows(thought, {"day": 1.0}, meant)) == [NONE, "day", "multiply"]
    assert choose_roles(make_rows(thought)) == ["multiply"]
    # "Between 4 and 7": floor x cap = .5 x .45 is more than floor x none = .5 x .05 and cap x floor = .4 x .5
    limits = make_rows({"floor": 0.5, "cap": 0.4, NONE: 0.1}, {"floor": 0.5, "cap": 0.45, NONE: 0.05})
    assert choose_roles(limits) == ["floor", "cap"]
    assert choose_roles(limits.flip(0)) == ["cap", "floor"]
    # Three of a kind, of which the two likeliest are one and the same.
    assert choose_roles(make_rows(thought, thought, meant)) == [NONE, NONE, "multiply"]


def test_several_values_at_several_times_are_left_for_the_grammar_to_refuse():
    cap = {"cap": 0.6, NONE: 0.4}
    assert choose_roles(make_rows(cap, {"day": 1.0}, cap, {"day": 1.0})) == ["cap", "day", "cap", "day"]
    assert choose_roles(make_rows(cap, {"start": 1.0}, {"end": 1.0}, cap)).count("cap") == 1


def test_what_gives_way_gets_no_role_that_is_forbidden_and_is_asked_for_its_own_certainty():
    assert choose_roles(make_rows({"cap": 1.0}, {"cap": 1.0})).count(NONE) == 1
    rows = make_rows({"cap": 0.55, "set": 0.3, NONE: 0.15}, {"cap": 0.9, NONE: 0.1})
    assert choose_roles(rows) == ["set", "cap"]
    assert choose_roles(rows, confidence=0.4) == [NONE, "cap"]
    assert choose_roles(rows[:1], confidence=0.56) == [NONE]


def make_statements(*shares):
    rows = torch.zeros(len(shares), len(STATEMENTS))
    for row, zero in zip(rows, shares, strict=True):
        row[STATEMENTS.index("zero")], row[0] = zero, 1 - zero
    return rows


def test_a_time_that_is_told_is_that_of_the_likeliest_thing_in_the_text():
    roles = make_rows({"start": 0.9, NONE: 0.1}, {"cap": 0.35, NONE: 0.65})
    found = ["start", NONE]
    assert complete_text(found, [NONE, NONE], roles, make_statements(0.1, 0.4)) == (found, [NONE, "zero"])
    assert complete_text(found, [NONE], roles, make_statements(0.34)) == (["start", "cap"], [NONE])
    assert complete_text(found, [NONE], roles, make_statements(0.34), least=0.36) == (found, [NONE])
    assert found == ["start", NONE]  # what was given stays as it was


@pytest.mark.parametrize(
    ("found", "stated"),
    [
        ([NONE, NONE], [NONE]),  # no time is told
        (["end", NONE], [NONE]),  # nor when it begins
        (["start", "cap"], [NONE]),
        (["start", NONE], ["over"]),
        (["start", "delay"], [NONE]),
    ],
)
def test_a_text_without_a_time_or_with_something_told_is_left_as_it_is(found, stated):
    roles = make_rows({"start": 0.5, NONE: 0.5}, {"set": 0.49, NONE: 0.51})
    assert complete_text(found, stated, roles, make_statements(0.49)) == (found, stated)


def test_a_reader_completes_a_text_and_not_beyond_its_confidence(llm, tokenizer):  # noqa: F811
    encoder, head = build(llm, tokenizer)
    with torch.no_grad():
        for member in head.members:
            member.role.weight[:] = 0
            member.role.bias[:] = torch.tensor([{"start": 1e6, NONE: 1e3}.get(role, 0.0) for role in ROLES])
            member.statement.weight[:] = 0
            member.statement.bias[:] = torch.tensor([0.6, 0.4, 1e-9, 1e-9]).log()
    assert LearnedReader(encoder, head).read("It begins at 8 am.").statements == ["zero"]
    assert LearnedReader(encoder, head).read("It begins.").statements == [NONE]
    unsure = ReaderHead(dataclasses.replace(head.config, confidence=0.5))
    unsure.load_state_dict(head.state_dict())
    assert LearnedReader(encoder, unsure).read("It begins at 8 am.").statements == [NONE]


def test_a_head_gives_a_factor_no_role_that_training_never_tells(llm, tokenizer):  # noqa: F811
    encoder, head = build(llm, tokenizer)
    with torch.no_grad():
        for member in head.members:
            member.role.bias[ROLES.index("lower")] = 1e6
            member.role.bias[ROLES.index("multiply")] = 1e3
    assert LearnedReader(encoder, head).read("Down 3 times, or 3.").roles == ["multiply", "lower"]


def test_mentions_of_a_kind_read_alike_and_keep_their_places():
    text = "On 2024-01-11, 1,234 came. Sales double by 7 pm tomorrow, for two hours; minus 5 per cent since 1987."
    first, second = simplify(Reading.open(text))
    assert first.text == "\nOn Monday, 40 came."
    assert second.text == "\nSales double by tomorrow 9:00, for 3 hours; minus 40% since 1990."
    assert [first.text[a:b] for a, b in first.places] == ["Monday", "40"]
    assert second.kinds == ("factor", "moment", "duration", "percent", "number")
    assert [second.text[a:b] for a, b in second.places] == ["double", "tomorrow 9:00", "3 hours", "40%", "1990"]
    other = simplify(Reading.open(text.replace("1,234", "7").replace("two hours", "a week")))
    assert [first, second] == other


def test_a_number_that_is_a_factor_reads_as_one_and_words_of_factors_stay():
    (sentence,) = simplify(Reading.open("Up 1.3x, or by a factor of 12, to triple the usual 40 times 7."))
    assert sentence.text == "\nUp 3x, or by a factor of 3, to triple the usual 3 times 40."
    assert sentence.kinds == ("factor", "factor", "factor", "factor", "number")


def test_features_average_the_mention_its_surroundings_and_the_end():
    (sentence,) = simplify(Reading.open("Cap 9 now!"))
    assert sentence.text == "\nCap 40 now!"
    number = len(sentence.text)
    states = np.arange(number, dtype=np.float16)[:, None]  # one token a character
    offsets = np.array([(k, k + 1) for k in range(number)], np.int32)
    features = build_features([EncodedText(states, offsets)], [sentence])
    # "40" stands at 5 and 6, "Cap " at 1 to 4 (the line break is left out), " now!" at 7 to 11.
    assert features.mentions[0, :, 0].tolist() == [5.5, 2.5, 9.0, 10.5]
    assert features.sentences[0, :, 0].tolist() == [6.0, 11.0, 10.5]
    assert (features.kinds.tolist(), features.counts) == ([0], (1,))


def test_other_sentences_of_a_text_do_not_matter(llm, tokenizer):  # noqa: F811
    encoder, head = build(llm, tokenizer)
    reader = LearnedReader(encoder, head)
    alone = reader.read("At most 7 of them from 8 am.")
    together = reader.read("Closed for 2 hours. At most 7 of them from 8 am.")
    assert together.roles[1:] == alone.roles
    assert together.statements[1:] == alone.statements


def test_a_reader_keeps_silent_where_its_vote_is_unsure_but_not_about_moments(llm, tokenizer):  # noqa: F811
    encoder, head = build(llm, tokenizer)
    with torch.no_grad():
        for member, cap in zip(head.members, (1e6, -1e6), strict=True):  # one half of the vote for a cap
            member.role.weight[:] = 0
            member.role.bias[:] = -1e6
            member.role.bias[ROLES.index("cap")] = cap
            member.role.bias[ROLES.index("lower")] = -cap
            member.role.bias[ROLES.index("start")] = 0
            member.statement.weight[:] = 0
            member.statement.bias[:] = torch.tensor([0.0, 0.1, 0.0, 0.0])
    text = "At most 7 from 8 am."
    assert LearnedReader(encoder, head).read(text).statements == ["zero"]
    assert LearnedReader(encoder, head).read(text).roles[0] in {"cap", "lower"}
    unsure = ReaderHead(dataclasses.replace(head.config, confidence=0.6))
    unsure.load_state_dict(head.state_dict())
    reading = LearnedReader(encoder, unsure).read(text)
    assert (reading.roles, reading.statements) == ([NONE, "start"], [NONE])


def test_training_learns_what_it_is_shown_and_members_differ(llm, tokenizer):  # noqa: F811
    encoder = TextEncoder(llm, tokenizer)
    sentences = collect_sentences(write_pairs(12, 3))
    assert len({s.plain.text for s in sentences}) == len(sentences)
    shown = encode_sentences(encoder, sentences)
    features = shown.features
    assert sum(features.counts) == len(features.mentions) == sum(len(s.roles) for s in sentences)
    config = ReaderConfig(hidden_size=32, d_model=32, num_members=2, dropout=0.0)
    torch.manual_seed(0)
    args = ReaderArguments("", max_steps=150, learning_rate=1e-2)
    fresh, head = ReaderHead(config).eval(), train_head(config, [shown], args)
    before, after = (score_reader(h, shown) for h in (fresh, head))
    assert after["role"] > 0.9 > 0.5 > before["role"]
    assert after["told"] > 0.8
    assert not torch.equal(head.members[0].role.weight, head.members[1].role.weight)


def test_each_member_learns_from_its_own_draw(llm, tokenizer):  # noqa: F811
    encoder = TextEncoder(llm, tokenizer)
    told = encode_sentences(encoder, collect_sentences(write_pairs(12, 3)))
    silent = [dataclasses.replace(s, roles=(NONE,) * len(s.roles), statement=NONE) for s in told.sentences]
    quiet = dataclasses.replace(told, sentences=silent)
    config = ReaderConfig(hidden_size=32, d_model=32, num_members=2, dropout=0.0)
    args = ReaderArguments("", max_steps=150, learning_rate=1e-2)

    def train(*draws):
        torch.manual_seed(0)
        return train_head(config, draws, args)

    apart, shared = train(told, quiet), train(told)
    alone = [ReaderHead(dataclasses.replace(config, num_members=1)).eval() for _ in apart.members]
    for head, member in zip(alone, apart.members, strict=True):
        head.members[0].load_state_dict(member.state_dict())
    assert score_reader(alone[0], told)["role"] > 0.9
    assert score_reader(alone[1], told)["role"] == 0.0
    assert score_reader(alone[1], quiet)["quiet"] == 1.0
    assert torch.equal(apart.members[0].role.weight, shared.members[0].role.weight)
    with pytest.raises(ValueError, match="longer"):
        train(told, quiet, told)


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
    with pytest.raises(ValueError, match="d_model is 10; it must be a multiple of 4"):
        ReaderConfig(d_model=10)
    with pytest.raises(ValueError, match=r"confidence is 1.0; it must lie in \[0, 1\)"):
        ReaderConfig(confidence=1.0)
    # What version 1 wrote, whose head was another.
    settings = tmp_path / "reader" / "reader.json"
    settings.write_text(settings.read_text().replace('"num_members": 2', '"num_layers": 2, "num_heads": 4'))
    with pytest.raises(ValueError, match=r"unknown settings \['num_heads', 'num_layers'\].*train the reader again"):
        LearnedReader.load_head(tmp_path / "reader")


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
    openings = [frame.split("{")[0] for frame in DENIALS if len(frame.split("{")[0]) > 12]
    assert sum(opening in told for opening in openings) > 5
    assert not any(opening in plain for opening in openings)
    held = {words for kinds in EFFECTS.values() for part in kinds for words in part[4::5]}
    assert not held & {words for kinds in (*MORE.values(), *COMPOSED.values()) for part in kinds for words in part}
    with pytest.raises(ValueError, match="leave wide out"):
        write_pairs(1, 0, held_out=True, wide=True)


def test_the_fold_for_development_leaves_the_one_to_test_on_unseen():
    told = {
        name: " ".join(r.text for r in write_pairs(500, 0, held_out, fold=fold))
        for name, held_out, fold in (("train", False, 3), ("valid", True, 3), ("final", False, 4))
    }
    seen, valid, test = (EFFECTS["cap"][0][k].split("{v}")[0].split("{q}")[-1] for k in (1, 3, 4))
    assert [seen in told[name] for name in told] == [True, False, True]
    assert [valid in told[name] for name in told] == [False, True, True]
    assert [test in told[name] for name in told] == [False, False, False]
    with pytest.raises(ValueError, match="fold is 2; choose 4, the one to test on, or 3"):
        write_pairs(1, 0, fold=2)


def test_new_words_may_stand_in_forms_that_training_has():
    words, both = (PairWriter(0, True, old_forms=old) for old in (True, False))
    forms, clauses = SPAN_FORMS[4::5], EFFECTS["zero"][0][4::5]
    assert {words._pick_span("zero")[0] for _ in range(200)} == {f for k, f in enumerate(SPAN_FORMS) if k % 5 < 4}
    assert {both._pick_span("zero")[0] for _ in range(200)} == set(forms)
    for writer in (words, both):
        assert {writer._pick_words("zero")[0] for _ in range(200)} == set(clauses)


def test_opposites_stand_in_the_same_frames_and_nothing_of_the_stock_comes_twice():
    for one, other, up, down in (("raise", "lower", "higher", "lower"), ("cap", "floor", "above", "below")):
        assert any(up in words for words in COMPOSED[one][0])
        assert any(down in words for words in COMPOSED[other][0])
        assert not {*COMPOSED[one][0]} & {*COMPOSED[other][0]}
    known = {words for kinds in EFFECTS.values() for part in kinds for words in part}
    assert not known & {words for kinds in COMPOSED.values() for part in kinds for words in part}
    for kind, parts in COMPOSED.items():
        slot = {"factor": "{f}", "zero": "", "over": ""}.get(kind, "{v}")
        assert all(slot in words for words in (*parts[0], *parts[1]))


def test_clauses_tell_of_every_kind_and_take_some_back():
    clauses = write_clauses(300, 0, wide=True)
    assert [r.text for r in clauses] == [r.text for r in write_clauses(300, 0, wide=True)]
    assert {role for r in clauses for role in r.roles} >= {*VALUES, NONE, "start", "length"} - {"add", "subtract"}
    assert {s for r in clauses for s in r.statements} == {NONE, "zero"}
    assert all("{" not in r.text for r in clauses)
    taken_back = [r for r in clauses if r.text.startswith(("Nobody expects that", "It is wrong that"))]
    assert taken_back
    assert all({*r.roles} <= {NONE} and r.statements == [NONE] for r in taken_back)

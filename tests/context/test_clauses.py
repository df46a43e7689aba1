"""Several effects at several times in one sentence: each clause is read by itself, or none."""

import pytest

from tests.context.sentences import WEEK, understand
from tsllm.context.parser import read_by_rules
from tsllm.context.readers import read_in_turn, sort_effects
from tsllm.context.reading import NONE, Reading

CLOSED_THEN_DOUBLE = "set 0 from 3 to 4 | multiply 2 from 5 to 6"
APART = {
    "We are closed on Wednesday and sales double on Friday.": CLOSED_THEN_DOUBLE,
    "We are closed on Wednesday, sales double on Friday.": CLOSED_THEN_DOUBLE,
    "We are closed on Wednesday but sales double on Friday.": CLOSED_THEN_DOUBLE,
    "We are closed on Wednesday, but sales double on Friday.": CLOSED_THEN_DOUBLE,
    "Closed on Wednesday; sales double on Friday.": CLOSED_THEN_DOUBLE,
    "Closed on Wednesday while sales double on Friday.": CLOSED_THEN_DOUBLE,
    "On Wednesday we are closed, and on Friday sales double.": CLOSED_THEN_DOUBLE,
    "On Wednesday, we are closed, and on Friday, sales double.": CLOSED_THEN_DOUBLE,
    "Wednesday closed, Friday double.": CLOSED_THEN_DOUBLE,
    "Closed on Wednesday, capped at 50 on Friday.": "set 0 from 3 to 4 | cap 50 from 5 to 6",
    "Closed on Wednesday and capped at 50 on Friday.": "set 0 from 3 to 4 | cap 50 from 5 to 6",
    "At least 20 on Wednesday and at most 50 on Friday.": "floor 20 from 3 to 4 | cap 50 from 5 to 6",
    "Sales rise by 10 on Wednesday and fall by 20 on Friday.": "add 10 from 3 to 4 | add -20 from 5 to 6",
    "Sales rise by 20 % on Tuesday, then fall by 10 % on Friday.":
        "multiply 1.2 from 2 to 3 | multiply 0.9 from 5 to 6",
    "Closed between Tuesday and Thursday, and sales double on Saturday.": "set 0 from 2 to 5 | multiply 2 from 6 to 7",
    "Closed on Tuesday, Wednesday and Friday, and sales double on Saturday.":
        "set 0 from 2 to 3 | set 0 from 3 to 4 | set 0 from 5 to 6 | multiply 2 from 6 to 7",
    "Closed on Wednesday and reopens on Thursday, and sales double on Saturday.":
        "set 0 from 3 to 4 | multiply 2 from 6 to 7",
    "Closed on Wednesday, and on Friday sales double and are capped at 50.":
        "set 0 from 3 to 4 | multiply 2 from 5 to 6 | cap 50 from 5 to 6",
    "We are closed on Wednesday and open on Friday.": "set 0 from 3 to 4",
    "Closed on Wednesday, open as usual on Friday.": "set 0 from 3 to 4",
    "Closed on Wednesday; on Friday the boss is away.": "set 0 from 3 to 4",
    "On Friday the boss is away, and on Wednesday we are closed.": "set 0 from 3 to 4",
    "There is a fair on Friday, and sales double on Saturday.": "multiply 2 from 6 to 7",
}  # fmt: skip
TOGETHER = {
    "Sales are at least 20 and at most 50 on Wednesday and Friday.":
        "floor 20 from 3 to 4 | floor 20 from 5 to 6 | cap 50 from 3 to 4 | cap 50 from 5 to 6",
    "Closed on Wednesday and Friday.": "set 0 from 3 to 4 | set 0 from 5 to 6",
    "Sales double, and are capped at 50, on Friday.": "multiply 2 from 5 to 6 | cap 50 from 5 to 6",
    "There is a fair on Friday, and sales double.": "multiply 2 from 5 to 6",
    "There is a fair on Friday and a market on Saturday, and sales double.":
        "multiply 2 from 5 to 6 | multiply 2 from 6 to 7",
    "Closed on Wednesday and reopens on Friday.": "set 0 from 3 to 5",
}  # fmt: skip
SEVERAL, OTHER, POSSIBLE = "write a sentence for each", "it also says what is at another time", "what may or would be"
REFUSED = {
    "Sales fall by 20 % on Wednesday and 30 % on Friday.": SEVERAL,
    "Sales drop to 40 on Tuesday, 60 on Wednesday and 80 on Thursday.": SEVERAL,
    "Closed on Wednesday, sales halve, and double on Friday.": SEVERAL,
    "Sales rise by 20 % on Tuesday before falling by 10 % on Thursday.": SEVERAL,
    "Closed from Wednesday and open from Friday.": OTHER,
    "Closed on Monday, at 50 % on Tuesday, and open as usual on Wednesday.": SEVERAL,
    "Perhaps sales fall by 10 on Wednesday and we are closed on Friday.": POSSIBLE,
    "If it rains, sales fall by 10 on Wednesday and we are closed on Friday.": "",
    "Not closed on Wednesday, but sales double on Friday.": "",
}


@pytest.mark.parametrize("text", APART)
def test_clauses_with_a_time_of_their_own_are_read_by_themselves(text):
    assert understand(text, WEEK) == (APART[text], "")


@pytest.mark.parametrize("text", TOGETHER)
def test_what_is_said_of_all_times_acts_at_all_of_them(text):
    assert understand(text, WEEK)[0] == TOGETHER[text]


@pytest.mark.parametrize("text", REFUSED)
def test_what_cannot_be_told_apart_changes_nothing(text):
    effects, why = understand(text, WEEK)
    assert (effects, REFUSED[text] in why) == ("", True)


def test_a_clause_that_is_only_possible_leaves_the_other_one():
    said = "The plant may be closed on Wednesday, and sales double on Friday."
    effects, why = understand(said, WEEK)
    assert effects == "multiply 2 from 5 to 6"
    assert POSSIBLE in why


def test_a_reader_that_takes_no_sentence_apart_does_not_multiply_out():
    for said in ("Closed on Wednesday, capped at 50 on Friday.", "At least 20 on Wednesday and at most 50 on Friday."):
        effects, idle = sort_effects(said, WEEK, lambda text: read_by_rules(text, apart=False))
        assert effects == []
        assert {why for _, why in idle} == {
            "several values at several times in one sentence; write a sentence for each"
        }


def test_readers_in_turn_keep_the_clauses_of_the_one_that_they_take():
    text = "Closed on Wednesday; sales double on Friday. It is winter. At most 9 on Monday and at least 3 on Sunday."
    for readers in ((Reading.open, read_by_rules), (read_by_rules, Reading.open)):
        reading = read_in_turn(*readers)(text)
        assert reading == read_by_rules(text)
        assert reading.statements == ["zero", NONE, NONE, NONE, NONE]

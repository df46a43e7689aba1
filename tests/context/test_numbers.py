"""What a written number is: shares beside more and less, signs, ranges, and numbers that English writes otherwise."""

import pytest

from tests.context.sentences import WEEK, understand

THIRD_LESS = "multiply 0.6666666666666667"
SHARES = {
    "A third fewer guests on Wednesday.": THIRD_LESS,
    "We expect a third fewer guests on Wednesday.": THIRD_LESS,
    "Sales are a third lower on Wednesday.": THIRD_LESS,
    "Sales are a third below normal on Wednesday.": THIRD_LESS,
    "Sales fall a third on Wednesday.": THIRD_LESS,
    "Sales fall by a third on Wednesday.": THIRD_LESS,
    "A quarter fewer guests come on Wednesday.": "multiply 0.75",
    "A fifth more guests on Wednesday.": "multiply 1.2",
    "Two fifths more guests on Wednesday.": "multiply 1.4",
    "Sales are up a quarter on Wednesday.": "multiply 1.25",
    "Sales rise by an eighth on Wednesday.": "multiply 1.125",
    "Half as many guests on Wednesday.": "multiply 0.5",
    "Half as many guests again on Wednesday.": "multiply 1.5",
    "Twice as many guests on Wednesday.": "multiply 2",
    "Three times as many guests on Wednesday.": "multiply 3",
    "One and a half times as many guests on Wednesday.": "multiply 1.5",
    "Sales are two and a half times the usual on Wednesday.": "multiply 2.5",
    "Sales fall to a third on Wednesday.": "multiply 0.3333333333333333",
    "Sales fall to 80 % on Wednesday.": "multiply 0.8",
    "Sales drop to 60 percent on Wednesday.": "multiply 0.6",
    "Sales rise to 120 % on Wednesday.": "multiply 1.2",
    "Sales increase to 150% of normal on Wednesday.": "multiply 1.5",
}
WHOLE_WORDS = {
    "Footfall rises by 20 % on Wednesday.": "multiply 1.2",
    "Footfall +20% on Wednesday.": "multiply 1.2",
    "Footfall plus 20 % on Wednesday.": "multiply 1.2",
    "Footfall is 20 % higher on Wednesday.": "multiply 1.2",
    "Footfall is 20 % lower on Wednesday.": "multiply 0.8",
    "Footfall -20 % on Wednesday.": "multiply 0.8",
    "Footfall: minus 20 % on Wednesday.": "multiply 0.8",
    "Downtown sales are 20 % higher on Wednesday.": "multiply 1.2",
    "Rainfall in the uplands, so sales rise by 20 % on Wednesday.": "multiply 1.2",
    "The cutlery shop on the upper floor sells 20 % less on Wednesday.": "multiply 0.8",
    "After a drop in bookings the index of sales rises by 20 % on Wednesday.": "multiply 1.2",
    "Following its disclosure sales rise by 20 % on Wednesday.": "multiply 1.2",
}
NOTHING = {
    "Footfall is 20 % on Wednesday.": "",
    "A discount of -20 % on Wednesday.": "",
    "Humidity -20 % on Wednesday.": "",
    "Sales fall by -20 % on Wednesday.": "",
    "Its disclosure is due on Wednesday.": "",
}
RANGE = "a range or a limit of a change is not read"
CUT = "is no number that is read"
NOT_READ = {
    "Sales capped at 62,5 on Friday.": "'62,5' may be a decimal comma; write 62.5",
    "Capped at 62,5.": "'62,5' may be a decimal comma; write 62.5",
    "Sales fall by 12,5 % on Friday.": "'12,5' may be a decimal comma; write 12.5",
    "Sales fall to 10,50 on Friday.": "'10,50' may be a decimal comma; write 10.50",
    "Capped at 1.200 on Friday.": "'1.200' may be 1200 or 1.2; write one of them",
    "Sales fall by 1.500 on Friday.": "'1.500' may be 1500 or 1.5; write one of them",
    "Capped at 1 200 on Friday.": CUT,
    "Capped at 1'200 on Friday.": CUT,
    "Capped at 1.200,50 on Friday.": CUT,
    "Capped at 1,2000 on Friday.": CUT,
    "Capped at 1.5 million on Friday.": CUT,
    "Capped at two hundred on Friday.": CUT,
    "Sales fall to one hundred and fifty on Friday.": CUT,
    "Sales are 1 1/2 times the usual on Friday.": CUT,
    "Sales rise by one and a half on Friday.": CUT,
    "Sales rise 20-30 % on Friday.": RANGE,
    "Sales rise by 20-30 % on Friday.": RANGE,
    "Sales rise by 20 to 30 % on Friday.": RANGE,
    "Sales rise between 20 and 30 % on Friday.": RANGE,
    "Sales are 20 to 30 % higher on Friday.": RANGE,
    "Capped at 50-60 on Friday.": "a limit of two values is not read",
    "Capped at 50 to 60 on Friday.": "a limit of two values is not read",
}
WRITTEN = {
    "Capped at 1,200 on Friday.": "cap 1200 from 5 to 6",
    "Capped at 1,200,000 on Friday.": "cap 1200000 from 5 to 6",
    "Sales rise by 1,200.5 on Friday.": "add 1200.5 from 5 to 6",
    "Capped at 62.5 on Friday.": "cap 62.5 from 5 to 6",
    "Capped at 12.345 on Friday.": "cap 12.345 from 5 to 6",
    "Capped at 0.500 on Friday.": "cap 0.5 from 5 to 6",
    "Capped at 50, 60 guests come on Friday.": "cap 50 from 5 to 6",
    "At least 20 and at most 50 on Friday.": "floor 20 from 5 to 6 | cap 50 from 5 to 6",
}


@pytest.mark.parametrize("text", [*SHARES, *WHOLE_WORDS])
def test_the_word_of_change_next_to_a_share_says_what_it_is(text):
    assert understand(text, WEEK) == ({**SHARES, **WHOLE_WORDS}[text] + " from 3 to 4", "")


@pytest.mark.parametrize("text", NOTHING)
def test_a_percentage_without_a_change_is_nothing(text):
    assert understand(text, WEEK) == ("", NOTHING[text])


@pytest.mark.parametrize("text", NOT_READ)
def test_no_part_of_a_number_or_a_range_is_taken_for_the_whole(text):
    effects, why = understand(text, WEEK)
    assert (effects, NOT_READ[text] in why) == ("", True)


@pytest.mark.parametrize("text", WRITTEN)
def test_numbers_of_english_are_read_whole(text):
    assert understand(text, WEEK)[0] == WRITTEN[text]

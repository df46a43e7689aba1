"""What stands still, and until when: verbs of standstill, and what returns."""

import pytest

from tests.context.sentences import check_silent, understand

STOPS = {
    "5 May produces nothing.": "set 0 from 5 to 6",
    "The plant produces nothing on 5 May.": "set 0 from 5 to 6",
    "The plant generates nothing on Friday.": "set 0 from 3 to 4",
    "There is no production on Friday.": "set 0 from 3 to 4",
    "The plant is down on Friday.": "set 0 from 3 to 4",
    "The plant is down from 08:00 to 12:00 on Friday.": "set 0 from 3 08:00 to 3 12:00",
    "The line is out on Friday.": "set 0 from 3 to 4",
    "The machine will be idle on Friday.": "set 0 from 3 to 4",
    "The machine stands still on Friday.": "set 0 from 3 to 4",
    "The plant does not run on Friday.": "set 0 from 3 to 4",
    "The plant doesn't operate on Friday.": "set 0 from 3 to 4",
    "The shop does not open on Friday.": "set 0 from 3 to 4",
    "The shop won't open on Friday.": "set 0 from 3 to 4",
    "The plant will not produce on Friday.": "set 0 from 3 to 4",
    "The plant will not run on Friday.": "set 0 from 3 to 4",
    "Nobody works on Friday.": "set 0 from 3 to 4",
    "No one works on Friday.": "set 0 from 3 to 4",
    "Production is zero on Friday.": "set 0 from 3 to 4",
    "Production stops on Friday from 08:00 to 12:00.": "set 0 from 3 08:00 to 3 12:00",
    "The plant is switched off on Friday.": "set 0 from 3 to 4",
    "There will be no sales on Friday.": "set 0 from 3 to 4",
    "Nothing is sold on Friday.": "set 0 from 3 to 4",
    "No electricity is produced on Friday.": "set 0 from 3 to 4",
    "The wind farm will be out on Friday.": "set 0 from 3 to 4",
    "Unit 2 is down on Friday.": "set 0 from 3 to 4",
    "Unit 2 is down by 20 MW on Friday.": "add -20 from 3 to 4",
    "The grid is down 10 MW on Friday.": "add -10 from 3 to 4",
    "The plant isn't running on Friday.": "set 0 from 3 to 4",
    "The plant is not in operation on Friday.": "set 0 from 3 to 4",
    "The plant cannot operate on Friday.": "set 0 from 3 to 4",
    "The plant can't operate on Friday.": "set 0 from 3 to 4",
    "We do not work on Friday.": "set 0 from 3 to 4",
    "We don't sell anything on Friday.": "set 0 from 3 to 4",
    "The factory produces nothing from 08:00 to 12:00 on Friday.": "set 0 from 3 08:00 to 3 12:00",
    "On Friday nothing is produced.": "set 0 from 3 to 4",
    "On Friday nobody works.": "set 0 from 3 to 4",
    "Demand will be zero on Friday.": "set 0 from 3 to 4",
    "No tickets are sold on Friday.": "set 0 from 3 to 4",
    "No one works from 08:00 to 12:00 on Friday.": "set 0 from 3 08:00 to 3 12:00",
    "The station closes from Friday to Sunday.": "set 0 from 3 to 6",
    "The plant stops from 10:00 for two hours.": "set 0 from 2 10:00 to 2 12:00",
    "Sales are down to 20 on Friday.": "set 20 from 3 to 4",
}
RETURNS = {
    "The plant is closed from Saturday and reopens on Sunday.": "set 0 from 4 to 5",
    "The plant is closed on Saturday and reopens on Sunday.": "set 0 from 4 to 5",
    "The plant is closed on Saturday and reopens on Monday.": "set 0 from 4 to 6",
    "The plant is closed from Saturday and reopens on Sunday at 14:00.": "set 0 from 4 to 5 14:00",
    "The plant is closed from Friday 08:00 and is back on Sunday.": "set 0 from 3 08:00 to 5",
    "The plant is closed from Friday and is back at 14:00 on Saturday.": "set 0 from 3 to 4 14:00",
    "The plant is closed from Friday, and production resumes on Sunday.": "set 0 from 3 to 5",
    "The plant is closed from Friday. It reopens on Sunday.": "set 0 from 3 to 5",
    "Output halves from Friday and returns to normal on Sunday.": "multiply 0.5 from 3 to 5",
    "Output halves from Friday on. From Sunday on it is back to normal.": "multiply 0.5 from 3 to 5",
    "The plant is closed from Friday and returns on Sunday.": "set 0 from 3 to 5",
    "The plant is closed from Friday until it reopens on Sunday.": "set 0 from 3 to 5",
    "The plant is closed on Friday from 08:00 and resumes at 14:00.": "set 0 from 3 08:00 to 3 14:00",
    "The plant is closed on Friday at 08:00 and reopens at 14:00.": "set 0 from 3 08:00 to 3 14:00",
    "The plant is closed from Friday to Saturday and reopens on Sunday.": "set 0 from 3 to 5",
    "The plant goes down on Friday at 08:00 and is back online on Saturday at 06:00.": "set 0 from 3 08:00 to 4 06:00",
    "The mill is closed on Friday and opens again on Monday.": "set 0 from 3 to 6",
    "The mill is closed from Friday 18:00 until it restarts on Sunday at 06:00.": "set 0 from 3 18:00 to 5 06:00",
    "The mill is closed Friday. Production restarts on Sunday at 06:00.": "set 0 from 3 to 5 06:00",
    "From Friday the mill is shut down, back on Monday.": "set 0 from 3 to 6",
    "Output halves from Friday. Everything is back to normal on Monday.": "multiply 0.5 from 3 to 6",
    "Sales fall by 10 from Friday and return to normal on Sunday.": "add -10 from 3 to 5",
    "Sales fall by 20 % on Friday and recover on Sunday.": "multiply 0.8 from 3 to 5",
    "The mill is closed from Friday, and from Sunday on it runs again.": "set 0 from 3 to 5",
    "The manager is back on Sunday. Sales fall by 20 % on Friday.": "multiply 0.8 from 3 to 4",
    "Sales fall by 20 % from Friday on. The manager is back on Sunday.": "multiply 0.8 from 3",
    "The mill is closed on Friday from 22:00 to Saturday 06:00.": "set 0 from 3 22:00 to 4 06:00",
}
NO_STOPS = {
    "Prices are down on Friday.": "",
    "The weather forecast is out on Friday.": "",
    "There is no doubt about Friday.": "",
    "There is no rain on Friday.": "",
    "There is no reason to worry on Friday.": "",
    "There are no restrictions on Friday.": "",
    "There is no maintenance on Friday.": "",
    "The plant does not run at full load on Friday.": "",
    "Nothing changes on Friday.": "",
    "The plant is not down on Friday.": "",
    "The plant is not idle on Friday.": "",
    "The shop does not open earlier on Friday.": "",
    "The team breaks down the numbers on Friday.": "",
    "Visitors are down on Friday.": "",
    "Sales are not down on Friday.": "",
    "On Friday nobody knows what happens.": "",
    "On Friday no one is told.": "",
    "There is zero risk on Friday.": "",
    "The plant won't run as usual on Friday.": "",
    "The plant will not be running at full load on Friday.": "",
    "The plant never stops.": "",
    "The plant does not stop on Friday.": "",
    "There is no need to close on Friday.": "",
    "The shop closes on Friday at 14:00.": "",
    "The shop closes earlier on Friday.": "",
    "The plant is back in operation on Sunday.": "",
    "The plant reopens on Sunday.": "",
    "The mill reopens on Friday.": "",
}


NO_MORE = {
    "No more than 90 guests on Friday.": "cap 90 from 3 to 4",
    "No fewer than 90 guests on Friday.": "floor 90 from 3 to 4",
    "No less than 50 on Friday.": "floor 50 from 3 to 4",
}
NONE_COUNTED = [
    "No guests on Friday.",
    "No sales are expected on Friday.",
    "There are no visitors on Friday.",
    "There won't be any sales on Friday.",
    "We do not expect any guests on Friday.",
    "No customers at all on Friday.",
    "No trains run on Friday.",
    "No cars are sold on Friday.",
    "No output on Friday.",
]
NONE_OF_OTHERS = [
    "No staff shortage is expected on Friday.",
    "No sales tax on Friday.",
    "No delivery on Friday.",
    "No staff on Friday.",
    "No football on Friday.",
    "No customer complaints on Friday.",
    "No traffic jams on Friday.",
    "No orders are lost on Friday.",
    "There won't be any parking on Friday.",
    "The disclosure is due on Friday.",
]
ELSEWHERE = [
    "Half of the tables are out of order on Friday.",
    "One of two tills is closed on Friday.",
    "The lift is out of service on Friday.",
    "Lift out of service on Friday.",
    "The road to the shop is closed on Friday.",
    "The bakery next door is closed on Friday.",
    "The car park is closed on Friday.",
    "The main entrance will be closed on Friday.",
    "The shop opposite the station is closed on Friday.",
    "Schools are closed on Friday.",
    "Road closures on Friday.",
    "The closure of the bridge begins on Friday.",
    "Internet outage on Friday.",
]


@pytest.mark.parametrize("text", NO_MORE)
def test_no_more_and_no_less_than_are_limits_alone(text):
    assert understand(text) == (NO_MORE[text], "")


@pytest.mark.parametrize("text", NONE_COUNTED)
def test_none_of_what_a_series_counts_is_a_standstill(text):
    assert understand(text) == ("set 0 from 3 to 4", "")


@pytest.mark.parametrize("text", NONE_OF_OTHERS)
def test_none_of_something_else_is_nothing(text):
    assert understand(text) == ("", "")


@pytest.mark.parametrize("text", ELSEWHERE)
def test_a_part_or_a_neighbour_that_stands_still_is_nothing_and_that_is_said(text):
    effects, why = understand(text)
    assert (effects, "only a part, or something else than the series" in why) == ("", True)


def test_a_part_that_stands_still_is_no_news_where_the_sentence_says_what_happens():
    said = "With the lift out of service on Friday, sales fall by 20 %."
    assert understand(said) == ("multiply 0.8 from 3 to 4", "")
    assert understand("The lift and the mill are closed on Friday.") == ("set 0 from 3 to 4", "")


@pytest.mark.parametrize("text", STOPS)
def test_a_standstill_is_read(text):
    assert understand(text)[0] == STOPS[text]


@pytest.mark.parametrize("text", RETURNS)
def test_a_standstill_ends_when_all_is_as_before(text):
    assert understand(text)[0] == RETURNS[text]


@pytest.mark.parametrize("text", NO_STOPS)
def test_what_is_no_standstill_changes_nothing(text):
    check_silent(text, NO_STOPS[text])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Closed on Friday instead of Saturday.", "from a correction"),
        ("The closure has been moved from Friday to Saturday.", "from a correction"),
        ("Closed on Mondays in May.", "weekdays of a month"),
        ("Sales double on Sundays in May.", "weekdays of a month"),
        ("The next three Fridays are closed.", "so many weekdays"),
        ("The outage is over since this morning.", "what is over"),
        ("Output is 20 % and 40 % lower on Friday and Saturday, respectively.", "what belongs to which"),
        ("Output slowly declines from 14 to 6 over Friday.", "a gradual change"),
        ("On Friday the station is offline between 14h and 16h.", "write it as 14:00"),
        ("The station is offline on Friday 14.00-16.00.", "write times as 14:00"),
        ("Our supplier is closed on Friday.", "something else"),
        ("Rumour has it that the plant is closed on Friday.", "only says what may"),
    ],
)
def test_what_is_corrected_or_said_of_others_changes_nothing_and_says_why(text, reason):
    check_silent(text, reason)


def test_a_correction_behind_a_comma_leaves_what_stands_before_it():
    for text, effects in (
        ("Closed on Friday, not Saturday as announced earlier.", "set 0 from 3 to 4"),
        ("The closure is on Saturday, not on Friday.", "set 0 from 4 to 5"),
    ):
        assert understand(text)[0] == effects


def test_what_something_costs_is_lost():
    assert (
        understand("The strike costs us a third of our output on Friday.")[0]
        == "multiply 0.6666666666666667 from 3 to 4"
    )
    assert understand("The strike costs us 20 % of our sales on Friday.")[0] == "multiply 0.8 from 3 to 4"

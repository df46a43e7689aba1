"""Hours without a sign of the clock, and other ways to say how long something lasts."""

import pandas as pd
import pytest

from tests.context.sentences import DAYS, FROM_TEN, check_silent, understand
from tsllm.context.dated import list_versions
from tsllm.context.notes import Note

BARE = {
    "The plant is closed on Friday from 8 to 14.": "set 0 from 3 08:00 to 3 14:00",
    "The plant is closed from 8 to 14 on Friday.": "set 0 from 3 08:00 to 3 14:00",
    "The plant is closed between 9 and 17 on Friday.": "set 0 from 3 09:00 to 3 17:00",
    "The plant is closed from 8 to 14.": "set 0 from 2 08:00 to 2 14:00",
    "The plant is closed tomorrow from 8 till noon.": "set 0 from 2 08:00 to 2 12:00",
    "The plant is closed on Friday, 8-14 h.": "set 0 from 3 08:00 to 3 14:00",
    "The plant is closed from 8 to 14 h on Friday.": "set 0 from 3 08:00 to 3 14:00",
    "The plant is closed from 6 in the morning to 2 in the afternoon on Friday.": "set 0 from 3 06:00 to 3 14:00",
    "The plant is closed from 8 o'clock to 10 o'clock on Friday.": "set 0 from 3 08:00 to 3 10:00",
    "The plant is closed on Friday from 22 to 2.": "set 0 from 3 22:00 to 4 02:00",
    "The plant is closed daily from 8 to 14.": "set 0 from 2 08:00 to 2 14:00 every 1 d",
    "Sales rise by 20 % from 8 to 14 on Friday.": "multiply 1.2 from 3 08:00 to 3 14:00",
    "Sales rise by 10 units from 8 to 14 on Friday.": "add 10 from 3 08:00 to 3 14:00",
    "Output is capped at 60 from 8 to 14 on Friday.": "cap 60 from 3 08:00 to 3 14:00",
    "Between 9 and 17 on Friday demand doubles.": "multiply 2 from 3 09:00 to 3 17:00",
    "Sales rise from 8 to 14 on Friday.": "set 14 from 3 to 4",
    "The mill stands still from 8 to 16 tomorrow.": "set 0 from 2 08:00 to 2 16:00",
    "Tomorrow, from 8 to 16, the mill is closed.": "set 0 from 2 08:00 to 2 16:00",
    "Tomorrow between 10 and 15, output is capped at 60.": "cap 60 from 2 10:00 to 2 15:00",
    "From 22 to 6 the mill is closed.": "set 0 from 2 22:00 to 3 06:00",
    "The mill is closed from 0 to 24 on Friday.": "set 0 from 3 to 4",
    "The mill is closed on Friday from 13 until midnight.": "set 0 from 3 13:00 to 4",
    "The mill is closed from 8 to 14 on Friday and Saturday.": (
        "set 0 from 3 08:00 to 3 14:00 | set 0 from 4 08:00 to 4 14:00"
    ),
    "The mill is closed on Fridays from 8 to 14.": "set 0 from 3 08:00 to 3 14:00 every 7 d",
    "The mill is closed from 9 in the evening to 5 in the morning.": "set 0 from 2 21:00 to 3 05:00",
    "The mill is closed from 6 in the morning until noon on Friday.": "set 0 from 3 06:00 to 3 12:00",
    "The fair is open from 10 to 18 on Friday. Demand doubles.": "multiply 2 from 3 10:00 to 3 18:00",
    "Sales double from 10 to 18 on Friday.": "multiply 2 from 3 10:00 to 3 18:00",
    "The price rises from 10 to 18 on Friday.": "set 18 from 3 to 4",
    "Prices rise by 20 % between 17 and 20.": "multiply 1.2 from 2 17:00 to 2 20:00",
    "Prices rise by 5 between 17 and 20.": "add 5 from 2 17:00 to 2 20:00",
}
SPANS = {
    "The plant is closed all day Friday.": "set 0 from 3 to 4",
    "The plant is closed Friday morning.": "set 0 from 3 06:00 to 3 12:00",
    "The plant is closed Friday afternoon.": "set 0 from 3 12:00 to 3 18:00",
    "The plant is closed on Friday evening.": "set 0 from 3 18:00 to 4",
    "The plant is closed over the weekend.": "set 0 from 4 to 6",
    "The plant is closed the whole weekend.": "set 0 from 4 to 6",
    "The plant is closed at the weekend.": "set 0 from 4 to 6",
    "The plant is closed all weekend.": "set 0 from 4 to 6",
    "The plant is closed this weekend.": "set 0 from 4 to 6",
    "The plant is closed until further notice.": "set 0",
    "The plant is closed from Friday until further notice.": "set 0 from 3",
    "The plant is closed until Friday.": "set 0 to 4",
    "The plant is closed until Friday morning.": "set 0 to 3 12:00",
    "The plant is closed from tomorrow on.": "set 0 from 2",
    "The plant is closed from tomorrow onwards.": "set 0 from 2",
    "The plant is closed as of tomorrow.": "set 0 from 2",
    "The plant is closed starting tomorrow.": "set 0 from 2",
    "The plant is closed for the first three hours.": "set 0 from 2 to 2 03:00",
    "The plant is closed for the first three hours on Friday.": "set 0 from 3 to 3 03:00",
    "The plant is closed during the first 3 hours of Friday.": "set 0 from 3 to 3 03:00",
    "The plant is closed for the next 6 hours.": "set 0 from 2 to 2 06:00",
    "The plant is closed the day after tomorrow.": "set 0 from 3 to 4",
    "The plant is closed on Friday and Saturday.": "set 0 from 3 to 4 | set 0 from 4 to 5",
    "The plant is closed throughout Friday.": "set 0 from 3 to 4",
    "The plant is closed for the whole of Friday.": "set 0 from 3 to 4",
    "The plant is closed for all of Friday.": "set 0 from 3 to 4",
    "The plant is closed Friday to Sunday.": "set 0 from 3 to 6",
    "The plant is closed today.": "set 0 from 2 to 3",
    "The plant is closed tomorrow.": "set 0 from 2 to 3",
    "The plant is closed tomorrow from 08:00.": "set 0 from 2 08:00 to 3",
    "The plant is closed from Friday morning to Saturday evening.": "set 0 from 3 06:00 to 5",
    "The plant is closed on the afternoon of Friday.": "set 0 from 3 12:00 to 3 18:00",
    "The plant is closed the last two hours of Friday.": "set 0 from 3 22:00 to 4",
    "The plant is closed on Friday for 3 hours from 08:00.": "set 0 from 3 08:00 to 3 11:00",
    "The plant is closed for the whole horizon.": "set 0",
    "The plant is permanently closed.": "set 0",
    "For the whole of the weekend the mill is closed.": "set 0 from 4 to 6",
    "The mill is closed on Friday all day.": "set 0 from 3 to 4",
    "The mill is closed all Friday.": "set 0 from 3 to 4",
    "The mill is closed on Friday from 14:00 for the rest of the day.": "set 0 from 3 14:00 to 4",
    "The mill is closed from 14:00 for the rest of the day.": "set 0 from 2 14:00 to 3",
    "The mill is closed for the last two hours on Friday.": "set 0 from 3 22:00 to 4",
    "The mill is closed for the first 2 hours tomorrow.": "set 0 from 2 to 2 02:00",
    "The mill is closed for the coming three days.": "set 0 from 2 to 5",
    "The mill is closed from now on.": "set 0",
    "The mill is closed between Friday and Sunday.": "set 0 from 3 to 6",
    "The mill is closed until Friday 14:00.": "set 0 to 3 14:00",
    "The mill is closed until 14:00 on Friday.": "set 0 to 3 14:00",
    "The mill is closed on Friday before 8 am.": "set 0 from 3 to 3 08:00",
    "The mill is closed on Friday after 20:00.": "set 0 from 3 20:00 to 4",
    "Output is permanently 10 MW lower.": "add -10",
    "Output is 10 MW lower until further notice.": "add -10",
}
OF_DAYS = {
    "Sales rise by 10 units tomorrow.": "add 10 from 2 to 3",
    "Sales drop by 15 units from Friday to Sunday.": "add -15 from 3 to 6",
    "The shop sells 100 more than usual on Saturday.": "add 100 from 4 to 5",
    "On weekdays sales are 5 lower.": "",
    "The shop is closed from Saturday and reopens on Monday.": "set 0 from 4 to 6",
    "The shop runs at half capacity next week.": "multiply 0.5 from 6 to 13",
    "The shop is closed from 8 to 14.": "",
    "The shop is closed from 8 to 14 on Friday.": "",
    "The shop is closed from 8 to 14 May.": "set 0 from 8 to 15",
    "The shop is closed all weekend.": "set 0 from 4 to 6",
    "The shop is closed for the first three days.": "set 0 from 2 to 5",
    "The shop is closed for the next 3 days.": "set 0 from 2 to 5",
    "5 May produces nothing.": "set 0 from 5 to 6",
    "Sales fall to 40 on Friday.": "set 40 from 3 to 4",
    "We expect 30 extra visitors on Sunday.": "add 30 from 5 to 6",
    "The shop does not open on 5 and 6 May.": "set 0 from 5 to 6 | set 0 from 6 to 7",
}
WITHIN_A_DAY = {
    "The plant is closed for the rest of the day.": "set 0 to 3",
    "The plant is closed today.": "set 0 from 2 to 3",
    "The plant is closed tomorrow.": "set 0 from 3 to 4",
    "The plant is closed for the next 6 hours.": "set 0 from 2 10:00 to 2 16:00",
    "The plant is closed for the first three hours.": "set 0 from 2 10:00 to 2 13:00",
    "The plant is closed from 8 to 14.": "set 0 from 3 08:00 to 3 14:00",
    "The plant is closed from 12 to 14.": "set 0 from 2 12:00 to 2 14:00",
    "The plant is closed this afternoon.": "set 0 from 2 12:00 to 2 18:00",
}
NOT_HOURS = {
    "Sales go from 8 to 14 units on Friday.": "",
    "Output is between 8 and 14 on Friday.": "",
    "The plant runs at from 20 to 30 % on Friday.": "",
    "The plant runs at between 20 and 30 % on Friday.": "",
    "Sales rise by 10 to 20 units on Friday.": "a range or a limit of a change",
    "Sales rise by between 10 and 20 % on Friday.": "a range or a limit of a change",
    "The plant is closed from 8 to 14 units.": "'from 8 to 14' may be hours or amounts; write 08:00",
    "The plant is closed at night.": "'at night' names no exact time; write dates and hours",
    "The plant is closed from 25 to 30.": "",
    "The plant is closed on Friday from 8 am to 10.": "'8 am to 10' names no exact time; write dates and hours",
    "Tomorrow between 10 and 15 output is capped at 60.": "'between 10 and 15' may be hours or amounts; write 08:00",
    "The mill is closed on Friday from 8 until midnight.": (
        "which time Friday to midnight is remains open; write dates and hours"
    ),
    "The mill is closed on Friday from 8 to 5.": "'from 8 to 5' may be hours or amounts; write 08:00",
    "The mill is closed at 8 on Friday.": "'at 8' may be hours or amounts; write 08:00",
    "The price is from 20 to 30 on Friday.": "",
    "The price varies from 8 to 14 on Friday.": "",
    "Rooms from 8 to 14 are closed on Friday.": "'from 8 to 14' may be hours or amounts; write 08:00",
    "Machines 8 to 14 rest on Friday.": "",
    "The price falls from 10 to 18 on Friday.": "",
    "It is between 20 and 25 degrees on Friday.": "",
    "The plant has between 8 and 14 units.": "",
    "The mill is closed during business hours on Friday.": (
        "'business hours' names no exact time; write dates and hours"
    ),
    "The mill is closed at peak hours on Friday.": "'peak hours' names no exact time; write dates and hours",
    "The mill was permanently closed in 2019.": "",
}


@pytest.mark.parametrize("text", BARE)
def test_hours_without_a_sign_of_the_clock_are_read_where_nothing_else_can_be_meant(text):
    assert understand(text)[0] == BARE[text]


@pytest.mark.parametrize("text", NOT_HOURS)
def test_what_may_be_amounts_or_the_other_half_of_the_day_is_not_read(text):
    check_silent(text, NOT_HOURS[text])


@pytest.mark.parametrize("text", SPANS)
def test_a_span_is_read_as_it_is_said(text):
    assert understand(text)[0] == SPANS[text]


@pytest.mark.parametrize("text", OF_DAYS)
def test_a_step_of_a_day_has_days_and_no_hours(text):
    assert understand(text, DAYS)[0] == OF_DAYS[text]


@pytest.mark.parametrize("text", WITHIN_A_DAY)
def test_a_horizon_that_begins_within_a_day_completes_what_is_left_open(text):
    assert understand(text, FROM_TEN)[0] == WITHIN_A_DAY[text]


def test_bare_hours_of_a_series_of_days_say_why_they_are_not_read():
    assert (
        "'from 8 to 14' may be hours or amounts; write 08:00" in understand("Closed from 8 to 14 on Friday.", DAYS)[1]
    )


@pytest.mark.parametrize(
    ("text", "said", "until"),
    [
        ("Closed from 8 to 14.", "Said on 2024-01-10 09:00: Closed from 8 to 14.", "2024-01-11 14:00"),
        ("Closed from 8 till noon.", "Said on 2024-01-10 09:00: Closed from 8 till noon.", "2024-01-11 12:00"),
        ("Closed from 8 to 14 tomorrow.", "Closed from 8 to 14 2024-01-11.", "2024-01-11 14:00"),
        ("Closed all weekend.", "Said on 2024-01-10 09:00: Closed all weekend.", "2024-01-15"),
        (
            "Closed from Friday. It reopens on Sunday.",
            "Closed from 2024-01-12. It reopens on 2024-01-14.",
            "2024-01-14",
        ),
        ("Closed daily from 8 to 14.", "Closed daily from 8 to 14.", None),
        ("Closed until further notice.", "Closed until further notice.", None),
    ],
)
def test_a_reader_that_counts_no_times_is_told_when_it_was_said_and_not_what_is_over(text, said, until):
    (version,) = list_versions(Note(text, pd.Timestamp("2024-01-10 09:00")), pd.Timedelta("1h"))
    assert (version.text, version.until) == (said, None if until is None else pd.Timestamp(until))

"""How people say when: what a sentence about a time is read as, and what is refused instead of read wrongly."""

import numpy as np
import pandas as pd
import pytest

from tsllm.context.applying import Window
from tsllm.context.lexer import find_mentions
from tsllm.context.readers import sort_effects

TIMES = pd.date_range("2024-12-19", "2025-01-05 23:00", freq="h")  # from a Thursday on
PAST = pd.date_range(end="2024-12-18 23:00", periods=60 * 24, freq="h")
WINDOW = Window(np.arange(60.0 * 24), PAST, TIMES, 24)

# What follows "The mill is closed", and the stretches that are meant: from when until before when.
READ = {
    # Dates and times of day, in either order.
    "on 25 December": "2024-12-25 to 2024-12-26",
    "on the 25th of December": "2024-12-25 to 2024-12-26",
    "on December 25, 2024": "2024-12-25 to 2024-12-26",
    "on 25 DEC": "2024-12-25 to 2024-12-26",
    "on 1 January": "2025-01-01 to 2025-01-02",
    "on 2024-12-25": "2024-12-25 to 2024-12-26",
    "on 2024/12/25": "2024-12-25 to 2024-12-26",
    "on 12/25/2024": "2024-12-25 to 2024-12-26",
    "on 25.12.2024": "2024-12-25 to 2024-12-26",
    "on Friday, 20 December": "2024-12-20 to 2024-12-21",
    "on Friday (20 December)": "2024-12-20 to 2024-12-21",
    "on Friday the 20th": "2024-12-20 to 2024-12-21",
    "on the 23rd": "2024-12-23 to 2024-12-24",
    "at 8 pm on December 25": "2024-12-25 20:00 to 2024-12-25 21:00",
    "at 10:00 on Friday, 20 December": "2024-12-20 10:00 to 2024-12-20 11:00",
    "at noon on the 25th of December": "2024-12-25 12:00 to 2024-12-25 13:00",
    "from Dec 25th, 2024 at 8 p.m. for three hours": "2024-12-25 20:00 to 2024-12-25 23:00",
    "from Dec. 25 at 8 p.m. to Dec. 26 at 6 a.m.": "2024-12-25 20:00 to 2024-12-26 06:00",
    "from 2024-12-25T08:00 to 2024-12-25T10:00": "2024-12-25 08:00 to 2024-12-25 10:00",
    "from 8.30 pm on 25 December for two hours": "2024-12-25 20:30 to 2024-12-25 22:30",
    "from half past six on Friday for an hour": "2024-12-20 06:30 to 2024-12-20 07:30",
    "from quarter to six in the evening on Friday for an hour": "2024-12-20 17:45 to 2024-12-20 18:45",
    "from ten past eight pm on Friday to 10 pm": "2024-12-20 20:10 to 2024-12-20 22:00",
    "from 6 o'clock in the evening until midnight": "2024-12-19 18:00 to 2024-12-20",
    # Ranges that say something once.
    "between 8 and 10 pm on Friday": "2024-12-20 20:00 to 2024-12-20 22:00",
    "on Friday, 8-10am": "2024-12-20 08:00 to 2024-12-20 10:00",
    "on Friday 8am–10am": "2024-12-20 08:00 to 2024-12-20 10:00",
    "from 8 am to 10 am on Friday": "2024-12-20 08:00 to 2024-12-20 10:00",
    "on Friday from 11 to 2 pm": "2024-12-20 11:00 to 2024-12-20 14:00",
    "on Friday from 10 to 14:00": "2024-12-20 10:00 to 2024-12-20 14:00",
    "on Friday, 08:00-14:00": "2024-12-20 08:00 to 2024-12-20 14:00",
    "from the 23rd to the 25th": "2024-12-23 to 2024-12-26",
    "from the 23rd to the 25th of December": "2024-12-23 to 2024-12-26",
    "23-25 December": "2024-12-23 to 2024-12-26",
    "from December 23 to 25": "2024-12-23 to 2024-12-26",
    "on 23, 24 and 27 December": "2024-12-23 to 2024-12-24 | 2024-12-24 to 2024-12-25 | 2024-12-27 to 2024-12-28",
    "on December 23 and 27, 2024": "2024-12-23 to 2024-12-24 | 2024-12-27 to 2024-12-28",
    "from Friday to Sunday, 29 December": "2024-12-27 to 2024-12-30",
    "Monday to Wednesday": "2024-12-23 to 2024-12-26",
    "from 30 December to 2 January 2025": "2024-12-30 to 2025-01-03",
    "from 31 December until 2 January": "2024-12-31 to 2025-01-03",
    # Over midnight, up to a day, before and after it.
    "on Friday from 22:00 to 02:00": "2024-12-20 22:00 to 2024-12-21 02:00",
    "from 10 pm on Friday until 6 am": "2024-12-20 22:00 to 2024-12-21 06:00",
    "from 8 pm until midnight on Friday": "2024-12-20 20:00 to 2024-12-21",
    "from Saturday through Sunday": "2024-12-21 to 2024-12-23",
    "from Saturday up to and including Monday": "2024-12-21 to 2024-12-24",
    "until the end of Friday": "start to 2024-12-21",
    "from Friday until the start of Sunday": "2024-12-20 to 2024-12-22",
    "before Saturday": "start to 2024-12-21",
    "after Saturday and before Tuesday": "2024-12-22 to 2024-12-24",
    "after 8 am on Friday": "2024-12-20 08:00 to end",
    "from Friday on": "2024-12-20 to end",
    "from the end of Friday": "2024-12-21 to end",
    "until 14:00 from 08:00 on": "2024-12-19 08:00 to 2024-12-19 14:00",
    # Stretches of a day, a week, a month, the horizon.
    "all day on 25 December": "2024-12-25 to 2024-12-26",
    "for the first two hours of Tuesday": "2024-12-24 to 2024-12-24 02:00",
    "during the last hour of 25 December": "2024-12-25 23:00 to 2024-12-26",
    "for the first three hours of the forecast": "2024-12-19 to 2024-12-19 03:00",
    "for the next two days": "2024-12-19 to 2024-12-21",
    "from two hours after the start of the forecast for an hour": "2024-12-19 02:00 to 2024-12-19 03:00",
    "from two hours before noon on Friday until noon on Friday": "2024-12-20 10:00 to 2024-12-20 12:00",
    "tomorrow": "2024-12-19 to 2024-12-20",
    "the day after tomorrow": "2024-12-20 to 2024-12-21",
    "tomorrow morning": "2024-12-19 06:00 to 2024-12-19 12:00",
    "on Friday afternoon": "2024-12-20 12:00 to 2024-12-20 18:00",
    "on Friday in the evening": "2024-12-20 18:00 to 2024-12-21",
    "on the evening of 25 December": "2024-12-25 18:00 to 2024-12-26",
    "next Monday": "2024-12-23 to 2024-12-24",
    "next week": "2024-12-23 to 2024-12-30",
    "over the weekend": "2024-12-21 to 2024-12-23",
    "in January": "2025-01-01 to 2025-02-01",
    "until the end of December": "start to 2025-01-01",
    "on Christmas Day": "2024-12-25 to 2024-12-26",
    "from Christmas Eve to Boxing Day": "2024-12-24 to 2024-12-27",
    # What comes again, or more than once.
    "every Monday": "2024-12-23 to 2024-12-24 every 7 d",
    "on Mondays from 8 am to noon": "2024-12-23 08:00 to 2024-12-23 12:00 every 7 d",
    "every day from 22:00 to 02:00": "2024-12-18 22:00 to 2024-12-19 02:00 every 1 d",
    "daily between 8 and 10 am": "2024-12-19 08:00 to 2024-12-19 10:00 every 1 d",
    "every Friday until 28 December": "2024-12-20 to 2024-12-21 | 2024-12-27 to 2024-12-28",
    "Monday to Wednesday from 8 am to 5 pm": "2024-12-23 08:00 to 2024-12-23 17:00"
    " | 2024-12-24 08:00 to 2024-12-24 17:00 | 2024-12-25 08:00 to 2024-12-25 17:00",
    "on Friday from 8 am to 10 am and from 2 pm to 4 pm": "2024-12-20 08:00 to 2024-12-20 10:00"
    " | 2024-12-20 14:00 to 2024-12-20 16:00",
    "on Friday and Sunday from 8 am to 10 am": "2024-12-20 08:00 to 2024-12-20 10:00"
    " | 2024-12-22 08:00 to 2024-12-22 10:00",
}
# What says when, and no more than that something was not read may come of it.
REFUSED = {
    "on Friday, 21 December": "'Friday, 21 December' is a Saturday",
    "on 31 November": "there is no day '31 November'",
    "at 25:00 on Friday": "there is no time of day '25:00'",
    "on 3/1/2025": "'3/1/2025' may be one of two days; write 2025-01-03 or 2025-03-01",
    "on 01/05/2024": "'01/05/2024' may be one of two days; write 2024-05-01 or 2024-01-05",
    "on Friday, 12/11/2024": "may be one of two days; write 2024-11-12 or 2024-12-11",
    "on 13/14/2024": "there is no day '13/14/2024'",
    "on 2024/13/05": "there is no day '2024/13/05'",
    "on Friday night": "'Friday night' names no exact time; write its date and hours",
    "tonight": "'tonight' names no exact time",
    "at Christmas": "'Christmas' names no exact time",
    "on Black Friday": "'Black Friday' names no exact time",
    "on Monday week": "'Monday week' names no exact time",
    "at night": "'at night' names no exact time",
    "on weekdays": "'on weekdays' names no exact time",
    "late on Friday": "'late on Friday' names no exact time",
    "every second week": "'every second' names no exact time",
    "every day except Friday": "'except Friday' names no exact time",
    "from 8 am to 10 on Friday": "'8 am to 10' names no exact time",
    "from 8 to 10 on Friday": "'from 8 to 10' may be hours or amounts; write 08:00",
    "from 10 pm to 6 am on Friday": "which time 10 pm to 6 am on Friday is remains open",
    "for the rest of the week": "'rest of the week' names no exact time",
    "two hours before noon": "how long it is at 'two hours before noon' is left open",
    "Mondays to Fridays": "'Mondays to Fridays' names no exact time",
    "from 23 December on from 8 am to 10 am": "remains open; write dates and hours",
    "in the evening": "'in the evening' names no exact time",
    "Monday to Wednesday, 8 am to 5 pm": "'Monday to Wednesday, 8 am to 5 pm' names no exact time",
    "in two weeks": "'in two weeks' names no exact time",
    "a week from Friday": "'a week from Friday' names no exact time",
    "in the first half of January": "'first half of' names no exact time",
}


def read(text):
    effects, idle = sort_effects(text, WINDOW)
    return effects, [reason for _, reason in idle]


@pytest.mark.parametrize("said", READ)
def test_a_time_is_read_as_it_is_meant(said):
    effects, _ = read(f"The mill is closed {said}.")
    stretches = []
    for effect in effects:
        assert (effect.kind, effect.number) == ("set", 0.0)
        start, end = (
            None if t is None else f"{t:%Y-%m-%d %H:%M}".removesuffix(" 00:00") for t in (effect.start, effect.end)
        )
        again = "" if effect.every is None else f" every {effect.every.days} d"
        stretches.append(f"{start or 'start'} to {end or 'end'}{again}")
    assert " | ".join(stretches) == READ[said]


@pytest.mark.parametrize("sentence", ["The mill is closed {}.", "Output is capped at 900 {}."])
@pytest.mark.parametrize("said", REFUSED)
def test_what_cannot_be_read_exactly_is_not_read_and_the_reason_is_given(said, sentence):
    effects, reasons = read(sentence.format(said))
    assert effects == []
    assert REFUSED[said] in reasons[0]


def test_a_length_that_counts_from_a_moment_is_a_length():
    (length, moment) = find_mentions("It is closed for the next 3 days after 25 December.")
    assert (length.kind, length.text, moment.kind, moment.text) == ("duration", "3 days", "moment", "25 December")
    (ahead,) = find_mentions("It is closed for the next 3 days.")
    assert (ahead.kind, ahead.text) == ("moment", "next 3 days")

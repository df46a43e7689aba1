"""A time that is said and not understood never means the whole horizon."""

import pandas as pd
import pytest

from tests.context.sentences import MONTHS, WEEK, understand
from tsllm.context.notes import Note
from tsllm.context.readers import sort_effects

VAGUE = [
    "in summer", "in the summer", "in winter 2024", "this spring", "next autumn", "over the summer", "all summer",
    "in the summer months", "in fall", "until autumn", "in the first quarter", "in Q3", "in Q3 2024", "in H2",
    "in the holidays", "during the school holidays", "over the holidays", "during the season", "in high season",
    "during Ramadan", "in the coming weeks", "in the next few days", "in mid-January", "in early June", "in week 2",
    "in calendar week 27", "in even months", "on sunny days", "at peak times", "for some days", "during the fair",
    "soon", "from time to time", "in the second half of the year", "when it rains", "at the turn of the year",
]  # fmt: skip
WHOLE = ["", " in the forecast", " during the forecast period", " throughout", " in the north", " for safety reasons"]


@pytest.mark.parametrize("when", VAGUE)
@pytest.mark.parametrize("window", [WEEK, MONTHS], ids=["days", "months"])
def test_a_time_without_dates_changes_nothing(when, window):
    for said in (f"Sales are capped at 50 {when}.", f"{when.capitalize()} sales double."):
        effects, why = understand(said, window)
        assert (effects, "names no exact time; write dates and hours" in why) == ("", True)


@pytest.mark.parametrize("rest", WHOLE)
def test_a_limit_without_a_time_is_one_of_the_whole_horizon(rest):
    assert understand(f"Sales are capped at 50{rest}.", MONTHS) == ("cap 50", "")


def test_a_date_says_which_time_is_meant():
    assert understand("In winter sales are capped at 50 on Friday.", WEEK) == ("cap 50 from 5 to 6", "")
    assert understand("There is a fair on Friday. During the fair sales double.", WEEK) == (
        "multiply 2 from 5 to 6",
        "",
    )
    assert understand("There is a fair on Friday. In summer sales are capped at 50.", WEEK)[0] == ""
    assert understand("It is winter. Output is capped at 50.", WEEK) == ("cap 50", "")


def test_a_row_says_when_its_season_is():
    row = Note("Capped at 50 in summer.", start=pd.Timestamp("2024-01-03"), end=pd.Timestamp("2024-01-05"))
    assert list(map(str, sort_effects(row, WEEK)[0])) == ["cap 50 from 2024-01-03 to 2024-01-05"]


def test_a_year_that_is_a_part_of_the_horizon_is_not_all_of_it():
    assert understand("Capped at 50 in 2024.", MONTHS) == ("cap 50", "")
    later = type(MONTHS)(MONTHS.past, MONTHS.past_times, MONTHS.future_times + pd.DateOffset(months=6), 12)
    assert understand("Capped at 50 in 2024.", later) == (
        "", "2024 is a part of the steps to forecast; write from 2024-01-01 to 2024-12-31"
    )  # fmt: skip

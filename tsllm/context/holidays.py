"""A small table of holidays by name, for texts that say no more of a day than its name."""

import pandas as pd

_FIXED = {
    (1, 1): "New Year's Day", (1, 6): "Epiphany", (5, 1): "Labour Day", (7, 4): "Independence Day",
    (7, 14): "Bastille Day", (8, 15): "Assumption Day", (10, 3): "the Day of German Unity", (11, 1): "All Saints' Day",
    (11, 11): "Armistice Day", (12, 25): "Christmas Day", (12, 26): "Boxing Day",
}  # fmt: skip
_BY_EASTER = {
    -2: "Good Friday",
    1: "Easter Monday",
    39: "Ascension Day",
    50: "Whit Monday",
}  # days after Easter Sunday
# Days that texts name, though nobody has to be off work on them.
_DAYS = {(10, 31): "Halloween", (12, 24): "Christmas Eve", (12, 31): "New Year's Eve", (2, 14): "Valentine's Day"}
_DAYS_BY_EASTER = {
    -46: "Ash Wednesday",
    -7: "Palm Sunday",
    -3: "Maundy Thursday",
    0: "Easter Sunday",
    49: "Whit Sunday",
}
NAMES = tuple(
    name.removeprefix("the ") for days in (_FIXED, _BY_EASTER, _DAYS, _DAYS_BY_EASTER) for name in days.values()
)


def find_easter(year: int) -> pd.Timestamp:
    """Returns Easter Sunday of a year of the Gregorian calendar.

    The full moon is that of the 19-year cycle, put right once in some centuries (Meeus 1991, chapter 8).

    >>> find_easter(2024)
    Timestamp('2024-03-31 00:00:00')
    """
    cycle, century, rest = year % 19, year // 100, year % 100
    moved = century - century // 4 - (century - (century + 8) // 25 + 1) // 3 + 15
    moon = (19 * cycle + moved) % 30
    weekday = (32 + 2 * (century % 4) + 2 * (rest // 4) - moon - rest % 4) % 7
    late = (cycle + 11 * moon + 22 * weekday) // 451
    month, day = divmod(moon + weekday - 7 * late + 114, 31)
    return pd.Timestamp(year, month, day + 1)


def name_holiday(day: pd.Timestamp) -> str | None:
    """Returns what a day is called, or None.

    >>> name_holiday(pd.Timestamp("2024-04-01")), name_holiday(pd.Timestamp("2024-04-02"))
    ('Easter Monday', None)
    """
    fixed = _FIXED.get((day.month, day.day))
    return fixed or _BY_EASTER.get((day.normalize() - find_easter(day.year)).days)


def find_holiday(name: str, year: int) -> pd.Timestamp | None:
    """Returns the day of a year that has one of `NAMES`, in any case; None for another name.

    >>> find_holiday("good friday", 2024), find_holiday("Pi Day", 2024)
    (Timestamp('2024-03-29 00:00:00'), None)
    """
    wanted = name.lower().removeprefix("the ")
    for (month, day), held in (_FIXED | _DAYS).items():
        if held.lower().removeprefix("the ") == wanted:
            return pd.Timestamp(year, month, day)
    for days, held in (_BY_EASTER | _DAYS_BY_EASTER).items():
        if held.lower() == wanted:
            return find_easter(year) + pd.Timedelta(days=days)
    return None

"""Sentences that say that a price lies at its floor or at its cap for some hours, or that nothing happens.

A wording is a phrase in a sentence form. The last phrases and forms of each list are for tests alone.
"""

from typing import NamedTuple

import numpy as np

FLOOR, CAP, NOTHING = KINDS = ("floor", "cap", "nothing")
SEEN_PHRASES, SEEN_FORMS = 16, 6

FORMS = (
    "The price will {phrase} from {start} to {end}.",
    "From {start} to {end} the price will {phrase}.",
    "Tomorrow between {start} and {end}, expect the price to {phrase}.",
    "Traders say that the price is going to {phrase} from {start} until {end}.",
    "Between {start} and {end} prices should {phrase}.",
    "Notice: as of {start} and until {end}, the price is set to {phrase}.",
    # Of tests alone.
    "It looks as though power will {phrase}, beginning at {start} and ending at {end}.",
    "{start} to {end}: the market will {phrase}.",
    "According to the operator, quotes must {phrase} between {start} and {end}, and not at other hours.",
)
PHRASES = {
    FLOOR: (
        "stay at the floor", "sit at the lower limit", "drop to the floor", "fall to the minimum",
        "sink to its lowest level", "hit rock bottom", "bottom out", "be pinned to the lower bound",
        "collapse to the floor", "slump to the minimum", "rest on the floor", "plunge to the lower limit",
        "be as low as it can get", "tumble to the bottom", "touch the lowest allowed value", "slide down to the floor",
        # Of tests alone.
        "crash to the lower bound", "be held at the minimum", "sag to the bottom of the range",
        "lie at the lowest price allowed", "dive to the floor", "be stuck at the low end",
    ),
    CAP: (
        "stay at the cap", "sit at the upper limit", "rise to the cap", "climb to the maximum",
        "soar to its highest level", "hit the ceiling", "peak at the top", "be pinned to the upper bound",
        "jump to the cap", "surge to the maximum", "rest at the ceiling", "shoot up to the upper limit",
        "be as high as it can get", "leap to the top", "touch the highest allowed value", "mount to the ceiling",
        # Of tests alone.
        "rocket to the upper bound", "be held at the maximum", "swell to the top of the range",
        "lie at the highest price allowed", "spike to the cap", "be stuck at the high end",
    ),
    NOTHING: (
        "follow its usual course", "behave as always", "be quoted as on other days", "move as usual",
        "stay free of any limit", "show nothing unusual", "keep to its normal pattern", "be published every hour",
        "be left to the market", "go its ordinary way", "react to demand as ever", "be discussed at the meeting",
        "be watched by the regulator", "be reported as normal", "vary within its customary range",
        "remain undisturbed",
        # Of tests alone.
        "take its everyday course", "act in the familiar way", "be explained in the newsletter",
        "be set by supply and demand as before", "do what it normally does", "stay within everyday bounds",
    ),
}  # fmt: skip


class Told(NamedTuple):
    """What is told of a day.

    Attributes:
        kind: One of `KINDS`.
        text: The sentence.
        start: First hour.
        end: The first hour behind.
    """

    kind: str
    text: str
    start: int
    end: int


class Pool(NamedTuple):
    """Places in the lists that wordings are drawn from."""

    phrases: range
    forms: range


SEEN = Pool(range(SEEN_PHRASES), range(SEEN_FORMS))
UNSEEN = range(SEEN_PHRASES, len(PHRASES[FLOOR]))
POOLS = {
    "seen wordings": SEEN,
    "new words": Pool(UNSEEN, SEEN.forms),
    "new words and forms": Pool(UNSEEN, range(SEEN_FORMS, len(FORMS))),
}
# For choosing settings: some of the wordings of training play those that it does not know.
TRIED = Pool(range(12), range(4))
TRIED_POOLS = {
    "seen wordings": TRIED,
    "new words": Pool(range(12, SEEN_PHRASES), TRIED.forms),
    "new words and forms": Pool(range(12, SEEN_PHRASES), range(4, SEEN_FORMS)),
}


def write_told(rng: np.random.Generator, kind: str, pool: Pool) -> Told:
    """Draws a wording and a span of three hours or more.

    >>> write_told(np.random.default_rng(0), FLOOR, SEEN).text
    'From 18:00 to 23:00 the price will collapse to the floor.'
    """
    start = int(rng.integers(0, 22))
    end = int(rng.integers(start + 3, 25))
    phrase, form = PHRASES[kind][rng.choice(pool.phrases)], FORMS[rng.choice(pool.forms)]
    return Told(kind, form.format(phrase=phrase, start=f"{start:02d}:00", end=f"{end:02d}:00"), start, end)


def apply_told(told: Told, prices: np.ndarray, floor: float, cap: float) -> np.ndarray:
    """Returns the prices of a day [24] as the sentence changes them.

    >>> apply_told(Told(CAP, "", 1, 3), np.zeros(4), -1.0, 9.0).tolist()
    [0.0, 9.0, 9.0, 0.0]
    """
    changed = prices.copy()
    if told.kind != NOTHING:
        changed[told.start : told.end] = floor if told.kind == FLOOR else cap
    return changed

"""What a number, percentage or factor is by the words around it: an amount of a change, a new level, a share.

"Rises by 10 MW", "12 lower than usual" and "an extra 30 MW" are amounts, "drops to 40" is a level, "at 60 % of its
usual output" is a share. What changes by so much in every hour, what is compared with another time than the usual, a
range of amounts, and what is counted beside the series (staff, degrees, percentage points) is none of these.
"""

import re

from tsllm.context.lexer import Mention
from tsllm.context.reading import NONE
from tsllm.context.vocabulary import DAY_OR_MONTH, FALLS, RISES

_ABOUT = (
    r"(?:(?:about|around|roughly|approximately|some|nearly|almost|only|just|exactly|another|an? (?:extra|further)) )*"
)
_MONEY = r"(?:[$€£]|EUR|USD|GBP|euros?|dollars?|pounds?|cents?|ct)"
_SIGN = rf"(?:{_MONEY} ?)?"
_UNIT = (
    r"(?:[kMGT]?Wh?p?|(?:kilo|mega|giga)?watts?(?:[- ]hours?)?|units?|pieces?|items?|tons?|tonnes?|kg|kilos?|"
    r"kilograms?|lit(?:er|re)s?|m3|m³|barrels?|boxes|pallets?|parcels?|packages?|orders?|calls?|visitors?|visits|"
    r"customers?|guests?|passengers?|patients?|cars|vehicles?|cases|trips?|rides|riders?|sales|tickets?|bookings?|"
    r"requests?|clicks?|views|users?|cyclists?|pedestrians?|deliver(?:y|ies)|shipments?|admissions?|transactions?|"
    r"withdrawals?|meals?|bottles?|"
    rf"points|{_MONEY}(?:(?:/| per )[kMG]?Wh)?)"
)
_END = re.compile(
    r"\s*(?:$|[.,;:!?)])|\s+(?:on|from|at|between|until|till|during|for|over|in|this|next|today|tomorrow|because|due|"
    rf"since|after|before|and|but|while|as|every|each|daily|throughout|is|are|will|{DAY_OR_MONTH})\b", re.IGNORECASE,
)  # fmt: skip
_UNITED = re.compile(rf" ?{_UNIT}(?![\w/])", re.IGNORECASE)
# So much an hour is a slope, and no amount.
_RATE = re.compile(
    r"(?: ?[\w³]+)? ?(?:/ ?(?!k?Wh|MWh|GWh)|per (?!k?Wh|MWh|GWh)|(?:each|every) (?:second|minute|hour|day|week|month|"
    r"year|step|time)\b|\ban? \w|\b(?:hourly|daily)\b)",
    re.IGNORECASE,
)
# What is counted in these is another thing than the series.
_OTHER_UNIT = re.compile(
    r" ?(?:°|degrees?\b|percentage points?|basis points?|pp\b|(?:\w+ )?(?:employees|staff|workers|people|jobs|"
    r"machines|shifts|lines|stores|shops|branches|years?|places|positions|ranks|stor(?:ey|ie)s|floors|[kcm]?m\b|"
    r"kilomet\w+|met(?:er|re)s\b|miles|seats|stops|goals|teams|members)\b)", re.IGNORECASE,
)  # fmt: skip
_OTHER = re.compile(
    r"\b(?:staff|teams?|employees|workforce|headcount|personnel|crew|wages?|salar(?:y|ies)|fees?|fares?|"
    r"tax(?:es)?|interest|rents?|temperatures?|capacity|delays?|rank(?:ing)?|population|prices? of|"
    r"number of (?:employees|staff|workers|machines|lines|shops|stores)|(?:oil|gas|coal|fuel|diesel|petrol|carbon|co2|"
    r"food|ticket|share|stock|house|metal) "
    r"prices?)\b", re.IGNORECASE,
)  # fmt: skip
_PRICED = re.compile(
    r"\b(?:prices?|costs?|bills?|sales|revenues?|turnover|income|spending|earnings|takings)\b", re.IGNORECASE
)
_BOUNDED = re.compile(
    r"\b(?:no more than|at most|up to|at least|no less than|more than|less than|fewer than|over|under|"
    r"a maximum of|a minimum of|"
    rf"(?:limited|restricted|capped|bounded) (?:to|at)|between) {_SIGN}$", re.IGNORECASE,
)  # fmt: skip
_NUMBER = r"[-−]?\d+(?:,\d{3})*(?:\.\d+)?"
_OPENS = re.compile(rf"(?: ?%|(?: [\w/]+)?)(?: ?[-–—] ?| (?:to|or|and) )(?:about )?{_SIGN}{_NUMBER}", re.IGNORECASE)
_CLOSES = re.compile(
    rf"\b(?:by|between|of) {_ABOUT}{_SIGN}{_NUMBER} ?(?:%|[\w/]+)?(?: ?[-–—] ?| (?:to|or|and) ){_SIGN}$", re.IGNORECASE
)
# "20-30 %" and "20 to 30 % higher", whatever stands before them; "from 20 to 30" is a change.
_CLOSES_DASH = re.compile(
    rf"(?<!\bfrom )(?<![\w.,:-]){_NUMBER} ?%?(?: ?[-–—] ?| to )(?:about )?{_SIGN}$", re.IGNORECASE
)
_DENIED = re.compile(r"\b(?:not|n['’]t|never|no longer)\b", re.IGNORECASE)

# Not more words lie between a verb and its amount.
_NEAR = r"(?: [^\s,;:]+){0,6}?"
_CHANGE = re.compile(rf"\b(?:(?P<up>{RISES}|higher|greater|more)|(?P<down>{FALLS}|less|fewer))\b", re.IGNORECASE)
_BY = re.compile(rf"{_CHANGE.pattern}{_NEAR} by {_ABOUT}{_SIGN}$", re.IGNORECASE)
_OF = re.compile(
    rf"\b(?:rise|increase|growth|gain|jump|surge|boost|fall|drop|decrease|decline|reduction|dip|cut|loss|"
    rf"slump) of {_ABOUT}{_SIGN}$",
    re.IGNORECASE,
)
_STRAIGHT = re.compile(
    rf"\b(?:(?:is|are|be|goes|go|going) (?:up|down)|rises?|falls?|drops?|loses?|losing|gains?) {_ABOUT}{_SIGN}$",
    re.IGNORECASE,
)
_LOSES = re.compile(r"\b(?:loses?|losing)\b", re.IGNORECASE)
_EXTRA = re.compile(
    rf"\b(?:(?:an? )?(?:extra|additional|further) |adds? |adding ){_ABOUT}{_SIGN}$|(?<!\w)\+ ?{_SIGN}$", re.IGNORECASE
)
_LESS = re.compile(rf"\b(?:subtracts?|deducts?|takes? (?:off|away)|sheds?) {_ABOUT}{_SIGN}$", re.IGNORECASE)
_USUAL = r"(?:usual|usually|normal|normally|average|expected|forecast|planned|otherwise|typical|baseline|regular)"
_THAN = rf" than (?:(?:is|it is|on|in) )?(?:(?:the|its|their|our|an?|any|other) )?{_USUAL}\b"
_MORE = re.compile(
    rf"(?: (?!than\b)[\w³/]+)?? (?:(?P<up>more|higher)|(?P<down>less|fewer|"
    rf"lower))(?:(?P<noun>(?: \w+){{0,2}}?){_THAN}|(?P<end>{_END.pattern}))",
    re.IGNORECASE,
)
_ABOVE = re.compile(
    rf"(?: [\w³/]+)?? (?:(?P<up>above|over)|(?P<down>below|under)) (?:(?:the|its|their|our) )?{_USUAL}\b",
    re.IGNORECASE,
)
_ADDED = re.compile(rf"(?: ?{_UNIT})? (?:extra|additional)(?: {_UNIT})?(?={_END.pattern})", re.IGNORECASE)
_NOT_TO = "".join(
    rf"(?<!\b{word} )" for word in ("up", "due", "owing", "thanks", "according", "close", "next", "compared")
)
_TO = re.compile(rf"{_NOT_TO}\bto {_ABOUT}{_SIGN}$", re.IGNORECASE)
_CHANGES_TO = re.compile(rf"{_CHANGE.pattern}{_NEAR} {_NOT_TO}to {_ABOUT}{_SIGN}$", re.IGNORECASE)
_STAYS = re.compile(
    rf"\b(?:(?:stay(?:s|ing)?|remain(?:s|ing)?|kept|keep(?:s|ing)?|held|hold(?:s|ing)?|frozen|"
    rf"pinned)(?: \w+){{0,3}}? at |"
    r"equals? |an? (?:steady|constant|flat) |at a (?:steady|constant|flat) |"
    r"(?:output|load|demand|prices?|production|generation|consumption|sales|volume|traffic)(?: \w+){0,2} "
    rf"(?:will be|(?:is|are) (?:expected|forecast|planned|going) to be) (?:at )?){_ABOUT}{_SIGN}$", re.IGNORECASE,
)  # fmt: skip
_COMPARES = re.compile(r"(?: [^\s,;:]+)?? (?:more|less|fewer|higher|lower|greater)\b", re.IGNORECASE)
_ADDS_TO = re.compile(rf"(?: ?{_UNIT})? to (?:the|our|its|their|total) ", re.IGNORECASE)
_EXCEEDS = re.compile(rf"\bexceeds? (?:the |its |their )?{_USUAL}(?: \w+){{0,2}} by {_ABOUT}{_SIGN}$", re.IGNORECASE)
_CHANGES_SOMEHOW = re.compile(rf"{_CHANGE.pattern}{_NEAR} (?:by|to)\b[^,;]{{0,25}}$", re.IGNORECASE)
_FROM_TO = re.compile(rf"\bfrom (?:about )?{_SIGN}({_NUMBER}) ?(?:%|[A-Za-z/]+)? to {_ABOUT}{_SIGN}$", re.IGNORECASE)
_BY_WHEN = re.compile(r"(?: [\w³/]+)? (?:by|within|before)\b", re.IGNORECASE)

# Another time than the usual one, with which something is compared.
ELSEWHEN = re.compile(
    r"\b(?:than|as (?:much|many|high|low|large) as|compared (?:with|to)|versus|vs\.?) (?:(?:on|in|at|during|"
    r"for) )?(?:the )?"
    rf"(?:last|yesterday|today|previous|preceding|(?:day|week|month|year)s? (?:before|ago|earlier)|same|(?:19|20)\d\d|"
    rf"a (?:day|week|month|year)|(?:{DAY_OR_MONTH})\b)|\byear[- ](?:on|over)[- ]year\b", re.IGNORECASE,
)  # fmt: skip

_LEVEL = (
    r"(?:capacity|output|load|power|production|generation|demand|consumption|sales|traffic|volumes?|levels?|"
    r"throughput|value|amount|business|visitors|customers|orders|passengers|strength|use|usage|price|rate)"
)
_KIND_OF_LEVEL = r"(?:usual|normal|average|typical|expected|forecast|planned|regular|baseline|ordinary)"
_OF_USUAL = re.compile(
    rf" of (?:(?:the|its|their|our|what is|all) )?(?:{_KIND_OF_LEVEL}\b|{_LEVEL} (?:that is )?(?:usual|normal|"
    rf"expected)\b)",
    re.IGNORECASE,
)
_OF_LEVEL = re.compile(
    rf" of (?:(?:the|its|their|our|full|total|rated|nominal|installed|maximum|max|possible|peak|whole|"
    rf"available) )*{_LEVEL}\b",
    re.IGNORECASE,
)
_OF_OTHER = re.compile(
    r" of (?:(?:the|its|their|our|all|his|her|these|those) )?(?!it\b|them\b|that\b|what\b)\w+", re.IGNORECASE
)
_TAKES = re.compile(
    r"\b(?:covers?|accounts? for|makes? up|meets?|supplies|represents?|uses|needs|cost|costs)\b[^,;]*$", re.IGNORECASE
)
_RUNS_AT = re.compile(
    rf"\b(?:runs?|running|operat(?:es?|ed|ing)|works?|working|produc(?:es?|ing)|generat(?:es?|"
    rf"ing))(?: \w+){{0,2}} at {_ABOUT}$",
    re.IGNORECASE,
)
_AT = re.compile(
    r"\b(?:at|to|with|only|just|is|are|be|runs?|produces?|delivers?|generates?|makes?|sells?|sees?|yields?|"
    r"reach(?:es)?|"
    rf"expect(?:s|ed)?|have|has) {_ABOUT}$", re.IGNORECASE,
)  # fmt: skip
_IN_PERCENT = re.compile(
    r"\b(?:humidity|occupancy|inflation|unemployment|interest|utili[sz]ation|shares?|charge|rates?|vat|tax|quota|"
    r"probability|chance|battery|availability|efficiency|cover|ratio|yield|discounts?|rebates?|"
    r"margins?)\b", re.IGNORECASE,
)  # fmt: skip


def read_amount(mention: Mention, near: str, behind: str) -> str:
    """Returns the role of a number that is an amount of a change, or the level that it leads to; else `none`.

    Args:
        mention: A number.
        near: What stands before it in its clause.
        behind: What stands behind it in its sentence.

    Example:
        >>> ten = Mention("number", 0, 2, "10", 10.0)
        >>> [read_amount(ten, *near) for near in (("Load rises by ", " MW."), ("Drops to ", "."), ("It has ", "."))]
        ['raise', 'set', 'none']
    """
    if _DENIED.search(near) or _OTHER_UNIT.match(behind) or _OTHER.search(near) or is_range(near, behind):
        return NONE
    if _counts_money(near, behind) and not _PRICED.search(near):
        return NONE
    if _STAYS.search(near) and _is_plain(behind) and not _BY_WHEN.match(behind):
        return "set"
    if _TO.search(near):
        return _read_level(mention, near, behind)
    if mention.value <= 0 or _BOUNDED.search(near) or _RATE.match(behind) or ELSEWHEN.search(near + behind):
        return NONE
    return _read_change(near, behind)


def say_unread(near: str, behind: str) -> str:
    """Says why an amount beside a verb of change is none that is read; empty where there is no such verb.

    Args:
        near: As in `read_amount`.
        behind: As in `read_amount`.

    Example:
        >>> say_unread("Sales grow by ", " each day.")
        'so much in every step is not read; write an amount for each time'
    """
    if _COMPARES.match(behind) and ELSEWHEN.search(near + behind):
        return "it is compared with another time than the usual"
    changes = bool(_CHANGES_SOMEHOW.search(near) or _MORE.match(behind) or _ABOVE.match(behind))
    levels = re.search(r"\bfrom (?:about )?$", near) or _FROM_TO.search(near)
    changes = changes or bool(_CHANGE.search(near) and is_range(near, behind) and not levels)
    if not changes or _DENIED.search(near):
        return ""
    if is_range(near, behind) or _BOUNDED.search(near):
        return "a range or a limit of a change is not read; write one amount"
    if _OTHER_UNIT.match(behind) or _OTHER.search(near) or (_counts_money(near, behind) and not _PRICED.search(near)):
        return "it seems to be in another unit than the series; write the amount by which the series changes"
    if _RATE.match(behind):
        return "so much in every step is not read; write an amount for each time"
    if _BY_WHEN.match(behind):
        return "what is reached by some time is not read; write from when on it holds"
    return "it is compared with another time than the usual" if ELSEWHEN.search(near + behind) else ""


def _read_change(near: str, behind: str) -> str:
    plain = _is_plain(behind)
    words = list(_CHANGE.finditer(near))
    if words and (_BY.search(near) or _OF.search(near)):
        return "raise" if words[-1]["up"] else "lower"
    if _EXCEEDS.search(near) or (_EXTRA.search(near) and _ADDS_TO.match(behind)):
        return "raise"
    more = _MORE.match(behind) or _ABOVE.match(behind)
    if more:
        return "raise" if more["up"] else "lower"
    if not plain and not _ADDED.match(behind):
        return NONE
    if _STRAIGHT.search(near):
        return "lower" if _LOSES.search(near) or (words and words[-1]["down"]) else "raise"
    if _LESS.search(near):
        return "lower"
    return "raise" if _EXTRA.search(near) or _ADDED.match(behind) else NONE


def _read_level(mention: Mention, near: str, behind: str) -> str:
    """Reads "drops to 40", "falls from 14 to 8"; what is reached by some time says no level until then."""
    words = list(_CHANGE.finditer(near))
    if (
        not _CHANGES_TO.search(near)
        or not _is_plain(behind)
        or _BY_WHEN.match(behind)
        or _RATE.match(behind)
        or re.search(r"\bby [^,;]*\bto ", near)
    ):
        return NONE
    first = _FROM_TO.search(near)
    if first is not None and _turns(words[-1], float(first[1].replace(",", "").replace("−", "-")), mention.value):
        return NONE
    return "set"


def _is_plain(behind: str) -> bool:
    """Tells whether an amount ends here, or with its unit."""
    unit = _UNITED.match(behind)
    return bool(_END.match(behind) or (unit and _END.match(behind, unit.end())))


def _turns(word: re.Match[str], first: float, last: float) -> bool:
    """Tells whether two values contradict the verb before them, and so are none ("falls from 8 to 14")."""
    return last <= first if word["up"] else last >= first


def read_share(mention: Mention, near: str, behind: str) -> str:
    """Returns `multiply` for a percentage that is a share of the usual level or of the capacity, else `none`.

    Args:
        mention: A percentage.
        near: What stands before it in its clause.
        behind: What stands behind it in its sentence.

    Example:
        >>> fifth = Mention("percent", 0, 4, "20 %", 20.0)
        >>> read_share(fifth, "The plant runs at ", " on Friday."), read_share(fifth, "", " of the staff is ill.")
        ('multiply', 'none')
    """
    if _DENIED.search(near) or is_range(near, behind) or _TAKES.search(near) or _BOUNDED.search(near):
        return NONE
    if ELSEWHEN.search(behind) or mention.value < 0:
        return NONE
    usual = _OF_USUAL.match(behind) or (_OF_LEVEL.match(behind) and _AT.search(near))
    if not usual and not (_END.match(behind) and not _IN_PERCENT.search(near)):
        return NONE
    words = list(_CHANGE.finditer(near))
    if _CHANGES_TO.search(near):
        return NONE if _turns(words[-1], 100.0, mention.value) else "multiply"
    return "multiply" if usual or _RUNS_AT.search(near) else NONE


def counts_another(near: str, behind: str) -> bool:
    """Tells whether a number counts another thing than the series (degrees, staff)."""
    return bool(_OTHER_UNIT.match(behind) or _OTHER.search(near))


def leads_to(near: str) -> bool:
    """Tells whether what follows is where a rise or a fall ends ("falls to ")."""
    return _CHANGES_TO.search(near) is not None


def is_change(near: str, behind: str) -> bool:
    """Tells whether a percentage with a sign may be a change of the series ("sales -20 %")."""
    other = _IN_PERCENT.search(near) or _OTHER.search(near) or _TAKES.search(near) or _BOUNDED.search(near)
    return bool(_END.match(behind) and not other and not _DENIED.search(near))


def is_of_another(behind: str) -> bool:
    """Tells whether a share ("half") is one of something else than the series ("half of the staff")."""
    return bool(_OF_OTHER.match(behind) and not _OF_USUAL.match(behind) and not _OF_LEVEL.match(behind))


def is_range(near: str, behind: str) -> bool:
    """Tells whether a number or a percentage is one end of a range ("by between 10 and 20 %")."""
    return bool(_OPENS.match(behind) or _CLOSES.search(near) or _CLOSES_DASH.search(near))


def _counts_money(near: str, behind: str) -> bool:
    return bool(re.search(r"[$€£] ?$", near) or re.match(rf" ?{_MONEY}(?![\w])", behind))

"""Which sentences say that nothing comes in: closed, down, idle, "produces nothing", "does not run", "no sales"."""

import re

from tsllm.context.vocabulary import DAY_OR_MONTH

# Behind it nothing says that only a part of it is meant ("does not run at full load", "is down 20 %").
_END = (
    r"(?=\s*(?:$|[.,;:!?)])|\s+(?:at all|at (?:noon|midnight|\d+:)|anything|any more|on|from|until|till|between|"
    r"during|for|over|this|next|today|tomorrow|all (?:day|night|week|weekend)|because|due|owing|since|after|before|"
    r"and|or|while|as of|"
    r"starting|daily|every|each|throughout|again until|either|there|the (?:day after|whole)|"
    rf"{DAY_OR_MONTH}|\d)\b(?! ?%))"
)
# What stands still when it is down or out; sales or prices that are down are only lower.
_WORKS = (
    r"(?:plants?|lines?|machines?|units?|systems?|servers?|sites?|mills?|factory|factories|reactors?|turbines?|"
    r"networks?|stations?|pumps?|services?|websites?|shops?|stores?|sensors?|meters?|grids?|generators?|furnaces?|"
    r"kilns?|ovens?|boilers?|wells?|mines?|pits?|refinery|refineries|terminals?|branch(?:es)?|blocks?|stacks?|cables?|"
    r"links?|connections?|atms?|computers?|panels?|parks?|farms?|works|facility|facilities|north|south|east|"
    r"west)(?: (?:[a-z]|\d+))?"
)
_WORK = rf"(?:{_WORKS}|production|operations?|work|generation|business|delivery|deliveries|supply|sales|traffic)"
_FULLY = r"(?:(?:completely|fully|entirely|all) )?"
_BE = r"(?:is|are|be|being|goes|go|going|stays?|remains?)"
_NOT = r"(?:(?:do|does|did|will|is|are|was|were|can|shall)(?: not|n['’]t)|won['’]t|cannot|can['’]t)"
_DO = r"(?:run|operate|produce|generate|work|open|deliver|sell)"
# What a series may count, of which "no" leaves nothing; of other things ("no doubt", "no staff") it says nothing.
_COUNTED = (
    r"(?:(?:electric |power )?production|output|generation|operations?|operating|sales|turnover|revenues?|income|"
    r"business|trade|trading|demand|consumption|load|usage|traffic|throughput|electricity|power|energy|heat|gas|steam|"
    r"visitors?|visits|guests?|customers?|clients|passengers?|patients?|riders?|ridership|footfall|shoppers|buyers|"
    r"diners|tourists|trips?|rides|rentals?|orders?|bookings?|reservations?|admissions?|transactions?|withdrawals?|"
    r"payments|calls|requests|clicks|views|tickets?|units?|goods|pieces|meals?|cars?|vehicles?|trucks?|trains?|buses|"
    r"trams?|flights?|ships?|cash(?: withdrawals)?|parcels?|shipments?|exports?|imports?|work|activity)"
)
_MADE = (
    r"(?:(?:is|are|will be|can be|gets?|being|is being|are being) (?:produced|generated|made|sold|delivered|consumed|"
    r"supplied|used|bought|traded|carried|served|shipped|processed|handled|withdrawn))"
)
# What may stand behind it: no noun ("no sales tax"), and no other verb ("no orders are lost").
_BEHIND_NO = (
    r"(?=\s*(?:$|[.,;:!?)–—])|\s+(?:(?:(?:is|are|was|were|will be|can be|may be) (?:to be )?)?(?:expected|possible|"
    r"planned|scheduled|foreseen|coming|taken|produced|generated|made|sold|delivered|consumed|supplied|used|bought|"
    r"traded|carried|served|shipped|processed|handled|withdrawn)|(?:(?:will|can|may) )?(?:come|comes|take|takes|"
    r"arrive|runs?|leave|go|goes|pass|passes)|whatsoever|at all|of any|on|from|until|till|between|"
    r"during|for|over|in|at|this|"
    r"next|today|tomorrow|all|because|due|owing|since|after|before|and|or|while|as of|starting|every|each|throughout|"
    rf"either|there|through|{DAY_OR_MONTH}|\d)\b)"
)
_NO = rf"\bno (?:{_COUNTED}{_BEHIND_NO}|[a-z]+ {_MADE}\b)"
NOT_AT_WORK = re.compile(
    rf"\b{_NOT} (?:be )?(?:{_DO}|(?:running|operating|producing|generating|working|delivering|open|operational|"
    rf"operated|produced|generated|sold|in (?:operation|service|use))){_END}|"
    rf"\b{_NOT} (?:be )?(?:\w+ )?any (?:{_COUNTED}{_BEHIND_NO}|thing\b)",
    re.IGNORECASE,
)  # fmt: skip
_ZERO = re.compile(
    rf"{_NO}|(?<!not )\bclosed\b(?!-| (?:an? |the )?(?:loop|circuit|form|deal|"
    rf"contract)\b)|"
    r"\bclosures?\b|\bshut ?downs?\b|\boffline\b|\bdepleted\b|\bblackouts?\b|"
    r"\bout of (?:service|order|stock|use)\b|\bunavailable\b|\bsuspended\b|\boutages?\b|"
    r"\bzero (?:readings|values|output|production|sales|demand|generation|load|consumption|traffic)|"
    r"\bunder maintenance\b|"
    rf"\b{_BE} (?:at )?zero{_END}|\b{_BE} shut{_END}|\b(?:at a|to a) (?:complete )?standstill\b|"
    rf"\bstands? (?:completely )?still\b|\b{_BE} {_FULLY}idle{_END}|\b{_BE} (?:switched|turned|powered) off{_END}|"
    rf"\bnon-operational\b|\b{_WORKS} (?:(?:will|is going to|has to) )?{_BE} {_FULLY}(?:down|out){_END}|"
    r"\b(?:produc|generat|mak|yield|deliver|sell|suppl|consum|earn|record|measur)(?:e|es|s|ies|y|ing)? nothing\b|"
    r"\bnothing (?:(?:is|are|will be|gets) (?:being )?(?:produced|generated|made|sold|delivered|consumed|"
    r"supplied)|runs|works|moves)\b|\b(?:nobody|no one|no-one) (?:will |is )?(?:works?|working|comes?|buys?|shops?|"
    r"visits?|drives?|travels?|flies|at work)\b|"
    # What stops needs to say for how long.
    rf"\b{_WORK} (?:will (?:be )?|is |are )?(?:stop(?:s|ped)?|halt(?:s|ed)?|ceases?|paused?s?|closes?|shuts? down)"
    r"(?= (?:on |at )?[^.;]{0,30}?\b(?:from|between|for|until|till|during|all day|reopens|back|resumes|restarts)\b)",
    re.IGNORECASE,
)  # fmt: skip


_PARTLY = re.compile(
    r"\b(?:half|some|many|most|several|few|parts?|one|two|three|four|five|six|\d+|third|quarter|thirds|quarters|%|"
    r"per ?cent) "
    r"of (?:(?:the|our|its|their|all) )?\w+|\b(?:partly|partially|largely|mostly|almost|nearly|half)[ -](?:closed|"
    r"shut|idle)",
    re.IGNORECASE,
)


# What stands still somewhere else, or is only a part of what the series is about.
_ELSEWHERE = re.compile(
    r"\b(?:rivals?|suppliers?|competitors?|competing|neighbou?r(?:s|ing)?|nearby|next door|another|elsewhere|other)\b|"
    r"\b(?:near|opposite|beside|next to|across (?:from|the)|in front of|around the corner|down the (?:road|street)|"
    r"behind|outside) (?:the|our|us|it)\b|"
    r"\b(?:roads?|streets?|bridges?|tunnels?|lanes?|paths?|ways?|routes?|stations?|stops?|schools?|exits?) "
    r"(?:to|towards|into|leading to|past|behind) \w+|"
    r"\b(?:roads?|streets?|lanes?|bridges?|borders?|schools?) closures?\b|"
    r"\bclosures? of (?:(?:the|an?|some|our|all) )?(?:\w+ )?(?:roads?|streets?|lanes?|bridges?|"
    r"borders?|schools|lifts?)\b|"
    r"\b(?:internet|wi-?fi|phones?|telephones?|e-?mails?) (?:outages?|shut ?downs?)\b",
    re.IGNORECASE,
)
_PARTS = re.compile(
    r"\b(?:lifts?|elevators?|escalators?|stairs|entrances?|entry|doors?|gates?|toilets?|restrooms?|bathrooms?|"
    r"cloakrooms?|tills?|printers?|fax|air conditioning|wi-?fi|internet|telephones?|phones?|phone lines?|"
    r"car parks?|parking (?:lots?|spaces?|garages?)|parking|playgrounds?|terraces?|balcony|kitchens?|floors?|rooms?|"
    r"tables?|chairs?|seats?|lights?|fountains?|clocks?|schools|kindergartens)"
    r"(?: (?!and\b)\w+){0,3}? (?:(?:is|are|will be|remains?|stays?|goes) (?:\w+ )?)?$",
    re.IGNORECASE,
)
# The times that are said are those of the rest.
_OTHERWISE = re.compile(
    r"\b(?:otherwise|outside (?:these|those|of)|the rest of the time|only open|opens? only)\b", re.IGNORECASE
)


def find_stop(sentence: str) -> re.Match[str] | None:
    """Finds the words by which a sentence says that nothing comes in.

    Example:
        >>> [bool(find_stop(said)) for said in ("It produces nothing.", "It does not run.", "There is no rain.")]
        [True, True, False]
    """
    found = _ZERO.search(sentence) or NOT_AT_WORK.search(sentence)
    if found is None or _OTHERWISE.search(sentence):
        return None
    others = [other for pattern in (_PARTLY, _ELSEWHERE) if (other := pattern.search(sentence))]
    if _PARTS.search(sentence[: found.start()]):
        return None
    return found if all(other.start() > found.start() for other in others) else None


def say_elsewhere(sentence: str) -> str:
    """Says why what stands still by a sentence stops nothing; empty where nothing stands still, or all does.

    Example:
        >>> say_elsewhere("The lift is out of service.")
        'what stands still may be only a part, or something else than the series; write what happens to the series'
        >>> say_elsewhere("The mill is out of service.")
        ''
    """
    found = _ZERO.search(sentence) or NOT_AT_WORK.search(sentence)
    if found is None or _OTHERWISE.search(sentence) or find_stop(sentence) is not None:
        return ""
    return "what stands still may be only a part, or something else than the series; write what happens to the series"

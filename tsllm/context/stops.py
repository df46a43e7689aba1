"""Which sentences say that nothing comes in: closed, down, idle, "produces nothing", "does not run", "no sales"."""

import re

from tsllm.context.effects import MONTHS, WEEKDAYS

_DAYS = "|".join((*WEEKDAYS, *MONTHS))
# Behind it nothing says that only a part of it is meant ("does not run at full load", "is down 20 %").
_END = (
    r"(?=\s*(?:$|[.,;:!?)])|\s+(?:at all|at (?:noon|midnight|\d+:)|anything|any more|on|from|until|till|between|"
    r"during|for|over|this|next|today|tomorrow|all (?:day|night|week|weekend)|because|due|owing|since|after|before|"
    r"and|or|while|as of|"
    rf"starting|daily|every|each|throughout|again until|either|there|the (?:day after|whole)|{_DAYS}|\d)\b(?! ?%))"
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
# "No doubt", "no rain", "no maintenance": nothing of what would change the series, or nothing to be said of it.
_NOTHING_OF_IT = (
    r"(?:longer|changes?|effects?|impacts?|one|doubts?|reasons?|news|need|plans?|problems?|issues?|delays?|risks?|"
    r"limits?|more|less|fewer|matter|way|idea|rain\w*|snow\w*|sun\w*|winds?|clouds?|storms?|fog|frost|ice|heat\w*|"
    r"special|additional|others?|further|new|significant|major|known|visible|big|large|faults?|errors?|signs?|"
    r"restrictions?|maintenance|strikes?|holidays?|outages?|disruptions?|interruptions?|closures?|events?|information|"
    r"data|evidence|guarantee|questions?|surprise|wonder|point|later|sooner|earlier|better|worse|higher|lower|upper|"
    r"maximum|minimum|such|real|particular|unusual|difference|deviations?|exceptions?|alternatives?|choice|comments?|"
    r"agreements?|decisions?|warnings?|costs?|charges?|fees?|discounts?|noticeable|obvious|clear|important|relevant|"
    r"extra|increases?|decreases?|rises?|drops?|falls?|reductions?|growth|planned|scheduled|heavy|strong|long|"
    r"meetings?|caps?|floors?|bounds?|trend|seasonality|link|relation|influence|bearing|concern|worr\w+|accidents?|"
    r"incidents?|shortages?|damage\w*|injur\w+|parents?|confounders?|covariates?|causes?)"
)
NOT_AT_WORK = re.compile(
    rf"\b{_NOT} (?:be )?(?:{_DO}|(?:running|operating|producing|generating|working|delivering|open|operational|"
    rf"operated|produced|generated|sold|in (?:operation|service|use))){_END}|"
    rf"\b{_NOT} (?:be )?any (?!{_NOTHING_OF_IT}\b)\w+",
    re.IGNORECASE,
)  # fmt: skip
_ZERO = re.compile(
    rf"\bno (?!{_NOTHING_OF_IT}\b)[a-z]\w+|(?<!not )\bclosed\b(?!-| (?:an? |the )?(?:loop|circuit|form|deal|"
    rf"contract)\b)|"
    r"closure|shut ?down|offline|depleted|blackout|out of (?:service|order|stock|use)|unavailable|suspended|outage|"
    r"zero (?:readings|values|output|production|sales|demand|generation|load|consumption|traffic)|under maintenance|"
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


# What stands still somewhere else.
_ELSEWHERE = re.compile(
    r"\b(?:rivals?|competitors?|competing|neighbou?r(?:s|ing)?|nearby|next door|another|elsewhere|other)\b",
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
    return found if all(other.start() > found.start() for other in others) else None

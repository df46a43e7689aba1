"""Clauses put together of verbs and frames, in opposite pairs, and more that says nothing; all for training alone.

A rise and a fall, an upper and a lower limit stand in the very same frames, so that a reader must tell them apart by
the word that differs. A clause that `tsllm.context.wordings` has, too, is left out.
"""

from itertools import product

from tsllm.context.wordings import EFFECTS as STOCK

_RISE = ("rise", "climb", "grow", "increase", "jump", "surge", "gain", "advance", "swell", "go up", "move up", "mount",
         "shoot up", "leap", "tick up", "ramp up", "be pushed up", "be lifted", "be raised", "be marked up",
         "pick up", "edge higher", "go higher", "strengthen", "step up", "be driven up", "rally")  # fmt: skip
_FALL = ("fall", "drop", "shrink", "decrease", "plunge", "slump", "lose", "retreat", "dwindle", "go down", "move down",
         "sink", "crash down", "tumble", "tick down", "ramp down", "be pushed down", "be cut", "be lowered",
         "be marked down", "ease off", "edge lower", "go lower", "weaken", "step down", "be driven down", "decline",
         "come down", "be reduced", "slide", "dip", "contract", "be trimmed", "give up", "shed")  # fmt: skip
_AHEAD = ("{{q}} will {} {{v}}", "{{q}} should {} {{v}}", "{{q}} is going to {} {{v}}",
          "{{q}} is expected to {} {{v}}", "{{q}} is set to {} {{v}}", "{{q}} is forecast to {} {{v}}",
          "{{q}} is about to {} {{v}}", "{{q}} has to {} {{v}}",
          "we see {{q}} {} {{v}}", "expect {{q}} to {} {{v}}")  # fmt: skip
_MORE = ("higher", "greater", "larger", "up", "dearer", "stronger", "more")
_LESS = ("lower", "smaller", "less", "down", "cheaper", "weaker", "reduced")
_USUAL = ("than usual", "than normal", "than on other days", "than it would be otherwise", "compared with the usual",
          "against the normal level", "on the usual figure")  # fmt: skip
_OVER = ("above", "over", "in excess of")
_UNDER = ("below", "under", "beneath", "short of")
_LEVEL = ("the usual level", "normal", "its average", "the ordinary figure", "what is typical", "the customary value")
_RISING = ("a rise", "an increase", "a jump", "growth", "a gain", "an upswing", "a surge", "a climb", "a plus",
           "a step up", "an upturn", "a markup", "a boost")  # fmt: skip
_FALLING = ("a fall", "a decrease", "a drop", "a decline", "a loss", "a downswing", "a slump", "a slide", "a minus",
            "a step down", "a downturn", "a markdown", "a cut", "a reduction", "a dip")  # fmt: skip
_PUSHING = ("lifting", "pushing up", "raising", "driving up", "increasing", "boosting", "inflating", "marking up")
_PULLING = ("dragging down", "pushing down", "lowering", "driving down", "reducing", "depressing", "cutting",
            "marking down", "trimming")  # fmt: skip

_NEVER = ("cannot", "must not", "will not", "may not", "does not", "is not allowed to", "is unable to", "will never",
          "is forbidden to", "is not going to", "is not meant to", "never has to", "should not", "won't")  # fmt: skip
_PAST_TOP = tuple(map(" ".join, product(
    ("go", "rise", "climb", "get", "move", "jump", "be", "come out", "run"),
    ("above", "over", "beyond", "higher than"),
)))  # fmt: skip
_PAST_BOTTOM = tuple(map(" ".join, product(
    ("go", "fall", "drop", "get", "move", "sink", "be", "come out", "slip"),
    ("below", "under", "beneath", "lower than"),
)))  # fmt: skip
_STAYS = ("stays", "remains", "is kept", "is held", "has to stay", "will stay", "must be", "will remain", "keeps",
          "is certain to be", "is always", "lies")  # fmt: skip
_IS = ("is", "will be", "amounts to", "comes to", "reaches", "can be", "is going to be", "shall be")
_AT_MOST = ("at most {v}", "{v} at most", "no more than {v}", "not more than {v}", "{v} or less", "no higher than {v}",
            "up to {v}", "{v} at the maximum", "{v} at the outside", "not over {v}", "{v} or lower", "{v} tops",
            "a maximum of {v}", "limited to {v}", "capped at {v}", "under {v} in every hour")  # fmt: skip
_AT_LEAST = ("at least {v}", "{v} at least", "no less than {v}", "not less than {v}", "{v} or more",
             "no lower than {v}", "upwards of {v}", "{v} at the minimum", "{v} at the very lowest", "not under {v}",
             "{v} or higher", "{v} and up", "a minimum of {v}", "supported at {v}", "guaranteed to be {v}",
             "over {v} in every hour")  # fmt: skip
_BOUNDS = (  # an upper limit, and its opposite
    ("{q} tops out at {v}", "{q} bottoms out at {v}"),
    ("{v} is the ceiling for {q}", "{v} is the floor for {q}"),
    ("nothing above {v} is accepted", "nothing below {v} is accepted"),
    ("offers over {v} are rejected", "offers under {v} are rejected"),
    ("{q} above {v} is forbidden", "{q} below {v} is forbidden"),
    ("{q} may come up to {v} but not further", "{q} may come down to {v} but not further"),
    ("{q} is bounded by {v} from above", "{q} is bounded by {v} from below"),
    ("{q} has an upper bound of {v}", "{q} has a lower bound of {v}"),
    ("the upper bound of {q} is {v}", "the lower bound of {q} is {v}"),
    ("the ceiling stands at {v}", "the floor stands at {v}"),
    ("a price ceiling of {v} applies", "a price floor of {v} applies"),
    ("a maximum of {v} is in force", "a minimum of {v} is in force"),
    ("a cap of {v} is imposed on {q}", "a floor of {v} is imposed on {q}"),
    ("the highest {q} that can occur is {v}", "the lowest {q} that can occur is {v}"),
    ("the highest value is {v}", "the lowest value is {v}"),
    ("the most that is paid is {v}", "the least that is paid is {v}"),
    ("the law caps {q} at {v}", "the law guarantees {q} of {v}"),
    ("{q} hits a ceiling at {v}", "{q} hits a floor at {v}"),
    ("{q} is prevented from rising above {v}", "{q} is prevented from falling below {v}"),
    ("{q} is kept from climbing over {v}", "{q} is kept from sinking under {v}"),
    ("whatever is more than {v} is cut to {v}", "whatever is less than {v} is raised to {v}"),
    ("higher values than {v} are impossible", "lower values than {v} are impossible"),
    ("peaks are cut off at {v}", "troughs are filled up to {v}"),
    ("the limit to the top is {v}", "the limit to the bottom is {v}"),
    ("there is no way for {q} to be more than {v}", "there is no way for {q} to be less than {v}"),
    ("{e} will not let {q} past {v}", "{e} will not let {q} slip under {v}"),
    ("{q} can rise to {v}, no more", "{q} can fall to {v}, no more"),
    ("if {q} were above {v}, it would be cut to {v}", "if {q} were below {v}, it would be lifted to {v}"),
    ("{v} may not be exceeded", "{v} may not be undercut"),
    ("{q} is not permitted to exceed {v}", "{q} is not permitted to undercut {v}"),
    ("{e} is restricted to at most {v}", "{e} is obliged to at least {v}"),
    ("values beyond {v} are ruled out", "values short of {v} are ruled out"),
)
_BOUND_ENDS = (
    ("so that {q} tops out at {v}", "so that {q} bottoms out at {v}"),
    ("putting a ceiling of {v} on {q}", "putting a floor of {v} under {q}"),
    ("which forbids {q} above {v}", "which forbids {q} below {v}"),
    ("preventing {q} from rising above {v}", "preventing {q} from falling below {v}"),
    ("which bounds {q} by {v} from above", "which bounds {q} by {v} from below"),
    ("and {q} cannot get over {v}", "and {q} cannot get under {v}"),
    ("with {q} of no more than {v}", "with {q} of no less than {v}"),
    ("with {q} staying under {v}", "with {q} staying over {v}"),
    ("holding {q} down to {v} or less", "holding {q} up at {v} or more"),
    ("which makes {v} the highest possible {q}", "which makes {v} the lowest possible {q}"),
    ("so the maximum is {v}", "so the minimum is {v}"),
    ("which means at most {v}", "which means at least {v}"),
)
_BOUND_NOUNS = (
    ("a price ceiling of {v}", "a price floor of {v}"),
    ("an upper bound of {v}", "a lower bound of {v}"),
    ("{q} of no more than {v}", "{q} of no less than {v}"),
    ("a maximum of {v}", "a minimum of {v}"),
    ("{q} of up to {v}", "{q} of {v} and up"),
    ("a top limit of {v}", "a bottom limit of {v}"),
    ("a maximum value of {v} for {q}", "a minimum value of {v} for {q}"),
    ("{q} below {v} at all times", "{q} above {v} at all times"),
    ("the highest possible {q} of {v}", "the lowest possible {q} of {v}"),
    ("a cap on {q} at {v}", "a floor under {q} at {v}"),
)
_FIXED = ("fixed at", "frozen at", "pegged at", "pegged to", "locked at", "nailed to", "held at", "kept at", "set to",
          "set at", "pinned at", "tied to", "clamped to", "anchored at", "stuck at", "brought to", "put at",
          "steady at", "constant at", "unchanged at", "flat at", "precisely", "exactly", "equal to",
          "uniformly")  # fmt: skip
_BE = ("is", "will be", "stays", "remains", "is going to be", "is to be", "shall be", "must be", "gets", "is simply")
_TIMES = ("{v} times", "{v}x", "{v} times as much as", "about {v} times", "roughly {v} times", "exactly {v} times")
_NORM = ("the usual level", "the normal value", "its typical size", "the ordinary amount", "the regular figure",
         "its average", "the usual", "what it otherwise is", "its everyday level", "the standard value")  # fmt: skip
_COME_TO = ("is", "will be", "comes to", "amounts to", "reaches", "goes to", "moves to", "rises to", "falls to",
            "is scaled to", "is expected at", "should be", "turns out at", "stands at", "runs at")  # fmt: skip
_FACTORS = ("is expected to", "will probably", "is set to", "is forecast to", "is about to", "has to", "shall",
            "will more or less", "will roughly", "may be assumed to", "will suddenly", "must", "can only")  # fmt: skip
_OFF = ("closed", "shut", "shut down", "switched off", "turned off", "powered down", "out of action", "inactive",
        "dormant", "deserted", "evacuated", "barred", "at a standstill", "stopped", "halted", "idle", "dead",
        "off the air", "in outage", "without service", "off duty", "paralysed", "sealed off", "out of operation",
        "off", "down", "vacant", "dry", "emptied")  # fmt: skip
_NO_FLOW = ("no {q} is produced", "no {q} is possible", "no {q} can be delivered", "no {q} gets through",
            "no {q} is to be expected", "there is zero {q}", "{q} is nil", "{q} comes to a halt", "{q} dries up",
            "{q} stops altogether", "{q} breaks off", "{q} is cut off", "{q} goes to zero", "{q} collapses to zero",
            "{q} will be 0", "nothing is produced at {e}", "nothing leaves {e}", "nobody can use {e}",
            "{e} ceases work", "{e} stops operating", "{e} halts all work", "{e} suspends service", "{e} goes dark",
            "{e} goes offline", "{e} stops", "{e} shuts down", "{e} closes", "{e} is not running", "{e} is not open",
            "{e} produces nothing", "{e} has a complete outage", "{e} does not run", "{e} has no service",
            "all of {e} is down", "work at {e} rests")  # fmt: skip
_BROKEN = ("broken", "faulty", "stuck", "out of order", "defective", "wrongly set", "miscalibrated", "disturbed",
           "frozen", "under repair", "wrong", "corrupted", "damaged", "jammed")  # fmt: skip
_DEVICES = ("the sensor of {e}", "the meter at {e}", "the logger", "the counter of {e}", "the gauge", "the recorder",
            "the transmitter at {e}", "the data feed", "the instrument")  # fmt: skip


def _join(frames: tuple[str, ...], words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(frame.format(word) for frame, word in product(frames, words))


def _add(verbs: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{verb} by" for verb in verbs)


def _compare(words: tuple[str, ...], places: tuple[str, ...]) -> tuple[str, ...]:
    verbs = ("is", "will be", "is expected to be", "comes out", "turns out")
    return (
        *(f"{{q}} {verb} {{v}} {word} {usual}" for verb, word, usual in product(verbs, words, _USUAL)),
        *(f"{{q}} {verb} {{v}} {place} {level}" for verb, place, level in product(verbs, places, _LEVEL)),
    )


def _shift(
    verbs: tuple[str, ...], words: tuple[str, ...], places: tuple[str, ...], nouns: tuple[str, ...],
    ends: tuple[str, ...],
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:  # fmt: skip
    """Returns clauses, participles and noun phrases of a rise, or of a fall."""
    mains = (
        *_join(_AHEAD, _add(verbs)),
        *_compare(words, places),
        *(f"there is {n} of {{v}} in {{q}}" for n in nouns),
    )
    parts = (
        *(f"{end} {{q}} by {{v}}" for end in ends),
        *(f"with {{q}} {{v}} {word} {usual}" for word, usual in product(words, _USUAL)),
        *(f"which makes {{q}} {verb} {{v}}" for verb in _add(verbs) if not verb.startswith("be ")),
        *(f"so {{q}} will {verb} {{v}}" for verb in _add(verbs)),
        *(f"which means {noun} of {{v}}" for noun in nouns),
    )
    things = (
        *(f"{noun} of {{v}} in {{q}}" for noun in nouns),
        *(f"{noun} in {{q}} by {{v}}" for noun in nouns),
        *(f"{{q}} {{v}} {place} {level}" for place, level in product(places, _LEVEL)),
        *(f"{{q}} {{v}} {word} {usual}" for word, usual in product(words, _USUAL)),
    )
    return mains, parts, things


def _limit(
    past: tuple[str, ...], sides: tuple[str, ...], amounts: tuple[str, ...], side: int
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Returns clauses, participles and noun phrases of an upper limit (side 0), or of a lower one (1)."""
    mains = (
        *(f"{{q}} {never} {move} {{v}}" for never, move in product(_NEVER, past)),
        *(f"{{q}} {stay} {place} {{v}}" for stay, place in product(_STAYS, sides)),
        *(f"{{q}} {verb} {amount}" for verb, amount in product(_IS, amounts)),
        *(pair[side] for pair in _BOUNDS for _ in range(12)),
    )
    parts = tuple(pair[side] for pair in _BOUND_ENDS) + tuple(f"so {{q}} {never} {past[0]} {{v}}" for never in _NEVER)
    return mains, parts, tuple(pair[side] for pair in _BOUND_NOUNS)


def _leave_out(parts: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    """Drops what the stock has, in the same list or another, held out or not."""
    known = {words for lists in STOCK.values() for part in lists for words in part}
    return tuple(tuple(words for words in part if words not in known) for part in parts)


EFFECTS: dict[str, tuple[tuple[str, ...], ...]] = {
    kind: _leave_out(parts)
    for kind, parts in {
        "raise": _shift(_RISE, _MORE, _OVER, _RISING, _PUSHING),
        "lower": _shift(_FALL, _LESS, _UNDER, _FALLING, _PULLING),
        "cap": _limit(_PAST_TOP, ("below", "under", "beneath", "no higher than"), _AT_MOST, 0),
        "floor": _limit(_PAST_BOTTOM, ("above", "over", "clear of", "no lower than"), _AT_LEAST, 1),
        "set": (
            tuple(f"{{q}} {verb} {fixed} {{v}}" for verb, fixed in product(_BE, _FIXED)),
            tuple(f"{lead} {{q}} {fixed} {{v}}" for lead, fixed in product(("with", "leaving", "keeping"), _FIXED)),
            (*(f"{{q}} {fixed} {{v}}" for fixed in _FIXED),
             "a flat {q} of {v}", "a uniform {q} of {v}", "a single {q} of {v}", "one and the same {q} of {v}"),
        ),
        "multiply": (
            tuple(f"{{q}} {verb} {times} {norm}" for verb, times, norm in product(_COME_TO, _TIMES, _NORM)),
            tuple(f"{lead} {{q}} {times} {norm}" for lead, times, norm in product(("with", "making"), _TIMES, _NORM)),
            tuple(f"{{q}} of {times} {norm}" for times, norm in product(_TIMES, _NORM)),
        ),
        "factor": (
            tuple(f"{{q}} {verb} {{f}}" for verb in _FACTORS),
            ("whereupon {q} will {f}", "and {q} is expected to {f}", "which means that {q} will {f}",
             "and so {q} must {f}", "with {q} about to {f}"),
            tuple(f"{{g}} {norm} of {{q}}" for norm in ("the usual level", "the normal amount", "the ordinary size")),
        ),
        "zero": (
            tuple(f"{{e}} {verb} {off}" for verb, off in product(_BE, _OFF)) + 5 * _NO_FLOW,
            tuple(f"{lead} {{e}} {off}" for lead, off in product(("leaving", "with", "keeping"), _OFF))
            + tuple(f"so that {clause}" for clause in _NO_FLOW),
            ("a standstill of {e}", "a stoppage at {e}", "a halt to all {q}", "a break in all {q}", "no {q} at all",
             "a full closure of {e}", "a total outage of {e}", "a suspension of {e}", "a shutdown at {e}",
             "nothing from {e}", "zero output of {e}", "an end to all {q}", "{e} without any {q}"),
        ),
        "over": (
            tuple(f"{device} was {broken}" for device, broken in product(_DEVICES, _BROKEN)),
            tuple(f"and {device} was {broken}" for device, broken in product(_DEVICES, _BROKEN)),
            ("a false peak in {q}", "an artefact in {q}", "a defect of the meter", "wrong readings",
             "a glitch of the logger", "a broken sensor", "spoilt data"),
        ),
    }.items()
}  # fmt: skip

CAUSES = (
    "a hailstorm", "a cold front", "a thick fog", "a bank holiday rush", "a conference", "a film shoot", "a parade",
    "a rail strike", "a lack of wind", "a surplus of wind", "an outage of a nuclear unit", "a failed transformer",
    "a leaking tank", "a landslide", "an earthquake", "a tight supply", "a glut", "a new tax", "a subsidy",
    "a rule of the regulator", "an order of the ministry", "a tender", "a price war", "a sale", "a boycott",
    "a port blockade", "a heavy thunderstorm", "a wildfire", "an ice jam", "a shortage of staff", "a staff outing",
    "an overhaul", "a test of the pumps", "a fire drill", "a bomb alert", "a water main break", "a change of owner",
    "a calibration", "a long weekend", "a school trip", "a royal wedding", "an auction", "a book fair",
    "a change of the tariff zone", "a switch of suppliers", "an exceptional import", "a mild night", "a hot spell",
    "a virus", "a network failure", "a lorry accident", "a derailed train", "a burst dam", "a curfew", "a lockdown",
    "a cut of the gas supply", "a reserve auction", "a congested line", "a maintenance window", "a public order",
)  # fmt: skip
DENIALS = (
    "Whoever says that {main} {span} is mistaken.",
    "Reports that {main} {span} have proved false.",
    "It used to be feared that {main} {span}, without cause.",
    "The minister denied that {main} {span}.",
    "We have no sign that {main} {span}.",
    "It is out of the question that {main} {span}.",
    "The proposal that {main} {span} found no majority.",
    "In a neighbouring country, {main} {span}.",
    "At a competitor, {main} {span}.",
    "For another product, {main} {span}.",
    "In the branch at the other end of the country, {main} {span}.",
    "On a different exchange, {main} {span}.",
    "Some years back, {main} for {dur}.",
    "In {year}, {c} meant that {main}.",
    "In those days, {main}.",
    "In the last century it happened that {main} {span}.",
    "Had {c} come, it would have been the case that {main}.",
    "Without {c}, one might have said that {main}.",
    "The warning that {main} {span} has been lifted.",
    "The plan to act so that {main} {span} was dropped.",
    "It was an error to announce that {main} {span}.",
    "Please ignore the notice that {main} {span}.",
    "The announcement that {main} {span} was withdrawn.",
    "A draft said that {main} {span}; it was never adopted.",
    "Opponents asked that {main} {span}, in vain.",
    "{C} was called off, so it no longer holds that {main} {span}.",
    "It is a myth that {main} whenever there is {c}.",
    "In theory {main} {span}; in practice nothing happens.",
    "Model runs in which {main} {span} were discarded.",
    "That {main} {span} is only a story.",
    "Far from it that {main} {span}: all is as usual.",
    "In an exercise that changes nothing here, {main} {span}.",
    "A town far away reports that {main} {span}.",
    "The sister company says that {main} {span}, which does not touch {e}.",
    "It is not planned that {main} {span}.",
    "It will not happen that {main} {span}.",
    "They once said that {main}, long before our data begin.",
    "A question in a quiz was whether {main} {span}.",
    "In the novel, {main} {span}.",
    "Only elsewhere, {main} {span}.",
)
DISTRACTORS = (
    "{C} on {moment} does not touch {q}.",
    "{C} of {dur} is expected, without any consequence for {q}.",
    "{q} is not affected by {c} on {moment}.",
    "{C} from {moment} to {moment} leaves {q} as it is.",
    "Whatever is said about {c}, {q} stays the same on {moment}.",
    "The repair that was planned for {moment} has been postponed for good.",
    "The closure that had been announced for {moment} is cancelled.",
    "The strike of {moment} was averted.",
    "{e} stays open on {moment}.",
    "{e} runs as usual from {moment} to {moment}.",
    "Work at {e} goes on normally on {moment}.",
    "The limit of {n} is no longer in force.",
    "The cap of {n} holds for another market.",
    "The floor of {n} was done away with in {year}.",
    "A ceiling of {n} had been asked for; parliament said no.",
    "In another region the price may not exceed {n}.",
    "Somewhere else {q} rose by {pct}.",
    "Abroad, {q} fell by {pct} on {moment}.",
    "A rise by {pct} was expected at first, but is not any more.",
    "A fall by {pct} as in {year} will not come again.",
    "In {year} {q} fell by {pct} because of {c}.",
    "Years ago {c} drove {q} up by {pct}.",
    "{dur} ago {q} was {pct} higher than usual; that is over.",
    "Last month {q} was down {pct} for {dur}.",
    "Some analysts had predicted a gain of {pct}, and were wrong.",
    "If {c} had come, {q} would have risen by {pct}.",
    "{C} would usually double {q}, but it was cancelled.",
    "{C} no longer takes place on {moment}.",
    "A competitor closes from {moment} to {moment}.",
    "A shop next door is closed on {moment}.",
    "The neighbours expect {small} times as much {q}.",
    "A rumour says that {e} closes on {moment}; it is false.",
    "Nobody plans to shut {e} on {moment}.",
    "There is no outage from {moment} to {moment}.",
    "No limit applies from {moment}.",
    "Neither {c} nor anything else changes {q} on {moment}.",
    "{C} ended {dur} ago, and all is normal again.",
    "The inspection on {moment} is done from outside while {e} keeps working.",
    "A drill on {moment} does not interrupt {e}.",
    "For {dur} people talked about {c}; nothing came of it.",
    "The test lasts {dur} and has no influence on {q}.",
    "Before {year}, {q} was limited to {n}.",
    "Until {year}, {e} was closed every {dur}.",
    "The old maximum of {n} does not count any more.",
    "{q} of another company is fixed at {n}.",
    "The threshold of {n} concerns small customers only, not {q}.",
    "By {moment}, {c} will be forgotten.",
    "The effect of {c} on {q} is zero.",
    "Even {c} could not move {q} by {pct}.",
    "It was agreed on {moment} that nothing will change.",
)
BACKGROUND = (
    "{E} is run by a team of {n}.",
    "{q} is given in units of {n}.",
    "The data set begins in {year}.",
    "The table lists {q} for each hour.",
    "Data are recorded every {dur}.",
    "{E} was founded on {moment}.",
    "The district has {n} households.",
    "{q} is one of {small} columns.",
    "An average customer pays {n} a year.",
    "The mean of {q} over all years is {n}.",
    "The largest value ever, {n}, was seen in {year}.",
    "The smallest value in the record is {n}.",
    "The standard deviation is {dec}.",
    "{pct} of the data were checked by hand.",
    "The share of households is {pct}.",
    "{E} is {n} metres long and {n} metres wide.",
    "{E} is known for its history, which goes back to {year}.",
    "The building was renovated in {year}.",
    "A newsletter comes out every {dur}.",
    "The meeting of {moment} was about the budget.",
    "Questions are answered by phone from {moment} to {moment}.",
    "The office can be reached until {moment}.",
    "The report was written on {moment}.",
    "{C} is a common topic in the local paper.",
    "There are {small} entrances and {small} lifts.",
    "The model has {n} parameters.",
    "The clock of the system is set to local time.",
    "Seasonal patterns of {dur} are visible.",
    "It takes {dur} to walk through {e}.",
    "The licence runs until {year}.",
    "The owner holds {pct} of the shares.",
    "{E} gets its electricity from {small} suppliers.",
    "The operator has {n} customers in {small} countries.",
    "The weather is measured {n} metres away.",
    "A map of {e} can be had for {n} cents.",
    "The analysis covers {small} sites.",
    "Figures before {year} are estimates.",
    "{q} matters to investors.",
    "The forecast is made once a day.",
    "The last audit was on {moment}.",
)
OPENERS = (
    "Please note that ", "According to the notice, ", "As announced, ", "The regulator states that ",
    "It is certain that ",
    "The company informs that ", "As things stand, ", "In short, ", "Heads up: ", "The contract provides that ",
    "We learn that ", "Starting point: ", "Market participants should know that ", "It was announced that ",
    "Expect that ", "Our information is that ", "Today we heard that ", "In the coming days ",
)  # fmt: skip
SPAN_FORMS = (
    "from {start} till {end}", "from {start} to {end} inclusive", "as of {start} until {end}",
    "from {start} to {end} only",
    "between {start} and {end} only", "for {length} as of {start}", "for the next {length} after {start}",
    "beginning at {start} for {length}", "with effect from {start} to {end}", "in the time between {start} and {end}",
    "during the {length} from {start} on", "in the hours from {start} to {end}", "from {start}, lasting {length}",
    "until {end}, beginning {start}", "the whole time from {start} to {end}", "on all of {day}",
    "starting at {start} and finishing at {end}", "over the period {start} to {end}",
)  # fmt: skip

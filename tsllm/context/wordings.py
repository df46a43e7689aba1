"""The stock of words and sentence forms that synthetic texts are made of; `tsllm.context.pairs` puts them together.

Every fifth entry of a list is kept for validation and never trained on. `{q}` is what is measured, `{e}` who or what
it is measured at; the other slots are copied mentions.
"""

SUBJECTS = (
    ("the warehouse", "orders"), ("unit 3 of the plant", "output"), ("the corner shop", "sales"),
    ("the bus line", "ridership"), ("the call centre", "calls"), ("the water works", "water consumption"),
    ("the bakery", "bread sales"), ("the clinic", "patient visits"), ("the toll bridge", "traffic"),
    ("the data centre", "power draw"), ("the wind farm", "generation"), ("the hotel", "bookings"),
    ("the museum", "visitors"), ("the charging station", "energy delivered"), ("the web site", "page views"),
    ("the school canteen", "meals served"), ("the port", "containers handled"), ("the gas field", "gas production"),
    ("the swimming pool", "admissions"), ("the car park", "occupancy"), ("the loop detector", "readings"),
    ("the bank branch", "withdrawals"), ("the cement mill", "throughput"), ("the district", "electricity demand"),
    ("the river gauge", "water level"), ("the bike counter", "cyclists"), ("the dairy", "milk deliveries"),
    ("the post office", "parcels"), ("the solar park", "power output"), ("the airport", "passengers"),
    ("the pharmacy", "prescriptions"), ("the server", "requests"), ("the ski lift", "tickets sold"),
    ("the smart meter", "consumption"), ("the restaurant", "covers"), ("the ward", "admissions"),
    ("the pump", "flow"), ("the market", "price"), ("the weather station", "temperature"), ("the fire brigade", "call-outs"),
)  # fmt: skip
CAUSES = (
    "a street festival", "a cold spell", "a strike", "a big football match", "a sale", "a power cut", "heavy snow",
    "a marathon", "roadworks", "a product launch", "a heat wave", "an audit", "a storm", "a software update",
    "the school holidays", "a burst pipe", "a concert", "a trade fair", "a gas leak", "a shortage of staff",
    "an advertising campaign", "a flood", "the election", "a fuel shortage", "a fire drill", "planned works",
    "a cable fault", "a new timetable", "an inspection", "a promotion on the radio", "a jammed valve", "a court order",
    "a migration of the servers", "a festival of lights", "renovation", "a pest infestation", "a stocktaking",
    "a television report", "a public demonstration", "a breakdown of the supplier", "a visit of the minister",
    "a drought", "a broken turbine", "a delayed delivery", "a loyalty week", "a burst of tourism", "a cyber attack",
    "an emergency repair", "a rise in tariffs", "a landslide",
)  # fmt: skip
SPAN_FORMS = (
    "from {start} to {end}", "between {start} and {end}", "from {start} until {end}", "from {start} for {length}",
    "starting at {start} for {length}", "on {day}", "starting {start} and lasting {length}", "from {start}, for {length}",
    "for {length} from {start}", "as of {start}, for about {length}", "in the period from {start} up to {end}",
    "for {length} starting on {start}", "beginning {start} and ending {end}", "over {length} from {start} onwards",
    "for roughly {length}, beginning at {start}", "from {start} through {end}", "for the {length} that follow {start}",
    "after {start} and before {end}", "during {length} from {start}", "starting from {start} for {length}",
    "on {day} only", "throughout {day}", "all day on {day}", "since {start} until {end}", "with effect from {start} until {end}",
)  # fmt: skip
SPAN_VERBS = (
    "begins at {start} and lasts {length}", "runs from {start} to {end}", "is scheduled for {day}",
    "started on {start} and went on for about {length}", "will last from {start} until {end}",
    "sets in at {start} and is over by {end}", "takes place on {day}", "is to start on {start} and take {length}",
    "will go on for {length} from {start}", "starts on {start} and ends on {end}", "is planned between {start} and {end}",
    "will hit at {start} and persist for {length}", "will be on from {start}, and done with by {end}",
    "arrives at {start} and stays for around {length}", "kicked off at {start} and continued for {length}",
)  # fmt: skip
# (main clause, participle, noun phrase) of each kind of value; `{v}` is the mention.
EFFECTS: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "multiply": (
        (
            "{q} will be {v} times the usual", "{q} reaches {v} times the normal level", "{q} climbs to {v} times what is typical",
            "{v} times as much {q} as usual is expected", "we will see {v} times the ordinary {q}", "{q} runs at {v} times its average",
            "{e} sees {v} times the regular {q}", "{q} amounts to {v} times the usual amount", "{q} goes to {v} times the standard figure",
            "{q} stands at {v}x the baseline", "{q} is multiplied by {v}", "{q} is scaled by a factor of {v}",
            "{q} rises to {v} times the level of an ordinary day", "{q} is {v} times as high as it would be otherwise",
            "{q} swells to {v} times normal", "{q} comes in at about {v} times the customary value",
        ),
        (
            "leading to {v} times the usual {q}", "with {v} times the normal {q}", "so that {q} becomes {v} times as large as usual",
            "which brings {q} to {v} times the typical level", "pushing {q} to {v} times the average", "and {v} times the regular {q} being recorded",
            "resulting in {v} times as much {q}", "driving {q} to roughly {v} times what is normal", "so expect {v} times the usual {q}",
            "resulting in {q} of {v} times the ordinary",
        ),
        ("{q} at {v} times the usual level", "{v} times the normal {q}", "{q} of {v} times the average", "a factor of {v} on {q}",
         "a level of {v} times the usual {q}"),
    ),
    "factor": (
        ("{q} will {f}", "{q} is going to {f}", "{q} should {f}", "we expect {q} to {f}", "{e} will see its {q} {f}"),
        ("causing {q} to {f}", "so that {q} will {f}", "making {q} {f}", "which lets {q} {f}", "and {q} will about {f}"),
        ("{g} the usual {q}", "{g} the normal {q}", "about {g} the ordinary {q}", "only {g} the average {q}", "roughly {g} the {q} of a normal day"),
    ),
    "raise": (
        (
            "{q} will rise by {v}", "{q} is up {v}", "{q} grows by {v}", "{q} will be {v} higher than usual", "{q} increases by {v}",
            "{q} gains {v}", "{q} will exceed the usual level by {v}", "{q} jumps {v}", "{q} will be {v} above normal", "{q} goes up by about {v}",
            "{e} can count on {v} more {q}", "{q} will surge {v}", "{q} is boosted by {v}", "{q} climbs {v}", "{q} will swell by {v}",
        ),
        ("raising {q} by {v}", "pushing {q} up by {v}", "which lifts {q} {v} above normal", "with {q} {v} higher", "adding {v} to {q}",
         "so {q} increases {v}", "leading to an increase of {v} in {q}", "resulting in {v} more {q} than usual", "boosting {q} by around {v}", "with {q} up {v}"),
        ("a {v} rise in {q}", "{v} more {q} than usual", "an increase of {v} in {q}", "a {v} jump in {q}", "{q} {v} above normal"),
    ),
    "lower": (
        (
            "{q} will fall by {v}", "{q} is down {v}", "{q} drops by {v}", "{q} will be {v} lower than usual", "{q} decreases by {v}",
            "{q} loses {v}", "{q} will stay {v} below the usual level", "{q} shrinks {v}", "{q} will be {v} under normal", "{q} declines by about {v}",
            "{e} must do with {v} less {q}", "{q} will slump {v}", "{q} is cut by {v}", "{q} dips {v}", "{q} is reduced by {v}",
        ),
        ("lowering {q} by {v}", "pulling {q} down by {v}", "which leaves {q} {v} below normal", "with {q} {v} lower", "taking {v} off {q}",
         "so {q} decreases {v}", "leading to a drop of {v} in {q}", "resulting in {v} less {q} than usual", "cutting {q} by around {v}", "with {q} down {v}"),
        ("a {v} fall in {q}", "{v} less {q} than usual", "a decrease of {v} in {q}", "a {v} dip in {q}", "{q} {v} below normal"),
    ),
    "set": (
        ("{q} is held at {v}", "{q} will be exactly {v}", "{q} is fixed at {v}", "{q} stays constant at {v}", "{q} will stand at {v}", "{q} is set to {v}",
         "{e} delivers a steady {v}", "{q} equals {v}", "{q} is pinned to {v}", "{q} will read {v}", "{q} remains at {v}", "{q} goes to {v} and stays there"),
        ("keeping {q} at {v}", "with {q} held at {v}", "which fixes {q} at {v}", "setting {q} to {v}", "so that {q} equals {v}", "leaving {q} at a constant {v}"),
        ("a constant {q} of {v}", "{q} of exactly {v}", "a fixed value of {v}", "steady {q} of {v}", "{q} at {v} flat"),
    ),
    "cap": (
        (
            "{q} cannot exceed {v}", "{q} is limited to {v}", "{q} is capped at {v}", "{q} will be at most {v}", "{q} must not go above {v}",
            "{q} stays below {v}", "{q} never rises over {v}", "no more than {v} of {q} is possible", "{e} can handle {v} at best",
            "{q} is bounded above by {v}", "{q} will not be higher than {v}", "the most that {e} can do is {v}", "{v} is the upper limit of {q}",
            "{q} is less than or equal to {v}", "{q} has a ceiling of {v}", "the maximum {q} is {v}", "values above {v} cannot occur",
            "{q} is kept under {v}", "{e} is allowed {v} at the most", "{q} may reach but not pass {v}",
        ),
        ("limiting {q} to {v}", "which caps {q} at {v}", "so that {q} is at most {v}", "with a maximum of {v}", "holding {q} below {v}",
         "so {q} cannot be larger than {v}", "keeping {q} under {v}"),
        ("an upper limit of {v} on {q}", "a cap of {v}", "a maximum {q} of {v}", "a ceiling of {v}", "an upper bound of {v}"),
    ),
    "floor": (
        (
            "{q} cannot fall below {v}", "{q} is at least {v}", "{q} has a floor of {v}", "{q} will be no less than {v}", "{q} must not drop under {v}",
            "{q} stays above {v}", "{q} never goes lower than {v}", "no fewer than {v} are guaranteed", "{e} always delivers {v} at least",
            "{q} is bounded below by {v}", "{q} will not be lower than {v}", "the least that {e} needs is {v}", "{v} is the lower limit of {q}",
            "{q} is greater than or equal to {v}", "{q} bottoms out at {v}", "the minimum {q} is {v}", "values below {v} cannot occur",
            "{q} is kept over {v}", "{e} is obliged to {v} as a minimum", "{q} may touch but not go under {v}",
        ),
        ("which keeps {q} above {v}", "so that {q} is at least {v}", "with a minimum of {v}", "holding {q} over {v}",
         "so {q} cannot be smaller than {v}", "guaranteeing {v} or more"),
        ("a lower limit of {v} on {q}", "a floor of {v}", "a minimum {q} of {v}", "a guaranteed minimum of {v}", "a lower bound of {v}"),
    ),
    "zero": (
        (
            "{e} will be closed", "{e} is out of service", "there will be no {q} at all", "{e} is shut", "{e} does not operate", "{q} drops to nothing",
            "{e} is offline", "{e} has to shut down", "{q} ceases completely", "{e} is switched off", "no {q} will be recorded", "{e} stands still",
            "{e} is unavailable", "{e} is suspended", "all {q} comes to a halt", "{e} is taken off the grid", "{e} runs dry", "nothing passes through {e}",
            "{e} reports zeros", "{e} cannot be used", "{e} is not in operation", "{e} is locked", "{e} is sold out", "{e} is under repair and records nothing",
            "{e} stops working", "{q} is interrupted entirely", "{e} is disconnected", "{e} has run out of supplies", "{e} keeps its doors shut", "{e} is down",
        ),
        (
            "so {e} is closed", "which means no {q}", "shutting down {e}", "leaving {e} without any {q}", "so that {q} is nil", "during which {e} is offline",
            "resulting in no {q}", "which puts {e} out of action", "bringing {q} to a complete stop", "so nothing is recorded", "leaving only zeros in the data",
            "with {e} out of order",
        ),
        ("a closure of {e}", "a complete outage of {e}", "a shutdown of {e}", "an interruption of all {q}", "a standstill at {e}", "downtime of {e}",
         "maintenance of {e} without any {q}", "zero {q}"),
    ),
    "over": (
        (
            "{e} recorded a spurious spike", "the sensor at {e} was faulty", "{e} was closed for repairs", "{q} was distorted by a one-off glitch",
            "{e} malfunctioned and gave wrong values", "{e} was under maintenance with nothing recorded", "an error of measurement inflated {q}",
            "{q} was missing and stored as zeros", "a defect of the counter doubled {q}", "{e} suffered an unexpected failure", "{q} was unusually high because of a glitch",
            "the meter of {e} was miscalibrated", "{e} was out of use", "{q} had an artificial dip", "a bug corrupted the values of {e}",
        ),
        ("which distorted {q}", "resulting in false {q}", "leaving gaps in the record of {q}", "which produced an artificial spike", "so that nothing was recorded",
         "and {q} was wrong", "that inflated {q} in error"),
        ("a malfunction of the sensor", "a recording error", "a past outage of {e}", "a spurious spike in {q}", "a glitch in the data of {e}", "bad data"),
    ),
}  # fmt: skip
OVER_ENDS = (
    "This will not happen again.", "Assume that it does not recur.", "The fault has been repaired since.", "Disregard these values.",
    "It is not going to be repeated in the future.", "Such errors are not expected any more.", "The cause was removed for good.",
    "From now on all is normal.", "Do not expect it to come back.", "Ignore this part of the record.",
)  # fmt: skip
ZERO_PERIODIC = (
    " every {every}",
    ", repeated every {every}",
    ", and again every {every}",
    " at intervals of {every}",
    ", periodically every {every}",
)
DELAYS = (
    "{q} will arrive {delay} late {span}", "all {q} is postponed by {delay} {span}", "expect {q} to come {delay} later than usual {span}",
    "{q} is put back by {delay} {span}", "{span} everything at {e} runs {delay} behind schedule", "{q} lags by {delay} {span}",
)  # fmt: skip
HOLIDAYS = (
    "{day} is a public holiday.", "Note that {day} is a bank holiday.", "As {day} is a national holiday, offices stay closed.", "{day} happens to be a holiday.",
    "Keep in mind the holiday on {day}.", "There is a legal holiday on {day}.", "{day} will be a day off for most people.", "On {day} the country celebrates its national day.",
    "{day} is Labour Day.", "People have {day} off because of a holiday.", "{day} is a holiday due to Christmas.", "Easter Monday falls on {day}.",
)  # fmt: skip
OPENERS = ("", "", "", "", "Suppose that ", "Consider that ", "Assume that ", "Note that ", "It is known that ", "According to the operator, ",
           "We were told that ", "Imagine that ", "Please take into account that ", "The plan says that ", "As announced, ", "Reports say that ")  # fmt: skip
# Sentences that say nothing about the future of the series; the numbers and moments in them play no part.
BACKGROUND = (
    "This is the {q} of {e}.", "The series shows {q}, measured at {e}.", "{E} was opened in {year} and serves {n} people.", "The data come from a panel of {n} sites.",
    "Each step is {dur} long.", "Values are averages over {dur}.", "The record began on {moment}.", "{E} has {n} employees and {n} machines.", "The unit of measurement is kW.",
    "{E} lies {n} km from the coast.", "The noise has a scale of {dec}.", "The operator publishes {q} with a lag of {dur}.", "The contract was signed on {moment}.",
    "Until {year} another meter was used.", "Over the last {dur} nothing unusual was seen.", "On average, {q} was {n} in other years.", "The coefficient of the first lag is {dec}.",
    "A survey of {n} customers was made in {year}.", "{E} covers an area of {n} square metres.", "In the model, {q} depends on its last {small} values.", "The prize money is {n} euros.",
    "The first variable takes a value of {dec}.", "The town has a population of {n}.", "Here are the statistics for {small} other places: {n}, {n} and {n}.",
    "The mayor wants to put an end to this.", "Everything else stays as it was.", "Weather data were supplied by the national service.", "The forecast is needed by {moment}.",
)  # fmt: skip
DISTRACTORS = (
    "About {dur} ago a brief fault cut {q} by {pct}, which is not expected to happen again.", "In the neighbouring town, {q} rose by {pct} on {moment}.", "In earlier years {c} in this month brought {small} times the usual {q}, but this year it will not take place.",
    "Contrary to rumours, {e} will not be closed on {moment}.", "The planned closure from {moment} for {dur} has been cancelled.", "{C} on {moment} will have no effect on {q}.", "Normally {c} would lead to {small} times the usual {q}.",
    "A rival of {e} is shut from {moment} to {moment}.", "Some feared that {q} could fall by {pct}, but this is out of the question.", "{E} stays open on {moment} as usual.", "The event of {moment} was called off.",
    "Last year, {q} went up {pct} during {c}.", "{C} of {moment} affects another region only.", "There was talk of a limit of {n}, but it was dropped.", "Historically, {c} has lowered {q} by {pct}; none is foreseen this time.",
    "Prices elsewhere were capped at {n}.", "It is not true that {e} stops for {dur}.", "No maintenance is planned for {moment}.", "Had {c} lasted for {dur}, {q} would have dropped by {pct}.", "Neither {c} nor {c} will change {q}.",
)  # fmt: skip
CORRECTIONS = (
    "{c} would normally bring {x} times the usual {q}. In this case, however, {main}.", "one might expect {x} times the usual {q}, but {main}.",
    "{c} typically leads to {x} times the usual {q}; this time {main}.", "although {c} can raise {q} by {pct}, {main}.", "{q} was first thought to reach {x} times normal. Yet {main}.",
    "instead of the {x} times feared at first, {main}.", "under other circumstances {q} would be {x} times as high. But people save, and {main}.",
    "the first estimate was {pct}, now revised: {main}.", "while {x} times the usual {q} would be typical of {c}, {main}.", "not {x} times as much as in the past: {main}.",
)  # fmt: skip

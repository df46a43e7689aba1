"""Words that rules look for, as patterns: of change, up and down, and names of days and months."""

from tsllm.context.effects import MONTHS, WEEKDAYS

WEEKDAY, MONTH = "|".join(WEEKDAYS), "|".join(MONTHS)
DAY_OR_MONTH = f"{WEEKDAY}|{MONTH}"

RISES = (
    r"(?:rises?|rising|rose|risen|raises?|raised|raising|increas(?:e[sd]?|ing)|gr[eo]ws?|grown|growing|"
    r"climb(?:s|ed|ing)?|jump(?:s|ed|ing)?|surg(?:e[sd]?|ing)|gain(?:s|ed|ing)?|boost(?:s|ed|ing)?|lift(?:s|ed)?|up)"
)
FALLS = (
    r"(?:falls?|falling|fell|fallen|drop(?:s|ped|ping)?|decreas(?:e[sd]?|ing)|declin(?:e[sd]?|ing)|"
    r"reduc(?:e[sd]?|ing|tions?)|lower(?:s|ed|ing)?|sinks?|sank|sinking|dip(?:s|ped)?|cuts?|cutting|shrinks?|shrank|"
    r"slump(?:s|ed)?|plunge[sd]?|curtail(?:s|ed)?|throttled?|loss|down)"
)

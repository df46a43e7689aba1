"""Words of German, French and Spanish for synthetic events; `tsllm.context.foreign` puts them together.

`{span}` is when, `{v}` a number, `{p}` a percentage. In spans `{a}` and `{b}` are moments, `{n}` a duration.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Tongue:
    """A language.

    Attributes:
        weekdays: From Monday on.
        months: From January on.
        numbers: From two to twelve.
        units: Words for several days, hours and minutes.
        percent: Ways to write behind a number that it is one of a hundred.
        date: A day, from `{day}`, `{month}` and `{year}`.
        moment: A day with a time of day, from `{date}` and `{clock}`.
        effects: Kind -> sentences.
        hours: Spans within one day, with `{day}` and times of day.
        lasting: Spans by start and duration.
        between: Spans between two moments; days that end one belong to it.
        always: For bounds without a span.
        quiet: Sentences that say nothing about the future.
    """

    weekdays: tuple[str, ...]
    months: tuple[str, ...]
    numbers: tuple[str, ...]
    units: tuple[str, str, str]
    percent: tuple[str, ...]
    date: str
    moment: str
    effects: dict[str, tuple[str, ...]]
    hours: tuple[str, ...]
    lasting: tuple[str, ...]
    between: tuple[str, ...]
    always: str
    quiet: tuple[str, ...]


# fmt: off
GERMAN = Tongue(
    weekdays=("Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag", "Samstag", "Sonntag"),
    months=("Januar", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September", "Oktober", "November",
            "Dezember"),
    numbers=("zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn", "elf", "zwölf"),
    units=("Tage", "Stunden", "Minuten"),
    percent=(" %", "%", " Prozent"),
    date="{day}. {month} {year}",
    moment="{date}, {clock} Uhr",
    effects={
        "multiply": ("Der Preis liegt {span} beim {v}-fachen des Üblichen.",
                     "Wegen eines Streiks beträgt der Preis {span} das {v}-fache.",
                     "Erwartet wird {span} das {v}-fache des normalen Preises."),
        "raise": ("Der Preis steigt {span} um {p}.", "Wegen einer Messe liegt der Preis {span} {p} höher als sonst.",
                  "Mit einem um {p} höheren Preis ist {span} zu rechnen."),
        "lower": ("Der Preis fällt {span} um {p}.",
                  "Wegen eines Feiertags liegt der Preis {span} {p} unter dem Üblichen.",
                  "Mit einem um {p} niedrigeren Preis ist {span} zu rechnen."),
        "set": ("Der Preis ist {span} auf {v} festgelegt.", "Es gilt {span} ein fester Preis von {v}.",
                "Laut Betreiber beträgt der Preis {span} genau {v}."),
        "cap": ("Der Preis ist {span} auf höchstens {v} begrenzt.",
                "Mehr als {v} kann der Preis {span} nicht betragen.",
                "Es gilt {span} eine Obergrenze von {v}."),
        "floor": ("Der Preis beträgt {span} mindestens {v}.", "Unter {v} kann der Preis {span} nicht fallen.",
                  "Es gilt {span} eine Untergrenze von {v}."),
        "zero": ("Der Markt ist {span} geschlossen, der Preis ist null.",
                 "Wegen Wartung fällt der Preis {span} auf null.",
                 "Es gibt {span} keinen Handel und keinen Preis."),
    },
    hours=("am {day} von {a} bis {b} Uhr", "am {day} zwischen {a} und {b} Uhr"),
    lasting=("ab dem {a} für {n}", "für die Dauer von {n} ab dem {a}"),
    between=("vom {a} bis zum {b}", "zwischen dem {a} und dem {b}"),
    always="durchgehend",
    quiet=("Der Markt wurde {year} eröffnet.", "Die Daten stammen aus {n} Quellen.",
           "Eine Erhöhung um {p} war im Gespräch, kommt aber nicht."),
)
FRENCH = Tongue(
    weekdays=("lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi", "dimanche"),
    months=("janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre", "octobre",
            "novembre", "décembre"),
    numbers=("deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf", "dix", "onze", "douze"),
    units=("jours", "heures", "minutes"),
    percent=(" %", "%", " pour cent"),
    date="{day} {month} {year}",
    moment="{date} à {clock}",
    effects={
        "multiply": ("Le prix sera multiplié par {v} {span}.", "On attend {span} un prix {v} fois plus élevé.",
                     "En raison d'une grève, le prix sera {v} fois le prix habituel {span}."),
        "raise": ("Le prix augmentera de {p} {span}.", "À cause d'un salon, le prix sera {span} supérieur de {p}.",
                  "On prévoit {span} une hausse de {p}."),
        "lower": ("Le prix baissera de {p} {span}.", "À cause d'un jour férié, le prix sera {span} inférieur de {p}.",
                  "On prévoit {span} une baisse de {p}."),
        "set": ("Le prix est fixé à {v} {span}.", "Selon l'opérateur, le prix sera exactement de {v} {span}.",
                "Un prix fixe de {v} s'applique {span}."),
        "cap": ("Le prix est plafonné à {v} {span}.", "Le prix ne dépassera pas {v} {span}.",
                "Un maximum de {v} s'applique {span}."),
        "floor": ("Le prix sera d'au moins {v} {span}.", "Le prix ne descendra pas sous {v} {span}.",
                  "Un minimum de {v} s'applique {span}."),
        "zero": ("Le marché est fermé {span} et le prix est nul.",
                 "Pour cause d'entretien, le prix tombe à zéro {span}.",
                 "Il n'y aura aucun échange et aucun prix {span}."),
    },
    hours=("le {day} de {a} à {b}", "le {day} entre {a} et {b}"),
    lasting=("à partir du {a} pendant {n}", "pendant {n} à compter du {a}"),
    between=("du {a} au {b}", "entre le {a} et le {b}"),
    always="en permanence",
    quiet=("Le marché a ouvert en {year}.", "Les données viennent de {n} sources.",
           "Une hausse de {p} était envisagée, mais elle n'aura pas lieu."),
)
SPANISH = Tongue(
    weekdays=("lunes", "martes", "miércoles", "jueves", "viernes", "sábado", "domingo"),
    months=("enero", "febrero", "marzo", "abril", "mayo", "junio", "julio", "agosto", "septiembre", "octubre",
            "noviembre", "diciembre"),
    numbers=("dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve", "diez", "once", "doce"),
    units=("días", "horas", "minutos"),
    percent=(" %", "%", " por ciento"),
    date="{day} de {month} de {year}",
    moment="{date} a las {clock}",
    effects={
        "multiply": ("El precio se multiplicará por {v} {span}.", "Se espera {span} un precio {v} veces mayor.",
                     "Por una huelga, el precio será {v} veces el habitual {span}."),
        "raise": ("El precio subirá un {p} {span}.", "Por una feria, el precio será {span} un {p} más alto.",
                  "Se prevé {span} un aumento del {p}."),
        "lower": ("El precio bajará un {p} {span}.", "Por un festivo, el precio será {span} un {p} más bajo.",
                  "Se prevé {span} una caída del {p}."),
        "set": ("El precio queda fijado en {v} {span}.", "Según el operador, el precio será exactamente {v} {span}.",
                "Se aplica {span} un precio fijo de {v}."),
        "cap": ("El precio no superará {v} {span}.", "El precio será como máximo {v} {span}.",
                "Se aplica {span} un límite máximo de {v}."),
        "floor": ("El precio será al menos {v} {span}.", "El precio no bajará de {v} {span}.",
                  "Se aplica {span} un límite mínimo de {v}."),
        "zero": ("El mercado está cerrado {span} y el precio es cero.",
                 "Por mantenimiento, el precio cae a cero {span}.",
                 "No habrá operaciones ni precio {span}."),
    },
    hours=("el {day} de {a} a {b}", "el {day} entre las {a} y las {b}"),
    lasting=("a partir del {a} durante {n}", "durante {n} desde el {a}"),
    between=("del {a} al {b}", "entre el {a} y el {b}"),
    always="en todo momento",
    quiet=("El mercado abrió en {year}.", "Los datos proceden de {n} fuentes.",
           "Se habló de una subida del {p}, pero no se producirá."),
)
# fmt: on
TONGUES = {"de": GERMAN, "fr": FRENCH, "es": SPANISH}

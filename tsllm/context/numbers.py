"""Numbers that are written in another way than English does, of which a reader would take a part for the whole."""

import re

from tsllm.context.lexer import WORDS, Mention

_WORD = "|".join(sorted(map(re.escape, WORDS), key=len, reverse=True))
_REST = re.compile(
    r"(?:[.,'’]\d+)+|[ \u00a0\u202f]\d{3}(?![\d:.-])|"
    r"[ -]?(?:hundred|thousand|million|billion|trillion|dozen|lakh|crore|mio|mln|bn|k)\b|"
    rf" and (?:a half|a quarter|a third|three quarters|half|(?:{_WORD})\b(?= times))|[½¼¾]| ?/ ?\d+| \d+/\d+",
    re.IGNORECASE,
)
_HEAD = re.compile(
    rf"(?:\d(?:[.,'’]|[\u00a0\u202f]| ?/ ?)|(?:\d|\b(?:{_WORD})) and (?:a )?|"
    r"(?:hundred|thousand|million|billion)(?: and)? )$",
    re.IGNORECASE,
)
_MORE = re.compile(rf" (?:and )?(?:{_WORD}|\d+)\b", re.IGNORECASE)  # "one hundred and fifty"
_DECIMAL_COMMA = re.compile(r"[-−]?\d+,\d{1,2}")
_DOTTED = re.compile(r"[-−]?[1-9]\d{0,2}\.\d\d0(?: ?%| ?per ?cent)?")


def find_cut(text: str, mention: Mention) -> str:
    """Says that a number, percentage or factor may be another than the one that stands there; empty if it is that.

    A comma parts thousands ("1,200") and a point decimals ("62.5"); "62,5", "1.200", "1 200", "1.5 million" and "one
    and a half" are none of these.

    Example:
        >>> find_cut("Capped at 62,5.", Mention("number", 10, 12, "62", 62.0))
        "'62,5' may be a decimal comma; write 62.5"
        >>> find_cut("Capped at 1,200.", Mention("number", 10, 15, "1,200", 1200.0))
        ''
    """
    rest, head = _REST.match(text, mention.end), _HEAD.search(text[: mention.start])
    joined = head is not None and head[0].rstrip().lower().endswith(("and", "and a"))
    if joined and mention.kind == "factor" and mention.text.lower() not in {"half", "a third", "a quarter"}:
        head = None  # "the third and double"
    if joined and mention.kind != "factor" and not (head and re.match("[a-z]+d ", head[0], re.IGNORECASE)):
        head = None  # "between 10 and 20"
    if rest is None and re.search(r"(?:hundred|thousand)$", mention.text, re.IGNORECASE):
        rest = _MORE.match(text, mention.end)
    if rest is not None or head is not None:
        written = text[head.start() if head else mention.start : rest.end() if rest else mention.end]
        if _DECIMAL_COMMA.fullmatch(written):
            return f"{written!r} may be a decimal comma; write {written.replace(',', '.')}"
        return f"{written!r} is no number that is read; write it in digits, as 1200 or 62.5"
    if _DOTTED.fullmatch(mention.text):
        whole = re.sub(r"[^\d.−-]", "", mention.text)
        plain = f"{float(whole.replace('−', '-')):g}"
        return f"{whole!r} may be {whole.replace('.', '')} or {plain}; write one of them"
    return ""

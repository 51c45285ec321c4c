"""Texts that a database takes for the current time, such as ``today 10:00``.

PostgreSQL does so wherever a text becomes a time, in arrays and ranges as well; SQLite in the
arguments of its date functions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum

from django.utils.functional import Promise

from cachalot.core.sql.text import literals_of

_WORDS = r"(?:now|today|tomorrow|yesterday|subsec|subsecond)\b"
_WORD = re.compile(rf"(?<![^\W\d_])(?:{_WORDS})", re.IGNORECASE)
# What may stand beside such a word: times, dates and offsets, with a zone or half of the day behind
# them; names and abbreviations of zones.
_PART = re.compile(
    rf"\s*(?:(?P<word>{_WORDS})|[\d:.+-]+(?:\s*(?!{_WORDS})[a-z]+\b)?"
    r"|(?:utc|gmt|zulu|z|allballs|[a-z]{2,4}t)\b|[a-z_]+/[a-z_]+)",
    re.IGNORECASE,
)
_NO_TEXTS = frozenset({int, bool, float, type(None), bytes})
_BRACKETS = ("[", "(", "{")
_PUNCTUATION = str.maketrans("", "", '"\\')


def means_now(param: object) -> bool:
    """Whether a database may take a parameter, or something in it, for the current time."""
    if type(param) in _NO_TEXTS:
        return False
    if isinstance(param, Enum):
        # psycopg sends the name.
        return _is_clock_text(param.name or "") or means_now(param.value)
    if isinstance(param, Promise):
        return _is_clock_text(str(param))
    if isinstance(param, str):
        return _is_clock_text(param)
    if isinstance(param, (bytearray, memoryview)):
        return False
    if isinstance(param, (Sequence, set, frozenset)):
        return any(map(means_now, param))
    # Both psycopgs' ranges.
    return hasattr(param, "lower_inc") and any(
        means_now(getattr(param, bound, None)) for bound in ("lower", "upper")
    )


def has_clock_literal(sql: str, vendor: str) -> bool:
    """Whether one of the literals in ``sql`` may be taken for the current time."""
    if _WORD.search(sql) is None:
        return False
    return any(_is_clock_text(_content_of(literal)) for literal in literals_of(sql, vendor))


def _content_of(literal: str) -> str:
    if literal.startswith("$"):
        length = literal.index("$", 1) + 1
        return literal[length:-length]
    return literal[literal.index("'") + 1 :].removesuffix("'")


def _is_clock_text(text: str) -> bool:
    if _WORD.search(text.translate(_PUNCTUATION)) is None:
        return False
    if text.lstrip().startswith(_BRACKETS):
        return True  # an array, a range or a row
    text = text.strip()
    position, has_word = 0, False
    while position < len(text):
        part = _PART.match(text, position)
        if part is None:
            return False
        has_word |= part["word"] is not None
        position = part.end()
    return has_word

"""The words of an SQL text: what in it is code, and the tables it names.

The scanner knows no grammar. It may see a table too many, never one too few: names are looked for
in the whole text, string literals and comments included.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Set

from cachalot.core.sql.lexers import (
    BACKTICKED,
    BRACKETED,
    DOUBLE_QUOTED,
    MYSQL_QUOTED_WITH_ESCAPES,
    lexers_of,
)
from cachalot.core.sql.names import canonical, shortened

# To the databases every character beyond ASCII may stand in an identifier; to \w not all of them.
_WORD_CHARACTERS = r"\w$\x80-\U0010ffff"
WORD = re.compile(rf"[{_WORD_CHARACTERS}]+")

# One identifier, quoted in any database's manner or bare. A bracket that opens in brackets ends the
# search for the other one, which would begin anew for each.
_IDENTIFIER = rf'(?:"(?:[^"]|"")+"|`(?:[^`]|``)+`|\[[^\[\]]+\]|[{_WORD_CHARACTERS}]+)'
_NAME_KEYWORDS = frozenset(
    {
        *("FROM", "JOIN", "INTO", "UPDATE", "INSERT", "REPLACE", "DELETE"),
        *("TABLE", "TRUNCATE", "COPY", "VIEW", "TO"),
    }
)
_NAME_KEYWORD = re.compile(rf"\b(?:{'|'.join(sorted(_NAME_KEYWORDS))})\b", re.IGNORECASE)
# What may stand between those and the first name, and between a comma and the next one.
_BEFORE_NAMES = frozenset(
    """
    FROM INTO ONLY TABLE LATERAL IF NOT EXISTS IGNORE LOW_PRIORITY HIGH_PRIORITY DELAYED QUICK
    CONCURRENTLY OR ROLLBACK ABORT REPLACE FAIL
    """.split()
)
_BEFORE_NAME = frozenset({"ONLY", "LATERAL"})
_LIST_TOKEN = re.compile(rf"\s*(?:(?P<word>{_IDENTIFIER})|(?P<mark>[.,(*])|\S)")
# What stands after those keywords and is no table.
_NO_NAMES = frozenset(
    """
    select values set stdin stdout program with cascade restrict of skip nowait where from into
    default null
    """.split()
)
_LINE_COMMENTS = re.compile(r"--[^\n]*")
_COMMENTS = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_SELECT = re.compile(r"\bSELECT\b|\bTABLE\b", re.IGNORECASE)
_IN_TABLE = re.compile(r"\bIN\b(?!\s*\()", re.IGNORECASE)
#: An identifier that is spelt in escapes.
UNICODE_IDENTIFIER = re.compile(r'\bu&"', re.IGNORECASE)


def code_of(sql: str, vendor: str) -> str:
    """Return ``sql`` with ``''`` in place of each string literal and without comments."""
    return lexers_of(sql, vendor)[0].replace(sql, gap=" ", literal="''")


def codes_of(sql: str, vendor: str, *, without_rows: bool = False) -> list[str]:
    """Return what ``code_of()`` does, for every setting of the server that may matter.

    ``without_rows`` also puts ``()`` in place of lists of literals and numbers in parentheses.
    """
    rows = "()" if without_rows else None
    codes = [lexer.replace(sql, " ", "''", rows) for lexer in lexers_of(sql, vendor)]
    return list(dict.fromkeys(codes))


def without_comments(sql: str, vendor: str) -> str:
    """Return ``sql`` with a space in place of each comment."""
    return lexers_of(sql, vendor)[0].replace(sql, gap=" ")


def literals_of(sql: str, vendor: str) -> list[str]:
    """Return the string literals of ``sql`` as they are spelt, with what quotes them."""
    return [
        sql[begin:end]
        for lexer in lexers_of(sql, vendor)
        for kind, begin, end in lexer.find(sql)
        if kind == "literal"
    ]


_QUOTED = {
    "postgresql": re.compile(DOUBLE_QUOTED),
    "mysql": re.compile(MYSQL_QUOTED_WITH_ESCAPES, re.DOTALL),
}
_ANY_QUOTED = re.compile(rf"{DOUBLE_QUOTED}|{BACKTICKED}|{BRACKETED}")


def without_quoted(code: str, vendor: str) -> str:
    """Return ``code``, as ``code_of()`` returns it, without quoted identifiers."""
    return _QUOTED.get(vendor, _ANY_QUOTED).sub(" ", code)


def split(code: str, vendor: str) -> list[str]:
    """Return the statements in ``code``, as ``code_of()`` returns it."""
    # Semicolons in quoted identifiers end no statement.
    blank = _QUOTED.get(vendor, _ANY_QUOTED).sub(lambda name: "x" * len(name[0]), code)
    parts, start = [], 0
    for end in [*(found.start() for found in re.finditer(";", blank)), len(code)]:
        parts.append(code[start:end].strip())
        start = end + 1
    return [part for part in parts if part.strip("() \t\r\n")]


def names_after_keywords(sql: str) -> frozenset[str]:
    """Return the canonical names after FROM, JOIN, INTO, UPDATE, TABLE and their like."""
    # A comment may stand between the keyword and the name, or hold a statement.
    names: set[str] = set()
    for text in {sql, _without_any_comments(sql)}:
        position = 0
        while (keyword := _NAME_KEYWORD.search(text, position)) is not None:
            position = _read_names(text, keyword.end(), names)
    return frozenset(map(canonical, names)) - _NO_NAMES


def _without_any_comments(sql: str) -> str:
    # Behind the last end of a comment none is searched for.
    end = sql.rfind("*/") + 2 if "*/" in sql else 0
    return _COMMENTS.sub(" ", sql[:end]) + _LINE_COMMENTS.sub(" ", sql[end:])


def _read_names(text: str, position: int, names: set[str]) -> int:
    """Add the names listed from ``position`` on, which follows a keyword; return the list's end.

    Names may stand after parentheses, as ``ONLY t``, ``t*`` or ``t.*``, and with an alias. What
    is taken for an alias may be the next keyword, whose names are read as well.
    """
    skipped = _BEFORE_NAMES
    is_name_next, is_after_word, is_part_next, aliases = True, False, False, 0
    # What may be a name, if no part of it and no other one follows.
    name: str | None = None
    while (token := _LIST_TOKEN.match(text, position)) is not None:
        word, mark = token["word"], token["mark"]
        keyword = "" if word is None else word.upper()
        if is_part_next and word is not None:
            name, is_name_next = word, False
        elif mark == "." and is_after_word:
            pass
        elif is_name_next and keyword in skipped:
            name = word
        else:
            if name is not None and not (is_name_next and word is not None):
                names.add(name)
            name = None
            if mark == ",":
                skipped, is_name_next, aliases = _BEFORE_NAME, True, 0
            elif word is None:
                if mark != ("(" if is_name_next else "*"):
                    break
            elif keyword in _NAME_KEYWORDS:
                if is_name_next:
                    names.add(word)
                skipped, is_name_next, aliases = _BEFORE_NAMES, True, 0
            elif is_name_next:
                name, is_name_next = word, False
            elif keyword != "AS":
                aliases += 1
                if aliases > 1:
                    break
        is_part_next = mark == "." and is_after_word
        is_after_word = word is not None
        position = token.end()
    if name is not None:
        names.add(name)
    return position


def words_of(sql: str) -> frozenset[str]:
    """Return every word of ``sql`` in lower case, as short as the name of a table is."""
    return frozenset(map(shortened, WORD.findall(sql.lower())))


def odd_names_among(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names that are no single word, so that no scan for words finds them."""
    return tuple(name for name in names if not WORD.fullmatch(name))


def named_in(sql: str, names: Set[str], odd_names: Iterable[str]) -> frozenset[str]:
    """Return which of the canonical ``names`` a text names; those ``odd_names`` are among them."""
    text = sql.lower()
    return words_of(text) & names | {name for name in odd_names if name in text}


def names_table_after_in(sql: str) -> bool:
    """Whether ``IN`` is followed by something else than a list, as a table's name on SQLite."""
    return _IN_TABLE.search(sql) is not None


def count_selects(sql: str) -> int:
    """Return how often the text could start a query: the words SELECT and TABLE in it."""
    return len(_SELECT.findall(sql))

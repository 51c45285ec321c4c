"""The words of an SQL text: what in it is code, and the tables it names.

The scanner knows no grammar. It may see a table too many, never one too few: names are looked for
in the whole text, string literals and comments included.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Set

from cachalot.core.sql.names import canonical

# To the databases every character beyond ASCII may stand in an identifier; to \w not all of them.
_WORD_CHARACTERS = r"\w$\x80-\U0010ffff"
WORD = re.compile(rf"[{_WORD_CHARACTERS}]+")

# One identifier, quoted in any database's manner or bare, and a name of up to three of them.
_IDENTIFIER = rf'(?:"(?:[^"]|"")+"|`(?:[^`]|``)+`|\[[^\]]+\]|[{_WORD_CHARACTERS}]+)'
_NAME = rf"{_IDENTIFIER}(?:\s*\.\s*{_IDENTIFIER}){{0,2}}"
# A name in a list of them: after parentheses, with an alias, as ONLY t or t* or t.* too.
_LISTED = (
    rf"[(\s]*(?:(?:ONLY|LATERAL)\b[(\s]*)?({_NAME})(?:\s*\.?\s*\*)?\s*"
    rf"(?:(?:AS\b\s*)?{_IDENTIFIER})?"
)
# The list is only looked at, so that a keyword taken for an alias is still found as a keyword.
_NAMES_AFTER_KEYWORD = re.compile(
    r"\b(?:FROM|JOIN|INTO|UPDATE|INSERT|REPLACE|DELETE|TABLE|TRUNCATE|COPY|VIEW|TO)\b\s*"
    r"(?:(?:FROM|INTO|ONLY|TABLE|LATERAL|IF|NOT|EXISTS|IGNORE|LOW_PRIORITY|HIGH_PRIORITY|DELAYED"
    r"|QUICK|CONCURRENTLY|OR|ROLLBACK|ABORT|REPLACE|FAIL)\b\s*)*"
    rf"(?=({_LISTED}(?:\s*,\s*{_LISTED})*))",
    re.IGNORECASE,
)
_LISTED_NAME = re.compile(rf"(?:^|,)\s*{_LISTED}", re.IGNORECASE)
# What stands after those keywords and is no table.
_NO_NAMES = frozenset(
    """
    select values set stdin stdout program with cascade restrict of skip nowait where from into
    default null
    """.split()
)
_COMMENTS = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_SELECT = re.compile(r"\bSELECT\b|\bTABLE\b", re.IGNORECASE)


def _lexer(gap: str, literal: str, quoted: str) -> re.Pattern[str]:
    return re.compile(rf"(?P<gap>{gap})|(?P<literal>{literal})|(?P<quoted>{quoted})", re.DOTALL)


_PLAIN_LITERAL = r"'(?:[^']|'')*'"
_ESCAPED_LITERAL = r"'(?:[^'\\]|\\.|'')*'"
_DOUBLE_QUOTED = r'"(?:[^"]|"")*"'
_BACKTICKED = r"`(?:[^`]|``)*`"
_BLOCK_COMMENT = r"/\*.*?\*/"

# PostgreSQL's comments nest; they end at a carriage return as well.
_NESTED_COMMENT = _BLOCK_COMMENT
for _ in range(3):
    _NESTED_COMMENT = rf"/\*(?:[^*/]|\*(?!/)|/(?!\*)|{_NESTED_COMMENT})*\*/"
_POSTGRESQL_GAP = rf"--[^\r\n]*|{_NESTED_COMMENT}"
_DOLLAR_LITERAL = r"(?<![\w$])\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$"
# MySQL's -- needs a space behind it. /*! … */ and /*M! … */ are code to MySQL and MariaDB, from
# the version on that they name.
_MYSQL_GAP = r"--(?=[\x00-\x20]|$)[^\n]*|\#[^\n]*"
_EXECUTABLE = r"/\*(?!M?!).*?\*/|/\*M?!\d*|\*/"
_MYSQL_QUOTED = rf"{_BACKTICKED}|{_DOUBLE_QUOTED}"
# A string, unless sql_mode has ANSI_QUOTES.
_MYSQL_QUOTED_WITH_ESCAPES = rf'{_BACKTICKED}|"(?:[^"\\]|\\.|"")*"'

_SQLITE = _lexer(
    rf"--[^\n]*|{_BLOCK_COMMENT}",
    _PLAIN_LITERAL,
    rf"{_DOUBLE_QUOTED}|{_BACKTICKED}|\[[^\]]*\]",
)
_POSTGRESQL = _lexer(
    _POSTGRESQL_GAP,
    rf"(?<![\w$])[eE]{_ESCAPED_LITERAL}|{_PLAIN_LITERAL}|{_DOLLAR_LITERAL}",
    _DOUBLE_QUOTED,
)
# standard_conforming_strings is off.
_POSTGRESQL_ESCAPES = _lexer(
    _POSTGRESQL_GAP, rf"{_ESCAPED_LITERAL}|{_DOLLAR_LITERAL}", _DOUBLE_QUOTED
)
_MYSQL = _lexer(
    rf"{_MYSQL_GAP}|{_EXECUTABLE}",
    _ESCAPED_LITERAL,
    _MYSQL_QUOTED_WITH_ESCAPES,
)
# sql_mode has NO_BACKSLASH_ESCAPES.
_MYSQL_PLAIN = _lexer(rf"{_MYSQL_GAP}|{_EXECUTABLE}", _PLAIN_LITERAL, _MYSQL_QUOTED)
# The server is older than the version that a comment names.
_MYSQL_OLD = _lexer(rf"{_MYSQL_GAP}|{_BLOCK_COMMENT}", _ESCAPED_LITERAL, _MYSQL_QUOTED_WITH_ESCAPES)
_MYSQL_OLD_PLAIN = _lexer(rf"{_MYSQL_GAP}|{_BLOCK_COMMENT}", _PLAIN_LITERAL, _MYSQL_QUOTED)


def _lexers(sql: str, vendor: str) -> list[re.Pattern[str]]:
    """Return the ways in which a server may read ``sql``, the usual one first."""
    escapes = "\\" in sql
    if vendor == "postgresql":
        return [_POSTGRESQL, _POSTGRESQL_ESCAPES] if escapes else [_POSTGRESQL]
    if vendor != "mysql":
        return [_SQLITE]
    lexers = [_MYSQL, _MYSQL_PLAIN] if escapes else [_MYSQL]
    if "/*!" in sql or "/*M!" in sql:
        lexers += [_MYSQL_OLD, _MYSQL_OLD_PLAIN] if escapes else [_MYSQL_OLD]
    return lexers


def _code(token: re.Match[str]) -> str:
    if token["gap"] is not None:
        return " "
    return token[0] if token["quoted"] is not None else "''"


def code_of(sql: str, vendor: str) -> str:
    """Return ``sql`` with ``''`` in place of each string literal and without comments."""
    return _lexers(sql, vendor)[0].sub(_code, sql)


def codes_of(sql: str, vendor: str) -> list[str]:
    """Return what ``code_of()`` does, for every setting of the server that may matter."""
    return list(dict.fromkeys(lexer.sub(_code, sql) for lexer in _lexers(sql, vendor)))


def without_comments(sql: str, vendor: str) -> str:
    """Return ``sql`` with a space in place of each comment."""
    lexer = _lexers(sql, vendor)[0]
    return lexer.sub(lambda token: token[0] if token["gap"] is None else " ", sql)


_QUOTED = {
    "postgresql": re.compile(_DOUBLE_QUOTED),
    "mysql": re.compile(_MYSQL_QUOTED_WITH_ESCAPES, re.DOTALL),
}
_ANY_QUOTED = re.compile(rf"{_DOUBLE_QUOTED}|{_BACKTICKED}|\[[^\]]*\]")


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
    texts = {sql, _COMMENTS.sub(" ", sql)}
    return (
        frozenset(
            canonical(name)
            for text in texts
            for names in _NAMES_AFTER_KEYWORD.finditer(text)
            for name in _LISTED_NAME.findall(names[1])
        )
        - _NO_NAMES
    )


def words_of(sql: str) -> frozenset[str]:
    """Return every word of ``sql`` in lower case."""
    return frozenset(WORD.findall(sql.lower()))


def odd_names_among(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names that are no single word, so that no scan for words finds them."""
    return tuple(name for name in names if not WORD.fullmatch(name))


def named_in(sql: str, names: Set[str], odd_names: Iterable[str]) -> frozenset[str]:
    """Return which of the canonical ``names`` a text names; those ``odd_names`` are among them."""
    text = sql.lower()
    words = frozenset(WORD.findall(text))
    return words & names | {name for name in odd_names if name in text}


def count_selects(sql: str) -> int:
    """Return how often the text could start a query: the words SELECT and TABLE in it."""
    return len(_SELECT.findall(sql))

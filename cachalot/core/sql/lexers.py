"""What in an SQL text is a comment, a literal or a quoted identifier, to each kind of server."""

from __future__ import annotations

import re
from collections.abc import Iterator

# Each ends where the text does, if nothing else ends it: to look for the other end in vain from
# every place where one might begin takes the square of the text's length.
_PLAIN_LITERAL = r"'[^']*(?:''[^']*)*(?:'|\Z)"
_ESCAPED_LITERAL = r"'[^'\\]*(?:(?:\\(?:.|\Z)|'')[^'\\]*)*(?:'|\Z)"
DOUBLE_QUOTED = r'"[^"]*(?:""[^"]*)*(?:"|\Z)'
_ESCAPED_DOUBLE_QUOTED = r'"[^"\\]*(?:(?:\\(?:.|\Z)|"")[^"\\]*)*(?:"|\Z)'
BACKTICKED = r"`[^`]*(?:``[^`]*)*(?:`|\Z)"
BRACKETED = r"\[[^\]]*(?:\]|\Z)"
_BLOCK_COMMENT = r"/\*.*?(?:\*/|\Z)"
_DOLLAR_LITERAL = r"(?<![\w$])\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z)"
# MySQL's -- needs a space behind it. /*! … */ and /*M! … */ are code to MySQL and MariaDB, from
# the version on that they name.
_MYSQL_GAP = r"--(?=[\x00-\x20]|$)[^\n]*|\#[^\n]*"
_EXECUTABLE = r"/\*(?!M?!).*?(?:\*/|\Z)|/\*M?!\d*|\*/"
_MYSQL_QUOTED = rf"{BACKTICKED}|{DOUBLE_QUOTED}"
# A string, unless sql_mode has ANSI_QUOTES.
MYSQL_QUOTED_WITH_ESCAPES = rf"{BACKTICKED}|{_ESCAPED_DOUBLE_QUOTED}"


class Lexer:
    """One way to tell comments, literals and quoted identifiers from the rest of a text."""

    def __init__(self, gap: str, literal: str, quoted: str, *, nests: bool = False) -> None:
        #: Whether comments stand in comments. Those are counted; no expression can.
        self.nests = nests
        if nests:
            gap += r"|(?P<opening>/\*)"
        tokens = rf"(?P<gap>{gap})|(?P<literal>{literal})|(?P<quoted>{quoted})"
        self.tokens = re.compile(tokens, re.DOTALL)
        # Parentheses with nothing in them but literals and numbers, and lists of such.
        plain = r"'[^'\\]*(?:\\.[^'\\]*)*'" if r"\\" in literal and not nests else r"'[^']*'"
        row = (
            rf"\([\s\d.,]*(?:(?:{plain}|-(?=[\d.])|(?i:NULL|TRUE|FALSE|DEFAULT)\b|%s)[\s\d.,]*)*\)"
        )
        self.tokens_and_rows = re.compile(rf"(?P<rows>{row}(?:\s*,\s*{row})*)|{tokens}", re.DOTALL)

    def replace(
        self,
        sql: str,
        gap: str | None = None,
        literal: str | None = None,
        rows: str | None = None,
    ) -> str:
        """Return ``sql`` with these in place of comments, literals and lists of them."""
        pieces: list[str] = []
        start = 0
        for kind, begin, end in self.find(sql, rows=rows is not None):
            substitute = {"gap": gap, "literal": literal, "rows": rows}.get(kind)
            if substitute is not None:
                pieces += sql[start:begin], substitute
                start = end
        pieces.append(sql[start:])
        return "".join(pieces)

    def find(self, sql: str, *, rows: bool = False) -> Iterator[tuple[str, int, int]]:
        """Yield what is no plain code: "gap", "literal", "quoted" or "rows", begin and end."""
        search = (self.tokens_and_rows if rows else self.tokens).search
        position = 0
        while (token := search(sql, position)) is not None:
            begin, position = token.span()
            if self.nests and token["opening"] is not None:
                position = _end_of_nested_comment(sql, position)
            yield token.lastgroup or "", begin, position


_COMMENT_MARK = re.compile(r"/\*|\*/")


def _end_of_nested_comment(sql: str, position: int) -> int:
    depth = 1
    for mark in _COMMENT_MARK.finditer(sql, position):
        depth += 1 if mark[0] == "/*" else -1
        if not depth:
            return mark.end()
    return len(sql)


_SQLITE = Lexer(
    rf"--[^\n]*|{_BLOCK_COMMENT}", _PLAIN_LITERAL, rf"{DOUBLE_QUOTED}|{BACKTICKED}|{BRACKETED}"
)
# PostgreSQL's comments nest; they end at a carriage return as well.
_POSTGRESQL = Lexer(
    r"--[^\r\n]*",
    rf"(?<![\w$])[eE]{_ESCAPED_LITERAL}|{_PLAIN_LITERAL}|{_DOLLAR_LITERAL}",
    DOUBLE_QUOTED,
    nests=True,
)
# standard_conforming_strings is off.
_POSTGRESQL_ESCAPES = Lexer(
    r"--[^\r\n]*", rf"{_ESCAPED_LITERAL}|{_DOLLAR_LITERAL}", DOUBLE_QUOTED, nests=True
)
_MYSQL = Lexer(rf"{_MYSQL_GAP}|{_EXECUTABLE}", _ESCAPED_LITERAL, MYSQL_QUOTED_WITH_ESCAPES)
# sql_mode has NO_BACKSLASH_ESCAPES.
_MYSQL_PLAIN = Lexer(rf"{_MYSQL_GAP}|{_EXECUTABLE}", _PLAIN_LITERAL, _MYSQL_QUOTED)
# The server is older than the version that a comment names.
_MYSQL_OLD = Lexer(rf"{_MYSQL_GAP}|{_BLOCK_COMMENT}", _ESCAPED_LITERAL, MYSQL_QUOTED_WITH_ESCAPES)
_MYSQL_OLD_PLAIN = Lexer(rf"{_MYSQL_GAP}|{_BLOCK_COMMENT}", _PLAIN_LITERAL, _MYSQL_QUOTED)


def lexers_of(sql: str, vendor: str) -> list[Lexer]:
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

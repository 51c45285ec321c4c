"""What a raw statement can do: its kind, and the tables it names."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cachalot.core.sql.kinds import (
    HIDDEN_CODE,
    OTHER_OBJECTS,
    SCHEMA_WORDS,
    Kind,
    keywords_of,
    kind_of,
    object_of,
    strongest,
)
from cachalot.core.sql.remembered import remembering
from cachalot.core.sql.setters import possible_setters, sets
from cachalot.core.sql.text import (
    UNICODE_IDENTIFIER,
    codes_of,
    names_after_keywords,
    split,
    words_of,
)

# Words that are no keywords of these kinds and yet begin statements without hidden code.
_HARMLESS = frozenset({"GRANT", "REVOKE", "HANDLER", "XA", "PREPARE", "COMMIT", "ROLLBACK", "SET"})
# Statements with semicolons of their own.
_DEFINITION = re.compile(r"\s*(?:CREATE|ALTER)\b", re.IGNORECASE)
_ROUTINES = frozenset({"TRIGGER", "PROCEDURE", "FUNCTION", "EVENT", "PACKAGE", "RULE"})
# What ends MySQL's open transaction without being asked to (MariaDB: "SQL statements that cause
# an implicit commit"), and what may contain such a statement.
_IMPLICIT_COMMITS = HIDDEN_CODE | frozenset(
    """
    ALTER ANALYZE BEGIN CACHE CHANGE CHECK CREATE DROP FLUSH GRANT INSTALL LOCK OPTIMIZE RENAME
    REPAIR RESET REVOKE START STOP TRUNCATE UNINSTALL UNLOCK
    """.split()
)
# Longer texts hold the rows that they write, and do not come again.
_MAX_REMEMBERED = 10_000
_TEMPORARY = frozenset({"TEMP", "TEMPORARY", "PG_TEMP"})


@dataclass(frozen=True, slots=True)
class Statement:
    """A classified statement.

    ``tables`` are the canonical names that stand where a table's name stands, ``words`` all words
    of the text and ``text`` itself in lower case, to look for other known names in. They are empty
    for what writes no table. ``parts`` are the statements in it without comments and literals.
    """

    kind: Kind
    parts: tuple[str, ...]
    tables: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset()
    text: str = ""
    #: Reaches tables that the text does not name: those that foreign keys lead to, or all that
    #: belong to the schema, role or function it is about.
    cascades: bool = False
    #: Changes the schema, and what belongs to the tables that it names at most.
    concerns_tables_alone: bool = False
    #: May remove rows.
    deletes: bool = False
    #: Ends MySQL's open transaction.
    commits_implicitly: bool = False
    #: Begins or ends a transaction somewhere between other statements.
    hides_transaction: bool = False
    #: May change the session, though it is not of the kind SESSION.
    changes_session: bool = False
    #: Functions that it calls and that may be defined in the database to change the session.
    possible_setters: frozenset[str] = frozenset()
    #: Makes a table that hides another one of its name, in this session alone.
    makes_temporary: bool = False


class _Reading:
    """One way to read the text. Servers differ in what is a literal, and so code."""

    def __init__(self, code: str, vendor: str) -> None:
        if _DEFINITION.match(code) and object_of(keywords_of(code, vendor)) in _ROUTINES:
            self.parts = [code.strip()]
        else:
            self.parts = split(code, vendor)
        self.keywords = [keywords_of(part, vendor) for part in self.parts]
        self.kinds = [kind_of(words) for words in self.keywords]
        if len(self.kinds) > 1 and Kind.TRANSACTION in self.kinds:
            self.kind = Kind.ANYTHING
        elif len(self.kinds) == 1:
            self.kind = self.kinds[0]
        else:
            self.kind = strongest(self.kinds)


def classify(sql: str, vendor: str) -> Statement:
    """Tell what ``sql`` (one statement or several) may change on a database of ``vendor``."""
    return _remembered(sql, vendor)


def _classify(sql: str, vendor: str) -> Statement:
    is_long = len(sql) > _MAX_REMEMBERED
    codes = codes_of(sql, vendor, without_rows=is_long)
    readings = [_Reading(code, vendor) for code in codes]
    usual = readings[0]
    statements = [words for reading in readings for words in reading.keywords]
    present = {word for words in statements for word in words}
    kinds = {reading.kind for reading in readings}
    if len(kinds) == 1:
        kind = usual.kind
    else:
        kind = Kind.ANYTHING if Kind.TRANSACTION in kinds else strongest(kinds)
    is_write = kind in {Kind.WRITE, Kind.SCHEMA, Kind.ANYTHING}
    if is_write and vendor == "postgresql" and UNICODE_IDENTIFIER.search(sql):
        kind = Kind.ANYTHING
    # What a long text holds beside code is rows. Where code may be made of a literal, as that of a
    # function is, every word counts.
    text = "\n".join(codes) if is_long and kind is Kind.WRITE else sql
    return Statement(
        kind,
        tuple(usual.parts),
        tables=names_after_keywords(text) if is_write else frozenset(),
        words=words_of(text) if is_write else frozenset(),
        text=text.lower() if is_write else "",
        cascades=is_write and any(map(_cascades, statements)),
        concerns_tables_alone=kind is Kind.SCHEMA and all(map(_concerns_tables_alone, statements)),
        deletes=is_write and not present.isdisjoint({"DELETE", "REPLACE", "MERGE", "TRUNCATE"}),
        commits_implicitly=vendor == "mysql"
        and any(not _IMPLICIT_COMMITS.isdisjoint(words[:1]) for words in statements),
        hides_transaction=any(
            len(reading.kinds) > 1 and Kind.TRANSACTION in reading.kinds for reading in readings
        ),
        changes_session=any(_changes_session(reading, vendor) for reading in readings)
        or (kind is not Kind.SESSION and Kind.SESSION in {k for r in readings for k in r.kinds}),
        possible_setters=frozenset().union(
            *(_possible_setters(reading, vendor) for reading in readings)
        ),
        makes_temporary=is_write and any(map(_makes_temporary, statements)),
    )


# Beside the text its parts, its words and what it is in lower case.
_remembered = remembering(_classify, max_characters=_MAX_REMEMBERED, copies=10)


def _cascades(keywords: list[str]) -> bool:
    if not keywords:
        return False
    if keywords[0] in {"TRUNCATE", "DROP"} and "CASCADE" in keywords:
        return True
    return keywords[0] in SCHEMA_WORDS and object_of(keywords) in OTHER_OBJECTS


def _concerns_tables_alone(keywords: list[str]) -> bool:
    # Who is dropped along, or what a view or a trigger uses, the text need not say.
    return (
        keywords[:1] in (["CREATE"], ["ALTER"], ["DROP"])
        and object_of(keywords) in {"TABLE", "INDEX", "SEQUENCE"}
        and "CASCADE" not in keywords
    )


def _makes_temporary(keywords: list[str]) -> bool:
    # CREATE TEMP …, CREATE TABLE IF NOT EXISTS temp.t, SELECT … INTO TEMP t
    if keywords[:1] == ["CREATE"]:
        return not _TEMPORARY.isdisjoint(keywords[:8])
    return "INTO" in keywords and not _TEMPORARY.isdisjoint(keywords)


def _changes_session(reading: _Reading, vendor: str) -> bool:
    for part, keywords, kind in zip(reading.parts, reading.keywords, reading.kinds, strict=True):
        if kind is Kind.ANYTHING:
            if keywords[0] not in _HARMLESS:
                return True
        elif kind is Kind.TRANSACTION:
            # PostgreSQL takes back what was SET after a savepoint.
            controls_savepoint = keywords[0] in {"SAVEPOINT", "RELEASE"} or "TO" in keywords
            if controls_savepoint and vendor not in {"mysql", "sqlite"}:
                return True
        elif kind is not Kind.SESSION and sets(part, vendor):
            return True
    return False


def _possible_setters(reading: _Reading, vendor: str) -> frozenset[str]:
    return frozenset().union(
        *(
            possible_setters(part, vendor)
            for part, kind in zip(reading.parts, reading.kinds, strict=True)
            if kind is Kind.READ
        )
    )

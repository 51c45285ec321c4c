"""What a raw statement can do: its kind, and the tables it names."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum

from cachalot.core.sql.remembered import remembering
from cachalot.core.sql.settings import possible_setters, sets
from cachalot.core.sql.text import (
    UNICODE_IDENTIFIER,
    WORD,
    codes_of,
    names_after_keywords,
    split,
    without_quoted,
    words_of,
)


class Kind(Enum):
    """What a statement can do to tables, or to its connection."""

    READ = "read"
    WRITE = "write"
    SCHEMA = "schema"  # a write that also changes the catalogue
    ANYTHING = "anything"  # may write any table of the database
    TRANSACTION = "transaction"
    SESSION = "session"


#: Words that begin statements which change rows, and those that change what tables there are.
DATA_WORDS = frozenset(
    {"INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE", "TRUNCATE", "COPY", "LOAD", "REPAIR"}
)
SCHEMA_WORDS = frozenset({"ALTER", "CREATE", "DROP", "RENAME", "REFRESH", "IMPORT"})
# CALL, DO and EXECUTE run code that the text does not show.
_HIDDEN_CODE = frozenset({"CALL", "DO", "EXECUTE", "EXEC"})
_TRANSACTION = frozenset(
    {"BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE"}
)
_SESSION = frozenset({"SET", "RESET", "DISCARD", "USE", "PRAGMA", "ATTACH", "DETACH"})
# GRANT and REVOKE are none of them: row-level security may follow a role's memberships.
_READS = frozenset(
    """
    SELECT VALUES TABLE SHOW DESCRIBE DESC EXPLAIN WITH DECLARE FETCH MOVE CLOSE LISTEN UNLISTEN
    NOTIFY LOCK UNLOCK ANALYZE VACUUM CHECKPOINT PREPARE DEALLOCATE COMMENT KILL FLUSH
    OPTIMIZE CHECK HELP CLUSTER REINDEX SECURITY
    """.split()
)
# Words that are no keywords of these kinds and yet begin statements without hidden code.
_HARMLESS = frozenset({"GRANT", "REVOKE", "HANDLER", "XA", "PREPARE", "COMMIT", "ROLLBACK", "SET"})
_PREPARE = ["PREPARE", "TRANSACTION"]
# Leading words whose statement may carry any other one.
_CARRIERS = frozenset({"EXPLAIN", "DESCRIBE", "DESC", "PREPARE", "ANALYZE"})
_STRENGTH = (Kind.ANYTHING, Kind.SCHEMA, Kind.WRITE, Kind.SESSION)
# Statements with semicolons of their own.
_DEFINITION = re.compile(r"\s*(?:CREATE|ALTER)\b", re.IGNORECASE)
_ROUTINES = frozenset({"TRIGGER", "PROCEDURE", "FUNCTION", "EVENT", "PACKAGE", "RULE"})
# What else is created or altered, and concerns only tables that the text names.
_NAMED_OBJECTS = frozenset({"TABLE", "VIEW", "INDEX", "SEQUENCE", "TRIGGER", "POLICY", "EVENT"})
_OTHER_OBJECTS = frozenset(
    """
    SCHEMA DATABASE ROLE USER GROUP SYSTEM OWNED FUNCTION PROCEDURE ROUTINE AGGREGATE PACKAGE RULE
    TYPE DOMAIN EXTENSION SERVER COLLATION OPERATOR CAST TEXT FOREIGN
    """.split()
)
# What ends MySQL's open transaction without being asked to (MariaDB: "SQL statements that cause
# an implicit commit"), and what may contain such a statement.
_IMPLICIT_COMMITS = _HIDDEN_CODE | frozenset(
    """
    ALTER ANALYZE BEGIN CACHE CHANGE CHECK CREATE DROP FLUSH GRANT INSTALL LOCK OPTIMIZE RENAME
    REPAIR RESET REVOKE START STOP TRUNCATE UNINSTALL UNLOCK
    """.split()
)
# Words that write nothing where they stand: locks, foreign keys, functions of strings.
_NO_KEYWORDS = re.compile(
    r"\bFOR\s+(?:NO\s+KEY\s+)?UPDATE\b|\bDO\s+(?:NOTHING|UPDATE)\b|\bON\s+(?:DELETE|UPDATE)\b"
    r"|\b(?:REPLACE|INSERT|TRUNCATE)\s*\(",
    re.IGNORECASE,
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
        if _DEFINITION.match(code) and _object_of(keywords_of(code, vendor)) in _ROUTINES:
            self.parts = [code.strip()]
        else:
            self.parts = split(code, vendor)
        self.keywords = [keywords_of(part, vendor) for part in self.parts]
        self.kinds = [_kind(words) for words in self.keywords]
        if len(self.kinds) > 1 and Kind.TRANSACTION in self.kinds:
            self.kind = Kind.ANYTHING
        elif len(self.kinds) == 1:
            self.kind = self.kinds[0]
        else:
            self.kind = _strongest(self.kinds)


def keywords_of(code: str, vendor: str) -> list[str]:
    """Return the words of ``code``, as ``code_of()`` returns it, that may be keywords."""
    # In this order: REPLACE "t" (a) is no function of strings.
    return WORD.findall(without_quoted(_NO_KEYWORDS.sub(" ", code), vendor).upper())


def _strongest(kinds: Collection[Kind]) -> Kind:
    return next((strong for strong in _STRENGTH if strong in kinds), Kind.READ)


def _object_of(keywords: list[str]) -> str | None:
    """Return the word that says what is created, altered or dropped."""
    return next((word for word in keywords if word in _NAMED_OBJECTS | _OTHER_OBJECTS), None)


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
        kind = Kind.ANYTHING if Kind.TRANSACTION in kinds else _strongest(kinds)
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


def _kind(keywords: list[str]) -> Kind:
    leading = keywords[0] if keywords else ""
    second = keywords[1] if len(keywords) > 1 else ""
    if leading in DATA_WORDS:
        return Kind.WRITE
    if leading in SCHEMA_WORDS:
        return Kind.SCHEMA
    if (second == "PREPARED" and leading in _TRANSACTION) or keywords[:2] == _PREPARE:
        # Two-phase commit: another connection may decide the outcome.
        return Kind.ANYTHING
    if (leading, second) == ("SET", "STATEMENT"):
        # MariaDB's SET STATEMENT setting = value FOR any statement.
        return Kind.ANYTHING
    if leading == "START" and second != "TRANSACTION":
        # START REPLICA and its like
        return Kind.ANYTHING
    if leading in _TRANSACTION:
        return Kind.TRANSACTION
    if leading in _SESSION:
        return Kind.SESSION
    if leading in {"SELECT", "WITH"} or leading in _CARRIERS:
        return _carried(leading, keywords)
    if leading in _READS or not leading:
        return Kind.READ
    # Known to write anything, or unheard of: too much invalidated costs a little.
    return Kind.ANYTHING


def _carried(leading: str, keywords: list[str]) -> Kind:
    """Return the kind of a statement that may have another one in it."""
    # Each INSERT, MERGE and REPLACE may have an INTO. One more creates a table; MySQL's
    # SELECT … INTO @variable costs an invalidation.
    owners = sum(map(keywords.count, ("INSERT", "MERGE", "REPLACE")))
    if keywords.count("INTO") > (0 if leading == "SELECT" else owners):
        return Kind.SCHEMA
    if leading in _CARRIERS:
        if not _HIDDEN_CODE.isdisjoint(keywords):
            return Kind.ANYTHING
        if not SCHEMA_WORDS.isdisjoint(keywords):
            return Kind.SCHEMA
    if leading != "SELECT" and not DATA_WORDS.isdisjoint(keywords):
        return Kind.WRITE
    return Kind.READ


def _cascades(keywords: list[str]) -> bool:
    if not keywords:
        return False
    if keywords[0] in {"TRUNCATE", "DROP"} and "CASCADE" in keywords:
        return True
    return keywords[0] in SCHEMA_WORDS and _object_of(keywords) in _OTHER_OBJECTS


def _concerns_tables_alone(keywords: list[str]) -> bool:
    # Who is dropped along, or what a view or a trigger uses, the text need not say.
    return (
        keywords[:1] in (["CREATE"], ["ALTER"], ["DROP"])
        and _object_of(keywords) in {"TABLE", "INDEX", "SEQUENCE"}
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

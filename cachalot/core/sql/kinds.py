"""The kind of a statement, told from its keywords."""

from __future__ import annotations

import re
from collections.abc import Collection
from enum import Enum

from cachalot.core.sql.text import WORD, without_quoted


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
#: CALL, DO and EXECUTE run code that the text does not show.
HIDDEN_CODE = frozenset({"CALL", "DO", "EXECUTE", "EXEC"})
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
_PREPARE = ["PREPARE", "TRANSACTION"]
# Leading words whose statement may carry any other one.
_CARRIERS = frozenset({"EXPLAIN", "DESCRIBE", "DESC", "PREPARE", "ANALYZE"})
_STRENGTH = (Kind.ANYTHING, Kind.SCHEMA, Kind.WRITE, Kind.SESSION)
# What else is created or altered, and concerns only tables that the text names.
_NAMED_OBJECTS = frozenset({"TABLE", "VIEW", "INDEX", "SEQUENCE", "TRIGGER", "POLICY", "EVENT"})
OTHER_OBJECTS = frozenset(
    """
    SCHEMA DATABASE ROLE USER GROUP SYSTEM OWNED FUNCTION PROCEDURE ROUTINE AGGREGATE PACKAGE RULE
    TYPE DOMAIN EXTENSION SERVER COLLATION OPERATOR CAST TEXT FOREIGN
    """.split()
)
# Words that write nothing where they stand: locks, foreign keys, functions of strings.
_NO_KEYWORDS = re.compile(
    r"\bFOR\s+(?:NO\s+KEY\s+)?UPDATE\b|\bDO\s+(?:NOTHING|UPDATE)\b|\bON\s+(?:DELETE|UPDATE)\b"
    r"|\b(?:REPLACE|INSERT|TRUNCATE)\s*\(",
    re.IGNORECASE,
)


def kind_of(keywords: list[str]) -> Kind:
    """Return the kind of a single statement."""
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
        if not HIDDEN_CODE.isdisjoint(keywords):
            return Kind.ANYTHING
        if not SCHEMA_WORDS.isdisjoint(keywords):
            return Kind.SCHEMA
    if leading != "SELECT" and not DATA_WORDS.isdisjoint(keywords):
        return Kind.WRITE
    return Kind.READ


def keywords_of(code: str, vendor: str) -> list[str]:
    """Return the words of ``code``, as ``code_of()`` returns it, that may be keywords."""
    # In this order: REPLACE "t" (a) is no function of strings.
    return WORD.findall(without_quoted(_NO_KEYWORDS.sub(" ", code), vendor).upper())


def strongest(kinds: Collection[Kind]) -> Kind:
    """Return the kind that counts where there are several."""
    return next((strong for strong in _STRENGTH if strong in kinds), Kind.READ)


def object_of(keywords: list[str]) -> str | None:
    """Return the word that says what is created, altered or dropped."""
    return next((word for word in keywords if word in _NAMED_OBJECTS | OTHER_OBJECTS), None)

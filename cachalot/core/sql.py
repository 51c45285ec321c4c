"""What the text of an SQL statement tells: its kind, the tables it names, what makes it volatile.

The scanner knows no grammar. It may see a table too many, never one too few: names are looked for
in the whole text, string literals and comments included; only the *kind* of a statement is decided
on the text without them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from cachalot.core.names import canonical

_WORD = re.compile(r"[\w$]+")

# One identifier, quoted in any database's manner or bare, and a name of up to three of them.
_IDENTIFIER = r'(?:"(?:[^"]|"")+"|`(?:[^`]|``)+`|\[[^\]]+\]|[\w$]+)'
_NAME = rf"{_IDENTIFIER}(?:\s*\.\s*{_IDENTIFIER}){{0,2}}"
_NAMES_AFTER_KEYWORD = re.compile(
    r"\b(?:FROM|JOIN|INTO|UPDATE|INSERT|REPLACE|DELETE|TABLE|TRUNCATE|COPY|VIEW|TO)\s+"
    r"(?:(?:FROM|INTO|ONLY|TABLE|LATERAL|IF|NOT|EXISTS|IGNORE|LOW_PRIORITY|HIGH_PRIORITY|DELAYED"
    r"|QUICK|CONCURRENTLY|OR|ROLLBACK|ABORT|REPLACE|FAIL)\b\s*)*"
    rf"\(*\s*({_NAME}(?:\s*,\s*{_NAME})*)",
    re.IGNORECASE,
)
# What stands after those keywords and is no table.
_NO_NAMES = frozenset({"select", "values", "set", "stdin", "stdout", "program", "with", "cascade"})
_SEPARATE_NAME = re.compile(_NAME)

# /*! … */ and /*M! … */ are code to MySQL and MariaDB.
_COMMENT = r"--[^\n]*|/\*(?!M?!).*?\*/"
# psycopg and mysqlclient take the text as it is; a backslash escapes in MySQL's literals and in
# PostgreSQL's E'' alone.
_LITERAL = r"'(?:[^']|'')*'|\$(\w*)\$.*?\$\1\$"
_LITERAL_WITH_ESCAPES = r"'(?:[^'\\]|\\.|'')*'"
_NOT_CODE = re.compile(rf"{_COMMENT}|[eE]{_LITERAL_WITH_ESCAPES}|{_LITERAL}", re.DOTALL)
_NOT_CODE_MYSQL = re.compile(rf"{_COMMENT}|#[^\n]*|{_LITERAL_WITH_ESCAPES}", re.DOTALL)
_QUOTED_IDENTIFIER = re.compile(r'"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]')


class Kind(Enum):
    """What a statement can do to tables, or to its connection."""

    READ = "read"
    WRITE = "write"
    SCHEMA = "schema"  # a write that also changes the catalogue
    ANYTHING = "anything"  # may write any table of the database
    TRANSACTION = "transaction"
    SESSION = "session"


_WRITES = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE", "TRUNCATE", "COPY", "LOAD"})
_SCHEMA = frozenset({"ALTER", "CREATE", "DROP", "RENAME", "REFRESH", "IMPORT"})
_ANYTHING = frozenset({"CALL", "DO", "EXECUTE", "EXEC", "HANDLER", "XA"})
_TRANSACTION = frozenset(
    {"BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE"}
)
_SESSION = frozenset({"SET", "RESET", "DISCARD", "USE", "PRAGMA", "ATTACH", "DETACH"})
_READS = frozenset(
    """
    SELECT VALUES TABLE SHOW DESCRIBE DESC EXPLAIN WITH DECLARE FETCH MOVE CLOSE LISTEN UNLISTEN
    NOTIFY LOCK UNLOCK ANALYZE VACUUM CHECKPOINT PREPARE DEALLOCATE COMMENT GRANT REVOKE KILL FLUSH
    OPTIMIZE REPAIR CHECK HELP CLUSTER REINDEX SECURITY
    """.split()
)
# Leading words whose statement may carry another one, which may write.
_CARRIERS = frozenset({"WITH", "EXPLAIN", "DESCRIBE", "DESC", "PREPARE", "ANALYZE"})
# What a carried statement may be, the strongest first.
_CARRIED = (
    (Kind.ANYTHING, _ANYTHING),
    (Kind.SCHEMA, _SCHEMA | {"INTO"}),
    (Kind.WRITE, _WRITES),
)
_STRENGTH = (Kind.ANYTHING, Kind.SCHEMA, Kind.WRITE, Kind.SESSION)
# Statements with semicolons of their own.
_ROUTINES = frozenset({"TRIGGER", "PROCEDURE", "FUNCTION", "EVENT", "PACKAGE", "RULE"})
# What ends MySQL's open transaction without being asked to (MariaDB: "SQL statements that cause
# an implicit commit").
_IMPLICIT_COMMITS = frozenset(
    """
    ALTER ANALYZE BEGIN CACHE CHANGE CHECK CREATE DROP FLUSH GRANT INSTALL LOCK OPTIMIZE RENAME
    REPAIR RESET REVOKE START STOP TRUNCATE UNINSTALL UNLOCK
    """.split()
)
# "UPDATE" and "DO" that write nothing of their own.
_NO_KEYWORDS = re.compile(
    r"\bFOR\s+(?:NO\s+KEY\s+)?UPDATE\b|\bDO\s+(?:NOTHING|UPDATE)\b|\bON\s+(?:DELETE|UPDATE)\b",
    re.IGNORECASE,
)


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
    #: The database follows foreign keys on its own, to tables the text does not name.
    cascades: bool = False
    #: May remove rows.
    deletes: bool = False
    #: Ends MySQL's open transaction.
    commits_implicitly: bool = False
    #: Begins or ends a transaction somewhere between other statements.
    hides_transaction: bool = False
    #: Calls PostgreSQL's set_config(), which is SET as a function.
    sets_config: bool = False


def _code(sql: str, vendor: str) -> str:
    not_code = _NOT_CODE_MYSQL if vendor == "mysql" else _NOT_CODE
    return not_code.sub(" ", sql)


def names_after_keywords(sql: str) -> frozenset[str]:
    """Return the canonical names after FROM, JOIN, INTO, UPDATE, TABLE and their like."""
    return (
        frozenset(
            canonical(name)
            for names in _NAMES_AFTER_KEYWORD.findall(sql)
            for name in _SEPARATE_NAME.findall(names)
        )
        - _NO_NAMES
    )


def words_of(sql: str) -> frozenset[str]:
    """Return every word of ``sql`` in lower case."""
    return frozenset(_WORD.findall(sql.lower()))


def _keywords(code: str) -> list[str]:
    return _WORD.findall(_NO_KEYWORDS.sub(" ", _QUOTED_IDENTIFIER.sub(" ", code)).upper())


@lru_cache(maxsize=2048)
def classify(sql: str, vendor: str) -> Statement:
    """Tell what ``sql`` (one statement or several) may change on a database of ``vendor``."""
    code = _code(sql, vendor)
    keywords = _keywords(code)
    present = frozenset(keywords)
    if keywords and keywords[0] == "CREATE" and not present.isdisjoint(_ROUTINES):
        parts = [code.strip()]
    else:
        parts = [part.strip() for part in code.split(";") if part.strip(" \t\r\n()")]
    kinds = [_kind(part) for part in parts]
    if len(parts) == 1:
        kind = kinds[0]
    elif Kind.TRANSACTION in kinds:
        kind = Kind.ANYTHING
    else:
        kind = next((strong for strong in _STRENGTH if strong in kinds), Kind.READ)
    commits = vendor == "mysql" and any(
        not _IMPLICIT_COMMITS.isdisjoint(_keywords(part)[:1]) for part in parts
    )
    sets_config = "set_config" in code.lower()
    if kind not in {Kind.WRITE, Kind.SCHEMA, Kind.ANYTHING}:
        return Statement(kind, tuple(parts), commits_implicitly=commits, sets_config=sets_config)
    return Statement(
        kind,
        tuple(parts),
        sets_config=sets_config,
        tables=names_after_keywords(sql),
        words=words_of(sql),
        text=sql.lower(),
        cascades="CASCADE" in present and not present.isdisjoint({"TRUNCATE", "DROP"}),
        deletes=not present.isdisjoint({"DELETE", "REPLACE", "MERGE", "TRUNCATE"}),
        commits_implicitly=commits,
        hides_transaction=len(parts) > 1 and Kind.TRANSACTION in kinds,
    )


def _kind(part: str) -> Kind:
    keywords = _keywords(part)
    leading = keywords[0] if keywords else ""
    present = frozenset(keywords)
    if leading in _WRITES:
        return Kind.WRITE
    if leading in _SCHEMA:
        return Kind.SCHEMA
    if "PREPARED" in present or keywords[:2] == ["PREPARE", "TRANSACTION"]:
        # Two-phase commit: another connection may decide the outcome.
        return Kind.ANYTHING
    if leading in _TRANSACTION:
        return Kind.TRANSACTION
    if leading in _SESSION:
        return Kind.SESSION
    if leading in _CARRIERS:
        for kind, carried in _CARRIED:
            if not present.isdisjoint(carried):
                return kind
        return Kind.READ
    if leading == "SELECT" and "INTO" in present:
        # It creates a table; MySQL's SELECT … INTO @variable costs an invalidation.
        return Kind.SCHEMA
    if leading in _READS or not leading:
        return Kind.READ
    # Known to write anything, or unheard of: too much invalidated costs a little.
    return Kind.ANYTHING


# Functions whose result depends on more than their arguments and the tables: the clock, chance,
# sequences, the session, other servers. Sources: PostgreSQL's pg_proc.provolatile = 'v' and the
# date/time functions marked stable, SQLite's "deterministic" list, MariaDB's and MySQL's lists of
# functions unsafe for statement-based replication.
_RANDOM_FUNCTIONS = frozenset({"random", "rand", "random_normal"})
_VOLATILE_FUNCTIONS = frozenset(
    """
    now clock_timestamp statement_timestamp transaction_timestamp timeofday age
    setseed gen_random_uuid gen_random_bytes uuid_generate_v1 uuid_generate_v1mc uuid_generate_v4
    uuidv4 uuidv7 nextval currval lastval setval next_value_for
    current_setting set_config txid_current txid_current_if_assigned txid_current_snapshot
    pg_current_xact_id pg_current_xact_id_if_assigned pg_current_snapshot pg_backend_pid
    pg_sleep pg_sleep_for pg_sleep_until pg_notify pg_cancel_backend pg_terminate_backend
    pg_read_file pg_read_binary_file pg_ls_dir pg_stat_file pg_current_wal_lsn pg_is_in_recovery
    pg_last_xact_replay_timestamp pg_postmaster_start_time pg_conf_load_time
    pg_relation_size pg_total_relation_size pg_table_size pg_database_size
    lo_get lo_create lo_import lo_export lo_put lo_unlink loread lowrite
    query_to_xml query_to_xmlschema query_to_xml_and_xmlschema table_to_xml schema_to_xml
    database_to_xml cursor_to_xml dblink dblink_exec dblink_fetch ts_stat
    inet_client_addr inet_client_port inet_server_addr inet_server_port
    randomblob changes total_changes last_insert_rowid load_extension
    curdate curtime sysdate utc_date utc_time utc_timestamp unix_timestamp
    uuid uuid_short sys_guid random_bytes last_insert_id connection_id found_rows row_count
    get_lock release_lock release_all_locks is_free_lock is_used_lock sleep benchmark load_file
    master_pos_wait master_gtid_wait wait_for_executed_gtid_set session_user system_user
    current_role current_user user
    """.split()
)
# The same without parentheses. Never quoted, so a column of that name is not meant.
_VOLATILE_KEYWORDS = frozenset(
    """
    current_timestamp current_date current_time localtime localtimestamp utc_date utc_time
    utc_timestamp sysdate current_user session_user current_role system_user current_catalog
    current_schema
    """.split()
)
_FUNCTION = re.compile(r'([\w$]+)["`\]]?\s*\(')
_LOCK = re.compile(r"\bFOR\s+(?:UPDATE|NO\s+KEY|SHARE|KEY\s+SHARE)\b|\bLOCK\s+IN\s+SHARE\b", re.I)
_SERVER_STATE = re.compile(
    r"pg_(?:try_)?advisory_\w+|pg_export_snapshot|pg_logical_\w+|pg_stat_\w+"
)
_NEXT_VALUE = re.compile(r"\b(?:NEXT|PREVIOUS)\s+VALUE\s+FOR\b", re.IGNORECASE)
# MySQL's user and system variables. PostgreSQL's operators (@>, <@, @@) stand after white space or
# a quote and before none of these letters without a space.
_VARIABLE = re.compile(r"(?<![\w\"'`)@<])@{1,2}(?:\w|`)")
# Words that the databases themselves turn into the current time.
TIME_WORDS = frozenset({"now", "today", "tomorrow", "yesterday"})
_TIME_LITERAL = re.compile(r"'\s*(?:now|today|tomorrow|yesterday)\b[^']*'", re.IGNORECASE)
_SQLITE_TIME_FUNCTIONS = frozenset(
    {"date", "time", "datetime", "julianday", "unixepoch", "strftime", "timediff"}
)
# Without a time value SQLite takes the current time. Literals are gone from the searched text.
_SQLITE_CLOCK = re.compile(
    r"\b(?:date|time|datetime|julianday|unixepoch)\s*\(\s*\)|\bstrftime\s*\(\s*(?:%s)?\s*\)", re.I
)
_TIME_CAST = re.compile(
    r"::\s*(?:timestamp|date|time|abstime)|\bAS\s+(?:timestamp|date|time)", re.I
)
_SELECT = re.compile(r"\bSELECT\b|\bTABLE\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Volatility:
    """Why the result of a query may differ though its tables have not changed.

    ``reason`` is None for a query that may be cached. ``is_random`` tells that it uses chance.
    ``reads_clock_words`` tells that a parameter such as ``"now"`` would mean the current time.
    """

    reason: str | None
    is_random: bool
    reads_clock_words: bool


def volatility_of(sql: str, vendor: str) -> Volatility:
    """Look in the text of a read for functions, locks and literals that forbid caching it."""
    code = _code(sql, vendor)
    functions = {name.lower() for name in _FUNCTION.findall(code)}
    reason = None
    if volatile := functions & _VOLATILE_FUNCTIONS:
        reason = f"calls the volatile function {min(volatile)}()"
    elif match := _SERVER_STATE.search(code.lower()):
        reason = f"depends on the server's state through {match[0]}"
    elif _LOCK.search(code):
        reason = "locks rows"
    elif _NEXT_VALUE.search(code):
        reason = "reads a sequence"
    elif keywords := words_of(_QUOTED_IDENTIFIER.sub(" ", code)) & _VOLATILE_KEYWORDS:
        reason = f"uses the volatile {min(keywords).upper()}"
    elif vendor == "mysql" and (match := _VARIABLE.search(code)):
        reason = "reads a session variable"
    time_functions = functions & _SQLITE_TIME_FUNCTIONS if vendor == "sqlite" else set()
    if reason is None and vendor != "mysql" and _TIME_LITERAL.search(sql):
        reason = "uses a literal that means the current time"
    if reason is None and time_functions and _SQLITE_CLOCK.search(code):
        reason = "reads the clock"
    return Volatility(
        reason=reason,
        is_random=bool(functions & _RANDOM_FUNCTIONS),
        reads_clock_words=bool(time_functions)
        or (vendor == "postgresql" and bool(_TIME_CAST.search(code))),
    )


def count_selects(sql: str) -> int:
    """Return how often the text could start a query: the words SELECT and TABLE in it."""
    return len(_SELECT.findall(sql))

"""What in the text of a query makes its result depend on more than its tables."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cachalot.core.sql.clock_words import has_clock_literal
from cachalot.core.sql.text import code_of, without_quoted, words_of

# Functions whose result depends on more than their arguments and the tables: the clock, chance,
# sequences, the session, other servers. Sources: PostgreSQL's pg_proc.provolatile = 'v' and the
# date/time functions marked stable, SQLite's "deterministic" list, MariaDB's and MySQL's lists of
# functions unsafe for statement-based replication.
CHANCE_FUNCTIONS = frozenset({"random", "rand", "random_normal"})
VOLATILE_FUNCTIONS = frozenset(
    """
    now clock_timestamp statement_timestamp transaction_timestamp timeofday age
    setseed gen_random_uuid gen_random_bytes gen_salt pgp_sym_encrypt pgp_pub_encrypt
    uuid_generate_v1 uuid_generate_v1mc uuid_generate_v4 uuidv4 uuidv7 uuid_v4 uuid_v7
    array_shuffle array_sample nextval currval lastval setval next_value_for
    current_setting set_config txid_current txid_current_if_assigned txid_current_snapshot
    txid_snapshot_xmin txid_snapshot_xmax txid_status txid_visible_in_snapshot
    lo_get lo_create lo_import lo_export lo_put lo_unlink loread lowrite
    query_to_xml query_to_xmlschema query_to_xml_and_xmlschema table_to_xml schema_to_xml
    database_to_xml cursor_to_xml dblink dblink_exec dblink_fetch ts_stat
    inet_client_addr inet_client_port inet_server_addr inet_server_port
    randomblob changes total_changes last_insert_rowid load_extension
    curdate curtime sysdate utc_date utc_time utc_timestamp unix_timestamp
    uuid uuid_short sys_guid random_bytes last_insert_id connection_id found_rows row_count
    get_lock release_lock release_all_locks is_free_lock is_used_lock sleep benchmark load_file
    master_pos_wait source_pos_wait master_gtid_wait wait_for_executed_gtid_set
    session_user system_user current_role current_user user
    """.split()
)
#: Those among them that tell of nothing but the session.
SESSION_FUNCTIONS = frozenset(
    {"current_setting", "session_user", "system_user", "current_role", "current_user", "user"}
)
# The same without parentheses. Never quoted, so a column of that name is not meant.
_VOLATILE_KEYWORDS = frozenset(
    """
    current_timestamp current_date current_time localtime localtimestamp utc_date utc_time
    utc_timestamp sysdate current_user session_user current_role system_user current_catalog
    current_schema tablesample
    """.split()
)
_FUNCTION = re.compile(r'(?<![\w$])([\w$]+)["`\]]?\s*\(')
_LOCK = re.compile(r"\bFOR\s+(?:UPDATE|NO\s+KEY|SHARE|KEY\s+SHARE)\b|\bLOCK\s+IN\s+SHARE\b", re.I)
# Catalogues change without a statement on them; pg_ is PostgreSQL's own prefix.
_SERVER_STATE = {
    "postgresql": re.compile(r"\b(?:pg_\w+|information_schema)\b"),
    "mysql": re.compile(r"\b(?:information_schema|performance_schema)\b"),
    "sqlite": re.compile(r"\b(?:sqlite_(?:master|schema|sequence|stat\d|temp_\w+)|pragma_\w+)\b"),
}
_NEXT_VALUE = re.compile(r"\b(?:NEXT|PREVIOUS)\s+VALUE\s+FOR\b", re.IGNORECASE)
# MySQL's user and system variables. PostgreSQL's operators (@>, <@, @@) stand after white space or
# a quote and before none of these letters without a space.
_VARIABLE = re.compile(r"(?<![\w\"'`)@<])@{1,2}(?:\w|`|')")
_SQLITE_TIME_FUNCTIONS = frozenset(
    {"date", "time", "datetime", "julianday", "unixepoch", "strftime", "timediff"}
)
# Without a time value SQLite takes the current time; "now" in double quotes is a string to it
# where no column has that name.
_SQLITE_CLOCK = re.compile(
    r"\b(?:date|time|datetime|julianday|unixepoch)\s*\(\s*\)"
    r"|\bstrftime\s*\(\s*(?:''|%s)?\s*\)"
    r'|[(,]\s*"now"',
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Volatility:
    """Why the result of a query may differ though its tables have not changed.

    ``reason`` is None for a query that may be cached. ``is_random`` tells that it uses chance.
    ``reads_clock_words`` tells that a parameter such as ``"now"`` may mean the current time.
    ``functions`` are the names of all functions called, in lower case.
    """

    reason: str | None
    is_random: bool
    reads_clock_words: bool
    functions: frozenset[str]


def called_in(code: str) -> set[str]:
    """Return the names before parentheses in ``code`` (of ``code_of()``), in lower case."""
    return {name.lower() for name in _FUNCTION.findall(code)}


def volatility_of(sql: str, vendor: str) -> Volatility:
    """Look in the text of a read for functions, locks and literals that forbid caching it."""
    code = code_of(sql, vendor)
    functions = called_in(code)
    uses_sqlite_times = vendor == "sqlite" and not functions.isdisjoint(_SQLITE_TIME_FUNCTIONS)
    return Volatility(
        reason=_reason(sql, code, functions, vendor, uses_sqlite_times),
        is_random=bool(functions & CHANCE_FUNCTIONS),
        # PostgreSQL gives a parameter the type of what it is compared with.
        reads_clock_words=uses_sqlite_times or vendor == "postgresql",
        functions=frozenset(functions),
    )


def _reason(
    sql: str, code: str, functions: set[str], vendor: str, uses_sqlite_times: bool
) -> str | None:
    if volatile := functions & VOLATILE_FUNCTIONS:
        return f"calls the volatile function {min(volatile)}()"
    server_state = _SERVER_STATE.get(vendor)
    if server_state is not None and (match := server_state.search(code.lower())):
        return f"depends on the server's state through {match[0]}"
    if _LOCK.search(code):
        return "locks rows"
    if _NEXT_VALUE.search(code):
        return "reads a sequence"
    if keywords := words_of(without_quoted(code, vendor)) & _VOLATILE_KEYWORDS:
        return f"uses the volatile {min(keywords).upper()}"
    if vendor == "mysql" and _VARIABLE.search(code):
        return "reads a session variable"
    if (vendor == "postgresql" or uses_sqlite_times) and has_clock_literal(sql, vendor):
        return "uses a literal that means the current time"
    if uses_sqlite_times and _SQLITE_CLOCK.search(code):
        return "reads the clock"
    return None

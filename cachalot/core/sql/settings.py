"""What a statement sets on its session, read with certainty or not at all."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from cachalot.core.outcomes import UncachableQuery
from cachalot.core.sql.parameters import encode
from cachalot.core.sql.text import without_comments

#: Stands for whatever a session begins with.
DEFAULT = b""
#: Stands for the temporary tables of a session among its settings.
TEMPORARY = "temporary tables"

# Settings that do not change what rows a query returns: they would only split the cache.
_IRRELEVANT = frozenset(
    """
    foreign_key_checks unique_checks constraints autocommit sql_safe_updates
    statement_timeout lock_timeout idle_in_transaction_session_timeout idle_session_timeout
    transaction_timeout
    application_name work_mem maintenance_work_mem synchronous_commit client_min_messages
    default_transaction_isolation default_transaction_read_only default_transaction_deferrable
    transaction_isolation tx_isolation transaction_read_only tx_read_only
    session_replication_role jit random_page_cost statement_mem
    max_statement_time max_execution_time wait_timeout lock_wait_timeout innodb_lock_wait_timeout
    """.split()
)
#: SQLite's pragmas that change results. No transaction takes them back.
PRAGMAS = frozenset(
    {"case_sensitive_like", "reverse_unordered_selects", "encoding", "read_uncommitted"}
)
_SYNONYMS = {
    "timezone": "time zone",
    "schema": "search_path",
    "session_authorization": "session authorization",
}


class Setting(NamedTuple):
    """One thing set: ``DEFAULT`` as the value takes it back, "all" as the name takes back all."""

    name: str
    value: bytes
    is_local: bool = False


# A literal with a backslash is not read: the server's settings decide what it means.
_ATOM = r"(?:'(?:[^'\\]|'')*'|\"(?:[^\"\\]|\"\")*\"|%s|%\(\w+\)s|[-+]?[\w.$]+)"
_TRANSACTION_MODES = re.compile(
    r"SET\s+(?:(?:SESSION|GLOBAL|LOCAL)\s+)?(?:CHARACTERISTICS\s+AS\s+)?(?:TRANSACTION|CONSTRAINTS)"
    r"\b",
    re.IGNORECASE,
)
_POSTGRESQL_SET = re.compile(
    r"SET\s+(?:(?P<scope>SESSION|LOCAL)\s+)?"
    r'(?:(?P<name>[\w.$"]+)\s*(?:=|\bTO\b)\s*'
    r"|(?P<phrase>TIME\s+ZONE|ROLE|SESSION\s+AUTHORIZATION|NAMES|SCHEMA)\s+)"
    rf"(?P<value>{_ATOM}(?:(?:\s*,\s*|\s+){_ATOM})*)",
    re.IGNORECASE,
)
_RESET = re.compile(
    r'RESET\s+(?P<name>ALL|ROLE|SESSION\s+AUTHORIZATION|TIME\s+ZONE|[\w.$"]+)', re.IGNORECASE
)
_DISCARD = re.compile(r"DISCARD\s+(\w+)", re.IGNORECASE)
_MYSQL_SET = re.compile(
    r"(?:(?:SESSION|LOCAL)\s+|@@(?:(?:session|local)\.)?)?"
    r"(?P<name>(?!(?:GLOBAL|PERSIST|PERSIST_ONLY)\b)[\w$`]+)\s*:?=\s*"
    # An expression may depend on what was set before.
    rf"(?P<value>(?!\w*\s*\(){_ATOM})",
    re.IGNORECASE,
)
# A bare word that is no constant, such as CURRENT_TIMESTAMP, could be the value of a variable.
_MYSQL_VARIABLE = re.compile(
    r"@(?P<name>[\w.$]+|`[^`]+`)\s*:?=\s*"
    r"(?P<value>'(?:[^'\\]|'')*'|\"(?:[^\"\\]|\"\")*\"|%s|[-+]?\d[\w.]*|NULL|TRUE|FALSE)",
    re.IGNORECASE,
)
_MYSQL_PHRASE = re.compile(
    r"(?P<name>NAMES|CHARACTER\s+SET|CHARSET|ROLE)\s+"
    rf"(?P<value>{_ATOM}(?:\s+COLLATE\s+{_ATOM})?)",
    re.IGNORECASE,
)
_COMMA = re.compile(r"'(?:[^'\\]|'')*'|\"(?:[^\"\\]|\"\")*\"|`[^`]*`|(?P<comma>,)")
_PRAGMA = re.compile(r"PRAGMA\s+(?:\w+\.)?(\w+)\s*(?:=\s*(.+)|\((.+)\))?", re.IGNORECASE)
_USE = re.compile(r"USE\s+(?:[\w$]+|`[^`]+`)", re.IGNORECASE)

# SELECT set_config(…), set_config(…) and nothing else: under a condition it might not be run.
_TEXT = r"(?:'(?:[^'\\%]|'')*'|%s)(?:::(?:text|varchar))?"
_CONFIG_CALL = (
    rf"(?:pg_catalog\s*\.\s*)?set_config\s*\(\s*(?:{_TEXT})\s*,\s*(?:{_TEXT})\s*,"
    r"\s*(?:true|false|%s)\s*\)(?:\s+(?:AS\s+)?\w+)?"
)
_CONFIG_CALLS = re.compile(rf"SELECT\s+{_CONFIG_CALL}(?:\s*,\s*{_CONFIG_CALL})*", re.IGNORECASE)
_CONFIG_ARGUMENTS = re.compile(
    rf"set_config\s*\(\s*({_TEXT})\s*,\s*({_TEXT})\s*,\s*(true|false|%s)\s*\)", re.IGNORECASE
)
_SAVEPOINT = re.compile(
    r"(?P<verb>SAVEPOINT|RELEASE(?:\s+SAVEPOINT)?"
    r"|ROLLBACK(?:\s+WORK|\s+TRANSACTION)?\s+TO(?:\s+SAVEPOINT)?)\s+"
    r'(?P<name>[\w$]+|"(?:[^"]|"")+"|`(?:[^`]|``)+`|\[[^\]]+\]|\'[^\']*\')',
    re.IGNORECASE,
)


def settings_in(statement: str, params: Any, vendor: str) -> list[Setting] | None:
    """Return what a statement of kind SESSION sets, in order; None if it cannot be told."""
    statement = without_comments(statement, vendor).strip().rstrip(";").strip()
    if not statement or _TRANSACTION_MODES.match(statement):
        return []
    try:
        if vendor == "sqlite":
            settings = _sqlite_settings(statement, params)
        elif vendor == "mysql":
            settings = _mysql_settings(statement, params)
        else:
            settings = _postgresql_settings(statement, params)
    except UncachableQuery:
        return None
    if settings is None:
        return None
    return [setting for setting in settings if setting.name not in _IRRELEVANT]


def _sqlite_settings(statement: str, params: Any) -> list[Setting] | None:
    match = _PRAGMA.fullmatch(statement)
    if match is None:
        return None
    name, value = match[1].lower(), match[2] or match[3]
    return [Setting(name, _valued(value, params))] if name in PRAGMAS and value else []


def _postgresql_settings(statement: str, params: Any) -> list[Setting] | None:
    if match := _RESET.fullmatch(statement):
        return [Setting(_name(match["name"]), DEFAULT)]
    if match := _DISCARD.fullmatch(statement):
        # DISCARD ALL also resets the role and the authorization.
        names: tuple[str, ...] = ()
        if match[1].upper() == "ALL":
            names = (TEMPORARY, "role", "session authorization", "all")
        elif match[1].upper() in {"TEMP", "TEMPORARY"}:
            names = (TEMPORARY,)
        return [Setting(name, DEFAULT) for name in names]
    match = _POSTGRESQL_SET.fullmatch(statement)
    if match is None:
        return None
    name = _name(match["name"] or match["phrase"])
    name = {"names": "client_encoding"}.get(name, name)
    is_default = match["value"].upper() == "DEFAULT"
    value = DEFAULT if is_default else _valued(match["value"], params)
    return [Setting(name, value, (match["scope"] or "").upper() == "LOCAL")]


def _mysql_settings(statement: str, params: Any) -> list[Setting] | None:
    if _USE.fullmatch(statement):
        return [Setting("use", _valued(statement, params))]
    if not re.match(r"SET\s", statement, re.IGNORECASE):
        return None
    body = statement[4:]
    assignments, start = [], 0
    for end in [*(m.start() for m in _COMMA.finditer(body) if m["comma"]), len(body)]:
        assignments.append(body[start:end].strip())
        start = end + 1
    settings = []
    for assignment in assignments:
        variable = _MYSQL_VARIABLE.fullmatch(assignment)
        match = variable or _MYSQL_SET.fullmatch(assignment) or _MYSQL_PHRASE.fullmatch(assignment)
        if match is None:
            return None
        # With several, the place in the whole statement decides which parameter is whose.
        value = match["value"] if not params or len(assignments) == 1 else statement
        name = _name(match["name"])
        settings.append(Setting(f"@{name}" if variable else name, _valued(value, params)))
    return settings


def config_calls_in(sql: str, params: Any) -> list[Setting] | None:
    """Return what a query that does nothing but call ``set_config()`` sets, in order.

    None stands for any other statement.
    """
    statement = sql.strip().rstrip(";").strip()
    if not _CONFIG_CALLS.fullmatch(statement) or not isinstance(params, (list, tuple, type(None))):
        return None
    unused = list(params or ())
    settings = []
    for arguments in _CONFIG_ARGUMENTS.findall(statement):
        texts = []
        for argument in arguments:
            if argument.startswith("'"):
                texts.append(argument.rsplit("'", 1)[0][1:].replace("''", "'"))
            elif not argument.startswith("%s"):
                texts.append(argument)
            elif unused and type(unused[0]) in {str, int, bool}:
                texts.append(str(unused.pop(0)))
            else:
                return None
        name, value, is_local = texts
        if is_local.lower() not in {"true", "false"}:
            return None
        setting = Setting(_name(name), b"=" + _utf8(value), is_local.lower() == "true")
        if setting.name not in _IRRELEVANT:
            settings.append(setting)
    return settings


def savepoint_in(sql: str, vendor: str) -> tuple[str, str] | None:
    """Return the verb of a statement on a savepoint ("SAVEPOINT", "RELEASE", "ROLLBACK"), its name.

    Names are equal where the database takes them for equal: to PostgreSQL "A" is not a. Return None
    for any other statement.
    """
    match = _SAVEPOINT.fullmatch(without_comments(sql, vendor).strip().rstrip(";").strip())
    if match is None:
        return None
    name = match["name"]
    if vendor != "postgresql":
        name = (name if name[0] not in "\"'`[" else name[1:-1]).lower()
    elif not name.startswith('"'):
        name = f'"{name.lower()}"'
    return match["verb"].split()[0].upper(), name


def _name(text: str) -> str:
    name = " ".join(text.replace('"', "").replace("`", "").lower().split())
    return _SYNONYMS.get(name, name)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _valued(text: str, params: Any) -> bytes:
    content = _utf8(text.strip())
    return b"%d:%s%s" % (len(content), content, encode(params) if params else b"")

"""The state of a database session that decides which rows a query sees.

``SET``, ``RESET``, ``USE``, ``set_config()`` and their like change what the same SQL returns:
search_path, role, row-level security, time zone. What they set becomes part of every query key.
A statement that cannot be read with certainty gives the session a fingerprint of its own, which
no other connection ever shares.
"""

from __future__ import annotations

import re
import secrets
from hashlib import blake2b
from typing import Any

from cachalot.core.encoding import encode
from cachalot.core.refusal import UncachableQuery

# Settings that do not change what rows a query returns: they would only split the cache.
_IRRELEVANT = frozenset(
    """
    foreign_key_checks unique_checks constraints transaction autocommit sql_safe_updates
    statement_timeout lock_timeout idle_in_transaction_session_timeout idle_session_timeout
    application_name work_mem maintenance_work_mem synchronous_commit client_min_messages
    default_transaction_isolation default_transaction_read_only default_transaction_deferrable
    transaction_isolation tx_isolation transaction_read_only tx_read_only
    session_replication_role jit random_page_cost statement_mem
    max_statement_time max_execution_time wait_timeout lock_wait_timeout innodb_lock_wait_timeout
    """.split()
)
# SQLite pragmas that change results.
_PRAGMAS = frozenset(
    {"case_sensitive_like", "reverse_unordered_selects", "encoding", "read_uncommitted"}
)
_SET = re.compile(
    r"SET\s+(?:(SESSION|LOCAL)\s+)?(?!GLOBAL\b|SESSION\b|LOCAL\b)"
    r"(?:@@)?(?:(session|local)\.)?([\w.\"`]+)\s*(?::=|=|\bTO\b)\s*([^,]+|'[^']*')$",
    re.IGNORECASE,
)
_SET_PHRASE = re.compile(
    r"SET\s+(?:(SESSION|LOCAL)\s+)?(TIME\s+ZONE|ROLE|SESSION\s+AUTHORIZATION|NAMES|CHARACTER\s+SET"
    r"|CHARSET|SCHEMA)\s+(.+)$",
    re.IGNORECASE | re.DOTALL,
)
_TRANSACTION_MODES = re.compile(
    r"SET\s+(?:(?:SESSION|GLOBAL|LOCAL)\s+)?(?:CHARACTERISTICS\s+AS\s+)?(?:TRANSACTION|CONSTRAINTS)\b",
    re.IGNORECASE,
)
# A query that reads one is volatile.
_USER_VARIABLE = re.compile(r"SET\s+@(?!@)")
_RESET = re.compile(r"RESET\s+(ALL|ROLE|SESSION\s+AUTHORIZATION|[\w.\"]+)$", re.IGNORECASE)
_SEARCH_PATH = re.compile(
    r"SET\s+(?:(SESSION|LOCAL)\s+)?search_path\s*(?:=|\bTO\b)\s*(.+)$", re.IGNORECASE | re.DOTALL
)
_PRAGMA = re.compile(r"PRAGMA\s+(?:\w+\.)?(\w+)\s*(?:=\s*(.+)|\((.+)\))?$", re.IGNORECASE)
_SET_CONFIG = re.compile(
    r"set_config\s*\(\s*('(?:[^']|'')*'|%s)\s*,\s*('(?:[^']|'')*'|%s|[\w.]+(?:::\w+)?)\s*,"
    r"\s*(true|false|%s)\s*\)",
    re.IGNORECASE,
)


class Session:
    """What raw statements have set on one physical connection.

    ``values`` maps (name, is local to the transaction) to what was set, the latest last: order
    counts, because statements may overlap.
    """

    def __init__(self) -> None:
        self.values: dict[tuple[str, bool], bytes] = {}
        self._fingerprint: bytes | None = b""

    def fingerprint(self) -> bytes:
        """Return bytes that two sessions share only if the same was set in both, in that order."""
        if self._fingerprint is None:
            digest = blake2b(digest_size=16)
            for (name, is_local), value in self.values.items():
                digest.update(b"%d:%d:%d:" % (len(name), is_local, len(value)))
                digest.update(name.encode() + value)
            self._fingerprint = digest.digest() if self.values else b""
        return self._fingerprint

    def snapshot(self) -> dict[tuple[str, bool], bytes]:
        """Return the values as they are now, for ``restore()``."""
        return dict(self.values)

    def restore(self, values: dict[tuple[str, bool], bytes]) -> None:
        """Take back everything set since ``values`` was the snapshot."""
        self.values = dict(values)
        self._fingerprint = None

    def end_transaction(self) -> None:
        """Forget what was set for the transaction alone."""
        if any(is_local for _, is_local in self.values):
            self.restore({key: value for key, value in self.values.items() if not key[1]})

    def clear(self) -> None:
        """Forget everything: the connection is new."""
        self.restore({})

    def apply(self, statement: str, params: Any, vendor: str, *, is_transaction: bool) -> None:
        """Take in a statement of kind SESSION, given as it was sent."""
        statement = statement.strip().rstrip(";").strip()
        if _TRANSACTION_MODES.match(statement) or _USER_VARIABLE.match(statement):
            return
        if match := _RESET.match(statement):
            self._reset(_name(match[1]))
        elif match := _SEARCH_PATH.match(statement):
            self._assign("search_path", match[1], match[2], params, vendor, is_transaction)
        elif match := _SET_PHRASE.match(statement):
            self._assign(_name(match[2]), match[1], match[3], params, vendor, is_transaction)
        elif match := _SET.match(statement):
            self._assign(_name(match[3]), match[1], match[4], params, vendor, is_transaction)
        elif match := _PRAGMA.match(statement):
            name = match[1].lower()
            if name in _PRAGMAS and (match[2] or match[3]):
                self._assign(name, None, match[2] or match[3], params, vendor, is_transaction)
        elif re.match(r"DISCARD\s+ALL$", statement, re.IGNORECASE):
            self.clear()
        elif re.match(r"USE\s+[\w`$]+$", statement, re.IGNORECASE):
            self._put("use", False, _with_params(statement, params))
        else:
            self.make_unique()

    def apply_functions(self, sql: str, params: Any, *, is_transaction: bool) -> None:
        """Take in the calls of ``set_config()`` in any other statement."""
        calls = list(_SET_CONFIG.finditer(sql))
        if len(calls) != len(re.findall(r"set_config\s*\(", sql, re.IGNORECASE)) or not (
            params is None or isinstance(params, (list, tuple))
        ):
            self.make_unique()
            return
        for call in calls:
            # A placeholder's value is found by counting those before it.
            position = sql[: call.start()].count("%s")
            name, value, is_local = call.groups()
            texts = []
            for argument in (name, value, is_local):
                if argument == "%s":
                    texts.append(str(params[position]))
                    position += 1
                else:
                    texts.append(argument.strip("'"))
            local = texts[2].lower() in {"true", "t", "1", "yes", "on"}
            if local and not is_transaction:
                continue  # it ends with its own statement
            self._put(_name(texts[0]), local, _with_params(texts[1], None))

    def make_unique(self) -> None:
        """Never share a key with another connection again: the session's state is unknown."""
        self._put("unknown", False, secrets.token_bytes(16))

    def _assign(
        self,
        name: str,
        scope: str | None,
        value: str,
        params: Any,
        vendor: str,
        in_transaction: bool,
    ) -> None:
        if name in _IRRELEVANT:
            return
        # LOCAL means the transaction to PostgreSQL and the session to MySQL.
        is_local = vendor != "mysql" and (scope or "").upper() == "LOCAL"
        if is_local and not in_transaction:
            return
        try:
            self._put(name, is_local, _with_params(value, params))
        except UncachableQuery:
            self.make_unique()

    def _put(self, name: str, is_local: bool, value: bytes) -> None:
        self.values.pop((name, is_local), None)
        self.values[name, is_local] = value
        self._fingerprint = None

    def _reset(self, name: str) -> None:
        if name == "all":
            # RESET ALL leaves the role alone.
            kept = {"role", "session authorization", "unknown"}
            self.restore({key: value for key, value in self.values.items() if key[0] in kept})
        else:
            for is_local in (False, True):
                self.values.pop((name, is_local), None)
            self._fingerprint = None


def _name(text: str) -> str:
    name = " ".join(text.replace('"', "").replace("`", "").lower().split())
    return {"timezone": "time zone", "schema": "search_path"}.get(name, name)


def _with_params(text: str, params: Any) -> bytes:
    encoded = encode(params) if params else b""
    return b"%d:%s%s" % (len(text), text.strip().encode("utf-8", "surrogatepass"), encoded)


def session_of(connection: Any) -> Session:
    """Return the session of a Django connection; a new one if nothing was set yet."""
    try:
        session: Session = connection._cachalot_session
    except AttributeError:
        session = connection._cachalot_session = Session()
    return session

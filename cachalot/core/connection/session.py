"""The state of a database session that decides which rows a query sees.

``SET``, ``RESET``, ``USE``, ``set_config()`` and their like change what the same SQL returns:
search_path, role, row-level security, time zone. What they set becomes part of every query key.
A statement that cannot be read with certainty gives the session a fingerprint of its own, which
no other connection ever shares.
"""

from __future__ import annotations

import secrets
from hashlib import blake2b
from typing import Any

from cachalot.core.sql.settings import (
    DEFAULT,
    PRAGMAS,
    TEMPORARY,
    Setting,
    config_calls_in,
    savepoint_in,
    settings_in,
)

_UNKNOWN = "unknown"
# What Django sets without an SQL statement of its cursors, or PostgreSQL along with another one:
# taken back, it is not what it was at first.
_NOT_AT_DEFAULT = frozenset({"time zone", "role", "session authorization", "client_encoding"})
# RESET ALL leaves these alone.
_NOT_IN_ALL = frozenset({"role", "session authorization", _UNKNOWN})


#: What was set, by name and whether it is local to the transaction; the latest last.
Values = dict[tuple[str, bool], bytes]


class Session:
    """What raw statements have set on one physical connection.

    The order of ``values`` counts, because statements may overlap.
    """

    def __init__(self) -> None:
        self.values: Values = {}
        self._savepoints: list[tuple[str, Values]] = []
        self._fingerprint: bytes | None = b""
        #: Whether something sets the session as a query runs: what it will be for the next query
        #: nobody knows beforehand. The next physical connection will be treated alike.
        self.is_set_by_queries = False

    def fingerprint(self) -> bytes:
        """Return bytes that two sessions share only if the same was set in both, in that order."""
        if self._fingerprint is None:
            digest = blake2b(digest_size=16)
            for (name, is_local), value in self.values.items():
                encoded = name.encode("utf-8", "surrogatepass")
                digest.update(b"%d:%d:%d:" % (len(encoded), is_local, len(value)))
                digest.update(encoded + value)
            self._fingerprint = digest.digest() if self.values else b""
        return self._fingerprint

    def database(self, vendor: str) -> bytes:
        """Return what tells apart the databases that sessions of one server or file look into."""
        if not self.values:
            return b""
        name = _UNKNOWN if vendor == "sqlite" else "use"
        return self.values.get((name, False), b"")

    def snapshot(self) -> Values:
        """Return the values as they are now, for ``restore()``."""
        return dict(self.values)

    def restore(self, values: Values) -> None:
        """Take back what a rollback takes back of everything set since the snapshot ``values``."""
        kept = {
            key: value
            for key, value in self.values.items()
            if key[0] == _UNKNOWN or key[0] in PRAGMAS
        }
        emptied = [key[0] for key in self.values if "." in key[0]]
        self.values = {**values, **kept}
        for name in emptied:
            self._leave_empty(name)
        self._fingerprint = None

    def end_transaction(self) -> None:
        """Forget what was set for the transaction alone."""
        self._savepoints.clear()
        if any(is_local for _, is_local in self.values):
            self.values = {key: value for key, value in self.values.items() if not key[1]}
            self._fingerprint = None

    def clear(self) -> None:
        """Forget everything: the connection is new."""
        self.values = {}
        self._savepoints.clear()
        self._fingerprint = b""

    def apply(self, statement: str, params: Any, vendor: str, *, is_transaction: bool) -> None:
        """Take in a statement of kind SESSION, given as it was sent."""
        self._set(settings_in(statement, params, vendor), vendor, is_transaction)
        if (_UNKNOWN, False) in self.values and statement.lstrip()[:7].upper() == "DISCARD":
            # Temporary tables are gone, and what was read of them is of tables that they hid.
            self.make_unique()

    def apply_other(self, sql: str, params: Any, vendor: str, *, is_transaction: bool) -> None:
        """Take in a statement of another kind that ``changes_session``."""
        if savepoint := savepoint_in(sql, vendor):
            self._control_savepoint(*savepoint)
        else:
            self._set(config_calls_in(sql, params), vendor, is_transaction)

    def make_unique(self) -> None:
        """Never share a key with another connection again: the session's state is unknown."""
        self._put(_UNKNOWN, False, secrets.token_bytes(16))

    def _set(self, settings: list[Setting] | None, vendor: str, is_transaction: bool) -> None:
        if settings is None:
            self.make_unique()
            return
        for name, value, is_local in settings:
            if is_local:
                self._leave_empty(name)
                if not is_transaction:
                    continue  # it ended with its own statement
            if value == DEFAULT and not is_local and vendor != "mysql":
                self._reset(name)
            else:
                self._put(name, is_local, value)

    def _put(self, name: str, is_local: bool, value: bytes) -> None:
        self.values.pop((name, is_local), None)
        if not is_local:
            # A plain SET also ends what SET LOCAL has set before.
            self.values.pop((name, True), None)
        self.values[name, is_local] = value
        self._fingerprint = None

    def _leave_empty(self, name: str) -> None:
        # PostgreSQL forgets no custom setting: taken back, it is empty, and before it was NULL.
        if "." in name and (name, False) not in self.values:
            self.values[name, False] = DEFAULT
            self._fingerprint = None

    def _reset(self, name: str) -> None:
        if name == TEMPORARY:
            if (_UNKNOWN, False) in self.values:
                self.make_unique()  # what they have hidden shows again
            return
        names = [name]
        if name == "all":
            names = [key[0] for key in self.values if key[0] not in _NOT_IN_ALL]
            names += ["time zone", "client_encoding"]
        for taken_back in names:
            for is_local in (False, True):
                self.values.pop((taken_back, is_local), None)
            if "." in taken_back or taken_back in _NOT_AT_DEFAULT:
                self.values[taken_back, False] = DEFAULT
        self._fingerprint = None

    def _control_savepoint(self, verb: str, name: str) -> None:
        if verb == "SAVEPOINT":
            self._savepoints.append((name, self.snapshot()))
            return
        names = [known for known, _ in self._savepoints]
        if name not in names:
            # Opened where nobody looked; what was set since is not known.
            self.make_unique()
            return
        position = len(names) - 1 - names[::-1].index(name)
        if verb == "RELEASE":
            del self._savepoints[position:]
        else:
            self.restore(self._savepoints[position][1])
            del self._savepoints[position + 1 :]

"""Reads of rows by their primary key, which other rows of the table do not concern.

A SELECT that pins the key depends on those rows and on the rest of their table alone, if it finds
all of them: a row that is there is changed by no INSERT. Where it finds fewer, it depends on the
table.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any, NamedTuple

from cachalot.core.collecting import RowsRead, nonces_by_key
from cachalot.core.reading.pinned import Pinned
from cachalot.core.rows import ROW_KEYS, Key, RowKey, are_told_apart, row_keys
from cachalot.core.schema.introspection import Catalogue
from cachalot.core.schema.version_keys import rest_key, row_keys_of, version_keys
from cachalot.core.sql.names import canonical

# Of each text.
_MAX_ASKED = 1000


class ByRows:
    """What all reads of one text have in common that pin the ``key`` of a canonical ``table``.

    ``version_keys`` are those of the other tables and of the rest of this one.
    """

    __slots__ = ("_asked", "_row_key", "db_alias", "key", "table", "version_keys")

    def __init__(self, db_alias: str, table: str, key: Key, others: frozenset[str]) -> None:
        self.db_alias = db_alias
        self.table = table
        self.key = key
        self.version_keys = (*version_keys(db_alias, others), rest_key(db_alias, table))
        self._row_key = row_keys_of(db_alias, table)
        # By the one row that was asked for.
        self._asked: dict[Any, RowsAsked] = {}

    def asked(self, pinned: Pinned, values: tuple[Any, ...]) -> RowsAsked | None:
        """Return the rows that a read with these values asks for; None if tables count whole."""
        # Other values need not have a hash.
        is_one = len(values) == 1 and type(values[0]) in ROW_KEYS
        known = self._asked.get(values[0]) if is_one else None
        if known is not None and type(values[0]) is known.kind:
            return known
        if pinned.column != self.key.column:
            return None
        rows = row_keys(self.key, values)
        if not rows:
            return None
        # In the same order everywhere.
        of_rows = map(self._row_key, sorted(rows))
        asked = RowsAsked(
            self, rows, pinned.position, (*self.version_keys, *of_rows), type(values[0])
        )
        if is_one:
            if len(self._asked) >= _MAX_ASKED:
                self._asked.clear()
            self._asked[values[0]] = asked
        return asked


class RowsAsked(NamedTuple):
    """The rows that one read asks for, and the version keys that it depends on if it finds all.

    ``position`` is that of their key among the columns of the result, None if it is not selected;
    ``kind`` is the type of the values by which the read asks for them.
    """

    by_rows: ByRows
    rows: frozenset[RowKey]
    position: int | None
    version_keys: tuple[str, ...]
    kind: type

    def told(self, nonces: tuple[str, ...]) -> tuple[dict[str, str], RowsRead]:
        """Return the nonces and the rows as ``Collector.depend()`` takes them."""
        place = self.by_rows.db_alias, self.by_rows.table
        return nonces_by_key(self.version_keys, nonces), {place: self.rows}

    def are_found(self, result: list[Any]) -> bool:
        """Whether all that were asked for are among the rows of a result."""
        if len(self.rows) == 1 or not result:
            return bool(result)
        if self.position is None:
            return False
        return self.rows == _keys_in(result, self.position, self.by_rows.key.kind)


def _keys_in(rows: Iterable[Any], position: int, kind: str) -> set[object]:
    """Return the keys of rows as the driver gives them."""
    keys = {row[position] for row in rows}
    if kind == "uuid":  # MariaDB's driver gives texts
        keys = {uuid.UUID(key) if type(key) is str else key for key in keys}
    return keys


def by_rows_of(
    db_alias: str, schema: Catalogue, pinned: Pinned, sources: list[str]
) -> ByRows | None:
    """Return how a SELECT depends on rows that reads each of ``sources`` once for each time there.

    None if its tables count whole.
    """
    named = [canonical(source) for source in sources]
    table = canonical(pinned.table)
    key = schema.keys.get(table)
    if key is None or key.column != pinned.column or not are_told_apart():
        return None
    others = frozenset(named) - {table}
    beside = schema.read_by(others)
    if named.count(table) != 1 or table in beside or schema.read_by(frozenset({table})) != {table}:
        return None
    return ByRows(db_alias, table, key, beside)

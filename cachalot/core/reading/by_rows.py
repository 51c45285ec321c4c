"""Reads of rows by their primary key, which other rows of the table do not concern.

A SELECT that pins the key depends on those rows and on the rest of their table alone, if it finds
all of them: a row that is there is changed by no INSERT. Where it finds fewer, it depends on the
table.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any, NamedTuple

from cachalot.core.reading.pinned import Pinned
from cachalot.core.rows import Key, RowKey, are_told_apart, row_keys
from cachalot.core.schema.introspection import Catalogue
from cachalot.core.schema.version_keys import rest_key, row_key, version_keys
from cachalot.core.sql.names import canonical


class ByRows(NamedTuple):
    """What all reads of one text have in common that pin the ``key`` of a canonical ``table``.

    ``version_keys`` are those of the other tables and of the rest of this one.
    """

    db_alias: str
    table: str
    key: Key
    version_keys: tuple[str, ...]

    def asked(self, pinned: Pinned | None) -> RowsAsked | None:
        """Return the rows that a read asks for; None where its tables count whole."""
        if pinned is None or pinned.column != self.key.column:
            return None
        rows = row_keys(self.key, pinned.values)
        if not rows:
            return None
        of_rows = [row_key(self.db_alias, self.table, row) for row in rows]
        return RowsAsked(self, rows, pinned.position, (*self.version_keys, *of_rows))


class RowsAsked(NamedTuple):
    """The rows that one read asks for, and the version keys that it depends on if it finds all.

    ``position`` is that of their key among the columns of the result, None if it is not selected.
    """

    by_rows: ByRows
    rows: frozenset[RowKey]
    position: int | None
    version_keys: tuple[str, ...]

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
    return ByRows(
        db_alias, table, key, (*version_keys(db_alias, beside), rest_key(db_alias, table))
    )

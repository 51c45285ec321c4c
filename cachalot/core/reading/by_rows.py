"""Reads of rows by their primary key or another unique column, which other rows do not concern.

A SELECT that pins the key depends on those rows and on the rest of their table alone, if it finds
all of them: a row that is there is changed by no INSERT. Where it finds fewer, it depends on the
table. One that pins another unique column depends likewise on the row that it finds, which only
the result names: no other row can take the value as long as that one has it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from cachalot.core.collecting import RowsRead, nonces_by_key
from cachalot.core.reading.pinned import (
    Pinned,
    joined_on,
    key_columns_of,
    pinned_by_read,
    selected_by,
)
from cachalot.core.rows import ROW_KEYS, Column, Key, RowKey, are_told_apart, as_stored, row_keys
from cachalot.core.schema.introspection import Catalogue
from cachalot.core.schema.tables import display_name
from cachalot.core.schema.version_keys import rest_key, row_keys_of, version_keys
from cachalot.core.sql.names import canonical

# Of each text.
_MAX_ASKED = 1000
#: That of a column among those of a result; a key of several columns has one of each.
Position = int | tuple[int, ...]


class ByRows:
    """What all reads of one text have in common that pin the ``key`` of a canonical table.

    It is the first of ``tables``; of the others the rows of the same keys are joined. ``position``
    is that of the key among the columns of the result, None if it is not selected; ``columns`` are
    those of the key as the model has them. ``version_keys`` are those of ``beside``, which are read
    whole, and of the rest of ``tables``.
    """

    __slots__ = ("_asked", "_row_keys", "columns", "key", "places", "position", "version_keys")

    def __init__(
        self,
        db_alias: str,
        tables: Sequence[str],
        key: Key,
        beside: frozenset[str],
        position: Position | None,
        columns: tuple[str, ...],
    ) -> None:
        self.places = [(db_alias, table) for table in tables]
        self.key = key
        self.position = position
        self.columns = columns
        rests = [rest_key(db_alias, table) for table in tables]
        self.version_keys = (*version_keys(db_alias, beside), *rests)
        self._row_keys = [row_keys_of(db_alias, table) for table in tables]
        # By the one row that was asked for.
        self._asked: dict[Any, RowsAsked] = {}

    def pinned_by(self, compiler: Any) -> Pinned | None:
        """Return the condition on the key that a compiler's query has."""
        return _pinned(compiler, self.key.column)

    def asked(self, values: tuple[Any, ...]) -> RowsAsked | None:
        """Return the rows that a read with these values asks for; None if tables count whole."""
        # Other values need not have a hash.
        is_one = len(values) == 1 and type(values[0]) in ROW_KEYS
        known = self._asked.get(values[0]) if is_one else None
        if known is not None and type(values[0]) is known.kind:
            return known
        rows = row_keys(self.key, values)
        if not rows:
            return None
        # In the same order everywhere.
        of_rows = [row_key(row) for row_key in self._row_keys for row in sorted(rows)]
        asked = RowsAsked(self, rows, (*self.version_keys, *of_rows), type(values[0]))
        if is_one:
            if len(self._asked) >= _MAX_ASKED:
                self._asked.clear()
            self._asked[values[0]] = asked
        return asked


class RowsAsked(NamedTuple):
    """The rows that one read asks for, and the version keys that it depends on if it finds all.

    ``kind`` is the type of the values by which the read asks for them.
    """

    by_rows: ByRows
    rows: frozenset[RowKey]
    version_keys: tuple[str, ...]
    kind: type

    def told(self, nonces: tuple[str, ...]) -> tuple[dict[str, str], RowsRead]:
        """Return the nonces and the rows as ``Collector.depend()`` takes them."""
        rows = dict.fromkeys(self.by_rows.places, self.rows)
        return nonces_by_key(self.version_keys, nonces), rows

    def keys(self) -> tuple[RowKey, ...]:
        """Return the rows' keys, sorted, as their model has them."""
        column, columns = self.by_rows.key.column, self.by_rows.columns
        rows: Iterable[Any] = self.rows
        if type(column) is tuple and set(column) == set(columns):
            order = list(map(column.index, columns))
            rows = [tuple([row[at] for at in order]) for row in rows]
        return tuple(sorted(rows))

    def named(self) -> tuple[tuple[str, RowKey], ...]:
        """Return the rows as ``events.Read`` has them."""
        keys = self.keys()
        return tuple((display_name(table), key) for _, table in self.by_rows.places for key in keys)

    def are_found(self, result: list[Any]) -> bool:
        """Whether all that were asked for are among the rows of a result."""
        if len(self.rows) == 1 or not result:
            return bool(result)
        if self.by_rows.position is None:
            return False
        return self.rows == _keys_in(result, self.by_rows.position, self.by_rows.key)


class ByValue:
    """What all reads of one text have in common that pin one value of a ``unique`` column.

    ``by_rows`` tells how they would depend on the row, had they named it by its key, which they
    select. ``version_keys`` are those of the other tables and of the rest of this one.
    """

    __slots__ = ("_unique", "by_rows", "column", "version_keys")

    def __init__(self, by_rows: ByRows, unique: Key) -> None:
        assert isinstance(unique.column, str)
        self.by_rows = by_rows
        self.column = unique.column
        self.version_keys = by_rows.version_keys
        self._unique = unique

    def pinned_by(self, compiler: Any) -> Pinned | None:
        """Return the condition on the column that a compiler's query has."""
        return _pinned(compiler, self.column)

    def asked(self, values: tuple[Any, ...]) -> ByValue | None:
        """Return how a read with these values asks for its row; None if tables count whole."""
        is_one = len(values) == 1 and as_stored(self._unique, values[0]) is not None
        return self if is_one else None

    def found_in(self, result: Any) -> RowsAsked | None:
        """Return the row that a result is or has, as if it had been asked for; None for none."""
        assert self.by_rows.position is not None
        rows = result if type(result) is list else [result]
        keys = _keys_in(rows, self.by_rows.position, self.by_rows.key)
        return self.by_rows.asked(tuple(keys)) if len(keys) == 1 else None


#: What one read asks for.
Asked = RowsAsked | ByValue


def _pinned(compiler: Any, column: Column) -> Pinned | None:
    return next((each for each in pinned_by_read(compiler) if each.column == column), None)


def _keys_in(rows: Iterable[Any], position: Position, key: Key) -> set[Any]:
    """Return the keys of rows, whatever the driver makes of them."""
    if type(position) is tuple:
        places = list(zip(position, key.kind, strict=True))
        return {tuple([_value(row[at], kind) for at, kind in places]) for row in rows}
    if key.kind == "uuid":
        return {_value(row[position], "uuid") for row in rows}
    return {row[position] for row in rows}


def _value(value: Any, kind: str) -> Any:
    # MariaDB's driver gives texts.
    return uuid.UUID(value) if kind == "uuid" and type(value) is str else value


def _position_of(column: Column, selected: list[Column | None]) -> Position | None:
    if type(column) is not tuple:
        return selected.index(column) if column in selected else None
    positions = [selected.index(each) for each in column if each in selected]
    return tuple(positions) if len(positions) == len(column) else None


def by_rows_of(
    db_alias: str, schema: Catalogue, compiler: Any, sources: list[str], aliases: list[str]
) -> ByRows | ByValue | None:
    """Return how a SELECT depends on rows that reads each of ``sources`` once for each time there.

    ``aliases`` are those of its own FROM clause. None if its tables count whole.
    """
    pinned = pinned_by_read(compiler)
    if not pinned or not are_told_apart():
        return None
    table = canonical(pinned[0].table)
    key = schema.keys.get(table)
    if key is None:
        return None
    columns = {each.column for each in pinned}
    unique = None
    if key.column not in columns:
        candidates = schema.unique.get(table, frozenset())
        unique = min((each for each in candidates if each.column in columns), default=None)
        if unique is None:
            return None
    named = [canonical(source) for source in sources]

    def is_read_once(name: str) -> bool:
        return named.count(name) == 1 and schema.read_by(frozenset({name})) == {name}

    if not is_read_once(table):
        return None
    tables = [table]
    if unique is None and type(key.column) is str:
        for each, column in joined_on(compiler, key.column, aliases).items():
            joined = canonical(each)
            if schema.keys.get(joined) == Key(column, key.kind) and is_read_once(joined):
                tables.append(joined)
    beside = schema.read_by(frozenset(named).difference(tables))
    if not beside.isdisjoint(tables):
        return None
    position = _position_of(key.column, selected_by(compiler))
    as_modelled = key_columns_of(compiler.query)
    by_rows = ByRows(db_alias, tables, key, beside, position, as_modelled)
    if unique is None:
        return by_rows
    return None if position is None else ByValue(by_rows, unique)

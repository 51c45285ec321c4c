"""Versions finer than a table: those of its rows, and of the rest of it.

Whatever writes a table gives it a new version. A write that is known to change some rows alone, or
to add new ones, leaves the version of the *rest* as it is, and so what was read of other rows by
their keys. Every other write renews the rest.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from cachalot.settings import has_own_table_keys

_Value = int | str | uuid.UUID
#: What tells a row of its table.
RowKey = _Value | tuple[_Value, ...]
#: The rows that a write changes, by canonical table. Of a table that is not named, any may change.
Rows = Mapping[str, frozenset[RowKey]]
ANY_ROW: Rows = {}
NO_ROWS: frozenset[RowKey] = frozenset()

#: Of more rows than these the rest is renewed in their place.
MAX_ROWS = 100

_TYPES: dict[str, type[Any]] = {"integer": int, "text": str, "uuid": uuid.UUID}
#: The types of keys of one column.
ROW_KEYS = frozenset(_TYPES.values())
# Of the largest integers that a database keeps.
_SIZES = range(-(2**63), 2**63)


#: One column, or those that a key has together, in the order of their names.
Column = str | tuple[str, ...]


class Key(NamedTuple):
    """A column that is a table's primary key or unique, and what its values are.

    ``kind`` is "integer", "text" or "uuid". Values of a primary key are equal only to themselves.
    A key of several columns has a tuple of each, and so have its values.
    """

    column: Column
    kind: str | tuple[str, ...]

    @classmethod
    def of(cls, parts: Iterable[Key]) -> Key:
        """Return the key that has these columns."""
        columns, kinds = zip(*sorted(parts), strict=True)
        return cls(columns[0], kinds[0]) if len(columns) == 1 else cls(columns, kinds)


def are_told_apart() -> bool:
    """Whether rows have versions: a project's own ``CACHALOT_TABLE_KEYGEN`` cannot name them."""
    return not has_own_table_keys()


def row_keys(key: Key, values: Iterable[Any]) -> frozenset[RowKey] | None:
    """Return the rows with these values of the primary key; None if that cannot be told.

    Values of one row are equal whoever gives them: those of other types the database converts.
    """
    found: set[RowKey] = set()
    for value in values:
        value = as_stored(key, value)
        if value is None:
            return None
        found.add(value)
    return frozenset(found) if len(found) <= MAX_ROWS else None


def as_stored(key: Key, value: Any) -> RowKey | None:
    """Return a value of a column as the column has it; None if the database converts it."""
    if isinstance(key.kind, tuple):
        parts = [as_stored(Key("", kind), part) for kind, part in zip(key.kind, value, strict=True)]
        return None if None in parts else tuple(parts)  # type: ignore[arg-type]
    if type(value) is uuid.UUID and key.kind == "text":
        # As Django stores it (``UUIDField.get_db_prep_value()``).
        return value.hex
    if type(value) is not _TYPES[key.kind] or (type(value) is int and value not in _SIZES):
        return None
    return value  # type: ignore[no-any-return]

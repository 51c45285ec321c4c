"""What one open transaction sees on top of the shared cache."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from cachalot.core.cache.entries import Stored
from cachalot.core.cache.versions import clock, new_nonce
from cachalot.core.rows import ANY_ROW, MAX_ROWS, NO_ROWS, RowKey, Rows

#: Bytes of results that one transaction keeps; the oldest go first.
OVERLAY_BYTES = 16 * 1024 * 1024

# What an entry takes besides its payload: its key, its versions, its place in a dictionary.
_ENTRY_BYTES = 500


class Entry(NamedTuple):
    """A result read in the transaction.

    ``shared`` are the nonces in the shared cache and ``private`` those of the overlay (None for a
    table the transaction had not written), both as read before the query and in the order of the
    sorted ``tables``. ``shared`` is None for a result of a snapshot. ``published`` are the nonces
    under which others may find it.
    """

    tables: tuple[str, ...]
    shared: tuple[str, ...] | None
    private: tuple[str | None, ...]
    stored: Stored
    published: tuple[str, ...] | None


class Level:
    """What happened since one savepoint (``name``), or since the transaction began (None)."""

    def __init__(self, name: str | None) -> None:
        self.name = name
        self.versions: dict[str, str] = {}
        #: Which rows of these tables were written, of those of which not any may have been.
        self.rows: dict[str, frozenset[RowKey]] = {}
        self.entries: dict[str, Entry] = {}

    def add(self, versions: Mapping[str, str], rows: Rows) -> None:
        """Take in what was written since: private versions of tables, and their ``rows``."""
        for table in versions:
            if table in self.versions and table not in self.rows:
                continue  # any row was
            known, more = self.rows.pop(table, NO_ROWS), rows.get(table)
            if more is not None and len(known | more) <= MAX_ROWS:
                self.rows[table] = known | more
        self.versions.update(versions)


class Overlay:
    """The private versions and entries of a transaction, one level a savepoint.

    Rolling back to a savepoint drops its level: the older versions are in force again, and with
    them the entries stored under them.
    """

    def __init__(self) -> None:
        self.levels = [Level(None)]
        #: When each table was last written here: what ``get_last_invalidation()`` answers inside.
        self.touched_at: dict[str, float] = {}
        #: The version of the schema that told what the first write changes; None for no write.
        self.schema: object = None
        self._bytes = 0

    @property
    def dirty(self) -> frozenset[str]:
        """The tables that the transaction has written and not rolled back."""
        return frozenset().union(*(level.versions for level in self.levels))

    def note_schema(self, version: object) -> None:
        """Note the version of the schema that tells what is written, unless it has been noted."""
        if self.schema is None:
            self.schema = version

    def rows(self) -> Rows:
        """Return the rows that were written, of those dirty tables of which not any may be."""
        dirty = Level(None)
        for level in self.levels:
            dirty.add(level.versions, level.rows)
        return dirty.rows

    def touch(self, tables: Iterable[str], rows: Rows = ANY_ROW) -> None:
        """Give ``tables`` new private versions: the transaction has written them.

        Of those that ``rows`` names no others were.
        """
        versions = {table: new_nonce() for table in tables}
        self.levels[-1].add(versions, rows)
        for table in versions:
            self.touched_at[table] = clock()

    def versions(self, tables: Sequence[str]) -> tuple[str | None, ...]:
        """Return the private version of each table, None for one that was not written."""
        if len(self.levels) == 1:
            return tuple(map(self.levels[0].versions.get, tables))
        return tuple(map(self._version, tables))

    def _version(self, table: str) -> str | None:
        for level in reversed(self.levels):
            if version := level.versions.get(table):
                return version
        return None

    def get(
        self, key: str, shared: tuple[str, ...] | None, private: tuple[str | None, ...]
    ) -> Stored | None:
        """Return the result stored under exactly these versions."""
        for level in reversed(self.levels):
            entry = level.entries.get(key)
            if entry is not None and entry.shared == shared and entry.private == private:
                return entry.stored
        return None

    def put(self, level: Level, key: str, entry: Entry) -> None:
        """Keep ``entry`` in ``level`` as long as the level and the space allow."""
        if _size(entry) > OVERLAY_BYTES or level not in self.levels:
            return
        replaced = level.entries.pop(key, None)
        if replaced is not None:
            self._bytes -= _size(replaced)
        level.entries[key] = entry
        self._bytes += _size(entry)
        for oldest in self.levels:
            while self._bytes > OVERLAY_BYTES and oldest.entries:
                self._drop(oldest, next(iter(oldest.entries)))

    def _drop(self, level: Level, key: str) -> None:
        self._bytes -= _size(level.entries.pop(key))

    def publishable(self) -> Iterator[tuple[str, Entry]]:
        """Yield the entries that other connections may see: all their tables are clean."""
        dirty = self.dirty
        for level in self.levels:
            for key, entry in level.entries.items():
                if entry.shared is not None and dirty.isdisjoint(entry.tables):
                    yield key, entry

    def forget_entries(self) -> None:
        """Drop every result; what was written stays dirty."""
        for level in self.levels:
            level.entries.clear()
        self._bytes = 0

    def savepoint(self, name: str) -> None:
        """Open a level. The same savepoint reported twice opens one."""
        if self.levels[-1].name != name or self.levels[-1].versions or self.levels[-1].entries:
            self.levels.append(Level(name))

    def release(self, name: str) -> None:
        """Merge the level of a savepoint, and those above it, into the one below."""
        position = self._position(name)
        if position is None:
            return
        below = self.levels[position - 1]
        for level in self.levels[position:]:
            below.add(level.versions, level.rows)
            for key, entry in level.entries.items():
                replaced = below.entries.pop(key, None)
                if replaced is not None:
                    self._bytes -= _size(replaced)
                below.entries[key] = entry
        del self.levels[position:]

    def rollback_to(self, name: str) -> frozenset[str]:
        """Drop what happened since a savepoint, which stays open; return the tables written since.

        For a savepoint that was never reported, no older entry can be trusted: all are dropped
        and every table written so far is taken as written again.
        """
        position = self._position(name)
        if position is None:
            undone = self.dirty
            self.levels = [Level(None)]
            self._bytes = 0
            self.touch(undone)
            return undone
        undone = frozenset(table for level in self.levels[position:] for table in level.versions)
        for level in self.levels[position:]:
            for key in list(level.entries):
                self._drop(level, key)
        self.levels[position:] = [Level(name)]
        return undone

    def _position(self, name: str) -> int | None:
        for position in range(len(self.levels) - 1, 0, -1):
            if self.levels[position].name == name:
                return position
        return None


def _size(entry: Entry) -> int:
    return len(entry.stored.payload) + _ENTRY_BYTES

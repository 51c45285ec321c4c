"""What a piece of code reads: the versions it depends on, or why they cannot be told.

Each read and each write tells the collectors around it, in its thread or task alone. Without one
nothing is put together: what it costs is one look at a context variable.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from cachalot.core.locks import fork_safe_lock
from cachalot.core.rows import RowKey

#: Rows of canonical tables, each with its alias.
RowsRead = Mapping[tuple[str, str], Iterable[RowKey]]
_NONE_READ: RowsRead = {}

# Per thread and per asyncio task; asgiref carries it into the thread that runs the ORM.
_innermost: ContextVar[Collector | None] = ContextVar("cachalot_collector", default=None)

_lock = fork_safe_lock()

TWO_VERSIONS = "a table that it reads was written while it ran"
PENDING = "a table that it reads is being written"
_TWO_ORIGINS = "it reads one database as two tenants, or in two states of its session"


class Collector:
    """A context manager that is told of all reads and writes in its block.

    What it is told goes on to the collectors around it. It may be told by several threads, as
    asgiref runs them for one task; once its block is left, it hears nothing more.
    """

    #: Whether it wants to be told of each read: ``note()``.
    hears = False

    def __init__(self) -> None:
        #: The nonces of all that was read, by version key, as they were before it was read.
        self.versions: dict[str, str] = {}
        #: The canonical tables that were read, by alias.
        self.tables: dict[str, frozenset[str]] = {}
        #: The rows that were read of tables whose own versions need not be among these.
        self.rows: dict[tuple[str, str], set[RowKey]] = {}
        #: The keys of versions that belong to no table.
        self.own: set[str] = set()
        #: By alias, what told whose rows they are.
        self.origins: dict[str, bytes] = {}
        #: When the first of what was read expires, in seconds since the epoch; None for never.
        self.expires_at: float | None = None
        #: Why what was read does not depend on these versions alone; None as long as it does.
        self.reason: str | None = None
        self._is_open = False
        self._is_heard = False
        self._outer: Collector | None = None
        self._doubts: list[Doubt] = []

    def __enter__(self) -> Any:
        self._outer = _innermost.get()
        self._is_heard = self.hears or (self._outer is not None and self._outer._is_heard)
        _innermost.set(self)
        self._is_open = True
        return self

    def __exit__(self, *exc_info: object) -> None:
        with _lock:
            for doubt in self._doubts:
                if doubt.is_settled:
                    continue
                if doubt.versions is None:
                    self.reason = self.reason or PENDING
                else:
                    self._merge(doubt.versions)
            self._doubts.clear()
            self._is_open = False
        _innermost.set(self._outer)

    def depend(
        self,
        versions: Mapping[str, str],
        expires_at: float | None = None,
        rows: RowsRead = _NONE_READ,
        own: Iterable[str] = (),
    ) -> None:
        """Take in the nonces of something as they were before it was read, by version key.

        Those of ``rows``, and of the rest of their tables, stand for these tables. ``own`` are keys
        that belong to no table.
        """
        for collector in self._all_open():
            with _lock:
                collector._merge(versions)
                collector.own.update(own)
                for place, read in rows.items():
                    collector.rows.setdefault(place, set()).update(read)
                if expires_at is not None:
                    known = collector.expires_at
                    collector.expires_at = expires_at if known is None else min(known, expires_at)

    def _merge(self, versions: Mapping[str, str]) -> None:
        for key, nonce in versions.items():
            if self.versions.setdefault(key, nonce) != nonce:
                self.reason = self.reason or TWO_VERSIONS

    def doubt(self, versions: Mapping[str, str] | None) -> Doubt:
        """Take in something that is about to be read, of which only the result tells more.

        It depends on ``versions`` unless the doubt is settled before the block is left. None is
        that these cannot be told.
        """
        doubt = Doubt(self, versions)
        for collector in self._all_open():
            with _lock:
                collector._doubts.append(doubt)
        return doubt

    def read(self, db_alias: str, tables: frozenset[str], origin: bytes) -> None:
        """Take in which tables those are, and what tells whose rows are read."""
        for collector in self._all_open():
            with _lock:
                collector.tables[db_alias] = collector.tables.get(db_alias, frozenset()) | tables
                if collector.origins.setdefault(db_alias, origin) != origin:
                    collector.reason = collector.reason or _TWO_ORIGINS

    def spoil(self, reason: str) -> None:
        """Take in that something is read or done of which no version tells."""
        for collector in self._all_open():
            with _lock:
                collector.reason = collector.reason or reason

    def tell(self, event: Any) -> None:
        """Have an event noted by all who want to hear of it."""
        for collector in self._all_open():
            if collector.hears:
                collector.note(event)

    def note(self, event: Any) -> None:
        """Do something with an event, where the collector ``hears``."""

    def _all_open(self) -> Iterator[Collector]:
        collector: Collector | None = self
        while collector is not None:
            if collector._is_open:
                yield collector
            collector = collector._outer


class Doubt:
    """A read whose result has not come yet. One that never comes, or raises, leaves it so."""

    __slots__ = ("_collector", "is_settled", "versions")

    def __init__(self, collector: Collector, versions: Mapping[str, str] | None) -> None:
        self._collector = collector
        self.versions = versions
        self.is_settled = False

    def settle(self, versions: Mapping[str, str], rows: RowsRead) -> None:
        """Have it depend on these versions and rows instead."""
        # In this order: a collector that is left meanwhile has the one or the other.
        self._collector.depend(versions, None, rows)
        self.is_settled = True


def current() -> Collector | None:
    """Return the innermost collector of this context."""
    return _innermost.get()


def is_heard() -> bool:
    """Whether a collector of this context wants to be told of each read."""
    collector = _innermost.get()
    return collector is not None and collector._is_heard


def asks_for_versions() -> bool:
    """Whether a collector of this context wants more than to be told of each read."""
    collector = _innermost.get()
    return collector is not None and not all(each.hears for each in collector._all_open())


def spoil(reason: str) -> None:
    """Tell the collectors of this context, if any, what ``Collector.spoil()`` is told."""
    collector = _innermost.get()
    if collector is not None:
        collector.spoil(reason)


@contextmanager
def unheard() -> Iterator[None]:
    """Tell nobody in this context of what happens in the body."""
    token = _innermost.set(None)
    try:
        yield
    finally:
        _innermost.reset(token)


def nonces_by_key(keys: Sequence[str], nonces: Sequence[str]) -> dict[str, str]:
    """Return nonces as ``Collector.depend()`` takes them."""
    return dict(zip(keys, nonces, strict=True))

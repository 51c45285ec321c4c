"""How tables are invalidated: before a change of them shows and after, whatever comes of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TypeVar

from django.db import InterfaceError, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from cachalot.core import events
from cachalot.core.cache.door import guard_of
from cachalot.core.cache.recent import recent_versions
from cachalot.core.cache.versions import Mark
from cachalot.core.connection.databases import alias_reached_by, aliases_changing_with
from cachalot.core.connection.driver import is_at_work
from cachalot.core.connection.state import state_of
from cachalot.core.interruptions import is_interruption
from cachalot.core.rows import ANY_ROW, Rows
from cachalot.core.schema.introspection import SCHEMA
from cachalot.core.schema.tables import display_name
from cachalot.core.schema.version_keys import keys_to_renew
from cachalot.core.writing.plans import Renewal, renewal_of
from cachalot.settings import cachalot_settings
from cachalot.signals import post_invalidation

logger = logging.getLogger("cachalot")

T = TypeVar("T")


def announce(db_alias: str, tables: Iterable[str]) -> None:
    """Send ``post_invalidation`` for each table and each alias through which it may show."""
    if events.is_heard() and (announced := frozenset(tables) - {SCHEMA}):
        names = tuple(sorted(map(display_name, announced)))
        events.tell(events.Invalidation(db_alias, names))
    if not post_invalidation.receivers:
        return
    for alias in aliases_changing_with(db_alias):
        for table in sorted(frozenset(tables) - {SCHEMA}):
            # Django logs what a receiver raises.
            for _, error in post_invalidation.send_robust(display_name(table), db_alias=alias):
                if isinstance(error, Exception) and is_interruption(error):
                    raise error


class Invalidation:
    """Keeps tables pending while a change of them becomes visible; then renews their versions.

    Call ``begin()``, what makes the change visible, and ``end()``, all in one ``try``; whatever it
    raises goes to ``fail()``, for nobody knows how far it came. ``renewal`` is that of the tables,
    if it is at hand, and ``rows`` are those of them that change, where not any may. ``follows`` has
    the version of the schema read along, ``fetches`` tells that the change may be made only while
    its rows are fetched, ``announces`` that the signals wait for nothing else if it is final only
    later.
    """

    def __init__(
        self,
        connection: BaseDatabaseWrapper,
        tables: frozenset[str],
        renewal: Renewal | None = None,
        rows: Rows = ANY_ROW,
        *,
        follows: bool = False,
        fetches: bool = False,
        announces: bool = False,
    ) -> None:
        self._connection = connection
        self._fetches = fetches
        self._announces = announces
        self._tables = tables
        if tables and renewal is None:
            renewal = renewal_of(connection, tables, rows)
        self._keys = renewal.keys if tables and renewal is not None else {}
        self._schema_key = renewal.schema_key if follows and renewal is not None else None
        #: The version of the schema as it was when the tables had been marked pending or renewed
        #: last; None where it was not asked for or is not there.
        self.schema: object = None
        self._guard = guard_of()
        self._mark = Mark()

    def begin(self) -> None:
        """Mark the tables pending. Raise ``OperationalError`` if the change is not to be made."""
        if not self._keys:
            return
        try:
            self.schema = self._guard.mark_pending(self._keys, self._schema_key, self._mark)
        except Exception as error:
            if is_interruption(error):
                raise
            # A database error, so that Django rolls back what it was about to commit.
            raise OperationalError(
                f"Nothing was written, because the cache {self._guard.cache_alias!r} failed "
                f"({error!r}) and CACHALOT_CACHE_ERRORS is 'raise'."
            ) from error

    def around(self, run: Callable[[], T]) -> T:
        """Run what makes the change visible between ``begin()`` and ``end()``."""
        try:
            self.begin()
            result = run()
            self.end()
        except BaseException as error:
            self.fail(error)
            raise
        return result

    def add(self, tables: frozenset[str]) -> None:
        """Keep more tables pending, which the change turns out to concern as well."""
        if not tables:
            return
        self._keys = {**self._keys, **renewal_of(self._connection, tables).keys}
        self._tables |= tables
        self.begin()

    def end(self) -> bool:
        """Renew the versions if the change is visible, and return whether it is.

        Otherwise the tables stay pending, and ``finish()`` or ``abandon()`` is called later.
        """
        if not self._keys:
            return True
        if self._fetches or self._connection.vendor != "sqlite":
            state = state_of(self._connection)
            if state.is_at_work():
                state.unfinished.append(self)
                return False
        self.schema = self._guard.renew(self._keys, self._schema_key, self._mark)
        return True

    def finish(self) -> None:
        """Renew the versions: what was under way is final."""
        self._guard.renew(self._keys, mark=self._mark)
        if self._announces:
            announce(alias_reached_by(self._connection), self._tables)

    def abandon(self) -> None:
        """Leave the tables pending: nobody will know when the server is done.

        The mark's own end is the first moment at which nothing older can be seen.
        """
        self._guard.mark_pending_again(self._keys, self._mark)

    def fail(self, error: BaseException) -> None:
        """Account for a change of which nobody knows whether it was made."""
        if not self._keys:
            return
        try:
            if is_at_work(self._connection):
                # Drivers do not cancel what an exception of the program leaves waiting.
                state_of(self._connection).unfinished.append(self)
                self.abandon()
            elif isinstance(error, (InterfaceError, OperationalError)) and _is_lost(
                self._connection
            ):
                self.abandon()
            else:
                self._guard.renew(self._keys, mark=self._mark)
        except BaseException:
            self._guard.owe(self._keys, self._mark)
            raise


def invalidate_around(
    connection: BaseDatabaseWrapper, tables: frozenset[str], run: Callable[[], T]
) -> T:
    """Run what makes a change of ``tables`` visible, and invalidate them before and after."""
    return Invalidation(connection, tables).around(run)


def look_again(connection: BaseDatabaseWrapper, tables: frozenset[str]) -> None:
    """Have the next read ask for the versions of ``tables``: ``CACHALOT_MAX_STALENESS`` ends here.

    Where the database refused a write, or took it back, it may know of rows that this process has
    not yet seen. ``get_or_create()`` looks for them.
    """
    if cachalot_settings.CACHALOT_MAX_STALENESS:
        recent_versions.forget(keys_to_renew(alias_reached_by(connection), tables))


def finish(connection: BaseDatabaseWrapper) -> None:
    """Account for changes whose effect has become final since they were made."""
    state = state_of(connection)
    if not state.unfinished or state.is_at_work():
        return
    state.changes += 1
    while state.unfinished:
        state.unfinished[-1].finish()
        state.unfinished.pop()


def _is_lost(connection: BaseDatabaseWrapper) -> bool:
    """Whether the connection broke, so that nobody knows what became of its last statement."""
    if connection.connection is None:
        return True
    try:
        return not connection.is_usable()
    except Exception as error:
        if is_interruption(error):
            raise
        return True


def invalidate_shared(
    db_alias: str, tables: frozenset[str], cache_aliases: Iterable[str] | None = None
) -> None:
    """Renew the versions of ``tables`` in the given caches, by default the one in use."""
    if not tables:
        return
    for cache_alias in cache_aliases or (cachalot_settings.CACHALOT_CACHE,):
        guard_of(cache_alias).renew(keys_to_renew(db_alias, tables))

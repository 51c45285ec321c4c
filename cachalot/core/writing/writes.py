"""How a change invalidates: before it shows and after, whatever comes of it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from django.db import InterfaceError, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from cachalot.core import events
from cachalot.core.cache.door import guard_of
from cachalot.core.cache.recent import recent_versions
from cachalot.core.connection.databases import alias_reached_by, aliases_changing_with
from cachalot.core.connection.driver import is_at_work
from cachalot.core.connection.running import executing, frame_of_body
from cachalot.core.connection.state import is_tracked, state_of
from cachalot.core.interruptions import is_interruption
from cachalot.core.schema import catalogue
from cachalot.core.schema.tables import changed_with, display_name, known_tables
from cachalot.core.schema.version_keys import keys_to_renew, version_keys
from cachalot.settings import cachalot_settings
from cachalot.signals import post_invalidation

logger = logging.getLogger("cachalot")

T = TypeVar("T")


def announce(db_alias: str, tables: Iterable[str]) -> None:
    """Send ``post_invalidation`` for each table and each alias through which it may show."""
    if events.listeners and (announced := frozenset(tables) - {catalogue.SCHEMA}):
        names = tuple(sorted(map(display_name, announced)))
        events.tell(events.Invalidation(db_alias, names))
    for alias in aliases_changing_with(db_alias):
        for table in sorted(frozenset(tables) - {catalogue.SCHEMA}):
            results = post_invalidation.send_robust(display_name(table), db_alias=alias)
            for receiver, result in results:
                if isinstance(result, Exception):
                    if is_interruption(result):
                        raise result
                    logger.error(
                        "The receiver %r of post_invalidation failed for %r.",
                        receiver,
                        table,
                        exc_info=result,
                    )


class Invalidation:
    """Keeps tables pending while a change of them becomes visible; then renews their versions.

    Call ``begin()``, what makes the change visible, and ``end()``, all in one ``try``; whatever it
    raises goes to ``fail()``, for nobody knows how far it came. ``fetches`` tells that the change
    may be made only while its rows are fetched; ``announce`` is called if it is final only later.
    """

    def __init__(
        self,
        connection: BaseDatabaseWrapper,
        tables: frozenset[str],
        *,
        fetches: bool = False,
        announce: Callable[[], None] | None = None,
    ) -> None:
        self._connection = connection
        self._fetches = fetches
        self._announce = announce
        self._keys = keys_to_renew(alias_reached_by(connection), tables) if tables else {}
        self._guard = guard_of()

    def begin(self) -> None:
        """Mark the tables pending. Raise ``OperationalError`` if the change is not to be made."""
        if not self._keys:
            return
        try:
            self._guard.mark_pending(self._keys)
        except Exception as error:
            if is_interruption(error):
                raise
            # A database error, so that Django rolls back what it was about to commit.
            raise OperationalError(
                f"Nothing was written, because the cache {self._guard.cache_alias!r} failed "
                f"({error!r}) and CACHALOT_CACHE_ERRORS is 'raise'."
            ) from error

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
        self._guard.renew(self._keys)
        return True

    def finish(self) -> None:
        """Renew the versions: what was under way is final."""
        self._guard.renew(self._keys)
        if self._announce is not None:
            self._announce()

    def abandon(self) -> None:
        """Leave the tables pending: nobody will know when the server is done.

        The mark's own end is the first moment at which nothing older can be seen.
        """
        self._guard.mark_pending_again(self._keys)

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
                self._guard.renew(self._keys)
        except BaseException:
            self._guard.owe(self._keys)
            raise


def invalidate_around(
    connection: BaseDatabaseWrapper, tables: frozenset[str], run: Callable[[], T]
) -> T:
    """Run what makes a change of ``tables`` visible, and invalidate them before and after."""
    invalidation = Invalidation(connection, tables)
    try:
        invalidation.begin()
        result = run()
        invalidation.end()
    except BaseException as error:
        invalidation.fail(error)
        raise
    return result


def look_again(connection: BaseDatabaseWrapper, tables: frozenset[str]) -> None:
    """Have the next read ask for the versions of ``tables``: ``CACHALOT_MAX_STALENESS`` ends here.

    Where the database refused a write, or took it back, it may know of rows that this process has
    not yet seen. ``get_or_create()`` looks for them.
    """
    if cachalot_settings.CACHALOT_MAX_STALENESS:
        recent_versions.forget(version_keys(alias_reached_by(connection), tables))


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


class _Write:
    """A statement that writes tables, in a transaction or out of it."""

    def __init__(
        self,
        connection: BaseDatabaseWrapper,
        tables: Iterable[str],
        *,
        deletes: bool,
        commits: bool = False,
        fetches: bool = False,
    ) -> None:
        connection.ensure_connection()
        self._connection = connection
        self._state = state_of(connection)
        self._changed = changed_with(_with_sources(connection, frozenset(tables)), deletes)
        self._is_alone = not (self._state.is_in_transaction() or self._state.is_lost)
        self._marks = self._state.running.marks
        at_once = self._changed
        if self._is_alone:
            at_once -= self._state.running.pending()
        elif not (commits or self._state.is_lost):
            at_once = _untransactional(connection, at_once)
        self._at_once = at_once
        self._is_final = False
        self._invalidation = Invalidation(
            connection,
            at_once,
            fetches=fetches and self._is_alone,
            announce=self._announce if self._is_alone else None,
        )

    def begin(self, frame: FrameType | None) -> None:
        """Call it before the statement, which runs beneath ``frame``."""
        if self._is_alone and frame is not None:
            self._state.running.marks = (*self._marks, (frame, self._at_once))
        self._invalidation.begin()

    def end(self) -> None:
        """Call it when the statement has succeeded."""
        self._account()
        self._is_final = self._invalidation.end()

    def fail(self, error: BaseException) -> None:
        """Call it when the statement, ``begin()`` or ``end()`` has raised ``error``."""
        self._account()
        look_again(self._connection, self._changed)
        self._invalidation.fail(error)

    def _account(self) -> None:
        self._state.running.marks = self._marks
        self._state.changes += 1
        if not self._is_alone:
            self._state.overlay().touch(self._changed)

    def announce(self) -> None:
        """Send the signals that need to wait for nothing more."""
        if self._is_alone and self._is_final:
            self._announce()

    def _announce(self) -> None:
        announce(alias_reached_by(self._connection), self._at_once)


def write(
    connection: BaseDatabaseWrapper,
    tables: Iterable[str],
    run: Callable[[], T],
    *,
    deletes: bool = False,
    commits: bool = False,
    fetches: bool = False,
) -> T:
    """Run a statement that writes ``tables`` (canonical names) and account for it.

    ``deletes`` tells that it may remove rows, ``commits`` that it may commit even in a transaction,
    and ``fetches`` that it may be done only when its rows are fetched.
    """
    if not is_tracked(connection):
        return run()
    statement = _Write(connection, tables, deletes=deletes, commits=commits, fetches=fetches)
    try:
        statement.begin(sys._getframe())
        result = run()
        statement.end()
    except BaseException as error:
        statement.fail(error)
        raise
    statement.announce()
    return result


def write_compiled(compiler: Any, table: str, run: Callable[[], T], *, deletes: bool) -> T:
    """Run what executes the statement of a write compiler, which writes ``table``."""
    connection = compiler.connection

    def execute() -> T:
        with executing(state_of(connection).running, compiler):
            return run()

    return write(connection, (table,), execute, deletes=deletes)


@contextmanager
def writing(
    connection: BaseDatabaseWrapper,
    tables: Iterable[str],
    *,
    deletes: bool = False,
    commits: bool = False,
) -> Iterator[None]:
    """Do what ``write()`` does; the statement is run in the body."""
    if not is_tracked(connection):
        yield
        return
    statement = _Write(connection, tables, deletes=deletes, commits=commits)
    try:
        statement.begin(frame_of_body())
        yield
        statement.end()
    except BaseException as error:
        statement.fail(error)
        raise
    statement.announce()


def _with_sources(connection: BaseDatabaseWrapper, tables: frozenset[str]) -> frozenset[str]:
    """Add what a write to a view, or to an inheriting or partitioned table, changes beneath it."""
    try:
        return catalogue.catalogue_of(connection).with_sources(tables)
    except Exception as error:
        if is_interruption(error):
            raise
        logger.debug("The catalogue of %r could not be read: %r", connection.alias, error)
        return tables


def _untransactional(connection: BaseDatabaseWrapper, tables: frozenset[str]) -> frozenset[str]:
    """Return those of ``tables`` whose changes show before the COMMIT, and survive a rollback."""
    if not connection.features.supports_transactions:
        return tables
    if connection.vendor != "mysql":
        return frozenset()
    return tables & catalogue.catalogue_of(connection).untransactional


def forget_schema(connection: BaseDatabaseWrapper) -> None:
    """Read the catalogue of the connection's database again when it is next needed."""
    for alias in {connection.alias, *aliases_changing_with(alias_reached_by(connection))}:
        catalogue.forget(alias)


def all_tables(connection: BaseDatabaseWrapper) -> frozenset[str]:
    """Return every table of the database, those outside Django included."""
    tables = frozenset(known_tables())
    try:
        return tables | catalogue.catalogue_of(connection).tables
    except Exception as error:
        if is_interruption(error):
            raise
        # An aborted transaction, a database that is down, a test that forbids this alias: not
        # what the caller asked for. The statement to come will say so itself.
        logger.debug("The catalogue of %r could not be read: %r", connection.alias, error)
        return tables


def invalidate_shared(
    db_alias: str, tables: frozenset[str], cache_aliases: Iterable[str] | None = None
) -> None:
    """Renew the versions of ``tables`` in the given caches, by default the one in use."""
    if not tables:
        return
    for cache_alias in cache_aliases or (cachalot_settings.CACHALOT_CACHE,):
        guard_of(cache_alias).renew(keys_to_renew(db_alias, tables))

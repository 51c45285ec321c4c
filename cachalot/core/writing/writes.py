"""Statements that write, and what they invalidate."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from django.core.exceptions import EmptyResultSet
from django.db.backends.base.base import BaseDatabaseWrapper

from cachalot.core import collecting
from cachalot.core.connection.running import executing, frame_of_body
from cachalot.core.connection.state import is_tracked, state_of
from cachalot.core.interruptions import is_interruption
from cachalot.core.reading.pinned import Pinned, pinned_by_write
from cachalot.core.rows import ANY_ROW, Rows
from cachalot.core.schema import catalogue
from cachalot.core.schema.introspection import NONE, SCHEMA
from cachalot.core.schema.tables import known_tables
from cachalot.core.writing.invalidation import (
    Invalidation,
    announce,
    invalidate_shared,
    look_again,
)
from cachalot.core.writing.plans import plan_of

logger = logging.getLogger("cachalot")

T = TypeVar("T")

#: What collectors are told of all that writes.
WRITES = "it writes to the database"


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
        pinned: Pinned | None = None,
    ) -> None:
        connection.ensure_connection()
        self._connection = connection
        self._state = state_of(connection)
        self._named, self._deletes, self._pinned = frozenset(tables), deletes, pinned
        # First: another thread may replace the catalogue, and the plan must not be older than this.
        self._schema = catalogue.version_of(connection)
        self._plan = plan_of(connection, self._named, deletes)
        self._changed = self._plan.changed
        self._rows = self._plan.rows_of(pinned)
        self._is_alone = not (self._state.is_in_transaction() or self._state.is_lost)
        self._marks = self._state.running.marks
        at_once = self._changed
        self._within = NONE
        if self._is_alone:
            self._within = at_once & self._state.running.pending()
            at_once -= self._within
        elif not (commits or self._state.is_lost):
            at_once = _untransactional(connection, at_once)
        if not self._is_alone:
            self._state.overlay().note_schema(self._schema)
        self._at_once = at_once
        self._is_final = False
        #: Whether it is to notice what other processes do to the schema meanwhile.
        self._follows = self._is_alone and bool(at_once) and SCHEMA not in at_once
        self._invalidation = Invalidation(
            connection,
            at_once,
            self._plan.renewal if at_once == self._changed and not self._rows else None,
            self._rows,
            follows=self._follows,
            fetches=fetches and self._is_alone,
            announces=self._is_alone,
        )

    def begin(self, frame: FrameType | None) -> None:
        """Call it before the statement, which runs beneath ``frame``."""
        if self._within:
            self._state.running.widen(self._within, self._rows)
        if self._is_alone and frame is not None:
            self._state.running.marks = (*self._marks, (frame, self._at_once, self._widen))
        self._invalidation.begin()
        if self._follows and self._invalidation.schema is not None:
            self._invalidation.add(self._newly_changed())

    def end(self) -> None:
        """Call it when the statement has succeeded."""
        self._account()
        self._is_final = self._invalidation.end()
        if SCHEMA in self._at_once:
            catalogue.own_change(self._connection)
        elif self._follows:
            # Another process may have changed the schema while the statement waited for it.
            invalidate_shared(self._plan.renewal.alias, self._newly_changed())

    def _widen(self, rows: Rows) -> None:
        """Mark all of the tables if what runs beneath the statement writes more ``rows`` of them.

        Where one of Django's methods executes an UPDATE by another, it is the same rows.
        """
        if any(table not in rows or rows[table] - own for table, own in self._rows.items()):
            self._rows = ANY_ROW
            self._invalidation.add(self._at_once)

    def _newly_changed(self) -> frozenset[str]:
        """Return what the write changes as well by what others have done to the schema."""
        schema = self._invalidation.schema
        if schema is not None and schema == self._schema:
            return NONE  # as nearly always: the plan is of this very schema
        if catalogue.follow(self._connection, schema):
            return NONE
        plan = plan_of(self._connection, self._named, self._deletes)
        more = plan.changed - self._changed
        self._changed |= more
        self._at_once |= more
        if self._rows and plan.rows_of(self._pinned) != self._rows:
            # What is new may change other rows as well.
            more, self._rows = plan.changed, ANY_ROW
        return more

    def fail(self, error: BaseException) -> None:
        """Call it when the statement, ``begin()`` or ``end()`` has raised ``error``."""
        self._account()
        look_again(self._connection, self._changed)
        self._invalidation.fail(error)

    def _account(self) -> None:
        self._state.running.marks = self._marks
        self._state.changes += 1
        if not self._is_alone:
            self._state.overlay().touch(self._changed, self._rows)

    def announce(self) -> None:
        """Send the signals that need to wait for nothing more."""
        if self._is_alone and self._is_final and self._at_once:
            announce(self._plan.renewal.alias, self._at_once)


def write(
    connection: BaseDatabaseWrapper,
    tables: Iterable[str],
    run: Callable[[], T],
    *,
    deletes: bool = False,
    commits: bool = False,
    fetches: bool = False,
    pinned: Pinned | None = None,
) -> T:
    """Run a statement that writes ``tables`` (canonical names) and account for it.

    ``deletes`` tells that it may remove rows, ``commits`` that it may commit even in a transaction,
    ``fetches`` that it may be done only when its rows are fetched, and ``pinned`` which rows it
    names.
    """
    collecting.spoil(WRITES)
    if not is_tracked(connection):
        return run()
    statement = _Write(
        connection, tables, deletes=deletes, commits=commits, fetches=fetches, pinned=pinned
    )
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

    return write(connection, (table,), execute, deletes=deletes, pinned=pinned_by_write(compiler))


@contextmanager
def writing(
    connection: BaseDatabaseWrapper,
    tables: Iterable[str],
    *,
    deletes: bool = False,
    commits: bool = False,
) -> Iterator[None]:
    """Do what ``write()`` does; the statement is run in the body."""
    collecting.spoil(WRITES)
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


def is_empty(compiler: Any) -> bool:
    """Whether an UPDATE or DELETE concerns no row whatever the tables hold."""
    try:
        compiler.compile(compiler.query.where)
    except EmptyResultSet:
        return True
    except Exception as error:
        if is_interruption(error):
            raise
        logger.debug("The condition cannot be compiled by itself: %r", error)
    return False


def _untransactional(connection: BaseDatabaseWrapper, tables: frozenset[str]) -> frozenset[str]:
    """Return those of ``tables`` whose changes show before the COMMIT, and survive a rollback."""
    if not connection.features.supports_transactions:
        return tables
    if connection.vendor != "mysql":
        return frozenset()
    return tables & catalogue.remembered_catalogue_of(connection).untransactional


def all_tables(connection: BaseDatabaseWrapper) -> frozenset[str]:
    """Return every table of the database, those outside Django included."""
    known = catalogue.catalogue_of(connection) or catalogue.remembered_catalogue_of(connection)
    return frozenset(known_tables()) | known.tables

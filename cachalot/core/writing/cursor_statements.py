"""Raw statements, as they pass the cursor: what they may change and how that is accounted for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper

from cachalot.core import collecting
from cachalot.core.connection.state import State, is_tracked, state_of
from cachalot.core.reading.selects import run_select
from cachalot.core.schema import catalogue
from cachalot.core.schema.introspection import SCHEMA
from cachalot.core.schema.tables import known_tables_in
from cachalot.core.sql.kinds import Kind
from cachalot.core.sql.statements import Statement, classify
from cachalot.core.writing import transactions
from cachalot.core.writing.function_calls import run_calling
from cachalot.core.writing.invalidation import finish, invalidate_around
from cachalot.core.writing.session_changes import may_set_session, sets_config, setting_session
from cachalot.core.writing.writes import WRITES, all_tables, write
from cachalot.settings import cachalot_settings

T = TypeVar("T")

#: Kinds of statements that may change which tables there are.
CHANGES_SCHEMA = frozenset({Kind.SCHEMA, Kind.ANYTHING})
# Those whose text shows the functions that it calls. What may write anything needs no looking at.
_CALLS = frozenset({Kind.READ, Kind.WRITE, Kind.SCHEMA, Kind.SESSION})
# Unless they say so: SET TRANSACTION SNAPSHOT, START TRANSACTION WITH CONSISTENT SNAPSHOT.
_TAKES_NO_SNAPSHOT = frozenset({Kind.SESSION, Kind.TRANSACTION})


def execute(connection: BaseDatabaseWrapper, sql: object, params: Any, run: Callable[[], T]) -> T:
    """Run a raw statement, given with its parameters, and account for what it may change."""
    state = state_of(connection)
    if state.unfinished or state.is_lost:
        catch_up(connection, state)
    try:
        result = _execute(connection, state, sql, params, run)
    except Error as error:
        transactions.follow_error(connection, error)
        raise
    if state.unfinished:
        # The cursor may have had rows to fetch of the statement before.
        finish(connection)
    return result


def catch_up(connection: BaseDatabaseWrapper, state: State) -> None:
    """Account for what could not be known before now."""
    finish(connection)
    if state.is_lost:
        transactions.follow_driver(connection)


def _execute(
    connection: BaseDatabaseWrapper, state: State, sql: object, params: Any, run: Callable[[], T]
) -> T:
    is_own, is_followed = state.running.is_own(sql), is_tracked(connection)
    if state.running.own:
        state.running.note_given(sql, connection.vendor)
    if (is_own and not sets_config(connection, sql)) or not is_followed:
        state.note_statement()
        if not is_followed:
            collecting.spoil(f"it uses {connection.alias!r}, a database that is not cached")
        if is_own and is_followed and isinstance(sql, str):
            return run_calling(connection, sql, run)
        return run()
    text = text_of(sql, connection)
    statement = classify(text, connection.vendor)
    if statement.kind not in _TAKES_NO_SNAPSHOT or "snapshot" in text.lower():
        state.note_statement()
    if (
        statement.kind is Kind.SESSION
        or statement.changes_session
        or may_set_session(connection, statement.possible_setters)
    ):
        collecting.spoil("it sets something on the session")
        with setting_session(connection, state, statement, text, params, is_own=is_own):
            return _account(connection, state, statement, text, params, run)
    return _account(connection, state, statement, text, params, run)


def _account(
    connection: BaseDatabaseWrapper,
    state: State,
    statement: Statement,
    text: str,
    params: Any,
    run: Callable[[], T],
) -> T:
    if statement.kind is Kind.READ and collecting.current() is not None:
        run = partial(run_select, connection, state, statement, text, params, run)
    if statement.kind in _CALLS and cachalot_settings.CACHALOT_INVALIDATE_RAW:
        return run_calling(
            connection,
            text,
            lambda: _run(connection, state, statement, text, run),
            defines=statement.kind is Kind.SCHEMA,
        )
    return _run(connection, state, statement, text, run)


def _run(
    connection: BaseDatabaseWrapper,
    state: State,
    statement: Statement,
    text: str,
    run: Callable[[], T],
) -> T:
    overlay = state.transaction.overlay
    if statement.commits_implicitly and overlay is not None:
        # Signals wait for the end of what Django takes for the transaction.
        result = invalidate_around(
            connection,
            overlay.dirty,
            lambda: _run_by_kind(connection, state, statement, text, run),
        )
        # What was read belongs to a snapshot that is gone.
        overlay.forget_entries()
        state.transaction.snapshot_versions = {}
        if state.transaction.is_raw:
            # Not what begins the next one, and not what creates a temporary table.
            transactions.follow_driver(connection)
        return result
    return _run_by_kind(connection, state, statement, text, run)


def _run_by_kind(
    connection: BaseDatabaseWrapper,
    state: State,
    statement: Statement,
    text: str,
    run: Callable[[], T],
) -> T:
    if statement.kind is Kind.READ:
        return run()
    if statement.kind is Kind.TRANSACTION:
        result = transactions.control(connection, state, statement, run)
        if connection.vendor != "mysql":
            transactions.follow_driver(connection)
        return result
    if statement.kind is Kind.SESSION:
        return _change_session(connection, state, text, run)
    if statement.kind is Kind.SCHEMA:
        return _change_schema(connection, state, statement, run)
    return _write_raw(connection, statement, run)


def call_procedure(connection: BaseDatabaseWrapper, run: Callable[[], T]) -> T:
    """Run a stored procedure, which may write anything."""
    collecting.spoil("it calls a stored procedure")
    if is_tracked(connection):
        state_of(connection).session.make_unique()  # it may SET anything, too
    if not is_tracked(connection) or not cachalot_settings.CACHALOT_INVALIDATE_RAW:
        return run()
    state, tables = state_of(connection), all_tables(connection)
    # psycopg's callproc() is a SELECT of its own, on the driver's cursor.
    result = write(connection, tables, run, commits=connection.vendor == "mysql")
    follow_hidden(connection, state, tables)
    return result


def follow_hidden(connection: BaseDatabaseWrapper, state: State, tables: frozenset[str]) -> None:
    """Account for transactions begun and ended by code that may have written ``tables``."""
    if connection.vendor == "mysql" and state.transaction.overlay is not None:
        # What was read belongs to a snapshot that may be gone.
        state.transaction.overlay.forget_entries()
        state.transaction.snapshot_versions = {}
    transactions.follow_driver(connection)
    if state.is_in_transaction():
        state.overlay().touch(tables)


def text_of(sql: object, connection: BaseDatabaseWrapper) -> str:
    """Return the text of a statement in whatever form a cursor takes it."""
    if isinstance(sql, str):
        return sql
    if isinstance(sql, (bytes, bytearray)):
        return bytes(sql).decode("utf-8", "replace")
    as_string = getattr(sql, "as_string", None)
    if as_string is not None:
        # psycopg.sql.Composable and psycopg2.sql.Composable
        connection.ensure_connection()
        text: str = as_string(connection.connection)
        return text
    return str(sql)


def _write_raw(connection: BaseDatabaseWrapper, statement: Statement, run: Callable[[], T]) -> T:
    collecting.spoil(WRITES)
    if not cachalot_settings.CACHALOT_INVALIDATE_RAW:
        return run()
    tables = tables_written(connection, statement)
    is_hidden = statement.kind is Kind.ANYTHING
    result = write(
        connection,
        tables,
        run,
        deletes=statement.deletes,
        commits=statement.commits_implicitly
        or statement.hides_transaction
        or "".join(statement.parts[:1]).upper().split()[:1] == ["XA"],
        fetches="returning" in statement.words,
    )
    if is_hidden:
        follow_hidden(connection, state_of(connection), tables)
    return result


def _change_schema(
    connection: BaseDatabaseWrapper, state: State, statement: Statement, run: Callable[[], T]
) -> T:
    if statement.makes_temporary:
        # It hides another table of its name, in this session alone.
        state_of(connection).session.make_unique()
    try:
        return _write_raw(connection, statement, run)
    finally:
        state.transaction.changed_schema |= state.is_in_transaction()
        note_schema_change(connection, statement)


def note_schema_change(connection: BaseDatabaseWrapper, statement: Statement) -> None:
    """Note what a statement of ``CHANGES_SCHEMA`` has made of the schema."""
    tables = _tables_named(connection, statement)
    routines = catalogue.remembered_catalogue_of(connection).routines
    names_all = statement.concerns_tables_alone and statement.words.isdisjoint(routines)
    catalogue.note_change(connection, tables if names_all else None)


def _tables_named(connection: BaseDatabaseWrapper, statement: Statement) -> frozenset[str]:
    # Any word that is a table, wherever it stands.
    there_are = catalogue.remembered_catalogue_of(connection).tables
    named = known_tables_in(statement.words, statement.text)
    return statement.tables | named | (statement.words & there_are)


def tables_written(connection: BaseDatabaseWrapper, statement: Statement) -> frozenset[str]:
    """Return what a raw statement may write: every table it names, or all there are."""
    tables = _tables_named(connection, statement)
    if statement.kind is Kind.ANYTHING or statement.cascades or not tables:
        tables = all_tables(connection)
    return tables | {SCHEMA} if statement.kind in CHANGES_SCHEMA else frozenset(tables)


def _change_session(
    connection: BaseDatabaseWrapper, state: State, text: str, run: Callable[[], T]
) -> T:
    if connection.vendor != "mysql" or "autocommit" not in text.lower():
        return run()
    # Turning it on commits; turning it off opens transactions that Django knows nothing of.
    result = invalidate_around(connection, state.transaction.dirty, run)
    transactions.follow_driver(connection)
    return result

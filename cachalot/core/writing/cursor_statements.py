"""Raw statements, as they pass the cursor: what they may change and how that is accounted for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from django.db.backends.base.base import BaseDatabaseWrapper

from cachalot.core.connection.state import State, is_tracked, state_of
from cachalot.core.schema.catalogue import SCHEMA
from cachalot.core.schema.tables import known_tables_in
from cachalot.core.sql.names import canonical
from cachalot.core.sql.statements import Kind, Statement, classify
from cachalot.core.writing import transactions
from cachalot.core.writing.function_calls import calling, run_calling
from cachalot.core.writing.session_changes import sets_config, setting_session
from cachalot.core.writing.writes import (
    all_tables,
    forget_schema,
    invalidate_around,
    write,
    writing,
)
from cachalot.settings import cachalot_settings

T = TypeVar("T")

_CHANGES_SCHEMA = frozenset({Kind.SCHEMA, Kind.ANYTHING})
# Those whose text shows the functions that it calls. What may write anything needs no looking at.
_CALLS = frozenset({Kind.READ, Kind.WRITE, Kind.SCHEMA})
# Unless they say so: SET TRANSACTION SNAPSHOT, START TRANSACTION WITH CONSISTENT SNAPSHOT.
_TAKES_NO_SNAPSHOT = frozenset({Kind.SESSION, Kind.TRANSACTION})


def execute(connection: BaseDatabaseWrapper, sql: object, params: Any, run: Callable[[], T]) -> T:
    """Run a raw statement, given with its parameters, and account for what it may change."""
    state = state_of(connection)
    is_own, is_followed = state.running.is_own(sql), is_tracked(connection)
    if state.running.own:
        state.running.note_given(sql, connection.vendor)
    if (is_own and not sets_config(connection, sql)) or not is_followed:
        state.note_statement()
        if is_own and is_followed and isinstance(sql, str):
            return run_calling(connection, sql, run)
        return run()
    text = _text_of(sql, connection)
    statement = classify(text, connection.vendor)
    if statement.kind not in _TAKES_NO_SNAPSHOT or "snapshot" in text.lower():
        state.note_statement()
    if statement.kind is Kind.SESSION or statement.changes_session:
        with setting_session(connection, state, statement, text, params, is_own=is_own):
            return _account(connection, state, statement, text, run)
    return _account(connection, state, statement, text, run)


def _account(
    connection: BaseDatabaseWrapper,
    state: State,
    statement: Statement,
    text: str,
    run: Callable[[], T],
) -> T:
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
        return transactions.control(connection, state, statement, run)
    if statement.kind is Kind.SESSION:
        return _change_session(connection, state, text, run)
    if statement.kind is Kind.SCHEMA:
        return _change_schema(connection, state, statement, run)
    if statement.hides_transaction:
        # Whether a transaction is open after it, and which, nobody can tell.
        state.is_lost = True
    return _write_raw(connection, statement, run)


def call_procedure(connection: BaseDatabaseWrapper, run: Callable[[], T]) -> T:
    """Run a stored procedure, which may write anything."""
    if is_tracked(connection):
        state_of(connection).session.make_unique()  # it may SET anything, too
    if not is_tracked(connection) or not cachalot_settings.CACHALOT_INVALIDATE_RAW:
        return run()
    # psycopg's callproc() is a SELECT of its own, on the driver's cursor.
    return write(connection, all_tables(connection), run)


#: Methods of the drivers' cursors that write and that ``CursorWrapper`` hands out as they are.
BULK_METHODS = frozenset({"copy", "copy_expert", "copy_from", "executescript", "stream"})


def account_for(connection: BaseDatabaseWrapper, name: str, method: Callable[..., T]) -> Any:
    """Return ``method``, one of ``BULK_METHODS``, so that what it writes is accounted for."""
    if name == "copy":  # psycopg: a context manager

        @contextmanager
        def copy(statement: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
            with _writing_raw(connection, statement):
                with method(statement, *args, **kwargs) as copying:  # type: ignore[attr-defined]
                    yield copying

        return copy
    if name == "stream":  # psycopg: a generator of rows

        def stream(query: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
            with _writing_raw(connection, query):
                yield from method(query, *args, **kwargs)  # type: ignore[misc]

        return stream
    if name == "copy_from":  # psycopg2, which names the table in place of a statement

        def copy_from(file: Any, table: str, *args: Any, **kwargs: Any) -> T:
            if not cachalot_settings.CACHALOT_INVALIDATE_RAW:
                return method(file, table, *args, **kwargs)
            return write(
                connection, (canonical(table),), lambda: method(file, table, *args, **kwargs)
            )

        return copy_from
    if name == "executescript":  # sqlite3, which commits an open transaction first

        def executescript(script: str) -> T:
            state = state_of(connection)
            state.is_lost |= state.is_in_transaction()
            dirty = state.transaction.dirty

            def run() -> T:
                with _writing_raw(connection, script):
                    return method(script)

            return invalidate_around(connection, dirty, run)

        return executescript

    def copy_expert(sql: Any, *args: Any, **kwargs: Any) -> T:  # psycopg2
        with _writing_raw(connection, sql):
            return method(sql, *args, **kwargs)

    return copy_expert


@contextmanager
def _writing_raw(connection: BaseDatabaseWrapper, sql: object) -> Iterator[None]:
    text = _text_of(sql, connection)
    statement = classify(text, connection.vendor)
    if not is_tracked(connection) or not cachalot_settings.CACHALOT_INVALIDATE_RAW:
        yield
        return
    with calling(connection, text, defines=statement.kind is Kind.SCHEMA):
        if statement.kind is Kind.READ:
            yield
            return
        tables = _tables_written(connection, statement)
        with writing(connection, tables, deletes=statement.deletes):
            yield
    if statement.kind in _CHANGES_SCHEMA:
        forget_schema(connection)


def _text_of(sql: object, connection: BaseDatabaseWrapper) -> str:
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
    if not cachalot_settings.CACHALOT_INVALIDATE_RAW:
        return run()
    return write(
        connection,
        _tables_written(connection, statement),
        run,
        deletes=statement.deletes,
        commits=statement.commits_implicitly,
    )


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
        forget_schema(connection)


def _tables_written(connection: BaseDatabaseWrapper, statement: Statement) -> frozenset[str]:
    """Return what a raw statement may write: every table it names, or all there are."""
    tables = statement.tables | known_tables_in(statement.words, statement.text)
    if statement.kind is Kind.ANYTHING or statement.cascades or not tables:
        tables = all_tables(connection)
    return tables | {SCHEMA} if statement.kind in _CHANGES_SCHEMA else frozenset(tables)


def _change_session(
    connection: BaseDatabaseWrapper, state: State, text: str, run: Callable[[], T]
) -> T:
    if connection.vendor != "mysql" or "autocommit" not in text.lower():
        return run()
    # Turning it on commits; turning it off opens transactions that Django knows nothing of.
    result = invalidate_around(connection, state.transaction.dirty, run)
    state.is_lost = True
    return result

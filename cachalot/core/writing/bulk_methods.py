"""Methods of the drivers' own cursors, which ``CursorWrapper`` hands out as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from django.db.backends.base.base import BaseDatabaseWrapper

from cachalot.core import collecting
from cachalot.core.connection.state import is_tracked, state_of
from cachalot.core.sql.kinds import Kind
from cachalot.core.sql.names import canonical
from cachalot.core.sql.statements import classify
from cachalot.core.writing.cursor_statements import (
    CHANGES_SCHEMA,
    catch_up,
    follow_hidden,
    note_schema_change,
    tables_written,
    text_of,
)
from cachalot.core.writing.function_calls import calling
from cachalot.core.writing.invalidation import invalidate_around
from cachalot.core.writing.writes import write, writing
from cachalot.settings import cachalot_settings

T = TypeVar("T")

#: Those that write.
BULK_METHODS = frozenset({"copy", "copy_expert", "copy_from", "executescript", "stream"})
#: Methods after which the effect of a statement may be final.
FETCH_METHODS = frozenset({"close", "fetchall", "fetchmany", "fetchone", "nextset"})


def finishing(connection: BaseDatabaseWrapper, method: Callable[..., T]) -> Callable[..., T]:
    """Return ``method``, one of ``FETCH_METHODS``, with a look at what is final behind it."""

    def fetch(*args: Any, **kwargs: Any) -> T:
        result = method(*args, **kwargs)
        catch_up(connection, state_of(connection))
        return result

    return fetch


def account_for(connection: BaseDatabaseWrapper, name: str, method: Callable[..., T]) -> Any:
    """Return ``method``, one of ``BULK_METHODS``, so that what it writes is accounted for."""
    collecting.spoil(f"it uses {name}() of the driver's cursor")
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
            dirty = state.transaction.dirty

            def run() -> T:
                with _writing_raw(connection, script, commits=True):
                    return method(script)

            result = invalidate_around(connection, dirty, run)
            statement = classify(script, connection.vendor)
            follow_hidden(connection, state, tables_written(connection, statement))
            return result

        return executescript

    def copy_expert(sql: Any, *args: Any, **kwargs: Any) -> T:  # psycopg2
        with _writing_raw(connection, sql):
            return method(sql, *args, **kwargs)

    return copy_expert


@contextmanager
def _writing_raw(
    connection: BaseDatabaseWrapper, sql: object, *, commits: bool = False
) -> Iterator[None]:
    text = text_of(sql, connection)
    statement = classify(text, connection.vendor)
    if not is_tracked(connection) or not cachalot_settings.CACHALOT_INVALIDATE_RAW:
        yield
        return
    with calling(connection, text, defines=statement.kind is Kind.SCHEMA):
        if statement.kind is Kind.READ:
            yield
            return
        tables = tables_written(connection, statement)
        with writing(connection, tables, deletes=statement.deletes, commits=commits):
            yield
    if statement.kind in CHANGES_SCHEMA:
        note_schema_change(connection, statement)

"""Wraps Django's entry points, once and for good; decides nothing.

Official hooks were considered first. ``connection.execute_wrappers`` sees SQL but not the compiler,
cannot answer in the database's stead and is set per connection; database routers see models only;
a database engine of our own would have to be named in every project's settings; there is no hook
at all around COMMIT before ``on_commit()``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial, wraps
from time import perf_counter
from typing import Any, cast

from django.core.cache.backends.locmem import LocMemCache
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from django.db.models.query import QuerySet
from django.db.models.sql.compiler import (
    SQLCompiler,
    SQLDeleteCompiler,
    SQLInsertCompiler,
    SQLUpdateCompiler,
)
from django.db.models.sql.constants import GET_ITERATOR_CHUNK_SIZE, MULTI

from cachalot.core import collecting, querysets
from cachalot.core.cache.raw_board import clearing
from cachalot.core.connection.databases import ask_server
from cachalot.core.connection.state import is_tracked, state_of
from cachalot.core.reading import by_key, reads
from cachalot.core.reading.compiled import current
from cachalot.core.schema import catalogue
from cachalot.core.sql.names import canonical
from cachalot.core.writing import bulk_methods, invalidation, transactions, writes
from cachalot.core.writing import cursor_statements as raw

_WRITE_COMPILERS = (SQLInsertCompiler, SQLUpdateCompiler, SQLDeleteCompiler)


def patch(cls: type, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replace ``cls.name`` by what ``wrap`` makes of it, unless that has been done."""
    original = cls.__dict__.get(name)
    if original is None or hasattr(original, "_cachalot_original"):
        return
    wrapper = wraps(original)(wrap(original))
    wrapper._cachalot_original = original  # type: ignore[attr-defined]
    setattr(cls, name, wrapper)


def install() -> None:
    """Wrap every entry point. A second call does nothing."""
    patch(SQLCompiler, "as_sql", _reporting_text)
    patch(SQLCompiler, "get_from_clause", _reporting_sources)
    patch(SQLCompiler, "execute_sql", _cached_or_written)
    patch(SQLInsertCompiler, "execute_sql", _written)
    # Django 6.1
    patch(SQLUpdateCompiler, "execute_returning_sql", _written)
    patch(CursorWrapper, "execute", _accounted)
    patch(CursorWrapper, "executemany", _accounted)
    patch(CursorWrapper, "callproc", _accounted_procedure)
    patch(CursorWrapper, "__getattr__", _accounted_bulk)
    patch(CursorWrapper, "__iter__", _accounted_iteration)
    patch(BaseDatabaseWrapper, "connect", _connected)
    patch(BaseDatabaseWrapper, "commit", _committed)
    patch(BaseDatabaseWrapper, "rollback", _rolled_back)
    patch(BaseDatabaseWrapper, "set_autocommit", _autocommitted)
    patch(BaseDatabaseWrapper, "close", _closed)
    patch(QuerySet, "get", _got_by_key)
    patch(LocMemCache, "clear", clearing)


def install_reevaluation() -> None:
    """Wrap what of ``QuerySet`` looks at the rows it has kept. A second call does nothing.

    Only who has used ``cachalot_disabled(all_queries=True)`` pays for it.
    """
    patch(QuerySet, "_fetch_all", querysets.evaluating)
    patch(QuerySet, "__iter__", querysets.reevaluating_iteration)
    for name in ("__len__", "__bool__", "__getitem__", "__aiter__", "count", "contains", "exists"):
        patch(QuerySet, name, querysets.reevaluating)


def install_fresh() -> None:
    """Wrap what of ``QuerySet`` prefetches. A second call does nothing.

    Only who has used ``fresh()`` pays for it.
    """
    patch(QuerySet, "_prefetch_related_objects", querysets.prefetching)
    patch(QuerySet, "_iterator", querysets.prefetching_iteration)
    patch(QuerySet, "aiterator", querysets.prefetching_aiteration)


# Reads


def _reporting_text(original: Callable[..., Any]) -> Callable[..., Any]:
    def as_sql(self: SQLCompiler, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        compilation = current.compilation
        if compilation is not None:
            compilation.texts.append(result[0])
        return result

    return as_sql


def _reporting_sources(original: Callable[..., Any]) -> Callable[..., Any]:
    def get_from_clause(self: SQLCompiler) -> Any:
        # Only now is it known which joins stay; as_sql() resets the counts before it returns.
        compilation = current.compilation
        if compilation is not None:
            compilation.add_sources(self.query)
        return original(self)

    return get_from_clause


def _cached_or_written(original: Callable[..., Any]) -> Callable[..., Any]:
    def execute_sql(
        self: SQLCompiler,
        result_type: str = MULTI,
        chunked_fetch: bool = False,
        chunk_size: int = GET_ITERATOR_CHUNK_SIZE,
    ) -> Any:
        if isinstance(self, _WRITE_COMPILERS):
            # Deletes have no execute_sql() of their own, and updates call this one.
            if self.connection.connection is None and writes.is_empty(self):
                return original(self, result_type, chunked_fetch, chunk_size)
            return _write(self, lambda: original(self, result_type, chunked_fetch, chunk_size))
        return reads.read(self, original, result_type, chunked_fetch, chunk_size)

    return execute_sql


def _got_by_key(original: Callable[..., Any]) -> Callable[..., Any]:
    def get(self: QuerySet[Any], *args: Any, **kwargs: Any) -> Any:
        found = by_key.get(self, args, kwargs)
        return original(self, *args, **kwargs) if found is None else found

    return get


# Writes


def _written(original: Callable[..., Any]) -> Callable[..., Any]:
    def execute(self: Any, *args: Any, **kwargs: Any) -> Any:
        return _write(self, lambda: original(self, *args, **kwargs))

    return execute


def _write(compiler: Any, run: Callable[[], Any]) -> Any:
    table = canonical(compiler.query.get_meta().db_table)
    return writes.write_compiled(
        compiler, table, run, deletes=isinstance(compiler, SQLDeleteCompiler)
    )


def _accounted(original: Callable[..., Any]) -> Callable[..., Any]:
    def execute(self: CursorWrapper, sql: Any, *args: Any, **kwargs: Any) -> Any:
        # The second parameter of execute() or executemany(), whatever its name.
        params = args[0] if args else next(iter(kwargs.values()), None)
        if self.db.vendor == "sqlite":
            state_of(self.db).open_cursors.add(self)
        return raw.execute(self.db, sql, params, lambda: original(self, sql, *args, **kwargs))

    return execute


def _accounted_procedure(original: Callable[..., Any]) -> Callable[..., Any]:
    def callproc(self: CursorWrapper, *args: Any, **kwargs: Any) -> Any:
        return raw.call_procedure(self.db, lambda: original(self, *args, **kwargs))

    return callproc


def _accounted_bulk(original: Callable[..., Any]) -> Callable[..., Any]:
    def __getattr__(self: CursorWrapper, name: str) -> Any:
        attribute = original(self, name)
        if name in bulk_methods.BULK_METHODS:
            return bulk_methods.account_for(self.db, name, attribute)
        if name in bulk_methods.FETCH_METHODS and state_of(self.db).unfinished:
            return bulk_methods.finishing(self.db, attribute)
        return attribute

    return __getattr__


def _accounted_iteration(original: Callable[..., Any]) -> Callable[..., Any]:
    def __iter__(self: CursorWrapper) -> Iterator[Any]:
        yield from original(self)
        invalidation.finish(self.db)

    return __iter__


def _accounted_bulk_in_debug(original: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        bound = partial(original, self)
        return bulk_methods.account_for(self.db, original.__name__, bound)(*args, **kwargs)

    return method


def _install_for_driver(connection: BaseDatabaseWrapper) -> None:
    """Wrap what is known only once a database's driver is imported."""
    if connection.vendor == "postgresql":
        # Their own wrappers of copy() call the driver's cursor.
        debug_wrapper = type(connection.make_debug_cursor(cast(Any, None)))
        for name in ("copy", "copy_expert"):
            patch(debug_wrapper, name, _accounted_bulk_in_debug)


# Transactions


def _connected(original: Callable[..., Any]) -> Callable[..., Any]:
    def connect(self: BaseDatabaseWrapper) -> Any:
        _install_for_driver(self)
        state = state_of(self)
        state.reset()
        began = perf_counter()
        # What sets up a connection is no doing of whoever needs it first.
        with collecting.unheard():
            result = original(self)
        state.connecting_seconds += perf_counter() - began
        state.take_over_session()
        ask_server(self)
        if is_tracked(self):
            state.settings = catalogue.settings_of(self)
        return result

    return connect


def _committed(original: Callable[..., Any]) -> Callable[..., Any]:
    def commit(self: BaseDatabaseWrapper) -> Any:
        if self.in_atomic_block:
            return original(self)  # it raises
        return transactions.commit(self, lambda: original(self))

    return commit


def _rolled_back(original: Callable[..., Any]) -> Callable[..., Any]:
    def rollback(self: BaseDatabaseWrapper) -> Any:
        if self.in_atomic_block:
            return original(self)  # it raises
        return transactions.rollback(self, lambda: original(self))

    return rollback


def _autocommitted(original: Callable[..., Any]) -> Callable[..., Any]:
    def set_autocommit(
        self: BaseDatabaseWrapper,
        autocommit: bool,
        force_begin_transaction_with_broken_autocommit: bool = False,
    ) -> Any:
        def run() -> Any:
            return original(self, autocommit, force_begin_transaction_with_broken_autocommit)

        if self.in_atomic_block:
            return run()  # it raises
        # Atomic alone forces a BEGIN.
        return transactions.set_autocommit(
            self, run, autocommit, by_atomic=force_begin_transaction_with_broken_autocommit
        )

    return set_autocommit


def _closed(original: Callable[..., Any]) -> Callable[..., Any]:
    def close(self: BaseDatabaseWrapper) -> Any:
        state_of(self).leave_session()
        return transactions.close(self, lambda: original(self))

    return close

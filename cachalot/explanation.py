"""What cachalot makes of a queryset, without running it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from django.core.exceptions import EmptyResultSet
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.manager import BaseManager, Manager
from django.db.models.sql.constants import MULTI

from cachalot.core.cache.backends import keeps_nothing, what_serializer_spoils
from cachalot.core.cache.door import guard_of, path_of_board
from cachalot.core.connection.state import why_not_used
from cachalot.core.outcomes import UncachableQuery
from cachalot.core.reading.by_rows import ByValue, RowsAsked
from cachalot.core.reading.compiled import CompiledQuery, compile_query
from cachalot.core.reading.reads import key_of, stopping
from cachalot.core.schema.catalogue import remembered_catalogue_of
from cachalot.core.schema.introspection import SCHEMA
from cachalot.core.schema.tables import display_name, known_tables, table_named
from cachalot.core.schema.timeouts import timeout_of
from cachalot.core.switch import is_enabled, what_switched_off
from cachalot.core.writing.plans import plan_of
from cachalot.settings import cachalot_settings
from cachalot.switches import cachalot_disabled


class Explanation(NamedTuple):
    """What becomes of the rows of one query.

    ``tables`` are those it depends on, ``invalidated_by`` those whose change makes its result
    invalid, both as in ``Model._meta.db_table``. ``reason`` says why it is not cachable, else it
    is None. ``key`` is where its result lies, None if there is none. ``timeout`` is in seconds,
    None is until a table changes. ``board`` is the file in which the processes of
    this machine share the versions of local memory, None for another cache. ``rows`` are the
    keys of those rows of one of the tables that it depends on in place of all, if it finds them.
    ``row_by`` is the unique column by which it finds one row, on which it depends likewise.
    """

    sql: str
    db_alias: str
    tables: tuple[str, ...]
    key: str | None
    is_cachable: bool
    reason: str | None
    timeout: float | None
    invalidated_by: tuple[str, ...]
    board: str | None = None
    rows: tuple[Any, ...] = ()
    row_by: str | None = None

    def __str__(self) -> str:
        tables = ", ".join(self.tables) or "none"
        cachable = "yes" if self.is_cachable else f"no, because {self.reason}"
        lines = [
            ("SQL", self.sql or "none"),
            ("Database", self.db_alias),
            ("Tables", tables),
            ("Cachable", cachable),
        ]
        if self.is_cachable:
            kept = "until it is invalidated"
            if self.timeout is not None:
                kept = f"{self.timeout:g} seconds, or {kept}"
            writes = ", ".join(self.invalidated_by)
            if self.rows:
                rows = ", ".join(map(repr, self.rows))
                lines.append(("Rows", f"{rows}; if found, writes of others leave the result"))
            if self.row_by is not None:
                found = (
                    f"found by {self.row_by}; if there is one, writes of others leave the result"
                )
                lines.append(("Row", found))
            lines += [
                ("Key", str(self.key)),
                ("Kept", kept),
                ("Invalidated by", f"a change of {writes}"),
                (
                    "Versions",
                    f"in the cache {cachalot_settings.CACHALOT_CACHE!r}"
                    if self.board is None
                    else f"in {self.board}, which all processes of this machine share",
                ),
            ]
        return "\n".join(f"{name + ':':<16}{text}" for name, text in lines)


class _StoppedRead(BaseException):
    """Leaves a callable at its first read, past whatever catches exceptions in it."""

    def __init__(self, compiler: Any, result_type: str) -> None:
        super().__init__()
        self.compiler = compiler
        self.result_type = result_type


def explain(
    queryset: models.QuerySet[Any] | Manager[Any] | type[models.Model] | Callable[[], Any],
) -> Explanation:
    """Tell which tables a queryset depends on, and whether, where and how long it is cached.

    It is compiled for the database it would be read from, and not run. A manager or a model stands
    for all of its rows. Of what reads at once, such as ``count()`` or ``get()``, pass a function
    without arguments: it is called, and left at its first read, which is explained.

    What only shows when a query runs is left out: a table being written, the state of an open
    transaction, the size of the result. Raise ``TypeError`` for anything else, and what compiling
    it or the function raises.
    """
    if callable(queryset) and not isinstance(queryset, type | models.QuerySet | BaseManager):
        stopped = _first_read_of(queryset)
        if isinstance(stopped, _StoppedRead):
            return _explained(stopped.compiler, stopped.result_type)
        if stopped is None:
            raise TypeError(
                f"{queryset!r} reads nothing and returns None; pass a function that reads, or "
                "returns a queryset, such as lambda: Book.objects.count()."
            )
        queryset = stopped
    found = queryset_of(queryset)
    return _explained(found.query.get_compiler(using=found.db), MULTI)


def _first_read_of(function: Callable[[], Any]) -> Any:
    """Return the read at which ``function`` was left, or what it returns if it reads nothing."""
    token = stopping.set(_StoppedRead)
    try:
        with cachalot_disabled():
            return function()
    except _StoppedRead as stopped:
        return stopped
    finally:
        stopping.reset(token)


def queryset_of(value: object) -> models.QuerySet[Any]:
    """Return a queryset, or all rows of a manager or a model. Raise ``TypeError`` for others."""
    if isinstance(value, models.QuerySet):
        return value
    if isinstance(value, BaseManager):
        return value.all()
    if isinstance(value, type) and issubclass(value, models.Model):
        if value._meta.abstract:
            raise TypeError(f"{value.__name__} is abstract and has no table; use a concrete model.")
        return value._default_manager.all()
    if isinstance(value, models.query.RawQuerySet):
        raise TypeError("What raw() reads is never cached: it asks the database each time.")
    raise TypeError(
        f"{value!r} is no queryset, manager or model; what count(), get(), first() and aggregate() "
        "return is a result already: pass a function that calls them, such as "
        "lambda: Book.objects.count()."
    )


def _explained(unused: Any, result_type: str) -> Explanation:
    db_alias, connection = unused.using, unused.connection
    # A compiler of its own: compiling changes both.
    compiler = unused.query.chain().get_compiler(using=db_alias)
    try:
        compiled = compile_query(compiler)
    except EmptyResultSet:
        reason = "it has no rows whatever the tables hold, and no query is run"
        return Explanation("", db_alias, (), None, False, reason, None, ())
    tables = compiled.tables
    timeout = timeout_of(compiled.tables)
    key, reason_of_key = _key_of(compiler, compiled, result_type)
    reason_or_none = _why_not_here(connection, timeout) or reason_of_key
    if reason_or_none is None and cachalot_settings.CACHALOT_ADAPTIVE:
        worth = compiled.plan.worth
        reason_or_none = f"the query {worth.described()}" if worth.is_in_vain() else None
    return Explanation(
        compiled.sql,
        db_alias,
        _displayed(tables),
        key,
        reason_or_none is None,
        reason_or_none,
        timeout,
        _displayed(_tables_changing(connection, tables)),
        path_of_board(),
        compiled.rows.keys() if isinstance(compiled.rows, RowsAsked) else (),
        compiled.rows.column if isinstance(compiled.rows, ByValue) else None,
    )


def _key_of(
    compiler: Any, compiled: CompiledQuery, result_type: str
) -> tuple[str | None, str | None]:
    """Return the key, or why there is none."""
    try:
        return key_of(compiler, compiled, result_type), None
    except UncachableQuery as error:
        return None, f"the query {error.reason}"


def _why_not_here(connection: BaseDatabaseWrapper, timeout: float | None) -> str | None:
    """Return what the settings or the block around have against caching this connection."""
    if not is_enabled():
        return what_switched_off()
    if (reason := why_not_used(connection)) is not None:
        return reason
    alias, guard = cachalot_settings.CACHALOT_CACHE, guard_of()
    store = guard.store()
    if store is None:
        return f"the cache {alias!r} cannot be used"
    if keeps_nothing(store.cache):
        return f"the cache {alias!r} keeps nothing"
    if (spoilt := what_serializer_spoils(store.cache)) is not None:
        return f"the cache {alias!r} has a serializer that spoils what it is given ({spoilt})"
    if (flaw := guard.flaws.why_nothing_is_kept()) is not None:
        return f"a query {flaw}, {alias!r}"
    if timeout is not None and timeout <= 0:
        return "the result may be kept for no time, by CACHALOT_TIMEOUT or CACHALOT_TIMEOUTS"
    return None


def _tables_changing(connection: Any, tables: frozenset[str]) -> frozenset[str]:
    """Return the tables whose change, or the deletion of whose rows, invalidates ``tables``."""
    known = remembered_catalogue_of(connection)
    candidates = {*known_tables(), *_tables_with_dependents(), *known.changes, *known.cascades}
    return tables | {
        table
        for table in candidates - tables - {SCHEMA}
        if not plan_of(connection, frozenset({table}), True).changed.isdisjoint(tables)
    }


def _tables_with_dependents() -> frozenset[str]:
    return frozenset(map(table_named, cachalot_settings.CACHALOT_DEPENDENT_TABLES))


def _displayed(tables: frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted(map(display_name, tables)))

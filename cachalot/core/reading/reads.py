"""How a read becomes a hit, and what is stored when it does not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import perf_counter, time
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db.models.sql.constants import MULTI, SINGLE

from cachalot.core import collecting, events
from cachalot.core.cache.entries import Hit
from cachalot.core.connection.guards import refuse_what_is_forbidden
from cachalot.core.connection.ready import ready_of
from cachalot.core.connection.running import executing
from cachalot.core.connection.state import State, state_of, why_not_used
from cachalot.core.interruptions import is_interruption
from cachalot.core.outcomes import Outcome, Refused, UncachableQuery, Unstorable
from cachalot.core.reading.by_rows import ByValue, RowsAsked
from cachalot.core.reading.compiled import CompiledQuery, compile_query
from cachalot.core.reading.keys import key_with, with_namespace
from cachalot.core.reading.lookup import look_up
from cachalot.core.reading.results import OVERTAKEN, is_overtaken, store, stream
from cachalot.core.reading.targets import Target
from cachalot.core.schema.tables import display_name
from cachalot.core.switch import is_enabled, what_switched_off
from cachalot.settings import cachalot_settings, has_own_query_keys

logger = logging.getLogger("cachalot")

# Single-row results lie under the query's key with this behind it.
_SINGLE_SUFFIX = ":1"

#: What a read that is switched off raises in place of asking the database, made of its compiler and
#: its type of result; None is to ask.
stopping: ContextVar[Callable[[Any, str], BaseException] | None] = ContextVar(
    "cachalot_stopping", default=None
)


def read(
    compiler: Any,
    execute: Callable[..., Any],
    result_type: str,
    chunked_fetch: bool,
    chunk_size: int,
) -> Any:
    """Return what ``execute(compiler, result_type, chunked_fetch, chunk_size)`` would return."""
    connection = compiler.connection
    state = state_of(connection)
    if result_type != MULTI and result_type != SINGLE:
        collecting.spoil("the rows of a query are fetched from a cursor")
        with executing(state.running, compiler):
            return execute(compiler, result_type, chunked_fetch, chunk_size)
    ready = ready_of(connection, state)
    if (chunked_fetch and not cachalot_settings.CACHALOT_CACHE_ITERATORS) or (
        ready is None
        and (connection.needs_rollback or not is_enabled() or why_not_used(connection) is not None)
    ):
        return _Reading(compiler, execute, result_type, chunked_fetch, chunk_size).switched_off()
    is_heard = events.is_heard()
    began = _clock(state) if is_heard else 0.0
    try:
        query = compile_query(compiler, ready)
    except EmptyResultSet:
        # As SQLCompiler.execute_sql() answers it, in every version of Django.
        return iter([]) if result_type == MULTI else None
    refused: tuple[Outcome, str] | None = None
    target = hit = None
    refuse_what_is_forbidden(connection)
    try:
        key = key_of(compiler, query, result_type)
        target, hit = look_up(
            state, connection, key, query.plan, query.rows, may_wait=not chunked_fetch
        )
        if hit is not None and not is_heard:
            return _as_asked(hit.rows, result_type, chunked_fetch)
    except Refused as error:
        # Not the error itself, which holds this frame.
        refused = error.outcome, error.sentence()
    reading = _Reading(compiler, execute, result_type, chunked_fetch, chunk_size, query, began)
    if refused is not None:
        return reading.uncached(*refused)
    if hit is None:
        assert target is not None
        if target.lease is None:
            return reading.missed(target)
        try:
            return reading.missed(target)
        finally:
            target.lease.give_back()
    reading.tell_hit(hit)
    return _as_asked(hit.rows, result_type, chunked_fetch)


def _clock(state: State) -> float:
    """Return seconds of a clock that stands still while the connection is opened."""
    return perf_counter() - state.connecting_seconds


def _as_asked(rows: Any, result_type: str, chunked_fetch: bool) -> Any:
    """Return rows in the form in which ``execute_sql()`` gives them."""
    if result_type == SINGLE:
        return rows
    return iter([rows]) if chunked_fetch else [rows] if rows else []


def key_of(compiler: Any, query: CompiledQuery, result_type: str = MULTI) -> str:
    """Return the key of the query's rows. Raise ``UncachableQuery`` if it must not be cached."""
    if query.refusal is not None:
        raise UncachableQuery(query.refusal)
    if has_own_query_keys():
        with _compiled(compiler, query):
            key = with_namespace(cachalot_settings.CACHALOT_QUERY_KEYGEN(compiler))
    else:
        key = key_with(query.plan.digest, query.params)
    if getattr(compiler, "has_extra_select", False):
        # What was selected for the order alone is cut off each row before it is stored
        # (SQLCompiler.execute_sql()), and the text does not tell where.
        key = f"{key}:{compiler.col_count}"
    return key + _SINGLE_SUFFIX if result_type == SINGLE else key


@contextmanager
def _compiled(compiler: Any, query: CompiledQuery) -> Iterator[None]:
    """Let whoever compiles in the body, as ``execute_sql()`` does, find it compiled already."""
    compiler.as_sql = lambda *args, **kwargs: (query.sql, query.params)
    try:
        yield
    finally:
        del compiler.as_sql


class _Reading:
    """A read that runs its query, or that is reported to listeners."""

    __slots__ = ("_arguments", "_began", "_compiler", "_execute", "_query")

    def __init__(
        self,
        compiler: Any,
        execute: Callable[..., Any],
        result_type: str,
        chunked_fetch: bool,
        chunk_size: int,
        query: CompiledQuery | None = None,
        began: float = 0.0,
    ) -> None:
        self._compiler = compiler
        self._execute = execute
        self._arguments = (result_type, chunked_fetch, chunk_size)
        self._query = query
        self._began = began

    def switched_off(self) -> Any:
        """Ask the database: settings, the block around or the connection have it so."""
        stop = stopping.get()
        if stop is not None:
            raise stop(self._compiler, self._arguments[0])
        if not events.listeners and collecting.current() is None:
            return self._run()
        connection = self._compiler.connection
        self._began = _clock(state_of(connection))
        reason = why_not_used(connection) or "an iterator, and CACHALOT_CACHE_ITERATORS is off"
        if connection.needs_rollback:
            reason = "the transaction is broken and must be rolled back"
        elif not is_enabled():
            reason = what_switched_off()
        if not events.is_heard():
            collecting.spoil(reason)
            return self._run()
        try:
            self._query = compile_query(self._compiler)
        except Exception as error:
            if is_interruption(error):
                raise
            # The query itself will say so.
            logger.debug("Not compiled: %r", error)
            collecting.spoil(reason)
            return self._run()
        return self.uncached(Outcome.BYPASSED, reason)

    def uncached(self, outcome: Outcome, reason: str) -> Any:
        """Ask the database and store nothing."""
        assert self._query is not None
        logger.debug("Not cached, because %s: %s", reason, self._query.sql)
        collecting.spoil(reason)
        result, seconds = self._timed()
        if events.is_heard():
            self._tell(outcome, reason, seconds)
        return result

    def missed(self, target: Target) -> Any:
        """Ask the database and store the result."""
        collector = collecting.current()
        result, seconds = self._timed()

        def keep(rows: Any, seconds: float) -> None:
            assert self._query is not None
            try:
                state = state_of(self._compiler.connection)
                if collector is not None and is_overtaken(state, target):
                    collector.spoil(f"the result of a query {OVERTAKEN}")
                found = rows if self._arguments[0] != SINGLE else [] if rows is None else [rows]
                judged = target.judging(found)
                size = store(state, judged, self._query.tables, rows, seconds)
            except Unstorable as unstorable:
                give_up(unstorable.sentence())
            else:
                if events.is_heard():
                    assert not isinstance(judged.rows, ByValue)
                    self._tell(Outcome.MISS, None, seconds, size, rows=judged.rows)

        def give_up(reason: str) -> None:
            assert self._query is not None
            logger.debug("Not stored, because %s: %s", reason, self._query.sql)
            if events.is_heard():
                self._tell(Outcome.NOT_STORED, reason, seconds)

        if self._arguments[0] == SINGLE:
            keep(result, seconds)
        elif isinstance(result, list):
            keep([row for chunk in result for row in chunk], seconds)
        else:
            return stream(result, lambda rows, fetching: keep(rows, seconds + fetching), give_up)
        return result

    def _timed(self) -> tuple[Any, float]:
        """Return the result of the query, and the seconds that it took without connecting."""
        state = state_of(self._compiler.connection)
        began = _clock(state)
        result = self._run()
        return result, _clock(state) - began

    def _run(self) -> Any:
        compiler, query = self._compiler, self._query
        connection = compiler.connection
        state = state_of(connection)
        running = state.running
        if query is None:
            with executing(running, compiler):
                return self._execute(compiler, *self._arguments)
        settings, identity = running.settings, state.identity
        before, running.given = running.given, None
        with executing(running, compiler, lambda *args, **kwargs: (query.sql, query.params)):
            result = self._execute(compiler, *self._arguments)
        given, running.given = running.given, before
        # What a new physical connection is set to is no doing of the query, and the key of the next
        # one tells it.
        is_set = running.settings != settings and state.identity == identity
        if is_set or given is not query.sql:
            state.session.is_set_by_queries = True
            state.changes += 1
        return result

    def tell_hit(self, hit: Hit) -> None:
        """Tell the listeners what was found."""
        assert self._query is not None
        rows = self._query.rows if hit.is_by_rows else None
        self._tell(
            hit.outcome,
            None,
            hit.stored.seconds,
            hit.size,
            max(0.0, time() - hit.stored.stored_at),
            rows.found_in(hit.rows) if isinstance(rows, ByValue) else rows,
        )

    def _tell(
        self,
        outcome: Outcome,
        reason: str | None,
        query_seconds: float,
        size: int | None = None,
        age: float | None = None,
        rows: RowsAsked | None = None,
    ) -> None:
        query, connection = self._query, self._compiler.connection
        assert query is not None
        events.tell(
            events.Read(
                connection.alias,
                outcome,
                reason,
                query.sql,
                query.params,
                tuple(sorted(map(display_name, query.tables))),
                _clock(state_of(connection)) - self._began if self._began else query_seconds,
                query_seconds,
                size,
                age,
                () if rows is None else rows.named(),
            )
        )

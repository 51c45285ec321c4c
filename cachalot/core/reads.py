"""How a read becomes a hit, and what is stored when it does not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from django.core.exceptions import EmptyResultSet
from django.db import DatabaseError
from django.db.models.sql.constants import MULTI, SINGLE

from cachalot.core.catalogue import SCHEMA, catalogue_of, follow
from cachalot.core.compiled import CompiledQuery, compile_query
from cachalot.core.connection import Scope, State, may_use, state_of
from cachalot.core.failures import open_store
from cachalot.core.keys import version_keys
from cachalot.core.overlay import Entry, Level
from cachalot.core.refusal import UncachableQuery
from cachalot.core.snapshots import pinned_nonces
from cachalot.core.store import MissingVersions, pack, unpack
from cachalot.core.switch import is_enabled
from cachalot.settings import cachalot_settings

logger = logging.getLogger("cachalot")

#: Bytes of a stored result; a larger one is not stored, and no more of a stream is kept aside.
#: Memcached's own limit is 1 MiB.
MAX_ENTRY_BYTES = 8 * 1024 * 1024

_OF_BEGINNING = frozenset({Scope.SNAPSHOT, Scope.OVERLAY})

# Single-row results lie under the query's key with this behind it.
_SINGLE_SUFFIX = ":1"


class Target(NamedTuple):
    """Where the result of a query may be stored, and under which versions.

    Everything in it was read before the query ran.
    """

    key: str
    tables: tuple[str, ...]
    nonces: tuple[str, ...] | None
    private: tuple[str | None, ...]
    level: Level | None
    changes: int


def read(
    compiler: Any,
    execute: Callable[..., Any],
    result_type: str,
    chunked_fetch: bool,
    chunk_size: int,
) -> Any:
    """Return what ``execute(compiler, result_type, chunked_fetch, chunk_size)`` would return."""
    connection = compiler.connection
    if (
        (result_type != MULTI and result_type != SINGLE)
        or connection.needs_rollback
        or not is_enabled()
        or not may_use(connection)
        or (chunked_fetch and not cachalot_settings.CACHALOT_CACHE_ITERATORS)
    ):
        with covered(connection):
            return execute(compiler, result_type, chunked_fetch, chunk_size)
    # Connecting sets what belongs to the key: by init commands and connection_created receivers.
    connection.ensure_connection()
    try:
        query = compile_query(compiler)
    except EmptyResultSet:
        # As SQLCompiler.execute_sql() answers it, in every version of Django.
        return iter([]) if result_type == MULTI else None

    def run() -> Any:
        # Django compiles in execute_sql(): let it find what is compiled already.
        compiler.as_sql = lambda *args, **kwargs: (query.sql, query.params)
        of_thread = state_of(connection).of_thread
        is_reading, of_thread.is_reading = of_thread.is_reading, True
        try:
            with covered(connection):
                return execute(compiler, result_type, chunked_fetch, chunk_size)
        finally:
            of_thread.is_reading = is_reading
            del compiler.as_sql

    try:
        key = _key_of(compiler, query, result_type)
    except UncachableQuery as refusal:
        logger.debug("Not cached, because the query %s: %s", refusal.reason, query.sql)
        return run()
    state = state_of(connection)
    target, payload = _look_up(state, connection, key, query.tables)
    if payload is not None:
        try:
            rows = unpack(payload)
        except Exception as error:
            logger.debug("An entry could not be unpickled (%r): %s", error, query.sql)
        else:
            if result_type == SINGLE:
                return rows
            return iter([rows]) if chunked_fetch else [rows] if rows else []
    if target is None:
        return run()
    result = run()
    if result_type == SINGLE:
        _store(state, target, result)
    elif isinstance(result, list):
        _store(state, target, [row for chunk in result for row in chunk])
    else:
        return _stream(state, target, result)
    return result


class covered:
    """Tell the cursor that the statement to come is the compiler's own: nothing to classify."""

    __slots__ = ("_of_thread", "_previous")

    def __init__(self, connection: Any) -> None:
        self._of_thread = state_of(connection).of_thread

    def __enter__(self) -> None:
        self._previous = self._of_thread.is_covered
        self._of_thread.is_covered = True

    def __exit__(self, *exc_info: object) -> None:
        self._of_thread.is_covered = self._previous


def _key_of(compiler: Any, query: CompiledQuery, result_type: str) -> str:
    if query.refusal is not None:
        raise UncachableQuery(query.refusal)
    compiler.as_sql = lambda *args, **kwargs: (query.sql, query.params)
    try:
        key = cachalot_settings.query_key_generator()(compiler)
    finally:
        del compiler.as_sql
    return key + _SINGLE_SUFFIX if result_type == SINGLE else key


def _look_up(
    state: State, connection: Any, key: str, tables: frozenset[str]
) -> tuple[Target | None, bytes | None]:
    """Return where to store the result, None if nowhere; and the payload of a hit."""
    scope = state.scope()
    if scope in _OF_BEGINNING and not catalogue_of(connection).untransactional.isdisjoint(tables):
        return None, None  # such tables have no snapshot
    if scope is Scope.NONE or not state.of_thread.pending.isdisjoint(tables):
        return None, None
    names = tuple(sorted(tables))
    overlay = state.transaction() if state.is_in_transaction() else None
    private: tuple[str | None, ...] = (
        (None,) * len(names) if overlay is None else overlay.versions(names)
    )
    nonces: tuple[str, ...] | None = None
    payload: bytes | None = None
    if scope is Scope.SNAPSHOT:
        nonces, payload = _read_pinned(state, connection, key, tables)
        if any(private):
            payload = None
    elif scope is Scope.SHARED:
        keys = version_keys(connection.alias, tables)
        nonces, payload = _read_shared(keys, key)
        if nonces is None:
            return None, None
        if SCHEMA in tables:
            (schema_key,) = version_keys(connection.alias, frozenset({SCHEMA}))
            if not follow(connection, nonces[keys.index(schema_key)]):
                return None, None
        if any(private):
            payload = None  # the transaction has written one of the tables
    if overlay is None:
        level = None
    else:
        level = overlay.levels[-1]
        if payload is None:
            payload = overlay.get(key, nonces, private)
    return Target(key, names, nonces, private, level, state.changes), payload


def _read_pinned(
    state: State, connection: Any, key: str, tables: frozenset[str]
) -> tuple[tuple[str, ...] | None, bytes | None]:
    """Return the versions of the transaction's snapshot and what is stored under them."""
    opened = open_store(cachalot_settings.CACHALOT_CACHE)
    if opened is None or SCHEMA in tables:
        return None, None
    store, guard = opened
    try:
        if not guard.is_usable(store):
            return None, None
        nonces = pinned_nonces(state, connection, store, tables)
        return nonces, None if nonces is None else store.entry(key, nonces)
    except DatabaseError:
        raise
    except Exception as error:
        guard.failed(error)
        if cachalot_settings.CACHALOT_CACHE_ERRORS == "raise":
            raise
        return None, None


def _read_shared(keys: tuple[str, ...], key: str) -> tuple[tuple[str, ...] | None, bytes | None]:
    opened = open_store(cachalot_settings.CACHALOT_CACHE)
    if opened is None:
        return None, None
    store, guard = opened
    if not guard.is_usable(store):
        return None, None
    try:
        return store.read(keys, key)
    except MissingVersions:
        return None, None
    except Exception as error:
        guard.failed(error)
        if cachalot_settings.CACHALOT_CACHE_ERRORS == "raise":
            raise
        return None, None


def _store(state: State, target: Target, rows: Any) -> None:
    # Something was written, rolled back or closed on this connection since: the result may hold
    # what never becomes visible to others.
    if state.changes != target.changes:
        return
    payload = _pack(rows)
    if payload is None:
        return
    if target.level is None:
        assert target.nonces is not None
        publish({target.key: (target.nonces, payload)})
    elif state.overlay is not None:
        entry = Entry(target.tables, target.nonces, target.private, payload)
        state.overlay.put(target.level, target.key, entry)


def _pack(rows: Any) -> bytes | None:
    """Return ``rows`` as bytes, None if they cannot be stored."""
    try:
        payload = pack(rows)
    except Exception as error:
        logger.debug("Not stored, because the result cannot be pickled: %r", error)
        return None
    if len(payload) > MAX_ENTRY_BYTES:
        logger.debug("Not stored, because the result takes %d bytes", len(payload))
        return None
    return payload


def publish(entries: dict[str, tuple[tuple[str, ...], bytes]]) -> None:
    """Store entries in the shared cache, where every connection may find them. Never raise."""
    timeout = cachalot_settings.CACHALOT_TIMEOUT
    opened = open_store(cachalot_settings.CACHALOT_CACHE)
    if opened is None or not entries or (timeout is not None and timeout <= 0):
        return
    store, guard = opened
    try:
        if guard.is_usable(store):
            store.put(entries, timeout)
    except Exception as error:
        # The cache may refuse one value, by its size for instance, and be well otherwise. If it
        # is not, the next read will notice.
        logger.debug("Not stored, because the cache refused (%r)", error)


def _stream(state: State, target: Target, chunks: Iterator[list[Any]]) -> Iterator[list[Any]]:
    """Pass rows on as they come; store them if all have come and there were not too many."""
    kept: list[bytes] | None = []
    kept_bytes = 0
    try:
        for chunk in chunks:
            if kept is not None:
                # Packed before the reader gets them, who may change a cell in place.
                packed = _pack(chunk)
                kept_bytes += len(packed or b"")
                if packed is None or kept_bytes > MAX_ENTRY_BYTES:
                    kept = None
                else:
                    kept.append(packed)
            yield chunk
    finally:
        # Close the database's cursor now, not when the collector comes by.
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
    if kept is not None:
        _store(state, target, [row for packed in kept for row in unpack(packed)])

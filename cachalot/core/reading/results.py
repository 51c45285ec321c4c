"""What becomes of a result that the database has given."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from time import perf_counter, time
from typing import Any

from cachalot.core.cache.door import guard_of
from cachalot.core.cache.entries import Stored, pack, unpack
from cachalot.core.connection.overlay import Entry
from cachalot.core.connection.state import State
from cachalot.core.interruptions import is_interruption
from cachalot.core.outcomes import CacheUnavailable, Unstorable
from cachalot.core.reading.targets import Target
from cachalot.core.schema.timeouts import timeout_of

logger = logging.getLogger("cachalot")

#: Bytes of a stored result; a larger one is not stored, and no more of a stream is kept aside.
#: Memcached's own limit is 1 MiB.
MAX_ENTRY_BYTES = 8 * 1024 * 1024

#: Why a result may not be what others would get.
OVERTAKEN = "was overtaken by a write or the end of a transaction on its connection"


def store(state: State, target: Target, tables: frozenset[str], rows: Any, seconds: float) -> int:
    """Store ``rows``, whose query took ``seconds``, and return the bytes that they take.

    Raise ``Unstorable`` with the reason if that cannot be.
    """
    if is_overtaken(state, target):
        raise Unstorable(OVERTAKEN)
    stored = Stored(packed(rows), time(), seconds)
    if target.level is None:
        assert target.shared_versions is not None
        publish({target.key: (target.shared_versions, tables, stored)})
    elif (overlay := state.transaction.overlay) is not None:
        entry = Entry(
            target.tables,
            target.shared_versions,
            target.own_versions,
            stored,
            target.found_versions or target.shared_versions,
        )
        overlay.put(target.level, target.key, entry)
    return len(stored.payload)


def is_overtaken(state: State, target: Target) -> bool:
    """Whether something was written, rolled back or closed on the connection since.

    It may be in the result, and may never become visible to others.
    """
    return state.changes != target.changes


def packed(rows: Any) -> bytes:
    """Return ``rows`` as bytes. Raise ``Unstorable`` where that cannot be, or is too much."""
    try:
        payload = pack(rows)
    except Exception as error:
        if is_interruption(error):
            raise
        raise Unstorable(f"cannot be pickled: {error!r}") from error
    if len(payload) > MAX_ENTRY_BYTES:
        raise Unstorable(f"takes {len(payload):,} bytes")
    return payload


def publish(entries: dict[str, tuple[tuple[str, ...], frozenset[str], Stored]]) -> None:
    """Store results in the shared cache, where every connection may find them.

    Each is given by its key as the versions, the tables and the result. Raise ``Unstorable`` if
    one of them is not stored.
    """
    by_timeout: dict[float | None, dict[str, tuple[tuple[str, ...], Stored]]] = {}
    for key, (nonces, tables, stored) in entries.items():
        by_timeout.setdefault(timeout_of(tables), {})[key] = nonces, stored
    put(by_timeout)


def put(
    by_timeout: Mapping[float | None, dict[str, tuple[tuple[str, ...], Stored]]],
    cache_alias: str | None = None,
) -> None:
    """Store entries in a cache, by default the one in use, each for the seconds it is given under.

    Raise ``Unstorable`` if one of them is not stored.
    """
    guard = guard_of(cache_alias)
    try:
        cache = guard.readable_store()
        for timeout, group in by_timeout.items():
            if timeout is None or timeout > 0:
                cache.put(group, timeout)
        guard.flaws.refusals = 0
    except CacheUnavailable as error:
        raise Unstorable(error.reason) from error
    except Exception as error:
        if is_interruption(error):
            raise
        # The cache may refuse one value, by its size for instance, and be well otherwise. If it
        # is not, the next read will notice.
        store = guard.store()
        guard.flaws.note_refusal(None if store is None else store.cache)
        raise Unstorable(f"is refused by the cache: {error!r}") from error
    if any(timeout is not None and timeout <= 0 for timeout in by_timeout):
        raise Unstorable("may be kept for no time, by CACHALOT_TIMEOUT or CACHALOT_TIMEOUTS")


def stream(
    chunks: Iterator[list[Any]],
    keep: Callable[[list[Any], float], None],
    give_up: Callable[[str], None],
) -> Iterator[list[Any]]:
    """Pass rows on as they come.

    If all have come, call ``keep`` with all rows and the seconds that the database took; call
    ``give_up`` with the reason if there were too many to keep aside.
    """
    kept: list[bytes] | None = []
    kept_bytes = 0
    reason, seconds = "", 0.0
    try:
        while True:
            began = perf_counter()
            chunk = next(chunks, None)
            seconds += perf_counter() - began
            if chunk is None:
                break
            if kept is not None:
                # Packed before the reader gets them, who may change a cell in place.
                try:
                    kept.append(packed(chunk))
                    kept_bytes += len(kept[-1])
                    if kept_bytes > MAX_ENTRY_BYTES:
                        raise Unstorable(f"takes more than {MAX_ENTRY_BYTES:,} bytes")
                except Unstorable as error:
                    kept, reason = None, error.sentence()
            yield chunk
    finally:
        # Close the database's cursor now, not when the collector comes by.
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
    if kept is None:
        give_up(reason)
    else:
        keep([row for packed in kept for row in unpack(packed)], seconds)

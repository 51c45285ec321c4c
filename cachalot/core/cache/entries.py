"""A result as it lies in the cache: packed, with the versions of its tables."""

from __future__ import annotations

import pickle
from io import BytesIO
from operator import methodcaller
from typing import Any, NamedTuple
from zlib import crc32

from cachalot.core.outcomes import Outcome

# Part of every entry's checksum: an entry of another format is a miss.
_FORMAT = b"3 "


class Hit(NamedTuple):
    """A result that was found; the reader may keep and change its rows. ``size`` is in bytes.

    ``is_by_rows`` tells whether it depends on rows in place of their table.
    """

    rows: Any
    outcome: Outcome
    stored: Stored
    size: int
    is_by_rows: bool = False


class Stored(NamedTuple):
    """A result as it is kept: its pickled rows, when that was, and how long its query took.

    ``stored_at`` is in seconds since the epoch, ``seconds`` the time of the query.
    """

    payload: bytes
    stored_at: float
    seconds: float


class Outdated(NamedTuple):
    """A result of other versions than those in force: how many seconds its query took."""

    seconds: float


def stored_in(key: str, entry: object, nonces: tuple[str, ...] | None) -> Stored | Outdated | None:
    """Return the result in what lies under ``key``, if it is of these versions.

    None are those of a table that is being written: no result is of them.
    """
    if not isinstance(entry, (tuple, list)) or len(entry) != 5:
        return None
    checksum, entry_nonces, payload, stored_at, seconds = entry
    # Serializers other than pickle may know no tuples.
    if not isinstance(entry_nonces, (tuple, list)) or not isinstance(payload, bytes):
        return None
    if not isinstance(stored_at, float) or not isinstance(seconds, float):
        return None
    if tuple(entry_nonces) != nonces:
        return Outdated(seconds)
    return Stored(payload, stored_at, seconds) if checksum == checksum_of(key, payload) else None


def nonces_after(entry: object, nonces: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the nonces of an entry, if they are these and one more."""
    if not isinstance(entry, (tuple, list)) or len(entry) != 5:
        return None
    entry_nonces = tuple(entry[1]) if isinstance(entry[1], (tuple, list)) else ()
    return entry_nonces if entry_nonces and entry_nonces[:-1] == nonces else None


def checksum_of(key: str, payload: bytes) -> int:
    # A pickle with a bit flipped may well be loaded, as other rows. And a client that lost count
    # of its answers, after a timeout for instance, gives the answer to another question.
    return crc32(payload, crc32(_FORMAT + key.encode("utf-8", "surrogatepass")))


class _Pickler(pickle.Pickler):
    # psycopg2 and sqlite3 give memoryview for binary columns, which pickle alone refuses.
    def reducer_override(self, obj: object) -> Any:
        if not isinstance(obj, memoryview):
            return NotImplemented
        if obj.format == "B":
            return memoryview, (obj.tobytes(),)
        # psycopg2's is of "c", and views of unlike formats are never equal.
        return methodcaller("cast", obj.format), (memoryview(obj.tobytes()),)


def pack(rows: object) -> bytes:
    """Return ``rows`` as bytes. Raise what pickle raises for a value it cannot take."""
    try:
        return pickle.dumps(rows, pickle.HIGHEST_PROTOCOL)
    except TypeError:
        buffer = BytesIO()
        _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(rows)
        return buffer.getvalue()


def unpack(payload: bytes) -> Any:
    """Return new rows at each call. Raise what pickle raises for a damaged payload."""
    return pickle.loads(payload)

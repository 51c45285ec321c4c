"""What a version is, and where a new one comes from."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from cachalot.core.locks import fork_safe_lock

#: When it was made, in seconds since the epoch, and its nonce; None while somebody is at work.
Version = tuple[float, "str | None"]


#: How keys begin under which the version of a schema lies, not of a table. What is learnt from a
#: database outlives ``cache.clear()``, where the cache can tell.
SCHEMA_PREFIX = "cachalot:schema:"

#: Seconds after which a writer that was killed no longer keeps its tables from being cached.
PENDING_TIMEOUT = 300


class Mark:
    """What one write has marked as pending, where a cache tells whose marks are whose.

    A cache fills it in when it sets marks, and a board takes out what it lifts.
    """

    __slots__ = ("_owner", "place", "windows")

    def __init__(self) -> None:
        self._owner = ""
        #: The board on which marks were set: they are lifted nowhere else.
        self.place: object = None
        #: The number of the window of time in which each was set there.
        self.windows: dict[int, int] = {}

    def owner(self) -> str:
        """Return the name that the marks of this write have, for a cache that sets some."""
        if not self._owner:
            self._owner = os.urandom(8).hex()
        return self._owner

    def known_owner(self) -> str:
        """Return the same; an empty one if no cache was asked to set any."""
        return self._owner

    def may_stand(self) -> bool:
        """Whether marks may have been set, as far as is known."""
        return bool(self._owner or self.windows)


class Clock:
    """Wall-clock time that never gives the same value twice in one process.

    A clock that stands still or steps back would make two invalidations look like one to whoever
    builds cache keys from ``get_last_invalidation()``.
    """

    def __init__(self, time_function: Callable[[], float] = time.time) -> None:
        self._time = time_function
        self._last = 0.0
        self._lock = fork_safe_lock()

    def __call__(self) -> float:
        with self._lock:
            # A float of today's time resolves about 0.2 µs.
            self._last = max(self._time(), self._last + 1e-6)
            return self._last


clock = Clock()


def new_nonce() -> str:
    """Return a value that has never been used before."""
    return os.urandom(16).hex()


def is_version(value: Any) -> bool:
    """Whether it is a version. Behind one that is pending may stand whose marks it has."""
    # Serializers other than pickle may know no tuples.
    return (
        (type(value) is tuple or type(value) is list)
        and (len(value) == 2 or (len(value) == 3 and value[1] is None))
        and type(value[0]) is float
        and (type(value[1]) is str or value[1] is None)
    )


def nonce_in(value: Any) -> str | None:
    """Return the nonce of a version, None if it is pending or no version at all."""
    return value[1] if is_version(value) else None

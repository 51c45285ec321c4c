"""Which reign of a cache it is: one that may have forgotten a renewal is another cache.

A restart from a dump, a failover or a split brain may bring back versions that were replaced. So a
server is known by an identity that these change, and beside the versions lies one line: the
identity under which the present reign was begun, its number, and a word that no other reign has.
An entry is stored and found under that word as well as under its versions. Versions and marks lie
under the same keys in every reign: whoever knows nothing of reigns invalidates for all.
``tests/protocol/reigns.py`` has the rules, and what goes wrong without each.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import NamedTuple

from cachalot.core.locks import fork_safe_lock

#: What the line lies under.
LINE_KEY = "cachalot:reign"

#: Seconds for which a server that was asked who it is, on one connection, is not asked again.
CHECK_SECONDS = 1.0

#: The identity of a server that does not tell it.
HIDDEN = "-"


class NotPrimary(OSError):
    """The server that answers follows another one, and lags behind it."""


class Line(NamedTuple):
    """A reign: how many there were, its word, and the identity of the server it was begun on."""

    number: int
    word: str
    identity: str

    def as_text(self) -> str:
        """Return what lies in the cache, once it is encoded like any value."""
        return f"{self.number} {self.word} {self.identity}"


def line_in(value: object) -> Line | None:
    """Return the line that a decoded value of the cache is; None for what is no line."""
    try:
        number, word, identity = str(value).split(" ")
        return Line(int(number), word, identity)
    except ValueError:
        return None


def identity_in(server: object, replication: object) -> str:
    """Return a server's identity by the sections of its INFO; ``HIDDEN`` where it tells none.

    ``run_id`` changes with each start, ``master_replid`` with each promotion as well. Raise
    ``NotPrimary`` for a server that follows another one.
    """
    facts = dict(
        fact.partition(b":")[::2]
        for section in (server, replication)
        if isinstance(section, bytes)
        for fact in section.split(b"\r\n")
    )
    role = facts.get(b"role", b"master")
    if role != b"master":
        raise NotPrimary(
            f"the Redis server that answers is no primary but {role.decode()!r}, whose versions "
            "do not count"
        )
    # Both are random, and the line is read with each answer.
    known = facts.get(b"run_id", b"")[:12] + facts.get(b"master_replid", b"")[:12]
    return known.decode() or HIDDEN


class Reigns:
    """What this process knows of the reigns of one cache."""

    def __init__(self, time_function: Callable[[], float] = time.monotonic) -> None:
        self.time = time_function
        self._lock = fork_safe_lock()
        #: The latest that it has met.
        self.seen: Line | None = None
        # Servers whose versions it has written while it knew no other.
        self._written: frozenset[str] = frozenset()

    def note_write(self, identity: str) -> None:
        """Note that versions were written to a server of this identity."""
        if identity not in self._written:
            with self._lock:
                self._written |= {identity}

    def meet(self, identity: str, found: Line | None) -> tuple[Line, bool]:
        """Return the reign to go by on a server, and whether it is yet to be begun there.

        A reign that goes on is told by the same object for as long as no other is met.
        """
        with self._lock:
            seen = self.seen
            if (
                found is not None
                and (found.identity == identity or identity == HIDDEN)
                and (seen is None or found == seen or found.number > seen.number)
                and self._written <= {identity}
            ):
                if seen is None or found != seen:
                    self.seen = seen = found
                return seen, False
            number = 1 + max(line.number if line else 0 for line in (seen, found))
            return Line(number, os.urandom(8).hex(), identity), True

    def note_begun(self, line: Line) -> None:
        """Note that this process has begun a reign."""
        with self._lock:
            self.seen = line
            self._written &= {line.identity}


_known: dict[object, Reigns] = {}


def reigns_of(cache: object) -> Reigns:
    """Return what the process knows of a cache, told by the servers and keys that it has."""
    return _known.setdefault(cache, Reigns())

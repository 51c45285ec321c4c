"""How a read can end, and the reasons why it is no hit."""

from __future__ import annotations

from enum import Enum


class Outcome(Enum):
    """How a read ended."""

    LOCAL_HIT = "local hit"  # found in this process
    HIT = "hit"  # found in the shared cache
    TRANSACTION_HIT = "transaction hit"  # found among what the open transaction has read
    MISS = "miss"  # the database answered, and the result was stored
    NOT_STORED = "not stored"  # the database answered, and the result could not be stored
    NOT_CACHED = "not cached"  # the query or the settings forbid it
    BYPASSED = "bypassed"  # it could have been cached, but not here and now

    @property
    def is_hit(self) -> bool:
        return self in {Outcome.LOCAL_HIT, Outcome.HIT, Outcome.TRANSACTION_HIT}


class UncachableQuery(Exception):
    """A query that must not be cached; ``reason`` says why, in words for the user."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class Bypass(Exception):
    """The result may neither be found nor stored; ``args`` says why."""


class Unstorable(Exception):
    """The result is not stored; ``args`` says why."""

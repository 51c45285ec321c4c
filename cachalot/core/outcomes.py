"""How a read can end, and the reasons why it is no hit."""

from __future__ import annotations

from enum import Enum
from typing import ClassVar


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


class Refused(Exception):
    """A read that is no hit. ``reason`` says why, in words for the user, without their subject."""

    outcome: ClassVar[Outcome]
    subject: ClassVar[str] = "the query"

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason

    def sentence(self) -> str:
        """Return the whole reason."""
        return f"{self.subject} {self.reason}"


class UncachableQuery(Refused):
    """A query that must not be cached."""

    outcome = Outcome.NOT_CACHED


class Bypass(Refused):
    """The result may neither be found nor stored here and now."""

    outcome = Outcome.BYPASSED


class CacheUnavailable(Bypass):
    """The cache cannot be used now, or has just failed."""

    def __init__(self, reason: str = "meets a cache that does not answer") -> None:
        super().__init__(reason)


class MissingVersions(CacheUnavailable):
    """The cache loses what is written to it, so nothing can be cached."""


class Unstorable(Refused):
    """The result of the database is not stored."""

    outcome = Outcome.NOT_STORED
    subject = "the result"

"""Why a query is not cached."""

from __future__ import annotations


class UncachableQuery(Exception):
    """A query that must not be cached; ``reason`` says why, in words for the user."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason

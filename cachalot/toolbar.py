"""Keeps what the toolbar itself does out of what the panel shows.

Its other panels take a stack trace within each query and each call of the cache, which takes longer
than most of them. The toolbar has no hook around that: what it calls is called in the midst of it.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

from debug_toolbar.panels.cache import CachePanel
from debug_toolbar.panels.sql import tracking
from django.db import connections

from cachalot.core.connection.state import state_of
from cachalot.core.patches import patch


class _Timed:
    """A function that notes when it began and ended."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._seconds = 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        began = perf_counter()
        try:
            return self._function(*args, **kwargs)
        finally:
            self._seconds += perf_counter() - began

    def seconds_around(self, began: float) -> float:
        """Return the seconds since ``began`` that were not the function's."""
        return perf_counter() - began - self._seconds


def install() -> None:
    """Wrap how the toolbar records queries and calls of the cache. A second call does nothing."""
    # The class is called otherwise until its version 4.
    for name in ("NormalCursorMixin", "NormalCursorWrapper"):
        if hasattr(tracking, name):
            patch(getattr(tracking, name), "_record", _queries_recorded)
    patch(CachePanel, "_record_call", _calls_recorded)


def is_asking() -> bool:
    """Whether the toolbar itself reads, to show what templates were given."""
    return not tracking.allow_sql.get()


def _queries_recorded(original: Callable[..., Any]) -> Callable[..., Any]:
    def _record(self: Any, method: Callable[..., Any], *args: Any) -> Any:
        timed, began = _Timed(method), perf_counter()
        try:
            return original(self, timed, *args)
        finally:
            state_of(self.db).connecting_seconds += timed.seconds_around(began)

    return _record


def _calls_recorded(original: Callable[..., Any]) -> Callable[..., Any]:
    def _record_call(self: Any, *args: Any) -> Any:
        *names, method, positional, named = args
        timed, began = _Timed(method), perf_counter()
        try:
            return original(self, *names, timed, positional, named)
        finally:
            seconds = timed.seconds_around(began)
            # Whichever of them is being read, if any is.
            for connection in connections.all(initialized_only=True):
                state_of(connection).connecting_seconds += seconds

    return _record_call

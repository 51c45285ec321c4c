"""Querysets that run their query again each time they are used, where caching is switched off so.

``patches`` wraps Django's ``QuerySet`` with these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django.db.models.query import QuerySet

from cachalot.core import switch


def evaluating(original: Callable[..., Any]) -> Callable[..., Any]:
    def _fetch_all(self: QuerySet[Any]) -> None:
        # Prefetching goes through its own querysets more than once, and relies on finding the
        # same instances there.
        if not switch.is_reevaluating():
            original(self)
            return
        with switch.evaluating_once():
            original(self)

    return _fetch_all


def reevaluating(original: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: QuerySet[Any], *args: Any, **kwargs: Any) -> Any:
        if switch.is_reevaluating():
            _forget_rows(self)
        return original(self, *args, **kwargs)

    return method


def reevaluating_iteration(original: Callable[..., Any]) -> Callable[..., Any]:
    def __iter__(self: Any) -> Iterator[Any]:
        if not switch.is_reevaluating():
            rows: Iterator[Any] = original(self)
            return rows
        _forget_rows(self)
        rows = original(self)
        # list() asks for the length between iter() and next(): that is no second use.
        self._cachalot_has_new_rows = True
        return _iterating(self, rows)

    return __iter__


def _iterating(queryset: Any, rows: Iterator[Any]) -> Iterator[Any]:
    queryset._cachalot_has_new_rows = False
    yield from rows


def _forget_rows(queryset: Any) -> None:
    if getattr(queryset, "_cachalot_has_new_rows", False):
        queryset._cachalot_has_new_rows = False
    elif queryset._result_cache is not None:
        queryset._result_cache = None
        queryset._prefetch_done = False

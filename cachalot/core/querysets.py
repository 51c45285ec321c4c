"""Querysets that are never cached, or run their query again each time they are used.

``patches`` wraps Django's ``QuerySet`` with these, once somebody asks for such querysets.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db.models.query import QuerySet

from cachalot.core import switch
from cachalot.core.reading.compiled import FRESH

_END = object()


@contextmanager
def _asking_the_database() -> Iterator[None]:
    switch.enter(is_enabled=False, by="fresh()")
    try:
        yield
    finally:
        switch.leave()


def prefetching(original: Callable[..., None]) -> Callable[..., None]:
    def _prefetch_related_objects(self: Any) -> None:
        if not hasattr(self._query, FRESH):
            original(self)
            return
        with _asking_the_database():
            original(self)

    return _prefetch_related_objects


def prefetching_iteration(original: Callable[..., Any]) -> Callable[..., Any]:
    def _iterator(self: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        rows: Iterator[Any] = original(self, *args, **kwargs)
        return _fresh(rows) if hasattr(self._query, FRESH) else rows

    return _iterator


def _fresh(rows: Iterator[Any]) -> Iterator[Any]:
    while True:
        # Not around the yield: what is done with a row is not meant.
        with _asking_the_database():
            row = next(rows, _END)
        if row is _END:
            return
        yield row


def prefetching_aiteration(original: Callable[..., Any]) -> Callable[..., Any]:
    def aiterator(self: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        rows: AsyncIterator[Any] = original(self, *args, **kwargs)
        return _afresh(rows) if hasattr(self._query, FRESH) else rows

    return aiterator


async def _afresh(rows: AsyncIterator[Any]) -> AsyncIterator[Any]:
    while True:
        with _asking_the_database():
            row = await anext(rows, _END)
        if row is _END:
            return
        yield row


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

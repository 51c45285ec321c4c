"""Mistakes that mypy must find: it complains of an ``ignore`` that it does not need."""

from __future__ import annotations

from django.http import HttpRequest

from cachalot.api import (
    cachalot_disabled,
    cachalot_enabled,
    explain,
    get_last_invalidation,
    get_stats,
    invalidate,
)
from cachalot.cache import cachalot_caches
from cachalot.signals import post_invalidation
from cachalot.utils import UncachableQuery, get_table_cache_key
from tests.library.models import Book
from tests.typing import uses


def of_arguments() -> None:
    invalidate(Book(title="Typee"))  # type: ignore[arg-type]
    invalidate([Book])  # type: ignore[arg-type]
    invalidate(HttpRequest)  # type: ignore[arg-type]
    invalidate(Book, using="other")  # type: ignore[call-arg]
    get_last_invalidation(1)  # type: ignore[arg-type]
    explain(Book.objects.get())  # type: ignore[arg-type]
    explain(Book.objects.count())  # type: ignore[arg-type]
    get_stats("default")  # type: ignore[call-arg]
    cachalot_disabled(all_queries="no")  # type: ignore[call-overload]
    cachalot_enabled(all_queries=True)  # type: ignore[call-overload]
    cachalot_caches.get_cache(1)  # type: ignore[arg-type]
    get_table_cache_key("default", Book)  # type: ignore[arg-type]
    UncachableQuery(Book)  # type: ignore[arg-type]
    post_invalidation.connect("told")  # type: ignore[arg-type]


def of_results() -> None:
    explanation = explain(Book.objects.all())
    print(explanation.cachable)  # type: ignore[attr-defined]
    explanation.key.upper()  # type: ignore[union-attr]
    explanation.reason = ""  # type: ignore[misc]
    print(invalidate(Book))  # type: ignore[func-returns-value]
    get_last_invalidation(Book).upper()  # type: ignore[attr-defined]


async def of_what_is_decorated(request: HttpRequest) -> None:
    uses.bare("1")  # type: ignore[arg-type]
    uses.bare(1, "Typee")  # type: ignore[call-arg]
    uses.called()  # type: ignore[call-arg]
    uses.everything(1)  # type: ignore[arg-type]
    uses.bare_enabled(first=Book(), second=Book())  # type: ignore[call-arg]
    uses.called_enabled(first=1)  # type: ignore[arg-type]
    print(uses.coroutine(1).title)  # type: ignore[attr-defined]
    uses.generator("2")  # type: ignore[arg-type]
    uses.function_view(request)  # type: ignore[call-arg]
    print(uses.BareView().shelves)  # type: ignore[attr-defined]
    uses.EnabledView().rows()  # type: ignore[call-arg]


def of_what_is_decorated_with() -> None:
    cachalot_disabled(1)(len)  # type: ignore[call-overload]
    cachalot_disabled()(3)  # type: ignore[type-var]
    cachalot_enabled()("library")  # type: ignore[type-var]

"""Keeps the page of ``benchmarks.pages`` in one way, and measures it."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

import django
from django.core.cache import cache
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse
from django.template import Context, Engine
from django.test import RequestFactory, override_settings
from django.views.decorators.cache import cache_page

from benchmarks.pages import BOOKS, TEMPLATE
from benchmarks.timing import time_together

django.setup()

# These need Django's apps.
from benchmarks.library import dataset  # noqa: E402
from benchmarks.library.models import Author, Book, Review, Tag  # noqa: E402

View = Callable[[HttpRequest], Any]


def _view(template: Any) -> View:
    def page(request: HttpRequest) -> HttpResponse:
        books = Book.objects.order_by("pk")[:BOOKS]
        return HttpResponse(template.render(Context({"books": books})))

    return page


def _kept(way: str) -> View:
    """Return the view, kept in the way."""
    plain = _view(Engine().from_string(TEMPLATE))
    if way in {"plain", "queries"}:
        return plain
    if way == "cache_page":
        return cache_page(3600)(plain)
    if way == "cached_view_as":
        # Installed where it is the contender.
        from cacheops import cached_view_as

        view: View = cached_view_as(Book, Author, Review, Tag, timeout=3600)(plain)
        return view
    from cachalot.api import cached_view

    if way == "cached_view":
        return cached_view(plain)
    engine = Engine(libraries={"cachalot": "cachalot.templatetags.cachalot"})
    source = '{% load cachalot %}{% cached "page" %}' + TEMPLATE + "{% endcached %}"
    return _view(engine.from_string(source))


def _clear(way: str) -> None:
    cache.clear()
    if way == "cached_view_as":
        from cacheops import invalidate_all

        invalidate_all()


def main() -> None:
    """Print, as JSON, seconds of a hit and of the first request, and whether a write is seen."""
    way, seconds = sys.argv[1], float(sys.argv[2])
    call_command("migrate", run_syncdb=True, verbosity=0)
    dataset.fill(10)
    view, requests = _kept(way), RequestFactory()

    def ask() -> bytes:
        content: bytes = view(requests.get("/books/")).content
        return content

    with override_settings(ALLOWED_HOSTS=["testserver"]):
        ask()
        _clear(way)
        gc.collect()
        gc.freeze()
        began = perf_counter()
        ask()
        first = perf_counter() - began
        ask()
        number = max(20, min(5000, int(seconds / max(time_together(ask, 3).median, 1e-6))))
        hit = time_together(ask, number)
        book = Book.objects.get(pk=7)
        book.title = "Another title"
        book.save()
        is_right = b"Another title" in ask()
    _clear(way)
    print(json.dumps({"hit": hit.median, "first": first, "is_right": is_right}))


if __name__ == "__main__":
    main()

"""Serve a page with ``?cache=off`` from the database alone, with ``?cache=block`` as a whole."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.dummy import DummyCache
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import reverse

from cachalot.api import cachalot_disabled
from library.blocks import whole_pages

FRAGMENTS = "template_fragments"
PLACE_OF_FOOTER = b"<footer></footer>"
MODES = {"on": "cached", "off": "without cache", "block": "cached as a block"}

# What each page has last cost in this process, by path and mode.
_costs: dict[str, dict[str, tuple[int, float]]] = {}


@contextmanager
def nothing_cached() -> Iterator[None]:
    """Render pages from the database alone: no cached query, no cached template fragment.

    Replacing the cache of the fragments, in this thread, spares clearing it: with Redis or
    Memcached, that would delete what other sites keep there.
    """
    fragments = caches[FRAGMENTS]
    caches[FRAGMENTS] = DummyCache("", {})
    try:
        with cachalot_disabled():
            yield
    finally:
        caches[FRAGMENTS] = fragments


class QueryCounter:
    """Count the statements of a connection, as an execute wrapper."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, execute: Any, sql: Any, params: Any, many: Any, context: Any) -> Any:
        self.number += 1
        return execute(sql, params, many, context)


class ModesMiddleware:
    """Serve each page in the mode that its address asks for, and say below it what it cost."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        self.get_whole_page = whole_pages(get_response)

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path.startswith(reverse("admin:index")):
            return self.get_response(request)
        asked = request.GET.get("cache", "on")
        mode = asked if asked in MODES else "on"
        if not settings.SHOWS_COSTS:
            return self._serve(request, mode)
        counter, began = QueryCounter(), perf_counter()
        with connection.execute_wrapper(counter):
            response = self._serve(request, mode)
        milliseconds = (perf_counter() - began) * 1000
        if PLACE_OF_FOOTER in getattr(response, "content", b""):
            cost = counter.number, milliseconds
            response.content = response.content.replace(
                PLACE_OF_FOOTER, _footer(request, mode, cost).encode()
            )
        return response

    def _serve(self, request: HttpRequest, mode: str) -> HttpResponse:
        if mode == "block":
            return self.get_whole_page(request)
        if mode == "off":
            with nothing_cached():
                return self.get_response(request)
        return self.get_response(request)


def _footer(request: HttpRequest, mode: str, cost: tuple[int, float]) -> str:
    """Return what the page cost now, and in the other modes when they were last asked for."""
    query = request.GET.copy()
    query.pop("cache", None)
    costs = _costs.setdefault(f"{request.path}?{query.urlencode()}", {})
    costs[mode] = cost
    others = []
    for other, name in MODES.items():
        if other != mode:
            query["cache"] = other
            others.append((name, f"{request.path}?{query.urlencode()}", costs.get(other)))
    context = {"name": MODES[mode], "cost": cost, "others": others}
    return render_to_string("library/_footer.html", context)

"""Visit pages of the site with and without caching, and measure."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from statistics import median
from time import perf_counter

from django.core.cache import caches
from django.core.cache.backends.dummy import DummyCache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from cachalot.api import cachalot_disabled, invalidate

FRAGMENTS = "template_fragments"


class WrongPageError(Exception):
    """Say that a page did not answer as it should."""


@dataclass(frozen=True)
class Page:
    """Name a page and its path."""

    name: str
    path: str


@dataclass(frozen=True)
class Visit:
    """Hold what one request of a page cost and gave."""

    queries: list[str]
    content: str


@dataclass(frozen=True)
class Measure:
    """Hold the queries of a page and the median of its milliseconds."""

    queries: int
    milliseconds: float


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


class Walk:
    """Visit the same pages again and again, always in the same order."""

    def __init__(self, pages: list[Page]) -> None:
        self.pages = pages
        self.client = Client(SERVER_NAME="localhost")

    def content_of(self, page: Page) -> str:
        """Return the HTML of ``page``; raise WrongPageError when the status is not 200."""
        response = self.client.get(page.path)
        if response.status_code != 200:
            raise WrongPageError(f"{page.path} answered {response.status_code} instead of 200.")
        return response.content.decode()

    def visit(self) -> dict[Page, Visit]:
        """Visit every page once and count its queries."""
        visits = {}
        for page in self.pages:
            with CaptureQueriesContext(connection) as queries:
                content = self.content_of(page)
            visits[page] = Visit([query["sql"] for query in queries], content)
        return visits

    def time(self) -> dict[Page, float]:
        """Visit every page once and return the milliseconds of each.

        The queries are not captured meanwhile, because that takes time by itself.
        """
        milliseconds = {}
        for page in self.pages:
            start = perf_counter()
            self.content_of(page)
            milliseconds[page] = (perf_counter() - start) * 1000
        return milliseconds


@dataclass(frozen=True)
class Comparison:
    """Hold what the pages cost without cache, the first time and cached."""

    without: dict[Page, Measure]
    cold: dict[Page, Measure]
    cached: dict[Page, Measure]
    visits: dict[Page, Visit]
    problems: list[str]


def compare(walk: Walk, rounds: Iterable[int]) -> Comparison:
    """Walk three times in each of ``rounds``: without cache, with a cold cache, with a warm one.

    One more walk of each kind, before these, counts the queries and checks that the three give the
    same pages; ``problems`` says where they do not, or where a cached page queries the database.

    The cold walk begins with ``invalidate()``, which also moves the key of each template fragment.
    Pages share what they have in common: the later ones may find queries of the earlier ones.
    """
    with nothing_cached():
        without = walk.visit()
    invalidate()
    cold = walk.visit()
    cached = walk.visit()
    times: tuple[dict[Page, list[float]], ...] = tuple(
        {page: [] for page in walk.pages} for _ in range(3)
    )
    for _ in rounds:
        with nothing_cached():
            _append(times[0], walk.time())
        invalidate()
        _append(times[1], walk.time())
        _append(times[2], walk.time())
    problems = query_problems("the cached visit", cached)
    for kind, visits in (("first", cold), ("cached", cached)):
        problems += difference_problems(f"the {kind} visit", visits, without)
    measures = [
        {page: Measure(len(visits[page].queries), median(lists[page])) for page in walk.pages}
        for visits, lists in zip((without, cold, cached), times, strict=True)
    ]
    return Comparison(*measures, visits=cached, problems=problems)


def query_problems(when: str, visits: dict[Page, Visit]) -> list[str]:
    """Say which of ``visits``, which should all be cached, queried the database."""
    return [
        f"{page.path} ran {len(visit.queries)} queries in {when} instead of none; the first one: "
        f"{visit.queries[0]}"
        for page, visit in visits.items()
        if visit.queries
    ]


def difference_problems(
    when: str, visits: dict[Page, Visit], expected: dict[Page, Visit]
) -> list[str]:
    """Say where ``visits`` give another page than ``expected``, which ran without cache."""
    problems = []
    for page, visit in visits.items():
        if visit.content != expected[page].content:
            lines = zip_longest(
                visit.content.splitlines(True), expected[page].content.splitlines(True)
            )
            shown, right = next((a, b) for a, b in lines if a != b)
            problems.append(
                f"{page.path} is wrong in {when}: it shows {shown!r} and, without cache, {right!r}."
            )
    return problems


def _append(lists: dict[Page, list[float]], values: dict[Page, float]) -> None:
    for page, value in values.items():
        lists[page].append(value)

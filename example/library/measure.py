"""Visit pages of the site in each mode, and measure."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from statistics import median
from time import perf_counter

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from cachalot.api import invalidate
from library.tape import Tape


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


class Walk:
    """Visit the same pages again and again, always in the same order.

    ``mode`` is that of ``library.modes``: "on", "off" or "block".
    """

    def __init__(self, pages: list[Page], mode: str = "on") -> None:
        self.pages = pages
        self.mode = mode
        self.client = Client(SERVER_NAME="localhost")

    def in_mode(self, mode: str) -> "Walk":
        """Return the walk past the same pages in another mode."""
        return Walk(self.pages, mode)

    def content_of(self, page: Page) -> str:
        """Return the HTML of ``page``; raise WrongPageError when the status is not 200."""
        sign = "&" if "?" in page.path else "?"
        response = self.client.get(f"{page.path}{sign}cache={self.mode}")
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

    def time(self, tapes: dict[Page, Tape] | None = None) -> dict[Page, float]:
        """Visit every page once and return the milliseconds of each.

        The queries are not captured meanwhile, because that takes time by itself. With ``tapes``
        every query has the answer that it had when its page was recorded.
        """
        milliseconds = {}
        for page in self.pages:
            if tapes is None:
                milliseconds[page] = self._time(page)
            else:
                with tapes[page].playing():
                    milliseconds[page] = self._time(page)
        return milliseconds

    def _time(self, page: Page) -> float:
        start = perf_counter()
        self.content_of(page)
        return (perf_counter() - start) * 1000

    def record(self) -> dict[Page, Tape]:
        """Visit every page once and keep the answers to its queries."""
        tapes = {}
        for page in self.pages:
            tapes[page] = Tape()
            with tapes[page].recording():
                self.content_of(page)
        return tapes


@dataclass
class Comparison:
    """Hold what each page costs, as medians of milliseconds.

    ``first`` are single visits with an empty cache, ``django`` those of a database that answers at
    once: what is left is Django's building of querysets, objects and pages.
    """

    queries: dict[Page, int]
    first: dict[Page, float]
    without: dict[Page, float]
    cached: dict[Page, float]
    block: dict[Page, float]
    django: dict[Page, float]
    problems: list[str]


def compare(walk: Walk, rounds: int) -> Iterator[Comparison | None]:
    """Walk in each mode in each of so many rounds; give None after each round, then the result.

    One more walk of each kind, before these, counts the queries and checks that all give the same
    pages; ``problems`` says where they do not, or where a cached page queries the database.

    The first visits come after ``invalidate()``, which also moves the key of each template fragment
    and block. Pages share what they have in common: the later ones may find queries of the earlier
    ones.
    """
    off, block = walk.in_mode("off"), walk.in_mode("block")
    without = off.visit()
    tapes = off.record()
    invalidate()
    visits = {"first": walk.visit(), "cached": walk.visit()}
    # Where the cache is empty again, for how long all of it takes.
    invalidate()
    first = walk.time()
    block.visit()
    visits["block"] = block.visit()
    problems = query_problems("the cached visit", visits["cached"])
    problems += query_problems("the visit of the block", visits["block"])
    for kind, found in visits.items():
        problems += difference_problems(f"the {kind} visit", found, without)
    times: list[list[dict[Page, float]]] = []
    for _ in range(rounds):
        times.append([off.time(), walk.time(), block.time(), off.time(tapes)])
        yield None
    medians = [
        {page: median(walked[page] for walked in column) for page in walk.pages}
        for column in zip(*times, strict=True)
    ]
    queries = {page: len(visit.queries) for page, visit in without.items()}
    yield Comparison(queries, first, *medians, problems)


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

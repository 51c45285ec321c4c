"""What the routines of a database write, told from their texts."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from cachalot.core.sql.kinds import DATA_WORDS, SCHEMA_WORDS, keywords_of
from cachalot.core.sql.text import (
    UNICODE_IDENTIFIER,
    codes_of,
    named_in,
    odd_names_among,
    words_of,
)
from cachalot.core.sql.volatility import called_in


class Routine(NamedTuple):
    """A function, procedure or trigger defined in the database.

    ``language`` and ``name`` are in lower case. ``body`` is None where it may not be read.
    ``is_read_only`` tells that the server lets it write by calling others alone.
    """

    name: str
    language: str
    body: str | None
    is_read_only: bool


class Writers(NamedTuple):
    """The tables that calling a function, and reading a view, writes. Others are not in here."""

    functions: dict[str, frozenset[str]]
    views: dict[str, frozenset[str]]


NO_WRITERS = Writers({}, {})

_SQL_LANGUAGES = frozenset({"sql", "plpgsql"})
# Statements made at run time, and those that change what tables there are. MySQL's DO begins a
# loop, or is followed by calls.
_HIDDEN_CODE = {
    "postgresql": frozenset({"EXECUTE", "DO"}) | SCHEMA_WORDS - {"REFRESH"},
    "mysql": frozenset({"EXECUTE", "PREPARE"}) | SCHEMA_WORDS,
    # The bodies of triggers hold nothing but data statements.
    "sqlite": frozenset(),
}
_WRITES = DATA_WORDS | {"REFRESH"}
# A text without any of these words, comments and strings included, writes nothing.
_CLUES = {word.lower() for word in _WRITES.union(*_HIDDEN_CODE.values())}
# To other languages a statement is a string: nobody knows what it is put together from.
_MAY_RUN_SQL = re.compile(
    r"insert|update|delete|merge|truncate|copy|exec|spi_|query|prepare|cursor|plan|sql",
    re.IGNORECASE,
)


def writers_among(
    routines: Collection[Routine], views: Mapping[str, str], tables: frozenset[str], vendor: str
) -> Writers:
    """Return what ``routines`` and ``views`` (name to definition) write, by whatever they call.

    A table that a writing routine names counts, though it may only be read there; all ``tables``
    do where the text does not tell.
    """
    writers = Writers({}, {})
    odd_tables = odd_names_among(tables)
    for routine in routines:
        _add(writers.functions, routine.name, _written_by(routine, tables, odd_tables, vendor))
    if not writers.functions:
        return writers
    odd_views = odd_names_among(views)
    texts = [(writers.functions, routine.name, routine.body or "") for routine in routines]
    texts += [(writers.views, view, definition) for view, definition in views.items()]
    uses = [
        (known, name, text, words_of(text), named_in(text, views.keys(), odd_views))
        for known, name, text in texts
    ]
    has_grown = True
    while has_grown:
        has_grown = False
        for known, name, text, words, viewed in uses:
            tables_of_uses = _union(writers.views, viewed)
            # Few texts have such a word; what is a call in them takes longer to tell.
            if not words.isdisjoint(writers.functions):
                tables_of_uses |= _union(writers.functions, _called_in(text, vendor))
            has_grown |= _add(known, name, tables_of_uses)
    return writers


def _add(known: dict[str, frozenset[str]], name: str, tables: frozenset[str]) -> bool:
    """Add to what is known of ``name``; tell whether there was anything new."""
    before = known.get(name, frozenset())
    if tables <= before:
        return False
    known[name] = before | tables
    return True


def _union(known: Mapping[str, frozenset[str]], names: Iterable[str]) -> frozenset[str]:
    return frozenset().union(*(known[name] for name in names if name in known))


# Each change of the schema has the catalogue read again, with the same routines in it.
@lru_cache(maxsize=1024)
def _called_in(text: str, vendor: str) -> frozenset[str]:
    return frozenset().union(*map(called_in, codes_of(text, vendor)))


@lru_cache(maxsize=1024)
def _keywords_in(body: str, vendor: str) -> frozenset[str]:
    return frozenset(word for code in codes_of(body, vendor) for word in keywords_of(code, vendor))


def _written_by(
    routine: Routine, tables: frozenset[str], odd_tables: Collection[str], vendor: str
) -> frozenset[str]:
    """Return what a routine writes itself, leaving aside what it calls."""
    body = routine.body
    if routine.is_read_only:
        return frozenset()
    if body is None:
        return tables
    if routine.language not in _SQL_LANGUAGES:
        return tables if _MAY_RUN_SQL.search(body) else frozenset()
    if words_of(body).isdisjoint(_CLUES):
        return frozenset()
    keywords = _keywords_in(body, vendor)
    if not keywords.isdisjoint(_HIDDEN_CODE[vendor]):
        return tables
    if keywords.isdisjoint(_WRITES):
        return frozenset()
    if "CASCADE" in keywords or UNICODE_IDENTIFIER.search(body):
        return tables
    # Naming none that is known, it may write any.
    return named_in(body, tables, odd_tables) or tables

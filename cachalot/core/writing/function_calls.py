"""What a statement writes by calling functions that are defined in the database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from django.db.backends.base.base import BaseDatabaseWrapper

from cachalot.core.connection.state import state_of
from cachalot.core.schema import catalogue
from cachalot.core.schema.introspection import NONE, SCHEMA, Catalogue
from cachalot.core.sql.remembered import remembering
from cachalot.core.sql.setters import is_well_known
from cachalot.core.sql.text import codes_of, words_of
from cachalot.core.sql.volatility import called_in
from cachalot.core.writing.writes import all_tables, writing

T = TypeVar("T")

# SQLite's functions are Python's or C's, so no catalogue tells what they do.
_VENDORS = frozenset({"postgresql", "mysql"})
# Longer texts hold the rows that they write, and do not come again.
_MAX_REMEMBERED = 10_000


class _Text(NamedTuple):
    """What of a statement tells whether it calls functions.

    ``called`` is what stands before a parenthesis, in lower case; ``reads`` tells whether there may
    be a view in it, ``fetches`` whether it asks for rows of a cursor.
    """

    called: frozenset[str]
    reads: bool
    fetches: bool


def _read_text(sql: str, vendor: str) -> _Text:
    return _remembered(sql, vendor)


def _look_at(sql: str, vendor: str) -> _Text:
    codes = codes_of(sql, vendor, without_rows=len(sql) > _MAX_REMEMBERED)
    return _Text(
        frozenset().union(*map(called_in, codes)),
        any(not words_of(code).isdisjoint({"from", "table"}) for code in codes),
        vendor == "postgresql" and codes[0].split()[:1] in (["FETCH"], ["MOVE"]),
    )


_remembered = remembering(_look_at, max_characters=_MAX_REMEMBERED, copies=2)

# Names that were called with success and that the database does not define,
# so nobody needs to look them up again. Most are the server's functions, some are no functions.
_of_server: dict[catalogue.Key, set[str]] = {}
_MAX_NAMES = 10_000


def run_calling(
    connection: BaseDatabaseWrapper, sql: str, run: Callable[[], T], *, defines: bool = False
) -> T:
    """Run the statement ``sql`` and account for what the functions write that it calls.

    ``defines`` tells that some of what looks like a call may be the definition of a function.
    """
    if connection.vendor not in _VENDORS:
        return run()
    known = catalogue.remembered_catalogue_of(connection)
    functions, views = known.writers
    if not functions and len(sql) > _MAX_REMEMBERED:
        return run()
    text = _read_text(sql, connection.vendor)
    of_server = _of_server.get(catalogue.key_of(connection)) or set()
    if (
        text.called <= of_server
        and text.called.isdisjoint(functions)
        and not (text.reads and (views or known is catalogue.UNREAD))
        and not text.fetches
        and not known.implied
    ):
        return run()
    with calling(connection, sql, defines=defines):
        return run()


@contextmanager
def calling(connection: BaseDatabaseWrapper, sql: str, *, defines: bool = False) -> Iterator[None]:
    """Do what ``run_calling()`` does; the statement is run in the body."""
    if connection.vendor not in _VENDORS:
        yield
        return
    text = _read_text(sql, connection.vendor)
    of_server = _of_server.setdefault(catalogue.key_of(connection), set())
    strange = text.called - of_server
    if strange and not catalogue.follow(connection):
        # A read under way was taken for cachable by what is known no longer.
        state_of(connection).changes += 1
    known = catalogue.routines_of(connection)
    if known is None:
        tables = all_tables(connection) if _is_suspect(connection, strange) else NONE
    else:
        tables = _tables_written(known, sql, text)
    if not tables:
        yield
    elif known is not None and tables < known.tables:
        with writing(connection, tables, deletes=True):
            yield
    else:
        # It runs what nobody can see, which may be a change of the schema.
        with writing(connection, all_tables(connection) | {SCHEMA}, deletes=True):
            try:
                yield
            finally:
                state = state_of(connection)
                state.transaction.changed_schema |= state.is_in_transaction()
                catalogue.note_change(connection, None)
    if known is not None and not defines:
        if len(of_server) > _MAX_NAMES:
            of_server.clear()
        of_server |= strange - known.routines


def _is_suspect(connection: BaseDatabaseWrapper, strange: frozenset[str]) -> bool:
    """Whether names that have never been looked up may be functions of the database."""
    tables = all_tables(connection)
    return any(name not in tables and not is_well_known(name) for name in strange)


def _tables_written(known: Catalogue, sql: str, text: _Text) -> frozenset[str]:
    functions, views = known.writers
    if not functions:
        return frozenset()
    # Whatever a cursor was declared for is called when its rows are fetched.
    implied = known.calls_in(sql) if known.implied else NONE
    called = functions.keys() if text.fetches else (text.called | implied) & functions.keys()
    viewed = words_of(sql) & views.keys() if views else frozenset()
    return frozenset().union(
        *(functions[name] for name in called), *(views[name] for name in viewed)
    )

"""What a statement writes by calling functions that are defined in the database."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from django.db.backends.base.base import BaseDatabaseWrapper

from cachalot.core.cache.door import cache_in_use
from cachalot.core.connection.state import state_of
from cachalot.core.interruptions import is_interruption
from cachalot.core.outcomes import CacheUnavailable
from cachalot.core.schema import catalogue
from cachalot.core.schema.introspection import Catalogue
from cachalot.core.schema.version_keys import version_keys
from cachalot.core.sql.remembered import remembering
from cachalot.core.sql.text import codes_of, words_of
from cachalot.core.sql.volatility import called_in
from cachalot.core.writing.writes import all_tables, forget_schema, writing

logger = logging.getLogger("cachalot")

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
    try:
        known = _up_to_date(connection) if strange else catalogue.catalogue_of(connection)
    except Exception as error:
        if is_interruption(error):
            raise
        # The statement to come will say so itself.
        logger.debug("The catalogue of %r could not be read: %r", connection.alias, error)
        yield
        return
    tables = _tables_written(known, sql, text)
    if not tables:
        yield
    elif tables < known.tables:
        with writing(connection, tables, deletes=True):
            yield
    else:
        # It runs what nobody can see, which may be a change of the schema.
        with writing(connection, all_tables(connection) | {catalogue.SCHEMA}, deletes=True):
            try:
                yield
            finally:
                state = state_of(connection)
                state.transaction.changed_schema |= state.is_in_transaction()
                forget_schema(connection)
    if not defines:
        if len(of_server) > _MAX_NAMES:
            of_server.clear()
        of_server |= strange - known.routines


def _tables_written(known: Catalogue, sql: str, text: _Text) -> frozenset[str]:
    functions, views = known.writers
    if not functions:
        return frozenset()
    # Whatever a cursor was declared for is called when its rows are fetched.
    called = functions.keys() if text.fetches else text.called & functions.keys()
    viewed = words_of(sql) & views.keys() if views else frozenset()
    return frozenset().union(
        *(functions[name] for name in called), *(views[name] for name in viewed)
    )


def _up_to_date(connection: BaseDatabaseWrapper) -> Catalogue:
    """Return the catalogue after whatever other processes have done to the schema."""
    keys = version_keys(connection.alias, frozenset({catalogue.SCHEMA}))
    nonces = None
    try:
        with cache_in_use(keys) as store:
            nonces = store.current(keys)
    except CacheUnavailable as error:
        logger.debug("The version of the schema could not be read: %r", error)
    if nonces is None:
        catalogue.forget(connection.alias)
    elif not catalogue.follow(connection, nonces[0]):
        # A read under way was taken for cachable by what is known no longer.
        state_of(connection).changes += 1
    return catalogue.catalogue_of(connection)

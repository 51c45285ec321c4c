"""The cache keys under which the versions of tables lie."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextvars import Context
from hashlib import blake2b
from typing import NamedTuple

from django.db import connections
from django.db.backends.base.creation import TEST_DATABASE_PREFIX

from cachalot.core.cache.versions import SCHEMA_PREFIX
from cachalot.core.connection.databases import (
    aliases_of_database,
    lookalikes_of,
    name_of_database,
)
from cachalot.core.connection.origin import place_in_memory
from cachalot.core.rows import ANY_ROW, RowKey, Rows, are_told_apart
from cachalot.core.schema.introspection import SCHEMA
from cachalot.core.schema.replicas import lag_of, replicas_of
from cachalot.core.sql.names import canonical
from cachalot.settings import cachalot_settings, has_own_table_keys, memo

logger = logging.getLogger("cachalot")

_PREFIX = "cachalot:"
_DIGEST_BYTES = 8
# What Django's test runners call databases, and the ends of those that each of several processes
# has (``--parallel`` and pytest-xdist), before the ending of a file.
_OF_TESTS = re.compile(rf"{TEST_DATABASE_PREFIX}.*|.*_(?:gw)?\d+(?:\.\w+)?", re.DOTALL)


def table_key(db_alias: str, table: str) -> str:
    """Return the key of a table's version: the same for all aliases of one database."""
    first = aliases_of_database(db_alias)[0]
    return _digest(b"table", _place_of(first), name_of_database(first), canonical(table))


@memo(maxsize=10_000)
def _digest(kind: bytes, place: str, database: str, table: str) -> str:
    content = f"{len(database)}:{database}{len(place)}:{place}{table}".encode(
        "utf-8", "surrogatepass"
    )
    # Short: caches check each character. Two tables that shared it would be invalidated together.
    prefix = SCHEMA_PREFIX if kind == b"schema" else _PREFIX
    return prefix + blake2b(content, digest_size=_DIGEST_BYTES, person=kind).hexdigest()


def _place_of(alias: str) -> str:
    """Return what tells databases apart to which test runners point one alias; empty for others.

    The name alone decides: a process that a test starts has the same name in its settings. Names
    of other databases do not count, because a pooler may give one database several of them.
    """
    settings = connections.settings.get(alias)
    name = str(settings.get("NAME") or "") if settings is not None else ""
    if in_memory := place_in_memory(name):
        return in_memory
    return name if _OF_TESTS.fullmatch(os.path.basename(name)) else ""


@memo(maxsize=10_000)
def _sorted_version_keys(
    database: str, place: str, db_alias: str, tables: frozenset[str]
) -> tuple[str, ...]:
    """Return the version keys of the tables of a database, of which ``db_alias`` is the first."""
    keys = set(_generated(db_alias, sorted(tables - {SCHEMA})))
    if SCHEMA in tables:
        # No table, and so no generator of the project's is asked for it.
        keys.add(_digest(b"schema", place, database, ""))
    return tuple(sorted(keys))


def _generated(db_alias: str, tables: list[str]) -> list[str]:
    """Return the keys of tables by ``CACHALOT_TABLE_KEYGEN``.

    A generator of the project's is asked in a thread of its own, where no tenant is the current
    one: each process must get the same keys, whoever asks first in it.
    """
    generate = cachalot_settings.CACHALOT_TABLE_KEYGEN
    if not has_own_table_keys():
        return [generate(db_alias, table) for table in tables]
    keys = _in_new_thread(lambda: [generate(db_alias, table) for table in tables])
    if keys != [generate(db_alias, table) for table in tables]:
        logger.warning(
            "CACHALOT_TABLE_KEYGEN gives %s of %r other keys here than outside of requests; those "
            "are used. A tenant belongs into CACHALOT_QUERY_KEYGEN alone: others would not hear "
            "of what is written to the tables that they share.",
            ", ".join(tables),
            db_alias,
        )
    return keys


def _in_new_thread(function: Callable[[], list[str]]) -> list[str]:
    outcome: list[list[str]] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(Context().run(function))
        except BaseException as error:
            failures.append(error)
        finally:
            # The generator may have asked the database.
            Context().run(connections.close_all)

    thread = threading.Thread(target=run, name="cachalot-table-keys")
    try:
        thread.start()
    except RuntimeError as error:
        logger.debug("No thread can be started: %r", error)
        return function()
    thread.join()
    if failures:
        raise failures[0]
    return outcome[0]


def version_keys(db_alias: str, tables: frozenset[str]) -> tuple[str, ...]:
    """Return the version keys of canonical ``tables``, sorted, by ``CACHALOT_TABLE_KEYGEN``.

    The generator gets the first alias of the database that ``db_alias`` belongs to, so that all
    its aliases share their versions.
    """
    first = aliases_of_database(db_alias)[0]
    return _sorted_version_keys(name_of_database(first), _place_of(first), first, tables)


def rest_key(db_alias: str, table: str) -> str:
    """Return the key of the version of all of a canonical table that cannot be told by rows."""
    first = aliases_of_database(db_alias)[0]
    return _digest(b"rest", _place_of(first), name_of_database(first), table)


class RowKeys(NamedTuple):
    """What gives the keys of rows of one table, and the seconds for which they stay pending."""

    key_of: Callable[[RowKey], str]
    seconds: int | None


def row_keys_of(db_alias: str, table: str) -> Callable[[RowKey], str]:
    """Return what gives the keys of the versions of a canonical table's rows."""
    first = aliases_of_database(db_alias)[0]
    return _row_keys_of(_place_of(first), name_of_database(first), table)


@memo(maxsize=10_000)
def _row_keys_of(place: str, database: str, table: str) -> Callable[[RowKey], str]:
    name = b"%d:%s" % (len(table), table.encode("utf-8", "surrogatepass"))
    content = f"{len(database)}:{database}{len(place)}:{place}".encode("utf-8", "surrogatepass")
    of_table = blake2b(content + name, digest_size=_DIGEST_BYTES, person=b"row")

    def row_key(row: RowKey) -> str:
        digest = of_table.copy()
        digest.update(repr(row).encode("utf-8", "surrogatepass"))
        return _PREFIX + digest.hexdigest()

    return row_key


def keys_of_rows(db_alias: str, table: str, rows: tuple[RowKey, ...]) -> tuple[str, ...]:
    """Return the keys of these rows of a canonical table, and of its rest, to be asked for again.

    They are kept: pass no more rows than are told apart.
    """
    first = aliases_of_database(db_alias)[0]
    return _keys_of_rows(_place_of(first), name_of_database(first), table, rows)


@memo(maxsize=1_000)
def _keys_of_rows(
    place: str, database: str, table: str, rows: tuple[RowKey, ...]
) -> tuple[str, ...]:
    of_rows = map(_row_keys_of(place, database, table), rows)
    return _digest(b"rest", place, database, table), *of_rows


def keys_to_renew(
    db_alias: str, tables: frozenset[str], rows: Rows = ANY_ROW
) -> dict[str, int | None]:
    """Return the version keys that a change of ``tables`` concerns, those of replicas included.

    With each come the seconds for which it stays pending, None for a new version at once. They are
    given in this order: whoever reads a row that only its result names looks at its table last.
    """
    aliases = _aliases_to_renew(db_alias)
    found = [(alias, key) for alias in aliases for key in version_keys(alias, tables)]
    found += [(alias, key) for alias in aliases for key in _finer_keys(alias, tables, rows)]
    keys: dict[str, int | None] = {}
    for alias, key in found:
        # A generator of the project's own may give a key to several databases.
        keys[key] = max(lag_of(alias) or 0, keys.get(key) or 0) or None
    return keys


def row_keys_to_renew(db_alias: str, table: str) -> tuple[RowKeys, ...]:
    """Return what gives the version keys that a change of one row of a table concerns."""
    if not are_told_apart():
        return ()
    return tuple(
        RowKeys(row_keys_of(alias, table), lag_of(alias)) for alias in _aliases_to_renew(db_alias)
    )


def _aliases_to_renew(db_alias: str) -> tuple[str, ...]:
    return db_alias, *lookalikes_of(db_alias), *replicas_of(db_alias)


def _finer_keys(db_alias: str, tables: frozenset[str], rows: Rows) -> Iterator[str]:
    """Yield the keys of the rows of ``tables`` that change, or of their rest."""
    if not are_told_apart():
        return
    for table in sorted(tables - {SCHEMA}):
        if table in rows:
            yield from map(row_keys_of(db_alias, table), rows[table])
        else:
            yield rest_key(db_alias, table)

"""The cache keys of queries and tables."""

from __future__ import annotations

import os
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from django.conf import settings

from cachalot.core.connection import state_of
from cachalot.core.encoding import encode
from cachalot.core.names import canonical
from cachalot.core.refusal import UncachableQuery
from cachalot.core.replicas import lag_of, replicas_of
from cachalot.core.session import session_of
from cachalot.core.store import lagging
from cachalot.core.tables import aliases_of_database
from cachalot.settings import cachalot_settings, forget_on_change

_PREFIX = "cachalot:"
# 16 bytes: two of a billion billion queries share a key with a probability below 1 in 10^3 billion.
_DIGEST_BYTES = 16
_TABLE_DIGEST_BYTES = 8


# What in a database's settings decides which rows a session sees.
_PLACE = ("NAME", "HOST", "PORT", "USER")
_OPTIONS = ("options", "init_command", "assume_role", "service", "sql_mode")


#: Why a query is not cached whose key nobody can know before it runs.
SET_BY_QUERIES = "runs on a connection whose session is set as queries run"


def origin_of(connection: Any) -> bytes:
    """Return what tells whose rows these are: alias, database, tenant and session."""
    database = connection.settings_dict
    options = database.get("OPTIONS")
    parts = (
        connection.alias,
        session_of(connection).fingerprint(),
        *map(database.get, _PLACE),
        [(name, options[name]) for name in _OPTIONS if name in options] if options else [],
        # django-tenants and django-tenant-schemas
        getattr(connection, "schema_name", ""),
        getattr(connection, "include_public_schema", ""),
        # Drivers give aware or naive datetimes, in this zone.
        settings.USE_TZ,
        connection.timezone_name,
        # What tells databases in memory apart.
        state_of(connection).identity,
        os.getpid(),
    )
    # Hardly ever changes from one query to the next.
    known: tuple[object, bytes] | None = connection.__dict__.get("_cachalot_origin")
    if known is not None and known[0] == parts:
        return known[1]
    origin = _encoded(connection.vendor, *map(str, parts[:-2]), *_memory_identity(connection))
    connection._cachalot_origin = parts, origin
    return origin


def _memory_identity(connection: Any) -> tuple[object, ...]:
    """Return what tells apart SQLite's databases in memory, which all have the same name.

    One with a shared cache is the process's, one without is the connection's own.
    """
    if connection.vendor != "sqlite" or not connection.is_in_memory_db():
        return ()
    if "mode=memory" in str(connection.settings_dict["NAME"]):
        return (os.getpid(),)
    return (os.getpid(), state_of(connection).identity)


def _encoded(*origin: object) -> bytes:
    return repr(origin).encode("utf-8", "surrogatepass")


def query_key(compiler: Any) -> str:
    """Return the key of the query that ``compiler`` compiles.

    Raise ``UncachableQuery`` for a parameter of unknown type or a session that changes as queries
    run, and ``EmptyResultSet`` as ``compiler.as_sql()`` does.
    """
    sql, params = compiler.as_sql()
    if session_of(compiler.connection).is_set_by_queries:
        raise UncachableQuery(SET_BY_QUERIES)
    return key_with(digest_before_params(origin_of(compiler.connection), sql), params)


def digest_before_params(origin: bytes, sql: str) -> Any:
    """Return the part of a key's digest that does not depend on parameters."""
    statement = sql.encode("utf-8", "surrogatepass")
    content = b"%d:%s%d:%s" % (len(origin), origin, len(statement), statement)
    return blake2b(content, digest_size=_DIGEST_BYTES, person=b"query")


def key_with(digest: Any, params: Any) -> str:
    """Return the key of a query. Raise ``UncachableQuery`` for a parameter of unknown type.

    ``digest`` is that of the text alone; to hash a long one each time would cost about 2 µs a
    kilobyte.
    """
    digest = digest.copy()
    digest.update(encode(params))
    return f"{_PREFIX}{digest.hexdigest()}"


@lru_cache(maxsize=10_000)
def table_key(db_alias: str, table: str) -> str:
    """Return the key of a table's version: the same for all aliases of one database."""
    alias = aliases_of_database(db_alias)[0]
    content = f"{len(alias)}:{alias}{canonical(table)}".encode("utf-8", "surrogatepass")
    # Short: caches check each character. Two tables that shared it would be invalidated together.
    digest = blake2b(content, digest_size=_TABLE_DIGEST_BYTES, person=b"table")
    return _PREFIX + digest.hexdigest()


@lru_cache(maxsize=10_000)
def _sorted_version_keys(db_alias: str, tables: frozenset[str]) -> tuple[str, ...]:
    generate = cachalot_settings.table_key_generator()
    keys = tuple(sorted({generate(db_alias, table) for table in tables}))
    lag = lag_of(db_alias)
    if lag is not None:
        lagging.update(dict.fromkeys(keys, lag))
    return keys


def version_keys(db_alias: str, tables: frozenset[str]) -> tuple[str, ...]:
    """Return the version keys of canonical ``tables``, sorted, by ``CACHALOT_TABLE_KEYGEN``.

    The generator gets the first alias of the database that ``db_alias`` belongs to, so that all
    its aliases share their versions.
    """
    return _sorted_version_keys(aliases_of_database(db_alias)[0], tables)


def keys_to_renew(db_alias: str, tables: frozenset[str]) -> tuple[str, ...]:
    """Return the version keys that a change of ``tables`` concerns, those of replicas included."""
    keys = version_keys(db_alias, tables)
    for replica in replicas_of(db_alias):
        keys += version_keys(replica, tables)
    return keys


def forget() -> None:
    """Clear what was derived from settings."""
    lagging.clear()
    table_key.cache_clear()
    _sorted_version_keys.cache_clear()


forget_on_change(forget)

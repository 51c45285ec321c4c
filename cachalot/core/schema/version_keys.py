"""The cache keys under which the versions of tables lie."""

from __future__ import annotations

from hashlib import blake2b

from cachalot.core.connection.databases import (
    aliases_of_database,
    lookalikes_of,
    name_of_database,
)
from cachalot.core.schema.replicas import lag_of, replicas_of
from cachalot.core.sql.names import canonical
from cachalot.settings import cachalot_settings, memo

_PREFIX = "cachalot:"
_DIGEST_BYTES = 8


def table_key(db_alias: str, table: str) -> str:
    """Return the key of a table's version: the same for all aliases of one database."""
    return _table_key(name_of_database(aliases_of_database(db_alias)[0]), canonical(table))


@memo(maxsize=10_000)
def _table_key(database: str, table: str) -> str:
    content = f"{len(database)}:{database}{table}".encode("utf-8", "surrogatepass")
    # Short: caches check each character. Two tables that shared it would be invalidated together.
    digest = blake2b(content, digest_size=_DIGEST_BYTES, person=b"table")
    return _PREFIX + digest.hexdigest()


@memo(maxsize=10_000)
def _sorted_version_keys(database: str, db_alias: str, tables: frozenset[str]) -> tuple[str, ...]:
    """Return the version keys of the tables of a database, of which ``db_alias`` is the first."""
    generate = cachalot_settings.CACHALOT_TABLE_KEYGEN
    return tuple(sorted({generate(db_alias, table) for table in tables}))


def version_keys(db_alias: str, tables: frozenset[str]) -> tuple[str, ...]:
    """Return the version keys of canonical ``tables``, sorted, by ``CACHALOT_TABLE_KEYGEN``.

    The generator gets the first alias of the database that ``db_alias`` belongs to, so that all
    its aliases share their versions.
    """
    first = aliases_of_database(db_alias)[0]
    return _sorted_version_keys(name_of_database(first), first, tables)


def keys_to_renew(db_alias: str, tables: frozenset[str]) -> dict[str, int | None]:
    """Return the version keys that a change of ``tables`` concerns, those of replicas included.

    With each come the seconds for which it stays pending, None for a new version at once.
    """
    keys: dict[str, int | None] = dict.fromkeys(version_keys(db_alias, tables), lag_of(db_alias))
    for alias in (*lookalikes_of(db_alias), *replicas_of(db_alias)):
        lag = lag_of(alias)
        for key in version_keys(alias, tables):
            # A generator of the project's own may give a key to several databases.
            keys[key] = max(lag or 0, keys.get(key) or 0) or None
    return keys

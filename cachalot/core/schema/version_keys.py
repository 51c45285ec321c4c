"""The cache keys under which the versions of tables lie."""

from __future__ import annotations

from hashlib import blake2b

from cachalot.core.schema.replicas import lag_of, replicas_of
from cachalot.core.schema.tables import aliases_of_database
from cachalot.core.sql.names import canonical
from cachalot.settings import cachalot_settings, memo

_PREFIX = "cachalot:"
_DIGEST_BYTES = 8


@memo(maxsize=10_000)
def table_key(db_alias: str, table: str) -> str:
    """Return the key of a table's version: the same for all aliases of one database."""
    alias = aliases_of_database(db_alias)[0]
    content = f"{len(alias)}:{alias}{canonical(table)}".encode("utf-8", "surrogatepass")
    # Short: caches check each character. Two tables that shared it would be invalidated together.
    digest = blake2b(content, digest_size=_DIGEST_BYTES, person=b"table")
    return _PREFIX + digest.hexdigest()


@memo(maxsize=10_000)
def _sorted_version_keys(db_alias: str, tables: frozenset[str]) -> tuple[str, ...]:
    generate = cachalot_settings.CACHALOT_TABLE_KEYGEN
    return tuple(sorted({generate(db_alias, table) for table in tables}))


def version_keys(db_alias: str, tables: frozenset[str]) -> tuple[str, ...]:
    """Return the version keys of canonical ``tables``, sorted, by ``CACHALOT_TABLE_KEYGEN``.

    The generator gets the first alias of the database that ``db_alias`` belongs to, so that all
    its aliases share their versions.
    """
    return _sorted_version_keys(aliases_of_database(db_alias)[0], tables)


@memo(maxsize=10_000)
def keys_to_renew(db_alias: str, tables: frozenset[str]) -> dict[str, int | None]:
    """Return the version keys that a change of ``tables`` concerns, those of replicas included.

    With each come the seconds for which it stays pending, None for a new version at once.
    """
    keys: dict[str, int | None] = {}
    for alias in (db_alias, *replicas_of(db_alias)):
        lag = lag_of(alias)
        for key in version_keys(alias, tables):
            # A generator of the project's own may give a key to several databases.
            keys[key] = max(lag or 0, keys.get(key) or 0) or None
    return keys

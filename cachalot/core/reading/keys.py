"""The cache keys of queries and tables."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from cachalot.core.cache.keyspace import namespace_of
from cachalot.core.connection.origin import origin_of
from cachalot.core.connection.state import state_of
from cachalot.core.outcomes import UncachableQuery
from cachalot.core.sql.parameters import encode
from cachalot.settings import cachalot_settings

_PREFIX = "cachalot:"
# 16 bytes: two of a billion billion queries share a key with a probability below 1 in 10^3 billion.
_DIGEST_BYTES = 16


#: Why a query is not cached whose key nobody can know before it runs.
SET_BY_QUERIES = "runs on a connection whose session is set, or queries changed, as they run"


def query_key(compiler: Any) -> str:
    """Return the key of the query that ``compiler`` compiles.

    Raise ``UncachableQuery`` for a parameter of unknown type or a session that changes as queries
    run, and ``EmptyResultSet`` as ``compiler.as_sql()`` does.
    """
    sql, params = compiler.as_sql()
    if state_of(compiler.connection).session.is_set_by_queries:
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


def with_namespace(key: str) -> str:
    """Return a key of the project's making with what its ``KEY_FUNCTION`` would have added."""
    namespace = namespace_of(cachalot_settings.CACHALOT_CACHE)
    if not namespace:
        return key
    return f"{key}:{blake2b(namespace.encode('utf-8', 'surrogatepass'), digest_size=8).hexdigest()}"

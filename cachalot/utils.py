"""Key generators and what a custom one needs."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connections

from cachalot.core.outcomes import UncachableQuery
from cachalot.core.reading.compiled import compile_query
from cachalot.core.reading.keys import query_key
from cachalot.core.schema.tables import display_name
from cachalot.core.schema.version_keys import table_key
from cachalot.names import require_database

__all__ = ["UncachableQuery", "get_query_cache_key", "get_table_cache_key"]


def get_query_cache_key(compiler: Any) -> str:
    """Return the cache key of the query that ``compiler`` (an ``SQLCompiler``) compiles.

    It tells apart SQL, parameters with their types, database, tenant and session. The default of
    ``CACHALOT_QUERY_KEYGEN``; a function of your own gets the same argument, and calling
    ``compiler.as_sql()`` in it costs nothing.

    Raise ``UncachableQuery`` for a parameter of unknown type: such a query is not cached. Raise
    ``TypeError`` for what is no compiler.
    """
    if not hasattr(compiler, "as_sql") or not hasattr(compiler, "connection"):
        raise TypeError(
            f"A {type(compiler).__name__} is no SQLCompiler; of a queryset, pass "
            "queryset.query.get_compiler(queryset.db)."
        )
    return query_key(compiler)


def get_table_cache_key(db_alias: str, table: str) -> str:
    """Return the cache key of a table's version.

    All aliases of one database, and all spellings of the name, have the same key. The default of
    ``CACHALOT_TABLE_KEYGEN``; a function of your own gets the first alias of the database and the
    table's name without schema and quotes, in lower case.

    Raise ``TypeError`` for a table that is no text, and ``ConnectionDoesNotExist`` for an unknown
    alias.
    """
    if not isinstance(table, str):
        raise TypeError(f"{table!r} is no name of a table; of a model, pass Model._meta.db_table.")
    require_database(db_alias)
    return table_key(db_alias, table)


def _get_tables(db_alias: str, query: Any, compiler: Any = None) -> set[str]:
    """Return the names of the tables that ``query`` (a ``Query``) depends on.

    Raise ``UncachableQuery`` with the reason if the query must not be cached. A query that never
    has rows depends on nothing. ``compiler`` is made from the query if it is not given.
    """
    if not compiler:
        compiler = query.get_compiler(using=db_alias, connection=connections[db_alias])
    try:
        compiled = compile_query(compiler)
    except EmptyResultSet:
        return set()
    if compiled.refusal is not None:
        raise UncachableQuery(compiled.refusal)
    return {display_name(table) for table in compiled.tables}

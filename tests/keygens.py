"""Key generators that a project could write."""

from __future__ import annotations

from typing import Any

from django.db import connections

from cachalot.utils import UncachableQuery, get_query_cache_key, get_table_cache_key

#: The arguments of the calls.
calls: list[tuple[Any, ...]] = []


def prefixed_query_key(compiler: Any) -> str:
    calls.append((compiler,))
    return f"query-of-the-project:{get_query_cache_key(compiler)}"


def prefixed_table_key(db_alias: str, table: str) -> str:
    calls.append((db_alias, table))
    return f"table-of-the-project:{get_table_cache_key(db_alias, table)}"


def one_key_for_all_tables(db_alias: str, table: str) -> str:
    return "one-table"


def refusing_query_key(compiler: Any) -> str:
    raise UncachableQuery("is not to be cached")


def fixed_query_key(compiler: Any) -> str:
    return "fixed"


def table_key_of_a_tenant(db_alias: str, table: str) -> str:
    tenant = getattr(connections["default"], "schema_name", "public")
    return f"{tenant}-{get_table_cache_key(db_alias, table)}"

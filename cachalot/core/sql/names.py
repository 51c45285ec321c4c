"""One name for a table, whatever its case, quotes and schema prefix."""

from __future__ import annotations

from functools import lru_cache

_QUOTES = str.maketrans("", "", '"`[]')


@lru_cache(maxsize=10_000)
def canonical(table: str) -> str:
    """Return the last identifier of ``table``, unquoted and in lower case.

    >>> canonical('"Public"."App_Book"')
    'app_book'
    """
    return table.rsplit(".", 1)[-1].translate(_QUOTES).strip().lower()

"""One name for a table, whatever its case, quotes and schema prefix."""

from __future__ import annotations

from functools import lru_cache

_QUOTES = str.maketrans("", "", '"`[]')
# PostgreSQL cuts off what is longer (NAMEDATALEN - 1). MySQL refuses more than 64 characters. To
# take two tables for one costs queries, and no more.
_MAX_BYTES = 63


def shortened(name: str) -> str:
    """Return a name as the database knows it, which cuts off what is too long.

    >>> len(shortened("a" * 70))
    63
    """
    if len(name) <= _MAX_BYTES // 4:
        return name
    return name.encode("utf-8", "surrogatepass")[:_MAX_BYTES].decode("utf-8", "ignore")


# Texts may hold words of any length; no table has a name so long.
_MAX_REMEMBERED = 500


def canonical(table: str) -> str:
    """Return the last identifier of ``table``, unquoted, in lower case and not too long.

    >>> canonical('"Public"."App_Book"')
    'app_book'
    """
    return _canonical(table) if len(table) <= _MAX_REMEMBERED else _canonical.__wrapped__(table)


@lru_cache(maxsize=10_000)
def _canonical(table: str) -> str:
    return shortened(table.rsplit(".", 1)[-1].translate(_QUOTES).strip().lower())

"""Statements that are no ``SET`` and may do what one does: by ``set_config()``, by functions."""

from __future__ import annotations

import re

_SET_CONFIG = re.compile(r'\bset_config"?\s*\(', re.IGNORECASE)
_VARIABLE_SET = re.compile(r":=|\bINTO\s+@", re.IGNORECASE)
# A query that calls functions and reads no table may be one that calls set_tenant(5).
_FROM_A_TABLE = re.compile(r'\bFROM[\s(]*(?:[\w$.]|"[^"]*"|`[^`]*`)+(?![\w$."`]|\s*\()', re.I)
_CALL = re.compile(r"(\.?)[\"`]?(?<![\w$])([\w$]+)[\"`]?\s*\(")
# Words before a parenthesis that set nothing: functions of the databases, of PostGIS, keywords.
_NO_SETTERS = re.compile(
    r"""
    (?:pg|txid|lo|json|jsonb|array|inet|regexp|gen|uuid|current|statement|transaction|clock|obj|col
      |shobj|xml|row|string|information|st|postgis|utc|bool|bit)_\w+
    |to_(?:char|date|number|timestamp|tsvector|tsquery|reg\w+|jsonb?|hex|days|base64)
    |has_\w+_privilege|date_(?:trunc|part|bin|format|add|sub)|date|time|time_format|timestamp
    |json|jsonb|array|row|uuid|sha\d+
    |version|now|count|exists|max|min|sum|avg|coalesce|nullif|greatest|least|cast|convert|convert_tz
    |concat|concat_ws|length|char_length|lower|upper|round|abs|floor|ceil|mod|power|sqrt|trunc
    |nextval|currval|lastval|setval|setseed|random|rand|format|values|extract|substring|substr|left
    |right|replace|trim|lpad|rpad|repeat|reverse|position|strpos|split_part|translate|encode|decode
    |md5|crc32|hashtext|hashtextextended|quote_\w+|similarity|if|ifnull|unnest|generate_series
    |interval|numeric|decimal|varchar|char|float|integer|year|month|day|hour|minute|second
    |from_unixtime|str_to_date|unix_timestamp|curdate|curtime|sysdate|database|schema|user
    |connection_id|sleep|get_lock|release_lock|release_all_locks|last_insert_id|found_rows|row_count
    |select|in|and|or|not|any|all|as|from|case|when|then|else|over|filter|distinct|union|on|join|by
    |using|where|lateral|within|between|like|except|intersect|with
    """,
    re.IGNORECASE | re.VERBOSE,
)


def is_well_known(name: str) -> bool:
    """Whether what stands before a parenthesis is a keyword, or a function that sets nothing."""
    return _NO_SETTERS.fullmatch(name) is not None


def sets(code: str, vendor: str) -> bool:
    """Whether a statement that is no ``SET`` does what one does.

    ``code`` is its text without comments and literals.
    """
    if vendor == "sqlite":
        return False
    return bool(_SET_CONFIG.search(code) or (vendor == "mysql" and _VARIABLE_SET.search(code)))


def possible_setters(code: str, vendor: str) -> frozenset[str]:
    """Return the functions that a read calls for what they do, if it reads no table.

    Which of them may set something, the database's catalogue tells. Lower case; a dot before a
    name stands for a database of MySQL that is named with it.
    """
    if vendor == "sqlite" or _FROM_A_TABLE.search(code):
        return frozenset()
    return frozenset(
        dot * (vendor == "mysql") + name.lower()
        for dot, name in _CALL.findall(code)
        if not is_well_known(name)
    )

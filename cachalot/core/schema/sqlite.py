"""Reads the catalogue of a SQLite database, with those that are attached to it."""

from __future__ import annotations

import re
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from cachalot.core.connection.cursor import driver_cursor
from cachalot.core.rows import Key
from cachalot.core.schema.introspection import (
    NONE,
    Catalogue,
    add,
    sources_in,
    volatile_views,
)
from cachalot.core.sql.names import canonical
from cachalot.core.sql.routines import Routine, writers_among

# SQLite's own tables, such as those that ANALYZE makes, have names that no other may have.
_MASTER = (
    "SELECT name, tbl_name, type, sql FROM {} "
    "WHERE sql IS NOT NULL AND type <> 'index' AND name NOT GLOB 'sqlite_*'"
)
# Each table with each column of its primary key, and the collation of its index, which an INTEGER
# PRIMARY KEY has not; and with the last column of each other unique index, and how many it has.
_KEYS = """
SELECT m.name, t.name, 1, upper(t.type), x.coll, 1
  FROM {master} m JOIN pragma_table_info(m.name, {schema}) t ON t.pk > 0
  LEFT JOIN pragma_index_list(m.name, {schema}) i ON i.origin = 'pk'
  LEFT JOIN pragma_index_xinfo(i.name, {schema}) x ON x.cid = t.cid AND x.key
 WHERE m.type = 'table'
UNION ALL
SELECT m.name, max(t.name), count(*), max(upper(t.type)), max(x.coll), 0
  FROM {master} m
  JOIN pragma_index_list(m.name, {schema}) i
    ON i.origin <> 'pk' AND i."unique" AND NOT i.partial
  JOIN pragma_index_xinfo(i.name, {schema}) x ON x.key
  LEFT JOIN pragma_table_info(m.name, {schema}) t ON t.cid = x.cid AND t."notnull"
 WHERE m.type = 'table' GROUP BY m.name, i.name
"""
_KeyRow = tuple[str, str | None, int, str | None, str | None, int]
_COLLATES = re.compile(r"\bCOLLATE\b", re.IGNORECASE)
# What a table may do to other rows where a new one meets them.
_REPLACES = re.compile(r"\bON\s+CONFLICT\s+REPLACE\b", re.IGNORECASE)
_ACTION = re.compile(r"\bCASCADE\b|\bSET\s+(?:NULL|DEFAULT)\b", re.IGNORECASE)
_ACTIONS = frozenset({"CASCADE", "SET NULL", "SET DEFAULT"})
# SQLITE_DETERMINISTIC; and the aggregates of Django, which sqlite3 cannot register as such
# (django/db/backends/sqlite3/_functions.py). Its RAND() is known as chance.
_DETERMINISTIC = 0x800
_OF_DJANGO = frozenset({"stddev_pop", "stddev_samp", "var_pop", "var_samp", "any_value", "rand"})
_BODY = re.compile(r"\bBEGIN\b", re.IGNORECASE)
_VIRTUAL = re.compile(r"CREATE\s+VIRTUAL\s+TABLE\b.*?\bUSING\s+[\"'`\[]?(\w+)", re.I | re.DOTALL)
# Modules whose tables change by statements on them or on the tables that they name.
_MODULES = frozenset(
    {"fts3", "fts4", "fts5", "rtree", "rtree_i32", "geopoly", "fts4aux", "fts5vocab"}
)


def read(cursor: Any, is_thorough: bool) -> Catalogue:
    """Return the catalogue that a driver's cursor reads."""
    cursor.execute("PRAGMA database_list")
    # What belongs to the session alone is in "temp", which is listed once there is something in it.
    rows, references = [], []
    key_rows: list[_KeyRow] = []
    for _, schema, _ in cursor.fetchall():
        quoted = schema.replace('"', '""')
        master = "sqlite_temp_master" if schema == "temp" else f'"{quoted}".sqlite_master'
        cursor.execute(_MASTER.format(master))
        own = cursor.fetchall()
        rows += own
        if schema != "temp":
            cursor.execute(_KEYS.format(master=master, schema=_literal(schema)))
            key_rows += cursor.fetchall()
        for name, _, kind, sql in own:
            if kind == "table" and _ACTION.search(sql):
                table = name.replace('"', '""')
                cursor.execute(f'PRAGMA "{quoted}".foreign_key_list("{table}")')
                references += [(canonical(name), *key[2:7]) for key in cursor.fetchall()]
    tables = frozenset(canonical(name) for name, _, kind, _ in rows if kind in {"table", "view"})
    # Of several views of one name, any may be meant.
    views: dict[str, str] = {}
    for name, _, kind, sql in rows:
        if kind == "view":
            views[canonical(name)] = f"{views.get(canonical(name), '')} {sql};"
    reads = sources_in(views, tables)
    changes = dict(reads)
    volatile = volatile_views(views, "sqlite", NONE)
    for name, _, _, sql in rows:
        if virtual := _VIRTUAL.match(sql):
            table = canonical(name)
            reads[table] = sources_in({table: sql}, tables)[table]
            if virtual[1].lower() not in _MODULES:
                volatile[table] = f"reads {name}, a virtual table of the module {virtual[1]}"
            # Its own tables, which are called after it.
            for shadow in tables:
                if shadow.startswith(f"{table}_"):
                    add(reads, shadow, frozenset({table}))
                    add(changes, shadow, frozenset({table}))
    _note_triggers(changes, rows, views, tables)
    cascades: dict[str, frozenset[str]] = {}
    for child, parent, _, _, on_update, on_delete in references:
        if not {on_update, on_delete}.isdisjoint(_ACTIONS):
            edges = changes if on_update in _ACTIONS else cascades
            add(edges, canonical(parent), frozenset({child}))
    keys, unique = _keys(key_rows, rows, references)
    return Catalogue(tables, reads, changes, cascades, volatile=volatile, keys=keys, unique=unique)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _keys(
    key_rows: list[_KeyRow],
    rows: list[tuple[str, str, str, str]],
    references: list[tuple[Any, ...]],
) -> tuple[dict[str, Key], dict[str, frozenset[Key]]]:
    """Return the keys of tables a write of one row of which changes that row alone.

    With them come the other columns that are unique.
    """
    parts: dict[str, list[Key | None]] = {}
    unique: dict[str, frozenset[Key]] = {}
    definitions: dict[str, list[str]] = {}
    for name, table, kind, sql in rows:
        # A trigger belongs to its table, a view to nothing.
        definitions.setdefault(canonical(table if kind == "trigger" else name), []).append(sql)
    own = {child for child, parent, *_ in references if child == canonical(parent)}
    for name, column, columns, type_name, collation, is_primary in key_rows:
        table = canonical(name)
        # One definition: no trigger, and no other table of the name in another database.
        texts = definitions.get(table, [])
        if columns != 1 or len(texts) != 1 or table in own or _REPLACES.search(texts[0]):
            continue
        key = _key(column, type_name, collation, texts[0])
        if is_primary:
            parts.setdefault(table, []).append(key)
        elif key is not None:
            unique[table] = unique.get(table, frozenset()) | {key}
    keys = {table: Key.of(filter(None, each)) for table, each in parts.items() if None not in each}
    return keys, unique


def _key(
    column: str | None, type_name: str | None, collation: str | None, definition: str
) -> Key | None:
    # What an index is of that is no column without NULL comes without a name.
    if column is None or type_name is None:
        return None
    # Affinities: https://www.sqlite.org/datatype3.html, section 3.1.
    if "INT" in type_name:
        return Key(column, "integer")
    # A column may have another collation than its index.
    is_exact = collation == "BINARY" and not _COLLATES.search(definition)
    is_text = any(word in type_name for word in ("CHAR", "CLOB", "TEXT"))
    return Key(column, "text") if is_exact and is_text else None


def volatile_functions(
    connection: BaseDatabaseWrapper, functions: frozenset[str]
) -> frozenset[str]:
    """Return those of ``functions`` that were registered and may answer as they like.

    Only the connection knows: ``PRAGMA function_list``, since SQLite 3.30.
    """
    if not functions:
        return NONE
    with driver_cursor(connection) as cursor:
        cursor.execute("PRAGMA function_list")
        return frozenset(
            name.lower()
            for name, is_built_in, *_, flags in cursor.fetchall()
            if not (is_built_in or flags & _DETERMINISTIC)
        ) & (functions - _OF_DJANGO)


def _note_triggers(
    changes: dict[str, frozenset[str]],
    rows: list[tuple[str, str, str, str]],
    views: dict[str, str],
    tables: frozenset[str],
) -> None:
    """Add what the bodies of triggers write."""
    triggers = [(table, sql) for _, table, kind, sql in rows if kind == "trigger"]
    bodies = [
        Routine(f" {position}", "sql", _BODY.split(sql, maxsplit=1)[-1], False)
        for position, (_, sql) in enumerate(triggers)
    ]
    written = writers_among(bodies, views, tables, "sqlite").functions
    for body, (table, _) in zip(bodies, triggers, strict=True):
        add(changes, canonical(table), written.get(body.name, NONE))

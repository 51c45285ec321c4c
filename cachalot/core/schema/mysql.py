"""Reads the catalogue of a MySQL or MariaDB database, in one round trip or two."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from cachalot.core.rows import Key
from cachalot.core.schema.introspection import (
    NONE,
    Catalogue,
    add,
    called,
    sources_in,
    volatile_views,
)
from cachalot.core.sql.names import canonical
from cachalot.core.sql.routines import Routine, writers_among
from cachalot.core.sql.volatility import volatility_of

# Without the privilege to see it a definition is empty. What a routine is declared to do, the
# server does not enforce.
_QUERY = """
SELECT 'table', table_name, engine, table_type, NULL
  FROM information_schema.tables WHERE table_schema = DATABASE()
UNION ALL
SELECT 'view', table_name, view_definition, NULL, NULL
  FROM information_schema.views WHERE table_schema = DATABASE()
UNION ALL
SELECT routine_type, routine_name, is_deterministic, sql_data_access, routine_definition
  FROM information_schema.routines
 WHERE routine_schema = DATABASE() AND routine_type IN ('FUNCTION', 'PROCEDURE')
UNION ALL
SELECT 'trigger', event_object_table, action_statement, NULL, NULL
  FROM information_schema.triggers WHERE event_object_schema = DATABASE()
UNION ALL
SELECT 'column', table_name, generation_expression,
       IF(column_key IN ('PRI', 'UNI') AND is_nullable = 'NO',
          CONCAT(column_key, column_name), NULL),
       IF(character_set_name = 'utf8mb4' AND data_type IN ('char', 'varchar'), 'text', data_type)
  FROM information_schema.columns
 WHERE table_schema = DATABASE()
   AND (generation_expression <> '' OR column_key IN ('PRI', 'UNI'))
"""
# MariaDB's own, in a fraction of the time: the standard's opens every table. It asks for the
# privilege PROCESS. Names are as in the file system; of TYPE's bits 1 and 2 are what a DELETE does,
# 4 and 8 what an UPDATE does (dict_foreign_t in storage/innobase/include/dict0mem.h).
_CASCADES_OF_INNODB = """
UNION ALL
SELECT 'cascade', CONVERT(CONVERT(BINARY SUBSTRING_INDEX(ref_name, '/', -1) USING filename)
                          USING utf8mb4),
       CONVERT(CONVERT(BINARY SUBSTRING_INDEX(for_name, '/', -1) USING filename) USING utf8mb4),
       IF(type & 12, 'CASCADE', 'NO ACTION'), NULL
  FROM information_schema.innodb_sys_foreign
 WHERE type & 15
   AND CONVERT(CONVERT(BINARY SUBSTRING_INDEX(for_name, '/', 1) USING filename) USING utf8mb4)
       = CONVERT(DATABASE() USING utf8mb4)
"""
_CASCADES = """
UNION ALL
SELECT 'cascade', referenced_table_name, table_name, update_rule, NULL
  FROM information_schema.referential_constraints
 WHERE constraint_schema = DATABASE()
   AND (delete_rule IN ('CASCADE', 'SET NULL', 'SET DEFAULT')
        OR update_rule IN ('CASCADE', 'SET NULL', 'SET DEFAULT'))
"""
# ER_UNKNOWN_TABLE, ER_SPECIFIC_ACCESS_DENIED_ERROR
_NOT_FOR_US = frozenset({1109, 1227})
# Engines with transactions (information_schema.engines says YES).
_TRANSACTIONAL_ENGINES = frozenset({"innodb", "ndbcluster", "ndb", "rocksdb", "tokudb", "xtradb"})
_DECLARED_READ_ONLY = frozenset({"NO SQL", "READS SQL DATA"})
_ACTIONS = frozenset({"CASCADE", "SET NULL", "SET DEFAULT"})
# Of keys texts are not among them: collations take many for equal, and most ignore blanks at the
# end. Of unique columns they are, where no literal is of more characters than the column.
_KINDS = {
    **dict.fromkeys(("tinyint", "smallint", "mediumint", "int", "bigint"), "integer"),
    "uuid": "uuid",
}
# Their rows show up in no statement on them.
_SEQUENCE, _MERGE = "SEQUENCE", "mrg_myisam"


def read(cursor: Any, is_thorough: bool) -> Catalogue:
    """Return the catalogue that a driver's cursor reads."""
    try:
        cursor.execute(_QUERY + _CASCADES_OF_INNODB)
    except Exception as error:
        if _NOT_FOR_US.isdisjoint(error.args[:1]):
            raise
        cursor.execute(_QUERY + _CASCADES)
    rows: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for kind, *columns in cursor.fetchall():
        rows[kind].append(tuple(columns))
    return _Reading(rows).catalogue()


class _Reading:
    """The rows that the statement gives, by their kind, and what follows from them."""

    def __init__(self, rows: dict[str, list[tuple[Any, ...]]]) -> None:
        self._rows = rows
        self._tables = frozenset(canonical(name) for name, *_ in rows["table"])
        self._untransactional = frozenset(
            canonical(name)
            for name, engine, *_ in rows["table"]
            if engine and engine.lower() not in _TRANSACTIONAL_ENGINES
        )
        self._changes: dict[str, frozenset[str]] = {}
        self._cascades: dict[str, frozenset[str]] = {}

    def catalogue(self) -> Catalogue:
        # Without the SHOW VIEW privilege a definition is empty: then any table may be meant.
        views = {
            canonical(name): sql or " ".join(self._tables) for name, sql, *_ in self._rows["view"]
        }
        sources = sources_in(views, self._tables)
        functions = frozenset(
            called(name)
            for name, is_deterministic, access, *_ in self._rows["FUNCTION"]
            if not (is_deterministic == "YES" and access == "NO SQL")
        )
        routines = [
            Routine(called(name), "sql", body, body is None and access in _DECLARED_READ_ONLY)
            for name, _, access, body in self._rows["FUNCTION"] + self._rows["PROCEDURE"]
        ]
        # Under names that nothing calls.
        triggers = {
            f" {position}": (canonical(table), Routine(f" {position}", "sql", body, False))
            for position, (table, body, *_) in enumerate(self._rows["trigger"])
        }
        fired = [trigger for _, trigger in triggers.values()]
        writers = writers_among([*routines, *fired], views, self._tables, "mysql")
        for name, (table, _) in triggers.items():
            add(self._changes, table, writers.functions.pop(name, NONE))
        for view, tables in sources.items():
            add(self._changes, view, tables)
        for parent, child, on_update, _ in self._rows["cascade"]:
            edges = self._changes if on_update in _ACTIONS else self._cascades
            add(edges, canonical(parent), frozenset({canonical(child)}))
        return Catalogue(
            self._tables,
            sources,
            self._changes,
            self._cascades,
            self._untransactional,
            functions,
            frozenset(routine.name for routine in routines),
            writers,
            volatile_views(views, "mysql", functions) | self._volatile_tables(),
            setters=frozenset(routine.name for routine in routines),
            keys=self._keys(),
            unique=self._unique(),
        )

    def _keys(self) -> dict[str, Key]:
        """Return the keys of tables a write of one row of which changes that row alone."""
        columns: dict[str, list[Key]] = defaultdict(list)
        for name, column, type_name in self._columns("PRI"):
            columns[canonical(name)].append(Key(column, _KINDS.get(type_name, "")))
        excluded = {canonical(name) for name, *_ in self._rows["trigger"]}
        excluded |= {canonical(name) for name, other, *_ in self._rows["cascade"] if name == other}
        return {
            table: Key.of(parts)
            for table, parts in columns.items()
            if all(part.kind for part in parts) and table not in excluded
        }

    def _unique(self) -> dict[str, frozenset[Key]]:
        """Return the other columns with an index of their own that is unique."""
        unique: dict[str, frozenset[Key]] = {}
        for name, column, type_name in self._columns("UNI"):
            # An index takes for equal what a query takes for equal.
            kind = "text" if type_name == "text" else _KINDS.get(type_name)
            if kind is not None:
                known = unique.get(canonical(name), frozenset())
                unique[canonical(name)] = known | {Key(column, kind)}
        return unique

    def _columns(self, kind: str) -> Iterator[tuple[str, str, str]]:
        """Yield table, name and type of the columns that have a kind of index."""
        for name, _, column, type_name in self._rows["column"]:
            if column is not None and column.startswith(kind):
                yield name, column.removeprefix(kind), type_name.lower()

    def _volatile_tables(self) -> dict[str, str]:
        volatile = {}
        for name, engine, kind, _ in self._rows["table"]:
            if kind == _SEQUENCE:
                volatile[canonical(name)] = f"reads {name}, which is a sequence"
            elif engine and engine.lower() == _MERGE:
                # The tables that it shows stand in no catalogue.
                volatile[canonical(name)] = f"reads {name}, which is a MERGE table"
                add(self._changes, canonical(name), self._untransactional)
        for name, expression, *_ in self._rows["column"]:
            volatility = volatility_of(expression or "", "mysql")
            if reason := volatility.reason or (volatility.is_random and "uses chance"):
                volatile[canonical(name)] = f"reads {name}, a column of which {reason}"
        return volatile

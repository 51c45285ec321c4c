"""Reads a database's own catalogue: tables, views, what cannot roll back, routines."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from cachalot.core.sql.names import canonical
from cachalot.core.sql.routines import NO_WRITERS, Routine, Writers, writers_among
from cachalot.core.sql.text import WORD, named_in, names_after_keywords, odd_names_among
from cachalot.core.sql.volatility import volatility_of


@dataclass(frozen=True)
class Catalogue:
    """One database's catalogue, as far as caching needs it; all names are canonical.

    ``sources`` maps a view (or a partitioned or inheriting table) to what its rows come from,
    ``untransactional`` are tables whose changes show at once and cannot be rolled back;
    ``functions`` are those defined in this database that may read its tables, ``routines`` all
    that are defined in it and ``writers`` what they write; ``volatile`` says why the rows of a
    view may differ though its tables have not changed.
    """

    tables: frozenset[str] = frozenset()
    sources: dict[str, frozenset[str]] = field(default_factory=dict)
    untransactional: frozenset[str] = frozenset()
    functions: frozenset[str] = frozenset()
    routines: frozenset[str] = frozenset()
    writers: Writers = NO_WRITERS
    volatile: dict[str, str] = field(default_factory=dict)

    def with_sources(self, tables: frozenset[str]) -> frozenset[str]:
        """Return ``tables`` and all the tables their rows come from."""
        if self.sources.keys().isdisjoint(tables):
            return tables
        reached = set(tables)
        unseen = list(tables)
        while unseen:
            sources = self.sources.get(unseen.pop(), frozenset())
            unseen.extend(sources - reached)
            reached |= sources
        return frozenset(reached)


# Rules, inheritance and partitions, by object: exact, whatever the search_path. A materialised
# view is no view here: its rows change by REFRESH alone.
_POSTGRESQL_SOURCES = """
    SELECT view.relname, source.relname
      FROM pg_class view
      JOIN pg_rewrite rule ON rule.ev_class = view.oid
      JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = rule.oid
                      AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> view.oid
      JOIN pg_class source ON source.oid = d.refobjid
     WHERE view.relkind = 'v' AND source.relkind IN ('r', 'p', 'v', 'm', 'f')
       AND view.relnamespace NOT IN (
               SELECT oid FROM pg_namespace WHERE nspname IN ('pg_catalog', 'information_schema'))
     UNION
    SELECT parent.relname, child.relname
      FROM pg_inherits i
      JOIN pg_class parent ON parent.oid = i.inhparent
      JOIN pg_class child ON child.oid = i.inhrelid
     WHERE child.relkind IN ('r', 'p', 'f')
     UNION
    SELECT child.relname, parent.relname
      FROM pg_inherits i
      JOIN pg_class parent ON parent.oid = i.inhparent AND parent.relkind = 'p'
      JOIN pg_class child ON child.oid = i.inhrelid
     WHERE child.relkind IN ('r', 'p', 'f')
"""
_POSTGRESQL_TABLES = """
    SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
       AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
"""
_POSTGRESQL_VIEWS = """
    SELECT c.relname, pg_get_viewdef(c.oid)
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind = 'v' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
"""
# Those in C, of extensions, do not read tables, but for the few that the volatility scan knows.
# A body of BEGIN ATOMIC has no source, so its definition is taken, which creates nothing here.
# What a trigger runs, no query calls.
_POSTGRESQL_ROUTINES = """
    SELECT p.proname, l.lanname, p.provolatile::text,
           CASE WHEN p.prosrc <> '' THEN p.prosrc
                ELSE replace(pg_get_functiondef(p.oid), 'CREATE OR REPLACE', '') END
      FROM pg_proc p
      JOIN pg_namespace n ON n.oid = p.pronamespace
      JOIN pg_language l ON l.oid = p.prolang
     WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
       AND l.lanname NOT IN ('c', 'internal')
       AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
"""
# Without the privilege to see it a definition is empty. What a routine is declared to do, the
# server does not enforce.
_MYSQL_ROUTINES = """
    SELECT routine_name, routine_type, is_deterministic, sql_data_access, routine_definition
      FROM information_schema.routines
     WHERE routine_schema = DATABASE() AND routine_type IN ('FUNCTION', 'PROCEDURE')
"""
_MYSQL_TABLES = """
    SELECT table_name, engine FROM information_schema.tables WHERE table_schema = DATABASE()
"""
_MYSQL_VIEWS = """
    SELECT table_name, view_definition FROM information_schema.views
     WHERE table_schema = DATABASE()
"""
# Engines with transactions (information_schema.engines says YES).
_TRANSACTIONAL_ENGINES = frozenset({"innodb", "ndbcluster", "ndb", "rocksdb", "tokudb", "xtradb"})
_DECLARED_READ_ONLY = frozenset({"NO SQL", "READS SQL DATA"})


def _read_sqlite(cursor: Any) -> Catalogue:
    cursor.execute("PRAGMA database_list")
    # Views of the session alone are in "temp", which is listed once there is something in it.
    rows = []
    for _, schema, _ in cursor.fetchall():
        quoted = schema.replace('"', '""')
        master = "sqlite_temp_master" if schema == "temp" else f'"{quoted}".sqlite_master'
        cursor.execute(f"SELECT name, type, sql FROM {master} WHERE type IN ('table', 'view')")
        rows += cursor.fetchall()
    tables = frozenset(canonical(name) for name, _, _ in rows)
    # Of several views of one name, any may be meant.
    views: dict[str, str] = {}
    for name, kind, sql in rows:
        if kind == "view":
            views[canonical(name)] = f"{views.get(canonical(name), '')} {sql};"
    return Catalogue(
        tables,
        _sources_in(views, tables),
        volatile=_volatile_views(views, "sqlite", frozenset()),
    )


def _read_postgresql(cursor: Any) -> Catalogue:
    cursor.execute(_POSTGRESQL_TABLES)
    tables = frozenset(canonical(name) for (name,) in cursor.fetchall())
    sources: dict[str, frozenset[str]] = {}
    cursor.execute(_POSTGRESQL_SOURCES)
    for view, source in cursor.fetchall():
        view = canonical(view)
        sources[view] = sources.get(view, frozenset()) | {canonical(source)}
    cursor.execute(_POSTGRESQL_ROUTINES)
    rows = cursor.fetchall()
    functions = frozenset(_called(name) for name, _, volatility, _ in rows if volatility != "i")
    # Only a volatile one may hold a statement that writes.
    routines = [
        Routine(_called(name), language, body, is_read_only=volatility != "v")
        for name, language, volatility, body in rows
    ]
    cursor.execute(_POSTGRESQL_VIEWS)
    views = {canonical(name): sql for name, sql in cursor.fetchall()}
    return Catalogue(
        tables,
        sources,
        functions=functions,
        routines=_names_of(routines),
        writers=writers_among(routines, views, tables, "postgresql"),
        volatile=_volatile_views(views, "postgresql", functions),
    )


def _read_mysql(cursor: Any) -> Catalogue:
    cursor.execute(_MYSQL_TABLES)
    engines = {canonical(name): engine for name, engine in cursor.fetchall()}
    tables = frozenset(engines)
    cursor.execute(_MYSQL_VIEWS)
    # Without the SHOW VIEW privilege a definition is empty: then any table may be meant.
    views = {canonical(name): sql or " ".join(engines) for name, sql in cursor.fetchall()}
    cursor.execute(_MYSQL_ROUTINES)
    rows = cursor.fetchall()
    functions = frozenset(
        _called(name)
        for name, kind, is_deterministic, access, _ in rows
        if kind == "FUNCTION" and not (is_deterministic == "YES" and access == "NO SQL")
    )
    routines = [
        Routine(_called(name), "sql", body, body is None and access in _DECLARED_READ_ONLY)
        for name, _, _, access, body in rows
    ]
    return Catalogue(
        tables,
        _sources_in(views, tables),
        frozenset(
            table
            for table, engine in engines.items()
            if engine and engine.lower() not in _TRANSACTIONAL_ENGINES
        ),
        functions,
        _names_of(routines),
        writers_among(routines, views, tables, "mysql"),
        _volatile_views(views, "mysql", functions),
    )


#: By vendor: return the catalogue that a driver's cursor reads.
READERS: dict[str, Callable[[Any], Catalogue]] = {
    "sqlite": _read_sqlite,
    "postgresql": _read_postgresql,
    "mysql": _read_mysql,
}


def _called(name: str) -> str:
    """Return what ``called_in()`` finds where the routine ``name`` is called."""
    words: list[str] = WORD.findall(name.lower()) or [name]
    return words[-1]


def _names_of(routines: Collection[Routine]) -> frozenset[str]:
    return frozenset(routine.name for routine in routines)


def _volatile_views(
    definitions: dict[str, str], vendor: str, functions: frozenset[str]
) -> dict[str, str]:
    """Return the reason for each view whose rows depend on more than its tables."""
    volatile = {}
    for view, sql in definitions.items():
        volatility = volatility_of(sql, vendor)
        called = volatility.functions & functions
        if volatility.reason is not None:
            volatile[view] = f"reads the view {view}, which {volatility.reason}"
        elif volatility.is_random:
            volatile[view] = f"reads the view {view}, which uses chance"
        elif called:
            volatile[view] = f"reads the view {view}, which calls {min(called)}()"
    return volatile


def _sources_in(definitions: dict[str, str], tables: frozenset[str]) -> dict[str, frozenset[str]]:
    """Return what the text of each view's definition names: any word that is a table counts."""
    odd_names = odd_names_among(tables)
    return {
        view: (named_in(sql, tables, odd_names) | names_after_keywords(sql)) - {view}
        for view, sql in definitions.items()
    }

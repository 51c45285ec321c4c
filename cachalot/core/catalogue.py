"""What the database's own catalogue tells: tables, what views read, what cannot roll back."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.db import NotSupportedError, ProgrammingError
from django.db.backends.base.base import BaseDatabaseWrapper

from cachalot.core.names import canonical
from cachalot.core.sql import WORD, names_after_keywords, words_of
from cachalot.core.volatility import volatility_of

logger = logging.getLogger("cachalot")

#: Stands for the catalogue among the tables of a query: whatever changes the schema, in whichever
#: process, gives it a new version. No table has a name with a space at its end.
SCHEMA = "schema "


@dataclass(frozen=True)
class Catalogue:
    """One database's catalogue, as far as caching needs it; all names are canonical.

    ``sources`` maps a view (or a partitioned or inheriting table) to what its rows come from,
    ``untransactional`` are tables whose changes show at once and cannot be rolled back;
    ``functions`` are those defined in this database that may read its tables; ``volatile`` says
    why the rows of a view may differ though its tables have not changed.
    """

    tables: frozenset[str] = frozenset()
    sources: dict[str, frozenset[str]] = field(default_factory=dict)
    untransactional: frozenset[str] = frozenset()
    functions: frozenset[str] = frozenset()
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


@contextmanager
def driver_cursor(connection: BaseDatabaseWrapper) -> Iterator[Any]:
    """Yield a cursor below Django's wrappers: neither logged nor counted as a query."""
    connection.ensure_connection()
    with connection.wrap_database_errors:
        cursor = connection.create_cursor()
        try:
            yield cursor
        finally:
            cursor.close()


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
_POSTGRESQL_FUNCTIONS = """
    SELECT DISTINCT p.proname FROM pg_proc p
      JOIN pg_namespace n ON n.oid = p.pronamespace
      JOIN pg_language l ON l.oid = p.prolang
     WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
       AND l.lanname NOT IN ('c', 'internal') AND p.provolatile <> 'i'
"""
_MYSQL_FUNCTIONS = """
    SELECT routine_name FROM information_schema.routines
     WHERE routine_schema = DATABASE() AND routine_type = 'FUNCTION'
       AND NOT (is_deterministic = 'YES' AND sql_data_access = 'NO SQL')
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


def _read(connection: BaseDatabaseWrapper) -> Catalogue:
    vendor = connection.vendor
    readers = {"sqlite": _read_sqlite, "postgresql": _read_postgresql, "mysql": _read_mysql}
    if vendor not in readers:
        names = connection.introspection.table_names(include_views=True)
        return Catalogue(frozenset(map(canonical, names)))
    with driver_cursor(connection) as cursor:
        return readers[vendor](cursor)


def _read_sqlite(cursor: Any) -> Catalogue:
    cursor.execute("SELECT name, type, sql FROM sqlite_master WHERE type IN ('table', 'view')")
    rows = cursor.fetchall()
    tables = frozenset(canonical(name) for name, _, _ in rows)
    views = {canonical(name): sql for name, kind, sql in rows if kind == "view"}
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
    cursor.execute(_POSTGRESQL_FUNCTIONS)
    functions = _lower(cursor.fetchall())
    cursor.execute(_POSTGRESQL_VIEWS)
    views = {canonical(name): sql for name, sql in cursor.fetchall()}
    return Catalogue(
        tables,
        sources,
        functions=functions,
        volatile=_volatile_views(views, "postgresql", functions),
    )


def _read_mysql(cursor: Any) -> Catalogue:
    cursor.execute(_MYSQL_TABLES)
    engines = {canonical(name): engine for name, engine in cursor.fetchall()}
    tables = frozenset(engines)
    cursor.execute(_MYSQL_VIEWS)
    # Without the SHOW VIEW privilege a definition is empty: then any table may be meant.
    views = {canonical(name): sql or " ".join(engines) for name, sql in cursor.fetchall()}
    cursor.execute(_MYSQL_FUNCTIONS)
    functions = _lower(cursor.fetchall())
    return Catalogue(
        tables,
        _sources_in(views, tables),
        frozenset(
            table
            for table, engine in engines.items()
            if engine and engine.lower() not in _TRANSACTIONAL_ENGINES
        ),
        functions,
        _volatile_views(views, "mysql", functions),
    )


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


def _lower(rows: Iterable[tuple[str]]) -> frozenset[str]:
    return frozenset(name.lower() for (name,) in rows)


def _sources_in(definitions: dict[str, str], tables: frozenset[str]) -> dict[str, frozenset[str]]:
    """Return what the text of each view's definition names: any word that is a table counts."""
    odd_names = {table for table in tables if not WORD.fullmatch(table)}
    sources = {}
    for view, sql in definitions.items():
        named = tables & words_of(sql) | {table for table in odd_names if table in sql.lower()}
        sources[view] = (named | names_after_keywords(sql)) - {view}
    return sources


# By alias and database: a connection may be pointed elsewhere, as test runners do.
_catalogues: dict[tuple[str, str], Catalogue] = {}
# The version of ``SCHEMA`` that was in force before the catalogue was read.
_nonces: dict[tuple[str, str], str] = {}


def _key(connection: BaseDatabaseWrapper) -> tuple[str, str]:
    return connection.alias, str(connection.settings_dict["NAME"])


def catalogue_of(connection: BaseDatabaseWrapper) -> Catalogue:
    """Return the catalogue of the connection's database, read once per process.

    Empty for a server whose catalogue is another one. Raise ``DatabaseError`` where none can be
    read now.
    """
    key = _key(connection)
    catalogue = _catalogues.get(key)
    if catalogue is None:
        try:
            catalogue = _read(connection)
        except (NotSupportedError, ProgrammingError) as error:
            logger.warning("The views of %r are not known: %s", connection.alias, error)
            catalogue = Catalogue()
        _catalogues[key] = catalogue
    return catalogue


def remembered_catalogue_of(connection: BaseDatabaseWrapper) -> Catalogue:
    """Return the catalogue if it has been read, and an empty one otherwise: ask nobody."""
    return _catalogues.get(_key(connection), Catalogue())


def follow(connection: BaseDatabaseWrapper, nonce: str) -> bool:
    """Read the catalogue again if another process has changed the schema since.

    ``nonce`` is the version of ``SCHEMA`` as just read. Return whether the catalogue that the
    query at hand was compiled with is right.
    """
    key = _key(connection)
    if _nonces.get(key) == nonce:
        return True
    compiled_with = _catalogues.pop(key, None)
    is_right = catalogue_of(connection) == compiled_with
    _nonces[key] = nonce
    return is_right


def forget(db_alias: str | None = None) -> None:
    """Read the catalogue of ``db_alias`` (None: of every alias) again when it is next needed."""
    for key in list(_catalogues):
        if db_alias is None or key[0] == db_alias:
            _nonces.pop(key, None)
            _catalogues.pop(key, None)

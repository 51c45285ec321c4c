"""A query compiled once: its SQL, its parameters, its tables, and whether it may be cached."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

from django.core.exceptions import EmptyResultSet

from cachalot.core.connection.origin import origin_of
from cachalot.core.connection.state import state_of
from cachalot.core.connection.wrappers import may_change_statements
from cachalot.core.reading.keys import SET_BY_QUERIES, digest_before_params
from cachalot.core.schema import catalogue
from cachalot.core.schema.introspection import Catalogue
from cachalot.core.schema.tables import known_tables_in, managed_tables, why_uncachable
from cachalot.core.schema.timeouts import timeout_of
from cachalot.core.schema.version_keys import version_keys
from cachalot.core.sql.clock_words import means_now
from cachalot.core.sql.names import canonical
from cachalot.core.sql.remembered import Remembered
from cachalot.core.sql.text import count_selects, names_after_keywords, words_of
from cachalot.core.sql.volatility import Volatility, volatility_of
from cachalot.settings import cachalot_settings, forget_on_change


class Compilation:
    """What the compilers, nested ones included, report while one query is compiled."""

    __slots__ = ("has_foreign_source", "locks_rows", "tables", "texts")

    def __init__(self) -> None:
        #: As their models spell them.
        self.tables: set[str] = set()
        self.texts: list[str] = []
        self.locks_rows = False
        #: Whether a FROM clause holds something that is no table and no join.
        self.has_foreign_source = False

    def add_sources(self, query: Any) -> None:
        """Note the tables that ``query``'s FROM clause is being built of."""
        is_used = query.alias_refcount
        for alias, source in query.alias_map.items():
            if is_used[alias]:
                table = getattr(source, "table_name", None)
                if isinstance(table, str):
                    self.tables.add(table)
                else:
                    self.has_foreign_source = True
        self.tables.update(query.extra_tables)
        if query.select_for_update:
            self.locks_rows = True


class _Current(threading.local):
    compilation: Compilation | None = None


current = _Current()


class Analysis(NamedTuple):
    """What the text of a query tells by itself. ``tables`` are canonical names."""

    tables: frozenset[str]
    volatility: Volatility


class Plan(NamedTuple):
    """What the text of a query means to a session of one database.

    ``tables`` are canonical names, ``SCHEMA`` among them where views matter. ``refusal`` says why
    no query of this text may be cached, or is None. ``timeout`` is in seconds, None is for ever.
    ``digest`` is the key's, still without parameters.
    """

    epoch: int
    tables: frozenset[str]
    version_keys: tuple[str, ...]
    refusal: str | None
    reads_clock_words: bool
    timeout: float | None
    digest: Any


class CompiledQuery(NamedTuple):
    """The result of one compilation; ``refusal`` says why it must not be cached, or is None."""

    sql: str
    params: Any
    refusal: str | None
    plan: Plan

    @property
    def tables(self) -> frozenset[str]:
        return self.plan.tables


# Equal text means equal tables, so what was found for a text is found again without looking. To
# look each time would take about as long again as to compile.
_analyses: Remembered[tuple[str, str], Analysis] = Remembered()
_plans: Remembered[tuple[bytes, str], Plan] = Remembered()


def compile_query(compiler: Any) -> CompiledQuery:
    """Compile the query and tell its tables, those its views read included.

    Raise what ``compiler.as_sql()`` raises (``EmptyResultSet`` for a query that has no rows
    whatever the tables hold) and ``DatabaseError`` where the catalogue cannot be read.
    """
    outer = current.compilation
    current.compilation = compilation = Compilation()
    try:
        sql, params = compiler.as_sql()
    finally:
        current.compilation = outer
    if not sql:
        raise EmptyResultSet
    connection = compiler.connection
    origin = origin_of(connection)
    plan = _plans.get((origin, sql))
    if plan is None or plan.epoch != catalogue.epoch:
        plan = _make_plan(connection, origin, sql, compilation)
    refusal = plan.refusal
    if compilation.locks_rows:
        refusal = "locks rows"
    elif compiler.query.explain_info:
        refusal = "is an EXPLAIN"
    elif state_of(connection).session.is_set_by_queries:
        refusal = SET_BY_QUERIES
    elif connection.execute_wrappers and may_change_statements(connection):
        refusal = "runs behind an execute wrapper that may change it"
    elif plan.reads_clock_words and refusal is None:
        refusal = _why_clock(params)
    return CompiledQuery(sql, params, refusal, plan)


def _make_plan(connection: Any, origin: bytes, sql: str, compilation: Compilation) -> Plan:
    epoch = catalogue.epoch
    known = catalogue.catalogue_of(connection)
    analysis = _analyse(sql, connection.vendor, compilation)
    tables = known.with_sources(analysis.tables)
    refusal = _why_refused(analysis.volatility, known, tables)
    if not tables <= managed_tables() or not known.sources.keys().isdisjoint(tables):
        # Some of them may be views, and another process may define those anew.
        tables |= {catalogue.SCHEMA}
    plan = Plan(
        epoch,
        tables,
        version_keys(connection.alias, tables),
        refusal,
        analysis.volatility.reads_clock_words,
        timeout_of(tables),
        digest_before_params(origin, sql),
    )
    _plans.remember((origin, sql), plan, sql)
    return plan


def _why_refused(volatility: Volatility, known: Catalogue, tables: frozenset[str]) -> str | None:
    if called := known.functions & volatility.functions:
        return f"calls {min(called)}(), a function of this database that may read any table"
    if views := known.volatile.keys() & tables:
        return known.volatile[min(views)]
    if volatility.reason is not None:
        return volatility.reason
    if volatility.is_random and not cachalot_settings.CACHALOT_CACHE_RANDOM:
        return "uses chance, and CACHALOT_CACHE_RANDOM is off"
    return why_uncachable(tables)


def _analyse(sql: str, vendor: str, compilation: Compilation) -> Analysis:
    analysis = _analyses.get((vendor, sql))
    if analysis is None:
        tables = set(map(canonical, compilation.tables))
        if (
            cachalot_settings.CACHALOT_FINAL_SQL_CHECK
            or compilation.has_foreign_source
            or _has_raw_source({sql, *compilation.texts})
        ):
            tables |= names_after_keywords(sql) | known_tables_in(words_of(sql), sql.lower())
        analysis = Analysis(frozenset(tables), volatility_of(sql, vendor))
        _analyses.remember((vendor, sql), analysis, sql)
    return analysis


def _has_raw_source(texts: set[str]) -> bool:
    """Whether one of the texts holds a SELECT that no compiler has reported.

    The text of a nested query stands in the text around it as it was compiled. What is left of a
    text without the others may hold its own SELECT and no second one.
    """
    by_length = sorted(texts, key=len, reverse=True)
    for position, text in enumerate(by_length):
        for shorter in by_length[position + 1 :]:
            text = text.replace(shorter, " ")
        if count_selects(text) > 1:
            return True
    return False


def _why_clock(params: Any) -> str | None:
    for param in params:
        if means_now(param):
            return f"has the parameter {param!r}, which means the current time"
    return None


def forget() -> None:
    """Clear what was derived from models and settings."""
    _analyses.clear()
    _plans.clear()
    # Another thread may be about to keep a plan that it has made of the old ones.
    catalogue.outdate()


forget_on_change(forget)

"""A query compiled once: its SQL, its parameters, its tables, and whether it may be cached."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

from django.core.exceptions import EmptyResultSet

from cachalot.core.catalogue import SCHEMA, catalogue_of
from cachalot.core.introspection import Catalogue
from cachalot.core.names import canonical
from cachalot.core.sql import count_selects, names_after_keywords, words_of
from cachalot.core.tables import known_tables_in, managed_tables, why_uncachable
from cachalot.core.volatility import Volatility, is_clock_word, volatility_of
from cachalot.settings import cachalot_settings, forget_on_change


class Compilation:
    """What the compilers, nested ones included, report while one query is compiled."""

    __slots__ = ("has_foreign_source", "locks_rows", "tables", "texts")

    def __init__(self) -> None:
        self.tables: set[str] = set()
        self.texts: list[str] = []
        self.locks_rows = False
        #: Whether a FROM clause holds something that is no table and no join.
        self.has_foreign_source = False

    def add_sources(self, query: Any) -> None:
        """Note the tables that ``query``'s FROM clause is being built of."""
        for alias, source in query.alias_map.items():
            if query.alias_refcount[alias]:
                table = getattr(source, "table_name", None)
                if isinstance(table, str):
                    self.tables.add(canonical(table))
                else:
                    self.has_foreign_source = True
        self.tables.update(map(canonical, query.extra_tables))
        if query.select_for_update:
            self.locks_rows = True


class _Current(threading.local):
    compilation: Compilation | None = None


current = _Current()


class Verdict(NamedTuple):
    """What a text means to a database as ``catalogue`` shows it."""

    catalogue: Catalogue
    tables: frozenset[str]
    refusal: str | None


class Analysis(NamedTuple):
    """What the text of a query tells, remembered by that text; and the verdict by database."""

    tables: frozenset[str]
    volatility: Volatility
    verdicts: dict[str, Verdict]


class CompiledQuery(NamedTuple):
    """The result of one compilation.

    ``tables`` are canonical names, ``SCHEMA`` among them where views matter. ``refusal`` says why
    the query must not be cached, or is None.
    """

    sql: str
    params: Any
    tables: frozenset[str]
    refusal: str | None


# Equal text means equal tables, so what was found for a text is found again without looking.
_analyses: dict[tuple[str, str], Analysis] = {}
_MAX_ANALYSES = 4096


def compile_query(compiler: Any) -> CompiledQuery:
    """Compile the query and tell its tables, those its views read included.

    Raise what ``compiler.as_sql()`` raises (``EmptyResultSet`` for a query that has no rows
    whatever the tables hold) and ``DatabaseError`` where the catalogue cannot be read.
    """
    outer, compilation = current.compilation, Compilation()
    current.compilation = compilation
    try:
        sql, params = compiler.as_sql()
    finally:
        current.compilation = outer
    if not sql:
        raise EmptyResultSet
    analysis = _analyse(sql, compiler.connection.vendor, compilation)
    catalogue = catalogue_of(compiler.connection)
    verdict = analysis.verdicts.get(compiler.connection.alias)
    if verdict is None or verdict.catalogue is not catalogue:
        verdict = _judge(analysis, catalogue)
        analysis.verdicts[compiler.connection.alias] = verdict
    refusal = verdict.refusal
    if compilation.locks_rows:
        refusal = "locks rows"
    elif compiler.query.explain_info:
        refusal = "is an EXPLAIN"
    elif refusal is None and analysis.volatility.reads_clock_words:
        refusal = _why_clock(params)
    return CompiledQuery(sql, params, verdict.tables, refusal)


def _judge(analysis: Analysis, catalogue: Catalogue) -> Verdict:
    tables, volatility = catalogue.with_sources(analysis.tables), analysis.volatility
    refusal: str | None
    if called := catalogue.functions & volatility.functions:
        refusal = f"calls {min(called)}(), a function of this database that may read any table"
    elif views := catalogue.volatile.keys() & tables:
        refusal = catalogue.volatile[min(views)]
    elif volatility.reason is not None:
        refusal = volatility.reason
    elif volatility.is_random and not cachalot_settings.CACHALOT_CACHE_RANDOM:
        refusal = "uses chance, and CACHALOT_CACHE_RANDOM is off"
    else:
        refusal = why_uncachable(tables)
    if not tables <= managed_tables() or not catalogue.sources.keys().isdisjoint(tables):
        # Some of them may be views, and another process may define those anew.
        tables |= {SCHEMA}
    return Verdict(catalogue, tables, refusal)


def _analyse(sql: str, vendor: str, compilation: Compilation) -> Analysis:
    analysis = _analyses.get((vendor, sql))
    if analysis is None:
        if len(_analyses) >= _MAX_ANALYSES:
            _analyses.clear()
        tables = compilation.tables
        if (
            cachalot_settings.CACHALOT_FINAL_SQL_CHECK
            or compilation.has_foreign_source
            or _has_raw_source({sql, *compilation.texts})
        ):
            named = names_after_keywords(sql) | known_tables_in(words_of(sql), sql.lower())
            tables = tables | named
        analysis = Analysis(frozenset(tables), volatility_of(sql, vendor), {})
        _analyses[vendor, sql] = analysis
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
        if is_clock_word(param):
            return f"has the parameter {param!r}, which means the current time"
    return None


forget_on_change(_analyses.clear)

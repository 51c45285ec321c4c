"""A query compiled once: its SQL, its parameters, its tables, and whether it may be cached."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

from django.core.exceptions import EmptyResultSet

from cachalot.core.connection.origin import origin_of
from cachalot.core.connection.ready import Ready
from cachalot.core.connection.state import state_of
from cachalot.core.connection.wrappers import may_change_statements
from cachalot.core.reading import known
from cachalot.core.reading.by_rows import Asked, ByRows, ByValue, by_rows_of
from cachalot.core.reading.keys import SET_BY_QUERIES, digest_before_params
from cachalot.core.reading.worth import Worth
from cachalot.core.schema import catalogue
from cachalot.core.schema.introspection import NONE, Catalogue
from cachalot.core.schema.sqlite import volatile_functions
from cachalot.core.schema.tables import known_tables_in, why_uncachable
from cachalot.core.schema.timeouts import timeout_of
from cachalot.core.schema.version_keys import version_keys
from cachalot.core.sql.clock_words import means_now
from cachalot.core.sql.names import canonical
from cachalot.core.sql.remembered import Remembered
from cachalot.core.sql.text import (
    UNICODE_IDENTIFIER,
    code_of,
    count_selects,
    names_after_keywords,
    names_table_after_in,
    words_of,
)
from cachalot.core.sql.volatility import Volatility, volatility_of
from cachalot.settings import cachalot_settings, forget_on_change

#: The attribute of a ``Query`` that is never to be cached. It goes along with each clone.
FRESH = "_cachalot_fresh"


class Compilation:
    """What the compilers, nested ones included, report while one query is compiled."""

    __slots__ = ("aliases", "has_foreign_source", "is_fresh", "locks_rows", "sources", "texts")

    def __init__(self) -> None:
        #: The tables as their models spell them, each as often as it is read.
        self.sources: list[str] = []
        #: The aliases in each query's FROM clause, by its ``id()``: Django takes back the counts.
        self.aliases: dict[int, list[str]] = {}
        self.texts: list[str] = []
        self.locks_rows = False
        #: Whether somebody wants it to be asked each time.
        self.is_fresh = False
        #: Whether a FROM clause holds something that is no table and no join.
        self.has_foreign_source = False

    def add_sources(self, query: Any) -> None:
        """Note the tables that ``query``'s FROM clause is being built of."""
        is_used = query.alias_refcount
        aliases = [alias for alias in query.alias_map if is_used[alias]]
        for alias in aliases:
            table = getattr(query.alias_map[alias], "table_name", None)
            if isinstance(table, str):
                self.sources.append(table)
            else:
                self.has_foreign_source = True
        self.aliases[id(query)] = aliases
        self.sources += query.extra_tables
        if query.select_for_update:
            self.locks_rows = True
        if hasattr(query, FRESH):
            self.is_fresh = True


class _Current(threading.local):
    compilation: Compilation | None = None


current = _Current()


class Analysis(NamedTuple):
    """What the text of a query tells by itself.

    ``tables`` are canonical names. Where it ``has_raw_source``, any word may be one more.
    """

    tables: frozenset[str]
    volatility: Volatility
    has_raw_source: bool


class Plan(NamedTuple):
    """What the text of a query means to a session of one database.

    ``tables`` are canonical names. ``bypass`` says why it cannot be told here and now what they
    mean, ``refusal`` why no query of this text may be cached; both may be None. ``timeout`` is in
    seconds, None is for ever. ``digest`` is the key's, still without parameters. ``worth`` is what
    has become of its reads. ``by_rows`` tells the rows apart that it may depend on in place of
    their table.
    """

    epoch: int
    tables: frozenset[str]
    bypass: str | None
    version_keys: tuple[str, ...]
    refusal: str | None
    reads_clock_words: bool
    timeout: float | None
    digest: Any
    worth: Worth
    by_rows: ByRows | ByValue | None = None


class CompiledQuery(NamedTuple):
    """The result of one compilation; ``refusal`` says why it must not be cached, or is None.

    ``rows`` are those that it asks for, None where its tables count whole.
    """

    sql: str
    params: Any
    refusal: str | None
    plan: Plan
    rows: Asked | None

    @property
    def tables(self) -> frozenset[str]:
        return self.plan.tables


# Equal text means equal tables, so what was found for a text is found again without looking. To
# look each time would take about as long again as to compile.
_analyses: Remembered[tuple[str, str], Analysis] = Remembered()
_plans: Remembered[tuple[bytes, str], Plan] = Remembered()

_UNKNOWN_SCHEMA = "reads a schema of which not enough is known before the transaction is over"


def compile_query(compiler: Any, ready: Ready | None = None) -> CompiledQuery:
    """Compile the query and tell its tables, those its views read included.

    One that was compiled before is recalled where the connection is ``ready``. Raise what
    ``compiler.as_sql()`` raises: ``EmptyResultSet`` for a query that has no rows whatever the
    tables hold. Only what has rows connects.
    """
    recalled = known.NOTHING if ready is None else known.recall(compiler, ready.origin)
    if recalled.known is not None:
        plan = recalled.known.plan
        params = known.params_of(recalled.known, recalled.values)
        rows = None
        if plan.by_rows is not None and (pinned := recalled.known.pinned) is not None:
            rows = plan.by_rows.asked(known.values_pinned_by(recalled.known, recalled.values))
        return CompiledQuery(recalled.known.sql, params, why_of_plan(plan, params), plan, rows)
    outer = current.compilation
    current.compilation = compilation = Compilation()
    try:
        sql, params = compiler.as_sql()
    finally:
        current.compilation = outer
    if not sql:
        raise EmptyResultSet
    connection = compiler.connection
    if connection.connection is None:
        # Connecting sets what belongs to the key: by init commands and connection_created.
        connection.ensure_connection()
    origin = origin_of(connection) if ready is None else ready.origin
    plan = _plans.get((origin, sql))
    if plan is None or plan.epoch != catalogue.epoch:
        plan = _make_plan(connection, origin, sql, compilation, compiler)
    pinned = None if plan.by_rows is None else plan.by_rows.pinned_by(compiler)
    known.remember(compiler, recalled, sql, params, plan, pinned)
    refusal: str | None
    if compilation.locks_rows:
        refusal = "locks rows"
    elif compilation.is_fresh or hasattr(compiler.query, FRESH):
        refusal = "is marked by fresh()"
    elif compiler.query.explain_info:
        refusal = "is an EXPLAIN"
    elif ready is None and state_of(connection).session.is_set_by_queries:
        refusal = SET_BY_QUERIES
    elif connection.execute_wrappers and may_change_statements(connection):
        refusal = "runs behind an execute wrapper that may change it"
    else:
        refusal = why_of_plan(plan, params)
    rows = None
    if plan.by_rows is not None and pinned is not None:
        rows = plan.by_rows.asked(pinned.values)
    return CompiledQuery(sql, params, refusal, plan, rows)


def plan_of_text(connection: Any, sql: str) -> Plan:
    """Return what the text of a SELECT means that no compiler has made."""
    if connection.connection is None:
        connection.ensure_connection()
    origin = origin_of(connection)
    plan = _plans.get((origin, sql))
    if plan is None or plan.epoch != catalogue.epoch:
        compilation = Compilation()
        # Nobody but the text tells its tables.
        compilation.has_foreign_source = True
        plan = _make_plan(connection, origin, sql, compilation)
    return plan


def why_of_plan(plan: Plan, params: Any) -> str | None:
    """Return why what has these parameters must not be cached; None if it may be."""
    if plan.refusal is None and plan.reads_clock_words:
        return _why_clock(params)
    return plan.refusal


def _make_plan(
    connection: Any,
    origin: bytes,
    sql: str,
    compilation: Compilation,
    compiler: Any = None,
) -> Plan:
    # Reading it may outdate what was derived from the one before.
    catalogue.catalogue_of(connection)
    epoch = catalogue.epoch
    analysis = _analyse(sql, connection.vendor, compilation)
    schema = catalogue.catalogue_of(connection)
    if schema is None:
        schema = catalogue.catalogue_beside_changes(connection, analysis.tables, sql)
    tables, bypass, refusal = analysis.tables, None, None
    if schema is not None:
        if analysis.has_raw_source:
            tables |= schema.tables_in(sql)
        named, tables = tables, schema.read_by(tables)
        if not schema.unexamined.isdisjoint(tables):
            if catalogue.examine(connection):
                return _make_plan(connection, origin, sql, compilation, compiler)
            schema = None
    if schema is None:
        bypass = _UNKNOWN_SCHEMA
    else:
        refusal = _why_refused(connection, sql, analysis, schema, tables)
        refusal = refusal or why_uncachable(tables, named)
    plan = Plan(
        epoch,
        tables,
        bypass,
        version_keys(connection.alias, tables),
        refusal,
        analysis.volatility.reads_clock_words,
        timeout_of(tables),
        digest_before_params(origin, sql),
        Worth(),
        None
        if schema is None or compiler is None or analysis.has_raw_source
        else by_rows_of(
            connection.alias,
            schema,
            compiler,
            compilation.sources,
            compilation.aliases.get(id(compiler.query), []),
        ),
    )
    if bypass is None:
        _plans.remember((origin, sql), plan, sql)
    return plan


def _why_refused(
    connection: Any, sql: str, analysis: Analysis, schema: Catalogue, tables: frozenset[str]
) -> str | None:
    vendor, volatility = connection.vendor, analysis.volatility
    implied = schema.calls_in(code_of(sql, vendor)) if schema.implied else NONE
    if called := schema.functions & (volatility.functions | implied):
        return f"calls {min(called)}(), a function of this database that may read any table"
    if views := schema.volatile.keys() & tables:
        return schema.volatile[min(views)]
    if volatility.reason is not None:
        return volatility.reason
    if volatility.is_random and not cachalot_settings.CACHALOT_CACHE_RANDOM:
        return "uses chance, and CACHALOT_CACHE_RANDOM is off"
    if vendor == "sqlite" and (called := volatile_functions(connection, volatility.functions)):
        return f"calls {min(called)}(), which Python has registered as not deterministic"
    if vendor == "postgresql" and analysis.has_raw_source and UNICODE_IDENTIFIER.search(sql):
        return "names something in escapes"
    return None


def _analyse(sql: str, vendor: str, compilation: Compilation) -> Analysis:
    analysis = _analyses.get((vendor, sql))
    if analysis is None:
        tables = set(map(canonical, compilation.sources))
        has_raw_source = (
            cachalot_settings.CACHALOT_FINAL_SQL_CHECK
            or compilation.has_foreign_source
            or _has_raw_source({sql, *compilation.texts})
            or (vendor == "sqlite" and names_table_after_in(sql))
        )
        if has_raw_source:
            tables |= names_after_keywords(sql) | known_tables_in(words_of(sql), sql.lower())
        analysis = Analysis(frozenset(tables), volatility_of(sql, vendor), has_raw_source)
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

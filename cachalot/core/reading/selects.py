"""SELECTs that a cursor is given: never cached, but whoever collects is told what they read."""

from __future__ import annotations

import re
from collections.abc import Callable
from time import perf_counter
from typing import Any, TypeVar

from django.db.backends.base.base import BaseDatabaseWrapper

from cachalot.core import collecting, events
from cachalot.core.cache.door import cache_in_use
from cachalot.core.cache.store import PROBE_KEY
from cachalot.core.connection.state import State, why_not_used
from cachalot.core.connection.visibility import Visibility
from cachalot.core.interruptions import is_interruption
from cachalot.core.outcomes import Bypass, Outcome, Refused, UncachableQuery
from cachalot.core.reading.compiled import Plan, plan_of_text, why_of_plan
from cachalot.core.reading.keys import SET_BY_QUERIES
from cachalot.core.reading.lookup import check_schema, require_transactional, visibility_of
from cachalot.core.reading.reports import report
from cachalot.core.reading.snapshots import versions_of_snapshot
from cachalot.core.reading.targets import PENDING
from cachalot.core.schema import catalogue
from cachalot.core.schema.tables import display_name
from cachalot.core.sql.statements import Statement
from cachalot.core.switch import is_enabled, what_switched_off

T = TypeVar("T")

#: What is told of the rows themselves.
RAW = "it is raw SQL, whose rows are not cached"

# What else counts as a read tells of the server, not of tables.
_SELECT = re.compile(r"[\s(]*(?:SELECT|WITH|VALUES|TABLE)\b", re.IGNORECASE)


def run_select(
    connection: BaseDatabaseWrapper,
    state: State,
    statement: Statement,
    text: str,
    params: Any,
    run: Callable[[], T],
) -> T:
    """Run a statement that reads, and tell the collectors of its tables, found by its text."""
    collector = collecting.current()
    if collector is None:
        return run()
    plan: Plan | None = None
    try:
        plan = _plan(connection, state, statement, text, params)
        _report_versions(state, connection, plan)
    except Refused as error:
        collector.spoil(error.sentence())
    except Exception as error:
        if is_interruption(error):
            raise
        collector.spoil(f"nobody can tell what a raw statement reads: {error!r}")
    if not collecting.is_heard():
        return run()
    began = perf_counter()
    result = run()
    seconds = perf_counter() - began
    tables = () if plan is None else tuple(sorted(map(display_name, plan.tables)))
    events.tell_collectors(
        events.Read(
            connection.alias, Outcome.NOT_CACHED, RAW, text, params, tables, seconds, seconds
        )
    )
    return result


def _plan(
    connection: BaseDatabaseWrapper, state: State, statement: Statement, text: str, params: Any
) -> Plan:
    """Return what the text means. Raise ``Refused`` where versions do not tell all of it."""
    if not is_enabled():
        raise Bypass(f"is raw, and {what_switched_off()}")
    if (reason := why_not_used(connection)) is not None:
        raise Bypass(f"is raw, and {reason}")
    if not all(map(_SELECT.match, statement.parts)):
        raise UncachableQuery("is raw and no SELECT")
    if state.session.is_set_by_queries:
        raise UncachableQuery(SET_BY_QUERIES)
    plan = plan_of_text(connection, text)
    values = params.values() if isinstance(params, dict) else params or ()
    if (refusal := why_of_plan(plan, values)) is not None:
        raise UncachableQuery(refusal)
    if plan.bypass is not None:
        raise Bypass(plan.bypass)
    return plan


def _report_versions(state: State, connection: BaseDatabaseWrapper, plan: Plan) -> None:
    """Tell the collector the versions that what is about to run shows."""
    seen = visibility_of(state, plan.tables)
    has_written = False
    versions: tuple[str, ...] | None = None
    if state.is_in_transaction():
        require_transactional(connection, plan.tables, seen)
        has_written = not plan.tables.isdisjoint(state.overlay().dirty)
    if seen is Visibility.NEWEST:
        schema_key, keys = catalogue.schema_key_of(connection), plan.version_keys
        with cache_in_use(keys) as store:
            versions, _, schema = store.read(keys, PROBE_KEY, schema_key)
        if versions is None:
            raise Bypass(PENDING)
        check_schema(connection, plan, schema)
    elif seen is Visibility.SNAPSHOT:
        versions = versions_of_snapshot(state, connection, plan.tables)
        check_schema(connection, plan, None)
    report(connection, plan, versions, has_written=has_written)

"""The panel for django-debug-toolbar."""

from __future__ import annotations

import datetime
import inspect
import time
from collections.abc import Awaitable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from debug_toolbar.panels import Panel
from debug_toolbar.panels.sql.utils import reformat_sql
from django.apps import apps
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.templatetags.static import static
from django.utils.safestring import mark_safe
from django.utils.timesince import timesince
from django.utils.timezone import localtime

from cachalot.core.cache.door import guard_of
from cachalot.core.connection.databases import aliases_of_database
from cachalot.core.schema.tables import known_tables
from cachalot.core.schema.version_keys import version_keys
from cachalot.core.sql.names import canonical
from cachalot.recording import Recording
from cachalot.settings import cachalot_settings
from cachalot.switches import Switch, cachalot_disabled

_UTC = datetime.timezone.utc


class CachalotPanel(Panel):
    """Show what became of the queries of a request, and when tables were last invalidated.

    While the panel is switched off in a browser, the requests of this browser are not cached.
    """

    title = "Cachalot"
    #: Of toolbars from version 8 on.
    nav_icon = "cachalot/nav.svg"  # type: ignore[assignment, unused-ignore]
    template = "cachalot/panel.html"
    is_async = True

    _recording: Recording | None = None

    @property
    def enabled(self) -> bool:
        """Whether the panel is shown, as its cookie and the toolbar's settings have it."""
        # The toolbar, while it is being built, asks which panels requests pass through. They must
        # pass through this one also when it is switched off.
        return not hasattr(self.toolbar, "process_request") or bool(super().enabled)

    def process_request(self, request: HttpRequest) -> Any:
        """Record what the request does, or keep it from being cached."""
        around: Recording | Switch | nullcontext[None] = nullcontext()
        if self.enabled:
            around = self._recording = Recording()
        elif request.COOKIES.get(f"djdt{self.panel_id}") == "off":
            around = cachalot_disabled()
        with around:
            response = self.get_response(request)
        return _awaited(response, around) if inspect.iscoroutine(response) else response

    @property
    def nav_subtitle(self) -> str:
        """Count what became of the reads."""
        hits, misses, not_cached, _ = _totals(self.get_stats().get("databases", ()))  # type: ignore[no-untyped-call]
        if not hits + misses + not_cached:
            return "no reads"
        parts = [_number(hits, "hit", "hits"), _number(misses, "miss", "misses")]
        if not_cached:
            parts.append(f"{not_cached} not cached")
        return " · ".join(parts)

    @property
    def scripts(self) -> list[str]:
        """Have tables sorted by a click on a column's head, and statements filtered by a click."""
        return [static("cachalot/panel.js")]

    @property
    def content(self) -> str:
        """Render the panel. Statements are laid out only here: most panels are never opened."""
        stats = self.get_stats()  # type: ignore[no-untyped-call]
        statements = [
            {**statement, "markup": _markup(statement["sql"])}
            for statement in stats.get("statements", ())
        ]
        context = {**stats, "statements": statements, "kinds": _kinds(stats.get("databases", ()))}
        return render_to_string(self.template, context)

    def generate_stats(self, request: HttpRequest, response: HttpResponse) -> None:
        """Record what the cache knows once the response is there, as plain JSON values."""
        stats: dict[str, Any] = {"cache_alias": cachalot_settings.CACHALOT_CACHE, "problem": ""}
        if self._recording is not None:
            stats.update(self._recording.as_dict())
        try:
            stats["invalidations"] = last_invalidations()
        except Exception as error:
            # The page matters more than what is told about it.
            stats["invalidations"] = []
            stats["problem"] = f"{type(error).__name__}: {error}"
        self.record_stats(stats)  # type: ignore[no-untyped-call]


async def _awaited(response: Awaitable[Any], around: AbstractContextManager[None]) -> Any:
    with around:
        return await response


def _markup(sql: str) -> str:
    # Escaped by the toolbar, as for its own panel of SQL queries.
    markup: str = reformat_sql(sql, with_toggle=True)  # type: ignore[no-untyped-call]
    return mark_safe(markup)


def _totals(databases: Iterable[dict[str, Any]]) -> tuple[int, int, int, int]:
    """Return the hits, misses, reads not cached, and those of them that were meant not to be."""
    hits, misses, not_cached, intended = (
        sum(figures[name] for figures in databases)
        for name in ("hits", "misses", "not_cached", "intended")
    )
    return hits, misses, not_cached, intended


def _kinds(databases: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what there is to filter by, each with its part of a bar, in percent of all reads."""
    hits, misses, not_cached, intended = _totals(databases)
    number = hits + misses + not_cached
    kinds = []
    start = 0.0
    for kind, name, count, css in (
        ("hit", "hits", hits, "hit"),
        ("miss", "misses", misses, "miss"),
        (
            "not cached",
            "not cached",
            not_cached,
            "intended" if intended == not_cached else "refused",
        ),
    ):
        width = 100 * count / number if number else 0.0
        row = {"kind": kind, "name": name, "number": count, "css": css, "x": start, "width": width}
        kinds.append(row)
        start += width
    return kinds


def _number(number: int, singular: str, plural: str) -> str:
    return f"{number} {singular if number == 1 else plural}"


def last_invalidations() -> list[dict[str, Any]]:
    """Return what is known of each table's last invalidation, the latest first.

    Tables that the cache in use has no version of are left out. Nothing is written. Raise what
    the cache raises.
    """
    labels = _model_labels()
    places: dict[str, list[tuple[str, str]]] = {}
    for aliases in dict.fromkeys(map(aliases_of_database, connections)):
        for table in known_tables():
            (key,) = version_keys(aliases[0], frozenset([table]))
            places.setdefault(key, []).append((", ".join(aliases), table))
    versions = guard_of().readable_store().invalidated(list(places))
    now = time.time()
    found = []
    for key, (timestamp, is_pending) in versions.items():
        moment = localtime(datetime.datetime.fromtimestamp(timestamp, _UTC))
        for databases, table in places[key]:
            found.append(
                {
                    "databases": databases,
                    "model": labels.get(table, ""),
                    "table": known_tables()[table],
                    "timestamp": timestamp,
                    "moment": moment.isoformat(),
                    "age": _age(timestamp, now),
                    "is_pending": is_pending,
                }
            )
    return sorted(found, key=lambda row: (-row["timestamp"], row["databases"], row["table"]))


def _model_labels() -> dict[str, str]:
    """Map each table to the models that live in it."""
    labels: dict[str, list[str]] = {}
    for model in apps.get_models(include_auto_created=True, include_swapped=True):
        if not model._meta.proxy:
            labels.setdefault(canonical(model._meta.db_table), []).append(model._meta.label)
    return {table: ", ".join(names) for table, names in labels.items()}


def _age(timestamp: float, now: float) -> str:
    # Another server's clock may be ahead.
    seconds = max(now - timestamp, 0.0)
    if seconds < 60:
        return f"{seconds:.1f} s ago"
    earlier, later = (datetime.datetime.fromtimestamp(at, _UTC) for at in (timestamp, now))
    return f"{timesince(earlier, later)} ago"

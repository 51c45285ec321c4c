"""The panel for django-debug-toolbar."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from debug_toolbar.panels import Panel
from debug_toolbar.panels.sql.utils import reformat_sql
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.templatetags.static import static
from django.utils.safestring import mark_safe

from cachalot import toolbar
from cachalot.core.cache.door import path_of_board
from cachalot.invalidations import last_invalidations
from cachalot.recording import Recording
from cachalot.settings import cachalot_settings
from cachalot.switches import Switch, cachalot_disabled


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

    @classmethod
    def ready(cls) -> None:
        """Have the times of reads be theirs alone. Raise ``ImproperlyConfigured``."""
        if not apps.is_installed("cachalot"):
            raise ImproperlyConfigured(
                "DEBUG_TOOLBAR_PANELS has 'cachalot.panels.CachalotPanel', and INSTALLED_APPS "
                "lacks 'cachalot', which has its templates. Add it, or take the panel out."
            )
        super().ready()  # type: ignore[no-untyped-call]
        toolbar.install()

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
            around = self._recording = Recording(toolbar.is_asking)
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
        stats: dict[str, Any] = {
            "cache_alias": cachalot_settings.CACHALOT_CACHE,
            "board": path_of_board(),
            "problem": "",
        }
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

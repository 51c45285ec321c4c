"""The examples of docs/observability.rst run, and do what the text says."""

from __future__ import annotations

import logging.config
import re
import textwrap
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from asgiref.sync import async_to_sync
from django.apps import AppConfig
from django.test import AsyncRequestFactory, RequestFactory, override_settings

from cachalot.api import Explanation, get_stats
from cachalot.checks.messages import DEPLOY_MESSAGES
from cachalot.core import events
from cachalot.core.outcomes import Outcome
from cachalot.core.statistics import statistics
from cachalot.signals import post_invalidation
from tests.library.models import Book
from tests.support import CacheTestCase

PAGE = (Path(__file__).parent.parent / "docs" / "observability.rst").read_text()
EXAMPLES = [
    textwrap.dedent(block)
    for block in re.findall(r"\.\. code-block:: python\n\n((?:(?:    .*)?\n)+)", PAGE)
]


class ExampleTests(CacheTestCase):
    def setUp(self) -> None:
        Book.objects.create(title="Moby Dick", pages=635)

    def run_examples(self, *parts: str) -> dict[str, Any]:
        """Run the examples that hold these parts, each the only one, and return their names."""
        scope: dict[str, Any] = {"Book": Book, "INSTALLED_APPS": []}
        for part in parts:
            (example,) = (example for example in EXAMPLES if part in example)
            exec(compile(example, part, "exec"), scope)
        return scope

    def outcomes(self, function: Callable[[], Any]) -> list[Outcome]:
        told: list[Any] = []
        events.listen(told.append)
        try:
            function()
        finally:
            events.stop_listening(told.append)
        return [read.outcome for read in told]

    def test_none_is_left_out(self) -> None:
        source = Path(__file__).read_text()
        parts = re.findall(r"run_examples\(([^)]*)\)", source)
        named = re.findall(r'"([^"]+)"', " ".join(parts))
        run = {example for example in EXAMPLES for part in named if part in example}
        self.assertEqual(len(EXAMPLES), 14)
        self.assertEqual(run, set(EXAMPLES))

    @override_settings(CACHALOT_STATS=True)
    def test_statistics(self) -> None:
        self.addCleanup(statistics.reset)
        statistics.reset()
        list(Book.objects.all())
        stats = self.run_examples('stats["refusals"]')["stats"]
        self.assertEqual(stats["misses"], 1)
        documented = re.findall(r"^``[a-z_`, ]+(?=   )", PAGE, re.MULTILINE)
        names = re.findall(r"\w+", " ".join(documented))
        self.assertEqual(set(names), set(get_stats()))

    def test_a_page_in_the_admin(self) -> None:
        (app,) = self.run_examples("contrib.admin")["INSTALLED_APPS"]
        self.assertEqual(AppConfig.create(app).label, "cachalot_admin")

    def test_logs(self) -> None:
        config = self.run_examples("LOGGING")["LOGGING"]
        output = StringIO()
        with mock.patch("sys.stderr", output):
            # Not as a whole: that would close the handlers of whoever runs the tests.
            configurator = logging.config.DictConfigurator(config)
            configurator.config["handlers"]["console"] = configurator.configure_handler(
                config["handlers"]["console"]
            )
            configurator.configure_logger("cachalot", config["loggers"]["cachalot"])
        logger = logging.getLogger("cachalot")
        self.addCleanup(logger.handlers.clear)
        self.addCleanup(logger.setLevel, logging.NOTSET)
        list(Book.objects.order_by("?"))
        list(Book.objects.all())
        self.assertTrue(output.getvalue().startswith("Not cached, because the query uses chance"))
        self.assertEqual(output.getvalue().count("\n"), 1)

    def test_explanation(self) -> None:
        explanation = self.run_examples("print(explanation)")["explanation"]
        self.assertIs(explanation.is_cachable, True)
        shown = re.findall(r"^    ([A-Z][\w ]+):  ?", PAGE, re.MULTILINE)
        self.assertEqual(shown, re.findall(r"^([\w ]+):", str(explanation), re.MULTILINE))
        (fields,) = re.findall(r"It is a tuple as well: ([^.]+)\.", PAGE)
        self.assertEqual(tuple(re.findall(r"\w+", fields)), Explanation._fields)

    def test_fresh_rows(self) -> None:
        def run() -> None:
            books = self.run_examples("books = fresh")["books"]
            self.assertEqual([book.title for book in books], ["Moby Dick"])

        run()
        self.assertEqual(self.outcomes(run), [Outcome.NOT_CACHED])

    def test_views(self) -> None:
        scope = self.run_examples("class Recount", "def cached_count", "def export")
        request = RequestFactory().get("/")
        for view in (scope["count"], scope["Count"].as_view(), scope["Recount"].as_view()):
            view(request)
            self.assertEqual(self.outcomes(lambda view=view: view(request)), [Outcome.BYPASSED])

        async def ask() -> None:
            await scope["acount"](AsyncRequestFactory().get("/"))

        self.assertEqual(self.outcomes(async_to_sync(ask)), [Outcome.BYPASSED])
        with override_settings(CACHALOT_ENABLED=False):
            outcomes = self.outcomes(lambda: [scope["cached_count"](request) for _ in range(2)])
        self.assertEqual(outcomes, [Outcome.MISS, Outcome.HIT])
        content: list[bytes] = []
        outcomes = self.outcomes(lambda: content.extend(scope["export"](request)))
        self.assertEqual((content, outcomes), ([b"Moby Dick\n"], [Outcome.BYPASSED]))

    def test_prometheus(self) -> None:
        client = pytest.importorskip("prometheus_client")
        self.run_examples("CachalotCollector")
        self.assertIn(b"cachalot_local_tier_bytes", client.generate_latest())
        page = client.generate_latest().decode()
        for name in re.findall(r"``(cachalot_\w+?)(?:_total)?``", PAGE.split("OpenTelemetry")[0]):
            if name != "cachalot_stats":
                self.assertIn(f"# TYPE {name}", page)

    def test_opentelemetry(self) -> None:
        pytest.importorskip("opentelemetry.sdk")
        from cachalot.contrib.opentelemetry import uninstrument

        self.addCleanup(uninstrument)
        self.run_examples("instrument()")
        self.assertEqual(len(events.listeners), 1)

    def test_sentry(self) -> None:
        sentry_sdk = mock.Mock()
        with mock.patch.dict("sys.modules", sentry_sdk=sentry_sdk):
            scope = self.run_examples("def leave_breadcrumb")
        self.addCleanup(post_invalidation.disconnect, scope["leave_breadcrumb"])
        Book.objects.update(pages=1)
        sentry_sdk.add_breadcrumb.assert_any_call(
            category="cachalot", message="library_book in default changed"
        )

    def middleware(self, scope: dict[str, Any], name: str) -> Any:
        """Return an example around a view that runs one of its two queries anew."""
        list(Book.objects.all())
        return scope[name](lambda request: (len(Book.objects.all()), Book.objects.count()))

    def test_reads_for_sentry(self) -> None:
        sentry_sdk = mock.Mock()
        with mock.patch.dict("sys.modules", sentry_sdk=sentry_sdk):
            scope = self.run_examples("def reads_for_sentry")
        self.assertEqual(self.middleware(scope, "reads_for_sentry")(None), (1, 1))
        sentry_sdk.set_context.assert_called_once_with(
            "cachalot", {"reads": 2, "queries": 1, "reasons": []}
        )

    def test_reads_for_opentelemetry(self) -> None:
        sdk = pytest.importorskip("opentelemetry.sdk.trace")
        scope = self.run_examples("def reads_for_opentelemetry")
        with sdk.TracerProvider().get_tracer("tests").start_as_current_span("request") as span:
            self.middleware(scope, "reads_for_opentelemetry")(None)
        (event,) = span.events
        self.assertEqual(event.name, "cachalot.query")
        self.assertEqual(
            dict(event.attributes), {"outcome": "miss", "tables": ("library_book",), "reason": ""}
        )

    def test_reads_in_tests(self) -> None:
        scope = self.run_examples("class BookListTests")
        test = scope["BookListTests"]("test_it_asks_nothing_when_it_is_warm")
        test.client = mock.Mock(get=lambda path: Book.objects.count())
        test.test_it_asks_nothing_when_it_is_warm()
        test.client = mock.Mock(get=lambda path: Book.objects.order_by("?").first())
        with self.assertRaises(AssertionError):
            test.test_it_asks_nothing_when_it_is_warm()

    def test_every_check_is_documented(self) -> None:
        self.assertEqual(set(re.findall(r"``(cachalot\.[WE]\d{3})``", PAGE)), set(DEPLOY_MESSAGES))

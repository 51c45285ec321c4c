"""OpenTelemetry's counters and spans tell of each read and each invalidation."""

from __future__ import annotations

from typing import Any

import pytest

from cachalot.api import cachalot_disabled, invalidate
from cachalot.core import events
from tests.library.models import Author, Book
from tests.support import CacheTestCase

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

from cachalot.contrib.opentelemetry import instrument, uninstrument


class TelemetryTests(CacheTestCase):
    def setUp(self) -> None:
        self.reader = InMemoryMetricReader()
        instrument(MeterProvider([self.reader]))
        self.addCleanup(uninstrument)

    def counts(self) -> dict[tuple[str, ...], int]:
        """Return each number by its counter and the values of its attributes."""
        data: Any = self.reader.get_metrics_data()
        return {
            (metric.name, *point.attributes.values()): point.value
            for metric in data.resource_metrics[0].scope_metrics[0].metrics
            for point in metric.data.data_points
        }

    def test_counters(self) -> None:
        for _ in range(3):
            list(Book.objects.filter(author__name=""))
        with cachalot_disabled():
            list(Author.objects.all())
        invalidate(Book, db_alias="default")
        reason = "caching is switched off by cachalot_disabled()"
        self.assertEqual(
            self.counts(),
            {
                ("cachalot.hits", "default", "library_author"): 2,
                ("cachalot.hits", "default", "library_book"): 2,
                ("cachalot.misses", "default", "library_author"): 1,
                ("cachalot.misses", "default", "library_book"): 1,
                ("cachalot.not_cached", "default", "library_author", reason): 1,
                ("cachalot.invalidations", "default", "library_book"): 1,
            },
        )

    def test_each_span_has_the_numbers_of_its_own_reads(self) -> None:
        tracer = TracerProvider().get_tracer("tests")
        with tracer.start_as_current_span("request") as request:
            for _ in range(3):
                list(Book.objects.all())
            with tracer.start_as_current_span("part") as part:
                list(Book.objects.all())
        expected = {"cachalot.misses": 1, "cachalot.hits": 2}
        self.assertEqual(dict(request.attributes), expected)  # type: ignore[attr-defined]
        self.assertEqual(dict(part.attributes), {"cachalot.hits": 1})  # type: ignore[attr-defined]

    def test_it_counts_once_however_often_it_is_called(self) -> None:
        instrument(MeterProvider([reader := InMemoryMetricReader()]))
        self.assertEqual(len(events.listeners), 1)
        list(Book.objects.all())
        self.assertIs(self.reader.get_metrics_data(), None)
        self.assertIsNot(reader.get_metrics_data(), None)
        uninstrument()
        self.assertEqual(events.listeners, ())
        uninstrument()

    def test_what_is_no_provider(self) -> None:
        message = "'x' is no MeterProvider; use one of the SDK, or None for the global one."
        with self.assertRaisesMessage(TypeError, message):
            instrument("x")  # type: ignore[arg-type]
        self.assertEqual(len(events.listeners), 1)

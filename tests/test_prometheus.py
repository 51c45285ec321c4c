"""The collector gives Prometheus what ``get_stats()`` gives."""

from __future__ import annotations

import pytest
from django.test import override_settings

from cachalot.api import cachalot_disabled, invalidate
from cachalot.core.cache.local import local_tier
from cachalot.core.statistics import statistics
from tests.library.models import Book, Tag
from tests.support import CacheTestCase

REFUSED = (
    'cachalot_refusals_total{database="default",'
    'reason="caching is switched off by cachalot_disabled()",table="library_book"} 1.0'
)

prometheus_client = pytest.importorskip("prometheus_client")

pytestmark = pytest.mark.usefixtures("local_tier_by_default")


class CollectorTests(CacheTestCase):
    def test_a_page_of_metrics(self) -> None:
        from cachalot.contrib.prometheus import CachalotCollector

        registry = prometheus_client.CollectorRegistry()
        registry.register(CachalotCollector())
        tag = Tag.objects.create(name="sea")
        statistics.reset()
        self.addCleanup(statistics.reset)
        with override_settings(CACHALOT_STATS=True):
            for _ in range(3):
                list(Book.objects.all())
                Tag.objects.get(pk=tag.pk)
            with cachalot_disabled():
                list(Book.objects.all())
            invalidate(Book, db_alias="default")
            size = float(local_tier.size)
            page = prometheus_client.generate_latest(registry).decode().splitlines()
        of_book = '{database="default",table="library_book"'
        for line in (
            f"cachalot_hits_total{of_book}}} 2.0",
            f"cachalot_row_hits_total{of_book}}} 0.0",
            'cachalot_row_hits_total{database="default",table="library_tag"} 2.0',
            f"cachalot_misses_total{of_book}}} 1.0",
            REFUSED,
            f"cachalot_invalidations_total{of_book}}} 1.0",
            f"cachalot_local_tier_bytes {size}",
            "# TYPE cachalot_hits_total counter",
        ):
            self.assertIn(line, page)
        self.assertGreater(size, 0)

    def test_it_says_that_nothing_is_counted(self) -> None:
        from cachalot.contrib.prometheus import CachalotCollector

        registry = prometheus_client.CollectorRegistry()
        registry.register(CachalotCollector())
        with self.assertLogs("cachalot", "WARNING") as logs:
            for _ in range(2):
                prometheus_client.generate_latest(registry)
        (line,) = logs.output
        self.assertIn("because CACHALOT_STATS is off. Set it to True.", line)

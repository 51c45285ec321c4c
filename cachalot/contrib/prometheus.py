"""A collector for prometheus-client."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from prometheus_client.core import (  # type: ignore[import-not-found, unused-ignore]
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
)

from cachalot.core.statistics import get_stats

logger = logging.getLogger("cachalot")

_TABLE = ("database", "table")


class CachalotCollector:
    """Gives the numbers of ``get_stats()`` for this process. Nothing of the cache is asked.

    Register it once in each process: ``REGISTRY.register(CachalotCollector())``. A query of
    several tables counts for each of them. Requires ``CACHALOT_STATS``, or the page in the admin.
    """

    _has_warned = False

    def describe(self) -> list[Metric]:
        """Return nothing, so that registering it collects nothing."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Give one metric after the other. Where nothing is counted, say so once in the log."""
        stats = get_stats()
        if not stats["is_on"] and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "CachalotCollector has nothing to give, because CACHALOT_STATS is off. Set it to "
                "True."
            )
        hits = CounterMetricFamily(
            "cachalot_hits", "Reads that were served from the cache.", labels=_TABLE
        )
        row_hits = CounterMetricFamily(
            "cachalot_row_hits",
            "Those of the hits that depend on rows in place of their table.",
            labels=_TABLE,
        )
        misses = CounterMetricFamily(
            "cachalot_misses", "Reads whose results were stored in the cache.", labels=_TABLE
        )
        refusals = CounterMetricFamily(
            "cachalot_refusals",
            "Reads that were not cached, by reason.",
            labels=(*_TABLE, "reason"),
        )
        invalidations = CounterMetricFamily(
            "cachalot_invalidations", "Invalidations of a table.", labels=_TABLE
        )
        for db_alias, tables in stats["tables"].items():
            for table, counts in tables.items():
                hits.add_metric([db_alias, table], counts["hits"])
                row_hits.add_metric([db_alias, table], counts["row_hits"])
                misses.add_metric([db_alias, table], counts["misses"])
                invalidations.add_metric([db_alias, table], counts["invalidations"])
                for reason, number in counts["refusals"].items():
                    refusals.add_metric([db_alias, table, reason], number)
        yield hits
        yield row_hits
        yield misses
        yield refusals
        yield invalidations
        yield GaugeMetricFamily(
            "cachalot_local_tier_bytes",
            "Bytes of the results kept in this process.",
            value=stats["local_tier"]["bytes"],
        )

"""Show what all processes have counted."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from typing import Any

from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.management.base import BaseCommand, CommandError, CommandParser

from cachalot.api import get_stats
from cachalot.cache import cachalot_caches
from cachalot.core.statistics import published
from cachalot.settings import cachalot_settings

_COUNTS = ("hits", "misses", "not cached", "hit rate", "invalidations")


class Command(BaseCommand):
    """Show hits, misses, refusals and invalidations by process and table."""

    help = (
        "Shows what cachalot has counted in each process: hits, misses, reads that were not cached "
        "and why, invalidations. Requires CACHALOT_STATS."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--json",
            action="store_true",
            dest="as_json",
            help="Write a list with what get_stats() returns in each process.",
        )
        parser.add_argument(
            "--watch",
            nargs="?",
            type=float,
            const=2.0,
            metavar="SECONDS",
            help="Show it again every so many seconds (2 by default) until interrupted.",
        )

    def handle(self, *, as_json: bool, watch: float | None, **options: Any) -> None:
        """Raise ``CommandError`` if the cache does not answer."""
        if watch is not None and watch <= 0:
            raise CommandError(f"--watch is {watch:g}, which is no number of seconds above 0.")
        try:
            self._show(as_json)
            while watch is not None:
                time.sleep(watch)
                self.stdout.write("" if as_json else "\n" + time.strftime("%H:%M:%S"))
                self._show(as_json)
        except KeyboardInterrupt:
            pass

    def _show(self, as_json: bool) -> None:
        cache_alias = cachalot_settings.CACHALOT_CACHE
        try:
            cache = cachalot_caches.get_cache()
            is_shared = not isinstance(cache, (LocMemCache, DummyCache))
            processes = published(cache) if is_shared else [get_stats()]
        except Exception as error:
            raise CommandError(
                f"The cache {cache_alias!r} does not answer ({type(error).__name__}: {error})."
            ) from error
        if as_json:
            self.stdout.write(json.dumps(processes))
            return
        if not cachalot_settings.CACHALOT_STATS:
            self.stdout.write(self.style.WARNING("CACHALOT_STATS is off: nothing is counted."))
        if not is_shared:
            self.stdout.write(
                f"The cache {cache_alias!r} is not shared between processes, so these are the "
                "numbers of this process alone."
            )
        if not processes:
            self.stdout.write(f"No process has published numbers in the cache {cache_alias!r} yet.")
        else:
            self._show_processes(processes)

    def _show_processes(self, processes: list[dict[str, Any]]) -> None:
        now = time.time()
        rows = [
            [
                stats["process"],
                f"{max(now - stats['at'], 0):.0f} s ago",
                *_columns_of([stats]),
                f"{stats['local_tier']['bytes']:,}",
            ]
            for stats in processes
        ]
        self._write_table(["process", "seen", *_COUNTS, "local bytes"], rows)
        tables: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for stats in processes:
            for db_alias, by_table in stats["tables"].items():
                for table, counts in by_table.items():
                    tables.setdefault((db_alias, table), []).append(counts)
        if tables:
            rows = [[*name, *_columns_of(counts)] for name, counts in sorted(tables.items())]
            self._write_table(["database", "table", *_COUNTS], rows)
        self._write_reasons("not cached, because", processes)
        blocks: dict[str, list[dict[str, Any]]] = {}
        for stats in processes:
            for name, counts_of_block in stats.get("blocks", {}).items():
                blocks.setdefault(name, []).append({**counts_of_block, "invalidations": 0})
        if blocks:
            rows = [[name, *_columns_of(counts)[:-1]] for name, counts in sorted(blocks.items())]
            self._write_table(["block", *_COUNTS[:-1]], rows)
        self._write_reasons(
            "blocks were not stored, because",
            [counts for by_process in blocks.values() for counts in by_process],
        )

    def _write_reasons(self, head: str, all_counts: Iterable[dict[str, Any]]) -> None:
        reasons: dict[str, int] = {}
        for counts in all_counts:
            for reason, number in counts["refusals"].items():
                reasons[reason] = reasons.get(reason, 0) + number
        if reasons:
            by_number = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
            self._write_table(
                ["times", head], [[str(number), reason] for reason, number in by_number]
            )

    def _write_table(self, heads: Sequence[str], rows: list[list[str]]) -> None:
        widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
        self.stdout.write("")
        self.stdout.write(self.style.MIGRATE_HEADING(_line(heads, widths)))
        for row in rows:
            self.stdout.write(_line(row, widths))


def _line(cells: Iterable[str], widths: list[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _columns_of(counts: list[dict[str, Any]]) -> list[str]:
    """Return the sums of several counts as the cells under ``_COUNTS``."""
    hits, misses, invalidations = (
        sum(count[name] for count in counts) for name in ("hits", "misses", "invalidations")
    )
    refused = sum(sum(count["refusals"].values()) for count in counts)
    rate = f"{hits / (hits + misses):.1%}" if hits + misses else "-"
    return [str(hits), str(misses), str(refused), rate, str(invalidations)]

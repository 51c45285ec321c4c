"""Show what all processes have counted."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from cachalot.api import get_stats
from cachalot.core.statistics import is_counting
from cachalot.settings import cachalot_settings
from cachalot.totals import by_block, by_table, published, summed

_OF_BLOCKS = ("hits", "misses", "not cached", "hit rate")
# A block depends on rows and tables at once, and a write invalidates tables.
_COUNTS = ("hits", "by rows", *_OF_BLOCKS[1:], "invalidations")


class Command(BaseCommand):
    """Show hits, misses, refusals and invalidations by process and table."""

    help = (
        "Shows what cachalot has counted in each process: hits, misses, reads that were not cached "
        "and why, invalidations. Requires CACHALOT_STATS or cachalot.contrib.admin."
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
            of_all = published()
        except Exception as error:
            raise CommandError(
                f"The cache {cache_alias!r} does not answer ({type(error).__name__}: {error})."
            ) from error
        processes = [get_stats()] if of_all is None else of_all
        if as_json:
            self.stdout.write(json.dumps(processes))
            return
        if not is_counting():
            self.stdout.write(
                self.style.WARNING("CACHALOT_STATS is off: nothing is counted. Set it to True.")
            )
        if of_all is None:
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
                *_columns_of(stats),
                f"{stats['local_tier']['bytes']:,}",
            ]
            for stats in processes
        ]
        self._write_table(["process", "seen", *_COUNTS, "local bytes"], rows)
        if tables := by_table(processes):
            rows = [[*name, *_columns_of(counts)] for name, counts in tables.items()]
            self._write_table(["database", "table", *_COUNTS], rows)
        self._write_reasons("not cached, because", summed(processes))
        if blocks := by_block(processes):
            rows = [[name, *_columns_of(counts, _OF_BLOCKS)] for name, counts in blocks.items()]
            self._write_table(["block", *_OF_BLOCKS], rows)
        self._write_reasons("blocks were not stored, because", summed(blocks.values()))

    def _write_reasons(self, head: str, counts: dict[str, Any]) -> None:
        reasons: dict[str, int] = counts["refusals"]
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


def _columns_of(counts: dict[str, Any], heads: Iterable[str] = _COUNTS) -> list[str]:
    """Return counts as the cells under ``heads``."""
    cells = {
        "hits": counts["hits"],
        "by rows": counts["row_hits"],
        "misses": counts["misses"],
        "not cached": sum(counts["refusals"].values()),
        "hit rate": "-" if counts["hit_rate"] is None else f"{counts['hit_rate']:.1%}",
        "invalidations": counts["invalidations"],
    }
    return [str(cells[head]) for head in heads]

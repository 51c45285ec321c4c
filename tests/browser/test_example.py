"""The example site shows what cachalot tells of itself: logs, numbers, metrics, commands."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from urllib.request import urlopen

from django.db import connection
from django.test import Client, SimpleTestCase, TransactionTestCase, override_settings
from django.test.utils import CaptureQueriesContext
from library.dataset import MIN_ROWS, Dataset
from library.loading import load
from library.models import Author, Book, Borrowing, Review

from cachalot.api import invalidate, recorded
from cachalot.core.outcomes import Outcome
from tests.browser.settings import EXAMPLE_DIR
from tests.browser.support import BrowserTestCase

README = (EXAMPLE_DIR / "README.md").read_text()


class SiteTestCase(TransactionTestCase):
    def setUp(self) -> None:
        load(Dataset(MIN_ROWS, seed=1), "default", lambda number: None)
        invalidate()
        # Whoever comes from elsewhere has no toolbar.
        self.client = Client(REMOTE_ADDR="192.0.2.1")

    def queries(self, path: str) -> int:
        with CaptureQueriesContext(connection) as queries:
            self.assertEqual(self.client.get(path).status_code, 200)
        return len(queries)


class SwitchTests(SiteTestCase):
    def test_views_that_are_never_cached(self) -> None:
        for path, queries in (("/desk/", 2), ("/books/16/availability.json", 2)):
            with self.subTest(path=path):
                self.assertEqual([self.queries(path), self.queries(path)], [queries, queries])

    def test_they_show_what_was_written_behind_the_cache(self) -> None:
        Borrowing.objects.filter(book=16).update(returned_on="2025-01-01")
        path = "/books/16/availability.json"
        self.assertEqual(self.client.get(path).json(), {"on_shelf": True})
        with connection.cursor() as cursor, override_settings(CACHALOT_INVALIDATE_RAW=False):
            cursor.execute("UPDATE library_borrowing SET returned_on = NULL WHERE book_id = 16")
        self.assertEqual(self.client.get(path).json(), {"on_shelf": False})

    def test_a_view_that_is_cached_even_while_caching_is_off(self) -> None:
        self.assertEqual([self.queries("/totals.json"), self.queries("/totals.json")], [5, 0])
        with override_settings(CACHALOT_ENABLED=False):
            self.assertEqual([self.queries("/totals.json"), self.queries("/totals.json")], [0, 0])
            self.assertEqual([self.queries("/tags/"), self.queries("/tags/")], [41, 41])
            Book.objects.all()[0].delete()
            books = self.client.get("/totals.json").json()["book"]
        self.assertEqual(books, Book.objects.count())


class CostTests(SiteTestCase):
    """What stands below each page, and the modes that it leads to."""

    def footer(self, path: str) -> str:
        content = self.client.get(path).content.decode()
        (footer,) = re.findall(r"<footer>(.+?)</footer>", content, re.DOTALL)
        return " ".join(re.sub(r"<[^>]+>", "", footer).split())

    def test_every_mode_tells_what_the_others_cost(self) -> None:
        number = self.queries("/tags/?cache=off")
        self.assertEqual([number, self.queries("/tags/?cache=off")], [41, 41])
        self.assertRegex(
            self.footer("/tags/"), r"^41 queries, [\d.]+ ms, cached; without cache: 41 queries, "
        )
        self.assertRegex(
            self.footer("/tags/"),
            r"^0 queries, [\d.]+ ms, cached; without cache: 41 queries, [\d.]+ ms; "
            r"cached as a block\.$",
        )

    def test_a_block_is_kept_until_a_table_changes(self) -> None:
        self.client.get("/statistics/?cache=block")
        self.assertEqual(self.queries("/statistics/?cache=block"), 0)
        Book.objects.filter(pk=16).update(title="Another Title")
        self.assertGreater(self.queries("/statistics/?cache=block"), 0)
        old, new = (self.client.get(f"/statistics/?cache={mode}") for mode in ("off", "block"))
        body = slice(0, old.content.index(b"<footer>"))
        self.assertEqual(old.content[body], new.content[body])

    def test_a_form_is_no_block(self) -> None:
        for _ in range(2):
            self.assertGreater(self.queries("/desk/?cache=block"), 0)

    def test_the_admin_is_left_alone(self) -> None:
        content = self.client.get("/admin/login/?cache=block").content.decode()
        self.assertNotIn("without cache", content)


class BlockTests(SiteTestCase):
    """What of the pages is cached as a whole, and finds out its tables."""

    def test_the_front_page_has_a_cached_function(self) -> None:
        for outcome in ("miss", "hit"):
            found = self.client.get("/reads.json").json()
            self.assertEqual(
                found["blocks"], [{"name": "library.views.library_sizes", "outcome": outcome}]
            )
        self.assertEqual(found["queries"], 0)
        Book.objects.all()[0].delete()
        content = self.client.get("/").content.decode()
        self.assertIn(f"<strong>{Book.objects.count()}</strong> books", content)

    def test_fragments(self) -> None:
        book = Book.objects.filter(authors__isnull=False)[0]
        author = book.authors.all()[0]
        for path in (author.get_absolute_url(), "/reading-room/"):
            self.assertGreater(self.queries(path), 0)
            with recorded() as reads:
                before = self.client.get(path).content
            self.assertEqual([block.outcome for block in reads.blocks], [Outcome.HIT])
            book.authors.add(Author.objects.create(name=f"Who came to {path}", born=1900))
            Review.objects.update(text="Another Text")
            self.assertNotEqual(self.client.get(path).content, before)


class LogTests(SiteTestCase):
    def test_an_invalidation(self) -> None:
        borrowing = Borrowing.objects.filter(returned_on=None)[0]
        with self.assertLogs("library", "DEBUG") as logs:
            self.client.post(f"/desk/{borrowing.pk}/")
        self.assertEqual(
            logs.output,
            ["DEBUG:library.operations:library_borrowing of default was invalidated"],
        )

    def test_why_not(self) -> None:
        with self.assertLogs("cachalot", "DEBUG") as logs:
            self.client.get("/surprise/")
        (line,) = logs.output
        self.assertIn("the query uses chance, and CACHALOT_CACHE_RANDOM is off", line)


class NumberTests(BrowserTestCase):
    """Those of the server's process, asked for by a visitor without a browser."""

    def read(self, path: str) -> str:
        with urlopen(self.live_server_url + path) as response:
            return str(response.read().decode())

    def hits(self) -> tuple[int, int]:
        """Return the hits on the table of the tags, by the page of numbers and by Prometheus."""
        found = re.search(r'"library_tag": \{"hits": (\d+)', self.read("/numbers.json"))
        metric = 'cachalot_hits_total{database="default",table="library_tag"} '
        values = [
            float(line.removeprefix(metric))
            for line in self.read("/metrics").splitlines()
            if line.startswith(metric)
        ]
        return int(found[1]) if found else 0, int(sum(values))

    def test_they_count_hits(self) -> None:
        self.read("/totals.json")
        before = self.hits()
        for _ in range(3):
            self.read("/totals.json")
        self.assertEqual(self.hits(), (before[0] + 3, before[1] + 3))
        self.assertEqual(before[0], before[1])


class CommandTests(SimpleTestCase):
    """The commands of the README, each of them as it stands there."""

    def setUp(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)

    def run_command(self, command: str, *options: str, cache_url: str = "locmem://") -> str:
        """Run a command of the README from the root of the project, and return what it says."""
        self.assertIn(f"\n$ python example/manage.py {command}\n", README)
        return self.manage(*shlex.split(command), *options, cache_url=cache_url)

    def manage(self, *arguments: str, cache_url: str) -> str:
        result = subprocess.run(
            [sys.executable, "example/manage.py", *arguments],
            cwd=EXAMPLE_DIR.parent,
            env={
                **os.environ,
                "CACHE_URL": cache_url,
                "DJANGO_SETTINGS_MODULE": "site_example.settings",
                "DATABASE_URL": f"sqlite:///{self.directory.name}/library.sqlite3",
                "LOG_LEVEL": "DEBUG",
                "PYTHONPATH": str(EXAMPLE_DIR.parent),
            },
            stderr=subprocess.STDOUT,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.assertEqual(result.returncode, 0, result.stdout)
        return result.stdout

    def test_the_demo(self) -> None:
        output = self.run_command("demo", "--rows=500", "--rounds=1")
        self.assertIn("  None was stale.\n", output)
        self.assertIn("\nAll pages: ", output)
        self.assertNotIn("WARNING", output)

    def test_the_demo_at_a_distance(self) -> None:
        output = self.manage(
            "demo", "--rows=500", "--rounds=1", "--latency=1", cache_url="locmem://"
        )
        self.assertIn("Milliseconds of each page, with 1 ms to the database and to the", output)
        self.assertNotIn("WARNING", output)
        self.assertIn("library_book of default was invalidated", output)

    def test_what_the_processes_have_counted(self) -> None:
        cache_url = f"file://{self.directory.name}/cache"
        self.manage("migrate", cache_url=cache_url)
        code = "from library.models import Book; print(Book.objects.count())"
        for _ in range(2):
            self.assertTrue(self.manage("shell", "-c", code, cache_url=cache_url).endswith("0\n"))
        output = self.run_command("cachalot_stats", cache_url=cache_url)
        # Hits, those by rows, misses, not cached, hit rate.
        self.assertRegex(output, r"\ndefault +library_book +1 +0 +1 +0 +50\.0% ")

    def test_memory_is_not_shared(self) -> None:
        self.assertIn("is not shared between processes", self.run_command("cachalot_stats"))

    def test_what_becomes_of_a_query(self) -> None:
        output = self.run_command('explain_cachalot "Book.objects.filter(pages__gt=100)"')
        self.assertRegex(output, r"Tables: +library_book\n")
        self.assertRegex(output, r"Cachable: +yes\n")

    def test_the_checks_before_deployment(self) -> None:
        command = "check --deploy --tag cachalot"
        self.assertIn("cachalot.W009", self.run_command(command))
        output = self.run_command(command, cache_url=f"file://{self.directory.name}/cache")
        self.assertEqual(output, "System check identified no issues (0 silenced).\n")

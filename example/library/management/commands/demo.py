"""Fill the library, measure its pages and prove them right after an edit."""

from argparse import ArgumentParser
from time import perf_counter
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, connection
from django.db.models import Count
from django.urls import reverse
from tqdm import tqdm

from cachalot.api import cachalot_disabled, invalidate
from library.dataset import MIN_ROWS, Dataset
from library.editing import (
    USERNAME,
    RefusedEditError,
    edit_in_admin,
    log_in_to_admin,
    record_invalidations,
)
from library.loading import empty_tables, find_foreign_tables, load
from library.measure import (
    Comparison,
    Page,
    Visit,
    Walk,
    WrongPageError,
    compare,
    difference_problems,
    nothing_cached,
    query_problems,
)
from library.models import Book

NEW_TITLE = "Seventeen Teapots under a Paper Moon"


class Command(BaseCommand):
    """Run the demo; fail when a cached page queries the database or a page is wrong."""

    help = (
        "Migrates the database, empties the library tables and fills them again, always with the "
        "same rows; then visits the pages without cache, with a cold one and with a warm one, "
        "edits a book in the admin and checks every page. Other tables are left alone."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--rows", type=int, default=20_000, help="Rows of all library tables (default: 20000)."
        )
        parser.add_argument(
            "--rounds", type=int, default=5, help="Visits to take each median of (default: 5)."
        )
        parser.add_argument(
            "--seed", type=int, default=1, help="Another seed makes other books (default: 1)."
        )

    def handle(self, *, rows: int, rounds: int, seed: int, **options: Any) -> None:
        if rows < MIN_ROWS:
            raise CommandError(f"--rows is {rows}: ask for at least {MIN_ROWS}.")
        if rounds < 1:
            raise CommandError(f"--rounds is {rounds}: ask for at least 1.")
        refuse_foreign_tables()
        self.prepare_database(Dataset(rows, seed))
        book = choose_book()
        walk = Walk(pages_about(book))
        try:
            comparison = compare(walk, tqdm(range(rounds), "Walking", unit="round", disable=None))
            self.write_comparison(comparison, rounds)
            problems = [*comparison.problems, *self.edit_and_check(walk, book, comparison.visits)]
        except (WrongPageError, RefusedEditError) as error:
            raise CommandError(str(error)) from error
        if problems:
            raise CommandError("The demo failed:\n- " + "\n- ".join(problems))
        self.stdout.write(
            self.style.SUCCESS(
                "\nEvery cached page ran without a query, and every page was right after the edit."
            )
        )

    def prepare_database(self, dataset: Dataset) -> None:
        """Migrate, then fill the library anew, and say so."""
        database = connection.settings_dict["NAME"]
        self.stdout.write(f"Database: {connection.vendor}, {database}")
        self.stdout.write(f"Cache: {settings.CACHES['default']['BACKEND'].rpartition('.')[2]}")
        start = perf_counter()
        # Until invalidate(), the cache may hold what another demo read in another database.
        with cachalot_disabled():
            call_command("migrate", verbosity=0, interactive=False)
        empty_tables(DEFAULT_DB_ALIAS)
        with tqdm(total=dataset.rows, desc="Loading", unit="row", disable=None) as progress:
            load(dataset, DEFAULT_DB_ALIAS, progress.update)
        invalidate()
        self.stdout.write(
            f"Emptied the library tables and filled them with {dataset.rows} rows, the same as "
            f"each time, in {perf_counter() - start:.1f} s."
        )

    def write_comparison(self, comparison: Comparison, rounds: int) -> None:
        """Print a line for each page, and their sums."""
        columns = (comparison.without, comparison.cold, comparison.cached)
        width = max(len(page.name) for page in comparison.visits)
        self.stdout.write(f"\nQueries (q) and milliseconds (ms, median of {rounds} visits):\n\n")
        self.stdout.write(
            f"{'':{width}}{'without cache':>16}{'first visit':>16}{'cached':>16}{'faster':>10}\n"
        )
        self.stdout.write(f"{'page':{width}}" + f"{'q':>7} {'ms':>8}" * 3 + f"{'by':>10}\n")
        lines = [
            (
                page.name,
                [column[page].queries for column in columns],
                [column[page].milliseconds for column in columns],
            )
            for page in comparison.visits
        ]
        lines.append(
            (
                "all pages",
                [sum(line[1][index] for line in lines) for index in range(3)],
                [sum(line[2][index] for line in lines) for index in range(3)],
            )
        )
        for name, queries, times in lines:
            cells = "".join(f"{q:>7} {ms:>8.1f}" for q, ms in zip(queries, times, strict=True))
            self.stdout.write(f"{name:{width}}{cells}{times[0] / times[2]:>9.1f}x")

    def edit_and_check(self, walk: Walk, book: Book, before: dict[Page, Visit]) -> list[str]:
        """Give ``book`` another title in the admin and say which pages are wrong afterwards."""
        client, password = log_in_to_admin()
        self.stdout.write(f"\nIn the admin, {book.title!r} becomes {NEW_TITLE!r}.")
        with record_invalidations() as tables:
            edit_in_admin(client, book, NEW_TITLE)
        self.stdout.write(f"Invalidated at once: {', '.join(sorted(tables)) or 'nothing'}.")

        after = walk.visit()
        with nothing_cached():
            expected = walk.visit()
        again = walk.visit()

        mentioning = [page for page, visit in before.items() if book.title in visit.content]
        problems = title_problems(mentioning, book.title, after)
        problems += difference_problems("the first visit after the edit", after, expected)
        problems += difference_problems("the second visit after the edit", again, expected)
        problems += query_problems("the second visit after the edit", again)
        if book._meta.db_table not in tables:
            problems.append(f"The edit did not invalidate {book._meta.db_table!r}.")

        self.stdout.write(f"{len(mentioning)} of {len(before)} pages mention the book:\n\n")
        width = max(len(page.name) for page in mentioning)
        self.stdout.write(f"{'page':{width}}  old title  new title  as without cache    q, then\n")
        for page in mentioning:
            old = "shown" if book.title in after[page].content else "gone"
            new = "shown" if NEW_TITLE in after[page].content else "missing"
            same = "yes" if after[page].content == expected[page].content else "no"
            self.stdout.write(
                f"{page.name:{width}}  {old:9}  {new:9}  {same:16} {len(after[page].queries):>4} "
                f"{len(again[page].queries):>6}"
            )
        self.stdout.write(
            "\nTo see the same in a browser: python example/manage.py runserver\n"
            f"The admin lets {USERNAME} in with the password {password} until the next demo."
        )
        return problems


def refuse_foreign_tables() -> None:
    """Raise CommandError when the database has library tables that are not those of this site."""
    if tables := find_foreign_tables(DEFAULT_DB_ALIAS):
        raise CommandError(
            f"The database {str(connection.settings_dict['NAME'])!r} already holds a library that "
            f"this site did not create (see {', '.join(tables)}). Nothing was changed: point "
            "DATABASE_URL at another database."
        )


def choose_book() -> Book:
    """Return the book borrowed most whose title is part of no other text of the library."""
    for book in Book.objects.annotate(loans=Count("borrowings")).order_by("-loans", "pk"):
        if Book.objects.filter(title__contains=book.title).count() == 1:
            return book
    raise CommandError("Every title is part of another one: take another --seed.")


def pages_about(book: Book) -> list[Page]:
    """Return the pages of the site, with those of ``book``, its first author and first tag."""
    author, tag = book.authors.first(), book.tags.first()
    lists = {
        "index": "index",
        "books": "books",
        "authors": "authors",
        "tags": "tags",
        "borrowings": "borrowings",
        "reviews": "reviews",
        "statistics": "statistics",
        "catalogue": "catalogue (Django fragment)",
        "reading_room": "reading room (Jinja2)",
    }
    return [
        *(Page(name, reverse(f"library:{view}")) for view, name in lists.items()),
        Page("one book", book.get_absolute_url()),
        Page("one author", author.get_absolute_url()),
        Page("one tag", tag.get_absolute_url()),
        Page("second page of books", reverse("library:books") + "?page=2"),
        Page("search for an author", reverse("library:search") + f"?q={author.name.split()[-1]}"),
    ]


def title_problems(pages: list[Page], old_title: str, visits: dict[Page, Visit]) -> list[str]:
    """Say which of ``pages`` still show the old title, or lack the new one."""
    problems = []
    for page in pages:
        if old_title in visits[page].content:
            problems.append(f"{page.path} still shows {old_title!r} after the edit.")
        if NEW_TITLE not in visits[page].content:
            problems.append(f"{page.path} does not show {NEW_TITLE!r} after the edit.")
    return problems

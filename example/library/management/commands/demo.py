"""Fill the library, prove its pages right after each kind of write, and measure them."""

from argparse import ArgumentParser
from time import perf_counter
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, connection, transaction
from django.db.models import Count
from django.urls import reverse

from cachalot.api import cachalot_disabled, invalidate
from library.bars import Pens, lines_of, total
from library.dataset import MIN_ROWS, Dataset
from library.editing import (
    USERNAME,
    RefusedEditError,
    edit_in_admin,
    log_in_to_admin,
    record_invalidations,
)
from library.latency import link
from library.loading import empty_tables, find_foreign_tables, load
from library.measure import (
    Comparison,
    Page,
    Walk,
    WrongPageError,
    compare,
    difference_problems,
    query_problems,
)
from library.models import Book

NEW_TITLE = "Seventeen Teapots under a Paper Moon"
LAST_TITLE = "Eighteen Teapots under a Paper Moon"


class Command(BaseCommand):
    """Run the demo; fail when a cached page queries the database or a page is wrong."""

    help = (
        "Migrates the database, empties the library tables and fills them again, always with the "
        "same rows; then edits a book in three ways and compares every page with the database, and "
        "measures the pages without cache, cached, and cached as a block. Other tables are left "
        "alone."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--rows", type=int, default=20_000, help="Rows of all library tables (default: 20000)."
        )
        parser.add_argument(
            "--rounds", type=int, default=3, help="Visits to take each median of (default: 3)."
        )
        parser.add_argument(
            "--seed", type=int, default=1, help="Another seed makes other books (default: 1)."
        )
        parser.add_argument(
            "--latency",
            type=float,
            default=0.0,
            metavar="MS",
            help="Milliseconds that each query and each call of the cache takes longer, as if both "
            "were on other hosts (default: 0).",
        )

    def handle(self, *, rows: int, rounds: int, seed: int, latency: float, **options: Any) -> None:
        if rows < MIN_ROWS:
            raise CommandError(f"--rows is {rows}: ask for at least {MIN_ROWS}.")
        if rounds < 1:
            raise CommandError(f"--rounds is {rounds}: ask for at least 1.")
        if not 0 <= latency <= 1000:
            raise CommandError(f"--latency is {latency:g}: ask for 0 to 1000 milliseconds.")
        refuse_foreign_tables()
        self.prepare_database(Dataset(rows, seed), latency)
        book = choose_book()
        walk = Walk(pages_about(book))
        try:
            problems, password = self.edit_and_check(walk, book)
            comparison = self.compare(walk, rounds, latency)
        except (WrongPageError, RefusedEditError) as error:
            raise CommandError(str(error)) from error
        problems += comparison.problems
        if problems:
            raise CommandError("The demo failed:\n- " + "\n- ".join(problems))
        self.write_comparison(comparison, latency)
        self.say(
            "\nThe same pages in a browser, each with what it cost: "
            "python example/manage.py runserver\n"
            f"The admin lets {USERNAME} in with the password {password} until the next demo."
        )

    def say(self, text: str) -> None:
        """Print at once, also where the output is no terminal."""
        self.stdout.write(text)
        self.stdout.flush()

    def prepare_database(self, dataset: Dataset, latency: float) -> None:
        """Migrate, then fill the library anew, and say so."""
        cache = settings.CACHES["default"]["BACKEND"].rpartition(".")[2]
        database = connection.settings_dict["NAME"]
        self.say(
            f"A library of {dataset.rows} rows in {connection.vendor} ({database}), cached by "
            f"{cache}. This takes about {'a minute' if latency else 'twenty seconds'}."
        )
        start = perf_counter()
        # Until invalidate(), the cache may hold what another demo read in another database.
        with cachalot_disabled():
            call_command("migrate", verbosity=0, interactive=False)
        empty_tables(DEFAULT_DB_ALIAS)
        load(dataset, DEFAULT_DB_ALIAS, lambda number: None)
        invalidate()
        self.say(f"Filled in {perf_counter() - start:.1f} s, with the same rows as each time.")

    def edit_and_check(self, walk: Walk, book: Book) -> tuple[list[str], str]:
        """Change the title of ``book`` in three ways, and compare every page after each.

        Return what is wrong, and the password of the admin.
        """
        client, password = log_in_to_admin()
        self.say(self.style.MIGRATE_HEADING("\nIs a page ever stale?"))
        before = walk.visit()
        mentioning = [page for page, visit in before.items() if book.title in visit.content]
        self.say(
            f"{len(walk.pages)} pages are cached, {len(mentioning)} of them show {book.title!r}."
        )
        problems: list[str] = []
        invalidated: set[str] = set()
        for how, write, title in (
            ("edited in the admin,", lambda: edit_in_admin(client, book, NEW_TITLE), NEW_TITLE),
            ("renamed by a cursor's UPDATE,", lambda: rename_in_sql(book, LAST_TITLE), LAST_TITLE),
            ("renamed, read, rolled back,", lambda: rename_in_vain(walk, book), LAST_TITLE),
        ):
            with record_invalidations() as tables:
                write()
            invalidated |= tables
            after = walk.visit()
            expected = walk.in_mode("off").visit()
            again = walk.visit()
            found = difference_problems(f"the first visit after it was {how[:-1]}", after, expected)
            shown = [page for page in mentioning if title in after[page].content]
            found += [
                f"{page.path} does not show {title!r} after it was {how[:-1]}."
                for page in mentioning
                if page not in shown
            ]
            found += difference_problems(
                f"the second visit after it was {how[:-1]}", again, expected
            )
            found += query_problems(f"the second visit after it was {how[:-1]}", again)
            asked = sum(len(visit.queries) for visit in after.values())
            of_all = sum(len(visit.queries) for visit in expected.values())
            self.say(
                f"  {how:30}{len(shown):2} of {len(mentioning)} show the title in force; "
                f"{asked:3} of {of_all} queries ran, then none"
            )
            problems += found
        if not problems:
            self.say(
                f"  Invalidated were {', '.join(sorted(invalidated))}; {3 * len(walk.pages)} pages "
                "were compared with the database."
            )
            self.say(self.style.SUCCESS("  None was stale."))
        return problems, password

    def compare(self, walk: Walk, rounds: int, latency: float) -> Comparison:
        """Measure, and tell how far that is."""
        self.say(self.style.MIGRATE_HEADING("\nWhat is saved?"))
        with link(latency):
            for number, comparison in enumerate(compare(walk, rounds), start=1):
                if comparison is not None:
                    return comparison
                self.say(f"  measured {number} of {rounds} times …")
        raise AssertionError("compare() ends with its result")

    def write_comparison(self, comparison: Comparison, latency: float) -> None:
        """Draw each page, and say what it comes to."""
        pens = Pens(getattr(self.stdout, "encoding", None))
        where = f", with {latency:g} ms to the database and to the cache" if latency else ""
        self.say(f"\nMilliseconds of each page{where}:\n")
        self.say("\n".join(lines_of(comparison, pens)))
        queries = sum(comparison.queries.values())
        without, first, cached, block, django = (
            total(column)
            for column in (
                comparison.without,
                comparison.first,
                comparison.cached,
                comparison.block,
                comparison.django,
            )
        )
        self.say(
            f"\nAll pages: {queries} queries and {without:.0f} ms without cache, no query and "
            f"{cached:.0f} ms cached: {without / cached:.1f} times as fast.\n"
            f"Of these, {django:.0f} ms ({pens.light}) are Django, which builds objects and pages: "
            "no cache of queries saves them.\n"
            f"Kept whole until a table changes, the pages take {block:.0f} ms: "
            f"{without / block:.0f} times as fast.\n"
            f"The first visit of all, with an empty cache, takes {first:.0f} ms."
        )
        if latency:
            self.say(
                "Each hit asks the cache once whether its tables have changed, which takes as long "
                "as it is away; a page that is kept whole asks once for all."
            )
        else:
            self.say(
                "This is the least there is to win: no network lies between. With one, and all "
                "1 ms away: python example/manage.py demo --latency 1"
            )


def rename_in_sql(book: Book, title: str) -> None:
    """Give ``book`` another title behind the back of the ORM."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE library_book SET title = %s WHERE id = %s", [title, book.pk])


def rename_in_vain(walk: Walk, book: Book) -> None:
    """Give ``book`` another title, visit every page, and roll it back."""
    with transaction.atomic():
        Book.objects.filter(pk=book.pk).update(title="No Teapot at All")
        walk.visit()
        transaction.set_rollback(True)


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
        "catalogue": "catalogue (fragment)",
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

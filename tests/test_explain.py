"""``explain()`` and ``explain_cachalot`` tell what becomes of a queryset, without running it."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.core.cache import caches
from django.core.management import CommandError, call_command
from django.db import connections, models
from django.test import override_settings

from cachalot.api import Explanation, cachalot_disabled, explain
from cachalot.core.cache.local import local_tier
from tests.library.models import Author, Book, Tag
from tests.support import CacheTestCase, count_queries

if hasattr(models, "DB_CASCADE"):
    from tests.library.models import Placement, Shelf


class ExplainTests(CacheTestCase):
    databases = {"default", "other"}

    def test_a_cachable_queryset(self) -> None:
        books = Book.objects.filter(author__name="Melville")
        explanation = explain(books)
        self.assertEqual(explanation.tables, ("library_author", "library_book"))
        self.assertEqual(explanation.invalidated_by, explanation.tables)
        self.assertEqual((explanation.is_cachable, explanation.reason), (True, None))
        self.assertIs(explanation.timeout, None)
        self.assertEqual(explanation.db_alias, "default")
        self.assertIn("Melville", str(books.query))
        key = explanation.key
        assert key is not None
        # The key is the one under which the result is stored.
        self.assertIs(caches["default"].get(key), None)
        list(books)
        self.assertIsNot(caches["default"].get(key), None)

    def test_it_runs_and_changes_nothing(self) -> None:
        Book.objects.create(title="Moby Dick")
        books = Book.objects.order_by("pk")
        _, queries = count_queries(lambda: explain(books))
        self.assertEqual(queries, 0)
        self.assertEqual(len(local_tier), 0)
        self.assertEqual(str(explain(books)), str(explain(books)))
        self.assertEqual([book.title for book in books], ["Moby Dick"])
        self.assertIs(explain(books).is_cachable, True)

    def test_it_prints_well(self) -> None:
        books = Book.objects.values("pk").filter(pages=3)
        explanation = explain(books)
        self.assertEqual(
            str(explanation).splitlines(),
            [
                f"SQL:            {explanation.sql}",
                "Database:       default",
                "Tables:         library_book",
                "Cachable:       yes",
                f"Key:            {explanation.key}",
                "Kept:           until it is invalidated",
                "Invalidated by: a change of library_book",
                "Versions:       in the cache 'default'"
                if explanation.board is None
                else f"Versions:       in {explanation.board}, which all processes of this machine "
                "share",
            ],
        )
        if self.uses_locmem():
            self.assertEqual(explanation.board, settings.CACHALOT_BOARD)
        with override_settings(CACHALOT_BOARD=None):
            self.assertIn("in the cache 'default'", str(explain(books)))

    def assertRefused(self, reason: str, queryset: Any) -> Explanation:
        explanation = explain(queryset)
        self.assertEqual((explanation.is_cachable, explanation.reason), (False, reason))
        self.assertIn(f"\nCachable:       no, because {reason}", str(explanation))
        self.assertNotIn("Invalidated by", str(explanation))
        return explanation

    def test_why_not(self) -> None:
        random = self.assertRefused(
            "the query uses chance, and CACHALOT_CACHE_RANDOM is off", Book.objects.order_by("?")
        )
        self.assertIs(random.key, None)
        self.assertEqual(random.tables, ("library_book",))
        never = self.assertRefused(
            "it has no rows whatever the tables hold, and no query is run", Book.objects.none()
        )
        self.assertEqual((never.sql, never.tables), ("", ()))
        with override_settings(CACHALOT_UNCACHABLE_TABLES=["library_book"]):
            self.assertRefused(
                "the query uses library_book, which CACHALOT_UNCACHABLE_TABLES or _APPS excludes",
                Book.objects.all(),
            )
        with cachalot_disabled():
            self.assertRefused("caching is switched off by cachalot_disabled()", Book.objects.all())
        engine = connections["default"].settings_dict["ENGINE"]
        with override_settings(CACHALOT_DATABASES=["other"]):
            self.assertRefused(
                f"CACHALOT_DATABASES leaves out 'default' ({engine})", Book.objects.all()
            )
            self.assertIs(explain(Book.objects.using("other")).is_cachable, True)
        with override_settings(CACHALOT_CACHE="nowhere"):
            self.assertRefused("the cache 'nowhere' cannot be used", Book.objects.all())

    def test_for_how_long(self) -> None:
        with override_settings(CACHALOT_TIMEOUTS={"library.Author": 60}):
            self.assertIs(explain(Book.objects.all()).timeout, None)
            explanation = explain(Book.objects.filter(author__name=""))
            self.assertEqual(explanation.timeout, 60)
            self.assertIn(
                "\nKept:           60 seconds, or until it is invalidated\n", str(explanation)
            )
        with override_settings(CACHALOT_TIMEOUT=0):
            self.assertRefused(
                "the result may be kept for no time, by CACHALOT_TIMEOUT or CACHALOT_TIMEOUTS",
                Book.objects.all(),
            )

    def test_what_else_invalidates(self) -> None:
        with override_settings(CACHALOT_DEPENDENT_TABLES={"legacy": ["library_tag"]}):
            explanation = explain(Tag.objects.all())
        self.assertEqual(explanation.tables, ("library_tag",))
        self.assertEqual(explanation.invalidated_by, ("legacy", "library_tag"))
        if hasattr(models, "DB_CASCADE"):
            self.assertEqual(
                explain(Placement.objects.all()).invalidated_by,
                ("library_placement", Shelf._meta.db_table),
            )

    def test_rows(self) -> None:
        explanation = explain(Tag.objects.filter(pk__in=[2, 1]))
        self.assertEqual((explanation.tables, explanation.rows), (("library_tag",), (1, 2)))
        line = "Rows:           1, 2; if found, writes of others leave the result"
        self.assertIn(line, str(explanation).splitlines())
        self.assertEqual(explain(lambda: Tag.objects.get(pk=1)).rows, (1,))
        self.assertEqual(explain(Tag.objects.filter(name__gt="x")).rows, ())

    def test_a_row_found_by_a_unique_column(self) -> None:
        explanation = explain(lambda: Tag.objects.get(name="x"))
        self.assertEqual((explanation.rows, explanation.row_by), ((), "name"))
        line = "Row:            found by name; if there is one, writes of others leave the result"
        self.assertIn(line, str(explanation).splitlines())
        self.assertIsNone(explain(lambda: Tag.objects.filter(name="x").exists()).row_by)
        self.assertIsNone(explain(Tag.objects.get_queryset().filter(pk=1, name="x")).row_by)

    def test_managers_and_models_are_all_their_rows(self) -> None:
        for value in (Book, Book.objects):
            self.assertEqual(explain(value), explain(Book.objects.all()))
        with self.assertRaisesMessage(TypeError, "AbstractUser is abstract and has no table"):
            explain(AbstractUser)

    def test_what_reads_at_once(self) -> None:
        book = Book.objects.create(title="Moby Dick")
        books = Book.objects.order_by("pk")
        reads: dict[str, Callable[[], Any]] = {
            "count": lambda: books.count(),
            "get": lambda: Book.objects.get(pk=book.pk),
            "get by another column": lambda: Book.objects.get(title="Moby Dick"),
            "first": lambda: books.first(),
            "exists": lambda: books.filter(title="Moby Dick").exists(),
            "aggregate": lambda: books.aggregate(models.Max("pk")),
            "list": lambda: list(books.values_list("title")),
        }
        for name, read in reads.items():
            with self.subTest(name):
                explanation, queries = count_queries(lambda read=read: explain(read))
                self.assertEqual(queries, 0)
                self.assertIs(explanation.is_cachable, True)
                self.assertEqual(explanation.tables, ("library_book",))
                key = explanation.key
                assert key is not None
                self.assertIs(caches["default"].get(key), None)
                self.assertCached(read)
                self.assertIsNot(caches["default"].get(key), None)

    def test_a_function_is_left_whatever_it_catches(self) -> None:
        def read() -> Any:
            try:
                return Book.objects.count()
            except Exception:
                return Author.objects.count()

        self.assertEqual(explain(read).tables, ("library_book",))
        # Reads are read again afterwards.
        self.assertEqual(read(), 0)

    def test_a_function_that_returns_a_queryset(self) -> None:
        self.assertEqual(explain(Book.objects.all), explain(Book.objects.all()))

    def test_anything_else_is_an_error(self) -> None:
        for value in (3, [Book()], None, lambda: 3):
            with self.assertRaisesMessage(TypeError, "is no queryset, manager or model"):
                explain(value)  # type: ignore[arg-type]
        with self.assertRaisesMessage(TypeError, "reads nothing and returns None; pass a function"):
            explain(lambda: None)
        with self.assertRaisesMessage(TypeError, "What raw() reads is never cached"):
            explain(Book.objects.raw("SELECT * FROM library_book"))  # type: ignore[arg-type]


class CommandTests(CacheTestCase):
    def command(self, code: str) -> str:
        output = StringIO()
        call_command("explain_cachalot", code, stdout=output)
        return output.getvalue()

    def test_models_are_in_scope(self) -> None:
        self.assertEqual(
            self.command("Book.objects.filter(pages=3)"),
            f"{explain(Book.objects.filter(pages=3))}\n",
        )
        self.assertIn("Tables:         auth_user\n", self.command("User.objects.all()"))

    def test_names_of_django_are_in_scope(self) -> None:
        output = self.command("Author.objects.annotate(n=Count('books')).filter(Q(n__gt=F('pk')))")
        self.assertEqual(
            output,
            f"{explain(Author.objects.annotate(n=models.Count('books')).filter(n__gt=models.F('pk')))}\n",
        )

    def test_functions_and_clocks_are_in_scope(self) -> None:
        for code in ("Book.objects.filter(title=Lower('title'), published__lt=Now())",):
            self.assertIn("Cachable:       no, because the query ", self.command(code))
        for code in ("timezone.localdate().year", "datetime.date(1851, 10, 18).year"):
            self.assertIn("Cachable:       yes", self.command(f"Book.objects.filter(pages={code})"))

    def test_what_reads_at_once(self) -> None:
        author = Author.objects.create(name="Melville")
        for code, read in (
            ("Book", lambda: list(Book.objects.all())),
            ("Book.objects.count()", lambda: Book.objects.count()),
            (
                "Book.objects.aggregate(n=Count('pk'))",
                lambda: Book.objects.aggregate(n=models.Count("pk")),
            ),
            (
                f"Book.objects.filter(author=Author.objects.get(pk={author.pk})).exists()",
                lambda: Book.objects.filter(author=author).exists(),
            ),
        ):
            with self.subTest(code):
                self.assertEqual(self.command(code), f"{explain(read)}\n")

    def test_errors_are_told(self) -> None:
        for code, message in (
            ("Bok.objects.all()", "NameError: name 'Bok' is not defined. Did you mean 'Book'?"),
            ("Xyzzy", "NameError: name 'Xyzzy' is not defined"),
            ("Book.objects.filter(", "'Book.objects.filter(' is no expression of Python ("),
            ("SELECT 1 FROM a", "); write a queryset, such as "),
            ("", "'' is no expression of Python ("),
            ("Book.objects.filter(nothing=1)", "FieldError: Cannot resolve keyword 'nothing'"),
            ("Book.objects.raw('SELECT 1')", "TypeError: What raw() reads is never cached"),
            ("3", "TypeError: 3 is no queryset, manager or model; what count(), get(),"),
        ):
            with self.subTest(code), self.assertRaisesMessage(CommandError, message):
                self.command(code)


class ByKeyTests(CacheTestCase):
    def test_a_read_by_key_is_explained_with_its_own_value(self) -> None:
        """Though no queryset is built for it, once its like has been read before."""
        one, other = (Author.objects.create(name=name) for name in "ab")
        for _ in range(2):
            Author.objects.get(pk=one.pk)
        keys = {explain(lambda pk=pk: Author.objects.get(pk=pk)).key for pk in (one.pk, other.pk)}
        self.assertEqual(len(keys), 2)

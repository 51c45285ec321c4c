"""``explain()`` and ``explain_cachalot`` tell what becomes of a queryset, without running it."""

from __future__ import annotations

from io import StringIO
from typing import Any

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
            ],
        )

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
            self.assertRefused("caching is switched off", Book.objects.all())
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

    def test_anything_else_is_an_error(self) -> None:
        for value in (3, Book, Book.objects, [Book()], None):
            with self.assertRaisesMessage(TypeError, "is no queryset; what count(), get()"):
                explain(value)  # type: ignore[arg-type]


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

    def test_errors_are_told(self) -> None:
        for code, message in (
            ("Bok.objects.all()", "NameError: name 'Bok' is not defined"),
            ("Book.objects.filter(", "SyntaxError: "),
            ("Book.objects.filter(nothing=1)", "FieldError: Cannot resolve keyword 'nothing'"),
            ("Book.objects.count()", "TypeError: 0 is no queryset; what count(), get(),"),
        ):
            with self.subTest(code), self.assertRaisesMessage(CommandError, message):
                self.command(code)

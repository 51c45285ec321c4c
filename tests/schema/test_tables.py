"""No query misses a table, however it gets into the SQL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

from django.apps.registry import Apps
from django.core.management import call_command
from django.db import connection, models, transaction
from django.db.models import (
    Case,
    Count,
    Exists,
    F,
    FilteredRelation,
    Func,
    Max,
    OuterRef,
    Prefetch,
    Q,
    Subquery,
    Sum,
    Value,
    When,
)
from django.db.models.expressions import RawSQL
from django.db.models.functions import Coalesce, Now, Random
from django.db.models.sql.constants import MULTI
from django.test import override_settings

from cachalot.api import invalidate
from cachalot.core.connection.cursor import driver_cursor
from cachalot.core.sql.volatility import volatility_of
from cachalot.utils import UncachableQuery, _get_tables
from tests.library.models import (
    Author,
    Book,
    BookSummary,
    Novel,
    OddlyNamed,
    Paperback,
    Publisher,
    Review,
    Tag,
)
from tests.support import CacheTestCase, count_queries, in_process, in_thread

AUTHOR, BOOK, NOVEL, PUBLISHER, REVIEW, TAG, BOOK_TAGS = (
    "library_author",
    "library_book",
    "library_novel",
    "library_publisher",
    "library_review",
    "library_tag",
    "library_book_tags",
)


def reviews() -> Any:
    return Review.objects.filter(book=OuterRef("pk"))


class CountReviews(Func):
    """A template with a SELECT of its own, as other packages have."""

    template = "(SELECT COUNT(*) FROM library_review r WHERE r.book_id = %(expressions)s)"
    output_field = models.IntegerField()


class QuotedCount(Func):
    template = '(SELECT COUNT(*) FROM (SELECT 1 FROM "%(table)s") AS x)'
    output_field = models.IntegerField()
    arity = 0

    def as_sql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        quoted = connection.ops.quote_name("library_review")
        return f"(SELECT COUNT(*) FROM {quoted})", []


class TablesOfQueries(CacheTestCase):
    QUERIES: dict[str, tuple[Callable[[], Any], set[str]]] = {
        "one table": (lambda: Book.objects.all(), {BOOK}),
        "a trimmed join": (lambda: Book.objects.filter(author__id=1), {BOOK}),
        "a join": (lambda: Book.objects.filter(author__name="x"), {BOOK, AUTHOR}),
        "two joins": (
            lambda: Review.objects.filter(book__author__name="x"),
            {REVIEW, BOOK, AUTHOR},
        ),
        "many-to-many": (
            lambda: Book.objects.filter(tags__name="x"),
            {BOOK, BOOK_TAGS, TAG},
        ),
        "many-to-many by key": (lambda: Book.objects.filter(tags=1), {BOOK, BOOK_TAGS}),
        "exclude over many-to-many": (
            lambda: Book.objects.exclude(tags__name="x"),
            {BOOK, BOOK_TAGS, TAG},
        ),
        "self relation": (lambda: Author.objects.filter(mentor__name="x"), {AUTHOR}),
        "inheritance": (lambda: Novel.objects.all(), {NOVEL, BOOK}),
        "child from the parent": (lambda: Book.objects.filter(novel__genre="x"), {NOVEL, BOOK}),
        "proxy": (lambda: Paperback.objects.all(), {BOOK}),
        "select_related": (
            lambda: Book.objects.select_related("author", "publisher"),
            {BOOK, AUTHOR, PUBLISHER},
        ),
        "ordering by a relation": (
            lambda: Book.objects.order_by("author__name"),
            {BOOK, AUTHOR},
        ),
        "values of a relation": (lambda: Book.objects.values("author__name"), {BOOK, AUTHOR}),
        "aggregate": (
            lambda: Book.objects.annotate(n=Count("reviews")),
            {BOOK, REVIEW},
        ),
        "aggregate with filter": (
            lambda: Book.objects.annotate(n=Count("pk", filter=Q(author__name="x"))),
            {BOOK, AUTHOR},
        ),
        "sub-query in an annotation": (
            lambda: Book.objects.annotate(s=Subquery(reviews().values("stars")[:1])),
            {BOOK, REVIEW},
        ),
        "sub-query in alias()": (
            lambda: Book.objects.alias(s=Subquery(reviews().values("stars")[:1])).filter(s=1),
            {BOOK, REVIEW},
        ),
        "sub-query in filter": (
            lambda: Book.objects.filter(pk__in=Review.objects.values("book")),
            {BOOK, REVIEW},
        ),
        "sub-query in order_by": (
            lambda: Book.objects.order_by(Subquery(reviews().values("stars")[:1]).desc()),
            {BOOK, REVIEW},
        ),
        "sub-query in Case": (
            lambda: Book.objects.annotate(
                s=Case(When(Exists(reviews()), then=Value(1)), default=Value(0))
            ),
            {BOOK, REVIEW},
        ),
        "sub-query in Coalesce": (
            lambda: Book.objects.annotate(
                s=Coalesce(Subquery(reviews().values("stars")[:1]), Value(0))
            ),
            {BOOK, REVIEW},
        ),
        "sub-query in an aggregate": (
            lambda: Author.objects.annotate(
                s=Sum(Subquery(Book.objects.filter(author=OuterRef("pk")).values("pages")[:1]))
            ),
            {AUTHOR, BOOK},
        ),
        "sub-query two levels down": (
            lambda: Author.objects.filter(
                Exists(
                    Book.objects.filter(
                        Exists(reviews().filter(book__author=OuterRef(OuterRef("pk"))))
                    )
                )
            ),
            {AUTHOR, BOOK, REVIEW},
        ),
        "not exists": (lambda: Book.objects.filter(~Exists(reviews())), {BOOK, REVIEW}),
        "FilteredRelation": (
            lambda: Book.objects.annotate(
                good=FilteredRelation("reviews", condition=Q(reviews__stars=5))
            ).filter(good__isnull=False),
            {BOOK, REVIEW},
        ),
        "FilteredRelation with a join in it": (
            lambda: Author.objects.annotate(
                tagged=FilteredRelation("books", condition=Q(books__title="x"))
            ).values("tagged__publisher__name"),
            {AUTHOR, BOOK, PUBLISHER},
        ),
        "union": (
            lambda: Author.objects.values_list("name").union(
                Tag.objects.values_list("name"), Publisher.objects.values_list("name")
            ),
            {AUTHOR, TAG, PUBLISHER},
        ),
        "union with a sub-query": (
            lambda: Author.objects.values_list("name").union(
                Book.objects.filter(Exists(reviews())).values_list("title")
            ),
            {AUTHOR, BOOK, REVIEW},
        ),
        "filter by a combined query": (
            lambda: Book.objects.filter(
                author__in=Author.objects.filter(name="a")
                .union(Author.objects.filter(mentor__name="b"))
                .values("pk")
            ),
            {BOOK, AUTHOR},
        ),
        "distinct": (lambda: Book.objects.values("author__name").distinct(), {BOOK, AUTHOR}),
        "RawSQL": (
            lambda: Book.objects.annotate(n=RawSQL("(SELECT COUNT(*) FROM library_review)", [])),
            {BOOK, REVIEW},
        ),
        "RawSQL in filter": (
            lambda: Book.objects.filter(
                pk__in=RawSQL("select Book_id from library_review where stars > %s", [1])
            ),
            {BOOK, REVIEW},
        ),
        "RawSQL with a join": (
            lambda: Book.objects.filter(
                pk__in=RawSQL(
                    "SELECT r.book_id FROM library_review AS r, library_tag t"
                    " JOIN library_publisher ON 1 = 1",
                    [],
                )
            ),
            {BOOK, REVIEW, TAG, PUBLISHER},
        ),
        "RawSQL with an unknown table": (
            lambda: Book.objects.filter(pk__in=RawSQL("SELECT id FROM some_legacy_table", [])),
            {BOOK, "some_legacy_table"},
        ),
        "RawSQL beside compiled sub-queries": (
            lambda: (
                Book.objects.annotate(s=Subquery(reviews().values("stars")[:1]))
                .filter(~Q(author__in=RawSQL("SELECT id FROM library_author", [])))
                .order_by("s")
            ),
            {BOOK, REVIEW, AUTHOR},
        ),
        "RawSQL in a sub-query": (
            lambda: Author.objects.filter(
                pk__in=Book.objects.annotate(n=RawSQL("(SELECT COUNT(*) FROM library_review)", []))
                .filter(n=1)
                .values("author")
            ),
            {AUTHOR, BOOK, REVIEW},
        ),
        "extra(select=…)": (
            lambda: Book.objects.extra(select={"n": "SELECT COUNT(*) FROM library_review"}),
            {BOOK, REVIEW},
        ),
        "extra(where=…)": (
            lambda: Book.objects.extra(
                where=["id IN (SELECT book_id FROM library_review WHERE stars = %s)"], params=[1]
            ),
            {BOOK, REVIEW},
        ),
        "extra(tables=…)": (
            lambda: Book.objects.extra(
                tables=["library_author"], where=["library_author.id = library_book.author_id"]
            ),
            {BOOK, AUTHOR},
        ),
        "a template with a SELECT": (
            lambda: Book.objects.annotate(n=CountReviews("pk")),
            {BOOK, REVIEW},
        ),
        "an expression with a SELECT": (
            lambda: Book.objects.filter(pages=QuotedCount()),
            {BOOK, REVIEW},
        ),
        "an odd name": (lambda: OddlyNamed.objects.all(), {"Library_Odd-Name"}),
        "an odd name in RawSQL": (
            lambda: Book.objects.filter(
                pk__in=RawSQL(
                    "SELECT id FROM {}".format(connection.ops.quote_name("Library_Odd-Name")), []
                )
            ),
            {BOOK, "Library_Odd-Name"},
        ),
    }

    def test_tables_of_queries(self) -> None:
        for name, (queryset, tables) in self.QUERIES.items():
            with self.subTest(name):
                self.assertEqual(_get_tables("default", queryset().query), tables)
                query = queryset().query
                compiler = query.get_compiler("default")  # which has not compiled it yet
                self.assertEqual(_get_tables("default", query, compiler), tables)

    def test_tables_of_queries_that_are_compiled_again(self) -> None:
        for _ in range(2):
            self.test_tables_of_queries()

    def test_each_of_their_tables_invalidates(self) -> None:
        for name, (queryset, tables) in self.QUERIES.items():
            if "unknown" in name:
                continue
            for table in sorted(tables):
                with self.subTest(name, table=table):
                    read = lambda queryset=queryset: list(queryset())  # noqa: E731
                    read()
                    _, queries = count_queries(read)
                    self.assertEqual(queries, 0)
                    invalidate(table, db_alias="default")
                    _, queries = count_queries(read)
                    self.assertEqual(queries, 1)

    def test_terminal_methods_depend_on_the_same_tables(self) -> None:
        queryset = Book.objects.filter(Exists(reviews()), author__name="x")
        for read in (
            queryset.count,
            queryset.exists,
            queryset.first,
            lambda: queryset.aggregate(Max("pages")),
            lambda: queryset.distinct()[:3].aggregate(Max("pages")),
            lambda: list(queryset.values("pages").annotate(n=Count("pk"))),
            lambda: list(queryset.dates("published", "month")),
        ):
            for model in (Book, Author, Review):
                self.assertCached(read)
                invalidate(model)
            invalidate()

    def test_the_final_check_scans_every_query(self) -> None:
        queryset = Book.objects.annotate(library_tag=Value(1))
        self.assertEqual(_get_tables("default", queryset.query), {BOOK})
        with override_settings(CACHALOT_FINAL_SQL_CHECK=True):
            self.assertEqual(_get_tables("default", queryset.query), {BOOK, TAG})

    def test_an_additional_table_is_found_in_raw_fragments(self) -> None:
        queryset = Book.objects.filter(
            pk__in=RawSQL("SELECT id FROM (VALUES (1)) AS v(id), legacy", [])
        )
        raw = Book.objects.annotate(n=RawSQL("(SELECT 1 WHERE 'legacy' = 'legacy')", []))
        self.assertNotIn("Legacy", _get_tables("default", raw.query))
        with override_settings(CACHALOT_ADDITIONAL_TABLES=["Legacy"]):
            self.assertIn("Legacy", _get_tables("default", raw.query))
            self.assertIn("Legacy", _get_tables("default", queryset.query))

    def test_what_stands_in_from_and_is_no_table_has_the_text_scanned(self) -> None:
        """As the sources do that other packages put there."""

        class Source:
            filtered_relation = join_type = parent_alias = table_name = None
            table_alias = "foreign_source"

            def as_sql(self, compiler: Any, connection: Any) -> Any:
                return "CROSS JOIN library_tag", []

        query = Book.objects.values("title").query
        query.get_initial_alias()
        query.alias_map["foreign_source"] = Source()
        query.alias_refcount["foreign_source"] = 1
        self.assertEqual(_get_tables("default", query), {BOOK, TAG})

    def test_a_name_that_is_no_word_is_found_wherever_it_stands(self) -> None:
        queryset = Book.objects.annotate(n=RawSQL("(SELECT 1 WHERE 'library_odd-NAME' = '')", []))
        self.assertEqual(_get_tables("default", queryset.query), {BOOK, "Library_Odd-Name"})

    def test_a_text_is_scanned_once(self) -> None:
        with mock.patch(
            "cachalot.core.reading.compiled.volatility_of", wraps=volatility_of
        ) as scan:
            for pages in range(3):
                list(Book.objects.annotate(scanned_once=F("pages")).filter(pages=pages))
        self.assertEqual(scan.call_count, 1)

    def test_a_query_run_while_another_is_compiled_takes_nothing_from_it(self) -> None:
        class Asking(Value):
            def as_sql(self, compiler: Any, connection: Any, **kwargs: Any) -> Any:
                Tag.objects.count()
                return super().as_sql(compiler, connection, **kwargs)

        queryset = Book.objects.annotate(n=Asking(1)).filter(author__name="x")
        self.assertEqual(_get_tables("default", queryset.query), {BOOK, AUTHOR})

    def test_a_table_of_no_installed_model_counts_like_any_other(self) -> None:
        class Legacy(models.Model):
            name = models.CharField(max_length=100)

            class Meta:
                app_label = "library"
                apps = Apps()
                db_table = "Library_Legacy"

        def read() -> list[Any]:
            return list(Legacy.objects.values_list("name", flat=True))

        with connection.schema_editor() as editor:
            editor.create_model(Legacy)
        try:
            self.assertEqual(self.assertCached(read), [])
            with override_settings(CACHALOT_INVALIDATE_RAW=False):
                Legacy.objects.create(name="orm")
            self.assertEqual(self.assertCached(read), ["orm"])
            with connection.cursor() as cursor:
                table = connection.ops.quote_name("Library_Legacy")
                cursor.execute(f"UPDATE {table} SET name = 'raw'")
            self.assertEqual(self.assertCached(read), ["raw"])
        finally:
            with connection.schema_editor() as editor:
                editor.delete_model(Legacy)

    def test_one_table_has_one_version_under_all_its_names(self) -> None:
        def read() -> list[Any]:
            return list(OddlyNamed.objects.all())

        for name in (
            "Library_Odd-Name",
            '"Library_Odd-Name"',
            "library_odd-name",
            'public."Library_Odd-Name"',
            "public.LIBRARY_ODD-NAME",
        ):
            with self.subTest(name):
                read()
                self.assertHits(read)
                invalidate(name)
                self.assertMisses(read)


class ViewTests(CacheTestCase):
    def setUp(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "CREATE VIEW library_summary AS SELECT b.id, b.title, a.name AS author_name"
                " FROM library_book b JOIN library_author a ON a.id = b.author_id"
            )
            cursor.execute("CREATE VIEW library_titles AS SELECT title FROM library_summary")
        self.author = Author.objects.create(name="A")
        Book.objects.create(title="T", author=self.author)

    def tearDown(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("DROP VIEW library_titles")
            cursor.execute("DROP VIEW library_summary")

    def test_a_model_on_a_view_depends_on_the_tables_of_the_view(self) -> None:
        def read() -> list[Any]:
            return list(BookSummary.objects.values_list("title", "author_name"))

        self.assertEqual(self.assertCached(read), [("T", "A")])
        self.assertEqual(
            _get_tables("default", BookSummary.objects.all().query),
            {"library_summary", BOOK, AUTHOR},
        )
        Author.objects.update(name="B")
        self.assertEqual(self.assertCached(read), [("T", "B")])
        with transaction.atomic():
            Book.objects.update(title="U")
            self.assertEqual(self.assertCached(read), [("U", "B")])
        Tag.objects.create(name="t")
        self.assertEqual(read(), [("U", "B")])
        self.assertHits(read)

    def test_a_write_to_a_view_reaches_its_tables(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("CREATE VIEW library_writable AS SELECT id, name FROM library_author")
            if connection.vendor == "sqlite":
                cursor.execute(
                    "CREATE TRIGGER library_written INSTEAD OF UPDATE ON library_writable BEGIN"
                    " UPDATE library_author SET name = NEW.name WHERE id = OLD.id; END"
                )

        class Writable(models.Model):
            name = models.CharField(max_length=100)

            class Meta:
                app_label = "library"
                apps = Apps()
                managed = False
                db_table = "library_writable"

        def read() -> list[Any]:
            return list(Author.objects.values_list("name", flat=True))

        def raw() -> None:
            with connection.cursor() as cursor:
                cursor.execute("UPDATE library_writable SET name = 'raw'")

        try:
            for write in (lambda: Writable.objects.update(name="orm"), raw):
                self.assertCached(read)
                write()
                self.assertMisses(read)
                invalidate(Author)
        finally:
            with connection.cursor() as cursor:
                cursor.execute("DROP VIEW library_writable")

    def test_a_view_over_something_volatile_is_not_cached(self) -> None:
        chance = "RAND()" if connection.vendor == "mysql" else "RANDOM()"
        with connection.cursor() as cursor:
            cursor.execute("DROP VIEW library_titles")
            cursor.execute("DROP VIEW library_summary")
            cursor.execute(
                f"CREATE VIEW library_summary AS SELECT 1 AS id, 'a' AS author_name,"
                f" {chance} AS title"
            )
            cursor.execute("CREATE VIEW library_titles AS SELECT title FROM library_summary")
        self.assertNeverCached(lambda: list(BookSummary.objects.values_list("title")))
        with self.assertRaisesMessage(
            UncachableQuery, "reads the view library_summary, which uses chance"
        ):
            _get_tables("default", BookSummary.objects.all().query)

    def test_a_view_of_a_view(self) -> None:
        def read() -> list[Any]:
            return list(
                Tag.objects.annotate(
                    n=RawSQL("(SELECT MAX(title) FROM library_titles)", [])
                ).values_list("n", flat=True)
            )

        Tag.objects.create(name="t")
        self.assertEqual(self.assertCached(read), ["T"])
        Book.objects.update(title="U")
        self.assertEqual(self.assertMisses(read), ["U"])

    def test_a_view_that_is_made_anew(self) -> None:
        def read() -> list[Any]:
            return list(BookSummary.objects.values_list("title", flat=True))

        self.assertEqual(self.assertCached(read), ["T"])
        Review.objects.create(book=Book.objects.get(), stars=3)
        with connection.cursor() as cursor:
            cursor.execute("DROP VIEW library_titles")
            cursor.execute("DROP VIEW library_summary")
            cursor.execute(
                "CREATE VIEW library_summary AS SELECT b.id, 'new' AS title, b.title"
                " AS author_name FROM library_book b JOIN library_review r ON r.book_id = b.id"
            )
            cursor.execute("CREATE VIEW library_titles AS SELECT 1 AS title")
        self.assertEqual(self.assertCached(read), ["new"])
        Review.objects.all().delete()
        self.assertEqual(self.assertMisses(read), [])

    def test_a_view_that_another_process_makes_anew(self) -> None:
        if self.is_alone():
            self.skipTest("LocMemCache is one process's own")

        def read() -> list[Any]:
            return list(BookSummary.objects.values_list("title", flat=True))

        read()
        self.assertEqual(self.assertHits(read), ["T"])
        in_process(
            "with connection.cursor() as cursor:\n"
            "    cursor.execute('DROP VIEW library_titles')\n"
            "    cursor.execute('DROP VIEW library_summary')\n"
            "    cursor.execute('CREATE VIEW library_summary AS SELECT id, name AS title,"
            " name AS author_name FROM library_tag')\n"
            "    cursor.execute('CREATE VIEW library_titles AS SELECT 1 AS title')"
        )
        self.assertEqual(read(), [])
        read()
        self.assertHits(read)
        Tag.objects.create(name="t")
        self.assertEqual(self.assertMisses(read), ["t"])

    def replace_summary(self, open_cursor: Any = connection.cursor) -> None:
        with open_cursor() as cursor:
            cursor.execute("DROP VIEW library_titles")
            cursor.execute("DROP VIEW library_summary")
            cursor.execute(
                "CREATE VIEW library_summary AS SELECT id, 'new' AS title, 'x' AS author_name"
                " FROM library_review"
            )
            cursor.execute("CREATE VIEW library_titles AS SELECT 1 AS title")

    def test_a_view_that_is_made_anew_and_rolled_back(self) -> None:
        if not connection.features.can_rollback_ddl:
            self.skipTest("DDL cannot be rolled back")

        def read() -> list[Any]:
            return list(BookSummary.objects.values_list("title", flat=True))

        with transaction.atomic():
            self.replace_summary()
            self.assertEqual(read(), [])
            transaction.set_rollback(True)
        self.assertEqual(self.assertCached(read), ["T"])
        Book.objects.update(title="U")
        self.assertEqual(self.assertMisses(read), ["U"])

    def test_migrations_let_the_catalogue_be_read_again(self) -> None:
        """Whatever they have run their statements with."""

        def read() -> list[Any]:
            return list(BookSummary.objects.values_list("title", flat=True))

        self.assertEqual(self.assertCached(read), ["T"])
        self.replace_summary(lambda: driver_cursor(connection))
        call_command("migrate", verbosity=0)
        self.assertEqual(self.assertCached(read), [])
        Review.objects.create(book=Book.objects.get(), stars=3)
        self.assertEqual(self.assertMisses(read), ["new"])

    def test_a_view_that_others_read_before_it_is_made_anew(self) -> None:
        if connection.vendor != "sqlite":
            self.skipTest("readers wait for the commit")

        def read() -> list[Any]:
            return list(BookSummary.objects.values_list("title", flat=True))

        with transaction.atomic():
            self.replace_summary()
            self.assertEqual(in_thread(read), ["T"])
        self.assertEqual(self.assertCached(read), [])
        Review.objects.create(book=Book.objects.get(), stars=3)
        self.assertEqual(self.assertMisses(read), ["new"])

    def test_reading_the_catalogue_counts_as_no_query(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("CREATE VIEW library_unused AS SELECT 1 AS one")
            cursor.execute("DROP VIEW library_unused")
        with self.assertNumQueries(1):
            list(BookSummary.objects.all())


class UncachableTests(CacheTestCase):
    def setUp(self) -> None:
        self.book = Book.objects.create(title="T")

    def assertRefused(self, queryset: Any, reason: str) -> None:
        with self.assertRaisesMessage(UncachableQuery, reason):
            _get_tables("default", queryset.query)

    def test_volatile_functions(self) -> None:
        for queryset in (
            Book.objects.annotate(now=Now()),
            Book.objects.filter(published__lt=Now()),
            Book.objects.filter(pk__in=Review.objects.filter(book__published=Now()).values("pk")),
            Book.objects.annotate(chance=Random()),
            Book.objects.order_by("?"),
            Book.objects.order_by("pages", "?"),
        ):
            with self.subTest(str(queryset.query)):
                self.assertNeverCached(lambda queryset=queryset: list(queryset.all()))

    @override_settings(CACHALOT_CACHE_RANDOM=True)
    def test_random_ordering_may_be_cached(self) -> None:
        list(Book.objects.order_by("?"))
        _, queries = count_queries(lambda: list(Book.objects.order_by("?")))
        self.assertEqual(queries, 0)
        self.assertNeverCached(lambda: list(Book.objects.annotate(now=Now())))

    def test_locks(self) -> None:
        queryset = Book.objects.select_for_update()
        with transaction.atomic():
            for _ in range(2):
                _, queries = count_queries(lambda: list(queryset.all()))
                self.assertEqual(queries, 1)
            self.assertRefused(queryset, "locks rows")
            self.assertRefused(
                Review.objects.filter(book__in=Book.objects.select_for_update()), "locks rows"
            )

    def test_functions_of_the_database_that_may_read_tables(self) -> None:
        if connection.vendor == "sqlite":
            self.skipTest("SQLite has none")
        definition = {
            "postgresql": "CREATE FUNCTION count_books() RETURNS bigint LANGUAGE sql STABLE AS"
            " 'SELECT COUNT(*) FROM library_book'",
            "mysql": "CREATE FUNCTION count_books() RETURNS bigint READS SQL DATA"
            " RETURN (SELECT COUNT(*) FROM library_book)",
        }[connection.vendor]
        with connection.cursor() as cursor:
            cursor.execute(definition)
        try:
            Tag.objects.create(name="t")
            queryset = Tag.objects.annotate(
                n=Func(function="count_books", arity=0, output_field=models.IntegerField())
            ).values_list("n", flat=True)
            self.assertEqual(list(queryset.all()), [1])
            Book.objects.create(title="U")
            self.assertEqual(list(queryset.all()), [2])
            self.assertRefused(queryset, "calls count_books(), a function of this database")
        finally:
            with connection.cursor() as cursor:
                cursor.execute("DROP FUNCTION count_books")

    def test_explain(self) -> None:
        self.assertTrue(Book.objects.all().explain())
        self.assertNeverCached(lambda: Book.objects.all().explain())
        # And the query itself is not taken for its plan.
        self.assertEqual(list(Book.objects.all()), [self.book])

    def test_calls_that_ask_for_a_cursor(self) -> None:
        compiler = Book.objects.all().query.get_compiler("default")
        cursor = compiler.execute_sql("cursor")
        self.assertEqual(len(cursor.fetchall()), 1)
        cursor.close()
        self.assertIs(compiler.execute_sql(None), None)
        self.assertEqual(len(list(compiler.execute_sql(MULTI))), 1)

    def test_tables_that_the_settings_exclude(self) -> None:
        def read() -> list[Any]:
            return list(Book.objects.select_related("author"))

        for settings, reason in (
            ({"CACHALOT_UNCACHABLE_TABLES": ["Library_Author"]}, "uses library_author, which"),
            ({"CACHALOT_UNCACHABLE_TABLES": ["library.Author"]}, "uses library_author, which"),
            ({"CACHALOT_ONLY_CACHABLE_TABLES": ["library.Book"]}, "uses library_author, which"),
            ({"CACHALOT_UNCACHABLE_APPS": ["library"]}, "uses library_author, library_book"),
            ({"CACHALOT_ONLY_CACHABLE_TABLES": ["library_book"]}, "uses library_author, which"),
            ({"CACHALOT_ONLY_CACHABLE_APPS": ["auth"]}, "uses library_author, library_book"),
            (
                {
                    "CACHALOT_ONLY_CACHABLE_TABLES": ["library_book", "library_author"],
                    "CACHALOT_UNCACHABLE_TABLES": ["library_book"],
                },
                "uses library_book, which",
            ),
        ):
            with self.subTest(settings), override_settings(**settings):
                self.assertNeverCached(read)
                self.assertRefused(Book.objects.select_related("author"), reason)
        with override_settings(
            CACHALOT_ONLY_CACHABLE_TABLES=["library_book"], CACHALOT_ONLY_CACHABLE_APPS=["library"]
        ):
            self.assertCached(read)
        with override_settings(CACHALOT_UNCACHABLE_TABLES=["library_author"]):
            self.assertCached(lambda: list(Book.objects.all()))

    def test_parameters_of_unknown_type(self) -> None:
        class Unknown:
            def __conform__(self, protocol: object) -> int:
                return 1

        if connection.vendor == "sqlite":
            queryset = Book.objects.extra(where=["id = %s"], params=[Unknown()])
            self.assertNeverCached(lambda: list(queryset.all()))

    def test_every_refusal_is_logged_with_its_reason(self) -> None:
        with self.assertLogs("cachalot", "DEBUG") as logs:
            list(Book.objects.order_by("?"))
        self.assertIn("CACHALOT_CACHE_RANDOM is off", logs.output[0])

    def test_prefetch_of_an_excluded_table(self) -> None:
        with override_settings(CACHALOT_UNCACHABLE_TABLES=["library_review"]):
            queryset = Book.objects.prefetch_related(Prefetch("reviews"))
            list(queryset.all())
            _, queries = count_queries(lambda: list(queryset.all()))
            self.assertEqual(queries, 1)

    def test_f_expressions_are_cached(self) -> None:
        self.assertCached(lambda: list(Book.objects.annotate(more=F("pages") + 1).values("more")))

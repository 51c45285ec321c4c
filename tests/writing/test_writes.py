"""After a write, the next read is right: here, on another connection, and in another process."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO

from django.core import serializers
from django.core.management import call_command
from django.db import connection, models, transaction
from django.db.models import F, OuterRef, Subquery, Value
from django.test import override_settings, skipUnlessDBFeature

from cachalot.signals import post_invalidation
from tests.library.models import Author, Book, Novel, Paperback, Publisher, Review, Tag
from tests.support import CacheTestCase, in_process, in_thread


class WriteTests(CacheTestCase):
    def setUp(self) -> None:
        self.author = Author.objects.create(name="Melville")
        self.book = Book.objects.create(title="Moby Dick", author=self.author, pages=635)
        self.tag = Tag.objects.create(name="whales")
        self.book.tags.add(self.tag)
        self.novel = Novel.objects.create(title="Typee", genre="sea", author=self.author)
        self.review = Review.objects.create(book=self.book, stars=5)

    def load(self) -> None:
        """Make the instances anew: a delete takes their primary keys away."""
        self.author = Author.objects.get()
        self.book = Book.objects.get(title="Moby Dick")
        self.tag = Tag.objects.get()
        self.novel = Novel.objects.get()
        self.review = Review.objects.get()

    def rows(self) -> list[object]:
        """Read every table through the ORM, each as its own query."""
        return [
            sorted(model.objects.values_list())
            for model in (Author, Publisher, Tag, Review, Book.tags.through)
        ] + [
            sorted(Book.objects.values_list("pk", "title", "pages", "author", "publisher")),
            sorted(Novel.objects.values_list("pk", "title", "genre")),
        ]

    WRITES: dict[str, Callable[[WriteTests], object]] = {
        "save": lambda self: Author(name="Conrad").save(),
        "save again": lambda self: (setattr(self.author, "name", "H. M."), self.author.save()),
        "save of one field": lambda self: self.author.save(update_fields=["name"]),
        "create": lambda self: Author.objects.create(name="Conrad"),
        "get_or_create": lambda self: Author.objects.get_or_create(name="Conrad"),
        "update_or_create": lambda self: Author.objects.update_or_create(
            name="Melville", defaults={"name": "Herman Melville"}
        ),
        "bulk_create": lambda self: Author.objects.bulk_create(
            [Author(name=f"Author {n}") for n in range(5)]
        ),
        "bulk_create in batches": lambda self: Author.objects.bulk_create(
            [Author(name=f"Author {n}") for n in range(5)], batch_size=2
        ),
        "bulk_create, conflicts ignored": lambda self: Publisher.objects.bulk_create(
            [Publisher(name="Harper")], ignore_conflicts=True
        ),
        "bulk_update": lambda self: (
            setattr(self.book, "pages", 1),
            Book.objects.bulk_update([self.book], ["pages"]),
        ),
        "update": lambda self: Book.objects.update(pages=F("pages") + 1),
        "update through a join": lambda self: Book.objects.filter(author__name="Melville").update(
            title="By Melville"
        ),
        "update by a sub-query": lambda self: Book.objects.update(
            title=Subquery(Author.objects.filter(pk=OuterRef("author")).values("name")[:1])
        ),
        "update of a child's parent": lambda self: Novel.objects.update(pages=7),
        "update of a child and its parent": lambda self: Novel.objects.update(
            pages=7, genre="land"
        ),
        "update of a proxy": lambda self: Paperback.objects.update(pages=8),
        "delete of an instance": lambda self: self.review.delete(),
        "delete with cascade": lambda self: self.author.delete(),
        "delete of a child": lambda self: self.novel.delete(),
        "delete of a queryset": lambda self: Book.objects.filter(pages=635).delete(),
        "delete through a join": lambda self: Review.objects.filter(
            book__title="Moby Dick"
        ).delete(),
        "fast delete": lambda self: Review.objects.all().delete(),
        "_raw_delete": lambda self: Review.objects.all()._raw_delete("default"),
        "many-to-many add": lambda self: self.book.tags.add(Tag.objects.create(name="sea")),
        "many-to-many remove": lambda self: self.book.tags.remove(self.tag),
        "many-to-many clear": lambda self: self.book.tags.clear(),
        "many-to-many set": lambda self: self.novel.tags.set([self.tag]),
        "many-to-many from the other side": lambda self: self.tag.books.add(self.novel),
        "reverse manager add": lambda self: Author.objects.create(name="A").books.add(self.book),
        "reverse manager clear": lambda self: self.author.books.clear(),
    }

    def test_every_write_is_seen_at_once(self) -> None:
        for name, write in self.WRITES.items():
            with self.subTest(name), transaction.atomic():
                self.load()
                before = self.rows()
                self.assertEqual(self.rows(), before)
                write(self)
                self.assertFresh(self.rows, self.rows())
                transaction.set_rollback(True)
        # Nothing of all that was committed.
        self.assertFresh(self.rows, self.rows())

    def test_every_write_is_seen_by_other_connections(self) -> None:
        for name, write in self.WRITES.items():
            with self.subTest(name):
                in_thread(self.rows)
                write(self)
                self.assertFresh(self.rows, in_thread(self.rows))
                # What they stored is right for this connection, too.
                self.assertFresh(self.rows, self.rows())
            self._fixture_teardown()
            self.setUp()

    def test_every_write_is_seen_where_raw_sql_is_not_looked_at(self) -> None:
        """The compilers' own account, without what the cursor would notice as well."""
        for name, write in self.WRITES.items():
            with self.subTest(name), transaction.atomic():
                self.load()
                self.rows()
                with override_settings(CACHALOT_INVALIDATE_RAW=False):
                    write(self)
                self.assertFresh(self.rows, self.rows())
                transaction.set_rollback(True)

    def test_another_process_sees_a_write(self) -> None:
        read = "result = list(Author.objects.values_list('name', flat=True))"
        self.assertEqual(in_process(read), ["Melville"])
        Author.objects.update(name="Conrad")
        self.assertEqual(in_process(read), ["Conrad"])

    def test_a_write_of_another_process_is_seen(self) -> None:
        if self.is_alone():
            self.skipTest("LocMemCache is one process's own")
        self.assertCached(lambda: list(Author.objects.values_list("name")))
        in_process("Author.objects.update(name='Conrad')")
        self.assertMisses(lambda: list(Author.objects.values_list("name")))

    @skipUnlessDBFeature("supports_update_conflicts")
    def test_bulk_create_that_updates_conflicts(self) -> None:
        Publisher.objects.create(name="Harper")
        self.assertCached(lambda: list(Publisher.objects.values_list()))
        with_target = connection.features.supports_update_conflicts_with_target
        Publisher.objects.bulk_create(
            [Publisher(name="Harper")],
            update_conflicts=True,
            update_fields=["name"],
            **({"unique_fields": ["name"]} if with_target else {}),
        )
        self.assertMisses(lambda: list(Publisher.objects.values_list()))

    # What the cursor would notice as well does not count here.
    @override_settings(CACHALOT_INVALIDATE_RAW=False)
    def test_an_update_that_returns_rows(self) -> None:
        if not hasattr(models.sql.compiler.SQLUpdateCompiler, "execute_returning_sql"):
            self.skipTest("new in Django 6.1")
        self.assertCached(lambda: list(Author.objects.values_list("name")))
        # save() of an expression asks for the value that the database made of it.
        self.author.name = models.functions.Concat(F("name"), Value(" II"))
        self.author.save()
        self.assertEqual(self.author.name, "Melville II")
        self.assertMisses(lambda: list(Author.objects.values_list("name")))

    def test_a_write_spares_the_other_tables(self) -> None:
        reads = {
            Tag: lambda: list(Tag.objects.all()),
            Author: lambda: list(Author.objects.all()),
        }
        for read in reads.values():
            self.assertCached(read)
        Book.objects.filter(author__name="Melville", tags__name="whales").update(pages=1)
        Review.objects.filter(book__author__name="Melville").delete()
        for model, read in reads.items():
            with self.subTest(model):
                self.assertHits(read)

    def test_a_failed_write_invalidates_nothing_of_others_and_raises_its_own_error(self) -> None:
        Publisher.objects.create(name="Harper")
        self.assertCached(lambda: list(Tag.objects.all()))
        with self.assertRaises(Exception) as caught:
            Publisher.objects.create(name="Harper")
        self.assertEqual(type(caught.exception).__name__, "IntegrityError")
        self.assertHits(lambda: list(Tag.objects.all()))
        self.assertCached(lambda: list(Publisher.objects.all()))

    def test_raw_sql_in_pre_save_is_seen(self) -> None:
        class Audited(models.CharField):
            def pre_save(self, instance, add):
                with connection.cursor() as cursor:
                    cursor.execute("UPDATE library_tag SET name = 'audited'")
                return super().pre_save(instance, add)

        self.assertCached(lambda: list(Tag.objects.values_list("name")))
        field = Author._meta.get_field("name")
        field.__class__ = Audited
        try:
            Author.objects.create(name="Conrad")
        finally:
            field.__class__ = models.CharField
        self.assertMisses(lambda: list(Tag.objects.values_list("name")))

    def test_raw_sql_in_an_execute_wrapper_is_seen(self) -> None:
        def auditing(execute, sql, params, many, context):
            if sql.startswith("INSERT"):
                with context["connection"].cursor() as cursor:
                    cursor.execute("UPDATE library_tag SET name = 'audited'")
            return execute(sql, params, many, context)

        self.assertCached(lambda: list(Tag.objects.values_list("name")))
        with connection.execute_wrapper(auditing):
            Author.objects.create(name="Conrad")
        self.assertMisses(lambda: list(Tag.objects.values_list("name")))

    def test_fixtures_and_flush(self) -> None:
        self.assertCached(lambda: list(Author.objects.values_list("name")))
        data = serializers.serialize("json", [Author(pk=self.author.pk, name="From a fixture")])
        for loaded in serializers.deserialize("json", data):
            loaded.save()
        self.assertMisses(lambda: list(Author.objects.values_list("name")))
        call_command("flush", interactive=False, verbosity=0, stdout=StringIO())
        self.assertEqual(self.assertMisses(lambda: list(Author.objects.values_list("name"))), [])
        self.assertEqual(self.assertMisses(lambda: list(Book.tags.through.objects.all())), [])

    def test_migrations_invalidate_the_tables_of_their_app(self) -> None:
        reads = (
            lambda: list(Author.objects.all()),
            lambda: list(Book.tags.through.objects.all()),  # an automatic table
        )
        for read in reads:
            self.assertCached(read)
        call_command("migrate", verbosity=0)
        for read in reads:
            self.assertMisses(read)

    @override_settings(CACHALOT_DEPENDENT_TABLES={"library.Review": ["library.Tag"]})
    def test_dependent_tables_may_be_named_as_models(self) -> None:
        self.assertCached(lambda: list(Tag.objects.all()))
        Review.objects.update(stars=1)
        self.assertMisses(lambda: list(Tag.objects.all()))

    @override_settings(CACHALOT_DEPENDENT_TABLES={"library_review": ["Library_Tag"]})
    def test_dependent_tables_change_with_theirs(self) -> None:
        self.assertCached(lambda: list(Tag.objects.all()))
        sent = []

        def receive(sender: str, db_alias: str, **kwargs: object) -> None:
            if db_alias == "default":
                sent.append(sender)

        post_invalidation.connect(receive)
        try:
            Review.objects.update(stars=1)
        finally:
            post_invalidation.disconnect(receive)
        self.assertMisses(lambda: list(Tag.objects.all()))
        self.assertEqual(sent, ["library_review", "library_tag"])

    def test_writes_invalidate_while_caching_is_off(self) -> None:
        self.assertCached(lambda: list(Author.objects.values_list("name")))
        with override_settings(CACHALOT_ENABLED=False):
            Author.objects.update(name="Conrad")
        self.assertMisses(lambda: list(Author.objects.values_list("name")))
        with override_settings(CACHALOT_DATABASES=["other"]):
            Author.objects.update(name="Poe")
        self.assertMisses(lambda: list(Author.objects.values_list("name")))

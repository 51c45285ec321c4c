"""manage.py invalidate_cachalot: what it invalidates, what it says, what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.core.cache.backends.locmem import LocMemCache
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import override_settings

from cachalot.management.commands.invalidate_cachalot import Command
from cachalot.signals import post_invalidation
from tests.library.models import Author, Book, Tag
from tests.support import CacheTestCase, count_queries

LIBRARY_TABLES = {
    model._meta.db_table
    for model in apps.get_app_config("library").get_models(include_auto_created=True)
}


class BrokenCache(LocMemCache):
    def get(self, *args: Any, **kwargs: Any) -> Any:
        raise ConnectionError("no route to host")

    get_many = set_many = add = get


def invalidate(*arguments: str, **options: Any) -> str:
    """Run the command and return what it says."""
    output = StringIO()
    call_command("invalidate_cachalot", *arguments, stdout=output, no_color=True, **options)
    return output.getvalue()


class CommandTests(CacheTestCase):
    databases = {"default", "other"}

    def setUp(self) -> None:
        book = Book.objects.create(title="Moby Dick")
        book.tags.add(Tag.objects.create(name="whales"))
        self.reads: dict[str, Callable[[], object]] = {
            "books": lambda: list(Book.objects.all()),
            "books' tags": lambda: list(Book.tags.through.objects.all()),
            "authors": lambda: list(Author.objects.all()),
            "users": lambda: list(User.objects.all()),
            "users' groups": lambda: list(User.groups.through.objects.all()),
            "groups": lambda: list(Group.objects.all()),
        }
        for read in self.reads.values():
            self.assertCached(read)

    def assertInvalidated(self, *names: str) -> None:
        """Exactly these reads ask the database again."""
        missed = [name for name, read in self.reads.items() if count_queries(read)[1]]
        self.assertEqual(missed, list(names))

    def test_without_names_everything_is_invalidated(self) -> None:
        self.assertEqual(invalidate(), "Invalidated all tables in 2 databases and 2 caches.\n")
        self.assertInvalidated(*self.reads)

    def test_tables_outside_django_are_invalidated(self) -> None:
        senders = []

        def receive(sender: str, **kwargs: object) -> None:
            senders.append(sender)

        post_invalidation.connect(receive)
        try:
            invalidate(db="default")
        finally:
            post_invalidation.disconnect(receive)
        self.assertIn("django_migrations", senders)

    def test_an_application_is_all_its_models(self) -> None:
        self.assertEqual(
            invalidate("library"),
            f"Invalidated {len(LIBRARY_TABLES)} tables of 1 application in 2 databases and "
            "2 caches.\n",
        )
        self.assertInvalidated("books", "books' tags", "authors")

    def test_a_model_is_its_table_and_its_relations(self) -> None:
        self.assertEqual(
            invalidate("library.Book"),
            "Invalidated 2 tables of 1 application in 2 databases and 2 caches.\n",
        )
        self.assertInvalidated("books", "books' tags")

    def test_a_table(self) -> None:
        said = invalidate("library_book")
        self.assertEqual(said, "Invalidated 1 table in 2 databases and 2 caches.\n")
        self.assertInvalidated("books")

    def test_what_it_has_invalidated(self) -> None:
        self.assertEqual(
            invalidate("library.Book", verbosity=2),
            "Invalidated 2 tables of 1 application (library_book, library_book_tags) in "
            "2 databases and 2 caches.\n",
        )

    def test_a_model_may_be_spelt_in_lower_case(self) -> None:
        invalidate("library.author")
        self.assertInvalidated("authors")

    def test_a_proxy_is_its_models_table(self) -> None:
        invalidate("library.Paperback")
        self.assertInvalidated("books", "books' tags")

    def test_a_relation_is_invalidated_from_its_own_side_alone(self) -> None:
        invalidate("auth.Group")
        self.assertInvalidated("groups")

    def test_applications_and_models_go_together(self) -> None:
        self.assertEqual(
            invalidate("library", "auth.User", "library.Book"),
            f"Invalidated {len(LIBRARY_TABLES) + 3} tables of 2 applications in 2 databases and "
            "2 caches.\n",
        )
        self.assertInvalidated("books", "books' tags", "authors", "users", "users' groups")

    def test_an_application_without_models_invalidates_nothing(self) -> None:
        self.assertEqual(
            invalidate("messages"),
            "Invalidated 0 tables of 1 application in 2 databases and 2 caches.\n",
        )
        self.assertInvalidated()

    def test_only_one_cache(self) -> None:
        self.assertEqual(
            invalidate(cache="second"), "Invalidated all tables in 2 databases and 1 cache.\n"
        )
        self.assertInvalidated()
        invalidate("library.Book", "-c", "default")
        self.assertInvalidated("books", "books' tags")

    def test_a_cache_out_of_use_is_invalidated(self) -> None:
        with override_settings(CACHALOT_CACHE="second"):
            self.assertCached(self.reads["books"])
        invalidate("library.Book", "--cache", "second")
        with override_settings(CACHALOT_CACHE="second"):
            self.assertMisses(self.reads["books"])
        self.assertInvalidated()

    def test_only_one_database(self) -> None:
        for option in ("-d", "-p", "--db"):
            self.assertEqual(
                invalidate(option, "other"), "Invalidated all tables in 1 database and 2 caches.\n"
            )
        self.assertInvalidated()

        def read() -> list[Book]:
            return list(Book.objects.using("other"))

        count_queries(read, using="other")
        invalidate("-d", "default", "library.Book")
        self.assertEqual(count_queries(read, using="other")[1], 0)
        self.assertInvalidated("books", "books' tags")
        invalidate("-d", "other", "library.Book")
        self.assertEqual(count_queries(read, using="other")[1], 1)
        self.assertInvalidated()

    def test_another_name_of_a_database_invalidates_it(self) -> None:
        invalidate("library.Author", db="mirror")
        self.assertInvalidated("authors")

    def test_the_signal_is_sent(self) -> None:
        received = []

        def receive(sender: str, db_alias: str, **kwargs: object) -> None:
            received.append((sender, db_alias))

        post_invalidation.connect(receive, sender=Author._meta.db_table)
        try:
            invalidate("library.Author", db="other")
            invalidate("library.Book")
        finally:
            post_invalidation.disconnect(receive, sender=Author._meta.db_table)
        self.assertEqual(received, [("library_author", "other")])

    def test_what_does_not_exist_is_named_and_nothing_is_invalidated(self) -> None:
        for arguments, message in (
            (
                ["library", "libary"],
                "'libary' is neither a model ('app.Model'), nor a table, nor an application. Did "
                "you mean 'library'?",
            ),
            (["library", "django.contrib.auth"], "'django.contrib.auth' is neither a model"),
            (["library", "Tag"], "Did you mean 'library.Tag'?"),
            (["library", "libary.Tag"], "Did you mean 'library.Tag'?"),
            (["library", "library_tags"], "Did you mean 'library_tag'?"),
            (
                ["library", "library.Bok"],
                "The app 'library' has no model 'Bok'; its models are: Author, Book, BookSummary, ",
            ),
            (["library", "library."], "The app 'library' has no model '';"),
            (
                ["library", "messages.Message"],
                "The app 'messages' has no model 'Message'; its models are: none.",
            ),
            (
                ["library", "-c", "third"],
                "The cache 'third' does not exist; configured are default, second.",
            ),
            (
                ["messages", "-d", "third"],
                "The database 'third' does not exist; configured are default, mirror, other.",
            ),
        ):
            with self.subTest(arguments):
                with self.assertRaisesMessage(CommandError, message):
                    invalidate(*arguments)
                self.assertInvalidated()

    def test_a_cache_that_does_not_answer_is_an_error(self) -> None:
        broken = {"BACKEND": "tests.test_command.BrokenCache", "LOCATION": "broken"}
        with override_settings(CACHES={**settings.CACHES, "broken": broken}):
            message = (
                "Nothing was invalidated, because the cache 'broken' does not answer "
                "(ConnectionError: no route to host). Name one that does with --cache."
            )
            with self.assertRaisesMessage(CommandError, message):
                invalidate()
            self.assertInvalidated()
            invalidate("library.Author", "-c", "default")
            self.assertInvalidated("authors")

    def test_a_cache_in_the_database_is_left_alone(self) -> None:
        in_database = {
            "BACKEND": "django.core.cache.backends.db.DatabaseCache",
            "LOCATION": "no_such_table",
        }
        with override_settings(CACHES={**settings.CACHES, "third": in_database}):
            invalidate("library.Author")
            self.assertInvalidated("authors")

    def test_it_is_silent_if_asked_to_be(self) -> None:
        self.assertEqual(invalidate("library.Author", verbosity=0), "")
        self.assertInvalidated("authors")

    def test_it_runs_from_the_command_line(self) -> None:
        output = StringIO()
        arguments = ["library", "-c", "default", "-p", "default", "--skip-checks"]
        Command(stdout=output, no_color=True).run_from_argv(
            ["manage.py", "invalidate_cachalot", *arguments]
        )
        self.assertEqual(
            output.getvalue(),
            f"Invalidated {len(LIBRARY_TABLES)} tables of 1 application in 1 database and "
            "1 cache.\n",
        )
        self.assertInvalidated("books", "books' tags", "authors")

    def test_the_help_names_every_option(self) -> None:
        text = Command().create_parser("manage.py", "invalidate_cachalot").format_help()
        for part in ("[app | app.Model | table ...]", "--cache ALIAS", "-d", "-p", "--db ALIAS"):
            self.assertIn(part, text)

"""The template tag get_last_invalidation, alone and with Django's {% cache %}."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.template import Context, Template, TemplateSyntaxError

from cachalot.api import get_last_invalidation, invalidate
from tests.library.models import Author, Book, Tag
from tests.support import CacheTestCase, count_queries


def render(source: str, **context: Any) -> str:
    return Template("{% load cachalot cache %}" + source).render(Context(context))


class TagTests(CacheTestCase):
    databases = {"default", "other"}

    def test_it_is_the_function_of_the_api(self) -> None:
        Book.objects.create(title="Moby Dick")
        for arguments, expected in (
            ("'library.Book'", get_last_invalidation(Book)),
            ("'library_book'", get_last_invalidation("library_book")),
            (
                "'auth.User' 'library.Book' 'library.Author'",
                get_last_invalidation(User, Book, Author),
            ),
            (
                "'library.Book' cache_alias='second'",
                get_last_invalidation(Book, cache_alias="second"),
            ),
            ("'library.Book' db_alias='other'", get_last_invalidation(Book, db_alias="other")),
            (
                "table cache_alias=cache db_alias=db",
                get_last_invalidation(Book, cache_alias="default", db_alias="default"),
            ),
        ):
            with self.subTest(arguments):
                context = {"table": "library_book", "cache": "default", "db": "default"}
                source = f"{{% get_last_invalidation {arguments} %}}"
                self.assertEqual(float(render(source, **context)), expected)
                source = f"{{% get_last_invalidation {arguments} as last %}}{{{{ last|safe }}}}"
                self.assertEqual(float(render(source, **context)), expected)

    def test_it_grows_with_each_invalidation_of_its_tables(self) -> None:
        source = "{% get_last_invalidation 'library.Book' 'library.Tag' %}"
        times = [float(render(source))]
        for change in (
            lambda: Book.objects.create(title="Moby Dick"),
            lambda: Tag.objects.create(name="whales"),
            lambda: invalidate("library.Book"),
        ):
            change()
            times.append(float(render(source)))
        Author.objects.create(name="Melville")
        self.assertEqual(float(render(source)), times[-1])
        self.assertEqual(times, sorted(set(times)))

    def test_caches_and_databases_are_told_apart(self) -> None:
        source = "{% get_last_invalidation 'library.Book' cache_alias=cache db_alias=db %}"
        places = [(cache, db) for cache in ("default", "second") for db in ("default", "other")]
        before = [render(source, cache=cache, db=db) for cache, db in places]
        invalidate(Book, cache_alias="second", db_alias="other")
        after = [render(source, cache=cache, db=db) for cache, db in places]
        self.assertEqual(after[:-1], before[:-1])
        self.assertGreater(float(after[-1]), float(before[-1]))

    def test_what_does_not_exist_is_named(self) -> None:
        for arguments, message in (
            ("'library.Bok'", "The app 'library' has no model 'Bok'; its models are: "),
            (
                "missing",
                "'' is no name; name a model (the class, or 'app.Model'), a table or an "
                "application. In a template, a name stands in quotes.",
            ),
        ):
            with self.subTest(arguments):
                with self.assertRaisesMessage(LookupError, message):
                    render(f"{{% get_last_invalidation {arguments} as last %}}")
        message = "'get_last_invalidation' received unexpected keyword argument 'alias'"
        with self.assertRaisesMessage(TemplateSyntaxError, message):
            render("{% get_last_invalidation alias='default' %}")


class FragmentTests(CacheTestCase):
    source = (
        "{% get_last_invalidation 'library.Book' 'library_book_tags' 'library.Tag' as last %}"
        "{% cache 3600 shelf last %}"
        "{% for book in books %}{{ book.title }}:"
        "{% for tag in book.tags.all %} {{ tag.name }}{% endfor %}; {% endfor %}"
        "{% endcache %}"
    )

    def render(self) -> str:
        return render(self.source, books=Book.objects.order_by("pk"))

    def test_a_fragment_lives_until_its_tables_change(self) -> None:
        book = Book.objects.create(title="Moby Dick & co")
        tag = Tag.objects.create(name="whales")
        for change, expected in (
            (lambda: None, "Moby Dick &amp; co:; "),
            (lambda: book.tags.add(tag), "Moby Dick &amp; co: whales; "),
            (lambda: Tag.objects.update(name="sea"), "Moby Dick &amp; co: sea; "),
            (lambda: Book.objects.update(title="Typee"), "Typee: sea; "),
            (lambda: book.delete(), ""),
        ):
            change()
            self.assertEqual(self.render(), expected)
            self.assertEqual(count_queries(self.render), (expected, 0))

    def test_a_fragment_outlives_changes_of_other_tables(self) -> None:
        Book.objects.create(title="Moby Dick")
        self.render()
        Author.objects.create(name="Melville")
        self.assertEqual(count_queries(self.render), ("Moby Dick:; ", 0))

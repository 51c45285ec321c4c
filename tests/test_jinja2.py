"""The Jinja2 extension: get_last_invalidation() and {% cache %}."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import jinja2
from django.conf import settings
from django.core.cache import caches
from django.db.models import QuerySet
from django.template import TemplateSyntaxError
from django.template.backends.jinja2 import Jinja2
from django.test import SimpleTestCase, override_settings
from django.utils.functional import SimpleLazyObject
from jinja2.sandbox import SandboxedEnvironment
from markupsafe import Markup

from cachalot.api import get_last_invalidation
from tests.library.models import Author, Book
from tests.support import CacheTestCase, count_queries

EXTENSION = "cachalot.jinja2ext.cachalot"
LOCMEM = "django.core.cache.backends.locmem.LocMemCache"


def environment(**options: Any) -> jinja2.Environment:
    return jinja2.Environment(**{"extensions": [EXTENSION], "autoescape": True, **options})


def render(source: str, **context: Any) -> str:
    return environment().from_string(source).render(**context)


class Counter:
    """Gives another number each time it is called, so that a stored fragment shows."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        return self.calls


class FunctionTests(CacheTestCase):
    def test_it_is_the_function_of_the_api(self) -> None:
        Book.objects.create(title="Moby Dick")
        for arguments, expected in (
            ("'library.Book', 'library.Author'", get_last_invalidation(Book, Author)),
            ("Book", get_last_invalidation(Book)),
            (
                "'library_book', cache_alias='second', db_alias='default'",
                get_last_invalidation(Book, cache_alias="second", db_alias="default"),
            ),
        ):
            with self.subTest(arguments):
                source = f"{{{{ get_last_invalidation({arguments}) }}}}"
                self.assertEqual(float(render(source, Book=Book)), expected)

    def test_it_is_there_in_macros_and_imported_templates(self) -> None:
        loader = jinja2.DictLoader(
            {
                "macros": "{% macro last() %}{{ get_last_invalidation('library.Book') }}"
                "{% endmacro %}",
                "page": "{% from 'macros' import last %}{{ last() }}",
            }
        )
        text = environment(loader=loader).get_template("page").render()
        self.assertEqual(float(text), get_last_invalidation(Book))

    def test_a_fragment_lives_until_its_tables_change(self) -> None:
        source = (
            "{% cache get_last_invalidation('library.Book', 'library.Author'),\n"
            "         cache_key='shelf', timeout=3600 %}\n"
            "{%- for book in books %}{{ book.title }} by {{ book.author.name }};{% endfor %}\n"
            "{%- endcache %}"
        )

        def read() -> str:
            return render(source, books=Book.objects.order_by("pk"))

        author = Author.objects.create(name="Melville")
        Book.objects.create(title="Moby Dick & co", author=author)
        for change, expected in (
            (lambda: None, "Moby Dick &amp; co by Melville;"),
            (lambda: Author.objects.update(name="H. M."), "Moby Dick &amp; co by H. M.;"),
            (lambda: Book.objects.all().delete(), ""),
        ):
            change()
            self.assertEqual(read(), expected)
            self.assertEqual(count_queries(read), (expected, 0))


class ArgumentTests(CacheTestCase):
    """Two lists of arguments never share a fragment."""

    def assertToldApart(self, *values: object) -> None:
        source = "{% cache value, cache_key='one' %}{{ text }}{% endcache %}"
        for number, value in enumerate(values):
            self.assertEqual(render(source, value=value, text=f"#{number}"), f"#{number}", value)
        for number, value in enumerate(values):
            self.assertEqual(render(source, value=value, text="new"), f"#{number}", value)

    def test_types_are_told_apart(self) -> None:
        self.assertToldApart(1, "1", True, "True", 1.0, None, "None", b"1", Markup("1"), "")

    def test_containers_are_told_apart(self) -> None:
        self.assertToldApart(
            [], (), {}, set(), [1], ["1"], [1, 2], [[1], 2], [12], {1: 2}, {1: "2"}, {1, 2}, "[1]"
        )

    def test_order_counts_where_there_is_one(self) -> None:
        self.assertToldApart([1, 2], [2, 1])
        source = "{% cache value, cache_key='two' %}{{ text }}{% endcache %}"
        self.assertEqual(render(source, value={"a": 1, "b": 2}, text="first"), "first")
        self.assertEqual(render(source, value={"b": 2, "a": 1}, text="second"), "first")

    def test_boundaries_of_arguments_count(self) -> None:
        # The second is one text that looks like two, the way they are written in a key.
        self.assertToldApart(["a", "b"], ["a::builtins.str:b"], ["a1:bbuiltins.str1:b"])
        lists = [("a:b", "c"), ("a", "b:c"), ("a:b:c",), ("ab", "c"), ("", "a:b", "c"), ()]
        for number, arguments in enumerate(lists):
            names = "".join(f"values[{index}], " for index in range(len(arguments)))
            source = f"{{% cache {names}cache_key='one' %}}{number}{{% endcache %}}"
            self.assertEqual(render(source, values=arguments), str(number))

    def test_two_objects_of_one_name_are_told_apart(self) -> None:
        first, second = (Author.objects.create(name="Smith") for _ in range(2))
        with mock.patch.object(Author, "__str__", lambda author: author.name):
            self.assertToldApart(first, second, "Smith", [first], [second])
            renamed = "{% cache value, cache_key='one' %}renamed{% endcache %}"
            self.assertEqual(render(renamed, value=first), "#0")
            first.name = "Jones"
            self.assertEqual(render(renamed, value=first), "renamed")
            # Which is how django.contrib.auth gives request.user.
            source = "{% cache user, cache_key='user' %}{{ user.pk }}{% endcache %}"
            first.name = "Smith"
            for author in (first, second):
                lazy = SimpleLazyObject(lambda author=author: author)
                self.assertEqual(render(source, user=lazy), str(author.pk))

    def test_querysets_are_told_apart_to_their_end(self) -> None:
        Author.objects.bulk_create(Author(name=f"Author {number}") for number in range(30))
        everyone = Author.objects.order_by("pk")
        querysets: list[QuerySet[Author]] = [everyone, everyone[:29], everyone[:28]]
        self.assertToldApart(*querysets)

    def test_what_has_no_text_of_its_own_is_refused(self) -> None:
        for value in (object(), lambda: None, [Counter()], Counter().__call__):
            with self.subTest(value):
                with self.assertRaisesMessage(
                    jinja2.TemplateSyntaxError,
                    "An argument of {% cache %} cannot be told apart: the text of <",
                ):
                    render("{% cache value %}{% endcache %}", value=value)


class StatementTests(SimpleTestCase):
    def test_the_content_is_rendered_once(self) -> None:
        source = "{% cache %}{{ count() }}{% endcache %}"
        count = Counter()
        self.assertEqual([render(source, count=count) for _ in range(3)], ["1", "1", "1"])

    def test_an_empty_fragment_is_a_hit(self) -> None:
        source = "{% cache %}{% if count() > 1 %}rendered again{% endif %}{% endcache %}"
        count = Counter()
        self.assertEqual([render(source, count=count) for _ in range(2)], ["", ""])
        self.assertEqual(count.calls, 1)

    def test_content_is_escaped_once(self) -> None:
        source = "{% cache %}<i>{{ text }}</i>{% endcache %}"
        for text in ("<b>", "another"):
            self.assertEqual(render(source, text=text), "<i>&lt;b&gt;</i>")
        plain = environment(autoescape=False).from_string(f"plain: {source}")
        for text in ("<b>", "another"):
            self.assertEqual(plain.render(text=text), "plain: <i><b></i>")

    def test_a_fragment_in_a_variable_stays_safe(self) -> None:
        source = "{% set x %}{% cache %}<i>{{ text }}</i>{% endcache %}{% endset %}{{ x }}"
        for text in ("<b>", "another"):
            self.assertEqual(render(source, text=text), "<i>&lt;b&gt;</i>")

    def test_an_error_inside_stores_nothing(self) -> None:
        source = "{% cache %}{{ 1 // divisor }}{% endcache %}"
        with self.assertRaises(ZeroDivisionError):
            render(source, divisor=0)
        self.assertEqual(render(source, divisor=1), "1")

    def test_statements_see_what_surrounds_them(self) -> None:
        loader = jinja2.DictLoader(
            {
                "base": "{% block content %}{% endblock %}",
                "page": "{% extends 'base' %}{% set all = 'all' %}{% block content %}"
                "{% for x in 'ab' %}{% cache x %}{{ loop.index }}{{ x }}{{ count() }}"
                "{% cache %}{{ all }}{{ count() }}{% endcache %}{% endcache %} {% endfor %}"
                "{% endblock %}",
            }
        )
        page = environment(loader=loader).get_template("page")
        count = Counter()
        # The inner fragment has no arguments, so there is one of it.
        for _ in range(2):
            self.assertEqual(page.render(count=count), "1a1all2 2b3all2 ")

    def test_a_cache_that_fails_does_not_fail_the_page(self) -> None:
        broken = ConnectionError("no route to host")
        for method in ("get", "set"):
            counter = Counter()
            source = f"{{% cache cache_key='broken {method}' %}}{{{{ count() }}}}{{% endcache %}}"
            with mock.patch.object(type(caches["default"]), method, side_effect=broken):
                with self.assertLogs("cachalot", "WARNING") as logs:
                    texts = [render(source, count=counter) for _ in range(2)]
                self.assertEqual(texts, ["1", "2"])
                self.assertIn("is rendered without its cache: ConnectionError(", logs.output[0])
                with override_settings(CACHALOT_CACHE_ERRORS="raise"):
                    with self.assertRaises(ConnectionError):
                        render(source, count=counter)
                template = environment(enable_async=True).from_string(source)
                with self.assertLogs("cachalot", "WARNING"):
                    text = asyncio.run(template.render_async(count=counter))
                self.assertEqual(int(text), counter.calls)

    def test_it_works_in_a_sandbox(self) -> None:
        sandbox = SandboxedEnvironment(extensions=[EXTENSION])
        template = sandbox.from_string("{% cache 1 %}{{ count() }}{% endcache %}")
        count = Counter()
        self.assertEqual([template.render(count=count) for _ in range(2)], ["1", "1"])

    def test_it_works_in_asynchronous_templates(self) -> None:
        source = "{% cache key, timeout=60 %}<i>{{ text }}{{ count() }}</i>{% endcache %}"
        template = environment(enable_async=True).from_string(source)
        count = Counter()

        async def number() -> int:
            return count()

        for _ in range(2):
            text = asyncio.run(template.render_async(key=1, text="<", count=number))
            self.assertEqual(text, "<i>&lt;1</i>")
        self.assertEqual(template.render(key=2, text="<", count=number), "<i>&lt;2</i>")


class NameTests(SimpleTestCase):
    def test_a_name_is_shared_by_its_statements(self) -> None:
        count = Counter()
        self.assertEqual(
            render(
                "{% cache cache_key='a' %}{{ count() }}{% endcache %}"
                "{% cache cache_key='b' %}{{ count() }}{% endcache %}"
                "{% cache cache_key='a' %}{{ count() }}{% endcache %}",
                count=count,
            ),
            "121",
        )
        other = "{% cache cache_key=name %}{{ count() }}{% endcache %}"
        self.assertEqual(render(other, name="b", count=count), "2")

    def test_names_and_arguments_are_told_apart(self) -> None:
        count = Counter()
        pairs = [("a", "b"), ("a:b", ""), ("", "a:b"), ("ab", ""), (1, "b"), ("1", "b")]
        for name, argument in pairs:
            source = "{% cache argument, cache_key=name %}{{ count() }}{% endcache %}"
            render(source, name=name, argument=argument, count=count)
        self.assertEqual(count.calls, len(pairs))

    def test_without_a_name_each_statement_has_its_own_fragments(self) -> None:
        statement = "{% cache 1 %}{{ count() }}{% endcache %}"
        count = Counter()
        for _ in range(2):
            self.assertEqual(render(f"{statement}{statement}\n{statement}", count=count), "12\n3")
        # Another template with the same statement, as it may mean something else there.
        self.assertEqual(render(f"{{% set x = 1 %}}{statement}", count=count), "4")

    def test_none_as_a_name_is_no_name(self) -> None:
        statement = "{% cache cache_key=none %}{{ count() }}{% endcache %}"
        self.assertEqual(render(statement * 2, count=Counter()), "12")

    def test_templates_are_told_apart(self) -> None:
        count = Counter()
        source = "{% cache %}{{ count() }}{% endcache %}"
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
            for directory in (one, two):
                Path(directory, "page.html").write_text(source)
            for _ in range(2):
                for directory, text in ((one, "1"), (two, "2")):
                    loader = jinja2.FileSystemLoader(directory)
                    page = environment(loader=loader).get_template("page.html")
                    self.assertEqual(page.render(count=count), text)
        loader = jinja2.DictLoader({"a": source, "b": source})
        for _ in range(2):
            for name, text in (("a", "3"), ("b", "4")):
                page = environment(loader=loader).get_template(name)
                self.assertEqual(page.render(count=count), text)

    def test_an_edited_template_starts_anew(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            for source in ("{% cache %}old{% endcache %}", "{% cache %}new{% endcache %}"):
                Path(directory, "page.html").write_text(source)
                page = environment(loader=jinja2.FileSystemLoader(directory))
                self.assertIn(page.get_template("page.html").render(), source)


class TimeoutTests(SimpleTestCase):
    def assertLives(self, keywords: str, seconds: float | None, **context: Any) -> None:
        """The fragment lives so many seconds, None for ten years at least."""
        source = f"{{% cache cache_alias='second'{keywords} %}}{{{{ count() }}}}{{% endcache %}}"
        count, now = Counter(), time.time()
        last_hit = 10 * 365 * 86400.0 if seconds is None else seconds - 1
        moments = [(0.0, "1"), (last_hit, "1")]
        if seconds is not None:
            moments.append((seconds + 1, "2"))
        for passed, expected in moments:
            with mock.patch("time.time", return_value=now + passed):
                self.assertEqual(render(source, count=count, **context), expected)

    def test_a_fragment_never_expires_by_default(self) -> None:
        self.assertLives("", None)
        self.assertLives(", timeout=none", None)

    def test_a_timeout_is_in_seconds(self) -> None:
        self.assertLives(", timeout=3600", 3600)
        self.assertLives(", timeout=hours * 3600.0", 7200, hours=2)

    def test_a_timeout_of_zero_stores_nothing(self) -> None:
        source = "{% cache timeout=0 %}{{ count() }}{% endcache %}"
        count = Counter()
        self.assertEqual([render(source, count=count) for _ in range(2)], ["1", "2"])

    def test_a_timeout_that_is_no_number_is_an_error(self) -> None:
        for value in ("3600", True, False, [60], float("nan"), float("inf")):
            with self.subTest(value):
                message = (
                    f"The timeout of {{% cache %}} is {value!r}; use a number of seconds, or None "
                    "to never expire."
                )
                with self.assertRaisesMessage(jinja2.TemplateSyntaxError, message) as caught:
                    render("\n\n{% cache timeout=value %}{% endcache %}", value=value)
                self.assertEqual(caught.exception.lineno, 3)
        with self.assertRaisesMessage(jinja2.TemplateSyntaxError, "is Undefined; use a number"):
            render("{% cache timeout=missing %}{% endcache %}")


class CacheAliasTests(SimpleTestCase):
    def rendered_again_without(self, cache_alias: str, source: str) -> bool:
        count = Counter()
        render(source, count=count)
        self.assertEqual(render(source, count=count), "1")
        caches[cache_alias].clear()
        return render(source, count=count) == "2"

    def test_the_default_cache_is_used_by_default(self) -> None:
        source = "{% cache %}{{ count() }}{% endcache %}"
        self.assertIs(self.rendered_again_without("default", source), True)

    def test_the_cache_of_djangos_fragments_is_preferred(self) -> None:
        fragments = {"BACKEND": LOCMEM, "LOCATION": "fragments"}
        with override_settings(CACHES={**settings.CACHES, "template_fragments": fragments}):
            source = "{% cache %}{{ count() }}{% endcache %}"
            self.assertIs(self.rendered_again_without("default", source), False)
            source = "{% cache 1 %}{{ count() }}{% endcache %}"
            self.assertIs(self.rendered_again_without("template_fragments", source), True)
            source = "{% cache 1, cache_alias='default' %}{{ count() }}{% endcache %}"
            self.assertIs(self.rendered_again_without("default", source), True)

    def test_another_cache_may_be_named(self) -> None:
        source = "{% cache cache_alias='second' %}{{ count() }}{% endcache %}"
        self.assertIs(self.rendered_again_without("default", source), False)
        source = "{% cache 1, cache_alias='second' %}{{ count() }}{% endcache %}"
        self.assertIs(self.rendered_again_without("second", source), True)

    def test_an_unknown_alias_is_an_error(self) -> None:
        for value in ("third", 1, [], ""):
            message = f"The cache_alias of {{% cache %}} is {value!r}; CACHES has default, second."
            with self.subTest(value):
                with self.assertRaisesMessage(jinja2.TemplateSyntaxError, message) as caught:
                    render("\n{% cache cache_alias=value %}{% endcache %}", value=value)
                self.assertEqual(caught.exception.lineno, 2)


class SyntaxTests(SimpleTestCase):
    def test_wrong_statements_are_errors_with_their_line(self) -> None:
        for source, message, lineno in (
            (
                "\n\n{% cache 1, key='x' %}{% endcache %}",
                "{% cache %} takes no keyword 'key'; allowed are cache_key, timeout, cache_alias.",
                3,
            ),
            ("{% cache\n timeout=1,\n timeout=2 %}{% endcache %}", "got 'timeout' twice.", 3),
            ("\n{% cache a b %}{% endcache %}", "expected token ',', got 'b'", 2),
            ("{% cache , %}{% endcache %}", "unexpected ','", 1),
            ("{% cache 1 %}", "Jinja was looking for the following tags: 'endcache'.", 1),
        ):
            with self.subTest(source):
                with self.assertRaisesMessage(jinja2.TemplateSyntaxError, message) as caught:
                    render(source)
                self.assertEqual(caught.exception.lineno, lineno)

    def test_arguments_may_be_any_expression(self) -> None:
        source = (
            "{% cache a == 1, [a, 2], {'timeout': a}, a if a else 0, (1, 2),\n"
            "   cache_key='x' ~ a, timeout=60 * a, %}{{ a }}{% endcache %}"
        )
        for a in (1, 2):
            self.assertEqual(render(source, a=a), str(a))


class DjangoBackendTests(SimpleTestCase):
    def backend(self, directory: str) -> Jinja2:
        return Jinja2(
            {
                "NAME": "jinja2",
                "DIRS": [directory],
                "APP_DIRS": False,
                "OPTIONS": {"extensions": [EXTENSION]},
            }
        )

    def test_it_is_an_option_of_djangos_backend(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            Path(directory, "page.html").write_text("{% cache 1 %}{{ count() }}{% endcache %}")
            count = Counter()
            for _ in range(2):
                page = self.backend(directory).get_template("page.html")
                self.assertEqual(page.render({"count": count}), "1")

    def test_errors_lead_django_to_their_line(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "page.html")
            for source in (
                "<p>\n{% cache key=1 %}{% endcache %}",
                "<p>\n{% cache timeout='' %}{% endcache %}",
            ):
                path.write_text(source)
                with self.assertRaises(TemplateSyntaxError) as caught:
                    self.backend(directory).get_template("page.html").render()
                debug = caught.exception.template_debug
                self.assertEqual((debug["name"], debug["line"]), (str(path), 2))
            with self.assertRaisesMessage(TemplateSyntaxError, "The timeout of {% cache %} is ''"):
                self.backend(directory).from_string(source).render()

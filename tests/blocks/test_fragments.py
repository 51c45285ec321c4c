"""``{% cached %}`` of Django's templates and of Jinja2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.messages import info
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.cache import InvalidCacheBackendError
from django.http import HttpRequest, HttpResponse
from django.template import Context, Engine, RequestContext, Template, TemplateSyntaxError
from django.template.context_processors import csrf
from django.test import RequestFactory, override_settings
from django.utils import translation

from cachalot.api import cached, recorded
from cachalot.core.outcomes import Outcome
from tests.blocks.test_functions import FailingCache
from tests.library.models import Author, Book, Tag
from tests.support import CacheTestCase, in_thread


def bodies() -> int:
    """Be a variable of the context that counts how often it is looked at."""
    bodies.times += 1  # type: ignore[attr-defined]
    return Book.objects.count()


class FragmentTestCase(CacheTestCase):
    """The same for both: ``render()`` takes a body and arguments in the syntax of both."""

    def setUp(self) -> None:
        Book.objects.create(title="<Typee>")
        bodies.times = 0  # type: ignore[attr-defined]

    def assertRuns(self, render: Callable[[], str], times: int) -> str:
        bodies.times = 0  # type: ignore[attr-defined]
        text = render()
        self.assertEqual(bodies.times, times)  # type: ignore[attr-defined]
        return text


TITLES = "{{ count }}{% for book in books %}<i>{{ book.title }}</i>{% endfor %}"


class DjangoTests(FragmentTestCase):
    def render(self, source: str, **context: Any) -> str:
        names = {"books": Book.objects.order_by("pk"), "count": bodies, **context}
        return Template("{% load cachalot %}" + source).render(Context(names))

    def titles(self, arguments: str = "", **context: Any) -> str:
        tag = "{% cached 'titles' " + arguments + " %}"
        return self.render(tag + TITLES + "{% endcached %}", **context)

    def test_until_a_table_is_written(self) -> None:
        expected = "1<i>&lt;Typee&gt;</i>"
        self.assertEqual(self.assertRuns(self.titles, 1), expected)
        self.assertEqual(self.assertRuns(self.titles, 0), expected)
        Author.objects.create(name="Shelley")
        self.assertRuns(self.titles, 0)
        in_thread(lambda: Book.objects.create(title="Omoo"))
        self.assertEqual(self.assertRuns(self.titles, 1), f"2{expected[1:]}<i>Omoo</i>")
        self.assertRuns(self.titles, 0)

    def test_what_it_is_put_into_escapes_it_once(self) -> None:
        source = "{% cached 'a' %}{{ count }}<b>{% endcached %}"
        for _ in range(2):
            self.assertEqual(self.render(source), "1<b>")

    def test_each_list_of_arguments_has_its_own(self) -> None:
        for times in (1, 0):
            for value in (1, "1", None, [1], Tag(pk=1, name="a"), Tag(pk=1, name="b")):
                self.assertRuns(lambda value=value: self.titles("value", value=value), times)
        for times in (1, 0):
            self.assertRuns(lambda: self.titles("1 2"), times)
            self.assertRuns(lambda: self.titles("'12'"), times)
            self.assertRuns(lambda: self.titles("value|upper", value="x"), times)

    def test_names_and_sources_are_told_apart(self) -> None:
        self.assertEqual(self.render("{% cached 'a' %}{{ count }}a{% endcached %}"), "1a")
        self.assertEqual(self.render("{% cached 'a' %}{{ count }}b{% endcached %}"), "1b")
        self.assertEqual(self.render("{% cached 'b' %}{{ count }}b{% endcached %}"), "1b")
        with translation.override("de"):
            self.assertRuns(lambda: self.render("{% cached 'b' %}{{ count }}b{% endcached %}"), 1)

    def test_escaping_is_told_apart(self) -> None:
        source = "{% cached 'a' %}{{ count }}{{ sign }}{% endcached %}"
        self.assertEqual(self.render(source, sign="<"), "1&lt;")
        plain = "{% autoescape off %}" + source + "{% endautoescape %}"
        self.assertEqual(self.render(plain, sign="<"), "1<")

    def test_templates_that_fill_a_block_in_it_are_told_apart(self) -> None:
        parent = (
            "{% load cachalot %}{% cached 'all' %}"
            "{{ count }}{% block a %}{% endblock %}{% endcached %}"
        )
        engine = Engine(
            loaders=[
                (
                    "django.template.loaders.locmem.Loader",
                    {
                        "parent": parent,
                        "one": "{% extends 'parent' %}{% block a %}one{% endblock %}",
                        "two": "{% extends 'parent' %}{% block a %}two{% endblock %}",
                    },
                )
            ],
            libraries={"cachalot": "cachalot.templatetags.cachalot"},
        )
        for _ in range(2):
            for name in ("one", "two"):
                text = engine.get_template(name).render(Context({"count": bodies}))
                self.assertEqual(text, f"1{name}")
        self.assertEqual(bodies.times, 2)  # type: ignore[attr-defined]

    def test_nesting(self) -> None:
        source = (
            "{% cached 'outer' %}{{ tags.count }}"
            + "{% cached 'inner' %}{{ count }}{% endcached %}{% endcached %}"
        )

        def render() -> str:
            return self.render(source, tags=Tag.objects.all())

        self.assertEqual(self.assertRuns(render, 1), "01")
        Tag.objects.create(name="sea")
        self.assertEqual(self.assertRuns(render, 0), "11")
        Book.objects.create(title="Omoo")
        self.assertEqual(self.assertRuns(render, 1), "12")

    def test_in_a_cached_function(self) -> None:
        @cached(key=lambda: None)
        def page() -> str:
            return self.titles()

        self.assertRuns(page, 1)
        self.assertRuns(page, 0)
        Book.objects.create(title="Omoo")
        self.assertRuns(page, 1)

    def test_a_timeout_and_another_cache(self) -> None:
        for times in (1, 0):
            self.assertRuns(
                lambda: self.titles("timeout=seconds cache_alias='second'", seconds=60), times
            )

    def test_mistakes(self) -> None:
        for arguments, message in (
            ("", "begins with a name in quotes, not with nothing"),
            ("name", "begins with a name in quotes, not with 'name'"),
            ("'a' wrong=1", "takes no keyword 'wrong'; allowed are timeout, cache_alias"),
            ("'a' timeout=1 timeout=2", "got 'timeout' twice"),
            ("'a' missing", "there is no 'missing' in the context"),
        ):
            with self.assertRaisesMessage(TemplateSyntaxError, message):
                self.render("{% cached " + arguments + " %}{% endcached %}")
        with self.assertRaisesMessage(ValueError, "timeout of {% cached 'titles' %} is 0"):
            self.titles("timeout=0")
        with self.assertRaisesMessage(InvalidCacheBackendError, "'third'; CACHES has"):
            self.titles("cache_alias='third'")
        with self.assertRaisesMessage(TypeError, "argument value of {% cached 'titles' %}"):
            self.titles("value", value=object())

    def test_nothing_of_it_reads(self) -> None:
        books = list(Book.objects.all())
        for _ in range(2):
            with recorded() as reads:
                text = self.render(
                    "{% cached 'a' %}{{ books.0.title }}{% endcached %}", books=books
                )
            self.assertIn(books[0].title.strip("<>"), text)
            self.assertIs(reads.blocks[0].outcome, Outcome.NOT_STORED)
            self.assertIn("reads no table", str(reads.blocks[0].reason))
            books[0].title = "Omoo"

    def test_a_cache_that_fails_renders(self) -> None:
        path = f"{FailingCache.__module__}.{FailingCache.__qualname__}"
        with override_settings(CACHES={"default": {"BACKEND": path}}):
            for _ in range(2):
                self.assertRuns(self.titles, 1)


class RequestTests(FragmentTestCase):
    """What belongs to one user is kept for nobody."""

    def reasons(self, source: str, use: Callable[[HttpRequest], None] | None = None) -> list[str]:
        template = Template(
            "{% load cachalot %}{% cached 'a' %}{{ count }}" + source + "{% endcached %}"
        )

        def view(request: HttpRequest) -> HttpResponse:
            if use is not None:
                use(request)
            names = {
                "count": bodies,
                "session": request.session,
                "messages": request._messages,  # type: ignore[attr-defined]
            }
            return HttpResponse(template.render(RequestContext(request, names, [csrf])))

        with recorded() as reads:
            for _ in range(2):
                SessionMiddleware(MessageMiddleware(view))(RequestFactory().get("/"))
        return [str(block.reason) for block in reads.blocks]

    def test_tokens(self) -> None:
        for reason in self.reasons("{% csrf_token %}"):
            self.assertIn("CSRF token", reason)

    def test_sessions(self) -> None:
        for reason in self.reasons("{{ session.a }}"):
            self.assertIn("session of one user", reason)

    def test_messages(self) -> None:
        source = "{% for m in messages %}{{ m }}{% endfor %}"
        self.assertEqual(self.reasons(source), ["None", "None"])
        bodies.times = 0  # type: ignore[attr-defined]
        # Those that wait must be shown, and those that were shown must not be kept.
        self.assertEqual(self.reasons(source, lambda request: info(request, "hello")), [])
        self.assertEqual(bodies.times, 2)  # type: ignore[attr-defined]

    def test_what_is_used_outside(self) -> None:
        reasons = self.reasons("", lambda request: request.session.get("a"))
        self.assertEqual(reasons, ["None", "None"])


class Jinja2Tests(FragmentTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.jinja2 = pytest.importorskip("jinja2")

    def environment(self, **options: Any) -> Any:
        return self.jinja2.Environment(
            extensions=["cachalot.jinja2ext.cachalot"], **{"autoescape": True, **options}
        )

    def render(self, source: str, **context: Any) -> str:
        names = {"books": Book.objects.order_by("pk"), "count": bodies, **context}
        text: str = self.environment().from_string(source).render(names)
        return text

    def titles(self, arguments: str = "", **context: Any) -> str:
        tag = "{% cached 'titles'" + arguments + " %}{{ count() }}"
        return self.render(tag + TITLES[11:] + "{% endcached %}", **context)

    def test_until_a_table_is_written(self) -> None:
        expected = "1<i>&lt;Typee&gt;</i>"
        self.assertEqual(self.assertRuns(self.titles, 1), expected)
        self.assertEqual(self.assertRuns(self.titles, 0), expected)
        Author.objects.create(name="Shelley")
        self.assertRuns(self.titles, 0)
        in_thread(lambda: Book.objects.create(title="Omoo"))
        self.assertEqual(self.assertRuns(self.titles, 1), f"2{expected[1:]}<i>Omoo</i>")
        self.assertRuns(self.titles, 0)

    def test_each_list_of_arguments_has_its_own(self) -> None:
        for times in (1, 0):
            for value in (1, "1", None, [1], Tag(pk=1, name="a"), Tag(pk=1, name="b")):
                self.assertRuns(lambda value=value: self.titles(", value", value=value), times)
            self.assertRuns(lambda: self.titles(", 1, 2, timeout=60, cache_alias='second'"), times)

    def test_templates_that_fill_a_block_in_it_are_told_apart(self) -> None:
        parent = "{% cached 'all' %}{{ count() }}{% block a %}{% endblock %}{% endcached %}"
        loader = self.jinja2.DictLoader(
            {
                "parent": parent,
                "one": "{% extends 'parent' %}{% block a %}one{% endblock %}",
                "two": "{% extends 'parent' %}{% block a %}two{% endblock %}",
            }
        )
        environment = self.environment(loader=loader)
        for _ in range(2):
            for name in ("one", "two"):
                text = environment.get_template(name).render(count=bodies)
                self.assertEqual(text, f"1{name}")
        self.assertEqual(bodies.times, 2)  # type: ignore[attr-defined]
        # It has no name that would tell it from others.
        unnamed = "{% extends 'parent' %}{% block a %}three{% endblock %}"
        for _ in range(2):
            self.assertRuns(lambda: environment.from_string(unnamed).render(count=bodies), 1)

    def test_async(self) -> None:
        template = self.environment(enable_async=True).from_string(
            "{% cached 'a' %}{{ count() }}{% endcached %}"
        )

        async def count() -> int:
            bodies.times += 1  # type: ignore[attr-defined]
            return await Book.objects.acount()

        async def render() -> str:
            text: str = await template.render_async(count=count)
            return text

        self.assertRuns(lambda: async_to_sync(render)(), 1)
        self.assertEqual(self.assertRuns(lambda: async_to_sync(render)(), 0), "1")

    def test_mistakes(self) -> None:
        for arguments, message in (
            ("", "begins with a name in quotes"),
            ("name", "begins with a name in quotes"),
            ("'a', wrong=1", "takes no keyword 'wrong'; allowed are timeout, cache_alias"),
            ("'a', timeout=1, timeout=2", "got 'timeout' twice"),
        ):
            with self.assertRaisesRegex(self.jinja2.TemplateSyntaxError, message):
                self.render("{% cached " + arguments + " %}{% endcached %}")
        with self.assertRaisesMessage(ValueError, "timeout of {% cached 'titles' %} is 0"):
            self.titles(", timeout=0")
        with self.assertRaisesMessage(TypeError, "argument number 1 of {% cached 'titles' %}"):
            self.titles(", value", value=object())

    def test_a_cache_that_fails_renders(self) -> None:
        path = f"{FailingCache.__module__}.{FailingCache.__qualname__}"
        with override_settings(CACHES={"default": {"BACKEND": path}}):
            for _ in range(2):
                self.assertRuns(self.titles, 1)

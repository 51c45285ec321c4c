"""``cachalot_disabled`` and ``cachalot_enabled`` as decorators of whatever answers a request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async
from django.db import connection
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import (
    AsyncRequestFactory,
    RequestFactory,
    SimpleTestCase,
    override_settings,
)
from django.test.utils import CaptureQueriesContext
from django.utils.decorators import method_decorator
from django.views import View

from cachalot.api import cachalot_disabled, cachalot_enabled
from tests.library.models import Book
from tests.support import CacheTestCase, count_queries


def titles() -> str:
    return ",".join(book.title for book in Book.objects.order_by("pk"))


def answer(request: HttpRequest) -> HttpResponse:
    return HttpResponse(titles())


async def async_answer(request: HttpRequest) -> HttpResponse:
    return HttpResponse(",".join([book.title async for book in Book.objects.order_by("pk")]))


class Page(View):
    def get(self, request: HttpRequest) -> HttpResponse:
        return answer(request)


class AsyncPage(View):
    async def get(self, request: HttpRequest) -> HttpResponse:
        return await async_answer(request)


class ArgumentTests(SimpleTestCase):
    def test_what_is_neither_a_function_nor_a_boolean(self) -> None:
        with self.assertRaisesMessage(TypeError, "all_queries must be True or False, not 3."):
            cachalot_disabled(3)  # type: ignore[call-overload]
        with self.assertRaisesMessage(TypeError, "takes a function or nothing, not 3"):
            cachalot_enabled(3)  # type: ignore[call-overload]
        for switch in (cachalot_disabled(), cachalot_enabled()):
            with self.assertRaisesMessage(TypeError, "a function or a view class, not 'books'; "):
                switch("books")  # type: ignore[type-var]


class ViewTestCase(CacheTestCase):
    def setUp(self) -> None:
        Book.objects.create(title="Moby Dick")
        titles()

    def ask(self, view: Callable[..., Any]) -> int:
        """Return the number of queries of one request."""
        response, queries = count_queries(lambda: view(RequestFactory().get("/")))
        self.assertEqual(response.content, b"Moby Dick")
        return queries

    def ask_async(self, view: Callable[..., Any]) -> int:
        # The queries are counted where they run: in the thread of the synchronous code.
        context = CaptureQueriesContext(connection)

        async def ask() -> Any:
            await sync_to_async(context.__enter__)()
            try:
                return await view(AsyncRequestFactory().get("/"))
            finally:
                await sync_to_async(context.__exit__)(None, None, None)

        response = async_to_sync(ask)()
        self.assertEqual(response.content, b"Moby Dick")
        return len(context)

    def assertOff(self, queries: int) -> None:
        self.assertEqual(queries, 1, "queries of a view without caching")
        self.assertHits(titles)

    def assertOn(self, queries: int) -> None:
        self.assertEqual(queries, 0, "queries of a view with caching")


class FunctionTests(ViewTestCase):
    def test_with_and_without_parentheses(self) -> None:
        self.assertOn(self.ask(answer))
        for decorate in (cachalot_disabled, cachalot_disabled(), cachalot_disabled(True)):
            view = decorate(answer)
            self.assertEqual(view.__name__, "answer")
            for _ in range(2):
                self.assertOff(self.ask(view))
        with override_settings(CACHALOT_ENABLED=False):
            for decorate in (cachalot_enabled, cachalot_enabled()):
                self.assertOn(self.ask(decorate(answer)))
            self.assertEqual(self.ask(answer), 1)

    def test_the_innermost_decides(self) -> None:
        self.assertOn(self.ask(cachalot_disabled(cachalot_enabled(answer))))
        self.assertOff(self.ask(cachalot_enabled(cachalot_disabled(answer))))

    def test_it_ends_when_the_view_raises(self) -> None:
        @cachalot_disabled
        def fail(request: HttpRequest) -> HttpResponse:
            raise ZeroDivisionError

        with self.assertRaises(ZeroDivisionError):
            fail(HttpRequest())
        self.assertHits(titles)

    def test_arguments_pass(self) -> None:
        @cachalot_disabled
        def add(one: int, *, other: int) -> int:
            return one + other

        self.assertEqual(add(1, other=2), 3)

    def test_streamed_content_runs_after_the_view(self) -> None:
        @cachalot_disabled
        def stream(request: HttpRequest) -> StreamingHttpResponse:
            return StreamingHttpResponse([titles()])

        @cachalot_disabled
        def stream_later(request: HttpRequest) -> StreamingHttpResponse:
            return StreamingHttpResponse(read() for read in [titles])

        def content(view: Callable[..., Any]) -> bytes:
            return b"".join(view(HttpRequest()).streaming_content)

        self.assertEqual(count_queries(lambda: content(stream))[1], 1)
        self.assertEqual(count_queries(lambda: content(stream_later))[1], 0)


class AsyncTests(ViewTestCase):
    def test_a_coroutine_function(self) -> None:
        self.assertOn(self.ask_async(async_answer))
        self.assertOff(self.ask_async(cachalot_disabled(async_answer)))
        self.assertOff(self.ask_async(cachalot_disabled()(async_answer)))
        with override_settings(CACHALOT_ENABLED=False):
            self.assertOn(self.ask_async(cachalot_enabled(async_answer)))

    def test_a_view_class(self) -> None:
        class Plain(AsyncPage):
            pass

        @cachalot_disabled
        class Decorated(AsyncPage):
            pass

        @method_decorator(cachalot_disabled(), name="dispatch")
        class ByMethod(AsyncPage):
            pass

        self.assertOn(self.ask_async(Plain.as_view()))
        self.assertOff(self.ask_async(Decorated.as_view()))
        self.assertOff(self.ask_async(ByMethod.as_view()))
        self.assertOff(self.ask_async(cachalot_disabled(Plain.as_view())))


class ClassTests(ViewTestCase):
    def test_it_is_decorated_in_place(self) -> None:
        for decorate in (
            cachalot_disabled,
            cachalot_disabled(),
            method_decorator(cachalot_disabled(), name="dispatch"),
            method_decorator(cachalot_disabled, name="dispatch"),
        ):

            class Decorated(Page):
                pass

            self.assertIs(decorate(Decorated), Decorated)
            self.assertOff(self.ask(Decorated.as_view()))
        self.assertOn(self.ask(Page.as_view()))

    def test_only_chosen_views(self) -> None:
        @cachalot_enabled
        class Chosen(Page):
            pass

        with override_settings(CACHALOT_ENABLED=False):
            self.assertOn(self.ask(Chosen.as_view()))
            self.assertEqual(self.ask(Page.as_view()), 1)

    def test_a_subclass_inherits_it_or_has_its_own_way(self) -> None:
        @cachalot_disabled
        class Parent(Page):
            pass

        class Heir(Parent):
            pass

        @cachalot_enabled
        class Rebel(Parent):
            pass

        self.assertOff(self.ask(Heir.as_view()))
        self.assertOn(self.ask(Rebel.as_view()))
        self.assertOff(self.ask(Parent.as_view()))

    def test_a_class_that_is_no_view(self) -> None:
        class Plain:
            pass

        message = "Plain has no dispatch() and is no view class; decorate its functions instead."
        with self.assertRaisesMessage(TypeError, message):
            cachalot_disabled(Plain)

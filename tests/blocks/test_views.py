"""``cached_view()``: a page is found again until a table that it showed is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import async_to_sync
from django.contrib import messages
from django.contrib.auth import get_user, login
from django.contrib.auth.models import User
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.cache import InvalidCacheBackendError
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponsePermanentRedirect,
    StreamingHttpResponse,
)
from django.middleware.csrf import CsrfViewMiddleware, get_token
from django.template import engines
from django.template.response import TemplateResponse
from django.test import AsyncRequestFactory, RequestFactory, override_settings
from django.utils import translation
from django.views import View
from django.views.decorators.cache import cache_control, never_cache
from django.views.decorators.vary import vary_on_headers

from cachalot import pages
from cachalot.api import cachalot_disabled, cached_view, recorded
from cachalot.core.blocks.dependencies import known_dependencies
from tests.library.models import Author, Book
from tests.support import CacheTestCase, in_thread

runs: list[str] = []

#: Where nothing is found.
urlpatterns: list[Any] = []


def books_page(request: HttpRequest, *args: Any) -> HttpResponse:
    runs.append(request.get_full_path())
    return HttpResponse(" ".join(sorted(Book.objects.values_list("title", flat=True))))


class ViewTestCase(CacheTestCase):
    def setUp(self) -> None:
        runs.clear()
        self.requests = RequestFactory()
        Book.objects.create(title="Typee")

    def get(self, view: Any, path: str = "/", **headers: Any) -> HttpResponse:
        response: HttpResponse = view(self.requests.get(path, **headers))
        return response

    def assertRuns(self, call: Callable[[], HttpResponse], times: int) -> HttpResponse:
        runs.clear()
        response = call()
        self.assertEqual(len(runs), times, runs)
        return response

    def assertNotStored(self, view: Any, reason: str, **headers: Any) -> None:
        with recorded() as reads:
            for _ in range(2):
                self.assertRuns(lambda: self.get(view, **headers), 1)
        self.assertEqual(len(reads.blocks), 2)
        for block in reads.blocks:
            self.assertIn(reason, str(block.reason))


class PageTests(ViewTestCase):
    def test_until_a_table_is_written(self) -> None:
        view = cached_view(books_page)
        first = self.assertRuns(lambda: self.get(view), 1)
        again = self.assertRuns(lambda: self.get(view), 0)
        self.assertEqual(again.content, b"Typee")
        self.assertEqual(dict(again.items()), dict(first.items()))
        Author.objects.create(name="Shelley")
        self.assertRuns(lambda: self.get(view), 0)
        in_thread(lambda: Book.objects.create(title="Omoo"))
        self.assertEqual(self.assertRuns(lambda: self.get(view), 1).content, b"Omoo Typee")
        self.assertRuns(lambda: self.get(view), 0)

    def test_addresses_are_told_apart(self) -> None:
        view = cached_view(books_page)
        for path in ("/", "/?page=1", "/?page=2", "/a/"):
            self.assertRuns(lambda path=path: self.get(view, path), 1)
        for path in ("/", "/?page=1", "/?page=2", "/a/"):
            self.assertRuns(lambda path=path: self.get(view, path), 0)
        self.assertRuns(lambda: self.get(view, HTTP_HOST="testserver:81"), 1)

    def test_views_are_told_apart(self) -> None:
        @cached_view
        def other(request: HttpRequest) -> HttpResponse:
            return HttpResponse(str(Book.objects.count()))

        self.get(cached_view(books_page))
        self.assertEqual(self.get(other).content, b"1")

    def test_languages_are_told_apart(self) -> None:
        @cached_view
        def view(request: HttpRequest) -> HttpResponse:
            return HttpResponse(f"{translation.get_language()} {Book.objects.count()}")

        with override_settings(USE_I18N=True):
            for language in ("en", "de", "en", "de"):
                with translation.override(language):
                    self.assertEqual(self.get(view).content.decode(), f"{language} 1")

    def test_what_a_response_varies_on(self) -> None:
        @cached_view
        @vary_on_headers("X-Kind")
        def view(request: HttpRequest) -> HttpResponse:
            runs.append("view")
            return HttpResponse(f"{request.headers.get('X-Kind')} {Book.objects.count()}")

        for times in (1, 0):
            for kind in ("a", "b"):
                response = self.assertRuns(
                    lambda kind=kind: self.get(view, HTTP_X_KIND=kind), times
                )
                self.assertEqual(response.content.decode(), f"{kind} 1")
        # Another process learns it from the cache.
        pages._headers.clear()
        known_dependencies.clear()
        self.assertEqual(
            self.assertRuns(lambda: self.get(view, HTTP_X_KIND="b"), 0).content, b"b 1"
        )

    def test_methods(self) -> None:
        view = cached_view(books_page)
        for method in ("post", "put", "delete", "options"):
            for _ in range(2):
                request = getattr(self.requests, method)("/")
                self.assertRuns(lambda request=request: view(request), 1)
        for _ in range(2):
            self.assertRuns(lambda: view(self.requests.head("/")), 1)
        self.assertRuns(lambda: self.get(view), 1)
        self.assertRuns(lambda: view(self.requests.head("/")), 0)

    def test_a_template_response_is_rendered_in_it(self) -> None:
        template = engines["django"].from_string(
            "{% for book in books %}{{ book.title }}{% endfor %}"
        )

        @cached_view
        def view(request: HttpRequest) -> HttpResponse:
            runs.append("view")
            return TemplateResponse(request, template, {"books": Book.objects.all()})

        self.assertRuns(lambda: self.get(view), 1)
        Book.objects.update(title="Omoo")
        self.assertEqual(self.assertRuns(lambda: self.get(view), 1).content, b"Omoo")
        self.assertEqual(self.assertRuns(lambda: self.get(view), 0).content, b"Omoo")

    def test_headers_and_content_types(self) -> None:
        @cached_view
        def view(request: HttpRequest) -> HttpResponse:
            count = Book.objects.count()
            response = HttpResponse(b"\xff" * count, content_type="image/png", reason="Fine")
            response["X-Count"] = str(count)
            return response

        first, again = self.get(view), self.get(view)
        self.assertEqual(first.content, again.content)
        self.assertEqual(dict(first.items()), dict(again.items()))
        self.assertEqual(again["Content-Type"], "image/png")
        self.assertEqual(again.reason_phrase, "Fine")

    def test_switched_off(self) -> None:
        view = cached_view(books_page)
        self.get(view)
        with cachalot_disabled():
            self.assertRuns(lambda: self.get(view), 1)


class EtagTests(ViewTestCase):
    def test_a_client_that_has_it(self) -> None:
        view = cached_view(books_page)
        etag = self.get(view)["ETag"]
        for _ in range(2):
            response = self.assertRuns(lambda: self.get(view, HTTP_IF_NONE_MATCH=etag), 0)
            self.assertEqual((response.status_code, response.content), (304, b""))
            self.assertEqual(response["ETag"], etag)
        self.assertEqual(self.get(view, HTTP_IF_NONE_MATCH='"other"').status_code, 200)
        Book.objects.create(title="Omoo")
        response = self.assertRuns(lambda: self.get(view, HTTP_IF_NONE_MATCH=etag), 1)
        self.assertEqual((response.status_code, response.content), (200, b"Omoo Typee"))
        self.assertNotEqual(response["ETag"], etag)

    def test_of_rows(self) -> None:
        book, other = (Book.objects.create(title=title) for title in ("Omoo", "Mardi"))

        @cached_view
        def view(request: HttpRequest) -> HttpResponse:
            runs.append("view")
            return HttpResponse(Book.objects.get(pk=request.GET["pk"]).title)

        path = f"/?pk={book.pk}"
        etag = self.get(view, path)["ETag"]
        for write, times, status in ((other.save, 0, 304), (book.save, 1, 200)):
            write()
            response = self.assertRuns(lambda: self.get(view, path, HTTP_IF_NONE_MATCH=etag), times)
            self.assertEqual(response.status_code, status)

    def test_one_of_the_view_itself(self) -> None:
        @cached_view
        def view(request: HttpRequest) -> HttpResponse:
            return HttpResponse(str(Book.objects.count()), headers={"ETag": '"own"'})

        self.get(view)
        self.assertEqual(self.get(view)["ETag"], '"own"')
        self.assertEqual(self.get(view, HTTP_IF_NONE_MATCH='"own"').status_code, 304)

    def test_what_is_not_stored_has_none(self) -> None:
        self.assertNotIn("ETag", self.get(cached_view(lambda request: HttpResponse("nothing"))))


class StatusTests(ViewTestCase):
    def view(self, status: int) -> Any:
        def view(request: HttpRequest) -> HttpResponse:
            runs.append("view")
            Book.objects.count()
            if status == 301:
                return HttpResponsePermanentRedirect("/elsewhere/")
            if status == 404:
                raise Http404("nothing here")
            return HttpResponse("text", status=status)

        return view

    def test_others_than_200_are_not_stored(self) -> None:
        for status in (201, 301, 302, 403, 500):
            self.assertNotStored(cached_view(self.view(status)), f"status {status}")
        for _ in range(2):
            with self.assertRaises(Http404):
                self.get(cached_view(self.view(404)))

    @override_settings(ROOT_URLCONF="tests.blocks.test_views")
    def test_those_asked_for_are(self) -> None:
        view = cached_view(statuses=(200, 301, 404))(self.view(301))
        self.assertRuns(lambda: self.get(view), 1)
        response = self.assertRuns(lambda: self.get(view), 0)
        self.assertEqual((response.status_code, response["Location"]), (301, "/elsewhere/"))
        self.assertEqual(response.url, "/elsewhere/")  # type: ignore[attr-defined]
        view = cached_view(statuses=[404])(self.view(404))
        self.assertRuns(lambda: self.get(view, "/no/"), 1)
        response = self.assertRuns(lambda: self.get(view, "/no/"), 0)
        self.assertEqual(response.status_code, 404)
        self.assertNotIn("ETag", response)


class NotStoredTests(ViewTestCase):
    def test_responses(self) -> None:
        def made(change: Callable[[HttpResponse], object]) -> Any:
            def view(request: HttpRequest) -> HttpResponse:
                response = books_page(request)
                change(response)
                return response

            return cached_view(view)

        for change, reason in (
            (lambda response: response.set_cookie("a", "b"), "sets a cookie"),
            (lambda response: response.headers.__setitem__("Vary", "*"), "varies on everything"),
        ):
            self.assertNotStored(made(change), reason)
        self.assertNotStored(cached_view(never_cache(books_page)), "response is no-store")
        self.assertNotStored(
            cached_view(cache_control(private=True)(books_page)), "response is private"
        )
        self.assertNotStored(
            cached_view(lambda request: StreamingHttpResponse([books_page(request).content])),
            "streamed",
        )

    def test_authorization(self) -> None:
        view = cached_view(books_page)
        self.assertNotStored(view, "Authorization", HTTP_AUTHORIZATION="Basic eA==")
        view = cached_view(vary_on_headers("Authorization")(books_page))
        self.assertRuns(lambda: self.get(view, HTTP_AUTHORIZATION="Basic eA=="), 1)
        self.assertRuns(lambda: self.get(view, HTTP_AUTHORIZATION="Basic eA=="), 0)
        self.assertRuns(lambda: self.get(view, HTTP_AUTHORIZATION="Basic eQ=="), 1)

    def test_an_authorized_request_is_not_given_what_others_were(self) -> None:
        view = cached_view(books_page)
        self.get(view)
        self.assertRuns(lambda: self.get(view, HTTP_AUTHORIZATION="Basic eA=="), 1)

    def test_no_response(self) -> None:
        @cached_view
        def view(request: HttpRequest) -> Any:
            Book.objects.count()

        self.assertIsNone(self.get(view))

    def test_csrf_tokens(self) -> None:
        @cached_view
        def view(request: HttpRequest) -> HttpResponse:
            return HttpResponse(get_token(request) + str(books_page(request).content))

        self.assertNotStored(CsrfViewMiddleware(view), "CSRF token")
        # A middleware that has made one is no matter of the view's.
        plain = cached_view(books_page)

        def with_token(request: HttpRequest) -> HttpResponse:
            get_token(request)
            response: HttpResponse = plain(request)
            self.assertIs(request.META["CSRF_COOKIE_NEEDS_UPDATE"], True)
            return response

        self.assertRuns(lambda: self.get(with_token), 1)
        self.assertRuns(lambda: self.get(with_token), 0)

    def test_messages(self) -> None:
        @cached_view
        def view(request: HttpRequest) -> HttpResponse:
            messages.info(request, "hello")
            return books_page(request)

        self.assertNotStored(SessionMiddleware(MessageMiddleware(view)), "messages")

    def test_messages_that_wait(self) -> None:
        view = cached_view(books_page)
        self.get(view)

        def with_message(request: HttpRequest) -> HttpResponse:
            messages.info(request, "hello")
            response: HttpResponse = view(request)
            return response

        stack = SessionMiddleware(MessageMiddleware(with_message))
        for _ in range(2):
            self.assertRuns(lambda: self.get(stack), 1)


class SessionTests(ViewTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.users = [User.objects.create_user(name) for name in ("ada", "bob")]

    def get_as(self, view: Any, user: User | None) -> HttpResponse:
        def with_user(request: HttpRequest) -> HttpResponse:
            request.user = get_user(request)
            request.session.accessed = True  # type: ignore[attr-defined]
            response: HttpResponse = view(request)
            return response

        request = self.requests.get("/")
        if user is not None:
            SessionMiddleware(lambda request: HttpResponse()).process_request(request)
            login(request, user, "django.contrib.auth.backends.ModelBackend")
            request.session.save()
            request.COOKIES["sessionid"] = request.session.session_key or ""
            request.META["HTTP_COOKIE"] = f"sessionid={request.session.session_key}"
        return SessionMiddleware(with_user)(request)  # type: ignore[return-value]

    def test_one_user_is_not_given_the_page_of_another(self) -> None:
        @cached_view
        def view(request: HttpRequest) -> HttpResponse:
            return HttpResponse(f"{request.user} {Book.objects.count()}")

        for _ in range(2):
            for user in (*self.users, None):
                expected = "AnonymousUser" if user is None else user.username
                response = self.get_as(view, user)
                self.assertEqual(response.content.decode(), f"{expected} 1")
                self.assertIn("Cookie", response["Vary"])

    def test_a_session_that_is_changed(self) -> None:
        @cached_view
        def view(request: HttpRequest) -> HttpResponse:
            request.session["a"] = 1
            return books_page(request)

        self.assertNotStored(SessionMiddleware(view), "changes the session")


@cached_view
class Titles(View):
    def get(self, request: HttpRequest) -> HttpResponse:
        return books_page(request)


class Subtitles(Titles):
    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("sub " + books_page(request).content.decode())


@cached_view(timeout=60)
class AsyncTitles(View):
    async def get(self, request: HttpRequest) -> HttpResponse:
        runs.append("async")
        return HttpResponse(str(await Book.objects.acount()))


class ClassTests(ViewTestCase):
    def test_view_classes(self) -> None:
        view = Titles.as_view()
        self.assertRuns(lambda: self.get(view), 1)
        self.assertRuns(lambda: self.get(view), 0)
        self.assertEqual(self.get(Subtitles.as_view()).content, b"sub Typee")

    def test_async_views(self) -> None:
        @cached_view
        async def count(request: HttpRequest) -> HttpResponse:
            runs.append("async")
            return HttpResponse(str(await Book.objects.acount()))

        async def get(view: Any, method: str = "get") -> HttpResponse:
            response: HttpResponse = await view(getattr(AsyncRequestFactory(), method)("/"))
            return response

        for view in (count, AsyncTitles.as_view()):
            runs.clear()
            for _ in range(2):
                self.assertEqual(async_to_sync(get)(view).content, b"1")
            self.assertEqual(len(runs), 1)
            async_to_sync(get)(view, "post")


class KeyTests(ViewTestCase):
    def test_what_else_tells_pages_apart(self) -> None:
        day = "Monday"

        @cached_view(key=lambda request, number: (day, number))
        def view(request: HttpRequest, number: int) -> HttpResponse:
            runs.append("view")
            return HttpResponse(f"{day} {number} {Book.objects.count()}")

        for day in ("Monday", "Tuesday"):
            for times in (1, 0):
                response = self.assertRuns(lambda: view(self.requests.get("/"), 1), times)
                self.assertEqual(response.content.decode(), f"{day} 1 1")

        @cached_view(key=lambda request: request)
        def wrong(request: HttpRequest) -> HttpResponse:
            return HttpResponse()

        with self.assertRaisesRegex(TypeError, r"key= of .*wrong\(\) returned <WSGIRequest"):
            self.get(wrong)
        with self.assertRaisesRegex(TypeError, "key= of cached_view.* not 'day'"):
            cached_view(key="day")  # type: ignore[call-overload]


class OptionTests(ViewTestCase):
    def test_mistakes(self) -> None:
        for timeout in (0, "60"):
            with self.assertRaisesRegex(ValueError, "timeout of cached_view"):
                cached_view(timeout=timeout)  # type: ignore[call-overload]
        for statuses in ((500,), "200", (200, 302)):
            with self.assertRaisesRegex(ValueError, "allowed are 200, 301, 404"):
                cached_view(statuses=statuses)  # type: ignore[call-overload]
        with self.assertRaisesRegex(InvalidCacheBackendError, "cache_alias of cached_view"):
            cached_view(cache_alias="third")
        for wrong in (1, Book):
            with self.assertRaisesRegex(TypeError, "view"):
                cached_view(wrong)  # type: ignore[type-var]

    def test_another_cache(self) -> None:
        view = cached_view(cache_alias="second", timeout=60)(books_page)
        self.assertRuns(lambda: self.get(view), 1)
        self.assertRuns(lambda: self.get(view), 0)

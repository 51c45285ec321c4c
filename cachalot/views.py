"""Views whose responses are cached until what they read is written."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import lru_cache, wraps
from inspect import unwrap
from typing import Any, TypeVar, overload

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.conf import settings
from django.core.handlers.exception import response_for_exception
from django.http import Http404, HttpRequest, HttpResponse

from cachalot.blocks import require_cache, require_key, require_timeout
from cachalot.core.blocks.functions import digest_of_code
from cachalot.core.blocks.keys import digest_of
from cachalot.pages import Arguments, Options, Page
from cachalot.personal import has_messages, tracing

V = TypeVar("V", bound=Callable[..., Any])

STATUSES = (200, 301, 404)


@overload
def cached_view(view: V) -> V: ...
@overload
def cached_view(
    *,
    timeout: float | None = None,
    key: Callable[..., object] | None = None,
    cache_alias: str | None = None,
    statuses: Collection[int] = (200,),
) -> Callable[[V], V]: ...
def cached_view(
    view: Any = None,
    *,
    timeout: float | None = None,
    key: Callable[..., object] | None = None,
    cache_alias: str | None = None,
    statuses: Collection[int] = (200,),
) -> Any:
    """Cache the responses of a view to GET and HEAD until one of the tables it has read is written.

    Use it as a decorator of a function, a coroutine function or a view class, with parentheses or
    without. A page is found by its whole address, the headers that the response varies on,
    language and time zone, as Django's own page cache finds it; a view that uses the session varies
    on the cookie. It comes with an ``ETag`` of the tables' versions, and a client that has it
    already gets the status 304.

    ``timeout`` is in seconds; None keeps a page until one of its tables is written. ``key`` is
    called with the arguments of the view, the request first, and returns what tells pages of one
    address apart beside all that, such as the date. ``cache_alias`` is where pages are kept, by
    default ``CACHALOT_CACHE``. ``statuses`` are those that are cached, of 200, 301 and 404.

    Not stored, beside what ``cached()`` does not store, is a response that is streamed, sets a
    cookie, is ``private`` or ``no-store``, holds a CSRF token or messages, changes the session, or
    answers a request with an ``Authorization`` header that it does not vary on. Raise ``TypeError``
    for what is no view and for a wrong ``key``, ``ValueError`` for another timeout or status, and
    ``InvalidCacheBackendError`` for an unknown ``cache_alias``.
    """
    require_timeout("cached_view()", timeout)
    require_cache("cached_view()", cache_alias)
    require_key("cached_view()", key)
    if isinstance(statuses, (str, bytes)) or not {*statuses} <= {*STATUSES}:
        raise ValueError(
            f"The statuses of cached_view() are {statuses!r}; allowed are "
            f"{', '.join(map(str, STATUSES))}."
        )
    options = Options(timeout, key, cache_alias, statuses)

    def decorate(target: Any) -> Any:
        if isinstance(target, type):
            dispatch = getattr(target, "dispatch", None)
            if dispatch is None:
                raise TypeError(f"{target.__qualname__} has no dispatch() and is no view class.")
            # A subclass has its own way, whatever its parent is decorated with.
            function = getattr(dispatch, "_cachalot_dispatch", dispatch)
            target.dispatch = _cached_dispatch(function, options)  # type: ignore[attr-defined]
            target.dispatch._cachalot_dispatch = function  # type: ignore[attr-defined]
            return target
        if not callable(target):
            raise TypeError(f"cached_view() takes a view, not {target!r}.")
        return _cached_function(target, options)

    return decorate if view is None else decorate(view)


def _cached_function(view: Any, options: Options) -> Any:
    named = view if hasattr(view, "__qualname__") else type(view)
    name = f"{named.__module__}.{named.__qualname__}"
    place = _place_of(name, view)
    if iscoroutinefunction(view):

        @wraps(view)
        async def acached(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            return await _arun(
                request,
                name,
                place,
                options,
                lambda: view(request, *args, **kwargs),
                (args, kwargs),
            )

        return acached

    @wraps(view)
    def cached(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return _run(
            request, name, place, options, lambda: view(request, *args, **kwargs), (args, kwargs)
        )

    return cached


def _cached_dispatch(dispatch: Any, options: Options) -> Any:
    @wraps(dispatch)
    def cached(self: Any, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        class_ = type(self)
        name = f"{class_.__module__}.{class_.__qualname__}"
        place = _place_of(name, dispatch)
        run = _arun if getattr(class_, "view_is_async", False) else _run
        return run(
            *(request, name, place, options),
            lambda: dispatch(self, request, *args, **kwargs),
            (args, kwargs),
        )

    return cached


@lru_cache(maxsize=1024)
def _place_of(name: str, function: Any) -> bytes:
    return digest_of(b"view", name.encode(), digest_of_code(unwrap(function))).encode()


def _run(
    request: HttpRequest,
    name: str,
    place: bytes,
    options: Options,
    view: Callable[[], Any],
    arguments: Arguments,
) -> Any:
    page = _page_of(request, name, place, options, arguments)
    if page is not None and (found := page.find()) is not None:
        return found
    if page is None or not page.is_to_be_kept():
        return view()
    with page.block, tracing(request) as traces:
        try:
            response = view()
        except Http404 as error:
            response = _not_found(request, options, error)
        packed = page.pack(response)
    return page.keep(response, packed, traces)


async def _arun(
    request: HttpRequest,
    name: str,
    place: bytes,
    options: Options,
    view: Callable[[], Any],
    arguments: Arguments,
) -> Any:
    page = await sync_to_async(_page_of)(request, name, place, options, arguments)
    if page is not None and (found := await page.afind()) is not None:
        return found
    if page is None or not page.is_to_be_kept():
        return await view()
    with page.block, tracing(request) as traces:
        try:
            response = await view()
        except Http404 as error:
            response = await sync_to_async(_not_found)(request, options, error)
        packed = await sync_to_async(page.pack)(response)
    return await sync_to_async(page.keep)(response, packed, traces)


def _page_of(
    request: HttpRequest, name: str, place: bytes, options: Options, arguments: Arguments
) -> Page | None:
    """Return the page that a request asks for; None where nothing may be found or stored."""
    if request.method not in ("GET", "HEAD") or has_messages(request):
        return None
    return Page(request, name, place, options, arguments)


def _not_found(request: HttpRequest, options: Options, error: Http404) -> HttpResponse:
    """Return the page for what is not found, if it is to be cached; raise the error if not."""
    if 404 not in options.statuses or settings.DEBUG:
        raise error
    return response_for_exception(request, error)

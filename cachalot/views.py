"""Views whose responses are cached until what they read is written."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from functools import lru_cache, wraps
from inspect import unwrap
from typing import Any, TypeVar, cast, overload

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.conf import settings
from django.core.handlers.exception import response_for_exception
from django.http import Http404, HttpRequest, HttpResponse, HttpResponsePermanentRedirect
from django.http.response import HttpResponseBase
from django.utils.cache import (
    get_cache_key,
    get_conditional_response,
    has_vary_header,
    learn_cache_key,
    patch_vary_headers,
)

from cachalot.blocks import (
    encoded_key,
    require_cache,
    require_key,
    require_timeout,
)
from cachalot.core.blocks import entries
from cachalot.core.blocks.block import Block, digest_of
from cachalot.core.blocks.functions import digest_of_code
from cachalot.core.cache.entries import unpack
from cachalot.core.outcomes import CacheUnavailable
from cachalot.personal import MESSAGES, TOKEN, Traces, has_messages, tracing
from cachalot.settings import forget_on_change

V = TypeVar("V", bound=Callable[..., Any])
_Arguments = tuple[tuple[Any, ...], dict[str, Any]]

STATUSES = (200, 301, 404)

_FORBIDDING = re.compile(r"\b(?:private|no-store)\b", re.IGNORECASE)
_AUTHORIZATION = "the request has an Authorization header"
_MAX_KNOWN = 10_000
# The headers that responses of an address vary on, by cache and Django's key.
_headers: dict[tuple[str | None, str], list[str]] = {}


class _Headers:
    """What Django's functions take for a cache, to keep the headers that responses vary on."""

    def __init__(self, cache_alias: str | None) -> None:
        self._cache_alias = cache_alias
        #: The headers that were asked for last.
        self.found: list[str] = []
        #: What is to be stored along with the page.
        self.learnt: dict[str, tuple[Any, ...]] = {}

    def get(self, key: str) -> list[str] | None:
        known = _headers.get((self._cache_alias, key))
        if known is None:
            try:
                _, stored = entries.read((), digest_of(b"vary", key.encode()), self._cache_alias)
            except CacheUnavailable:
                return None
            if stored is not None:
                known = list(unpack(stored.payload))
                self._remember(key, known)
        self.found = known or []
        return known

    def set(self, key: str, headers: list[str], timeout: float | None) -> None:
        self.learnt = {digest_of(b"vary", key.encode()): tuple(headers)}
        self._remember(key, headers)

    def _remember(self, key: str, headers: list[str]) -> None:
        if len(_headers) >= _MAX_KNOWN:
            _headers.clear()
        _headers[self._cache_alias, key] = headers


class _Page:
    """One request to a cached view."""

    def __init__(
        self,
        request: HttpRequest,
        name: str,
        place: bytes,
        options: _Options,
        arguments: _Arguments,
    ) -> None:
        self._request = request
        self._place = place + options.more_of(name, request, arguments)
        self._options = options
        self._known = _Headers(options.cache_alias)
        key = get_cache_key(request, cache=cast(Any, self._known))
        if "Authorization" in request.headers and "HTTP_AUTHORIZATION" not in self._known.found:
            key = None
        self.block = Block(
            name,
            None if key is None else self._key(key),
            timeout=options.timeout,
            cache_alias=options.cache_alias,
        )

    def _key(self, page: str) -> bytes:
        return digest_of(b"page", self._place, page.encode()).encode()

    def find(self) -> HttpResponse | None:
        """Return the response if it is stored and in force."""
        cells = self.block.find()
        return None if cells is None else self._conditional(_response_of(cells))

    def pack(self, response: Any) -> tuple[Any, ...] | None:
        """Render a response, in the block, and return it to be kept."""
        if hasattr(response, "render") and callable(response.render):
            response = response.render()
        self.block.reason = self.block.reason or self._why_not(response)
        return self.block.pack(_cells_of(response)) if self.block.reason is None else None

    def keep(self, response: HttpResponse, packed: Any, traces: Traces) -> HttpResponse:
        """Store what ``pack()`` returned, and return the response to be sent."""
        reason = TOKEN if traces.uses_token else None
        session = getattr(self._request, "session", None)
        if getattr(session, "modified", False):
            reason = "it changes the session"
        elif has_messages(self._request):
            reason = MESSAGES
        self.block.reason = self.block.reason or reason
        if self.block.reason is not None:
            self.block.keep(None)
            return response
        if getattr(session, "accessed", False):
            # Whoever has used it before, the view may show the user that was found by it.
            # SessionMiddleware says the same, but later.
            patch_vary_headers(response, ("Cookie",))
            packed = _cells_of(response)
        key = learn_cache_key(self._request, response, 0, cache=cast(Any, self._known))
        self.block.place(self._key(key))
        self.block.keep(packed, self._known.learnt)
        return self._conditional(response)

    def _why_not(self, response: Any) -> str | None:
        if not isinstance(response, HttpResponseBase):
            return "it returns no response"
        if response.streaming:
            return "its response is streamed"
        if response.status_code not in self._options.statuses:
            return f"its response has the status {response.status_code}"
        if response.cookies:
            return "its response sets a cookie"
        if match := _FORBIDDING.search(response.get("Cache-Control", "")):
            return f"its response is {match[0].lower()}"
        if has_vary_header(response, "*"):
            return "its response varies on everything"
        if "Authorization" in self._request.headers and not has_vary_header(
            response, "Authorization"
        ):
            return _AUTHORIZATION
        return None

    def _conditional(self, response: HttpResponse) -> HttpResponse:
        """Return the response, or that the client has it already."""
        if self.block.etag is None or response.status_code != 200:
            return response
        if not response.has_header("ETag"):
            response["ETag"] = f'W/"{self.block.etag}"'
        etag = response["ETag"]
        return cast(HttpResponse, get_conditional_response(self._request, etag, None, response))


class _Options:
    """How a view is cached."""

    def __init__(
        self,
        timeout: float | None,
        key: Callable[..., object] | None,
        cache_alias: str | None,
        statuses: Collection[int],
    ) -> None:
        self.timeout = timeout
        self._make_key = key
        self.cache_alias = cache_alias
        self.statuses = frozenset(statuses)

    def more_of(self, name: str, request: HttpRequest, arguments: _Arguments) -> bytes:
        """Return what tells pages of one address apart, as the project has it."""
        if self._make_key is None:
            return b""
        args, kwargs = arguments
        return encoded_key(name, self._make_key(request, *args, **kwargs))


def _cells_of(response: HttpResponse) -> tuple[Any, ...]:
    reason = getattr(response, "_reason_phrase", None)
    headers = [part for pair in response.items() for part in pair]
    return response.status_code, reason, response.content, *map(str, headers)


def _response_of(cells: tuple[Any, ...]) -> HttpResponse:
    status, reason, content, *parts = cells
    headers = dict(zip(parts[::2], parts[1::2], strict=True))
    if status == 301:
        response: HttpResponse = HttpResponsePermanentRedirect(headers["Location"])
        response.content = content
        for name, value in headers.items():
            response[name] = value
        return response
    return HttpResponse(content, status=status, reason=reason, headers=headers)


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
    options = _Options(timeout, key, cache_alias, statuses)

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


def _cached_function(view: Any, options: _Options) -> Any:
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


def _cached_dispatch(dispatch: Any, options: _Options) -> Any:
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
    options: _Options,
    view: Callable[[], Any],
    arguments: _Arguments,
) -> Any:
    page, found = _begin(request, name, place, options, arguments)
    if found is not None:
        return found
    if page is None:
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
    options: _Options,
    view: Callable[[], Any],
    arguments: _Arguments,
) -> Any:
    page, found = await sync_to_async(_begin)(request, name, place, options, arguments)
    if found is not None:
        return found
    if page is None:
        return await view()
    with page.block, tracing(request) as traces:
        try:
            response = await view()
        except Http404 as error:
            response = await sync_to_async(_not_found)(request, options, error)
        packed = await sync_to_async(page.pack)(response)
    return await sync_to_async(page.keep)(response, packed, traces)


def _begin(
    request: HttpRequest, name: str, place: bytes, options: _Options, arguments: _Arguments
) -> tuple[_Page | None, HttpResponse | None]:
    """Return a page that the view is to be run for, and its response if that is found.

    Both are None where nothing of the view is to be stored.
    """
    if request.method not in ("GET", "HEAD") or has_messages(request):
        return None, None
    page = _Page(request, name, place, options, arguments)
    found = page.find()
    # What a view returns for HEAD need not be the page.
    return (page if request.method == "GET" else None), found


def _not_found(request: HttpRequest, options: _Options, error: Http404) -> HttpResponse:
    """Return the page for what is not found, if it is to be cached; raise the error if not."""
    if 404 not in options.statuses or settings.DEBUG:
        raise error
    return response_for_exception(request, error)


forget_on_change(_headers.clear)

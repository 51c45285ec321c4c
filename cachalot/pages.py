"""One request to a cached view: its page's key, and the page as it is kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any, cast

from django.http import HttpRequest, HttpResponse, HttpResponsePermanentRedirect
from django.http.response import HttpResponseBase
from django.utils.cache import (
    get_cache_key,
    get_conditional_response,
    has_vary_header,
    learn_cache_key,
    patch_vary_headers,
)

from cachalot.blocks import encoded_key
from cachalot.core.blocks import entries
from cachalot.core.blocks.block import Block
from cachalot.core.blocks.keys import digest_of
from cachalot.core.cache.entries import Stored, unpack
from cachalot.core.outcomes import CacheUnavailable
from cachalot.personal import MESSAGES, TOKEN, Traces, has_messages
from cachalot.settings import forget_on_change

Arguments = tuple[tuple[Any, ...], dict[str, Any]]

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
            if isinstance(stored, Stored):
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


class Page:
    """One request to a cached view: look with ``find()``, run it in ``block``, ``pack()`` there."""

    def __init__(
        self,
        request: HttpRequest,
        name: str,
        place: bytes,
        options: Options,
        arguments: Arguments,
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
        return self._found(self.block.find(waits=self.is_to_be_kept()))

    async def afind(self) -> HttpResponse | None:
        """Do what ``find()`` does, and let other tasks go on while it waits."""
        return self._found(await self.block.afind(waits=self.is_to_be_kept()))

    def is_to_be_kept(self) -> bool:
        """Whether what the view returns may be the page: for HEAD it need not."""
        return self._request.method == "GET"

    def _found(self, cells: tuple[Any, ...] | None) -> HttpResponse | None:
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


class Options:
    """How a view is cached, as ``cached_view()`` was told."""

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

    def more_of(self, name: str, request: HttpRequest, arguments: Arguments) -> bytes:
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


forget_on_change(_headers.clear)

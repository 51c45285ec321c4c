"""Parts of templates that are cached until what they read is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from asgiref.sync import sync_to_async
from django.utils.safestring import mark_safe

from cachalot.blocks import require_cache, require_timeout
from cachalot.core.blocks.block import Block
from cachalot.core.blocks.keys import digest_of, place_of_reader
from cachalot.core.blocks.values import encoded
from cachalot.personal import MESSAGES, has_messages, tracing

#: Keyword arguments of the tag, in both kinds of templates.
KEYWORDS = ("timeout", "cache_alias")


class Fragment:
    """One use of ``{% cached %}``.

    ``source`` tells what the template has there, ``vary`` are the arguments, each with what it is
    called in the template. Raise what ``cached()`` raises for wrong ones.
    """

    def __init__(
        self,
        name: str,
        source: bytes,
        vary: Iterable[tuple[str, object]],
        *,
        request: Any,
        timeout: Any = None,
        cache_alias: Any = None,
    ) -> None:
        who = f"{{% cached {name!r} %}}"
        require_timeout(who, timeout)
        require_cache(who, cache_alias)
        self._request = request
        parts = []
        for called, value in vary:
            try:
                parts.append(encoded(value))
            except TypeError as error:
                raise TypeError(
                    f"The argument {called} of {who} cannot be part of a key: {error}. Pass an "
                    "attribute of it that tells it apart."
                ) from error
        key = digest_of(b"fragment", name.encode(), source, place_of_reader(), *parts)
        self._block = Block(name, key.encode(), timeout=timeout, cache_alias=cache_alias)

    def render(self, body: Callable[[], str]) -> str:
        """Return what is stored, else what ``body`` returns."""
        if has_messages(self._request):
            return body()
        if (found := self._block.find()) is not None:
            return _text_of(found)
        with self._block, tracing(self._request) as traces:
            text = body()
        return self._keep(text, traces.reason())

    async def arender(self, body: Callable[[], Any]) -> str:
        """Do what ``render()`` does with a coroutine function."""
        if await sync_to_async(has_messages)(self._request):
            return str(await body())
        if (found := await self._block.afind()) is not None:
            return _text_of(found)
        with self._block, tracing(self._request) as traces:
            text = await body()
        return await sync_to_async(self._keep)(text, traces.reason())

    def _keep(self, text: str, reason: str | None) -> str:
        if has_messages(self._request):
            reason = MESSAGES
        self._block.reason = self._block.reason or reason
        # A plain one, which nobody can change.
        plain = (str.__str__(text),)
        self._block.keep(plain if self._block.reason is None else None)
        return text


def _text_of(found: tuple[Any, ...]) -> str:
    text: str = mark_safe(found[0])
    return text

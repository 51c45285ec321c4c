"""The Jinja2 extension: ``get_last_invalidation()``, ``{% cache %}`` and ``{% cached %}``."""

from __future__ import annotations

import logging
import math
import re
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any, NamedTuple

from django.conf import settings
from django.core.cache import DEFAULT_CACHE_ALIAS, caches
from django.core.cache.backends.base import BaseCache
from django.db.models import Model, QuerySet
from jinja2 import Environment, TemplateSyntaxError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context

from cachalot.api import get_last_invalidation
from cachalot.core.interruptions import is_interruption
from cachalot.fragments import KEYWORDS, Fragment
from cachalot.settings import cachalot_settings

logger = logging.getLogger("cachalot")

_KEYWORDS = ("cache_key", "timeout", "cache_alias")
_ADDRESS = re.compile(r" at 0x[0-9a-f]+", re.IGNORECASE)
# The cache that Django's own {% cache %} prefers.
_FRAGMENTS_ALIAS = "template_fragments"


class cachalot(Extension):
    """Give templates the function ``get_last_invalidation()`` and two statements.

    ``{% cached "name", ARG, ..., timeout=…, cache_alias=… %}…{% endcached %}`` keeps what it
    encloses until one of the tables is written that rendering it has read. Each list of arguments
    has a fragment of its own, told apart as the arguments of ``cached()`` are; ``timeout`` and
    ``cache_alias`` mean what they mean there.

    ``{% cache ARG, ..., cache_key=…, timeout=…, cache_alias=… %}…{% endcache %}`` stores what it
    encloses, once for each list of arguments. Everything is optional:

    * ``cache_key`` names the fragment. Statements of one name share their fragments. By default
      each statement has its own: template, line, and source of the template, so that an edited
      template starts anew.
    * ``timeout`` is in seconds; None, the default, never expires.
    * ``cache_alias`` is an alias in ``CACHES``, by default ``template_fragments`` if there is one,
      else ``default``.

    Its arguments are told apart by type and text; a model instance also by its primary key.
    """

    tags = {"cache", "cached"}

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        environment.globals["get_last_invalidation"] = get_last_invalidation
        # Jinja2 hands the source to preprocess() alone, just before it parses it.
        self._parsing = threading.local()

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """Keep the source of the template about to be parsed in this thread."""
        self._parsing.source = source
        return source

    def parse(self, parser: Parser) -> nodes.Node:
        """Turn a statement into a call that gets the enclosed part as ``caller``."""
        tag = next(parser.stream)
        lineno = tag.lineno
        allowed = KEYWORDS if tag.value == "cached" else _KEYWORDS
        arguments, keywords = _parse_arguments(parser, tag.value, allowed)
        # The identifier tells apart statements in one line.
        source = f"{parser.free_identifier().name} {getattr(self._parsing, 'source', '')}"
        digest = _digest(source.encode("utf-8", "surrogatepass"))
        place = nodes.Const((parser.name, parser.filename, lineno, digest))
        body = parser.parse_statements((f"name:end{tag.value}",), drop_needle=True)
        if tag.value == "cached":
            name = arguments[0] if arguments else None
            if not isinstance(name, nodes.Const) or not isinstance(name.value, str):
                parser.fail("{% cached %} begins with a name in quotes.", lineno)
            # Templates that extend this one may put something else into a block.
            is_open = any(True for part in body for _ in _blocks_in(part))
            called = [nodes.Const(f"number {number}") for number in range(1, len(arguments))]
            vary = [
                nodes.Tuple([*pair], "load") for pair in zip(called, arguments[1:], strict=True)
            ]
            call = self.call_method(
                "_render_cached",
                [nodes.ContextReference(), place, name, nodes.Const(is_open), nodes.List(vary)],
                keywords,
                lineno=lineno,
            )
        else:
            call = self.call_method(
                "_render", [place, nodes.List(arguments)], keywords, lineno=lineno
            )
        # Its output is not escaped: what it encloses has been, by the rules in force there.
        return nodes.CallBlock(call, [], [], body).set_lineno(lineno)

    def _render_cached(
        self,
        context: Context,
        place: tuple[str | None, str | None, int, str],
        name: str,
        is_open: bool,
        vary: list[tuple[str, object]],
        caller: Callable[[], Any],
        timeout: object = None,
        cache_alias: object = None,
    ) -> str | Awaitable[str]:
        root = None
        if is_open:
            if context.name is None:
                # Nothing tells what it is that fills the block.
                return caller()  # type: ignore[no-any-return]
            root = context.name
        fragment = Fragment(
            name,
            repr((place[3], context.eval_ctx.autoescape, root)).encode(),
            vary,
            request=context.get("request"),
            timeout=timeout,
            cache_alias=cache_alias,
        )
        if self.environment.is_async:
            return fragment.arender(caller)
        return fragment.render(caller)

    def _render(
        self,
        place: tuple[str | None, str | None, int, str],
        arguments: list[object],
        caller: Callable[[], Any],
        cache_key: object = None,
        timeout: object = None,
        cache_alias: object = None,
    ) -> str | Awaitable[str]:
        statement = _Place(*place)
        cache = _cache_named(cache_alias, statement)
        key = _fragment_key(statement if cache_key is None else cache_key, arguments, statement)
        seconds = _checked_timeout(timeout, statement)
        if self.environment.is_async:
            return _rendered_async(cache, key, seconds, caller)
        with _tolerating(key):
            fragment = cache.get(key)
            if isinstance(fragment, str):
                return fragment
        fragment = str(caller())
        with _tolerating(key):
            cache.set(key, fragment, seconds)
        return fragment


def _parse_arguments(
    parser: Parser, tag: str, allowed: tuple[str, ...]
) -> tuple[list[nodes.Expr], list[nodes.Keyword]]:
    arguments: list[nodes.Expr] = []
    keywords: dict[str, nodes.Keyword] = {}
    while not parser.stream.current.test("block_end"):
        if arguments or keywords:
            parser.stream.expect("comma")
            if parser.stream.current.test("block_end"):
                break
        token = parser.stream.current
        if token.test("name") and parser.stream.look().test("assign"):
            if token.value not in allowed:
                parser.fail(
                    f"{{% {tag} %}} takes no keyword {token.value!r}; allowed are "
                    f"{', '.join(allowed)}.",
                    token.lineno,
                )
            if token.value in keywords:
                parser.fail(f"{{% {tag} %}} got {token.value!r} twice.", token.lineno)
            parser.stream.skip(2)
            value = parser.parse_expression()
            keywords[token.value] = nodes.Keyword(token.value, value, lineno=token.lineno)
        else:
            arguments.append(parser.parse_expression())
    return arguments, list(keywords.values())


def _blocks_in(node: nodes.Node) -> Iterator[nodes.Node]:
    if isinstance(node, nodes.Block):
        yield node
    yield from node.find_all(nodes.Block)


async def _rendered_async(
    cache: BaseCache, key: str, timeout: float | None, caller: Callable[[], Awaitable[str]]
) -> str:
    with _tolerating(key):
        fragment = await cache.aget(key)
        if isinstance(fragment, str):
            return fragment
    fragment = str(await caller())
    with _tolerating(key):
        await cache.aset(key, fragment, timeout)
    return fragment


@contextmanager
def _tolerating(key: str) -> Iterator[None]:
    """Go on behind the body where the cache fails in it, unless it is to be raised."""
    try:
        yield
    except Exception as error:
        if is_interruption(error) or cachalot_settings.CACHALOT_CACHE_ERRORS == "raise":
            raise
        logger.warning("The fragment %s is rendered without its cache: %r", key, error)


class _Place(NamedTuple):
    """Where a statement stands."""

    name: str | None
    filename: str | None
    lineno: int
    digest: str

    def error(self, message: str) -> TemplateSyntaxError:
        # Django's backend makes a path of the file name, so there must be one.
        return TemplateSyntaxError(message, self.lineno, self.name, self.filename or "<template>")


def _cache_named(alias: object, place: _Place) -> BaseCache:
    if alias is None:
        alias = _FRAGMENTS_ALIAS if _FRAGMENTS_ALIAS in settings.CACHES else DEFAULT_CACHE_ALIAS
    if not isinstance(alias, str) or alias not in settings.CACHES:
        raise place.error(
            f"The cache_alias of {{% cache %}} is {alias!r}; CACHES has "
            f"{', '.join(settings.CACHES)}."
        )
    return caches[alias]


def _checked_timeout(timeout: Any, place: _Place) -> float | None:
    is_number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
    if timeout is None or (is_number and math.isfinite(timeout)):
        return timeout  # type: ignore[no-any-return]
    raise place.error(
        f"The timeout of {{% cache %}} is {timeout!r}; use a number of seconds, or None to never "
        "expire."
    )


def _fragment_key(name: object, arguments: list[object], place: _Place) -> str:
    try:
        return "cachalot:" + _digest(_encoded([name, arguments]))
    except TypeError as error:
        raise place.error(f"An argument of {{% cache %}} cannot be told apart: {error}") from error


def _digest(content: bytes) -> str:
    return blake2b(content, digest_size=16, person=b"fragment").hexdigest()


def _encoded(value: object) -> bytes:
    """Return bytes that tell ``value`` apart from all others, as far as type and text do.

    Raise ``TypeError`` for an object whose text is its address: another may have it later.
    """
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if isinstance(value, Model):
        # By their text alone, two authors of one name would be the same.
        kind = value._meta.label
        parts = [_encoded(value._state.db), _encoded(value.pk), _encoded(str(value))]
    elif isinstance(value, dict):
        parts = sorted(map(_encoded, value.items()))
    elif isinstance(value, (set, frozenset)):
        parts = sorted(map(_encoded, value))
    elif isinstance(value, (list, tuple, QuerySet)):
        # The text of a queryset ends after twenty objects.
        parts = list(map(_encoded, value))
    else:
        text = str(value)
        if not isinstance(value, str) and _ADDRESS.search(text):
            raise TypeError(f"the text of {text} is an address; call it or pass an attribute.")
        parts = [text.encode("utf-8", "surrogatepass")]
    return b"".join(b"%d:%s" % (len(part), part) for part in (kind.encode(), *parts))

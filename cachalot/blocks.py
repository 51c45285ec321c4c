"""Functions, methods and coroutines whose results are cached until what they read is written."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar, overload

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings
from django.core.cache import InvalidCacheBackendError

from cachalot.core import collecting
from cachalot.core.blocks.block import Block
from cachalot.core.blocks.functions import digest_of_code, variables_of
from cachalot.core.blocks.keys import digest_of, own_key, place_of_reader
from cachalot.core.blocks.values import encoded
from cachalot.core.cache.door import guard_of

P = ParamSpec("P")
R = TypeVar("R")

_Key = Callable[..., object]


class CachedFunction(Generic[P, R]):
    """A function whose results are cached; what ``cached()`` returns."""

    def __init__(
        self,
        function: Callable[P, R],
        *,
        timeout: float | None,
        key: _Key | None,
        cache_alias: str | None,
        binds_class: bool = False,
    ) -> None:
        update_wrapper(self, function)
        self._function = function
        self._timeout = timeout
        self._make_key = key
        self._cache_alias = cache_alias
        self._binds_class = binds_class
        self._signature = inspect.signature(function)
        self._name = f"{function.__module__}.{function.__qualname__}"
        self._innermost = inspect.unwrap(function)
        # A function that is edited has results of its own.
        self._place = digest_of(
            b"function", self._name.encode(), digest_of_code(self._innermost)
        ).encode()
        self._is_async = iscoroutinefunction(function)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if self._is_async:
            return self._acall(args, kwargs)  # type: ignore[return-value]
        block = self._block(args, kwargs)
        found = block.find()
        if found is not None:
            return found[0]  # type: ignore[no-any-return]
        with block:
            result = self._function(*args, **kwargs)
            packed = block.pack((result,))
        block.keep(packed)
        return result

    async def _acall(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        block = await sync_to_async(self._block)(args, kwargs)
        found = await block.afind()
        if found is not None:
            return found[0]
        with block:
            result = await self._function(*args, **kwargs)  # type: ignore[misc]
            packed = await sync_to_async(block.pack)((result,))
        await sync_to_async(block.keep)(packed)
        return result

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if self._binds_class:
            return _Bound(self, owner if owner is not None else type(instance))
        return self if instance is None else _Bound(self, instance)

    def fresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself. Nothing is found, and nothing stored."""
        return self._function(*args, **kwargs)

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Drop the result for these arguments, and of all blocks that were made of it."""
        collecting.spoil("it invalidates what is cached")
        guard_of().renew({own_key(self._key(args, kwargs)): None})

    async def ainvalidate(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Do what ``invalidate()`` does, in a coroutine."""
        await sync_to_async(self.invalidate)(*args, **kwargs)

    def _block(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Block:
        return Block(
            self._name,
            self._key(args, kwargs),
            timeout=self._timeout,
            cache_alias=self._cache_alias,
            is_own=True,
        )

    def _key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        if self._make_key is not None:
            parts = encoded_key(self._name, self._make_key(*args, **kwargs))
        else:
            parts = self._encoded_arguments(args, kwargs)
        return b"%s %s %s" % (self._place, place_of_reader(), parts)

    def _encoded_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        parts = []
        for name, value in bound.arguments.items():
            try:
                parts.append(encoded(value))
            except TypeError as error:
                raise TypeError(
                    f"The argument {name!r} of {self._name}() cannot be part of a key: {error}. "
                    f"Give cached() a function as key= that makes a key of the arguments."
                ) from error
        return encoded([parts, self._encoded_variables()])

    def _encoded_variables(self) -> list[bytes]:
        """Return what a function that is made in another one has of it."""
        try:
            return variables_of(self._innermost)
        except TypeError as error:
            raise TypeError(
                f"{self._name}() uses a variable of the function that it is made in, which cannot "
                f"be part of a key: {error}. Make it an argument, or give cached() a function as "
                "key= that makes a key of the arguments."
            ) from error


class _Bound(Generic[P, R]):
    """A cached function with its first argument."""

    def __init__(self, cached: CachedFunction[Any, R], first: object) -> None:
        update_wrapper(self, cached)
        self.__self__ = first
        self.__func__ = cached
        if iscoroutinefunction(cached):
            markcoroutinefunction(self)

    def __call__(self, *args: Any, **kwargs: Any) -> R:
        return self.__func__(self.__self__, *args, **kwargs)

    def fresh(self, *args: Any, **kwargs: Any) -> R:
        """Call the method itself. Nothing is found, and nothing stored."""
        return self.__func__.fresh(self.__self__, *args, **kwargs)

    def invalidate(self, *args: Any, **kwargs: Any) -> None:
        """Drop the result for these arguments, and of all blocks that were made of it."""
        self.__func__.invalidate(self.__self__, *args, **kwargs)

    async def ainvalidate(self, *args: Any, **kwargs: Any) -> None:
        """Do what ``invalidate()`` does, in a coroutine."""
        await self.__func__.ainvalidate(self.__self__, *args, **kwargs)


@overload
def cached(function: Callable[P, R]) -> CachedFunction[P, R]: ...
@overload
def cached(
    *, timeout: float | None = None, key: _Key | None = None, cache_alias: str | None = None
) -> Callable[[Callable[P, R]], CachedFunction[P, R]]: ...
def cached(
    function: Any = None,
    *,
    timeout: float | None = None,
    key: _Key | None = None,
    cache_alias: str | None = None,
) -> Any:
    """Cache the results of a function, a method or a coroutine function until what it read changes.

    Use it as a decorator, with parentheses or without. A result is stored under the versions of
    all tables that the call has read, in whatever it called; it is found again for equal arguments,
    language and time zone. It is a copy for each caller, so it must be something that pickle takes;
    a queryset is evaluated.

    ``timeout`` is in seconds; None keeps a result until one of its tables is written. ``key`` is
    called with the arguments and returns what tells them apart, where they cannot be told apart
    themselves; by default that is each argument by type and value, models by all that is loaded of
    them. ``cache_alias`` is where results are kept, by default ``CACHALOT_CACHE``.

    The result has three functions more, which take the same arguments: ``fresh()`` calls past the
    cache, ``invalidate()`` and, in a coroutine, ``ainvalidate()`` drop what is stored.

    Nothing is stored of a call that wrote, that read what is not cached, what is being written or
    what its own transaction has written, or that read no table at all; the panel, the statistics
    and the log say why. Raise ``TypeError`` for what is no function or is a generator, and, when
    it is called, for an argument that cannot be told apart; ``ValueError`` for a timeout that is no
    positive number, and ``InvalidCacheBackendError`` for an unknown ``cache_alias``.
    """
    require_timeout("cached()", timeout)
    require_cache("cached()", cache_alias)
    require_key("cached()", key)

    def decorate(target: Any) -> Any:
        inner = target.__func__ if isinstance(target, (classmethod, staticmethod)) else target
        if isinstance(target, type) or not callable(inner) or not hasattr(inner, "__qualname__"):
            raise TypeError(f"cached() takes a function or a method, not {target!r}.")
        if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
            raise TypeError(
                f"{inner.__qualname__}() is a generator, which can be gone through only once; have "
                "it return a list."
            )
        made: CachedFunction[Any, Any] = CachedFunction(
            inner,
            timeout=timeout,
            key=key,
            cache_alias=cache_alias,
            binds_class=isinstance(target, classmethod),
        )
        return staticmethod(made) if isinstance(target, staticmethod) else made

    return decorate if function is None else decorate(function)


def require_timeout(who: str, timeout: object) -> None:
    """Raise ``ValueError`` for what is no positive number of seconds, and not None."""
    if timeout is None:
        return
    is_number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
    if not is_number or not math.isfinite(timeout) or timeout <= 0:  # type: ignore[arg-type, operator]
        raise ValueError(
            f"The timeout of {who} is {timeout!r}; use a positive number of seconds, or None to "
            "keep results until their tables are written."
        )


def require_key(who: str, key: object) -> None:
    """Raise ``TypeError`` for what is no function, and not None."""
    if key is not None and not callable(key):
        raise TypeError(f"The key= of {who} is a function of the arguments, not {key!r}.")


def encoded_key(name: str, value: object) -> bytes:
    """Return what a ``key=`` has returned as bytes. Raise ``TypeError`` if that cannot be."""
    try:
        return encoded(value)
    except TypeError as error:
        raise TypeError(
            f"The key= of {name}() returned {value!r}, which cannot be a key: {error}"
        ) from error


def require_cache(who: str, cache_alias: object) -> None:
    """Raise ``InvalidCacheBackendError`` for what is no alias in ``CACHES``, and not None."""
    if cache_alias is not None and cache_alias not in settings.CACHES:
        raise InvalidCacheBackendError(
            f"The cache_alias of {who} is {cache_alias!r}; CACHES has {', '.join(settings.CACHES)}."
        )

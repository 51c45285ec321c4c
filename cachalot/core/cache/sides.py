"""Which raw side a cache has: that of its client if all of it is as its authors wrote it."""

from __future__ import annotations

from types import FunctionType
from typing import Any

from django.core.cache.backends.base import BaseCache, default_key_func
from django.core.cache.backends.locmem import LocMemCache

from cachalot.core.cache.raw import Backend
from cachalot.core.cache.raw_locmem import LocalMemory

_API = ("make_key", "validate_key", "get_backend_timeout", "get", "add", "set")
_MANY = ("get_many", "set_many")


def backend_of(cache: BaseCache) -> Backend:
    """Return the raw side of a cache. A subclass, or one that is patched, has Django's API."""
    if getattr(cache, "key_func", None) is not default_key_func:
        return Backend(cache)
    if is_original(cache, LocMemCache, *_API, *_MANY, "_set", "_has_expired", "_delete", "_cull"):
        return LocalMemory(cache)
    return Backend(cache)


def is_original(thing: Any, class_: type, *methods: str) -> bool:
    """Whether ``thing`` is of exactly this class, and nobody has put other methods in place.

    Tracers and debugging tools do, on the object or on the class, to see every call.
    """
    return type(thing) is class_ and all(
        name not in vars(thing) and _is_original(class_, name) for name in methods
    )


def _is_original(class_: type, name: str) -> bool:
    owner = next(parent for parent in class_.__mro__ if name in vars(parent))
    method = vars(owner)[name]
    # functools.wraps() copies a function's names, but not this.
    return type(method) is FunctionType and method.__globals__.get("__name__") == owner.__module__

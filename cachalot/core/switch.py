"""Whether caching is on, here and now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from cachalot.settings import cachalot_settings


class Override(NamedTuple):
    """What one ``cachalot_disabled()`` or ``cachalot_enabled()`` says, and the one around it.

    ``by`` names who has switched off.
    """

    is_enabled: bool
    reevaluates: bool
    by: str
    outer: Override | None


# Per thread and per asyncio task; asgiref carries it into the thread that runs the ORM.
_innermost: ContextVar[Override | None] = ContextVar("cachalot_override", default=None)


def enter(*, is_enabled: bool, reevaluates: bool = False, by: str = "cachalot_disabled()") -> None:
    """Force caching on or off until the matching ``leave()``.

    ``reevaluates`` has querysets forget the rows they have kept.
    """
    _innermost.set(Override(is_enabled, reevaluates, by, _innermost.get()))


def leave() -> None:
    """Return to what was in force before the last ``enter()`` of this context."""
    override = _innermost.get()
    if override is not None:
        _innermost.set(override.outer)


def is_enabled() -> bool:
    """Whether reads may be cached in this context."""
    if not cachalot_settings.is_in_action:
        return False
    override = _innermost.get()
    return bool(cachalot_settings.CACHALOT_ENABLED) if override is None else override.is_enabled


def what_switched_off() -> str:
    """Return, where ``is_enabled()`` is False, who has it so."""
    if not cachalot_settings.is_in_action:
        return "caching is switched off by cachalot_settings.unload()"
    override = _innermost.get()
    if override is not None:
        return f"caching is switched off by {override.by}"
    return "caching is switched off by CACHALOT_ENABLED"


@contextmanager
def evaluating_once() -> Iterator[None]:
    """Let querysets keep their rows in the body, whatever is in force around it."""
    enter(is_enabled=is_enabled())
    try:
        yield
    finally:
        leave()


def is_reevaluating() -> bool:
    """Whether already evaluated querysets are to be evaluated again."""
    override = _innermost.get()
    return override is not None and override.reevaluates

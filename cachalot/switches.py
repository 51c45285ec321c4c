"""Switch caching off and on for a block, a function, a coroutine or a view."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, TypeVar, overload

from cachalot.core import patches, switch

F = TypeVar("F", bound=Callable[..., Any])


class Switch:
    """A context manager, and a decorator of functions, coroutine functions and view classes.

    It keeps nothing itself, so one may be nested, used again and used by several tasks at once.
    """

    def __init__(self, *, is_enabled: bool, reevaluates: bool = False) -> None:
        self._is_enabled = is_enabled
        self._reevaluates = reevaluates
        if reevaluates:
            patches.install_reevaluation()

    def __enter__(self) -> None:
        switch.enter(is_enabled=self._is_enabled, reevaluates=self._reevaluates)

    def __exit__(self, *exc_info: object) -> None:
        switch.leave()

    def __call__(self, target: F) -> F:
        if isinstance(target, type):
            self._switch_dispatch(target)
            return target
        if not callable(target):
            raise TypeError(
                f"What is decorated must be a function or a view class, not {target!r}; around a "
                "block of code, use a with statement."
            )
        return self._switched(target)

    def _switched(self, function: F) -> F:
        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def switched_coroutine(*args: Any, **kwargs: Any) -> Any:
                with self:
                    return await function(*args, **kwargs)

            return switched_coroutine  # type: ignore[return-value]

        @wraps(function)
        def switched(*args: Any, **kwargs: Any) -> Any:
            with self:
                result = function(*args, **kwargs)
            # View.dispatch() of an async view and what markcoroutinefunction() marks are plain
            # functions: their body runs when the result is awaited.
            return self._awaited(result) if inspect.iscoroutine(result) else result

        return switched  # type: ignore[return-value]

    async def _awaited(self, coroutine: Awaitable[Any]) -> Any:
        with self:
            return await coroutine

    def _switch_dispatch(self, view_class: Any) -> None:
        dispatch = getattr(view_class, "dispatch", None)
        if dispatch is None:
            raise TypeError(
                f"{view_class.__qualname__} has no dispatch() and is no view class; decorate its "
                "functions instead."
            )
        # A subclass has its own way, whatever its parent is decorated with.
        function = getattr(dispatch, "_cachalot_dispatch", dispatch)
        view_class.dispatch = self._switched(function)
        view_class.dispatch._cachalot_dispatch = function


@overload
def cachalot_disabled(all_queries: F) -> F: ...
@overload
def cachalot_disabled(all_queries: bool = False) -> Switch: ...
def cachalot_disabled(all_queries: Any = False) -> Any:
    """Send every read of this thread or task to the database; writes still invalidate.

    With ``all_queries`` a queryset that was evaluated before runs its query again each time it is
    used. Works as a context manager, and as a decorator of a function, a coroutine function or a
    view class, with parentheses or without. It nests, and ends with the block however it is left:
    a generator, or the content of a ``StreamingHttpResponse``, runs after that.

    Raise ``TypeError`` for a class without ``dispatch()``, and for what is neither a function nor a
    boolean.
    """
    if callable(all_queries):
        return Switch(is_enabled=False)(all_queries)
    if not isinstance(all_queries, bool):
        raise TypeError(f"all_queries must be True or False, not {all_queries!r}.")
    return Switch(is_enabled=False, reevaluates=all_queries)


@overload
def cachalot_enabled(function: F) -> F: ...
@overload
def cachalot_enabled(function: None = None) -> Switch: ...
def cachalot_enabled(function: Any = None) -> Any:
    """Cache the reads of this thread or task, even where ``CACHALOT_ENABLED`` is False.

    The mirror of ``cachalot_disabled()``: of the two, the innermost decides.
    """
    switched = Switch(is_enabled=True)
    if function is None:
        return switched
    if not callable(function):
        raise TypeError(f"cachalot_enabled() takes a function or nothing, not {function!r}.")
    return switched(function)

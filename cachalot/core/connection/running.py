"""What a thread is running on a connection.

An exception of the program's own (a signal handler's) may come between any two steps, those that
tidy up included. So nothing here may mislead once it is left behind: a statement is known by
identity, and what an enclosing write has marked counts only as long as its frame is on the stack.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

from cachalot.core.rows import Rows
from cachalot.core.sql.text import without_comments

_PACKAGE = "cachalot."
_GENERATOR = 0x20  # inspect.CO_GENERATOR


class Running(threading.local):
    """What concerns a statement under way. Threads may share a connection, but no statement."""

    #: The statements that a compiler has just made to execute them: accounted for already.
    own: tuple[object, ...] = ()
    #: The one of them that a cursor has been given last.
    given: object = None
    #: Frames of enclosing writes outside a transaction, with the tables that each marked pending,
    #: and what marks all of these where only some rows are.
    marks: tuple[tuple[FrameType, frozenset[str], Callable[[Rows], None]], ...] = ()
    #: Grows when a statement sets what queries see and no key tells beforehand.
    settings = 0

    def is_own(self, sql: object) -> bool:
        """Whether ``sql`` is the very statement that a compiler is executing."""
        for statement in self.own:  # noqa: SIM110 - without a generator, which takes as long again
            if statement is sql:
                return True
        return False

    def note_given(self, sql: object, vendor: str) -> None:
        """Note which of the compiler's statements a cursor is given.

        An engine may put a comment to it; whatever else it changes makes it another statement.
        """
        for own in self.own:
            if sql is own or (
                isinstance(sql, str)
                and isinstance(own, str)
                and without_comments(sql, vendor).strip() == without_comments(own, vendor).strip()
            ):
                self.given = own

    def pending(self) -> frozenset[str]:
        """Return the tables that enclosing writes have marked pending."""
        if not self.marks:
            return frozenset()
        on_stack = set()
        frame: FrameType | None = sys._getframe()
        while frame is not None:
            on_stack.add(frame)
            frame = frame.f_back
        self.marks = tuple(mark for mark in self.marks if mark[0] in on_stack)
        return frozenset().union(*(tables for _, tables, _ in self.marks))

    def widen(self, tables: frozenset[str], rows: Rows) -> None:
        """Have enclosing writes mark what is written in them: ``tables``, or these ``rows``."""
        for _, marked, widen in self.marks:
            if not marked.isdisjoint(tables):
                widen(rows)


def frame_of_body() -> FrameType | None:
    """Return cachalot's frame that the caller, or the body of its ``with`` statement, runs beneath.

    None if that body is the program's: its frame may live on when the body has ended.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and (
        frame.f_code.co_flags & _GENERATOR or frame.f_globals.get("__name__") == "contextlib"
    ):
        frame = frame.f_back
    if frame is None or not frame.f_globals.get("__name__", "").startswith(_PACKAGE):
        return None
    return frame


class executing:
    """Have the statements known at the cursor that ``compiler`` makes in the body.

    ``make`` makes them in place of the compiler.
    """

    __slots__ = ("_before", "_compiler", "_make", "_own", "_running")

    def __init__(
        self, running: Running, compiler: Any, make: Callable[..., Any] | None = None
    ) -> None:
        self._running = running
        self._compiler = compiler
        self._make = make or compiler.as_sql
        self._before: Any = compiler.__dict__.get("as_sql")
        self._own = running.own

    def _as_sql(self, *args: Any, **kwargs: Any) -> Any:
        compiled = self._make(*args, **kwargs)
        if type(compiled) is tuple:
            self._running.own = (compiled[0],)
        else:
            # An INSERT may be several statements.
            pairs: Iterable[Any] = compiled if isinstance(compiled, list) else (compiled,)
            self._running.own = tuple([pair[0] for pair in pairs])
        return compiled

    def __enter__(self) -> None:
        self._compiler.as_sql = self._as_sql

    def __exit__(self, *exc_info: object) -> None:
        self._running.own = self._own
        if self._before is None:
            del self._compiler.as_sql
        else:
            self._compiler.as_sql = self._before

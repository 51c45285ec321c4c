"""What became of each read and each write, for whoever listens: panel, statistics, logs.

Listeners hear of the whole process, collectors (``collecting``) of one context. Without either
nothing is put together: what it costs is a look at an empty tuple and at a context variable.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from cachalot.core import collecting
from cachalot.core.interruptions import is_interruption
from cachalot.core.locks import fork_safe_lock
from cachalot.core.outcomes import Outcome

logger = logging.getLogger("cachalot")


class Read(NamedTuple):
    """One read of the ORM, or a SELECT that a cursor was given; of those only collectors hear.

    ``reason`` says why it was no hit and cannot become one, else None; ``tables`` are as in
    ``Model._meta.db_table``, none where they were not looked for. ``seconds`` is the time that the
    read took, ``query_seconds`` what the query took when its result was computed (None: it was
    not), ``size`` the bytes of the stored result, ``age`` the seconds since it was stored. ``rows``
    are pairs of one of the tables and a key: the result depends on these rows in place of all.
    """

    db_alias: str
    outcome: Outcome
    reason: str | None
    sql: str
    params: Any
    tables: tuple[str, ...]
    seconds: float
    query_seconds: float | None = None
    size: int | None = None
    age: float | None = None
    rows: tuple[tuple[str, Any], ...] = ()

    @property
    def is_hit(self) -> bool:
        """Whether no query was run."""
        return self.outcome.is_hit


class Invalidation(NamedTuple):
    """Tables of one database that were given new versions, as in ``Model._meta.db_table``."""

    db_alias: str
    tables: tuple[str, ...]


class Block(NamedTuple):
    """One use of a block of code that is cached as a whole.

    ``reason`` says why it was neither found nor stored. ``tables`` are pairs of an alias and a
    table, as in ``Model._meta.db_table``. ``seconds`` is the time that it took, ``block_seconds``
    what its code took when its result was computed, ``size`` the bytes of the stored result, and
    ``age`` the seconds since it was stored.
    """

    name: str
    outcome: Outcome
    reason: str | None
    tables: tuple[tuple[str, str], ...]
    seconds: float
    block_seconds: float | None = None
    size: int | None = None
    age: float | None = None

    @property
    def is_hit(self) -> bool:
        """Whether its code was not run."""
        return self.outcome.is_hit


Event = Read | Invalidation | Block
Listener = Callable[[Event], None]

#: Whoever is told. Replaced as a whole, so that a read under way sees all of it.
listeners: tuple[Listener, ...] = ()

_lock = fork_safe_lock()


def listen(listener: Listener) -> None:
    """Have ``listener`` called with every event of this process, in the thread where it happens."""
    global listeners
    with _lock:
        if listener not in listeners:
            listeners = (*listeners, listener)


def stop_listening(listener: Listener) -> None:
    """Undo ``listen()``."""
    global listeners
    with _lock:
        listeners = tuple(known for known in listeners if known != listener)


def is_heard() -> bool:
    """Whether anybody wants to be told of what happens here."""
    return bool(listeners) or collecting.is_heard()


def tell(event: Event) -> None:
    """Call the listeners and the collectors. Log what they raise: no query fails because of it."""
    tell_each(event, listeners)
    tell_collectors(event)


def tell_collectors(event: Event) -> None:
    """Call the collectors of this context alone."""
    collector = collecting.current()
    if collector is not None:
        tell_each(event, (collector.tell,))


def tell_each(event: Event, listeners: tuple[Listener, ...]) -> None:
    """Call ``listeners``. Log what they raise."""
    for listener in listeners:
        try:
            listener(event)
        except Exception as error:
            if is_interruption(error):
                raise
            logger.exception("The listener %r failed.", listener)

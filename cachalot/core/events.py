"""What became of each read and each write, for whoever listens: panel, statistics, logs.

Without listeners nothing is put together: what it costs is one look at an empty tuple.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from cachalot.core.interruptions import is_interruption
from cachalot.core.locks import fork_safe_lock
from cachalot.core.outcomes import Outcome

logger = logging.getLogger("cachalot")


class Read(NamedTuple):
    """One read of the ORM.

    ``reason`` says why it was no hit and cannot become one, else None; ``tables`` are as in
    ``Model._meta.db_table``, none where they were not looked for. ``seconds`` is the time that the
    read took, ``query_seconds`` what the query took when its result was computed (None: it was
    not), ``size`` the bytes of the stored result, ``age`` the seconds since it was stored.
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


class Invalidation(NamedTuple):
    """Tables of one database that were given new versions, as in ``Model._meta.db_table``."""

    db_alias: str
    tables: tuple[str, ...]


Listener = Callable[[Read | Invalidation], None]

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


def tell(event: Read | Invalidation) -> None:
    """Call the listeners. Log what they raise: no query fails because of them."""
    for listener in listeners:
        try:
            listener(event)
        except Exception as error:
            if is_interruption(error):
                raise
            logger.exception("The listener %r failed.", listener)

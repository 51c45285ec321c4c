"""How long results are kept, by ``CACHALOT_TIMEOUT`` and ``CACHALOT_TIMEOUTS``."""

from __future__ import annotations

from cachalot.core.schema.tables import table_named
from cachalot.settings import cachalot_settings, memo


@memo(maxsize=4096)
def timeout_of(tables: frozenset[str]) -> float | None:
    """Return the seconds for which a result of canonical ``tables`` is kept; None is for ever.

    The smallest that one of the tables, or the default for all, allows.
    """
    timeouts = [_timeouts().get(table) for table in tables]
    timeouts.append(cachalot_settings.CACHALOT_TIMEOUT)
    return min((timeout for timeout in timeouts if timeout is not None), default=None)


@memo(maxsize=1)
def _timeouts() -> dict[str, float]:
    timeouts: dict[str, float] = {}
    for name, seconds in cachalot_settings.CACHALOT_TIMEOUTS.items():
        if seconds is not None:
            table = table_named(name)
            timeouts[table] = min(seconds, timeouts.get(table, seconds))
    return timeouts

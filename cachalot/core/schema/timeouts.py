"""How long results are kept, by ``CACHALOT_TIMEOUT`` and ``CACHALOT_TIMEOUTS``."""

from __future__ import annotations

from django.apps import apps

from cachalot.core.sql.names import canonical
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


def table_named(name: str) -> str:
    """Return the canonical table of a model label (``"app.Model"``) or of a table's name."""
    app_label, dot, model_name = name.rpartition(".")
    if dot and app_label in apps.app_configs:
        try:
            return canonical(apps.get_model(app_label, model_name)._meta.db_table)
        except LookupError:
            pass  # a table of a schema that has the name of an app
    return canonical(name)

"""Counters and attributes of spans for OpenTelemetry."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from opentelemetry import metrics, trace

from cachalot.core import events
from cachalot.core.events import Block, Event, Invalidation, Read
from cachalot.core.locks import fork_safe_lock
from cachalot.core.outcomes import Outcome

_KINDS = ("hits", "misses", "not_cached")


class _Telemetry:
    """Counts what it is told, for the meter and on the span around each read."""

    def __init__(self, meter_provider: metrics.MeterProvider | None) -> None:
        meter = metrics.get_meter("cachalot", meter_provider=meter_provider)
        self._lock = fork_safe_lock()
        self._by_span: WeakKeyDictionary[Any, dict[str, int]] = WeakKeyDictionary()
        self._counters = {
            "hits": meter.create_counter(
                "cachalot.hits", description="Reads that were served from the cache."
            ),
            "misses": meter.create_counter(
                "cachalot.misses", description="Reads whose results were stored in the cache."
            ),
            "not_cached": meter.create_counter(
                "cachalot.not_cached", description="Reads that were not cached, by reason."
            ),
        }
        self._invalidations = meter.create_counter(
            "cachalot.invalidations", description="Invalidations of a table."
        )

    def note(self, event: Event) -> None:
        """Count one event, once for each of its tables; a block by the reads in it alone."""
        if isinstance(event, Block):
            return
        labels: list[dict[str, str]] = [
            {"database": event.db_alias, "table": table} for table in event.tables
        ]
        if isinstance(event, Invalidation):
            for attributes in labels:
                self._invalidations.add(1, attributes)
            return
        kind = _kind(event)
        for attributes in labels:
            if kind == "not_cached":
                attributes["reason"] = event.reason or ""
            self._counters[kind].add(1, attributes)
        self._note_on_span(kind)

    def _note_on_span(self, kind: str) -> None:
        span = trace.get_current_span()
        if not span.is_recording():
            return
        with self._lock:
            counts = self._by_span.setdefault(span, dict.fromkeys(_KINDS, 0))
            counts[kind] += 1
            number = counts[kind]
        span.set_attribute(f"cachalot.{kind}", number)


_telemetry: _Telemetry | None = None


def instrument(meter_provider: metrics.MeterProvider | None = None) -> None:
    """Count the reads and invalidations of this process from now on.

    The counters ``cachalot.hits``, ``cachalot.misses``, ``cachalot.not_cached`` (by reason as well)
    and ``cachalot.invalidations`` have the attributes ``database`` and ``table``; a query of
    several tables counts for each of them. The span that is current during a read gets the numbers
    of its own reads as ``cachalot.hits``, ``cachalot.misses`` and ``cachalot.not_cached``.

    ``meter_provider`` is the global one if it is None. A second call takes the place of the first.
    ``CACHALOT_STATS`` is not needed. Raise ``TypeError`` for what is no provider.
    """
    global _telemetry
    if meter_provider is not None and not hasattr(meter_provider, "get_meter"):
        raise TypeError(
            f"{meter_provider!r} is no MeterProvider; use one of the SDK, or None for the global "
            "one."
        )
    uninstrument()
    _telemetry = _Telemetry(meter_provider)
    events.listen(_telemetry.note)


def uninstrument() -> None:
    """Undo ``instrument()``."""
    global _telemetry
    if _telemetry is not None:
        events.stop_listening(_telemetry.note)
        _telemetry = None


def _kind(read: Read) -> str:
    if read.outcome.is_hit:
        return "hits"
    return "misses" if read.outcome is Outcome.MISS else "not_cached"

"""Traces in words."""

from __future__ import annotations

from collections.abc import Iterable

from tests.protocol.model import Protocol
from tests.protocol.world import Event


def in_words(protocol: Protocol, trace: Iterable[Event]) -> list[str]:
    """Return a line for each event. Nonces are numbered as they come."""
    numbers: dict[str, int] = {}

    def version(value: object) -> str:
        if value is None:
            return "missing"
        assert isinstance(value, tuple)
        nonce, marks = value
        if not nonce:
            return "pending"
        name = f"version {numbers.setdefault(nonce, len(numbers) + 1)}"
        return f"{name} with {marks} marks" if marks else name

    def value_of(event: Event) -> str:
        value = event.value
        if isinstance(value, int):
            return protocol.show(value)
        if event.what.endswith("entry of"):
            if value is None:
                return "missing"
            assert isinstance(value, tuple)
            versions, rows = value
            return f"under {', '.join(map(version, versions))}: {protocol.show(rows)}"
        if event.what.startswith(("gets", "adds", "gives a", "loses")):
            if isinstance(value, tuple) and value and not isinstance(value[0], str):
                return ", ".join(map(version, value))
            return version(value)
        return ""

    lines = []
    for event in trace:
        line = " ".join([event.who, event.what, " and ".join("TU"[t] for t in event.tables)])
        value = value_of(event)
        lines.append(f"{line.rstrip()}: {value}" if value else line.rstrip())
    return lines

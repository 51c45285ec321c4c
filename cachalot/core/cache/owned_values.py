"""Marks in the value that lies under a version's key, for caches that change it at one moment.

Such a value is a pending version, behind which stand the marks: a name and an end of each. Whoever
looks for a version finds it pending, without knowing of marks. What an end is, and whether it is
over, is up to the cache. ``tests/protocol/server_marks.py`` has the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from cachalot.core.cache.versions import is_version

#: The name of what keeps a version pending for as long as its database may lag behind.
LAG = "lag"


class Named(NamedTuple):
    """A mark: the name of its owner, and its end."""

    name: str
    end: Any


#: Returns those of some marks whose end is still to come.
Standing = Callable[[list[Named]], list[Named]]


def marks_in(value: object) -> list[Named]:
    """Return all marks in what lies under a version's key, those that are over as well."""
    if not is_version(value) or len(value) < 3:  # type: ignore[arg-type]
        return []
    # Serializers other than pickle may know no tuples.
    return [Named(*mark) for mark in value[2]]  # type: ignore[index]


def is_pending(value: object) -> bool:
    """Whether somebody is at work: with a mark, or asking by Django's API."""
    return is_version(value) and value[1] is None  # type: ignore[index]


def marked(value: object, mark: Named, timestamp: float, standing: Standing) -> tuple[Any, ...]:
    """Return what lies under a key once it has a mark more. An earlier one of that name ends."""
    others = [each for each in marks_in(value) if each.name != mark.name]
    return _pending(timestamp, [*standing(others), mark])


def renewed(
    value: object,
    owner: str,
    version: tuple[Any, ...],
    lag: Named | None,
    standing: Standing,
) -> tuple[Any, ...] | None:
    """Return what lies under a key once ``owner`` has ended; None if it is to be left as it is.

    That is what is pending without a mark, for who has none there either. ``owner`` is empty for
    who never had one.
    """
    marks = marks_in(value)
    is_own = any(mark.name == owner for mark in marks)
    others = standing([mark for mark in marks if mark.name != owner])
    if lag is not None:
        others = [*(mark for mark in others if mark.name != LAG), lag]
    if others:
        return _pending(version[0], others)
    return None if not is_own and not marks and is_pending(value) else version


def _pending(timestamp: float, marks: Iterable[Named]) -> tuple[Any, ...]:
    return timestamp, None, tuple(map(tuple, marks))

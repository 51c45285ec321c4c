"""Whether answers are equal, and where they come from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from django.db import connection
from django.db.models import Model
from django.test.utils import CaptureQueriesContext


def describe(answer: Any) -> Any:
    """Return what equal answers have in common: the values, those of related objects included."""
    if isinstance(answer, Model):
        related = answer._state.fields_cache, getattr(answer, "_prefetched_objects_cache", {})
        values = {k: v for k, v in vars(answer).items() if not k.startswith("_")}
        return [
            type(answer).__name__,
            sorted((k, repr(v)) for k, v in values.items()),
            [sorted((k, describe(v)) for k, v in objects.items()) for objects in related],
        ]
    if isinstance(answer, (str, bytes, int, float, type(None))):
        return repr(answer)
    if isinstance(answer, dict):
        return sorted((k, describe(v)) for k, v in answer.items())
    if hasattr(answer, "__iter__"):
        return [describe(part) for part in answer]
    return repr(answer)


def observe(call: Callable[[], Any]) -> tuple[str, int]:
    """Return a digest of what ``call`` returns and the number of queries it ran.

    What begins and ends a transaction is no query.
    """
    with CaptureQueriesContext(connection) as queries:
        answer = call()
    digest = hashlib.sha256(repr(describe(answer)).encode()).hexdigest()[:16]
    asked = [each for each in queries if each["sql"].split()[0] not in {"BEGIN", "COMMIT"}]
    return digest, len(asked)

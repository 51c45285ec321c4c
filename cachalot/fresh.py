"""Querysets that ask the database each time."""

from __future__ import annotations

from typing import TypeVar, overload

from django.db.models import Model, QuerySet
from django.db.models.manager import BaseManager

from cachalot.core import patches
from cachalot.core.reading.compiled import FRESH
from cachalot.explanation import queryset_of

M = TypeVar("M", bound=Model)
R = TypeVar("R")


@overload
def fresh(queryset: type[M]) -> QuerySet[M]: ...
@overload
def fresh(queryset: BaseManager[M]) -> QuerySet[M]: ...
@overload
def fresh(queryset: R) -> R: ...
def fresh(queryset: object) -> object:
    """Return a queryset of the same rows that is read from the database, whenever it is.

    So is whatever is made of it by ``filter()``, ``count()``, ``iterator()`` and the like, what it
    prefetches, and any query that it is a part of. ``queryset`` itself stays as it is. A manager or
    a model stands for all of its rows. What is read later by way of one of its instances is cached
    as ever.

    Raise ``TypeError`` for anything else, ``raw()`` included, which is never cached.
    """
    marked = queryset_of(queryset).all()
    patches.install_fresh()
    setattr(marked.query, FRESH, True)
    return marked

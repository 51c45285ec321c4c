"""Whether Django's own methods, and no others in their place, make the SQL of a query."""

from __future__ import annotations

from collections.abc import Iterator
from types import FunctionType
from typing import Any

from django.db.models.fields import Field

from cachalot.core.reading.model_facts import is_plain
from cachalot.core.reading.shapes import CLASSES
from cachalot.settings import memo


@memo(maxsize=64)
def is_djangos(compiler_class: type, operations_class: type) -> bool:
    """Whether nobody else has replaced anything that makes the SQL."""
    return operations_class.__module__.startswith("django.") and all(
        map(is_original, (compiler_class, operations_class, *CLASSES, *_fields()))
    )


def _fields() -> Iterator[type]:
    classes: list[Any] = [Field]
    while classes:
        class_ = classes.pop()
        if is_plain(class_):
            yield class_
            classes += class_.__subclasses__()


def is_original(class_: type) -> bool:
    """Whether every method of the class is Django's, or cachalot's own wrapper of it."""
    return all(
        function.__globals__.get("__name__", "").startswith(_MODULES)
        for parent in class_.__mro__
        for function in vars(parent).values()
        if isinstance(function, FunctionType)
    )


# Where functions are defined, whatever a wrapper says of itself; and Python's own decorators.
_MODULES = ("django.", "cachalot.core.", "contextlib", "functools", "typing")

"""Arguments as bytes: equal bytes mean arguments that make no difference to a block."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from typing import Any

from django.db.models import Manager, Model, QuerySet
from django.utils.functional import LazyObject, empty

from cachalot.core.interruptions import is_interruption
from cachalot.core.outcomes import UncachableQuery
from cachalot.core.sql.parameters import encode


def encoded(value: object) -> bytes:
    """Return bytes that tell ``value`` from all others, by type and value.

    A model's instance is told by its model, its database, its primary key and whatever it has
    loaded: a block may show any of it, and would not read it. Raise ``TypeError`` for what cannot
    be told from outside.
    """
    return _Encoder().encode(value)


class _Encoder:
    """Encodes one value; instances that lead to each other are followed once."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}

    def encode(self, value: object) -> bytes:
        if isinstance(value, LazyObject):
            if value._wrapped is empty:
                value._setup()
            return self.encode(value._wrapped)
        if isinstance(value, Model):
            return self._instance(value)
        kind = type(value)
        if kind is list or kind is tuple:
            return _joined(kind.__name__, map(self.encode, value))  # type: ignore[call-overload]
        if kind is dict:
            pairs = [part for item in value.items() for part in item]  # type: ignore[attr-defined]
            return _joined("dict", map(self.encode, pairs))
        if kind is set or kind is frozenset:
            return _joined(kind.__name__, sorted(map(self.encode, value)))  # type: ignore[call-overload]
        if isinstance(value, type):
            return _joined("class", [_name_of(value)])
        if isinstance(value, (QuerySet, Manager)):
            raise TypeError(
                f"{kind.__qualname__} is not told apart by its rows; pass a list of them"
            )
        try:
            return encode((value,))
        except UncachableQuery as error:
            raise TypeError(
                f"{_name_of(kind).decode()} is of no type that can be told apart"
            ) from error

    def _instance(self, instance: Model) -> bytes:
        if id(instance) in self._seen:
            return b"seen:%d" % self._seen[id(instance)]
        self._seen[id(instance)] = len(self._seen)
        state = instance._state
        loaded = {name: value for name, value in vars(instance).items() if name != "_state"}
        prefetched = loaded.pop("_prefetched_objects_cache", {})
        parts: list[object] = [instance._meta.label, state.db, state.adding, instance.pk]
        return _joined(
            "model",
            [
                *map(self.encode, parts),
                self._attributes(loaded),
                self._attributes(getattr(state, "fields_cache", {})),
                self._attributes({name: list(rows) for name, rows in prefetched.items()}),
            ],
        )

    def _attributes(self, attributes: dict[str, Any]) -> bytes:
        return _joined(
            "attributes",
            [
                part
                for name in sorted(attributes)
                for part in (name.encode(), self._attribute(attributes[name]))
            ],
        )

    def _attribute(self, value: object) -> bytes:
        try:
            return self.encode(value)
        except TypeError:
            try:
                return b"pickle" + pickle.dumps(value)
            except Exception as error:
                if is_interruption(error):
                    raise
                raise TypeError(f"what it has loaded cannot be told apart: {error}") from error


def _joined(kind: str, parts: Iterable[bytes]) -> bytes:
    content = b"".join(b"%d:%s" % (len(part), part) for part in parts)
    return b"%s:%d:%s" % (kind.encode(), len(content), content)


def _name_of(class_: type) -> bytes:
    return f"{class_.__module__}.{class_.__qualname__}".encode()

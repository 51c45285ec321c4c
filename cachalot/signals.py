"""The signal sent after a table was invalidated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db.models import Model
from django.dispatch import Signal


class TableSignal(Signal):
    """A signal whose senders are table names, compared by value.

    ``Signal`` tells senders apart by ``id()``, so two equal strings are two senders to it. Here
    every string is replaced by the first equal one seen, which is kept. A model stands for its
    table.
    """

    def __init__(self) -> None:
        super().__init__()
        self._senders: dict[object, object] = {}

    def _canonical(self, sender: object) -> object:
        if isinstance(sender, type) and issubclass(sender, Model):
            if sender._meta.abstract:
                raise ValueError(
                    f"{sender.__name__} is abstract and has no table; name a concrete model."
                )
            sender = sender._meta.db_table
        return self._senders.setdefault(sender, sender) if isinstance(sender, str) else sender

    def connect(
        self,
        receiver: Callable[..., Any],
        sender: object = None,
        weak: bool = True,
        dispatch_uid: object = None,
    ) -> None:
        super().connect(receiver, self._canonical(sender), weak, dispatch_uid)

    def disconnect(
        self,
        receiver: Callable[..., Any] | None = None,
        sender: object = None,
        dispatch_uid: object = None,
    ) -> bool:
        return super().disconnect(receiver, self._canonical(sender), dispatch_uid)

    def has_listeners(self, sender: object = None) -> bool:
        return super().has_listeners(self._canonical(sender))

    def send(self, sender: object, **named: Any) -> list[tuple[Any, Any]]:
        return super().send(self._canonical(sender), **named)

    def send_robust(self, sender: object, **named: Any) -> list[tuple[Any, Any]]:
        return super().send_robust(self._canonical(sender), **named)


#: Sent once per table, database alias and transaction, after the change is visible to other
#: connections and the shared cache is invalidated. ``sender`` is the table's name as
#: ``Model._meta.db_table`` gives it (a table of no installed model: its lower-case name);
#: ``db_alias`` is the alias in ``DATABASES``. A model may be connected in place of its table. An
#: exception in a receiver is logged by Django.
post_invalidation = TableSignal()

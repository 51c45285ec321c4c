"""The signal sent after a table was invalidated."""

from __future__ import annotations

import logging
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from django.apps import apps
from django.db.models import Model
from django.dispatch import Signal

from cachalot.settings import configured

logger = logging.getLogger("cachalot")

# Further away, a name is rather that of a table outside Django than a misspelt one.
_NEARNESS = 0.85


class TableSignal(Signal):
    """A signal whose senders are table names, compared by value.

    ``Signal`` tells senders apart by ``id()``, so two equal strings are two senders to it. Here
    every string is replaced by the first equal one seen, which is kept. A model, or its label,
    stands for its table.
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
        """Connect a receiver to one table, or to all if ``sender`` is None.

        Raise ``TypeError`` for a sender that is neither a model nor a text, and ``LookupError`` for
        the label of a model that is none. A text that looks like a misspelt table is logged.
        """
        label = _label_to_come(sender)
        if label is not None:

            def connect(model: type[Model]) -> None:
                self.connect(receiver, model, weak, dispatch_uid)

            apps.lazy_model_operation(connect, label)
            return
        sender = _named_by(sender)
        if isinstance(sender, str) and apps.models_ready:
            _warn_of_mistake(sender)
        super().connect(receiver, self._canonical(sender), weak, dispatch_uid)

    def disconnect(
        self,
        receiver: Callable[..., Any] | None = None,
        sender: object = None,
        dispatch_uid: object = None,
    ) -> bool:
        return super().disconnect(receiver, self._canonical(_named_by(sender)), dispatch_uid)

    def has_listeners(self, sender: object = None) -> bool:
        return super().has_listeners(self._canonical(sender))

    def send(self, sender: object, **named: Any) -> list[tuple[Any, Any]]:
        return super().send(self._canonical(sender), **named)

    def send_robust(self, sender: object, **named: Any) -> list[tuple[Any, Any]]:
        return super().send_robust(self._canonical(sender), **named)


def _label_to_come(sender: object) -> tuple[str, str] | None:
    """Return the label of a model that Django has yet to import, None for anything else."""
    if not isinstance(sender, str) or apps.models_ready:
        return None
    app_label, dot, model_name = sender.partition(".")
    if not dot or app_label not in apps.app_configs:
        return None
    return app_label, model_name.lower()


def _named_by(sender: object) -> object:
    """Return the model that ``sender`` names, or what it is itself."""
    if sender is None or (isinstance(sender, type) and issubclass(sender, Model)):
        return sender
    if not isinstance(sender, str):
        raise TypeError(
            f"post_invalidation has tables for senders, and {sender!r} is none; use a model, the "
            "name of a table, or None for all."
        )
    if not apps.models_ready:
        return sender
    app_label, dot, model_name = sender.partition(".")
    if not dot or app_label not in apps.app_configs:
        return sender
    try:
        return apps.get_model(app_label, model_name)
    except LookupError:
        near = get_close_matches(sender, _tables_by_label(), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise LookupError(
            f"{sender!r} is no model, and never sends post_invalidation.{hint}"
        ) from None


def _tables_by_label() -> dict[str, str]:
    models = apps.get_models(include_auto_created=True, include_swapped=True)
    return {model._meta.label: model._meta.db_table for model in models}


def _warn_of_mistake(table: str) -> None:
    """Log that a table looks like a mistake: whoever is connected to it hears of nothing."""
    tables = _tables_by_label()
    if table in tables.values() or table in configured("CACHALOT_ADDITIONAL_TABLES"):
        return
    spellings = {label.rpartition(".")[2].lower(): label for label in tables}
    spellings |= {name.lower(): name for name in tables.values()}
    if near := get_close_matches(table.lower(), spellings, n=1, cutoff=_NEARNESS):
        logger.warning(
            "post_invalidation is connected to %r, which is the table of no model. Did you mean "
            "%r?",
            table,
            spellings[near[0]],
        )


#: Sent once per table, database alias and transaction, after the change is visible to other
#: connections and the shared cache is invalidated. ``sender`` is the table's name as
#: ``Model._meta.db_table`` gives it (a table of no installed model: its lower-case name);
#: ``db_alias`` is the alias in ``DATABASES``. A model may be connected in place of its table. An
#: exception in a receiver is logged by Django.
post_invalidation = TableSignal()

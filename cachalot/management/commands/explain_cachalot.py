"""Explain a queryset from the command line."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import models

from cachalot.api import explain


class Command(BaseCommand):
    """Show the tables of a queryset, and whether and where its result is cached."""

    help = (
        "Explains what cachalot makes of a queryset: its tables, whether it is cached and why not, "
        "its key, for how long, and what invalidates it. The queryset is Python code and is "
        "evaluated as `manage.py shell` would: pass nothing that you would not run yourself."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "code",
            help='Code that gives a queryset, such as "Book.objects.filter(pages=3)". All '
            "models of installed apps and the names of django.db.models are in its scope; of two "
            "models of one name, the app that comes first in INSTALLED_APPS has it.",
        )

    def handle(self, *, code: str, **options: Any) -> None:
        """Raise ``CommandError`` if the code fails or gives no queryset."""
        try:
            self.stdout.write(str(explain(eval(code, _scope()))))
        except Exception as error:
            raise CommandError(f"{type(error).__name__}: {error}") from error


def _scope() -> dict[str, Any]:
    scope = {name: getattr(models, name) for name in models.__all__}
    # As in the shell of Django 5.2 and later.
    for model in reversed(apps.get_models(include_auto_created=True)):
        scope[model.__name__] = model
    return scope

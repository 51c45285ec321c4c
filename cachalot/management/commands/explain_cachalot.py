"""Explain a queryset from the command line."""

from __future__ import annotations

import ast
import datetime
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import models
from django.db.models import functions
from django.utils import timezone

from cachalot.api import Explanation, explain


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
            help='Code that gives a queryset, such as "Book.objects.filter(pages=3)", a manager or '
            'a model, or that reads, such as "Book.objects.count()". All models of installed apps, '
            "the names of django.db.models and its functions, timezone and datetime are in its "
            "scope; of two models of one name, the app that comes first in INSTALLED_APPS has it.",
        )

    def handle(self, *, code: str, **options: Any) -> None:
        """Raise ``CommandError`` if the code fails or gives nothing that reads."""
        scope = _scope()
        try:
            self.stdout.write(str(_explanation_of(code, scope)))
        except SyntaxError as error:
            raise CommandError(
                f"{code!r} is no expression of Python ({error.msg}); write a queryset, such as "
                '"Book.objects.filter(pages=3)".'
            ) from error
        except NameError as error:
            likely = get_close_matches(error.name or "", scope, n=1)
            hint = f". Did you mean {likely[0]!r}?" if likely else ""
            raise CommandError(f"NameError: {error}{hint}") from error
        except Exception as error:
            raise CommandError(f"{type(error).__name__}: {error}") from error


def _scope() -> dict[str, Any]:
    scope: dict[str, Any] = {"datetime": datetime, "timezone": timezone}
    for module in (functions, models):
        scope.update((name, getattr(module, name)) for name in module.__all__)
    # As in the shell of Django 5.2 and later.
    for model in reversed(apps.get_models(include_auto_created=True)):
        scope[model.__name__] = model
    return scope


def _explanation_of(code: str, scope: dict[str, Any]) -> Explanation:
    """Explain the value of ``code``, or the read of its outermost call.

    What that is called on, and with, is evaluated as it stands: it may have to read as well.
    """
    expression = ast.parse(code.strip(), "<code>", "eval")
    if not isinstance(expression.body, ast.Call):
        return explain(eval(compile(expression, "<code>", "eval"), scope))
    call = expression.body
    call.args.insert(0, call.func)
    call.func = ast.copy_location(ast.Name("_explain_call", ast.Load()), call)
    names = {**scope, "_explain_call": _explain_call}
    explanation: Explanation = eval(compile(expression, "<code>", "eval"), names)
    return explanation


def _explain_call(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Explanation:
    return explain(lambda: function(*args, **kwargs))

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db import connection

from cachalot.signals import post_invalidation


class EarlyConfig(AppConfig):
    name = "tests.early"
    #: The tables that were invalidated.
    invalidated: list[str] = []

    def ready(self) -> None:
        post_invalidation.connect(self.note)
        with connection.cursor() as cursor:
            cursor.execute("UPDATE library_tag SET name = name")

    def note(self, sender: str, **kwargs: Any) -> None:
        self.invalidated.append(sender)

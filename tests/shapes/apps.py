"""Makes what a column of this app needs."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db import connections
from django.db.models.signals import pre_migrate


def create_hstore(using: str, **kwargs: Any) -> None:
    """Add PostgreSQL's hstore type, which a column of this app has."""
    if connections[using].vendor == "postgresql":
        from django.contrib.postgres.signals import get_hstore_oids

        with connections[using].cursor() as cursor:
            cursor.execute("CREATE EXTENSION IF NOT EXISTS hstore")
        # Django tells the driver about the type when it connects, and remembers what it found.
        get_hstore_oids.cache_clear()
        connections[using].close()


class ShapesConfig(AppConfig):
    name = "tests.shapes"

    def ready(self) -> None:
        pre_migrate.connect(create_hstore, sender=self)

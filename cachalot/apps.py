"""Wires the app into Django."""

from __future__ import annotations

import atexit
from types import ModuleType

from django.apps import AppConfig, apps
from django.core.checks import Tags, register
from django.core.signals import request_finished, setting_changed
from django.db.models.signals import class_prepared, post_migrate

from cachalot import checks, settings
from cachalot.api import invalidate_migrated
from cachalot.core import patches
from cachalot.core.cache import door, stores
from cachalot.core.connection import databases


def _forget_models(sender: type, **kwargs: object) -> None:
    # Historical models of migrations are registered elsewhere.
    if sender._meta.apps is apps:  # type: ignore[attr-defined]
        settings.cachalot_settings.forget()


def wire() -> None:
    """Install the patches and connect what keeps them up to date. A second call does nothing.

    Writes invalidate from now on. Reads are cached once ``cachalot_settings`` is in action.
    """
    databases.note_configured()
    patches.install()
    setting_changed.connect(settings.follow_change, dispatch_uid="cachalot.settings")
    class_prepared.connect(_forget_models, dispatch_uid="cachalot.models")
    post_migrate.connect(invalidate_migrated, dispatch_uid="cachalot.migrations")
    request_finished.connect(stores.close_own_stores, dispatch_uid="cachalot.stores")
    for check in checks.CHECKS:
        register(check, "cachalot", Tags.compatibility)
    for asking in checks.DATABASE_CHECKS:
        # By no other tag: Django runs what has another one without having been told to ask.
        register(asking, Tags.database)
    for check in checks.DEPLOY_CHECKS:
        register(check, "cachalot", Tags.compatibility, deploy=True)
    atexit.unregister(door.settle_before_exit)
    atexit.register(door.settle_before_exit)


class CachalotConfig(AppConfig):
    """Caches every ORM read until one of its tables changes."""

    name = "cachalot"
    verbose_name = "Cachalot"

    def __init__(self, app_name: str, app_module: ModuleType | None) -> None:
        # Django makes every configuration before it imports the first models and calls the first
        # ready(). Apps listed before this one write in theirs, and other processes have cached what
        # they change: it is too late to wire in a ready() of our own, and imports must have no
        # effect.
        super().__init__(app_name, app_module)
        wire()

    def ready(self) -> None:
        """Have reads cached: only now are all tables known that raw SQL may name."""
        settings.cachalot_settings.is_in_action = True

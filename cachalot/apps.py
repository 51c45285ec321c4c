"""Wires the app into Django."""

from __future__ import annotations

import atexit

from django.apps import AppConfig, apps
from django.core.checks import register
from django.core.signals import setting_changed
from django.db.models.signals import class_prepared, post_migrate

from cachalot import checks, settings
from cachalot.api import invalidate_migrated
from cachalot.core import patches
from cachalot.core.cache import door


def _forget_models(sender: type, **kwargs: object) -> None:
    # Historical models of migrations are registered elsewhere.
    if sender._meta.apps is apps:  # type: ignore[attr-defined]
        settings.cachalot_settings.reload()


class CachalotConfig(AppConfig):
    """Caches every ORM read until one of its tables changes."""

    name = "cachalot"
    verbose_name = "Cachalot"

    def ready(self) -> None:
        """Install the patches and connect what keeps them up to date."""
        patches.install()
        setting_changed.connect(settings.reload_on_change, dispatch_uid="cachalot.settings")
        class_prepared.connect(_forget_models, dispatch_uid="cachalot.models")
        post_migrate.connect(invalidate_migrated, dispatch_uid="cachalot.migrations")
        for check in checks.CHECKS:
            register(check, "cachalot")
        for check in checks.DEPLOY_CHECKS:
            register(check, "cachalot", deploy=True)
        atexit.register(door.settle_before_exit)

"""The app that adds the page, and has processes count for it."""

from __future__ import annotations

from django.apps import AppConfig, apps
from django.core import checks

from cachalot.checks.messages import listed, message
from cachalot.core.statistics import follow_settings

_NEEDED = ("cachalot", "django.contrib.admin")


class CachalotAdminConfig(AppConfig):
    """Puts a page about the cache into Django's admin."""

    name = "cachalot.contrib.admin"
    # "admin" is Django's own.
    label = "cachalot_admin"
    verbose_name = "Cachalot"

    def ready(self) -> None:
        """Have this process count, whatever was read of the settings until now."""
        follow_settings()
        checks.register(check_needed_apps, "cachalot", checks.Tags.compatibility)


def check_needed_apps(**kwargs: object) -> list[checks.CheckMessage]:
    """Check that there are an admin for the page and a cache that it tells of."""
    if not apps.is_installed(CachalotAdminConfig.name):
        return []  # it was, when this was registered
    missing = [name for name in _NEEDED if not apps.is_installed(name)]
    return [message("cachalot.E017", missing=listed(missing))] if missing else []

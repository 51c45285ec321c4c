"""Every test starts with empty caches and a process that owes them nothing."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.management import create_permissions
from django.contrib.contenttypes.management import create_contenttypes
from django.core.cache import caches
from django.db.models.signals import post_migrate

from cachalot.core.cache import door, guard
from cachalot.core.cache.local import local_tier
from cachalot.settings import DEFAULTS


@pytest.fixture(scope="session", autouse=True)
def _cheap_flush() -> None:
    """Leave out what takes most of the time after each test that commits."""
    post_migrate.disconnect(
        create_permissions, dispatch_uid="django.contrib.auth.management.create_permissions"
    )
    post_migrate.disconnect(create_contenttypes)


@pytest.fixture(autouse=True)
def _empty_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    from django.contrib.contenttypes.models import ContentType

    # What one test owes must not be settled in the middle of another.
    monkeypatch.setattr(guard, "start_daemon_timer", lambda seconds, function: None)
    # Its rows went with the flush after the test before.
    ContentType.objects.clear_cache()
    for cache_alias in caches:
        caches[cache_alias].clear()
    door._guards.clear()
    local_tier.clear()


@pytest.fixture
def local_tier_by_default(settings: Any) -> None:
    """Have the local tier, also in a run of the suite without it."""
    settings.CACHALOT_LOCAL_SIZE = DEFAULTS["CACHALOT_LOCAL_SIZE"]

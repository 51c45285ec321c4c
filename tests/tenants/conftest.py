"""These tests need settings of their own: ``pytest --ds=tests.tenants.settings tests/tenants``."""

from __future__ import annotations

from django.conf import settings

# A run of the whole suite has other settings, and may be in an environment without django-tenants.
collect_ignore_glob = [] if settings.SETTINGS_MODULE == "tests.tenants.settings" else ["*"]

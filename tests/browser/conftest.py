"""These tests need settings of their own: ``pytest --ds=tests.browser.settings tests/browser``.

They drive Chromium, without a window. ``CACHALOT_SCREENSHOTS=docs/images`` also has them take the
pictures of the panel that the documentation shows.
"""

from __future__ import annotations

from django.conf import settings

# A run of the whole suite has other settings, and may be in an environment without selenium.
collect_ignore_glob = [] if settings.SETTINGS_MODULE == "tests.browser.settings" else ["*"]

"""Whether something above cachalot keeps whole pages."""

from __future__ import annotations

from django.conf import settings
from django.core import checks

from cachalot.checks.messages import message

_PAGE_CACHES = (
    "django.middleware.cache.FetchFromCacheMiddleware",
    "django.middleware.cache.CacheMiddleware",
)


def check_middleware(**kwargs: object) -> list[checks.CheckMessage]:
    """Check that pages are not kept by Django's per-site cache, which knows of no table."""
    return [
        message(
            "cachalot.W018",
            middleware=middleware,
            seconds=settings.CACHE_MIDDLEWARE_SECONDS,
        )
        for middleware in _PAGE_CACHES
        if middleware in settings.MIDDLEWARE
    ]

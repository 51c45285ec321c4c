"""The Django cache in use."""

from __future__ import annotations

from django.core.cache import caches
from django.core.cache.backends.base import BaseCache

from cachalot.settings import cachalot_settings


class CacheHandler:
    """Gives the cache that holds the results."""

    def get_cache(self, cache_alias: str | None = None, db_alias: str | None = None) -> BaseCache:
        """Return the cache ``cache_alias``, by default the one ``CACHALOT_CACHE`` names.

        The results of all databases lie in one cache, so ``db_alias`` changes nothing. Raise
        ``InvalidCacheBackendError`` for an alias that is not in ``CACHES``.
        """
        return caches[cache_alias or cachalot_settings.CACHALOT_CACHE]


cachalot_caches = CacheHandler()

"""Whether the cache that ``CACHALOT_CACHE`` names is suitable."""

from __future__ import annotations

import logging
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.memcached import BaseMemcachedCache
from django.core.cache.backends.redis import RedisCache

from cachalot.checks.messages import listed, message, suggestion
from cachalot.core.cache.backends import (
    client_that_may_reroute,
    lies_in_database,
    option_that_hides_failures,
    paths_of,
    reads_from_replicas,
    what_serializer_spoils,
)
from cachalot.core.cache.raw_following import Following
from cachalot.core.cache.sides import backend_of
from cachalot.settings import SUPPORTED_CACHE_BACKENDS, configured

logger = logging.getLogger("cachalot")

# Known, and good for nothing but switching caches off.
_DUMMY = "django.core.cache.backends.dummy.DummyCache"


def check_cache(**kwargs: object) -> list[checks.CheckMessage]:
    """Check the cache that ``CACHALOT_CACHE`` names. Its client is made, and asked nothing."""
    alias = configured("CACHALOT_CACHE")
    if not isinstance(alias, str) or alias not in settings.CACHES:
        near, aliases = suggestion(alias, settings.CACHES), listed(settings.CACHES)
        return [message("cachalot.E003", alias=alias, suggestion=near, aliases=aliases)]
    try:
        cache = caches[alias]
        make_client(cache)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        return [message("cachalot.E004", alias=alias, error=reason)]
    config: Any = settings.CACHES[alias]
    backend, location = config["BACKEND"], config.get("LOCATION")
    suitable = listed(SUPPORTED_CACHE_BACKENDS - {_DUMMY})
    if lies_in_database(cache):
        return [message("cachalot.W005", alias=alias, backend=backend, suitable=suitable)]
    backends = {backend, *paths_of(type(cache))}
    messages = []
    if backends.isdisjoint(SUPPORTED_CACHE_BACKENDS):
        messages.append(message("cachalot.W001", alias=alias, backend=backend, suitable=suitable))
    if (client := client_that_may_reroute(cache)) is not None:
        messages.append(message("cachalot.E020", alias=alias, client=client, location=location))
    if (spoilt := what_serializer_spoils(cache)) is not None:
        messages.append(message("cachalot.W014", alias=alias, spoilt=spoilt))
    options = config.get("OPTIONS") or {}
    option, value = option_that_hides_failures(backends, options)
    if value:
        messages.append(message("cachalot.W007", alias=alias, option=option, value=value))
    if reads_from_replicas(backends, location, options) and not _has_known_client(cache):
        messages.append(message("cachalot.W008", alias=alias, location=location))
    return messages


def usable_cache() -> tuple[str, BaseCache] | None:
    """Return the cache that ``CACHALOT_CACHE`` names, by its alias; None for E003 and E004."""
    alias = configured("CACHALOT_CACHE")
    if not isinstance(alias, str) or alias not in settings.CACHES:
        return None
    try:
        cache = caches[alias]
        make_client(cache)
    except Exception as error:
        logger.debug("The cache %r could not be checked: %r", alias, error)
        return None
    return alias, cache


def make_client(cache: Any) -> None:
    """Make the client of a cache, and a connection that is not opened: no server is asked.

    Django leaves both to the first call of the cache. Raise what they raise of a package that is
    not installed, or of what the cache is configured with.
    """
    client: Any
    if isinstance(cache, BaseMemcachedCache):
        client = getattr(cache, "_cache")  # noqa: B009 (the type of it is unknown)
    elif isinstance(cache, RedisCache):
        client = cache._cache.get_client(write=True)
    elif "django_redis.client.default.DefaultClient" in paths_of(
        type(getattr(cache, "client", None))
    ):
        client = cache.client.get_client(write=True)
    else:
        return
    pool = getattr(client, "connection_pool", None)
    if pool is not None:
        pool.connection_class(**pool.connection_kwargs)


def _has_known_client(cache: BaseCache) -> bool:
    """Whether a Redis is asked on connections to its primary alone, past Django's API."""
    try:
        return not isinstance(backend_of(cache), Following)
    except ImportError:
        return False  # the client is not installed, as whoever uses the cache is told

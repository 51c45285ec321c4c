"""System checks of what is right on one's own machine and wrong in production."""

from __future__ import annotations

import logging
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache

from cachalot.checks import message_from
from cachalot.settings import cachalot_settings

logger = logging.getLogger("cachalot")

#: Every id with its message and hint, as in ``checks.MESSAGES``. ``manage.py check --deploy`` runs
#: them.
MESSAGES = {
    "cachalot.W009": (
        "CACHALOT_CACHE is {alias!r}, which lies in the memory of each process. Where several "
        "processes use one database, a write in one leaves stale results in the others.",
        "Use Redis or Memcached, unless one process alone runs this project, commands and task "
        "queues included.",
    ),
    "cachalot.W010": (
        "CACHALOT_TIMEOUT is {timeout!r}, so nothing is kept.",
        "Use None, which keeps results until they are invalidated, or a number of seconds above "
        "0. To switch caching off, set CACHALOT_ENABLED to False.",
    ),
    "cachalot.W011": (
        "CACHALOT_CACHE is {alias!r}, a Redis server that {problem}.",
        "Set maxmemory, and maxmemory-policy to 'allkeys-lru' or 'allkeys-lfu'. What is evicted "
        "is read from the database again, and never stale.",
    ),
}


def check_timeout(**kwargs: object) -> list[checks.CheckMessage]:
    """Check that results are kept at all."""
    timeout = cachalot_settings.CACHALOT_TIMEOUT
    if timeout == 0 and not isinstance(timeout, bool):
        return [message_from(MESSAGES, "cachalot.W010", timeout=timeout)]
    return []


def check_cache(**kwargs: object) -> list[checks.CheckMessage]:
    """Check what the cache does in production. A Redis server is asked for its limits."""
    alias = cachalot_settings.CACHALOT_CACHE
    if not isinstance(alias, str) or alias not in settings.CACHES:
        return []  # E003
    try:
        cache = caches[alias]
    except Exception as error:
        logger.debug("The cache %r could not be checked: %r", alias, error)  # E004
        return []
    if isinstance(cache, LocMemCache):
        return [message_from(MESSAGES, "cachalot.W009", alias=alias)]
    problem = _problem_of_redis(cache)
    return (
        []
        if problem is None
        else [message_from(MESSAGES, "cachalot.W011", alias=alias, problem=problem)]
    )


def _problem_of_redis(cache: Any) -> str | None:
    """Return what will happen to a full Redis; None for no problem, or if it cannot be told."""
    try:
        # Of Django (django/core/cache/backends/redis.py) and of django-redis.
        client: Any = getattr(cache, "_cache", None) or getattr(cache, "client", None)
        if not hasattr(client, "get_client"):
            return None
        # INFO is allowed where a provider forbids CONFIG.
        memory = client.get_client(write=True).info("memory")
        limit, policy = int(memory["maxmemory"]), str(memory["maxmemory_policy"])
    except Exception as error:
        logger.debug("The memory of Redis could not be checked: %r", error)
        return None
    keeps_for_ever = cachalot_settings.CACHALOT_TIMEOUT is None
    if limit == 0:
        # Results with a timeout go by themselves.
        return "has no maxmemory, and results never expire" if keeps_for_ever else None
    if policy == "noeviction":
        return "refuses every write once it is full, because its maxmemory-policy is 'noeviction'"
    if policy.startswith("volatile-") and keeps_for_ever:
        return (
            f"refuses every write once it is full, because its maxmemory-policy {policy!r} evicts "
            "only what expires, and results never do"
        )
    if policy == "volatile-ttl":
        return (
            f"evicts what expires first, by its maxmemory-policy {policy!r}, and so the marks of "
            "writers at work before any result"
        )
    return None


CHECKS = (check_timeout, check_cache)

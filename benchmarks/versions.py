"""What a contender's process runs on."""

from __future__ import annotations

import sys
from importlib import metadata

from django.apps import apps
from django.conf import settings
from django.db import connection

PACKAGES = (
    "Django",
    "psycopg",
    "redis",
    "django-redis",
    "pymemcache",
    "django-cachalot",
    "django-cacheops",
)


def package_versions(uses_tree: bool) -> dict[str, str]:
    """Return the versions of Python and of what is installed.

    ``uses_tree`` tells that ``cachalot`` is this checkout's, whatever is installed.
    """
    versions = {"Python": sys.version.split()[0]}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    if uses_tree:
        versions.pop("django-cachalot", None)
        module = sys.modules[apps.get_app_config("cachalot").name]
        versions["cachalot"] = f"{module.__version__} (this tree)"
    return versions


# Each client is installed where the stack needs it.


def server_versions() -> dict[str, str]:
    """Return the versions of the database and of the cache's server, if it has one."""
    versions = {connection.display_name: ".".join(map(str, connection.get_database_version()))}
    cache = settings.CACHES["default"]
    if "redis" in cache["BACKEND"]:
        import redis

        versions["Redis"] = redis.Redis.from_url(cache["LOCATION"]).info("server")["redis_version"]
    elif "memcached" in cache["BACKEND"]:
        import pymemcache

        stats = pymemcache.Client(cache["LOCATION"]).stats()
        versions["memcached"] = stats[b"version"].decode()
    return versions


def cached_keys() -> int:
    """Return how many keys clearing the cache would delete; 0 for another cache than Redis."""
    cache = settings.CACHES["default"]
    if "redis" not in cache["BACKEND"]:
        return 0
    import redis

    return int(redis.Redis.from_url(cache["LOCATION"]).dbsize())

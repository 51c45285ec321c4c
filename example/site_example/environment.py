"""Read the database and the cache of the site from URLs."""

from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

DATABASE_ENGINES = {
    "sqlite": "django.db.backends.sqlite3",
    "postgres": "django.db.backends.postgresql",
    "postgresql": "django.db.backends.postgresql",
    "mysql": "django.db.backends.mysql",
}
CACHE_BACKENDS = {
    "locmem": "django.core.cache.backends.locmem.LocMemCache",
    "redis": "django.core.cache.backends.redis.RedisCache",
    "memcached": "django.core.cache.backends.memcached.PyMemcacheCache",
    "file": "django.core.cache.backends.filebased.FileBasedCache",
}
# LocMemCache and FileBasedCache throw entries away above 300 of them, fewer than one page has.
MAX_ENTRIES = 1_000_000


def database_from_url(url: str) -> dict[str, Any]:
    """Return the ``DATABASES`` entry that ``url`` describes.

    ``sqlite:///name`` is relative to the working directory, ``sqlite:////name`` is absolute;
    the others are ``scheme://user:password@host:port/name``, every part percent-encoded and all
    but the name optional. A query string becomes ``OPTIONS``.

    Raise ImproperlyConfigured when the scheme is unknown or the name is missing.
    """
    parts = urlsplit(url)
    engine = _find_by_scheme("DATABASE_URL", parts, DATABASE_ENGINES)
    name = unquote(parts.path.removeprefix("/"))
    if not name:
        message = "DATABASE_URL names no database: write it as scheme://user:password@host/name."
        raise ImproperlyConfigured(message)
    database: dict[str, Any] = {"ENGINE": engine, "NAME": name}
    if parts.scheme != "sqlite":
        database |= {
            "USER": unquote(parts.username or ""),
            "PASSWORD": unquote(parts.password or ""),
            "HOST": unquote(parts.hostname or ""),
            "PORT": str(parts.port or ""),
        }
    if parts.query:
        database["OPTIONS"] = dict(parse_qsl(parts.query))
    return database


def cache_from_url(url: str, key_prefix: str) -> dict[str, Any]:
    """Return the ``CACHES`` entry that ``url`` describes.

    ``key_prefix`` keeps several entries made from one URL apart. The forms are ``locmem://``,
    ``redis://user:password@host:port/number``, ``memcached://host:port`` and ``file:///directory``.

    Raise ImproperlyConfigured when the scheme is unknown, or the host or directory is missing.
    """
    parts = urlsplit(url)
    cache: dict[str, Any] = {
        "BACKEND": _find_by_scheme("CACHE_URL", parts, CACHE_BACKENDS),
        "KEY_PREFIX": key_prefix,
    }
    if parts.scheme == "locmem":
        return cache | {"LOCATION": key_prefix, "OPTIONS": {"MAX_ENTRIES": MAX_ENTRIES}}
    if parts.scheme == "file":
        location = unquote(parts.path)
        # A RedisCache would hand MAX_ENTRIES on to its connections, which refuse it.
        cache["OPTIONS"] = {"MAX_ENTRIES": MAX_ENTRIES}
    else:
        location = url if parts.scheme == "redis" and parts.hostname else parts.netloc
    if not location.strip("/"):
        message = "CACHE_URL has no host or directory: write it as in redis://host:6379/0."
        raise ImproperlyConfigured(message)
    return cache | {"LOCATION": location}


def _find_by_scheme(variable: str, parts: SplitResult, backends: dict[str, str]) -> str:
    """Return the backend that the scheme of the URL in ``variable`` names.

    The message shows the scheme only: the rest of the URL may hold a password.
    """
    try:
        return backends[parts.scheme]
    except KeyError:
        message = f"{variable} has the scheme {parts.scheme!r}: use one of {', '.join(backends)}."
        raise ImproperlyConfigured(message) from None

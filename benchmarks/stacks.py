"""The databases and caches that the contenders run on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from benchmarks.link import link_to


@dataclass(frozen=True)
class Servers:
    """Where the servers listen. What is in this Redis database and this memcached gets lost."""

    postgresql: str
    redis: str
    memcached: str

    @contextmanager
    def behind_links(self, milliseconds: float) -> Iterator[Servers]:
        """Yield the same servers, each behind a link that takes so long."""
        with ExitStack() as links:

            def linked(address: str, port: int) -> str:
                url = urlsplit(address if "//" in address else f"//{address}")
                near = links.enter_context(
                    link_to(url.hostname or "127.0.0.1", url.port or port, milliseconds)
                )
                user = f"{url.netloc.rpartition('@')[0]}@" if "@" in url.netloc else ""
                return urlunsplit(url._replace(netloc=f"{user}127.0.0.1:{near}")).removeprefix("//")

            yield Servers(
                linked(self.postgresql, 5432),
                linked(self.redis, 6379),
                linked(self.memcached, 11211) if self.memcached else "",
            )


@dataclass(frozen=True)
class Stack:
    """A database and a cache."""

    name: str
    title: str
    database: str
    cache: str

    def databases(self, servers: Servers, directory: Path, contender: str) -> dict[str, Any]:
        """Return ``DATABASES``: each contender has a database of its own.

        A commit does not wait for the disk, whose moods would hide what is to be seen.
        """
        if self.database == "sqlite":
            database: dict[str, Any] = {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": str(directory / f"{contender}.sqlite3"),
                "OPTIONS": {"timeout": 20, "init_command": "PRAGMA synchronous=OFF;"},
            }
        else:
            url = urlsplit(servers.postgresql)
            database = {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": f"cachalot_benchmark_{os.getpid()}_{contender.replace('-', '_')}",
                "HOST": url.hostname or "",
                "PORT": url.port or "",
                "USER": unquote(url.username or ""),
                "PASSWORD": unquote(url.password or ""),
                "OPTIONS": {"options": "-c synchronous_commit=off"},
            }
        return {"default": database}

    def caches(self, servers: Servers, contender: str) -> dict[str, Any]:
        """Return ``CACHES``."""
        backends = {
            "locmem": ("django.core.cache.backends.locmem.LocMemCache", "benchmarks"),
            "redis": ("django.core.cache.backends.redis.RedisCache", servers.redis),
            "django_redis": ("django_redis.cache.RedisCache", servers.redis),
            "pymemcache": (
                "django.core.cache.backends.memcached.PyMemcacheCache",
                servers.memcached,
            ),
        }
        backend, location = backends[self.cache]
        cache: dict[str, Any] = {
            "BACKEND": backend,
            "LOCATION": location,
            "KEY_PREFIX": contender,
            "TIMEOUT": None,
        }
        if self.cache == "locmem":
            cache["OPTIONS"] = {"MAX_ENTRIES": 10_000_000}
        return {"default": cache}


STACKS = {
    stack.name: stack
    for stack in (
        Stack("sqlite-locmem", "SQLite, local memory", "sqlite", "locmem"),
        Stack("postgresql-redis", "PostgreSQL, Redis", "postgresql", "redis"),
        Stack(
            "postgresql-django_redis",
            "PostgreSQL, Redis through django-redis",
            "postgresql",
            "django_redis",
        ),
        Stack(
            "postgresql-pymemcache",
            "PostgreSQL, memcached through pymemcache",
            "postgresql",
            "pymemcache",
        ),
    )
}

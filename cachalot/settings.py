"""The ``CACHALOT_*`` settings: defaults, current values, and what is supported."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

#: The value of ``CACHALOT_DATABASES`` that means "every alias on a supported engine".
SUPPORTED_ONLY = "supported_only"

#: Engine paths that are cached, and the vendor each of them is an engine of. A wrapped engine
#: (another path, one of these vendors) counts as supported.
_VENDORS = {
    "django.db.backends.sqlite3": "sqlite",
    "django.db.backends.postgresql": "postgresql",
    "django.db.backends.mysql": "mysql",
    "django.contrib.gis.db.backends.spatialite": "sqlite",
    "django.contrib.gis.db.backends.postgis": "postgresql",
    "django.contrib.gis.db.backends.mysql": "mysql",
}

#: Dotted paths of the database engines that are cached under ``SUPPORTED_ONLY``. A project may
#: add its own or remove one; both are honoured at once.
SUPPORTED_DATABASE_ENGINES = set(_VENDORS)

#: Dotted paths of the cache backends known to be safe; subclasses of them count as well. A
#: project may add its own or remove one; the system checks honour both.
SUPPORTED_CACHE_BACKENDS = {
    "django.core.cache.backends.dummy.DummyCache",
    "django.core.cache.backends.filebased.FileBasedCache",
    "django.core.cache.backends.locmem.LocMemCache",
    "django.core.cache.backends.memcached.PyLibMCCache",
    "django.core.cache.backends.memcached.PyMemcacheCache",
    "django.core.cache.backends.redis.RedisCache",
    "django_redis.cache.RedisCache",
}

#: Every setting and its default. The documentation gives meaning and unit of each.
DEFAULTS: dict[str, Any] = {
    "CACHALOT_ENABLED": True,
    "CACHALOT_CACHE": "default",
    "CACHALOT_DATABASES": SUPPORTED_ONLY,
    "CACHALOT_TIMEOUT": None,
    "CACHALOT_CACHE_RANDOM": False,
    "CACHALOT_CACHE_ITERATORS": True,
    "CACHALOT_INVALIDATE_RAW": True,
    "CACHALOT_ONLY_CACHABLE_TABLES": (),
    "CACHALOT_ONLY_CACHABLE_APPS": (),
    "CACHALOT_UNCACHABLE_TABLES": ("django_migrations",),
    "CACHALOT_UNCACHABLE_APPS": (),
    "CACHALOT_ADDITIONAL_TABLES": (),
    "CACHALOT_DEPENDENT_TABLES": {},
    "CACHALOT_FINAL_SQL_CHECK": False,
    "CACHALOT_USE_UNSUPPORTED_DATABASE": False,
    "CACHALOT_ADDITIONAL_SUPPORTED_DATABASES": (),
    "CACHALOT_QUERY_KEYGEN": "cachalot.utils.get_query_cache_key",
    "CACHALOT_TABLE_KEYGEN": "cachalot.utils.get_table_cache_key",
    "CACHALOT_CACHE_ERRORS": "bypass",
    "CACHALOT_TIMEOUTS": {},
    "CACHALOT_LOCAL_SIZE": 16 * 1024 * 1024,
    "CACHALOT_MAX_STALENESS": 0.0,
    "CACHALOT_REPLICAS": {},
    "CACHALOT_STATS": False,
}


class Settings:
    """The current value of every ``CACHALOT_*`` setting, as an attribute.

    Reading an undefined setting gives its default. Values follow ``override_settings`` (and
    whatever else sends Django's ``setting_changed``) at once, in every thread; after assigning
    to ``django.conf.settings`` by hand, call ``reload()``.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._generation = 0

    # Reached only where the instance's dictionary has no such value yet, so a hot path pays an
    # attribute access for a setting.
    def __getattr__(self, name: str) -> Any:
        if name not in DEFAULTS:
            raise AttributeError(
                f"{name!r} is not a cachalot setting; the known ones are {', '.join(DEFAULTS)}."
            )
        generation = self._generation
        value = getattr(settings, name, DEFAULTS[name])
        with self._lock:
            # A change while the value was being read must not be hidden by keeping the old one.
            if generation == self._generation:
                self.__dict__[name] = value
        return value

    def reload(self) -> None:
        """Forget every value read so far; the next access asks Django again."""
        with self._lock:
            self._generation += 1
            for name in DEFAULTS:
                self.__dict__.pop(name, None)
        for forget in _memos:
            forget()

    def query_key_generator(self) -> Callable[..., str]:
        """Return the function that ``CACHALOT_QUERY_KEYGEN`` names."""
        return _callable(self.CACHALOT_QUERY_KEYGEN)

    def has_own_query_keys(self) -> bool:
        """Whether a project names queries by a function of its own."""
        return bool(DEFAULTS["CACHALOT_QUERY_KEYGEN"] != self.CACHALOT_QUERY_KEYGEN)

    def table_key_generator(self) -> Callable[..., str]:
        """Return the function that ``CACHALOT_TABLE_KEYGEN`` names."""
        return _callable(self.CACHALOT_TABLE_KEYGEN)


@lru_cache(maxsize=8)
def _callable(path: str | Callable[..., str]) -> Callable[..., str]:
    return import_string(path) if isinstance(path, str) else path


# Functions that clear what was derived from settings.
_memos: list[Callable[[], None]] = []


def forget_on_change(forget: Callable[[], None]) -> None:
    """Have ``forget`` called whenever a setting has changed: it clears a memo built on settings."""
    _memos.append(forget)


cachalot_settings = Settings()


def reload_on_change(*, setting: str, **kwargs: object) -> None:
    """Receive Django's ``setting_changed``."""
    if setting in DEFAULTS or setting in {"CACHES", "DATABASES", "INSTALLED_APPS"}:
        cachalot_settings.reload()


def is_supported_engine(engine: str, vendor: str) -> bool:
    """Whether queries of this engine are cached under ``SUPPORTED_ONLY``.

    ``engine`` is the path in ``DATABASES``; ``vendor`` is the connection's, which tells what a
    wrapped engine wraps.
    """
    if engine in SUPPORTED_DATABASE_ENGINES:
        return True
    if engine in _VENDORS:
        return False  # the project removed it
    if engine in cachalot_settings.CACHALOT_ADDITIONAL_SUPPORTED_DATABASES:
        return True
    return any(
        vendor == known and path in SUPPORTED_DATABASE_ENGINES for path, known in _VENDORS.items()
    )


def is_cached_database(db_alias: str, engine: str, vendor: str) -> bool:
    """Whether ``CACHALOT_DATABASES`` lets this alias be cached."""
    aliases = cachalot_settings.CACHALOT_DATABASES
    if aliases == SUPPORTED_ONLY:
        return is_supported_engine(engine, vendor) or bool(
            cachalot_settings.CACHALOT_USE_UNSUPPORTED_DATABASE
        )
    return db_alias in aliases

"""Django's settings for the suite. The environment chooses database and cache."""

from __future__ import annotations

import os
import tempfile
from typing import Any

DATABASE = os.environ.get("CACHALOT_TEST_DB", "sqlite")
CACHE = os.environ.get("CACHALOT_TEST_CACHE", "locmem")

_DATABASES: dict[str, dict[str, Any]] = {
    "sqlite": {"ENGINE": "django.db.backends.sqlite3", "NAME": "tests.sqlite3"},
    "postgresql": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "cachalot",
        "USER": "postgres",
        "HOST": "127.0.0.1",
    },
    "mysql": {
        "ENGINE": "django.db.backends.mysql",
        "NAME": "cachalot",
        "USER": "root",
        "HOST": "127.0.0.1",
        "OPTIONS": {"charset": "utf8mb4"},
    },
}
_CACHES = {
    "locmem": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "LOCATION": "default",
        "OPTIONS": {"MAX_ENTRIES": 100_000},
    },
    "file": {
        "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
        "LOCATION": os.path.join(tempfile.gettempdir(), f"cachalot-tests-{os.getuid()}"),
        "OPTIONS": {"MAX_ENTRIES": 100_000},
    },
    "redis": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": "redis://127.0.0.1:6379/8",
    },
    "django_redis": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": "redis://127.0.0.1:6379/8",
    },
    "django_valkey": {
        "BACKEND": "django_valkey.cache.ValkeyCache",
        "LOCATION": "valkey://127.0.0.1:6379/8",
    },
    "pymemcache": {
        "BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache",
        "LOCATION": "127.0.0.1:11211",
    },
    "pylibmc": {
        "BACKEND": "django.core.cache.backends.memcached.PyLibMCCache",
        "LOCATION": "127.0.0.1:11211",
        # None, its default, makes pylibmc complain on Python 3.13.
        "OPTIONS": {"behaviors": {}},
    },
}

DATABASES: dict[str, dict[str, Any]] = {
    "default": _DATABASES[DATABASE],
    # Another database, always SQLite, and another name for the default one.
    "other": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": "other.sqlite3",
        "TEST": {
            "NAME": os.path.join(tempfile.gettempdir(), f"cachalot-other-{os.getpid()}.sqlite3")
        },
    },
    "mirror": {**_DATABASES[DATABASE], "TEST": {"MIRROR": "default"}},
}
if name := os.environ.get("CACHALOT_TEST_NAME"):
    # Another process of a running test.
    DATABASES["default"]["NAME"] = name
    DATABASES["mirror"]["NAME"] = name
if DATABASE == "sqlite":
    # A file, so that a second connection or process sees the same database.
    DATABASES["default"] = {
        **DATABASES["default"],
        "OPTIONS": {"timeout": 20},
        "TEST": {
            "NAME": os.path.join(tempfile.gettempdir(), f"cachalot-tests-{os.getpid()}.sqlite3")
        },
    }
else:
    # Of this process, so that two runs can use one server.
    DATABASES["default"] = {
        **DATABASES["default"],
        "TEST": {"NAME": f"test_cachalot_{os.getpid()}"},
    }
CACHES = {
    "default": _CACHES[CACHE],
    "second": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "LOCATION": "second",
    },
}
INSTALLED_APPS = [
    "cachalot",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "tests.library",
    "tests.shapes",
]
if DATABASE == "postgresql":
    INSTALLED_APPS.append("django.contrib.postgres")
# Apps without migrations are made first, and the suite's own models refer to content types.
MIGRATION_MODULES = {"auth": None, "contenttypes": None}
TEMPLATES = [
    {"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True},
]
# 0 runs the suite without the local tier.
CACHALOT_LOCAL_SIZE = int(os.environ.get("CACHALOT_TEST_LOCAL_SIZE", 16 * 1024 * 1024))
# 0 has readers wait for whatever was computed before.
CACHALOT_WAIT_ABOVE = float(os.environ.get("CACHALOT_TEST_WAIT_ABOVE", 0.05))
# Of this run, and of the processes that its tests start.
CACHALOT_BOARD = os.environ.setdefault(
    "CACHALOT_TEST_BOARD", os.path.join(tempfile.gettempdir(), f"cachalot-board-{os.getpid()}")
)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SECRET_KEY = "tests"
USE_TZ = True

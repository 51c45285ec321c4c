#!/usr/bin/env python
"""Run the test suite on one database and one cache; by default SQLite and local memory."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parent
DATABASES = ("sqlite", "postgresql", "mysql")
CACHES = ("locmem", "file", "redis", "django_redis", "django_valkey", "pymemcache", "pylibmc")


def main() -> int:
    """Run pytest and return its exit code, or exit with the reason why it cannot run."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="Other arguments go to pytest.", allow_abbrev=False
    )
    parser.add_argument("--db", choices=DATABASES, default="sqlite")
    parser.add_argument("--cache", choices=CACHES, default="locmem")
    options, pytest_arguments = parser.parse_known_args()

    os.chdir(ROOT)
    os.environ.update(
        CACHALOT_TEST_DB=options.db,
        CACHALOT_TEST_CACHE=options.cache,
        DJANGO_SETTINGS_MODULE="tests.settings",
    )
    for module in ("django", "pytest", "pytest_django"):
        if importlib.util.find_spec(module) is None:
            sys.exit(f"{module} is not installed: python -m pip install -e '.[test]'")
    for kind, name, probe in (
        ("database", options.db, probe_database),
        ("cache", options.cache, probe_cache),
    ):
        try:
            with warnings.catch_warnings():
                # Of failed attempts, which the exception tells as well.
                warnings.simplefilter("ignore")
                probe()
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            sys.exit(
                f"The {kind} {name!r} cannot be used: {reason} "
                "(is its driver installed, and does its server run as tests/settings.py says?)"
            )

    import pytest

    return pytest.main(pytest_arguments)


# Handlers of their own, so that the suite finds Django as it would without these probes. Neither
# imports cachalot: coverage may start later.


def probe_database() -> None:
    """Raise what the driver or the server of the database raises."""
    from django.conf import settings
    from django.db.utils import ConnectionHandler

    connection = ConnectionHandler(settings.DATABASES)["default"]
    if connection.vendor != "sqlite":
        # The database named in the settings need not exist: the suite makes its own.
        with connection._nodb_cursor() as cursor:
            cursor.execute("SELECT 1")


def probe_cache() -> None:
    """Raise what the client or the server of the cache raises, or if it keeps nothing."""
    from django.conf import settings
    from django.core.cache import CacheHandler

    cache = CacheHandler(settings.CACHES)["default"]
    cache.set("cachalot-runtests", "kept", timeout=60)
    if cache.get("cachalot-runtests") != "kept":
        raise ConnectionError("it does not keep what is stored in it")
    cache.close()


if __name__ == "__main__":
    sys.exit(main())

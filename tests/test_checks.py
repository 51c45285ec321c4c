"""The system checks report what is configured wrongly, and nothing else."""

from __future__ import annotations

import json
import pickle
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from django.conf import settings
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.memcached import PyMemcacheCache
from django.core.cache.backends.redis import RedisCache
from django.core.checks import CheckMessage, run_checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connection, connections
from django.test import SimpleTestCase, modify_settings, override_settings

from cachalot.checks.messages import MESSAGES
from cachalot.settings import (
    DEFAULTS,
    SUPPORTED_CACHE_BACKENDS,
    SUPPORTED_DATABASE_ENGINES,
    cachalot_settings,
)

LOCMEM = "django.core.cache.backends.locmem.LocMemCache"
REDIS = "django.core.cache.backends.redis.RedisCache"


class UnknownCache(BaseCache):
    def __init__(self, location: object, params: dict[str, Any]) -> None:
        super().__init__(params)


class WrappedCache(LocMemCache):
    """What packages do that add metrics, for instance."""


class UndrivenCache(UnknownCache):
    def __init__(self, location: object, params: dict[str, Any]) -> None:
        raise ImportError("No module named 'a_driver'")


class ExportedCache(UnknownCache):
    __module__ = "project.caches.backend"


# Stand-ins under the names of packages that need not be installed.


class DjangoRedis(UnknownCache):
    __module__, __qualname__ = "django_redis.cache", "RedisCache"


class MisplacedCache(PyMemcacheCache):
    def close(self, **kwargs: Any) -> None:
        """Django closes caches between settings, and this one has no client to close."""


class DjangoValkey(UnknownCache):
    __module__, __qualname__ = "django_valkey.cache", "ValkeyCache"


class DerivedRedis(RedisCache):
    """Of a project."""


class Pymemcache(UnknownCache):
    __module__, __qualname__ = "django.core.cache.backends.memcached", "PyMemcacheCache"


class SentinelClient:
    __module__ = "django_redis.client.sentinel"


class ShardClient:
    __module__ = "django_redis.client.sharded"


class OwnShardClient(ShardClient):
    __module__ = "project.redis"


class OfJson:
    """Takes no bytes."""

    dumps, loads = staticmethod(json.dumps), staticmethod(json.loads)

    def serialize(self, key: str, value: Any) -> tuple[str, int]:
        return json.dumps(value), 0

    def deserialize(self, key: str, value: str, flags: int) -> Any:
        return json.loads(value)


class OfPickle:
    dumps, loads = staticmethod(pickle.dumps), staticmethod(pickle.loads)


class OfLists:
    """Takes bytes, and makes lists of tuples, as MessagePack does."""

    dumps, loads = staticmethod(list), staticmethod(list)


class OfText:
    dumps, loads = staticmethod(str), staticmethod(str)


class DjangoRedisOfJson(DjangoRedis):
    client = SimpleNamespace(_serializer=OfJson())


class DjangoRedisOfText(DjangoRedis):
    client = SimpleNamespace(_serializer=OfText())


class DjangoRedisOfPickle(DjangoRedis):
    client = SimpleNamespace(_serializer=OfPickle())


class DjangoRedisOfLists(DjangoRedis):
    client = SimpleNamespace(_serializer=OfLists())


class PymemcacheOfJson(Pymemcache):
    _options: dict[str, Any] = {"serde": OfJson()}


def generate_key(*args: object) -> str:
    return "key"


@contextmanager
def databases(**engines: str) -> Iterator[None]:
    """Have databases of these engines, under aliases that the suite does not use."""
    configured = {
        alias: {**connections.settings["default"], "ENGINE": engine}
        for alias, engine in engines.items()
    }
    with mock.patch.dict(connections.settings, configured, clear=True):
        try:
            yield
        finally:
            for alias in engines:
                if hasattr(connections._connections, alias):
                    del connections[alias]


@contextmanager
def engine_of_vendor(vendor: str) -> Iterator[str]:
    """Give the path of an engine that is known by its vendor alone."""
    package, module = ModuleType("wrapping"), ModuleType("wrapping.base")
    module.DatabaseWrapper = type(  # type: ignore[attr-defined]
        "DatabaseWrapper", (type(connections["other"]),), {"vendor": vendor}
    )
    sys.modules.update({"wrapping": package, "wrapping.base": module})
    try:
        yield "wrapping"
    finally:
        del sys.modules["wrapping"], sys.modules["wrapping.base"]


def in_cache(backend: str, **config: Any) -> dict[str, Any]:
    """Return the settings that put the results into a cache of this backend."""
    return {
        "CACHALOT_CACHE": "results",
        "CACHES": {**settings.CACHES, "results": {"BACKEND": backend, **config}},
    }


#: About no setting of cachalot's.
OF_OTHERS = ("E017", "W016", "W018", "W020")


class CheckTestCase(SimpleTestCase):
    def report(self, **overrides: Any) -> list[CheckMessage]:
        with override_settings(**overrides):
            return run_checks(tags=["cachalot"])

    def assertReports(self, message_id: str | None, **overrides: Any) -> CheckMessage | None:
        """The settings get one message of this id, or none at all if it is None."""
        messages = self.report(**overrides)
        expected = [] if message_id is None else [f"cachalot.{message_id}"]
        if message_id != "W017":  # which most lists of tables bring along
            messages = [message for message in messages if message.id != "cachalot.W017"]
        self.assertEqual([message.id for message in messages], expected, messages)
        return messages[0] if messages else None

    def assertSays(self, text: str, message_id: str, **overrides: Any) -> None:
        message = self.assertReports(message_id, **overrides)
        assert message is not None
        self.assertIn(text, f"{message.msg} {message.hint}")


class VersionCheckTests(CheckTestCase):
    def test_a_version_that_was_not_tested_is_a_warning(self) -> None:
        self.assertReports(None)
        for version in ((7, 0, 0, "final", 0), (5, 1, 4, "final", 0)):
            installed = f"{version[0]}.{version[1]}"
            with self.subTest(installed), mock.patch("django.VERSION", version):
                self.assertSays(
                    f"was tested with Django 4.2, 5.2, 6.0, 6.1; this is {installed}.", "W016"
                )


class AppCheckTests(CheckTestCase):
    def test_a_page_without_an_admin_is_an_error(self) -> None:
        with modify_settings(INSTALLED_APPS={"append": "cachalot.contrib.admin"}):
            self.assertSays("and lacks 'django.contrib.admin', which it needs.", "E017")
        with modify_settings(
            INSTALLED_APPS={"append": ["django.contrib.admin", "cachalot.contrib.admin"]}
        ):
            self.assertReports(None)
        self.assertReports(None)

    def test_a_module_that_is_no_app_is_a_warning(self) -> None:
        for module, remedy in (("prometheus", "CachalotCollector"), ("opentelemetry", "call its")):
            pytest.importorskip(f"{module}_client" if module == "prometheus" else module)
            with modify_settings(INSTALLED_APPS={"append": f"cachalot.contrib.{module}"}):
                self.assertSays("which is no app and does nothing there. Take it out", "W020")
                self.assertSays(remedy, "W020")


class MiddlewareCheckTests(CheckTestCase):
    def test_a_cache_of_whole_pages_is_a_warning(self) -> None:
        path = "django.middleware.cache.{}CacheMiddleware"
        self.assertSays(
            "MIDDLEWARE has 'django.middleware.cache.FetchFromCacheMiddleware', which serves whole "
            "pages for 60 seconds, whatever",
            "W018",
            MIDDLEWARE=[path.format("Update"), path.format("FetchFrom")],
            CACHE_MIDDLEWARE_SECONDS=60,
        )
        self.assertReports(None, MIDDLEWARE=["django.middleware.common.CommonMiddleware"])


class DatabaseCheckTests(CheckTestCase):
    def test_the_databases_of_the_suite_are_supported(self) -> None:
        self.assertReports(None)
        for aliases in (["default"], ("default", "other"), {"mirror"}, frozenset({"other"})):
            with self.subTest(aliases):
                self.assertReports(None, CACHALOT_DATABASES=aliases)

    def test_no_supported_database_is_a_warning(self) -> None:
        with databases(only="django.db.backends.dummy"):
            self.assertSays("'django.db.backends.dummy'. Nothing is cached.", "W002")
            self.assertReports(None, CACHALOT_USE_UNSUPPORTED_DATABASE=True)
            self.assertReports(
                None, CACHALOT_ADDITIONAL_SUPPORTED_DATABASES=["django.db.backends.dummy"]
            )

    def test_one_supported_database_is_enough(self) -> None:
        with databases(first="django.db.backends.dummy", second="django.db.backends.sqlite3"):
            self.assertReports(None)

    def test_an_unsupported_engine_that_is_named_is_a_warning(self) -> None:
        with databases(good="django.db.backends.sqlite3", odd="django.db.backends.dummy"):
            self.assertReports(None, CACHALOT_DATABASES=["good"])
            self.assertSays(
                "'odd', whose engine 'django.db.backends.dummy' is not supported.",
                "W003",
                CACHALOT_DATABASES=["good", "odd"],
            )
            for silent in (
                {"CACHALOT_USE_UNSUPPORTED_DATABASE": True},
                {"CACHALOT_ADDITIONAL_SUPPORTED_DATABASES": ("django.db.backends.dummy",)},
            ):
                self.assertReports(None, CACHALOT_DATABASES=["odd"], **silent)

    def test_a_wrapped_engine_counts_by_what_it_wraps(self) -> None:
        for vendor, message_id in (("sqlite", None), ("postgresql", None), ("oracle", "W003")):
            with self.subTest(vendor), engine_of_vendor(vendor) as engine, databases(it=engine):
                self.assertReports(message_id, CACHALOT_DATABASES=["it"])

    def test_engines_may_be_added_and_removed(self) -> None:
        dummy, sqlite = "django.db.backends.dummy", "django.db.backends.sqlite3"
        with databases(odd=dummy, good=sqlite):
            with mock.patch.object(sys.modules["cachalot.settings"], "_VENDORS", {sqlite: "x"}):
                SUPPORTED_DATABASE_ENGINES.add(dummy)
                SUPPORTED_DATABASE_ENGINES.remove(sqlite)
                try:
                    self.assertReports(None, CACHALOT_DATABASES=["odd"])
                    self.assertReports("W003", CACHALOT_DATABASES=["good"])
                finally:
                    SUPPORTED_DATABASE_ENGINES.remove(dummy)
                    SUPPORTED_DATABASE_ENGINES.add(sqlite)

    def test_a_missing_driver_is_left_to_django(self) -> None:
        with databases(only="no_such.engine"):
            with self.assertLogs("cachalot", "DEBUG") as logs:
                self.assertReports(None)
                self.assertReports(None, CACHALOT_DATABASES=["only"])
        self.assertIn("'no_such.engine' could not be checked", logs.output[0])

    def test_an_empty_collection_is_a_warning(self) -> None:
        for empty in ([], (), set(), frozenset()):
            with self.subTest(empty):
                self.assertSays(repr(empty), "W004", CACHALOT_DATABASES=empty)

    def test_a_client_of_memcached_that_reroutes_is_an_error(self) -> None:
        backend = "tests.cache.test_rerouting.OwnCache"
        servers = ["127.0.0.1:1", "127.0.0.1:2"]
        with mock.patch("cachalot.checks.caches.SUPPORTED_CACHE_BACKENDS", {backend}):
            self.assertSays(
                "'results', whose client 'tests.cache.test_rerouting.OwnClient' may look",
                "E020",
                **in_cache(backend, LOCATION=servers),
            )
            self.assertReports(None, **in_cache(backend, LOCATION=servers[0]))

    def test_an_unknown_alias_is_an_error(self) -> None:
        self.assertSays(
            "names 'defualt', which is no alias in DATABASES. Did you mean 'default'? DATABASES "
            "has 'default', 'mirror', 'other'.",
            "E001",
            CACHALOT_DATABASES=["default", "defualt"],
        )
        self.assertSays("names ['default'],", "E001", CACHALOT_DATABASES=[["default"]])

    def test_a_wrong_type_is_an_error(self) -> None:
        for value in ("default", "", None, True, 1, {"default": True}, b"supported_only"):
            with self.subTest(value):
                self.assertSays(repr(value), "E002", CACHALOT_DATABASES=value)


class AliasCheckTests(CheckTestCase):
    places = {
        "default": {"NAME": "app"},
        "direct": {"NAME": "app", "PORT": "6432"},
        "other": {"NAME": "other"},
    }

    def assertReports(self, message_id: str | None, **overrides: Any) -> CheckMessage | None:
        postgresql = {"ENGINE": "django.db.backends.postgresql", "HOST": "", "PORT": "", "TEST": {}}
        settings = {alias: {**postgresql, **place} for alias, place in self.places.items()}
        with (
            mock.patch.dict(connections.settings, settings, clear=True),
            # Whether or not the driver is installed.
            mock.patch("cachalot.core.connection.databases._vendor_of", return_value="postgresql"),
        ):
            return super().assertReports(message_id, **overrides)

    def test_aliases_that_look_alike_are_a_warning(self) -> None:
        self.assertSays("whether 'default' leads to the same database as 'direct'.", "W013")
        self.assertSays("{'direct': 'default'}: then they share", "W013")

    def test_the_setting_answers(self) -> None:
        for aliases in ({"direct": "default"}, {"default": "direct"}, {"direct": "direct"}):
            with self.subTest(aliases):
                self.assertReports(None, CACHALOT_ALIASES=aliases)
        replicas = {"direct": {"primary": "default", "max_lag": 1}}
        self.assertReports(None, CACHALOT_REPLICAS=replicas)

    def test_aliases_are_a_map(self) -> None:
        for value in (None, ["direct"], {"direct": "nowhere"}, {1: "default"}, {"direct": None}):
            with self.subTest(value):
                self.assertSays(repr(value), "E016", CACHALOT_ALIASES=value)
        # What is added while the process runs may be named.
        self.assertReports(None, CACHALOT_ALIASES={"direct": "default", "late": "other"})


class CacheCheckTests(CheckTestCase):
    def test_places(self) -> None:
        for place in (None, "auto", "/dev/shm/site/board", Path("/tmp/board")):
            with self.subTest(place=place):
                self.assertReports(None, CACHALOT_BOARD=place)
        for value in ("board", "", "/", "./board", 3, True, b"/tmp/board", ["/tmp/board"]):
            with self.subTest(value=value):
                self.assertSays(repr(value), "E018", CACHALOT_BOARD=value)

    def test_a_backend_that_nobody_knows_is_a_warning(self) -> None:
        backend = "tests.test_checks.UnknownCache"
        self.assertSays(
            f"is 'results', whose backend '{backend}' is not known", "W001", **in_cache(backend)
        )

    def test_a_backend_may_be_added_and_removed(self) -> None:
        backend = "tests.test_checks.UnknownCache"
        SUPPORTED_CACHE_BACKENDS.add(backend)
        SUPPORTED_CACHE_BACKENDS.remove(LOCMEM)
        try:
            self.assertReports(None, **in_cache(backend))
            self.assertReports("W001", **in_cache(LOCMEM))
        finally:
            SUPPORTED_CACHE_BACKENDS.remove(backend)
            SUPPORTED_CACHE_BACKENDS.add(LOCMEM)

    def test_a_backend_counts_under_the_path_it_is_configured_by(self) -> None:
        backend = "tests.test_checks.ExportedCache"
        self.assertReports("W001", **in_cache(backend))
        SUPPORTED_CACHE_BACKENDS.add(backend)
        try:
            self.assertReports(None, **in_cache(backend))
        finally:
            SUPPORTED_CACHE_BACKENDS.remove(backend)

    def test_a_subclass_of_a_known_backend_is_suitable(self) -> None:
        self.assertReports(None, **in_cache("tests.test_checks.WrappedCache"))

    def test_the_dummy_cache_is_suitable(self) -> None:
        self.assertReports(None, **in_cache("django.core.cache.backends.dummy.DummyCache"))

    def test_other_caches_are_not_checked(self) -> None:
        self.assertReports(
            None, **{**in_cache("tests.test_checks.UnknownCache"), "CACHALOT_CACHE": "default"}
        )

    def test_a_cache_in_the_database_is_a_warning(self) -> None:
        backend = "django.core.cache.backends.db.DatabaseCache"
        self.assertSays(
            f"'{backend}' keeps its values in the database. Nothing is cached.",
            "W005",
            **in_cache(backend, LOCATION="cache_table"),
        )

    def test_an_unknown_alias_is_an_error(self) -> None:
        self.assertSays(
            "CACHALOT_CACHE is 'secondd', which is no alias in CACHES. Did you mean 'second'? "
            "CACHES has 'default', 'second'.",
            "E003",
            CACHALOT_CACHE="secondd",
        )
        for value in (None, ["default"], ""):
            with self.subTest(value):
                self.assertSays(repr(value), "E003", CACHALOT_CACHE=value)

    def test_a_cache_that_cannot_be_created_is_an_error(self) -> None:
        for backend, reason in (
            ("tests.test_checks.UndrivenCache", "ImportError: No module named 'a_driver'"),
            ("tests.test_checks.NoSuchCache", "InvalidCacheBackendError"),
        ):
            with self.subTest(backend):
                self.assertSays(reason, "E004", **in_cache(backend))

    def test_a_client_that_cannot_be_made_is_an_error(self) -> None:
        """Django makes it when the cache is first asked; nobody listens at any of these places."""
        for backend, config, reason, missing in (
            ("redis.RedisCache", {"LOCATION": "127.0.0.1:1"}, "must specify one of the", ""),
            ("redis.RedisCache", {"LOCATION": "redis://127.0.0.1:1"}, "redis", "redis"),
            (
                "redis.RedisCache",
                {"LOCATION": "redis://127.0.0.1:1", "OPTIONS": {"nothing": 1}},
                "unexpected keyword argument 'nothing'",
                "",
            ),
            ("MisplacedCache", {"LOCATION": "127.0.0.1:x"}, "invalid literal for int()", ""),
            ("memcached.PyMemcacheCache", {"LOCATION": "127.0.0.1:1"}, "pymemcache", "pymemcache"),
        ):
            package = "redis" if backend.startswith("redis") else "pymemcache"
            if not missing and find_spec(package) is None:
                continue
            modules = {name: None for name in sys.modules if name.partition(".")[0] == missing}
            modules |= dict.fromkeys([missing, f"{missing}.serde"]) if missing else {}
            place = "django.core.cache.backends" if "." in backend else "tests.test_checks"
            with self.subTest(config), mock.patch.dict(sys.modules, modules):
                self.assertSays(reason, "E004", **in_cache(f"{place}.{backend}", **config))

    @pytest.mark.skipif(find_spec("redis") is None, reason="redis is not installed")
    def test_no_server_is_asked(self) -> None:
        backend = "django.core.cache.backends.redis.RedisCache"
        with mock.patch("socket.socket", side_effect=AssertionError):
            self.assertReports(None, **in_cache(backend, LOCATION="redis://127.0.0.1:1"))

    @pytest.mark.skipif(find_spec("django_redis") is None, reason="django-redis is not installed")
    def test_the_client_of_django_redis(self) -> None:
        backend = "django_redis.cache.RedisCache"
        self.assertReports(None, **in_cache(backend, LOCATION="redis://127.0.0.1:1"))
        self.assertSays("must specify", "E004", **in_cache(backend, LOCATION="127.0.0.1:1"))

    def test_a_cache_that_keeps_nothing_is_not_recommended(self) -> None:
        unknown = self.assertReports("W001", **in_cache("tests.test_checks.UnknownCache"))
        assert unknown is not None
        self.assertNotIn("DummyCache", unknown.hint)

    def test_a_cache_that_hides_its_failures_is_a_warning(self) -> None:
        django_redis = "tests.test_checks.DjangoRedis"
        pymemcache = "tests.test_checks.Pymemcache"
        ignored = {"IGNORE_EXCEPTIONS": True}
        self.assertSays(
            "its option 'IGNORE_EXCEPTIONS' is True",
            "W007",
            **in_cache(django_redis, OPTIONS=ignored),
        )
        self.assertSays(
            "DJANGO_REDIS_IGNORE_EXCEPTIONS is True",
            "W007",
            DJANGO_REDIS_IGNORE_EXCEPTIONS=True,
            **in_cache(django_redis),
        )
        self.assertSays(
            "DJANGO_VALKEY_IGNORE_EXCEPTIONS is True",
            "W007",
            DJANGO_VALKEY_IGNORE_EXCEPTIONS=True,
            DJANGO_REDIS_IGNORE_EXCEPTIONS=False,
            **in_cache("tests.test_checks.DjangoValkey"),
        )
        self.assertSays(
            "its option 'ignore_exc' is True",
            "W007",
            **in_cache(pymemcache, OPTIONS={"ignore_exc": True}),
        )
        self.assertReports(
            None,
            DJANGO_REDIS_IGNORE_EXCEPTIONS=True,
            **in_cache(django_redis, OPTIONS={"IGNORE_EXCEPTIONS": False}),
        )
        self.assertReports(None, DJANGO_REDIS_IGNORE_EXCEPTIONS=True, **in_cache(pymemcache))
        self.assertReports(None, **in_cache(LOCMEM, OPTIONS=ignored))

    def test_a_serializer_that_spoils_what_it_is_given_is_a_warning(self) -> None:
        for name in ("DjangoRedisOfJson", "DjangoRedisOfText", "PymemcacheOfJson"):
            with self.subTest(name):
                backend = f"tests.test_checks.{name}"
                self.assertSays("'results', whose serializer spoils", "W014", **in_cache(backend))
        for name in ("DjangoRedisOfPickle", "DjangoRedisOfLists"):
            self.assertReports(None, **in_cache(f"tests.test_checks.{name}"))
        pytest.importorskip("redis")
        self.assertSays(
            "Object of type bytes is not JSON serializable",
            "W014",
            **in_cache(REDIS, LOCATION="redis://", OPTIONS={"serializer": OfJson}),
        )

    @mock.patch("cachalot.checks.caches.make_client")
    def test_a_redis_cache_with_replicas_is_a_warning(self, make_client: mock.Mock) -> None:
        one, two = "redis://127.0.0.1:1", "redis://127.0.0.1:2"
        django_redis = "tests.test_checks.DjangoRedis"
        derived = "tests.test_checks.DerivedRedis"
        for location in ([one, two], (one, two), f"{one};{two}", f"{one},{two}"):
            for backend in (derived, django_redis, "tests.test_checks.DjangoValkey"):
                with self.subTest(backend, location=location):
                    self.assertSays(repr(location), "W008", **in_cache(backend, LOCATION=location))
        for location in (one, [one], ""):
            for backend in (REDIS, django_redis):
                with self.subTest(backend, location=location):
                    self.assertReports(None, **in_cache(backend, LOCATION=location))
        self.assertReports(None, **in_cache(LOCMEM, LOCATION=f"{one},{two}"))
        # The primary alone is asked.
        redis = pytest.importorskip("redis")
        self.assertReports(None, **in_cache(REDIS, LOCATION=[one, two]))
        with mock.patch.object(redis.Redis, "execute_command", autospec=True):
            self.assertSays("Redis", "W008", **in_cache(REDIS, LOCATION=[one, two]))

    def test_the_client_of_django_redis_tells_what_its_servers_are(self) -> None:
        one, two = "redis://127.0.0.1:1", "redis://127.0.0.1:2"
        for client, location, message_id in (
            ("SentinelClient", one, "W008"),
            ("ShardClient", [one, two], None),
            ("OwnShardClient", [one, two], None),
        ):
            with self.subTest(client):
                options = {"CLIENT_CLASS": f"tests.test_checks.{client}"}
                self.assertReports(
                    message_id,
                    **in_cache("tests.test_checks.DjangoRedis", LOCATION=location, OPTIONS=options),
                )


class ValueCheckTests(CheckTestCase):
    def test_every_setting_is_checked(self) -> None:
        for name in DEFAULTS:
            with self.subTest(name):
                messages = self.report(**{name: object()})
                self.assertEqual(len(messages), 1, messages)
                self.assertIn(f"{name} is <object object", messages[0].msg)
                self.assertIs(messages[0].is_serious(), True)

    def test_every_default_is_right(self) -> None:
        self.assertReports(None, **DEFAULTS)

    def test_a_switch_is_on_or_off(self) -> None:
        for value in ("False", "", None, 2, []):
            with self.subTest(value):
                self.assertSays(repr(value), "E005", CACHALOT_ENABLED=value)
        for value in (True, False, 0, 1):
            self.assertReports(None, CACHALOT_INVALIDATE_RAW=value)

    def test_a_timeout_is_none_or_a_number_of_seconds(self) -> None:
        for value in ("60", True, -1, float("nan"), float("inf"), [60]):
            with self.subTest(value):
                self.assertSays(repr(value), "E006", CACHALOT_TIMEOUT=value)
        for value in (None, 0, 60, 0.5):
            self.assertReports(None, CACHALOT_TIMEOUT=value)

    def test_timeouts_map_tables_or_models_to_seconds(self) -> None:
        for value in ([], {"orders": "60"}, {"orders": -1}, {1: 60}, {"": 60}, None):
            with self.subTest(value):
                self.assertSays(repr(value), "E012", CACHALOT_TIMEOUTS=value)
        for value in ({}, {"orders": 60, "auth.User": None, "x": 0.5}):
            self.assertReports(None, CACHALOT_TIMEOUTS=value)

    def test_the_size_of_the_local_tier_is_a_number_of_bytes(self) -> None:
        for value in (None, -1, 1.5, "16M", True):
            with self.subTest(value):
                self.assertSays(repr(value), "E013", CACHALOT_LOCAL_SIZE=value)
        for value in (0, 2**20):
            self.assertReports(None, CACHALOT_LOCAL_SIZE=value)

    def test_a_staleness_is_a_number_of_seconds(self) -> None:
        for value in (None, -1, "1", True, float("nan")):
            with self.subTest(value):
                self.assertSays(repr(value), "E014", CACHALOT_MAX_STALENESS=value)
        for value in (0, 0.0, 1.5):
            self.assertReports(None, CACHALOT_MAX_STALENESS=value)

    def test_a_wait_is_a_number_of_seconds_or_none(self) -> None:
        for value in (-1, "1", True, float("nan")):
            with self.subTest(value):
                self.assertSays(repr(value), "E021", CACHALOT_WAIT_ABOVE=value)
        for value in (None, 0, 0.05):
            self.assertReports(None, CACHALOT_WAIT_ABOVE=value)

    def test_replicas_have_a_primary_and_a_lag(self) -> None:
        for value in (
            [],
            {"other": "default"},
            {"other": {"primary": "default"}},
            {"other": {"primary": "default", "max_lag": 0}},
            {"other": {"primary": "default", "max_lag": 1, "lag": 1}},
            {"other": {"primary": "nowhere", "max_lag": 1}},
            {"nowhere": {"primary": "default", "max_lag": 1}},
            {"other": {"primary": "other", "max_lag": 1}},
        ):
            with self.subTest(value):
                self.assertSays(repr(value), "E015", CACHALOT_REPLICAS=value)
        self.assertReports(
            None, CACHALOT_REPLICAS={"other": {"primary": "default", "max_lag": 0.5}}
        )

    def test_several_names_are_a_collection_of_strings(self) -> None:
        names = [name for name in DEFAULTS if name.endswith(("_TABLES", "_APPS", "_DATABASES"))]
        names = [n for n in names if n not in ("CACHALOT_DEPENDENT_TABLES", "CACHALOT_DATABASES")]
        self.assertEqual(len(names), 6)
        for name in names:
            for value in ("auth", None, ["auth", 1], [""], {"auth": 1}, iter(["auth"])):
                with self.subTest(name, value=value):
                    self.assertSays(f"{name} is {value!r}", "E007", **{name: value})
            for value in (["auth"], ("auth",), {"auth"}, frozenset({"auth"}), []):
                with self.subTest(name, value=value):
                    self.assertReports(None, **{name: value})

    def test_tables_outside_django_may_be_named(self) -> None:
        for name in ("UNCACHABLE", "ONLY_CACHABLE", "ADDITIONAL"):
            self.assertReports(None, **{f"CACHALOT_{name}_TABLES": ["legacy.orders"]})

    def test_dependent_tables_are_a_map(self) -> None:
        for value in (None, ["a"], {"a": "b"}, {"a": [1]}, {1: ["a"]}, {"a": None}):
            with self.subTest(value):
                self.assertSays(repr(value), "E008", CACHALOT_DEPENDENT_TABLES=value)
        self.assertReports(None, CACHALOT_DEPENDENT_TABLES={"a": ["b"], "b": ("c", "d")})

    def test_a_key_generator_can_be_called(self) -> None:
        for value, reason in (
            ("tests.test_checks.no_such_function", "(ImportError: "),
            ("no_such_package.function", "(ModuleNotFoundError: "),
            ("function", "(ImportError: "),
            ("tests.test_checks.LOCMEM", "nor the path of one."),
            (None, "nor the path of one."),
        ):
            for name in ("CACHALOT_QUERY_KEYGEN", "CACHALOT_TABLE_KEYGEN"):
                with self.subTest(name, value=value):
                    self.assertSays(reason, "E009", **{name: value})
        for value in ("tests.test_checks.generate_key", generate_key, max):
            self.assertReports(None, CACHALOT_QUERY_KEYGEN=value)

    def test_a_key_generator_takes_what_it_is_given(self) -> None:
        for name, value, reason in (
            ("CACHALOT_QUERY_KEYGEN", lambda: "", "(TypeError: too many positional arguments)"),
            ("CACHALOT_TABLE_KEYGEN", lambda alias: "", "(TypeError: too many positional"),
            ("CACHALOT_TABLE_KEYGEN", lambda a, b, c: "", "'c')"),
        ):
            with self.subTest(name):
                self.assertSays(reason, "E009", **{name: value})
        self.assertReports(None, CACHALOT_TABLE_KEYGEN=lambda db_alias, table, more=1: "")

    def test_aliases_that_may_be_meant_are_listed(self) -> None:
        for name, value in (
            ("CACHALOT_DATABASES", "default"),
            ("CACHALOT_REPLICAS", {"other": "defualt"}),
            ("CACHALOT_ALIASES", {"direct": "defualt"}),
        ):
            (message,) = self.report(**{name: value})
            self.assertIn("'default', 'other', 'mirror'", str(message.hint))

    def test_cache_errors_are_bypassed_or_raised(self) -> None:
        for value in ("ignore", None, True, ["raise"]):
            with self.subTest(value):
                self.assertSays(repr(value), "E010", CACHALOT_CACHE_ERRORS=value)
        self.assertReports(None, CACHALOT_CACHE_ERRORS="raise")

    def test_an_app_that_is_not_installed_is_an_error(self) -> None:
        for name in ("CACHALOT_UNCACHABLE_APPS", "CACHALOT_ONLY_CACHABLE_APPS"):
            self.assertSays(f"{name} names 'shop', which", "E011", **{name: ["auth", "shop"]})
        self.assertSays(
            "Did you mean 'auth'?", "E011", CACHALOT_UNCACHABLE_APPS=["django.contrib.auth"]
        )

    def test_what_is_no_table_and_no_model_is_a_warning(self) -> None:
        for name, mistake, said in (
            ("CACHALOT_UNCACHABLE_TABLES", ["library.Boook"], "Did you mean 'library.Book'? "),
            ("CACHALOT_ONLY_CACHABLE_TABLES", ["library_bok"], "Did you mean 'library_book'? "),
            ("CACHALOT_UNCACHABLE_TABLES", ["tests.library.models.Book"], "names 'tests.library"),
            ("CACHALOT_UNCACHABLE_TABLES", ["Book"], "names 'Book', which is neither"),
            ("CACHALOT_ADDITIONAL_TABLES", ["library.Orders"], "names 'library.Orders'"),
            ("CACHALOT_TIMEOUTS", {"library.Boook": 5}, "Did you mean 'library.Book'? "),
            ("CACHALOT_DEPENDENT_TABLES", {"library.Boook": ["stock"]}, "'library.Boook'"),
            ("CACHALOT_DEPENDENT_TABLES", {"orders": ["library.Boook"]}, "'library.Boook'"),
        ):
            with self.subTest(name, mistake=mistake):
                self.assertSays(said, "W012", **{name: mistake})

    def test_models_may_be_named_where_tables_may(self) -> None:
        self.assertReports(
            None,
            CACHALOT_UNCACHABLE_TABLES=["library.Book", "django_migrations"],
            CACHALOT_ONLY_CACHABLE_TABLES=["library.book"],
            CACHALOT_ADDITIONAL_TABLES=["library.Book_tags", "library_legacy"],
            CACHALOT_DEPENDENT_TABLES={"library.Book": ["auth.User", "library_legacy"]},
            CACHALOT_TIMEOUTS={"library.Book": 5},
        )

    def test_migrations_that_are_cached_are_a_warning(self) -> None:
        for tables in ((), ["auth_user"]):
            said = (
                f"is {tuple(tables)!r}, and leaves out 'django_migrations'. Add 'django_migrations'"
            )
            self.assertSays(said, "W017", CACHALOT_UNCACHABLE_TABLES=tables)
        self.assertReports(None, CACHALOT_UNCACHABLE_TABLES=["auth_user", "DJANGO_MIGRATIONS"])

    def test_a_misspelt_setting_is_a_warning(self) -> None:
        self.assertSays(
            "CACHALOT_TIMOUT is 60, but is not a cachalot setting. It has no effect. Did you mean "
            "'CACHALOT_TIMEOUT'?",
            "W006",
            CACHALOT_TIMOUT=60,
        )
        self.assertSays("The settings are CACHALOT_ENABLED, ", "W006", CACHALOT_QQQQQQQQQQQQQQQ=1)
        self.assertReports(None, CACHALOTTIMEOUT=60, cachalot_timeout=60)

    def test_several_faults_are_all_reported(self) -> None:
        messages = self.report(
            CACHALOT_CACHE="?", CACHALOT_TIMEOUT="?", CACHALOT_DATABASES="?", CACHALOT_ENABLED="?"
        )
        self.assertEqual(
            {message.id for message in messages},
            {"cachalot.E002", "cachalot.E003", "cachalot.E005", "cachalot.E006"},
        )


# Django's own checks of URLs want some.
urlpatterns: list[Any] = []


@override_settings(ROOT_URLCONF=__name__)
class AskedDatabaseTests(CheckTestCase):
    databases = {"default"}

    def test_a_database_that_may_be_asked_tells_its_tables(self) -> None:
        names = ["legacy.orders", "library_book", "library.Book", "django_migrations"]
        with override_settings(CACHALOT_UNCACHABLE_TABLES=names):
            self.assertEqual(run_checks(tags=["cachalot"]), [])
            self.assertEqual(self.asked(), ["CACHALOT_UNCACHABLE_TABLES names 'legacy.orders'"])
            # Unless it is told to, no check asks a database.
            with connection.execute_wrapper(self.forbid):
                run_checks(tags=["cachalot", "compatibility"])
                run_checks(tags=["cachalot", "compatibility"], databases=["default"])
        with override_settings(CACHALOT_UNCACHABLE_TABLES=["library_bok"]):
            self.assertEqual(self.asked(), ["CACHALOT_UNCACHABLE_TABLES names 'library_bok'"])

    def asked(self) -> list[str]:
        """Return what is told if a database may be asked."""
        messages = run_checks(databases=["default"])
        return [
            message.msg.partition(",")[0] for message in messages if message.id == "cachalot.W012"
        ]

    def forbid(self, execute: Any, *args: Any) -> None:
        raise AssertionError("a check has asked the database")


class MessageTests(CheckTestCase):
    def test_the_check_command_runs_them(self) -> None:
        with override_settings(CACHALOT_TIMEOUT="60"):
            with self.assertRaisesMessage(SystemCheckError, "(cachalot.E006) CACHALOT_TIMEOUT is"):
                call_command("check", tags=["cachalot"])

    def test_they_run_under_the_tag_of_django_too(self) -> None:
        with override_settings(CACHALOT_TIMEOUT="60"):
            messages = run_checks(tags=["compatibility"])
        self.assertIn("cachalot.E006", [message.id for message in messages])

    def test_the_databases_and_caches_of_the_moment_are_judged(self) -> None:
        dummy = {"default": {"ENGINE": "django.db.backends.dummy"}}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Django's, of an overridden DATABASES
            self.assertReports("W002", DATABASES=dummy)
            self.assertReports("E001", DATABASES=settings.DATABASES, CACHALOT_DATABASES=["new"])
            self.assertReports(
                None,
                DATABASES={**settings.DATABASES, "new": settings.DATABASES["default"]},
                CACHALOT_DATABASES=["new"],
            )
        self.assertReports("E003", CACHES={"other": settings.CACHES["default"]})

    def test_every_message_has_a_test(self) -> None:
        tested = set(re.findall(r'"([WE]\d{3})"', Path(__file__).read_text()))
        self.assertEqual({f"cachalot.{message_id}" for message_id in tested}, set(MESSAGES))

    def test_every_message_says_what_to_do(self) -> None:
        for message_id, (message, hint) in MESSAGES.items():
            with self.subTest(message_id):
                if message_id not in {f"cachalot.{number}" for number in OF_OTHERS}:
                    self.assertRegex(message, r"^(CACHALOT_|\{name\})")
                    self.assertRegex(message, r"\{\w+!r\}|'supported_only'")
                self.assertTrue(message.endswith(".") and hint.endswith((".", "{suggestion}")))

    def test_checking_changes_nothing(self) -> None:
        self.report(CACHALOT_TIMEOUT="60")
        self.assertIs(cachalot_settings.CACHALOT_TIMEOUT, None)

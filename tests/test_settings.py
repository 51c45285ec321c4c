"""Settings have their documented defaults and take effect at once."""

from __future__ import annotations

import datetime
import threading

from django.conf import settings as django_settings
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.test import SimpleTestCase, override_settings
from django.utils.module_loading import import_string

from cachalot import settings
from cachalot.api import cachalot_enabled, explain
from cachalot.settings import (
    DEFAULTS,
    SUPPORTED_CACHE_BACKENDS,
    SUPPORTED_DATABASE_ENGINES,
    SUPPORTED_ONLY,
    cachalot_settings,
    is_cached_database,
    is_supported_engine,
)
from tests import keygens
from tests.library.models import Author
from tests.support import CacheTestCase, count_queries, in_process, in_thread


def names() -> list[str]:
    return sorted(Author.objects.values_list("name", flat=True))


class DefaultTests(SimpleTestCase):
    def test_documented_defaults(self) -> None:
        self.assertLessEqual(
            {
                "CACHALOT_ENABLED": True,
                "CACHALOT_CACHE": "default",
                "CACHALOT_DATABASES": "supported_only",
                "CACHALOT_TIMEOUT": None,
                "CACHALOT_CACHE_RANDOM": False,
                "CACHALOT_INVALIDATE_RAW": True,
                "CACHALOT_ONLY_CACHABLE_TABLES": (),
                "CACHALOT_UNCACHABLE_TABLES": ("django_migrations",),
                "CACHALOT_QUERY_KEYGEN": "cachalot.utils.get_query_cache_key",
                "CACHALOT_TABLE_KEYGEN": "cachalot.utils.get_table_cache_key",
            }.items(),
            DEFAULTS.items(),
        )
        for name, default in DEFAULTS.items():
            with override_settings():
                if hasattr(django_settings, name):
                    delattr(django_settings, name)
                    cachalot_settings.reload()
                if name.endswith("_KEYGEN"):
                    default = import_string(default)
                self.assertEqual(getattr(cachalot_settings, name), default)

    def test_an_unknown_setting(self) -> None:
        message = "'CACHALOT_ENABELD' is not a cachalot setting. Did you mean 'CACHALOT_ENABLED'?"
        with self.assertRaisesMessage(AttributeError, message):
            _ = cachalot_settings.CACHALOT_ENABELD

    def test_overriding_takes_effect_at_once_and_ends(self) -> None:
        self.assertIs(cachalot_settings.CACHALOT_ENABLED, True)
        with override_settings(CACHALOT_ENABLED=False):
            self.assertIs(cachalot_settings.CACHALOT_ENABLED, False)
            self.assertIs(in_thread(lambda: cachalot_settings.CACHALOT_ENABLED), False)
            with override_settings(CACHALOT_TIMEOUT=5):
                self.assertEqual(cachalot_settings.CACHALOT_TIMEOUT, 5)
                self.assertIs(cachalot_settings.CACHALOT_ENABLED, False)
        self.assertIs(cachalot_settings.CACHALOT_ENABLED, True)

    def test_reload(self) -> None:
        from django.conf import settings as django_settings

        self.assertIs(cachalot_settings.CACHALOT_TIMEOUT, None)
        django_settings.CACHALOT_TIMEOUT = 7
        try:
            cachalot_settings.reload()
            self.assertEqual(cachalot_settings.CACHALOT_TIMEOUT, 7)
        finally:
            del django_settings.CACHALOT_TIMEOUT
            cachalot_settings.reload()
        self.assertIs(cachalot_settings.CACHALOT_TIMEOUT, None)

    def test_a_value_read_during_a_change_is_not_kept(self) -> None:
        """A thread that was reading the old value when it changed must not bring it back."""
        reading, changed = threading.Event(), threading.Event()

        class SlowSettings:
            def __getattr__(self, name: str) -> object:
                if name != "CACHALOT_TIMEOUT":
                    raise AttributeError(name)
                reading.set()
                changed.wait(20)
                return 5

        def read_slowly() -> object:
            return cachalot_settings.CACHALOT_TIMEOUT

        django_settings = settings.settings
        cachalot_settings.forget()
        settings.settings = SlowSettings()
        try:
            results: list[object] = []
            thread = threading.Thread(target=lambda: results.append(read_slowly()))
            thread.start()
            reading.wait(20)
            settings.settings = django_settings
            cachalot_settings.reload()
            changed.set()
            thread.join(20)
        finally:
            settings.settings = django_settings
        self.assertEqual(results, [5])
        self.assertIs(cachalot_settings.CACHALOT_TIMEOUT, None)


class WrongSettingTests(SimpleTestCase):
    def test_the_first_access_to_any_setting_tells_it(self) -> None:
        with override_settings(CACHALOT_TIMEOUT="60"):
            for _ in range(2):
                with self.assertRaisesMessage(
                    ImproperlyConfigured,
                    "CACHALOT_TIMEOUT is '60', which is no number of seconds. Use None",
                ):
                    _ = cachalot_settings.CACHALOT_ENABLED
        self.assertIs(cachalot_settings.CACHALOT_ENABLED, True)

    def test_the_message_is_that_of_the_system_check(self) -> None:
        for name, value in (
            ("CACHALOT_TIMEOUT", "60"),
            ("CACHALOT_TIMEOUTS", None),
            ("CACHALOT_ENABLED", "False"),
            ("CACHALOT_DATABASES", None),
            ("CACHALOT_UNCACHABLE_TABLES", None),
            ("CACHALOT_ADDITIONAL_TABLES", "orders"),
            ("CACHALOT_QUERY_KEYGEN", ""),
            ("CACHALOT_TABLE_KEYGEN", "tests.keygens.no_such_function"),
            ("CACHALOT_LOCAL_SIZE", "1000000"),
        ):
            with self.subTest(name), override_settings(**{name: value}):
                (message,) = run_checks(tags=["cachalot"])
                with self.assertRaises(ImproperlyConfigured) as raised:
                    _ = cachalot_settings.CACHALOT_ENABLED
                self.assertEqual(
                    str(raised.exception), f"{message.msg} {message.hint} ({message.id})"
                )

    def test_seconds_may_be_a_timedelta(self) -> None:
        minute = datetime.timedelta(minutes=1)
        with override_settings(
            CACHALOT_TIMEOUT=minute,
            CACHALOT_TIMEOUTS={"orders": minute, "stock": None},
            CACHALOT_MAX_STALENESS=minute,
            CACHALOT_WAIT_ABOVE=minute,
            CACHALOT_REPLICAS={"other": {"primary": "default", "max_lag": minute}},
        ):
            self.assertEqual(run_checks(tags=["cachalot"]), [])
            self.assertEqual(cachalot_settings.CACHALOT_TIMEOUT, 60)
            self.assertEqual(cachalot_settings.CACHALOT_TIMEOUTS, {"orders": 60, "stock": None})
            self.assertEqual(cachalot_settings.CACHALOT_MAX_STALENESS, 60)
            self.assertEqual(cachalot_settings.CACHALOT_WAIT_ABOVE, 60)
            self.assertEqual(cachalot_settings.CACHALOT_REPLICAS["other"]["max_lag"], 60)


class MemoTests(SimpleTestCase):
    def test_it_remembers_until_a_setting_changes(self) -> None:
        calls: list[object] = []

        @settings.memo(maxsize=8)
        def timeout_of(table: str) -> object:
            calls.append(table)
            return cachalot_settings.CACHALOT_TIMEOUT

        self.assertEqual([timeout_of("a"), timeout_of("a"), timeout_of("b")], [None] * 3)
        self.assertEqual(calls, ["a", "b"])
        with override_settings(CACHALOT_TIMEOUT=5):
            self.assertEqual(timeout_of("a"), 5)
        self.assertIs(timeout_of("a"), None)

    def test_what_was_derived_during_a_change_is_not_kept(self) -> None:
        """A thread that was deriving from the old value must not bring it back."""
        deriving, changed = threading.Event(), threading.Event()

        @settings.memo(maxsize=8)
        def timeout() -> object:
            value = cachalot_settings.CACHALOT_TIMEOUT
            deriving.set()
            changed.wait(20)
            return value

        results: list[object] = []
        thread = threading.Thread(target=lambda: results.append(timeout()))
        thread.start()
        deriving.wait(20)
        with override_settings(CACHALOT_TIMEOUT=5):
            changed.set()
            thread.join(20)
            self.assertEqual(results, [None])
            self.assertEqual(timeout(), 5)


class ActionTests(CacheTestCase):
    def setUp(self) -> None:
        Author.objects.create(name="A")
        self.addCleanup(cachalot_settings.load)

    def test_unloading_takes_the_app_out_of_action(self) -> None:
        self.assertCached(names)
        cachalot_settings.unload()
        self.assertNeverCached(names)
        with cachalot_enabled():
            self.assertNeverCached(names)
        self.assertIn("switched off", str(explain(Author.objects.all()).reason))
        cachalot_settings.load()
        self.assertHits(names)

    def test_a_write_in_between_is_seen(self) -> None:
        self.assertCached(names)
        cachalot_settings.unload()
        Author.objects.update(name="B")
        cachalot_settings.load()
        self.assertEqual(self.assertMisses(names), ["B"])

    def test_only_loading_brings_it_back(self) -> None:
        cachalot_settings.unload()
        with override_settings(CACHALOT_ENABLED=True, CACHALOT_TIMEOUT=60):
            self.assertNeverCached(names)
        self.assertNeverCached(names)
        cachalot_settings.reload()
        self.assertCached(names)

    def test_loading_tells_a_wrong_value(self) -> None:
        with override_settings(CACHALOT_TIMEOUT="60"):
            for load in (cachalot_settings.load, cachalot_settings.reload):
                with self.assertRaisesMessage(ImproperlyConfigured, "CACHALOT_TIMEOUT is '60'"):
                    load()

    def test_a_project_may_leave_it_out_of_its_apps_until_it_is_switched_on(self) -> None:
        result = in_process(
            """
from cachalot.settings import cachalot_settings
from django.test.utils import CaptureQueriesContext

def queries():
    with CaptureQueriesContext(connection) as ran:
        list(Author.objects.all())
    return len(ran)

result = [queries(), queries()]
cachalot_settings.reload()
result += [queries(), queries()]
Author.objects.update(name="B")
result += [queries(), queries()]
cachalot_settings.unload()
result += [queries(), queries()]
""",
            settings_module="tests.unlisted",
        )
        self.assertEqual(result, [1, 1, 1, 0, 1, 0, 1, 1])

    def test_what_an_earlier_app_writes_when_it_is_ready_invalidates(self) -> None:
        result = in_process(
            "from django.apps import apps\nresult = apps.get_app_config('early').invalidated\n",
            settings_module="tests.early.settings",
        )
        self.assertIn("library_tag", result)


class KeyGeneratorTests(SimpleTestCase):
    def test_they_can_be_called_whatever_the_setting_holds(self) -> None:
        compiler = Author.objects.all().query.get_compiler("default")
        for path in (None, "tests.keygens.prefixed_query_key", keygens.prefixed_query_key):
            with override_settings(**({"CACHALOT_QUERY_KEYGEN": path} if path else {})):
                self.assertIsInstance(cachalot_settings.CACHALOT_QUERY_KEYGEN(compiler), str)
        for path in (None, "tests.keygens.prefixed_table_key", keygens.prefixed_table_key):
            with override_settings(**({"CACHALOT_TABLE_KEYGEN": path} if path else {})):
                key = cachalot_settings.CACHALOT_TABLE_KEYGEN("default", "library_author")
                self.assertIsInstance(key, str)


class SupportTests(SimpleTestCase):
    def test_engines(self) -> None:
        for engine, vendor, expected in (
            ("django.db.backends.sqlite3", "sqlite", True),
            ("django.db.backends.postgresql", "postgresql", True),
            ("django.db.backends.mysql", "mysql", True),
            ("django.contrib.gis.db.backends.postgis", "postgresql", True),
            ("django_prometheus.db.backends.postgresql", "postgresql", True),
            ("django_tenants.postgresql_backend", "postgresql", True),
            ("django.db.backends.oracle", "oracle", False),
            ("mssql", "microsoft", False),
        ):
            with self.subTest(engine):
                self.assertIs(is_supported_engine(engine, vendor), expected)

    def test_a_project_adds_and_removes_engines(self) -> None:
        SUPPORTED_DATABASE_ENGINES.add("mssql")
        SUPPORTED_DATABASE_ENGINES.remove("django.db.backends.mysql")
        try:
            self.assertIs(is_supported_engine("mssql", "microsoft"), True)
            self.assertIs(is_supported_engine("django.db.backends.mysql", "mysql"), False)
        finally:
            SUPPORTED_DATABASE_ENGINES.remove("mssql")
            SUPPORTED_DATABASE_ENGINES.add("django.db.backends.mysql")
        with override_settings(CACHALOT_ADDITIONAL_SUPPORTED_DATABASES=["mssql"]):
            self.assertIs(is_supported_engine("mssql", "microsoft"), True)

    def test_an_engine_that_was_removed_may_be_added(self) -> None:
        engine = "django.db.backends.mysql"
        SUPPORTED_DATABASE_ENGINES.remove(engine)
        try:
            with override_settings(CACHALOT_ADDITIONAL_SUPPORTED_DATABASES=[engine]):
                self.assertIs(is_supported_engine(engine, "mysql"), True)
        finally:
            SUPPORTED_DATABASE_ENGINES.add(engine)

    def test_databases(self) -> None:
        self.assertEqual(SUPPORTED_ONLY, "supported_only")
        self.assertIs(is_cached_database("default", "mssql", "microsoft"), False)
        with override_settings(CACHALOT_USE_UNSUPPORTED_DATABASE=True):
            self.assertIs(is_cached_database("default", "mssql", "microsoft"), True)
        for aliases in (["default"], ("default",), {"default"}, frozenset({"default"})):
            with override_settings(CACHALOT_DATABASES=aliases):
                self.assertIs(is_cached_database("default", "mssql", "microsoft"), True)
                self.assertIs(is_cached_database("other", "mssql", "microsoft"), False)

    def test_cache_backends(self) -> None:
        self.assertIn("django_redis.cache.RedisCache", SUPPORTED_CACHE_BACKENDS)
        self.assertIn("django_valkey.cache.ValkeyCache", SUPPORTED_CACHE_BACKENDS)


class EffectTests(CacheTestCase):
    def setUp(self) -> None:
        Author.objects.create(name="A")

    def test_enabled(self) -> None:
        self.assertCached(names)
        with override_settings(CACHALOT_ENABLED=False):
            self.assertNeverCached(names)
            in_thread(lambda: self.assertNeverCached(names))
        self.assertHits(names)

    def test_databases(self) -> None:
        self.assertCached(names)
        with override_settings(CACHALOT_DATABASES=["other"]):
            self.assertNeverCached(names)
        with override_settings(CACHALOT_DATABASES=["default"]):
            self.assertHits(names)

    def test_cache(self) -> None:
        self.assertCached(names)
        with override_settings(CACHALOT_CACHE="second"):
            self.assertCached(names)
        self.assertHits(names)

    def test_cache_iterators(self) -> None:
        def read() -> list[Author]:
            return list(Author.objects.iterator())

        self.assertCached(read)
        with override_settings(CACHALOT_CACHE_ITERATORS=False):
            self.assertNeverCached(read)
            _, queries = count_queries(lambda: list(Author.objects.all()))
            self.assertEqual(queries, 0)

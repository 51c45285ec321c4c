"""A cache that answers and keeps nothing is told of: once in the log, and by ``explain()``."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import settings
from django.core.cache.backends.locmem import LocMemCache
from django.test import override_settings

from cachalot.api import explain
from cachalot.core.cache.flaws import MANY_REFUSALS
from tests.cache.faults import GuardedTestCase, names
from tests.library.models import Author

DEFAULT = settings.CACHES["default"]


class JsonCache(LocMemCache):
    """Local memory with a serializer that knows neither bytes nor tuples."""

    client = SimpleNamespace(_serializer=json)

    def add(self, key: str, value: Any, *args: Any, **kwargs: Any) -> bool:
        return super().add(key, json.loads(json.dumps(value)), *args, **kwargs)

    def set(self, key: str, value: Any, *args: Any, **kwargs: Any) -> None:
        super().set(key, json.loads(json.dumps(value)), *args, **kwargs)


class RefusingCache(LocMemCache):
    """Refuses every store, and says so by what it returns alone."""

    def add(self, *args: Any, **kwargs: Any) -> bool:
        return False

    def set(self, *args: Any, **kwargs: Any) -> None:
        pass


class FullCache(LocMemCache):
    """Has room for versions, which are small."""

    def set(self, key: str, value: Any, *args: Any, **kwargs: Any) -> None:
        if len(value) > 2:
            raise OSError("OOM command not allowed when used memory > 'maxmemory'.")
        super().set(key, value, *args, **kwargs)


def using(backend: str) -> Callable[[Any], Any]:
    return override_settings(CACHES={"default": {"BACKEND": backend, "LOCATION": backend}})


class SilenceTests(GuardedTestCase):
    def assertTells(self, logged: str, explained: str) -> None:
        Author.objects.create(name="A")
        with self.warnings() as lines:
            for _ in range(3):
                self.assertNeverCached(names)
            Author.objects.update(name="B")
            self.assertEqual(names(), ["B"])
        self.assertEqual(
            lines, [f"Nothing is cached in 'default': a query {logged}, and goes to the database."]
        )
        self.assertEqual(explain(Author.objects.all()).reason, explained)

    @using("django.core.cache.backends.dummy.DummyCache")
    def test_a_dummy_cache(self) -> None:
        self.assertTells("meets a cache that keeps nothing", "the cache 'default' keeps nothing")

    @using("tests.cache.test_silence.JsonCache")
    def test_a_serializer_that_spoils_what_it_is_given(self) -> None:
        self.assertTells(
            "meets a cache whose serializer spoils what it is given",
            "the cache 'default' has a serializer that spoils what it is given "
            "(TypeError: Object of type bytes is not JSON serializable)",
        )

    @pytest.mark.skipif("django_redis" not in DEFAULT["BACKEND"], reason="django-redis's own")
    def test_the_json_of_django_redis(self) -> None:
        json_serializer = {"SERIALIZER": "django_redis.serializers.json.JSONSerializer"}
        caches = {"default": {**DEFAULT, "KEY_PREFIX": "json", "OPTIONS": json_serializer}}
        with override_settings(CACHES=caches):
            self.assertTells(
                "meets a cache whose serializer spoils what it is given",
                "the cache 'default' has a serializer that spoils what it is given "
                "(TypeError: Object of type bytes is not JSON serializable)",
            )

    @using("tests.cache.test_silence.RefusingCache")
    def test_a_cache_that_refuses_every_store(self) -> None:
        self.assertTells(
            "meets a cache that does not keep what is added to it",
            "a query meets a cache that does not keep what is added to it, 'default'",
        )

    def test_a_cache_that_refuses_every_result(self) -> None:
        with using("tests.cache.test_silence.FullCache"), self.warnings() as lines:
            for number in range(MANY_REFUSALS):
                self.assertEqual(lines, [])
                Author.objects.filter(pk=number).count()
            names()
            reason = explain(Author.objects.all()).reason
        flaw = "a query meets a cache that refuses every result"
        self.assertEqual(
            lines, [f"Nothing is cached in 'default': {flaw}, and goes to the database."]
        )
        self.assertEqual(reason, f"{flaw}, 'default'")

    def test_what_is_over_is_not_told(self) -> None:
        with using("tests.cache.test_silence.RefusingCache"), self.warnings():
            names()
        names()
        self.assertIs(explain(Author.objects.all()).reason, None)

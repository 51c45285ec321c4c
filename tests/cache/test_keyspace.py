"""What the project's KEY_FUNCTION makes of a key belongs to the query, not to versions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.db import connection, transaction
from django.test import override_settings

from cachalot.core.cache.keyspace import cache_of, namespace_of
from cachalot.utils import get_query_cache_key, get_table_cache_key
from tests import keygens
from tests.library.models import Tag
from tests.support import CacheTestCase, close_caches, in_thread, versions_in_cache

tenant = "public"


def key_of_tenant(key: str, key_prefix: str, version: int) -> str:
    if tenant == "nobody":
        raise LookupError("no tenant")
    return f"{tenant}:{key_prefix}:{version}:{key}"


class TenantsCache(LocMemCache):
    def make_key(self, key: str, version: int | None = None) -> str:
        return key_of_tenant(key, self.key_prefix, version or self.version)


@contextlib.contextmanager
def become(name: str) -> Iterator[None]:
    with mock.patch(f"{__name__}.tenant", name):
        yield


def keyed(**changes: Any) -> override_settings:
    default = {**settings.CACHES["default"], "KEY_FUNCTION": key_of_tenant, **changes}
    return override_settings(CACHES={**settings.CACHES, "default": default})


def names() -> list[str]:
    return [tag.name for tag in Tag.objects.all()]


class KeyFunctionTests(CacheTestCase):
    def setUp(self) -> None:
        Tag.objects.create(name="old")
        self.addCleanup(close_caches)

    def assertSharedTableIsShared(self) -> None:
        for name in ("north", "south"):
            with become(name):
                self.assertEqual(self.assertCached(names), ["old"])
        with become("north"):
            Tag.objects.update(name="new")
        for name in ("south", "north", "public"):
            with become(name):
                self.assertEqual(self.assertCached(names), ["new"])

    @keyed()
    def test_all_tenants_hear_of_a_write(self) -> None:
        self.assertSharedTableIsShared()

    @keyed(BACKEND=f"{__name__}.TenantsCache", LOCATION="tenants", OPTIONS={})
    def test_a_backend_that_makes_keys_otherwise(self) -> None:
        self.assertSharedTableIsShared()

    @keyed()
    def test_a_commit_after_the_tenants_block(self) -> None:
        with become("north"):
            self.assertCached(names)
            with transaction.atomic():
                Tag.objects.update(name="new")
                with become("public"):
                    names()
            self.assertEqual(names(), ["new"])
        with become("south"):
            with transaction.atomic():
                Tag.objects.update(name="newest")
                connection.on_commit(lambda: None)
        with become("north"):
            self.assertEqual(names(), ["newest"])

    @keyed()
    def test_a_query_has_a_key_for_each_tenant(self) -> None:
        keys = set()
        for name in ("north", "south"):
            with become(name):
                keys.add(get_query_cache_key(Tag.objects.all().query.get_compiler("default")))
                keygens.calls.clear()
                with override_settings(CACHALOT_QUERY_KEYGEN="tests.keygens.fixed_query_key"):
                    Tag.objects.update(name=name)
                    self.assertEqual(self.assertCached(names), [name])
        self.assertEqual(len(keys), 2)
        with override_settings(CACHALOT_QUERY_KEYGEN="tests.keygens.fixed_query_key"):
            with become("north"):
                names()
                entries = cache_of("default")
                self.assertNotIn("fixed", entries)

    @keyed()
    @versions_in_cache
    def test_versions_lie_under_djangos_default_keys(self) -> None:
        names()
        key = get_table_cache_key("default", "library_tag")
        self.assertIn(key, cache_of("default"))
        self.assertNotIn(key, caches["default"])
        self.assertIs(cache_of("default"), cache_of("default"))
        self.assertIsNot(in_thread(lambda: cache_of("default")), cache_of("default"))

    @keyed()
    def test_a_function_that_fails_lets_nothing_be_shared(self) -> None:
        names()
        with become("nobody"):
            self.assertEqual(names(), ["old"])
            self.assertNotEqual(namespace_of("default"), namespace_of("default"))

    def test_djangos_own_object_is_used_without_one(self) -> None:
        self.assertIs(cache_of("default"), caches["default"])
        self.assertEqual(namespace_of("default"), "")
        self.assertEqual(namespace_of("no such cache"), "")

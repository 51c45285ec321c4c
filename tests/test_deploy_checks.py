"""``manage.py check --deploy`` reports what is wrong in production alone."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.core.checks import CheckMessage, run_checks
from django.core.management import call_command
from django.test import SimpleTestCase, override_settings

from cachalot.checks.messages import DEPLOY_MESSAGES, MESSAGES
from cachalot.core.cache.boards import board_in_use

LOCMEM = "django.core.cache.backends.locmem.LocMemCache"
FILES = "django.core.cache.backends.filebased.FileBasedCache"


class RedisLike(BaseCache):
    """What Django's backend for Redis looks like from without."""

    memory: dict[str, Any] | None = {}
    facts: dict[str, Any] = {"role": "master", "run_id": "r"}
    saves = ""
    retries = 0

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        super().__init__(params)
        self._cache = self

    def get_client(self, key: object = None, *, write: bool = False) -> RedisLike:
        return self

    def get(self, key: str, default: Any = None, version: Any = None) -> Any:
        if isinstance(self.facts, Exception):
            raise self.facts
        return default

    @property
    def connection_pool(self) -> Any:
        retry = SimpleNamespace(_retries=self.retries)
        connection = SimpleNamespace(retry=retry)
        return SimpleNamespace(connection_class=lambda: connection, connection_kwargs={})

    def config_get(self, name: str) -> dict[str, str]:
        return {name: self.saves}

    def info(self, section: str | None = None) -> dict[str, Any]:
        if section is None:
            if not self.facts:
                raise ConnectionError("NOPERM")
            return self.facts
        assert section == "memory"
        if self.memory is None:
            raise ConnectionError("refused")
        return self.memory


class DjangoRedisLike(RedisLike):
    """What django-redis looks like."""

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        super().__init__(location, params)
        del self._cache
        self.client = self


def in_cache(backend: str) -> dict[str, Any]:
    config = {"BACKEND": backend, "LOCATION": "/nowhere"}
    return {"CACHALOT_CACHE": "results", "CACHES": {**settings.CACHES, "results": config}}


class DeployCheckTests(SimpleTestCase):
    def report(self, **overrides: Any) -> list[CheckMessage]:
        with override_settings(**{**in_cache(FILES), **overrides}):
            messages = run_checks(tags=["cachalot"], include_deployment_checks=True)
            everyday = run_checks(tags=["cachalot"])
        return [message for message in messages if message not in everyday]

    def assertReports(self, message_id: str | None, text: str = "", **overrides: Any) -> None:
        messages = self.report(**overrides)
        expected = [] if message_id is None else [f"cachalot.{message_id}"]
        self.assertEqual([message.id for message in messages], expected, messages)
        for message in messages:
            self.assertIn(text, message.msg)

    def assertReportsRedis(
        self, text: str | None, memory: dict[str, Any] | None, **overrides: Any
    ) -> None:
        for backend in ("RedisLike", "DjangoRedisLike"):
            with mock.patch.object(RedisLike, "memory", memory):
                self.assertReports(
                    None if text is None else "W011",
                    text or "",
                    **in_cache(f"tests.test_deploy_checks.{backend}"),
                    **overrides,
                )

    def test_a_cache_in_the_memory_of_a_process(self) -> None:
        board = board_in_use()
        assert board is not None
        for text in ("'results', which lies in the memory", f"in {board.file.path}.", "machines"):
            self.assertReports("W009", text, **in_cache(LOCMEM))
        alone = {**in_cache(LOCMEM), "CACHALOT_BOARD": None}
        self.assertReports("W009", "Where several processes use", **alone)
        self.assertReports(
            "W009", "several processes", **in_cache("tests.cache.faults.FaultyCache")
        )
        self.assertReports(None, **in_cache(FILES))

    def test_a_board_that_cannot_be_made(self) -> None:
        place = "/no-such-folder/board"
        self.assertReports("E019", repr(place), **in_cache(LOCMEM), CACHALOT_BOARD=place)
        self.assertReports("E019", "No such file", **in_cache(LOCMEM), CACHALOT_BOARD=place)

    def test_a_cache_that_keeps_nothing(self) -> None:
        dummy = "django.core.cache.backends.dummy.DummyCache"
        self.assertReports("W015", "'results', a DummyCache", **in_cache(dummy))

    def test_a_timeout_of_no_time(self) -> None:
        for timeout in (0, 0.0):
            self.assertReports("W010", f"is {timeout!r}, so nothing", CACHALOT_TIMEOUT=timeout)
        for timeout in (None, 1, 0.5):
            self.assertReports(None, CACHALOT_TIMEOUT=timeout)

    def test_redis_without_a_limit(self) -> None:
        memory = {"maxmemory": 0, "maxmemory_policy": "noeviction"}
        self.assertReportsRedis("has no maxmemory", memory)
        self.assertReportsRedis(None, memory, CACHALOT_TIMEOUT=60)

    def test_redis_that_evicts_nothing(self) -> None:
        memory = {"maxmemory": 10**9, "maxmemory_policy": "noeviction"}
        self.assertReportsRedis("is 'noeviction'", memory)
        self.assertReportsRedis("is 'noeviction'", memory, CACHALOT_TIMEOUT=60)

    def test_redis_that_evicts_what_expires(self) -> None:
        memory = {"maxmemory": 10**9, "maxmemory_policy": "volatile-lru"}
        self.assertReportsRedis("'volatile-lru' evicts only what expires", memory)
        self.assertReportsRedis(None, memory, CACHALOT_TIMEOUT=60)

    def test_redis_that_evicts_marks_of_writers_first(self) -> None:
        memory = {"maxmemory": 10**9, "maxmemory_policy": "volatile-ttl"}
        self.assertReportsRedis("evicts what expires first", memory, CACHALOT_TIMEOUT=60)

    def test_redis_that_evicts(self) -> None:
        for policy in ("allkeys-lru", "allkeys-lfu", "allkeys-random"):
            self.assertReportsRedis(None, {"maxmemory": 10**9, "maxmemory_policy": policy})

    def test_redis_that_does_not_tell(self) -> None:
        for memory in (None, {}, {"maxmemory": "?", "maxmemory_policy": ""}):
            with self.assertLogs("cachalot", "DEBUG") as logs:
                self.assertReportsRedis(None, memory)
            self.assertIn("The memory of Redis could not be checked", logs.output[0])

    def assertReportsServer(self, message_id: str | None, text: str = "", **told: Any) -> None:
        memory = {"maxmemory": 1, "maxmemory_policy": "allkeys-lru"}
        for backend in ("RedisLike", "DjangoRedisLike"):
            with mock.patch.multiple(RedisLike, memory=memory, **told):
                path = f"tests.test_deploy_checks.{backend}"
                self.assertReports(message_id, text, **in_cache(path))

    def test_a_cache_that_does_not_answer(self) -> None:
        self.assertReportsServer(
            "W019", "does not answer (OSError: refused).", facts=OSError("refused")
        )
        # It would have to be made before it is asked.
        database = "django.core.cache.backends.db.DatabaseCache"
        self.assertReports(None, **in_cache(database))

    def test_redis_that_may_forget_unnoticed(self) -> None:
        facts = RedisLike.facts
        self.assertReportsServer(None)
        with self.assertLogs("cachalot", "DEBUG"):
            self.assertReportsServer("W022", "its user may not run INFO", facts={})
        for told in ({"saves": "3600 1"}, {"facts": {**facts, "aof_enabled": 1}}):
            self.assertReportsServer("W022", "keeps its data on disk, and is not asked", **told)
        replicas = {**facts, "connected_slaves": 1}
        self.assertReportsServer("W022", "has replicas, and is not asked", facts=replicas)
        with mock.patch("cachalot.checks.redis.backend_of"):
            self.assertReportsServer(None, facts=replicas, saves="3600 1", retries=3)
        with self.assertLogs("cachalot", "DEBUG") as logs:
            self.assertReportsServer(None, saves=None, config_get=mock.Mock(side_effect=OSError))
        self.assertIn("does not tell whether it saves", logs.output[0])

    def test_a_node_of_a_cluster(self) -> None:
        facts = {**RedisLike.facts, "cluster_enabled": 1}
        self.assertReportsServer("W023", "RedisLike' asks ", facts=facts)
        with mock.patch("cachalot.checks.redis.has_cluster_client", return_value=True):
            self.assertReportsServer(None, facts=facts)

    def test_a_client_that_repeats_writes(self) -> None:
        self.assertReportsServer("W024", "up to 3 times", retries=3)
        self.assertReportsServer(None, retries=-1)
        with self.assertLogs("cachalot", "DEBUG") as logs:
            self.assertReportsServer(None, connection_pool=None)
        self.assertIn("does not tell how often it tries", logs.output[0])

    def test_redis_that_is_a_replica(self) -> None:
        for role in ("slave", "active-replica"):
            facts = {"role": role, "run_id": "r"}
            self.assertReportsServer("W021", f"whose role is {role!r}", facts=facts)

    def test_redis_that_runs_no_scripts(self) -> None:
        """Only who would use them is told."""
        side = mock.Mock(runs_scripts=lambda: False)
        with mock.patch("cachalot.checks.redis.backend_of", return_value=side):
            self.assertReportsServer("W025", "runs no scripts for its user")
        self.assertReportsServer(None)

    @pytest.mark.skipif("redis" not in settings.CACHES["default"]["BACKEND"], reason="asks Redis")
    def test_a_real_redis_is_asked(self) -> None:
        cache: Any = caches["default"]
        client = getattr(cache, "_cache", None) or cache.client
        limit = int(client.get_client(write=True).config_get("maxmemory")["maxmemory"])
        with self.assertNoLogs("cachalot", "DEBUG"):
            messages = self.report(CACHALOT_CACHE="default", CACHES=settings.CACHES)
        self.assertEqual([m.id for m in messages], [] if limit else ["cachalot.W011"])

    def test_a_cache_that_is_wrong_anyway_has_no_further_message(self) -> None:
        for overrides in (
            {"CACHALOT_CACHE": "nowhere"},
            {"CACHALOT_CACHE": None},
            in_cache("nowhere.Cache"),
        ):
            self.assertReports(None, **overrides)

    def test_the_command_shows_it_with_deploy_alone(self) -> None:
        for arguments, shows in (((), False), (("--deploy",), True)):
            errors = StringIO()
            with override_settings(**in_cache(LOCMEM)):
                call_command("check", "--tag", "cachalot", *arguments, stderr=errors)
            self.assertIs("(cachalot.W009) CACHALOT_CACHE is" in errors.getvalue(), shows)

    def test_every_message_has_a_test(self) -> None:
        tested = set(re.findall(r'"([WE]\d{3})"', Path(__file__).read_text()))
        self.assertEqual({f"cachalot.{message_id}" for message_id in tested}, set(DEPLOY_MESSAGES))

    def test_every_id_has_one_meaning(self) -> None:
        self.assertEqual(DEPLOY_MESSAGES.keys() & MESSAGES.keys(), set())

    def test_every_message_says_what_to_do(self) -> None:
        for message_id, (message, hint) in DEPLOY_MESSAGES.items():
            with self.subTest(message_id):
                self.assertRegex(message, r"^CACHALOT_.*\{\w+!r\}")
                self.assertTrue(message.endswith(".") and hint.endswith("."))

"""The raw side of Redis, on a real server: connections that are cut or interrupted."""

from __future__ import annotations

import json
import pickle
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any
from unittest import mock, skipUnless

from django.conf import settings
from django.core.cache import caches
from django.test import SimpleTestCase, override_settings

from cachalot.core.cache.raw import Backend
from cachalot.core.cache.raw_following import Following
from cachalot.core.cache.sides import backend_of
from tests.settings import CACHE

VERSION = 1.5, "nonce"
DEFAULT = settings.CACHES["default"]


class Interrupted(Exception):
    """What a signal handler of a project raises."""


class JsonSerializer:
    """Makes texts, and lists of tuples."""

    def __init__(self, options: object = None) -> None:
        pass

    def dumps(self, value: Any) -> Any:
        text = json.dumps(value)
        # django-redis hands it on to a compressor.
        return text.encode() if CACHE == "django_redis" else text

    def loads(self, raw: bytes) -> Any:
        return json.loads(raw)


class ReversedPickles:
    def __init__(self, options: object = None) -> None:
        pass

    def dumps(self, value: Any) -> bytes:
        return pickle.dumps(value)[::-1]

    def loads(self, raw: bytes) -> Any:
        return pickle.loads(raw[::-1])


def with_options(**options: Any) -> AbstractContextManager[Any]:
    """Configure the client: its names are those of the cache in use."""
    return override_settings(CACHES={"default": {**DEFAULT, "OPTIONS": options}})


def with_retries(number: int) -> AbstractContextManager[Any]:
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    retry = {"retry": Retry(NoBackoff(), number)}
    if CACHE == "redis":
        return with_options(**retry)
    # It keeps its pools by URL.
    location = f"{DEFAULT['LOCATION']}?client_name=retries{number}"
    options = {"CONNECTION_POOL_KWARGS": retry}
    return override_settings(
        CACHES={"default": {**DEFAULT, "LOCATION": location, "OPTIONS": options}}
    )


@skipUnless(CACHE in {"redis", "django_redis"}, "The cache is no Redis.")
class RedisTests(SimpleTestCase):
    def setUp(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.backend: Any = backend_of(caches["default"])
        self.assertNotIn(type(self.backend), {Backend, Following})
        self.backend.cache.clear()
        self.backend.set_versions({key: ((1.0, key), None) for key in "abc"})
        # django-redis has one pool for the whole process, which other tests have used.
        self.before = self.in_use()

    def in_use(self) -> set[Any]:
        return set(self.backend._pool()._in_use_connections)

    def assertInStep(self) -> None:
        """The next question has its own answer, and no connection is lost."""
        self.assertEqual(self.nonces("b"), ["b"])
        self.assertEqual(self.nonces("a", "c"), ["a", "c"])
        self.assertEqual(self.in_use() - self.before, set())

    def nonces(self, *keys: str) -> list[str | None]:
        """Return nonces without the word of the reign."""
        return [
            raw and (nonce := self.backend.nonce_of(raw)) and nonce.removeprefix(raw[0])
            for raw in self.backend.get(keys)
        ]

    def patched(self, method: str, at: int, do: Callable[[Any], None]) -> Any:
        """Have something done to a connection before the call of this number, from 1."""
        from redis import Connection

        original = getattr(Connection, method)
        calls = []

        def call(connection: Any, *args: Any, **kwargs: Any) -> Any:
            calls.append(connection)
            if len(calls) == at:
                do(connection)
            return original(connection, *args, **kwargs)

        return mock.patch.object(Connection, method, call)

    def cut(self, connection: Any) -> None:
        connection._sock.shutdown(socket.SHUT_RDWR)
        # Also of what has come in already.
        # The server may have the last word.
        with suppress(OSError):
            while connection._sock.recv(4096):
                pass

    def test_one_packet_each(self) -> None:
        from redis import Connection

        entry = 1, ("a",), b"", 1.0, 1.0
        versions = {
            key: ((2.0, key), timeout) for key, timeout in (("a", None), ("b", 7), ("c", 300))
        }
        for ask in (
            lambda: self.backend.get(["a", "b"], ["e"]),
            lambda: self.backend.add_versions(dict.fromkeys("abcd", VERSION)),
            lambda: self.backend.set_versions(versions, "a"),
            lambda: self.backend.set_entries({"e": entry, "f": entry}, 7),
        ):
            sent = mock.patch.object(
                Connection, "send_packed_command", autospec=True,
                side_effect=Connection.send_packed_command,
            )  # fmt: skip
            with sent as sends:
                ask()
            self.assertEqual(sends.call_count, 1)

    def test_interrupted_before_an_answer_is_read(self) -> None:
        def read() -> Any:
            return self.backend.get(["a"])

        def write() -> Any:
            return self.backend.set_versions({key: ((1.0, key), None) for key in "abc"}, "a")

        def add() -> Any:
            return self.backend.add_versions({"a": VERSION, "b": VERSION, "c": VERSION})

        for kind in (KeyboardInterrupt, SystemExit, Interrupted, MemoryError):

            def interrupt(connection: Any, kind: type[BaseException] = kind) -> None:
                raise kind

            for ask, answers in ((read, 1), (write, 4), (add, 3)):
                for number in range(1, answers + 1):
                    with self.subTest(kind=kind, ask=ask.__name__, number=number):
                        with self.patched("read_response", number, interrupt):
                            with self.assertRaises(kind):
                                ask()
                        self.assertInStep()

    def test_interrupted_while_it_is_made_clean(self) -> None:
        """A connection that may have an answer of another's is not used again."""
        from redis import Connection

        def interrupt(connection: Any) -> None:
            raise KeyboardInterrupt

        with self.patched("read_response", 1, interrupt):
            with mock.patch.object(Connection, "disconnect", side_effect=SystemExit):
                with self.assertRaises(SystemExit):
                    self.backend.get(["a"])
        self.assertEqual(self.nonces("b"), ["b"])
        (lost,) = self.in_use() - self.before
        lost.disconnect()
        self.backend._pool().release(lost)

    def test_a_read_whose_connection_is_cut_is_repeated_if_the_client_would(self) -> None:
        from redis.exceptions import ConnectionError as ConnectionCut

        with with_retries(1):
            self.begin()
            for method in ("read_response", "send_packed_command"):
                with self.patched(method, 1, self.cut):
                    self.assertEqual(self.nonces("a", "b"), ["a", "b"])
                self.assertInStep()
        with with_retries(0):
            self.begin()
            with self.patched("read_response", 1, self.cut), self.assertRaises(ConnectionCut):
                self.nonces("a")
            self.assertInStep()

    def test_a_write_whose_connection_is_cut_is_not_repeated(self) -> None:
        """Another writer may have come in between."""
        from redis.exceptions import ConnectionError as ConnectionCut

        with with_retries(3):
            self.begin()

            def other_writer_then_cut(connection: Any) -> None:
                Backend(self.backend.cache).set_versions({"a": ((2.0, None), 300)})
                self.cut(connection)

            for ask in (
                lambda: self.backend.set_versions({"a": ((3.0, "late"), None)}),
                lambda: self.backend.add_versions({"a": ((3.0, "late"), None)}),
                lambda: self.backend.set_entries({"a": (3.0, "late")}, None),
            ):
                with self.patched("read_response", 1, other_writer_then_cut):
                    with self.assertRaises(ConnectionCut):
                        ask()
                self.assertEqual(self.nonces("a"), [None])

    def test_a_refusal_of_one_of_several_is_an_error_and_all_answers_are_read(self) -> None:
        from redis.exceptions import ResponseError

        name = self.backend._lifetime(1)[0]
        too_long = mock.patch.object(self.backend, "_lifetime", return_value=(name, 10**30))
        with too_long, self.assertRaisesMessage(ResponseError, "not an integer"):
            self.backend.set_versions(
                {"a": (VERSION, None), "b": (VERSION, 7), "c": (VERSION, None)}, "a"
            )
        self.assertEqual(self.nonces("a", "b", "c"), ["nonce", "b", "nonce"])
        with too_long, self.assertRaisesMessage(ResponseError, "not an integer"):
            self.backend.set_entries({"a": ((1.0, "a")), "c": ((1.0, "c"))}, 7)
        self.backend.set_versions({key: ((1.0, key), None) for key in "abc"})
        self.assertInStep()

    def test_a_value_of_another_type_is_missing_and_is_replaced(self) -> None:
        (name,) = self.backend._names(["a"])
        pool = self.backend._pool()
        connection = pool.get_connection()
        connection.send_command("DEL", name)
        connection.read_response()
        connection.send_command("LPUSH", name, "x")
        connection.read_response()
        pool.release(connection)
        self.assertEqual(self.backend.get(["a"]), [None])
        self.assertEqual(self.backend.add_versions({"a": VERSION}), {})
        self.backend.set_versions({"a": ((1.0, "a"), None)})
        self.assertInStep()

    def test_what_cannot_be_encoded_takes_no_connection(self) -> None:
        for ask in (
            lambda value: self.backend.set_versions({"a": (value, None)}),
            lambda value: self.backend.add_versions({"a": value}),
            lambda value: self.backend.set_entries({"a": value}, None),
        ):
            with self.assertRaises((pickle.PicklingError, AttributeError, TypeError)):
                ask(lambda: None)
            self.assertInStep()

    def test_what_cannot_be_decoded_is_not_remembered(self) -> None:
        for _ in range(2):
            with self.assertRaises(pickle.UnpicklingError):
                self.backend.nonce_of(("word", b"damaged"))

    def test_serializers_of_a_project(self) -> None:
        for class_ in (JsonSerializer, ReversedPickles):
            path = f"tests.cache.test_raw_redis.{class_.__name__}"
            name = "SERIALIZER" if CACHE == "django_redis" else "serializer"
            with self.subTest(path), with_options(**{name: path}):
                self.begin()
                self.assertInStep()
                self.assertEqual(list(Backend(self.backend.cache).get(["a"])[0]), [1.0, "a"])
                Backend(self.backend.cache).set_versions({"a": ((1.0, "other"), None)})
                self.assertEqual(self.nonces("a"), ["other"])

    @skipUnless(CACHE == "django_redis", "of django-redis")
    def test_a_compressor(self) -> None:
        with with_options(COMPRESSOR="django_redis.compressors.zlib.ZlibCompressor"):
            self.begin()
            self.assertInStep()
            self.assertEqual(Backend(self.backend.cache).get(["a"]), [(1.0, "a")])

    def test_reads_and_writes_go_to_the_first_of_several_servers(self) -> None:
        host = DEFAULT["LOCATION"].rpartition("/")[0]
        servers = [f"{host}/5", f"{host}/6"]
        with override_settings(CACHES={"default": {**DEFAULT, "LOCATION": servers}}):
            backend: Any = backend_of(caches["default"])
            self.assertIs(type(backend), type(self.backend))
            backend.cache.clear()
            for _ in range(4):
                found = backend.set_versions({"a": (VERSION, None)}, "a")
                self.assertEqual(backend.get(["a"]), [found])
                self.assertEqual(backend.add_versions({"a": VERSION}), {})
                backend.set_entries({"e": (1,)}, None)
                self.assertEqual(backend.loads(backend.get([], ["e"])[0]), (1,))
                backend.cache.clear()


@skipUnless(CACHE in {"redis", "django_redis"}, "The cache is no Redis.")
class ChoiceTests(SimpleTestCase):
    """What is not exactly as known is asked by Django's API."""

    def assertApi(self) -> None:
        self.assertIs(type(backend_of(caches.create_connection("default"))), Following)

    def test_a_pool_or_connection_of_its_own(self) -> None:
        import redis

        class Pool(redis.ConnectionPool):
            pass

        class Connection(redis.Connection):
            pass

        if CACHE == "redis":
            options: list[dict[str, Any]] = [
                {"pool_class": Pool},
                {"connection_class": Connection},
                {"encoding": "utf-16"},
            ]
        else:
            options = [{"CONNECTION_FACTORY": "tests.cache.test_raw_redis.Factory"}]
        for each in options:
            with self.subTest(each), with_options(**each):
                self.assertApi()

    def test_commands_that_are_traced(self) -> None:
        import redis

        for class_, name in ((redis.Redis, "execute_command"), (redis.client.Pipeline, "execute")):
            with mock.patch.object(class_, name, autospec=True):
                self.assertApi()

    @skipUnless(CACHE == "django_redis", "of django-redis")
    def test_failures_that_are_hidden(self) -> None:
        for options in ({"IGNORE_EXCEPTIONS": True}, {"REPLICA_READ_ONLY": False}):
            with self.subTest(options), with_options(**options):
                self.assertApi()
        with override_settings(DJANGO_REDIS_IGNORE_EXCEPTIONS=True):
            self.assertApi()

    @skipUnless(CACHE == "django_redis", "of django-redis")
    def test_another_client(self) -> None:
        for name in ("herd.HerdClient", "sharded.ShardClient"):
            with with_options(CLIENT_CLASS=f"django_redis.client.{name}"):
                self.assertApi()


if CACHE == "django_redis":
    from django_redis.pool import ConnectionFactory

    class Factory(ConnectionFactory):  # type: ignore[type-arg]
        """A project's own."""

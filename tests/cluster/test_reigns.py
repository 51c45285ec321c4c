"""What a real Redis remembers of an older time is not believed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock, skipUnless

from django.conf import settings
from django.core.cache import caches
from django.test import SimpleTestCase, override_settings

from cachalot.core.cache.entries import Stored
from cachalot.core.cache.raw_following import Following
from cachalot.core.cache.reigns import (
    HIDDEN,
    LINE_KEY,
    Line,
    NotPrimary,
    Reigns,
    identity_in,
    line_in,
)
from cachalot.core.cache.store import Store
from cachalot.core.cache.versions import Mark
from tests.cluster.servers import Address, Redis
from tests.settings import CACHE

FIRST = Line(1, "first", "a")


class RuleTests(SimpleTestCase):
    """When a process begins another reign (``tests/protocol/reigns.py`` has the reasons)."""

    def setUp(self) -> None:
        self.reigns = Reigns()

    def assertGoesOn(self, identity: str, line: Line) -> None:
        met, is_new = self.reigns.meet(identity, line)
        self.assertEqual((met, is_new), (line, False))
        self.assertIs(met, self.reigns.seen)

    def assertBegins(self, number: int, identity: str, found: Line | None) -> Line:
        line, is_new = self.reigns.meet(identity, found)
        self.assertEqual((line.number, line.identity, is_new), (number, identity, True))
        self.assertNotIn(line.word, {"first", "second", ""})
        return line

    def test_the_first_reign_that_is_met_goes_on(self) -> None:
        for _ in range(2):
            self.assertGoesOn("a", FIRST)
        self.assertIs(self.reigns.meet("a", Line(*FIRST))[0], self.reigns.seen)

    def test_a_server_without_a_reign_or_with_that_of_another(self) -> None:
        self.assertBegins(1, "a", None)
        self.assertBegins(8, "b", Line(7, "second", "a"))
        self.assertIsNone(self.reigns.seen)

    def test_what_was_begun_goes_on(self) -> None:
        line = self.assertBegins(1, "a", None)
        self.reigns.note_begun(line)
        self.assertGoesOn("a", line)

    def test_a_later_reign_goes_on_and_an_older_one_ends(self) -> None:
        self.assertGoesOn("a", Line(5, "second", "a"))
        self.assertGoesOn("b", Line(6, "other", "b"))
        self.assertBegins(7, "a", Line(5, "second", "a"))
        self.assertBegins(7, "a", Line(6, "second", "a"))
        self.assertBegins(7, "b", None)
        self.assertGoesOn("a", Line(7, "third", "a"))

    def test_whoever_has_written_to_another_server(self) -> None:
        self.assertGoesOn("a", FIRST)
        self.reigns.note_write("a")
        self.assertGoesOn("a", Line(2, "second", "a"))
        line = self.assertBegins(4, "b", Line(3, "third", "b"))
        self.reigns.note_begun(line)
        self.assertGoesOn("b", line)
        # A thread that was at work there comes last.
        self.reigns.note_write("a")
        self.assertBegins(5, "b", line)

    def test_a_server_that_hides_its_identity(self) -> None:
        self.assertBegins(1, HIDDEN, None)
        self.assertGoesOn(HIDDEN, FIRST)
        self.reigns.note_write(HIDDEN)
        self.assertGoesOn(HIDDEN, Line(2, "second", "b"))
        self.assertBegins(3, HIDDEN, FIRST)

    def test_the_line_as_text(self) -> None:
        self.assertEqual(line_in(FIRST.as_text()), FIRST)
        for value in (None, "", 7, b"1 w a", "1 w", "1 w a b", "one w a", ["1 w a"]):
            self.assertIsNone(line_in(value), value)

    def test_what_info_tells(self) -> None:
        server, primary = b"# Server\r\nrun_id:r\r\n", b"role:master\r\nmaster_replid:m\r\n"
        self.assertEqual(identity_in(server, primary), "rm")
        self.assertEqual(identity_in(OSError("NOPERM"), OSError("NOPERM")), HIDDEN)
        self.assertEqual(identity_in(b"", b"role:master\r\n"), HIDDEN)
        with self.assertRaisesMessage(NotPrimary, "no primary but 'slave'"):
            identity_in(server, b"role:slave\r\n")


class Process:
    """A process, with connections and a memory of its own. Its clock stands still."""

    def __init__(self, location: str, **options: Any) -> None:
        backend = settings.CACHES["default"]["BACKEND"]
        config = {"BACKEND": backend, "LOCATION": location, "OPTIONS": options}
        self.now = 0.0
        self.reigns = Reigns(lambda: self.now)
        with override_settings(CACHES={"default": config}):
            self.cache: Any = caches.create_connection("default")
            if CACHE == "django_redis":
                # It keeps pools by URL for the whole process.
                factory = self.cache.client.connection_factory
                factory._pools = {}
        known = mock.patch("cachalot.core.cache.raw_redis.reigns_of", return_value=self.reigns)
        with known:
            self.store = Store(self.cache)
        assert not isinstance(self.store.backend, Following)

    def read(self, rows: bytes) -> bytes:
        """Return what is stored, and otherwise ``rows``, which are stored."""
        nonces, stored, _ = self.store.read(("v",), "e", "other")
        if not isinstance(stored, Stored):
            assert nonces is not None
            stored = Stored(rows, 1.0, 1.0)
            self.store.put({"e": (nonces, stored)}, None)
        return stored.payload

    def write(self) -> None:
        mark = Mark()
        self.store.mark_pending(["v"], mark=mark)
        self.store.renew({"v": None}, mark=mark)

    @property
    def pool(self) -> Any:
        return self.store.backend._pool()  # type: ignore[attr-defined]


@skipUnless(CACHE in {"redis", "django_redis"}, "The cache is no Redis.")
class ServerTests(SimpleTestCase):
    def setUp(self) -> None:
        directory = TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.server = self.start()
        self.address = Address(self.server)
        self.addCleanup(self.address.close)

    def start(self, *options: str) -> Redis:
        server = Redis(self.directory, *options)
        self.addCleanup(server.kill)
        return server.start()

    def process(self, location: str | None = None, **options: Any) -> Process:
        client = Process(location or self.address.location, **options)
        self.addCleanup(lambda: client.pool.disconnect())
        return client

    def with_lagging_replica(self, one: Process) -> Redis:
        """Have ``old`` cached, then a write that the replica never hears of."""
        replica = self.start()
        replica.follow(self.server)
        self.assertEqual(one.read(b"old"), b"old")
        self.server.ask("WAIT", "1", "5000")
        replica.lose_link()
        return replica

    def assertOneReign(self, *clients: Process) -> None:
        words = {client.reigns.seen and client.reigns.seen.word for client in clients}
        self.assertEqual(len(words), 1)

    def restart_from_dump(self) -> tuple[Process, Process]:
        one, other = self.process(), self.process()
        self.assertEqual((one.read(b"old"), other.read(b"new")), (b"old", b"old"))
        self.server.ask("SAVE")
        one.write()
        self.assertEqual((one.read(b"new"), other.read(b"newer")), (b"new", b"new"))
        self.server.kill()
        self.server.start()
        self.address.cut()
        return one, other

    def test_a_restart_from_a_dump(self) -> None:
        one, other = self.restart_from_dump()
        self.assertEqual(other.read(b"new"), b"new")
        self.assertEqual(self.process().read(b"newer"), b"new")
        # The writer cannot know that nobody was ahead of it.
        self.assertEqual((one.read(b"newer"), other.read(b"newest")), (b"newer", b"newer"))
        self.assertOneReign(one, other)

    def test_a_dump_is_stale_to_whoever_does_not_compare(self) -> None:
        told = mock.patch("cachalot.core.cache.redis_packets.identity_in", return_value="same")
        with told:
            _, other = self.restart_from_dump()
            self.assertEqual(other.read(b"new"), b"old")

    def test_a_failover_that_has_lost_a_renewal(self) -> None:
        one, other = self.process(), self.process()
        replica = self.with_lagging_replica(one)
        one.write()
        self.assertEqual(other.read(b"new"), b"new")
        self.server.kill()
        replica.promote()
        self.address.lead_to(replica)
        self.address.cut()
        self.assertEqual(other.read(b"new"), b"new")
        # The writer has written elsewhere.
        self.assertEqual(one.read(b"newer"), b"newer")
        self.assertEqual(other.read(b"newest"), b"newer")
        self.assertOneReign(one, other)

    def test_a_writer_on_the_losing_side_comes_over(self) -> None:
        one, other = self.process(), self.process()
        replica = self.with_lagging_replica(one)
        self.assertEqual(other.read(b"new"), b"old")
        replica.promote()
        self.address.lead_to(replica)
        other.pool.disconnect()
        # Of another server: the old one goes on, for whoever is connected.
        self.assertEqual(other.read(b"old"), b"old")
        one.write()
        self.assertEqual(other.read(b"new"), b"old")
        one.pool.disconnect()
        self.assertEqual(one.read(b"new"), b"new")
        self.assertEqual(other.read(b"newer"), b"new")

    def test_coming_back_to_a_server_that_was_left(self) -> None:
        one, other, idle = self.process(), self.process(), self.process()
        replica = self.with_lagging_replica(one)
        self.assertEqual((other.read(b"new"), idle.read(b"new")), (b"old", b"old"))
        replica.promote()
        self.address.lead_to(replica)
        for client in (one, other):
            client.pool.disconnect()
            client.read(b"old")
        one.write()
        self.assertEqual(other.read(b"new"), b"new")
        replica.kill()
        self.address.lead_to(self.server)
        other.pool.disconnect()
        self.assertEqual(other.read(b"new"), b"new")
        # Who never left is told by the next answer, without asking.
        self.assertEqual(idle.read(b"newer"), b"new")
        self.assertOneReign(other, idle)

    def test_a_primary_that_becomes_a_replica_is_noticed_in_a_second(self) -> None:
        replica = self.start()
        client = self.process()
        self.assertEqual(client.read(b"old"), b"old")
        self.server.ask("REPLICAOF", "127.0.0.1", str(replica.port))
        client.now += 0.9
        self.assertEqual(client.read(b"new"), b"old")
        client.now += 0.2
        with self.assertRaisesMessage(NotPrimary, "'slave'"):
            client.read(b"new")
        # What is asked now is asked of another connection.
        self.server.promote()
        self.assertEqual(client.read(b"new"), b"new")

    def test_the_question_travels_with_others(self) -> None:
        from redis import Connection

        def packets(act: Callable[[], object]) -> list[bytes]:
            sent = mock.patch.object(
                Connection, "send_packed_command", autospec=True,
                side_effect=Connection.send_packed_command,
            )  # fmt: skip
            with sent as sends:
                act()
            return [b"".join(call.args[1]) for call in sends.call_args_list]

        client = self.process()
        client.read(b"rows")
        # The server learns the scripts.
        client.write()
        for act in (
            lambda: client.store.current(("v",)),
            lambda: client.store.mark_pending(("v",)),
            lambda: client.store.renew({"v": None}, "w"),
        ):
            for seconds, asks in ((0.0, False), (1.0, True), (0.5, False)):
                client.now += seconds
                (packet,) = packets(act)
                self.assertIs(b"INFO" in packet, asks)

    def test_a_connection_that_was_left_is_not_used_again(self) -> None:
        client = self.process()
        client.read(b"rows")
        early = client.pool.get_connection()
        client.pool.release(early)
        socket = early._sock
        replica = self.start()
        self.address.lead_to(replica)
        late = client.pool.make_connection()
        client.pool._available_connections.append(late)
        self.assertEqual(client.read(b"others"), b"others")
        client.pool._available_connections.reverse()
        self.assertIs(early._sock, socket)
        self.assertEqual(client.read(b"none"), b"others")
        self.assertIsNot(early._sock, socket)

    def test_many_that_come_at_once_begin_one_reign(self) -> None:
        clients = [self.process() for _ in range(6)]
        barrier = threading.Barrier(len(clients))
        found: list[Any] = []

        def read(client: Process) -> None:
            barrier.wait(10)
            found.append(client.store.current(("v",)))

        threads = [threading.Thread(target=read, args=(client,)) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        self.assertEqual(len(found), len(clients))
        self.assertEqual(len(set(found)), 1)
        self.assertOneReign(*clients)
        assert clients[0].reigns.seen is not None
        self.assertEqual(clients[0].reigns.seen.number, 1)

    def test_a_line_that_is_lost_or_foreign(self) -> None:
        client = self.process()
        name = client.cache.make_key(LINE_KEY)
        client.read(b"old")
        for damage in (
            lambda: client.cache.delete(LINE_KEY),
            lambda: client.cache.set(LINE_KEY, "foreign"),
            lambda: self.server.ask("SET", name, "\x80 no pickle"),
            lambda: (self.server.ask("DEL", name), self.server.ask("LPUSH", name, "x")),
            lambda: self.server.ask("FLUSHALL"),
        ):
            damage()
            self.assertEqual(client.read(b"new"), b"new")
            self.assertEqual(client.read(b"newer"), b"new")
            client.write()
            client.read(b"old")

    def hide(self, *rules: str) -> Process:
        self.server.ask("ACL", "SETUSER", "site", "on", ">secret", "~*", "+@all", *rules)
        return self.process(self.address.location.replace("//", "//site:secret@"))

    def test_a_server_that_hides_who_it_is(self) -> None:
        hidden, known = self.hide("-info"), self.process()
        self.assertEqual(hidden.read(b"old"), b"old")
        # It begins a reign of its own, since nobody knows under whom the first was begun.
        self.assertEqual(known.read(b"new"), b"new")
        for client in (hidden, known):
            self.assertEqual(client.read(b"newer"), b"new")
            client.write()
            self.assertEqual(client.read(b"new"), b"new")
        self.assertOneReign(hidden, known)

    def test_scripts_that_are_forbidden(self) -> None:
        client = self.hide("-@scripting")
        self.assertEqual(client.read(b"old"), b"old")
        self.assertEqual(client.read(b"new"), b"old")
        side: Any = client.store.backend
        self.assertIs(side.runs_scripts(), False)
        self.assertIs(self.process().store.backend.runs_scripts(), True)  # type: ignore[attr-defined]
        # Marks have no owners then.
        client.store.mark_pending(["v"], mark=Mark())
        self.assertIsNone(client.store.current(("v",)))
        client.store.renew({"v": None})
        self.assertEqual(client.read(b"new"), b"new")

    def test_a_cache_that_is_another_each_time(self) -> None:
        client = self.process()
        client.read(b"old")
        with mock.patch.object(client.reigns, "note_begun"):
            self.server.ask("DEL", client.cache.make_key(LINE_KEY))
            with mock.patch.object(client.reigns, "meet", return_value=(Line(9, "w", "a"), True)):
                with self.assertRaisesMessage(OSError, "another one each time"):
                    client.read(b"new")
        self.assertEqual(client.read(b"new"), b"new")

    def test_a_client_that_is_not_known_follows(self) -> None:
        client = self.process()
        client.read(b"old")
        follower = Store(client.cache)
        follower.backend = Following(client.cache)
        self.assertEqual(follower.current(("v",)), client.store.current(("v",)))
        self.server.ask("DEL", client.cache.make_key(LINE_KEY))
        self.assertNotIsInstance(follower.read(("v",), "e", "w")[1], Stored)
        client.read(b"new")
        nonces, stored, _ = follower.read(("v", "added"), "e", "w")
        self.assertEqual(nonces, client.store.current(("v", "added")))
        self.assertNotIsInstance(stored, Stored)
        nonces, stored, _ = follower.read(("v",), "e", "w")
        assert stored is not None
        self.assertEqual(stored.payload, b"new")

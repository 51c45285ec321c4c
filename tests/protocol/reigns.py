"""Caches that return to older content, as step machines: who may believe what, and from when on.

A server has an *identity* that a restart and a promotion change. In its content lies, beside the
versions, one *line*: the identity under which the present *reign* was begun, its number and a word
that no other reign has. An entry carries the word of its reign beside the version of its table, and
is served only under both. So a reign that ends takes all entries along, and leaves versions and
marks as they are.

Each client asks a connection that it has made who is there, before it believes the first answer,
and begins another reign, with a higher number than any it has met, where

- the line is of another identity, or there is none: the content may be of yesterday;
- it has met a higher number, or as high a one under another word: it comes back to a server that
  was left for another one;
- it has written to another server since: what it gave new versions there has old ones here.

Faults: the server restarts from a dump, or a replica that lags takes its place (the cache returns
to older content, and all connections are cut); or the replica is promoted while the old primary
still answers whoever is connected (two servers for a while), which ends when one of them dies.

What is checked, *fresh*: a read that begins after a write has returned has its change. Excepted is
a read from one server after a write to the other while there are two, until the writer has come
over, or the reader comes back from where it was made.

The rest of the protocol is in ``model``. Here a table is read, and written, in as few steps as it
can be: the questions of one packet are one step, since one server answers them at once. Marks have
owners as in ``server_marks``; a server may refuse one, or a new version, or hear one twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.protocol.world import Event, Step

PENDING = "pending"


class Line(NamedTuple):
    """Which reign it is: the server it was begun on, how many there were, a word of its own."""

    identity: int
    number: int
    word: str


class Content(NamedTuple):
    """What lies in one server."""

    line: Line | None
    #: A nonce, or ``PENDING``, or None.
    version: str | None
    #: The word, the nonce and the rows; rows are a set of writers as bits.
    entry: tuple[str, str, int] | None
    #: Whose marks stand, as bits.
    marks: int = 0


class Server(NamedTuple):
    identity: int
    content: Content
    #: The writes that have returned and which a read from here must have.
    done: int = 0
    is_up: bool = True


class Client(NamedTuple):
    """A process, how far it is, and what it remembers."""

    step: str
    #: How often it still reads.
    left: int = 0
    #: Whom it is connected to, and whether it has asked who that is.
    server: int | None = 0
    has_asked: bool = True
    #: The highest reign that it has met.
    seen: Line | None = None
    #: Identities that it has written to.
    wrote: frozenset[int] = frozenset()
    #: What it found on a connection it has made, to be replaced.
    found: Line | None = None
    then: str = ""
    #: Of a read: what it must have, what was got, what the database gave.
    required: int | None = None
    got: tuple[str, str] = ("", "")
    rows: int = 0
    #: Of a read: the writes that had returned on the promoted server when it was cut off there.
    knows: int = 0


class Realm(NamedTuple):
    """One moment."""

    clients: tuple[Client, ...]
    servers: tuple[Server, ...]
    #: Where a new connection leads.
    address: int = 0
    committed: int = 0
    dump: Content | None = None
    words: int = 0
    added: int = 0
    # Faults that may still happen.
    restarts: int = 0
    splits: int = 0
    kills: int = 0
    refusals: int = 0
    repeats: int = 0
    #: Renewals that may arrive once more: who sent them, and where to.
    sent: frozenset[tuple[int, int]] = frozenset()


class Course(NamedTuple):
    """How many readers, reads of each and writers there are, and what may happen to them."""

    name: str
    readers: int = 2
    reads: int = 2
    writers: int = 1
    restarts: int = 0
    splits: int = 0
    kills: int = 0
    refusals: int = 0
    repeats: int = 0


COURSES = (
    Course("a restart from a dump, and a kill", restarts=1, kills=1),
    Course("two restarts", readers=1, restarts=2),
    Course("two servers for a while, and a kill", readers=1, splits=1, kills=1),
    Course("two writers, a command sent twice", writers=2, repeats=1),
    Course("a restart, and a command sent twice", readers=1, restarts=1, repeats=1),
    Course("a restart and two refusals", readers=1, restarts=1, refusals=2),
)
#: Those of over 100,000 states, which the tests leave to ``python -m tests.protocol``.
LARGE = (
    Course("two writers and a restart", readers=1, writers=2, restarts=1),
    Course("two servers for a while, two readers", reads=1, splits=1),
    Course("two servers for a while, a command sent twice", readers=1, splits=1, repeats=1),
    Course("two writers and a refusal", writers=2, refusals=1),
)


class Reigns:
    """The protocol. A mutant overrides what it does otherwise."""

    #: Whether the first answer on a new connection waits for an answer to who is there.
    asks_new_connections = True

    def __init__(self, course: Course) -> None:
        self.course = course
        self.names = tuple(
            [f"W{n + 1}" for n in range(course.writers)]
            + [f"R{n + 1}" for n in range(course.readers)]
        )

    def start(self) -> Realm:
        line = Line(0, 1, "reign 0")
        content = Content(line, "v0", (self.word_of(line), "v0", 0))
        writers = tuple(Client("mark", seen=line) for _ in range(self.course.writers))
        readers = tuple(
            Client("get", self.course.reads, seen=line) for _ in range(self.course.readers)
        )
        course = self.course
        return Realm(
            writers + readers,
            (Server(0, content),),
            restarts=course.restarts,
            splits=course.splits,
            kills=course.kills,
            refusals=course.refusals,
            repeats=course.repeats,
        )

    def broken_at_end(self, realm: Realm) -> tuple[str, str] | None:
        return None

    # What may be done otherwise

    def word_of(self, line: Line) -> str:
        """Return what an entry carries of its reign."""
        return line.word

    def new_word(self, realm: Realm, identity: int) -> str:
        return f"reign {realm.words + 1}"

    def must_begin(self, client: Client, identity: int, line: Line | None) -> bool:
        """Whether a client that finds this line on this server begins another reign."""
        return (
            self.is_of_another(identity, line)
            or self.has_left(client, line)
            or self.has_written_elsewhere(client, identity)
        )

    def is_of_another(self, identity: int, line: Line | None) -> bool:
        return line is None or line.identity != identity

    def has_left(self, client: Client, line: Line | None) -> bool:
        assert client.seen is not None
        return line is None or (line != client.seen and line.number <= client.seen.number)

    def has_written_elsewhere(self, client: Client, identity: int) -> bool:
        return bool(client.wrote - {identity})

    def word_to_store_under(self, client: Client, content: Content) -> str:
        return client.got[0]

    def line_in_force(self, client: Client, content: Content) -> Line | None:
        """Return the line that a read goes by."""
        return content.line

    def without_own_mark(self, content: Content, nonce: str) -> str | None:
        return content.version if content.version == PENDING else None

    def refused(self, content: Content, has_others: bool) -> str | None:
        return content.version if has_others else None

    # Steps

    def steps(self, realm: Realm) -> Iterator[Step]:
        for who, client in enumerate(realm.clients):
            if client.step in {"done", "killed"}:
                continue
            yield from self._step(realm, who, client)
            if realm.kills and client.step in {"commit", "renew"}:
                killed = self._with(realm, who, client._replace(step="killed"))
                yield self._said(who, "is killed", killed._replace(kills=realm.kills - 1))
        if realm.repeats:
            for who, sent_to in sorted(realm.sent):
                # It may find another server at the address.
                for at in {sent_to, realm.address}:
                    if realm.servers[at].is_up:
                        heard = self._put(realm, at, **self._renewed(realm, who, at))
                        heard = heard._replace(repeats=realm.repeats - 1, sent=frozenset())
                        yield self._said(who, f"is heard once more by server {at}", heard)
        yield from self._faults(realm)

    def _step(self, realm: Realm, who: int, client: Client) -> Iterator[Step]:
        if client.step in {"query", "commit"}:
            yield getattr(self, client.step)(realm, who, client)
        elif client.step == "begin":
            yield self.begin(realm, who, client)
        elif client.server is None:
            yield self._connect(realm, who, client)
        elif not client.has_asked and client.step != "put" and self.asks_new_connections:
            yield self.ask(realm, who, client)
        else:
            yield getattr(self, client.step)(realm, who, client)
            if not client.has_asked and client.step != "put":
                yield self.ask(realm, who, client)  # as it does once in a while anyway
            if realm.refusals and client.step in {"mark", "renew"}:
                yield self._refuse(realm._replace(refusals=realm.refusals - 1), who, client)

    def _connect(self, realm: Realm, who: int, client: Client) -> Step:
        client = client._replace(server=realm.address, has_asked=False)
        return self._said(who, "connects anew", self._with(realm, who, client))

    def ask(self, realm: Realm, who: int, client: Client) -> Step:
        """Ask who is there, and which reign it is."""
        assert client.server is not None
        server = realm.servers[client.server]
        line = server.content.line
        if self.must_begin(client, server.identity, line):
            client = client._replace(step="begin", found=line, then=client.step)
        else:
            client = self._arrived(client, server.identity, line)
            realm = self._settle(realm, who, client)
        realm = self._with(realm, who, client)
        return self._said(who, f"asks server {client.server}, finds {line}", realm)

    def begin(self, realm: Realm, who: int, client: Client) -> Step:
        """Begin another reign, if nobody has done so since the client asked."""
        then = client._replace(step=client.then, found=None, then="", has_asked=False)
        if client.server is None:
            return self._said(who, "has lost its connection", self._with(realm, who, then))
        server = realm.servers[client.server]
        if server.content.line != client.found:
            return self._said(who, "is told of another reign", self._with(realm, who, then))
        assert client.seen is not None
        highest = max(client.seen.number, client.found.number if client.found else 0)
        line = Line(server.identity, highest + 1, self.new_word(realm, server.identity))
        realm = self._put(realm, client.server, line=line)._replace(words=realm.words + 1)
        then = self._arrived(then, server.identity, line)
        realm = self._settle(realm, who, then)
        return self._said(who, f"begins {line}", self._with(realm, who, then))

    def _arrived(self, client: Client, identity: int, line: Line | None) -> Client:
        return client._replace(has_asked=True, seen=line, wrote=client.wrote & {identity})

    def _settle(self, realm: Realm, who: int, client: Client) -> Realm:
        """Have what a writer did elsewhere count where it has come to."""
        assert client.server is not None
        has_returned = client.step in {"check", "done", "idle"}
        if who >= self.course.writers or not has_returned:
            return realm
        return self._count(realm, client.server, 1 << who)

    def _count(self, realm: Realm, at: int, writes: int) -> Realm:
        server = realm.servers[at]
        server = server._replace(done=server.done | writes)
        servers = (*realm.servers[:at], server, *realm.servers[at + 1 :])
        return realm._replace(servers=servers)

    # A write

    def mark(self, realm: Realm, who: int, client: Client) -> Step:
        marks = self._content_of(realm, client).marks | 1 << who
        return self._write(realm, who, client, "commit", version=PENDING, marks=marks)

    def commit(self, realm: Realm, who: int, client: Client) -> Step:
        realm = realm._replace(committed=realm.committed | 1 << who)
        return self._said(who, "commits", self._with(realm, who, client._replace(step="renew")))

    def renew(self, realm: Realm, who: int, client: Client) -> Step:
        assert client.server is not None
        if realm.repeats:
            realm = realm._replace(sent=realm.sent | {(who, client.server)})
        step = self._write(realm, who, client, "idle", **self._renewed(realm, who, client.server))
        return step._replace(world=self._count(step.world, client.server, 1 << who))  # type: ignore[arg-type]

    def _renewed(self, realm: Realm, who: int, at: int) -> dict[str, object]:
        """Return what a server makes of a renewal. A mark that is gone tells it came before."""
        content = realm.servers[at].content
        if left := content.marks & ~(1 << who):
            return {"version": PENDING, "marks": left}
        nonce = f"v.{self.names[who]}"
        is_own = content.marks & 1 << who
        return {"version": nonce if is_own else self.without_own_mark(content, nonce), "marks": 0}

    def _write(self, realm: Realm, who: int, client: Client, then: str, **changes: object) -> Step:
        assert client.server is not None
        identity = realm.servers[client.server].identity
        realm = self._put(realm, client.server, **changes)
        client = client._replace(step=then, wrote=client.wrote | {identity})
        words = f"sets {changes['version']} on server {client.server}"
        return self._said(who, words, self._with(realm, who, client))

    def _refuse(self, realm: Realm, who: int, client: Client) -> Step:
        """Refuse a mark or a renewal. The writer goes on: what is refused is deleted."""
        assert client.server is not None
        content = self._content_of(realm, client)
        others = content.marks & ~(1 << who)
        version = self.refused(content, bool(others))
        marks = content.marks if others else 0
        then = "commit" if client.step == "mark" else "idle"
        step = self._write(realm, who, client, then, version=version, marks=marks)
        if then == "commit":
            return step
        return step._replace(world=self._count(step.world, client.server, 1 << who))  # type: ignore[arg-type]

    def _content_of(self, realm: Realm, client: Client) -> Content:
        assert client.server is not None
        return realm.servers[client.server].content

    def idle(self, realm: Realm, who: int, client: Client) -> Step:
        """A writer that lives on has nothing more to do."""
        return self._said(who, "ends", self._with(realm, who, client._replace(step="done")))

    # A read

    def get(self, realm: Realm, who: int, client: Client) -> Step:
        """Get line, version and entry by one question."""
        assert client.server is not None
        server = realm.servers[client.server]
        version, entry = server.content.version, server.content.entry
        line = self.line_in_force(client, server.content)
        if client.required is None:
            client = client._replace(required=server.done | client.knows)
        if line is None or (line != client.seen and client.has_asked):
            client = client._replace(has_asked=False)
            return self._said(who, "finds another reign", self._with(realm, who, client))
        if version is None:
            nonce = f"v.{self.names[who]}.{client.left}.{realm.words}.{realm.added}"
            # It may be deleted and added again.
            added = realm.added + bool(self.course.refusals or self.course.repeats)
            realm = self._put(realm._replace(added=added), client.server, version=nonce)
            return self._said(who, f"adds {nonce}", self._with(realm, who, client))
        if version == PENDING:
            return self._end_read(realm, who, client, "queries for itself", realm.committed)
        if entry is not None and entry[:2] == (self.word_of(line), version):
            return self._end_read(realm, who, client, f"hits on server {client.server}", entry[2])
        client = client._replace(step="query", got=(self.word_of(line), version))
        return self._said(who, f"misses under {client.got}", self._with(realm, who, client))

    def query(self, realm: Realm, who: int, client: Client) -> Step:
        client = client._replace(step="put", rows=realm.committed)
        return self._said(who, "queries", self._with(realm, who, client))

    def put(self, realm: Realm, who: int, client: Client) -> Step:
        """Store an entry, wherever the connection leads: it tells under what."""
        assert client.server is not None
        content = realm.servers[client.server].content
        entry = self.word_to_store_under(client, content), client.got[1], client.rows
        realm = self._put(realm, client.server, entry=entry)
        client = client._replace(got=("", ""))
        return self._end_read(realm, who, client, f"stores {entry}", client.rows)

    def _end_read(self, realm: Realm, who: int, client: Client, what: str, rows: int) -> Step:
        assert client.required is not None
        lacking = client.required & ~rows
        broken = ("fresh", f"{self.names[who]} lacks the writes {lacking:b}") if lacking else None
        left = client.left - 1
        client = client._replace(step="get" if left else "done", left=left, required=None, rows=0)
        return self._said(who, what, self._with(realm, who, client), broken)

    # Faults

    def _faults(self, realm: Realm) -> Iterator[Step]:
        if len(realm.servers) == 1:
            content = realm.servers[0].content
            if realm.dump is None and realm.restarts + realm.splits:
                yield Step(Event("The server", "is copied"), realm._replace(dump=content))
            if realm.dump is not None and realm.restarts:
                yield self._restart(realm)
            if realm.dump is not None and realm.splits:
                yield self._split(realm)
            return
        for dead, other in (0, 1), (1, 0):
            if realm.servers[dead].is_up and realm.servers[other].is_up:
                yield self._die(realm, dead, other)
        for who, client in enumerate(realm.clients):
            if client.server is not None and client.server != realm.address:
                yield self._said(who, "is cut off", self._cut(realm, who))

    def _restart(self, realm: Realm) -> Step:
        assert realm.dump is not None
        server = realm.servers[0]
        server = server._replace(identity=server.identity + 1, content=realm.dump)
        realm = realm._replace(servers=(server,), restarts=realm.restarts - 1)
        for who in range(len(realm.clients)):
            realm = self._cut(realm, who)
        return Step(Event("The server", "returns to older content"), realm)

    def _split(self, realm: Realm) -> Step:
        assert realm.dump is not None
        other = Server(100, realm.dump, realm.servers[0].done)
        servers = (*realm.servers, other)
        realm = realm._replace(servers=servers, splits=realm.splits - 1, address=1)
        return Step(Event("The replica", "is promoted, the primary lives on"), realm)

    def _die(self, realm: Realm, dead: int, other: int) -> Step:
        server = realm.servers[dead]._replace(is_up=False)
        servers = (*realm.servers[:dead], server, *realm.servers[dead + 1 :])
        for who, client in enumerate(realm.clients):
            if client.server == dead:
                realm = self._cut(realm, who)
        realm = realm._replace(servers=servers, address=other)
        return Step(Event(f"Server {dead}", "dies"), realm)

    def _cut(self, realm: Realm, who: int) -> Realm:
        client = realm.clients[who]
        if client.server is None:
            return realm
        knows = client.knows
        if client.server == 1 and client.has_asked:
            knows |= realm.servers[client.server].done
        client = client._replace(server=None, has_asked=False, knows=knows)
        return self._with(realm, who, client)

    # Parts of a step

    def _with(self, realm: Realm, who: int, client: Client) -> Realm:
        clients = (*realm.clients[:who], client, *realm.clients[who + 1 :])
        return realm._replace(clients=clients)

    def _put(self, realm: Realm, at: int, **changes: object) -> Realm:
        server = realm.servers[at]
        server = server._replace(content=server.content._replace(**changes))  # type: ignore[arg-type]
        return realm._replace(servers=(*realm.servers[:at], server, *realm.servers[at + 1 :]))

    def _said(
        self, who: int, what: str, realm: Realm, broken: tuple[str, str] | None = None
    ) -> Step:
        return Step(Event(self.names[who], what), realm, broken)  # type: ignore[arg-type]

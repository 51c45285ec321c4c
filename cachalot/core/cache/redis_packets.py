"""Packets of commands on a connection of redis-py, and which server has answered them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from redis.exceptions import ConnectionError as ConnectionCut
from redis.exceptions import ResponseError

from cachalot.core.cache.reigns import CHECK_SECONDS, Line, Reigns, identity_in, line_in
from cachalot.core.interruptions import is_interruption

logger = logging.getLogger("cachalot")


def packed(*words: bytes) -> bytes:
    """Return a command as it is sent."""
    parts = [b"*%d\r\n" % len(words)]
    parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
    return b"".join(parts)


_QUESTION = packed(b"INFO", b"server") + packed(b"INFO", b"replication")

# Replaces the line if it is still the one found, and returns the one in force. MGET takes a value
# of another type for none, as those who look for the line do.
_BEGIN = b"""
local line = redis.call('MGET', KEYS[1])[1] or ''
if line ~= ARGV[1] then return line end
redis.call('SET', KEYS[1], ARGV[2])
return ARGV[2]
"""

# One may begin while another is met, and so on; a cache where that goes on is of no use.
_MOST_REIGNS = 8


class _Met(NamedTuple):
    """Who was found at the other end of a connection."""

    # A new one means that the connection was made anew.
    socket: Any
    raw_line: bytes
    line: Line
    identity: str
    until: float


#: The replies to commands, the word of the reign, and what lay under the keys asked for.
Answer = tuple[list[Any], str, list[Any]]


def send(pool: Any, commands: list[bytes]) -> list[Any]:
    """Send commands at once, to whichever server, and return their replies.

    Raise the first that is an error.
    """
    connection = pool.get_connection()
    is_clean = False
    try:
        connection.send_packed_command([b"".join(commands)])
        replies = _replies(connection, len(commands))
        is_clean = True
    finally:
        if not is_clean:
            connection.disconnect()
        pool.release(connection)
    return without_errors(replies)


class Primary:
    """One server, whichever is the primary, and what this process knows of its reigns.

    ``encode`` and ``decode`` are those of the cache.
    """

    def __init__(
        self,
        reigns: Reigns,
        line_name: bytes,
        encode: Callable[[str], bytes],
        decode: Callable[[bytes], Any],
    ) -> None:
        self._reigns = reigns
        self._line_name = line_name
        self._encode = encode
        self._decode = decode

    def ask(
        self,
        pool: Any,
        commands: list[bytes],
        names: Sequence[bytes],
        *,
        needs_word: bool = True,
        writes: bool = False,
    ) -> Answer:
        """Send commands, once, and get what lies under names behind them, in one packet.

        No answer is believed before the server has told who it is, in the same packet, on a
        connection that is new, and once in ``CHECK_SECONDS``. ``writes`` tells that the commands
        set versions. Raise the first reply that is an error. Whatever interrupts it, the next to
        have the connection finds no reply of another's on it.
        """
        may_repeat = not commands
        replies: list[Any] = []
        connection = pool.get_connection()
        is_clean = False
        try:
            for _ in range(_MOST_REIGNS):
                met = self._ready(connection)
                socket = connection._sock
                gets = met is None or needs_word
                get = packed(b"MGET", self._line_name, *names) if gets else b""
                told: list[Any] = []
                values: list[Any] | None = None
                try:
                    if met is None:
                        packet = b"".join((_QUESTION, *commands, get))
                        connection.send_packed_command([packet], False)
                        told = _replies(connection, 2)
                    else:
                        connection.send_packed_command([b"".join((*commands, get))], False)
                    if commands:
                        replies, commands = _replies(connection, len(commands)), []
                    if gets:
                        values = connection.read_response(disable_decoding=True)
                except ConnectionCut:
                    if not (may_repeat and connection.retry._retries):
                        raise
                    may_repeat = False
                    connection.disconnect()
                    continue
                if connection._sock is not socket:
                    raise ConnectionCut("The connection was made anew while it was waited for.")
                if met is None:
                    assert values is not None
                    met = self._meet(connection, told, values[0])
                elif values is not None and values[0] != met.raw_line:
                    # Another reign: nothing that was got is of it.
                    met = connection._cachalot_met = None
                if met is not None:
                    if writes:
                        self._reigns.note_write(met.identity)
                    is_clean = True
                    return without_errors(replies), met.line.word, values or []
        finally:
            if not is_clean:
                connection.disconnect()
            # Not reached if that is interrupted: better one connection less than one out of step.
            pool.release(connection)
        raise OSError("the cache is another one each time it is asked")

    def _ready(self, connection: Any) -> _Met | None:
        """Make a connection ready. Return who is at the other end; None if that is to be asked."""
        reigns = self._reigns
        met: _Met | None = getattr(connection, "_cachalot_met", None)
        # Not while the packet is sent: a new connection must not come in unnoticed.
        if connection.health_check_interval:
            connection.check_health()
        if (
            met is not None
            and met.line is reigns.seen
            and met.socket is connection._sock
            and reigns.time() < met.until
        ):
            return met
        seen = reigns.seen
        if met is not None and seen is not None and met.line.identity != seen.identity:
            # This process has left that server for another.
            connection.disconnect()
        if connection._sock is None:
            connection.connect()
        return None

    def _meet(self, connection: Any, told: list[Any], raw_line: bytes | None) -> _Met | None:
        """Note who is there; None if another reign had to be begun, or was begun by another."""
        identity = identity_in(*told)
        reign, is_new = self._reigns.meet(identity, self._line_in(raw_line))
        if not is_new:
            assert raw_line is not None
            until = self._reigns.time() + CHECK_SECONDS
            met = _Met(connection._sock, raw_line, reign, identity, until)
            connection._cachalot_met = met
            return met
        line = self._encode(reign.as_text())
        begin = packed(b"EVAL", _BEGIN, b"1", self._line_name, raw_line or b"", line)
        in_force = _exchange(connection, begin)
        if isinstance(in_force, ResponseError):
            # Scripts may be forbidden. Then each client that comes at once begins one.
            without_errors([_exchange(connection, packed(b"SET", self._line_name, line))])
            in_force = line
        if in_force == line:
            self._reigns.note_begun(reign)
        return None

    def _line_in(self, raw: bytes | None) -> Line | None:
        try:
            return None if raw is None else line_in(self._decode(raw))
        except Exception as error:
            if is_interruption(error):
                raise
            logger.debug("The line of the reign cannot be decoded: %r", error)
            return None


def _exchange(connection: Any, packet: bytes) -> Any:
    """Send one command and return its reply, an error as well."""
    connection.send_packed_command([packet], False)
    return _replies(connection, 1)[0]


def _replies(connection: Any, number: int) -> list[Any]:
    """Return as many replies, those that are errors as well: the others have to be read."""
    replies = []
    for _ in range(number):
        try:
            replies.append(connection.read_response(disable_decoding=True))
        except ResponseError as error:
            replies.append(error)
    return replies


def without_errors(replies: list[Any]) -> list[Any]:
    """Return replies. Raise the first that is an error."""
    for reply in replies:
        if isinstance(reply, ResponseError):
            raise reply
    return replies

"""Marks and new versions as scripts: Redis runs each at one moment, by its own clock.

Beside a version lies a list of those whose marks stand, each with its end. While any does, the
version is pending, until the last of them ends: so whoever reads needs to look at the version
alone. ``tests/protocol/server_marks.py`` has the rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha1
from typing import NamedTuple, TypeVar

from redis.exceptions import NoPermissionError, ResponseError

from cachalot.core.cache.redis_packets import packed
from cachalot.core.cache.versions import PENDING_TIMEOUT

T = TypeVar("T")

#: A script holds up everybody else for as long as it runs.
MOST_KEYS = 1000

# ``left`` is what others have marked, ``last`` the end of the last of it, in milliseconds.
_BEGIN = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local owner, pending = ARGV[1], ARGV[2]

local function standing(list)
  local left, last, is_own = {}, 0, false
  for id, ends in string.gmatch(redis.call('GET', list) or '', '(%S+) (%d+)') do
    if id == owner then
      is_own = true
    elseif tonumber(ends) > now then
      left[#left + 1] = id .. ' ' .. ends
      last = math.max(last, tonumber(ends))
    end
  end
  return left, last, is_own
end

local function add(left, last, id, milliseconds)
  local ends = now + milliseconds
  for i = #left, 1, -1 do
    local known = string.match(left[i], '^' .. id .. ' (%d+)$')
    if known then
      ends = math.max(ends, tonumber(known))
      table.remove(left, i)
    end
  end
  left[#left + 1] = string.format('%s %.0f', id, ends)
  return math.max(last, ends)
end

local function keep(version, list, left, last)
  local reply = redis.pcall('SET', list, table.concat(left, ' '), 'PX', last - now)
  if reply.err then return reply end
  return redis.pcall('SET', version, pending, 'PX', last - now)
end

local function is_pending(version)
  return redis.call('PTTL', version) > 0
end
"""

_MARK = (
    _BEGIN
    + """
local refusal
for i = 1, #KEYS, 2 do
  local left, last = standing(KEYS[i + 1])
  last = add(left, last, owner, ARGV[3])
  local reply = keep(KEYS[i], KEYS[i + 1], left, last)
  if reply.err then
    refusal = reply
    if not is_pending(KEYS[i]) then redis.pcall('DEL', KEYS[i]) end
  end
end
return refusal or redis.status_reply('OK')
"""
)

_RENEW = (
    _BEGIN
    + """
local is_refused = false
for i = 1, #KEYS, 2 do
  local version, list = KEYS[i], KEYS[i + 1]
  local left, last, is_own = standing(list)
  local seconds = tonumber(ARGV[i + 3])
  if seconds > 0 then last = add(left, last, 'lag', seconds * 1000) end
  if #left > 0 then
    if keep(version, list, left, last).err and not is_pending(version) then
      redis.call('DEL', version)
    end
  elseif is_own or (owner == '' and not is_pending(version)) then
    is_refused = is_refused or redis.pcall('SET', version, ARGV[i + 2]).err
    if is_refused then redis.call('DEL', version) end
    if is_own then redis.call('DEL', list) end
  elseif not is_pending(version) then
    redis.call('DEL', version)
  end
end
return redis.status_reply('OK')
"""
)


class Script(NamedTuple):
    """A script, and the words that have Redis run it if it knows it already."""

    text: bytes
    digest: bytes


#: What the script that marks is given to mark nothing.
NOTHING = (b"0", b"", b"", b"0")


def _script(text: str) -> Script:
    return Script(text.encode(), sha1(text.encode()).hexdigest().encode())


MARK, RENEW = _script(_MARK), _script(_RENEW)


def list_of(name: bytes) -> bytes:
    """Return what the marks of a version lie under."""
    return name + b":marks"


def mark_words(names: Sequence[bytes], owner: bytes, pending: bytes) -> Iterator[tuple[bytes, ...]]:
    """Yield what the script that marks is given behind its own name, some keys at a time."""
    for part in _parts(names):
        yield (*_keys(part), owner, pending, b"%d" % (PENDING_TIMEOUT * 1000))


def renew_words(
    names: Sequence[bytes],
    owner: bytes,
    pending: bytes,
    versions: Sequence[tuple[bytes, int]],
) -> Iterator[tuple[bytes, ...]]:
    """Yield the same of the script that renews.

    Each version comes with the seconds for which it stays pending instead.
    """
    for part, new in zip(_parts(names), _parts(versions), strict=True):
        values = [word for raw, seconds in new for word in (raw, b"%d" % seconds)]
        yield (*_keys(part), owner, pending, *values)


def _parts(sequence: Sequence[T]) -> Iterator[Sequence[T]]:
    for begin in range(0, len(sequence), MOST_KEYS):
        yield sequence[begin : begin + MOST_KEYS]


def _keys(names: Sequence[bytes]) -> list[bytes]:
    return [b"%d" % (2 * len(names)), *(key for name in names for key in (name, list_of(name)))]


def commands_of(
    script: Script, words: Sequence[tuple[bytes, ...]], *, in_full: bool = False
) -> list[bytes]:
    """Return the commands that run a script, ``in_full`` where Redis does not know it yet."""
    name = (b"EVAL", script.text) if in_full else (b"EVALSHA", script.digest)
    return [packed(*name, *each) for each in words]


def is_forbidden(error: ResponseError) -> bool:
    """Whether the server runs no scripts for this user, or none at all."""
    return isinstance(error, NoPermissionError) or str(error).lower().startswith("unknown command")

"""Versions that all processes of one machine share: a board of slots in memory.

The hash of a version key tells its slot. Two keys in one slot cost a query now and then, never a
stale result. A slot is four words:

0. the *word*: a nonce, or ``PENDING`` plus the moment until which somebody is at work;
1. when it was last invalidated, in nanoseconds since the epoch;
2. the marks that stand: in 24 bits the number of a window of time, and in 10 bits each how many
   were set in the third window before it, the second, the first, and in itself;
3. until when it stays pending whoever lifts what.

*One load of the word decides*, and readers take no lock. A mark is lifted by whoever has set it, or
by time, of which each has its own share: that of a writer who was killed ends however often others
write. Whoever is killed between any two stores leaves a slot pending, or a mark too many.

A nonce is told as the word XOR the *reign* of its cache, which is random: a new file and
``cache.clear()`` begin another reign, and nothing that was stored under an older one is found.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from zlib import crc32

from cachalot.core.cache import board_file
from cachalot.core.cache.board_file import FIRST_WORD, BoardFile
from cachalot.core.cache.versions import PENDING_TIMEOUT, Mark

#: How many slots there are. Of 10,000 dependencies, one in seven shares its slot with another one.
SLOTS = 65_536

#: What is below is a nonce.
PENDING = 1 << 63

_SLOT, _REIGNS = 4, 64
_TIME, _MARKS, _HELD = 1, 2, 3
# Where the time of the latest write lies, the reigns, and the slots.
_LATEST = FIRST_WORD
_FIRST_REIGN = FIRST_WORD + 1
_FIRST_SLOT = _FIRST_REIGN + _SLOT * _REIGNS

#: The reign of what no ``clear()`` concerns. It ends with the file.
LASTING = _FIRST_REIGN

_SECOND = 10**9
#: A mark stands until the end of the third window after its own.
_WINDOW = PENDING_TIMEOUT * _SECOND // 3
_WINDOWS = 4
#: What would be pending for longer than this is damaged.
_LONGEST = 86_400 * _SECOND
#: A window in which this many marks were set keeps them all to its end.
_MANY = (1 << 10) - 1
_ALL_MARKS = (1 << 40) - 1


class Board:
    """The board at ``path``, None for the default place. Every method raises ``OSError``.

    A slot and a reign are told by where they begin, as ``slot_of()`` and ``reign_of()`` say.
    """

    def __init__(self, path: str | None = None) -> None:
        self.file = BoardFile(path, _FIRST_SLOT + _SLOT * SLOTS, begin)

    @staticmethod
    def slot_of(name: str) -> int:
        """Return where the slot of a version begins."""
        return _FIRST_SLOT + _SLOT * (_hash(name) % SLOTS)

    @staticmethod
    def reign_of(cache_name: str) -> int:
        """Return where the reign of a cache begins, which is a slot like others."""
        return _FIRST_REIGN + _SLOT * (1 + _hash(cache_name) % (_REIGNS - 1))

    def read(self, places: Iterable[tuple[int, int]]) -> list[int]:
        """Return the nonce in each slot under each reign, or what is ``PENDING`` or above."""
        words = self._words()
        return [
            # The slot first: whoever makes a board of a damaged file changes the reigns first.
            word ^ words[reign]
            if (word := words[slot]) < PENDING
            else self._unless_expired(slot, word, reign)
            for slot, reign in places
        ]

    def _unless_expired(self, slot: int, pending: int, reign: int) -> int:
        """Return what is pending, or the nonce that its slot gets because the time is over."""
        if 0 < pending - PENDING - board_file.machine_time() <= _LONGEST:
            return pending

        def renew(words: memoryview, now: int) -> int:
            if words[slot] == pending:
                words[slot + _MARKS] = words[slot + _HELD] = 0
                words[slot] = _new_word()
            word = words[slot]
            return word ^ words[reign] if word < PENDING else word

        return self.file.change(renew)

    def times(self, places: Iterable[tuple[int, int]]) -> list[float]:
        """Return when each was invalidated last, in seconds since the epoch.

        What never was counts from the begin of the reign.
        """
        words = self._words()
        return [max(words[slot + _TIME], words[reign + _TIME]) / _SECOND for slot, reign in places]

    def invalidated(self, places: Iterable[tuple[int, int]]) -> list[tuple[float, bool] | None]:
        """Return when each was invalidated last under its reign, and whether it is pending.

        That is None for what never was.
        """
        words = self._words()
        return [
            (words[slot + _TIME] / _SECOND, words[slot] >= PENDING)
            if words[slot + _TIME] > words[reign + _TIME]
            else None
            for slot, reign in places
        ]

    def _words(self) -> memoryview:
        file = self.file
        if not file.is_trusted():
            file.look()
        return file.words

    def mark(self, slots: Iterable[int], mark: Mark) -> None:
        """Make slots pending until ``renew()`` is given the same ``mark``, or time lifts it."""

        def change(words: memoryview, now: int) -> None:
            if mark.place is not self.file.opening:
                mark.place, mark.windows = self.file.opening, {}
            window, stamp = now // _WINDOW, _new_time(words)
            until = (window + _WINDOWS) * _WINDOW
            for slot in slots:
                # First of all: who is killed behind it has marked, and made no change yet.
                held = words[slot + _HELD]
                words[slot] = PENDING | (max(until, _held(held, now)) if held else until)
                words[slot + _TIME] = stamp
                if mark.windows.get(slot) != window:
                    word = words[slot + _MARKS]
                    marks = _standing(word, window) if word & _ALL_MARKS else 0
                    marks += marks & _MANY < _MANY
                    # In one line: no exception of the program comes between the two.
                    words[slot + _MARKS], mark.windows[slot] = window << 40 | marks, window

        self.file.change(change)

    def renew(self, slots: Mapping[int, int | None], mark: Mark | None = None) -> None:
        """Give slots new nonces. Each comes with the seconds for which it stays pending instead.

        So does, for as long as they stand, what others than ``mark`` have marked.
        """

        def change(words: memoryview, now: int) -> None:
            is_ours = mark is not None and mark.place is self.file.opening
            own = mark.windows if mark is not None and is_ours else {}
            window, stamp, nonce = now // _WINDOW, _new_time(words), _new_word()
            for slot, seconds in slots.items():
                word, set_in = words[slot + _MARKS], own.get(slot)
                if set_in == window and word == window << 40 | 1:
                    marks = 0  # there was none but ours, as nearly always
                else:
                    marks = _without(_standing(word, window), window, set_in)
                # In one line, since what is done twice must lift it once.
                words[slot + _MARKS], _ = window << 40 | marks, own.pop(slot, None)
                held = words[slot + _HELD]
                if held:
                    held = _held(held, now)
                if seconds:
                    held = words[slot + _HELD] = max(held, now + seconds * _SECOND)
                words[slot + _TIME] = stamp
                until = max(held, _end_of(marks, window)) if marks else held
                words[slot] = PENDING | until if until else nonce

        self.file.change(change)

    def clear(self, reign: int) -> None:
        """Make everything invalid that any process has stored in a cache."""

        def change(words: memoryview, now: int) -> None:
            words[reign + _TIME] = _new_time(words)
            words[reign] = _new_word()

        self.file.change(change)


def begin(words: memoryview) -> None:
    """Make a board of any words."""
    stamp = words[_LATEST] = board_file.wall_time()
    for reign in range(_FIRST_REIGN, _FIRST_SLOT, _SLOT):
        words[reign], words[reign + _TIME] = _new_word(), stamp
    words.cast("B")[8 * _FIRST_SLOT :] = bytes(8 * _SLOT * SLOTS)


def _hash(name: str) -> int:
    return crc32(name.encode("utf-8", "surrogatepass"))


def _new_word() -> int:
    """Return 63 random bits: whatever becomes of file, lock and clock, they do not come back."""
    return int.from_bytes(os.urandom(8), "little") >> 1


def _new_time(words: memoryview) -> int:
    """Return the time, later than any that was given before, as ``versions.Clock`` does."""
    now, latest = board_file.wall_time(), words[_LATEST]
    # One that a float of seconds tells from the one before; what is a century ahead is damaged.
    stamp = latest + 1000 if now <= latest < now + 100 * 365 * _LONGEST else now
    words[_LATEST] = stamp
    return stamp


def _held(until: int, now: int) -> int:
    return until if now < until <= now + _LONGEST else 0


def _standing(word: int, window: int) -> int:
    """Return the marks that still stand in ``window``, the youngest in the last 10 bits."""
    age = window - (word >> 40)
    return word << 10 * age & _ALL_MARKS if 0 <= age < _WINDOWS else 0


def _without(marks: int, window: int, set_in: int | None) -> int:
    """Return what stands without one mark that was set in a window, None for none."""
    if set_in is None or not 0 <= window - set_in < _WINDOWS:
        return marks
    shift = 10 * (window - set_in)
    # Of so many that they are not counted, none is lifted but by time.
    return marks - (1 << shift) if 0 < marks >> shift & _MANY < _MANY else marks


def _end_of(marks: int, window: int) -> int:
    """Return when the last of the marks ends, of which there is one at least."""
    youngest = ((marks & -marks).bit_length() - 1) // 10
    return (window - youngest + _WINDOWS) * _WINDOW

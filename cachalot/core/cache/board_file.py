"""The file of a board: where it lies, which one is in force, and who may write it.

All processes of a site must find one file. To share one with others costs a query now and then; to
look elsewhere costs truth. So the place does not depend on the environment: ``TMPDIR`` and
``SECRET_KEY`` may differ between the processes of one site, and systemd's ``PrivateTmp=`` gives a
service a ``/tmp`` of its own, but not a ``/dev/shm``.
"""

from __future__ import annotations

import mmap
import os
import stat
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from typing import TypeVar

from cachalot.core.locks import fork_safe_lock

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]
    machine_time: Callable[[], int] = time.monotonic_ns
    wall_time: Callable[[], int] = time.time_ns
else:
    # Of the whole machine, in nanoseconds. Tests that freeze time leave these clocks alone.
    machine_time = partial(time.clock_gettime_ns, time.CLOCK_MONOTONIC)
    wall_time = partial(time.clock_gettime_ns, time.CLOCK_REALTIME)
    _TRY = fcntl.LOCK_EX | fcntl.LOCK_NB

T = TypeVar("T")

#: Seconds for which a file is read without asking whether it is still the one in force.
TRUSTED_SECONDS = 0.02

#: Seconds for which nobody writes on a new file, so that whoever reads a lost one learns of it.
YOUNG_SECONDS = 0.025

#: Seconds that a writer waits for others. One of them may be stopped, and the site must not be.
LOCK_SECONDS = 1.0

#: Where the words begin that are not the file's own.
FIRST_WORD = 3

# The file's own words; times are as ``machine_time()`` tells them, which
# begins anew when the machine does.
_LAYOUT, _WRITABLE_FROM, _LAST_WRITE = 0, 1, 2
_THIS_LAYOUT = int.from_bytes(b"board 1\0", sys.byteorder)
_SECOND = 10**9
_TRUSTED = int(TRUSTED_SECONDS * _SECOND)


def default_path() -> str:
    """Return the place that all processes of one user on this machine share."""
    above = "/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp"
    return _place_above(above, os.geteuid())


@cache
def _place_above(above: str, user: int) -> str:
    # If it is a link, it is the system's, and leads to the same place as long as that runs.
    return os.path.join(os.path.realpath(above), f"cachalot-{user}", "board")


class BoardFile:
    """A file of ``size`` words of 8 bytes that is mapped into the memory of every process.

    ``path`` is None for the default place. ``begin`` makes a board of words that may be anything.
    A word is loaded and stored at once, so that readers take no lock. Every method raises
    ``OSError`` where there is no file and none can be made, and where it is not safe to use.
    """

    def __init__(self, path: str | None, size: int, begin: Callable[[memoryview], None]) -> None:
        if fcntl is None or sys.maxsize < 2**32:
            raise OSError("this system has no flock(), or words of less than 8 bytes")
        self._named, self._bytes, self._begin = path, 8 * size, begin
        self._lock = fork_safe_lock()
        self._descriptor = -1
        self._mapped: tuple[int, int] | None = None
        self._trusted_until = 0
        self.words: memoryview
        #: Is another one after a fork, and for each file: a mark is lifted only where it was set.
        self.opening = object()
        self.look()
        os.register_at_fork(after_in_child=self._begin_in_child)

    @property
    def path(self) -> str:
        """Where the file lies. A process that changes its user has another default."""
        return self._named or default_path()

    def look(self) -> None:
        """Have ``words`` be those of the file in force, until ``is_trusted()`` is no more."""
        # What is found to be in force now may have been lost right after this moment.
        began = machine_time()
        if not self._is_in_force():
            self.change(lambda words, now: None)
        self._trusted_until = began + _TRUSTED

    def is_trusted(self) -> bool:
        """Whether ``words`` may be read without looking for the file."""
        return machine_time() < self._trusted_until

    def change(self, change: Callable[[memoryview, int], T]) -> T:
        """Call ``change`` while nobody else writes, with the words in force and the time.

        Raise ``TimeoutError`` if another process does not let go of them.
        """
        with self._lock:
            # In one line: no exception of the program comes before the lock is given back.
            return self._changed(change)

    def _changed(self, change: Callable[[memoryview, int], T]) -> T:
        try:
            now = self._take()
            self.words[_LAST_WRITE] = now
            result = change(self.words, now)
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        except BaseException:
            # It unlocks as well. The program may throw an exception between any two lines.
            self._close()
            raise
        return result

    def _take(self) -> int:
        """Lock the file in force, which is made if there is none; return when that was."""
        until = None
        while True:
            if self._descriptor < 0:
                self._open()
            try:
                fcntl.flock(self._descriptor, _TRY)
            except BlockingIOError:
                until = self._wait_for_lock(until)
            # Not before others have let go of it, and not after the file was looked for.
            now = machine_time()
            if not self._is_in_force():
                self._close()
                continue
            self._trusted_until = now + _TRUSTED
            wait = self.words[_WRITABLE_FROM] - now
            if not 0 < wait <= YOUNG_SECONDS * _SECOND:
                return now
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            time.sleep(wait / _SECOND)

    def _wait_for_lock(self, until: int | None = None) -> int:
        """Lock the file that is open. Return until when others are waited for, by default anew."""
        pause = 0.00005
        until = until or machine_time() + int(LOCK_SECONDS * _SECOND)
        while True:
            try:
                fcntl.flock(self._descriptor, _TRY)
                return until
            except BlockingIOError:
                if machine_time() > until:
                    raise TimeoutError(f"another process keeps {self.path} locked") from None
                time.sleep(pause)
                pause = min(2 * pause, 0.002)

    def _is_in_force(self) -> bool:
        try:
            return self._is_mapped(os.lstat(self._named or default_path()))
        except FileNotFoundError:
            return False

    def _is_mapped(self, found: os.stat_result) -> bool:
        return (found.st_dev, found.st_ino) == self._mapped and found.st_size >= self._bytes

    def _open(self) -> None:
        """Open the file under the path, locked, and map it unless it is the one that is mapped."""
        path = self.path
        folder = _safe_folder(path, is_own=self._named is None)
        self._descriptor = _opened(path, os.O_CREAT, _mode_in(folder))
        found = os.fstat(self._descriptor)
        _require_safe(path, found, folder)
        if self._is_mapped(found):
            return
        self._wait_for_lock()
        self._fill(path)
        if os.geteuid() == 0 and folder.st_uid != found.st_uid:
            # As SQLite does with its files: what root makes is for whom the folder belongs to.
            os.chown(self._descriptor, folder.st_uid, folder.st_gid)
        # The map keeps an opening of its own: the one that is locked must not survive in a child.
        try:
            other = _opened(path, 0, 0)
        except FileNotFoundError:
            return  # it has just been lost, as whoever has taken the lock will find
        try:
            if not os.path.sameopenfile(other, self._descriptor):
                return
            words = memoryview(mmap.mmap(other, self._bytes)).cast("Q")
        finally:
            os.close(other)
        now = machine_time()
        if words[_LAYOUT] != _THIS_LAYOUT or words[_LAST_WRITE] > now:
            # It is new, or damaged, or of the time before the machine was started.
            words[_LAYOUT] = 0
            self._begin(words)
            words[_WRITABLE_FROM] = now + int(YOUNG_SECONDS * _SECOND)
            words[_LAST_WRITE] = now
            words[_LAYOUT] = _THIS_LAYOUT
        self.words, self._mapped, self.opening = words, (found.st_dev, found.st_ino), object()

    def _fill(self, path: str) -> None:
        """Write zeros to the end: in a hole, a full disk would end whoever merely reads there."""
        size = os.fstat(self._descriptor).st_size
        try:
            while size < self._bytes:
                size += os.pwrite(self._descriptor, bytes(self._bytes - size), size)
        except OSError:
            os.unlink(path)
            raise

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _begin_in_child(self) -> None:
        # A lock belongs to the opening, which parent and child have in common.
        self._close()
        self.opening = object()


def _opened(path: str, flags: int, mode: int) -> int:
    return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | flags, mode)


def _safe_folder(path: str, *, is_own: bool) -> os.stat_result:
    """Return the folder of a file, made if it is cachalot's own."""
    folder = os.path.dirname(path)
    if is_own:
        above = os.path.dirname(folder)
        if _is_open_to_all(os.stat(above)):
            raise PermissionError(f"anybody may replace what lies in {above}")
        with suppress(FileExistsError):
            os.mkdir(folder, 0o700)
    found = os.lstat(folder)
    if is_own and (found.st_uid != os.geteuid() or found.st_mode & 0o077):
        raise PermissionError(f"{folder} does not belong to this user alone")
    if not stat.S_ISDIR(found.st_mode) or _is_open_to_all(found):
        raise PermissionError(f"{folder} is no folder, or anybody may replace what lies in it")
    return found


def _is_open_to_all(folder: os.stat_result) -> bool:
    return bool(folder.st_mode & stat.S_IWOTH and not folder.st_mode & stat.S_ISVTX)


def _mode_in(folder: os.stat_result) -> int:
    """Return who may use a file of this folder: its owner, and its group if it may write there."""
    return 0o660 if folder.st_mode & stat.S_IWGRP else 0o600


def _require_safe(path: str, found: os.stat_result, folder: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o007:
        raise PermissionError(f"{path} is no file, or anybody may write it")
    if found.st_uid not in (os.geteuid(), folder.st_uid):
        raise PermissionError(f"{path} belongs to another user")

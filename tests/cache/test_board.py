"""The board that the processes of a machine share: its slots, its file, and processes on it."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from django.conf import settings
from django.core.cache import caches
from django.db import connection, transaction
from django.test import SimpleTestCase, override_settings

from cachalot.api import get_last_invalidation, invalidate
from cachalot.core.cache import board as board_module
from cachalot.core.cache import board_file
from cachalot.core.cache.board import LASTING, PENDING, Board
from cachalot.core.cache.boards import board_in_use
from cachalot.core.cache.door import guard_of
from cachalot.core.cache.versions import PENDING_TIMEOUT, Mark
from tests.library.models import Author, Tag
from tests.support import CacheTestCase, in_process, in_thread

SECOND = 10**9
WINDOW = PENDING_TIMEOUT // 3
SLOT = Board.slot_of("a table")
OTHER = Board.slot_of("another table")
REIGN = Board.reign_of("")


def names() -> list[str]:
    return list(Author.objects.order_by("pk").values_list("name", flat=True))


@contextmanager
def after(seconds: float) -> Iterator[None]:
    """Let the machine's clock have gone on."""
    now = board_file.machine_time
    with mock.patch.object(
        board_file, "machine_time", side_effect=lambda: now() + int(seconds * SECOND)
    ):
        yield


class BoardTestCase(SimpleTestCase):
    def setUp(self) -> None:
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.path = os.path.join(self.folder, "board")
        self.board = Board(self.path)

    def read(self, board: Board | None = None, slot: int = SLOT) -> int | None:
        """Return the nonce of a slot, None while it is pending."""
        (raw,) = (board or self.board).read([(slot, REIGN)])
        return None if raw >= PENDING else raw


class SlotTests(BoardTestCase):
    def test_what_was_never_written_has_a_version(self) -> None:
        self.assertIsNotNone(self.read())
        self.assertEqual(self.read(), self.read(Board(self.path)))

    def test_a_write(self) -> None:
        other = Board(self.path)
        before, mark = self.read(), Mark()
        self.board.mark([SLOT], mark)
        self.assertIsNone(self.read())
        self.assertIsNone(self.read(other))
        self.assertIsNotNone(self.read(slot=OTHER))
        self.board.renew({SLOT: None}, mark)
        self.assertNotIn(self.read(), {before, None})
        self.assertEqual(self.read(), self.read(other))

    def test_a_renewal_lifts_no_mark_of_others(self) -> None:
        marks = Mark(), Mark()
        for mark in marks:
            self.board.mark([SLOT], mark)
        self.board.renew({SLOT: None}, marks[0])
        self.assertIsNone(self.read())
        # Neither does invalidate(), nor the same renewal once more.
        self.board.renew({SLOT: None})
        self.board.renew({SLOT: None}, marks[0])
        self.assertIsNone(self.read())
        self.board.renew({SLOT: None}, marks[1])
        self.assertIsNotNone(self.read())

    def test_a_mark_set_twice_is_lifted_at_once(self) -> None:
        mark = Mark()
        for _ in range(2):
            self.board.mark([SLOT, SLOT], mark)
        self.board.renew({SLOT: None}, mark)
        self.assertIsNotNone(self.read())

    def test_a_mark_without_its_writer_ends_in_time(self) -> None:
        """However often the table is written meanwhile."""
        self.board.mark([SLOT], Mark())
        for window in range(3):
            with after(window * WINDOW):
                mark = Mark()
                self.board.mark([SLOT], mark)
                self.board.renew({SLOT: None}, mark)
                self.assertIsNone(self.read(), window)
        with after(PENDING_TIMEOUT - 1):
            self.assertIsNone(self.read())
        with after(PENDING_TIMEOUT + WINDOW):
            nonce = self.read()
            self.assertIsNotNone(nonce)
            self.assertEqual(self.read(), nonce)

    def test_the_version_before_a_mark_does_not_come_back(self) -> None:
        before = self.read()
        self.board.mark([SLOT], Mark())
        with after(PENDING_TIMEOUT + WINDOW):
            self.assertNotEqual(self.read(), before)

    def test_the_longest_write_lifts_its_own_mark(self) -> None:
        mark = Mark()
        self.board.mark([SLOT], mark)
        with after(2 * WINDOW):
            self.board.mark([SLOT], mark)
            self.assertIsNone(self.read())
            self.board.renew({SLOT: None}, mark)
            # That of the older window goes with its time, as it would have gone anyway.
        with after(PENDING_TIMEOUT + WINDOW):
            self.assertIsNotNone(self.read())

    def test_more_marks_than_are_counted_end_in_time(self) -> None:
        marks = [Mark() for _ in range(board_module._MANY + 5)]
        for mark in marks:
            self.board.mark([SLOT], mark)
        for mark in marks:
            self.board.renew({SLOT: None}, mark)
        self.assertIsNone(self.read())
        with after(PENDING_TIMEOUT + WINDOW):
            self.assertIsNotNone(self.read())

    def test_what_lags_stays_pending(self) -> None:
        """Whoever lifts what."""
        self.board.renew({SLOT: 5})
        mark = Mark()
        self.board.mark([SLOT], mark)
        self.board.renew({SLOT: None}, mark)
        with after(4):
            self.assertIsNone(self.read())
        with after(6):
            self.assertIsNotNone(self.read())

    def test_clear(self) -> None:
        other = Board(self.path)
        before, lasting = self.read(), other.read([(SLOT, LASTING)])
        self.board.clear(REIGN)
        self.assertNotIn(self.read(other), {before, None})
        self.assertEqual(other.read([(SLOT, LASTING)]), lasting)

    def test_clear_lifts_no_mark(self) -> None:
        self.board.mark([SLOT], Mark())
        self.board.clear(REIGN)
        self.assertIsNone(self.read())

    def test_times_grow_over_all_processes(self) -> None:
        other = Board(self.path)
        times = self.board.times([(SLOT, REIGN)])
        self.assertAlmostEqual(times[0], time.time(), delta=60)
        an_hour_ago = time.time_ns() - 3600 * SECOND
        with mock.patch.object(board_file, "wall_time", return_value=an_hour_ago):
            for board in (self.board, other, self.board):
                board.renew({SLOT: None})
                times += self.board.times([(SLOT, REIGN)])
            other.clear(REIGN)
            times += self.board.times([(SLOT, REIGN)])
        self.assertEqual(times, sorted(set(times)))


class FileTests(BoardTestCase):
    def lose(self) -> None:
        os.unlink(self.path)

    def test_a_lost_file_is_noticed_by_all(self) -> None:
        other = Board(self.path)
        before = self.read()
        self.lose()
        self.board.renew({SLOT: None})
        with after(board_file.TRUSTED_SECONDS):
            self.assertNotEqual(self.read(), before)
            self.assertEqual(self.read(), self.read(other))

    def test_nobody_writes_on_a_new_file_while_a_lost_one_is_trusted(self) -> None:
        other = Board(self.path)
        self.read(other)
        self.lose()
        mark = Mark()
        self.board.mark([SLOT], mark)
        self.assertFalse(other.file.is_trusted())
        self.assertIsNone(self.read(other))

    def test_a_mark_on_a_lost_file_lifts_none_on_the_next(self) -> None:
        mark, theirs = Mark(), Mark()
        self.board.mark([SLOT], mark)
        self.lose()
        self.board.mark([SLOT], theirs)
        self.board.renew({SLOT: None}, mark)
        self.assertIsNone(self.read())
        self.board.renew({SLOT: None}, theirs)
        self.assertIsNotNone(self.read())

    def test_no_nonce_comes_back_with_a_new_file(self) -> None:
        before = self.read()
        self.lose()
        self.assertNotEqual(self.read(Board(self.path)), before)

    def test_a_lost_folder_is_made_again(self) -> None:
        place = os.path.join(self.folder, "own", "board")
        with mock.patch.object(board_file, "default_path", return_value=place):
            board = Board()
            self.assertEqual(os.stat(os.path.dirname(place)).st_mode & 0o777, 0o700)
            self.assertEqual(os.stat(place).st_mode & 0o777, 0o600)
            shutil.rmtree(os.path.dirname(place))
            board.renew({SLOT: None})
            self.assertTrue(os.path.exists(place))

    def test_a_folder_that_the_project_names_is_not_made(self) -> None:
        with self.assertRaises(FileNotFoundError):
            Board(os.path.join(self.folder, "none", "board"))

    def test_damage(self) -> None:
        before = self.read()
        with open(self.path, "r+b") as file:
            file.write(os.urandom(os.path.getsize(self.path)))
        # Whoever has it open reads numbers; whoever opens it makes a board of it.
        self.read()
        other = Board(self.path)
        self.assertEqual(self.read(), self.read(other))
        self.assertNotIn(self.read(), {before, None})

    def test_random_words_keep_nothing_pending(self) -> None:
        def damage(words: memoryview, now: int) -> None:
            # One in 200,000 would end within a day, as a mark may.
            for place in range(board_module._FIRST_SLOT, len(words)):
                words[place] = random.getrandbits(64) | 1 << 62

        self.board.file.change(damage)
        for name in range(2000):
            slot = Board.slot_of(str(name))
            self.assertIsNotNone(self.read(slot=slot))
            mark = Mark()
            self.board.mark([slot], mark)
            self.assertIsNone(self.read(slot=slot))
            self.board.renew({slot: None}, mark)
            self.assertIsNotNone(self.read(slot=slot))

    def test_another_layout(self) -> None:
        before = self.read()
        with open(self.path, "r+b") as file:
            file.write(b"board 9\0")
        self.assertNotEqual(self.read(Board(self.path)), before)

    def test_a_file_of_before_the_machine_was_started(self) -> None:
        before = self.read()
        self.board.mark([SLOT], Mark())
        with after(-30):
            other = Board(self.path)
            self.assertNotIn(self.read(other), {before, None})

    def test_a_short_file_is_filled(self) -> None:
        os.truncate(self.path, 0)
        board = Board(self.path)
        self.assertIsNotNone(self.read(board))
        self.assertEqual(os.path.getsize(self.path), board.file._bytes)

    def test_a_file_cut_short_while_in_use(self) -> None:
        before = self.read()
        os.truncate(self.path, 0)
        with after(board_file.TRUSTED_SECONDS):
            self.assertNotIn(self.read(), {before, None})

    def test_a_full_disk(self) -> None:
        """No hole is left in the file, which would end whoever reads there."""
        self.assertGreaterEqual(os.stat(self.path).st_blocks * 512, os.path.getsize(self.path))
        place = os.path.join(self.folder, "other")
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
            with self.assertRaises(OSError):
                Board(place)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
            signal.signal(signal.SIGXFSZ, previous)
        self.assertFalse(os.path.exists(place))

    def test_what_others_could_have_made_is_refused(self) -> None:
        place = os.path.join(self.folder, "elsewhere")

        def link() -> None:
            os.symlink(self.path, place)

        def folder() -> None:
            os.mkdir(place)

        def open_to_all() -> None:
            Path(place).touch()
            os.chmod(place, 0o666)

        def folder_open_to_all() -> None:
            os.chmod(self.folder, 0o777)

        for make in (link, folder, open_to_all, folder_open_to_all):
            with self.subTest(make.__name__):
                make()
                with self.assertRaises(OSError):
                    Board(place)
                shutil.rmtree(place) if make is folder else Path(place).unlink(missing_ok=True)

    @pytest.mark.skipif("os.geteuid() != 0", reason="gives files to others")
    def test_a_file_of_another_user_is_refused(self) -> None:
        os.chown(self.path, 12345, 12345)
        with self.assertRaisesRegex(PermissionError, "another user"):
            Board(self.path)

    @pytest.mark.skipif("os.geteuid() != 0", reason="gives files to others")
    def test_what_root_makes_belongs_to_whom_the_folder_belongs_to(self) -> None:
        os.chown(self.folder, 12345, 54321)
        os.chmod(self.folder, 0o770)
        place = os.path.join(self.folder, "shared")
        Board(place)
        found = os.stat(place)
        self.assertEqual((found.st_uid, found.st_gid), (12345, 54321))
        self.assertEqual(found.st_mode & 0o777, 0o660 & ~self.umask())
        # And root goes on with it.
        Board(place)

    @staticmethod
    def umask() -> int:
        mask = os.umask(0)
        os.umask(mask)
        return mask

    def test_the_default_depends_on_nothing_but_the_user(self) -> None:
        with mock.patch.dict(os.environ, TMPDIR=self.folder, HOME=self.folder):
            place = board_file.default_path()
        self.assertEqual(place, board_file.default_path())
        self.assertIn(f"cachalot-{os.geteuid()}", place)
        with mock.patch.object(os, "geteuid", return_value=4321):
            self.assertIn("cachalot-4321", board_file.default_path())


class LockTests(BoardTestCase):
    """Other processes with the lock, each at the mercy of a signal."""

    def holder(self) -> subprocess.Popen[bytes]:
        """Start a process that keeps the board locked."""
        code = (
            "import fcntl, sys, time\n"
            f"file = open({self.path!r}, 'r+b')\n"
            "fcntl.flock(file, fcntl.LOCK_EX)\n"
            "sys.stdout.write('locked'); sys.stdout.flush()\n"
            "time.sleep(60)"
        )
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        assert process.stdout is not None
        self.addCleanup(process.stdout.close)
        self.assertEqual(process.stdout.read(6), b"locked")
        return process

    def test_one_that_is_stopped_stops_nobody(self) -> None:
        os.kill(self.holder().pid, signal.SIGSTOP)
        self.assertIsNotNone(self.read())
        with mock.patch.object(board_file, "LOCK_SECONDS", 0.05):
            with self.assertRaisesRegex(TimeoutError, "keeps .*board locked"):
                self.board.renew({SLOT: None})

    def test_one_that_is_killed_lets_go(self) -> None:
        process = self.holder()
        process.kill()
        process.wait()
        with mock.patch.object(board_file, "LOCK_SECONDS", 0.05):
            self.board.renew({SLOT: None})

    def test_a_fork_has_locks_of_its_own(self) -> None:
        """Neither does it inherit a lock, nor does it keep one after its parent was killed."""

        def fork(words: memoryview, now: int) -> int:
            child = os.fork()
            if child == 0:
                with mock.patch.object(board_file, "LOCK_SECONDS", 0.05):
                    try:
                        self.board.renew({SLOT: None})
                    except TimeoutError:
                        os._exit(7)
                    os._exit(0)
            _, status = os.waitpid(child, 0)
            return os.waitstatus_to_exitcode(status)

        self.assertEqual(self.board.file.change(fork), 7)
        self.board.renew({SLOT: None})

    def test_a_fork_lifts_no_mark_of_its_parent(self) -> None:
        mark = Mark()
        self.board.mark([SLOT], mark)
        child = os.fork()
        if child == 0:
            self.board.renew({SLOT: None}, mark)
            os._exit(0)
        os.waitpid(child, 0)
        self.assertIsNone(self.read())
        self.board.renew({SLOT: None}, mark)
        self.assertIsNotNone(self.read())

    def test_what_is_thrown_into_a_change_unlocks(self) -> None:
        def fail(words: memoryview, now: int) -> None:
            raise KeyboardInterrupt

        with self.assertRaises(KeyboardInterrupt):
            self.board.file.change(fail)
        Board(self.path).renew({SLOT: None})
        self.board.renew({SLOT: None})


@pytest.mark.skipif("not isinstance(board_in_use(), Board)", reason="of local memory")
class ProcessTests(CacheTestCase):
    """Processes with a local memory each, as they are without a word of configuration."""

    databases = {"default", "other"}

    def setUp(self) -> None:
        if not self.uses_locmem():
            self.skipTest("of local memory")
        Author.objects.create(name="A")

    def elsewhere(self, code: str) -> Any:
        return in_process(code)

    def test_each_write_of_another_process_is_seen(self) -> None:
        self.assertCached(names)
        raw = "connection.cursor().execute(\"UPDATE library_author SET name = 'D'\")"
        for code, expected in (
            ("Author.objects.update(name='B')", ["B"]),
            ("Author.objects.create(name='C')", ["B", "C"]),
            ("with transaction.atomic():\n    Author.objects.filter(name='C').delete()", ["B"]),
            (raw, ["D"]),
        ):
            with self.subTest(code):
                self.elsewhere(code)
                self.assertEqual(self.assertMisses(names), expected)
                self.assertHits(names)

    def test_a_rollback_elsewhere_leaves_everything_cached(self) -> None:
        self.assertCached(names)
        self.elsewhere(
            "try:\n"
            "    with transaction.atomic():\n"
            "        Author.objects.update(name='B'); raise KeyError\n"
            "except KeyError: pass"
        )
        self.assertHits(names)

    def test_other_tables_stay_cached(self) -> None:
        self.assertCached(names)
        self.elsewhere("Tag.objects.create(name='B')")
        self.assertHits(names)

    def test_another_process_sees_what_this_one_writes(self) -> None:
        code = (
            "import sys\n"
            "def names(): return list(Author.objects.values_list('name', flat=True))\n"
            "names(); result = [names()]\n"
        )
        self.assertEqual(self.elsewhere(code), [["A"]])
        Author.objects.update(name="B")
        self.assertEqual(self.elsewhere(code), [["B"]])

    def test_invalidate_and_the_last_invalidation(self) -> None:
        self.assertCached(names)
        before = get_last_invalidation(Author, db_alias="default")
        reported = self.elsewhere(
            "from cachalot.api import get_last_invalidation, invalidate\n"
            "result = [get_last_invalidation(Author, db_alias='default')]\n"
            "invalidate(Author)\n"
            "result.append(get_last_invalidation(Author, db_alias='default'))"
        )
        self.assertEqual(reported[0], before)
        self.assertGreater(reported[1], before)
        self.assertEqual(get_last_invalidation(Author, db_alias="default"), reported[1])
        self.assertMisses(names)

    def test_clear_empties_all_processes(self) -> None:
        self.assertCached(names)
        self.elsewhere("from django.core.cache import cache; cache.clear()")
        self.assertMisses(names)
        self.assertHits(names)

    def test_clear_in_a_transaction_does_not_end_caching(self) -> None:
        """As tests do that begin with an empty cache."""
        with transaction.atomic():
            Author.objects.create(name="B")
            caches["default"].clear()
            self.assertCached(names)
            self.assertCached(Tag.objects.count)

    def test_a_process_killed_in_its_write(self) -> None:
        self.assertCached(names)
        code = (
            "import os, signal\n"
            "from cachalot.core.cache.store import Store\n"
            "Store.renew = lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL)\n"
            "Author.objects.update(name='B')"
        )
        with self.assertRaises(AssertionError):
            self.elsewhere(code)
        for _ in range(2):
            self.assertEqual(self.assertMisses(names), ["B"])
        # Others write meanwhile, and time passes.
        self.elsewhere("Author.objects.update(name='C')")
        self.assertEqual(self.assertMisses(names), ["C"])
        with after(PENDING_TIMEOUT + WINDOW + 1):
            self.assertCached(names)

    def test_the_environment_of_a_process_changes_nothing(self) -> None:
        self.assertCached(names)
        with tempfile.TemporaryDirectory() as folder:
            in_process(
                "from django.conf import settings; settings.SECRET_KEY = 'other'\n"
                "Author.objects.update(name='B')",
                TMPDIR=folder,
                CACHALOT_TEST_BOARD=os.environ["CACHALOT_TEST_BOARD"],
            )
        self.assertEqual(self.assertMisses(names), ["B"])

    def test_tables_that_share_a_slot(self) -> None:
        """What is written to one is a query of the other, and both are cached again."""
        with mock.patch.object(Board, "slot_of", return_value=SLOT):
            caches["default"]._cachalot_store.backend._places.clear()  # type: ignore[attr-defined]
            self.addCleanup(caches["default"]._cachalot_store.backend._places.clear)  # type: ignore[attr-defined]
            self.assertCached(names)
            self.assertCached(Tag.objects.count)
            with transaction.atomic():
                Tag.objects.create(name="B")
                Author.objects.update(name="B")
            self.assertEqual(self.assertMisses(Tag.objects.count), 1)
            self.assertEqual(self.assertCached(names), ["B"])
            self.assertHits(Tag.objects.count)

    def test_threads(self) -> None:
        self.assertCached(names)
        in_thread(lambda: Author.objects.update(name="B"))
        self.assertEqual(self.assertMisses(names), ["B"])

    def test_a_fork(self) -> None:
        self.assertCached(names)
        connection.close()
        child = os.fork()
        if child == 0:
            try:
                Author.objects.update(name="B")
                connection.close()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        self.assertEqual(self.assertMisses(names), ["B"])
        self.assertHits(names)


class PlaceTests(CacheTestCase):
    def setUp(self) -> None:
        if not self.uses_locmem():
            self.skipTest("of local memory")

    def test_no_board_by_choice(self) -> None:
        with override_settings(CACHALOT_BOARD=None):
            self.assertIs(board_in_use(), None)
            self.assertCached(names)
            self.assertIs(guard_of().store().backend.board, None)  # type: ignore[union-attr]
        self.assertIsNot(guard_of().store().backend.board, None)  # type: ignore[union-attr]

    def test_where_there_can_be_none_each_process_is_alone_and_says_so(self) -> None:
        place = os.path.join(tempfile.gettempdir(), "no-such-folder", "board")
        with (
            self.assertLogs("cachalot", "WARNING") as logs,
            override_settings(CACHALOT_BOARD=place),
        ):
            for _ in range(2):
                self.assertCached(names)
                Author.objects.create(name="A")
        (line,) = logs.output
        self.assertIn("cannot share the versions of local memory", line)
        self.assertIn(place.rpartition("/")[0], line)

    def test_local_memory_beside_the_cache_in_use_needs_no_board(self) -> None:
        files = {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache"}
        with tempfile.TemporaryDirectory() as folder:
            place = os.path.join(folder, "board")
            in_use = {**settings.CACHES, "default": {**files, "LOCATION": folder}}
            with override_settings(CACHES=in_use, CACHALOT_BOARD=place):
                caches["second"].clear()
                self.assertFalse(os.path.exists(place))
            with override_settings(CACHALOT_BOARD=place):
                caches["second"].clear()
                self.assertTrue(os.path.exists(place))

    def test_a_place_of_the_project_s(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "versions"
            with override_settings(CACHALOT_BOARD=place):
                self.assertCached(names)
                self.assertTrue(place.exists())

    def test_a_board_that_is_lost_for_good_is_a_cache_that_fails(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            place = os.path.join(folder, "gone", "board")
            os.mkdir(os.path.dirname(place))
            with override_settings(CACHALOT_BOARD=place):
                self.assertCached(names)
                shutil.rmtree(os.path.dirname(place))
                time.sleep(board_file.TRUSTED_SECONDS)
                with self.assertLogs("cachalot", "WARNING"):
                    self.assertMisses(names)
                Author.objects.create(name="A")
                os.mkdir(os.path.dirname(place))
                guard_of()._rests_until = 0.0
                self.assertEqual(self.assertCached(names), ["A"])

    def test_a_cache_that_reads_or_writes_otherwise_keeps_its_versions(self) -> None:
        path = "tests.cache.faults.FaultyCache"
        with override_settings(CACHES={"default": {"BACKEND": path}}):
            self.assertIs(guard_of().store().backend.board, None)  # type: ignore[union-attr]

    def test_an_error_of_the_board_is_one_of_the_cache(self) -> None:
        self.assertCached(names)
        failing: Callable[..., Any] = mock.Mock(side_effect=OSError("the board is gone"))
        with mock.patch.object(Board, "read", failing), self.assertLogs("cachalot", "WARNING"):
            self.assertMisses(names)
        guard_of()._rests_until = None
        self.assertEqual(invalidate(Author), None)

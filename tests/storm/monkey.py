"""Starts the processes, kills some of them and breaks the cache."""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.storm.board import Board, Plan
from tests.storm.caches import FileCache
from tests.storm.reader import check, read
from tests.storm.writer import write


class Storm:
    def __init__(
        self, options: argparse.Namespace, plan: Plan, board: Board, cache: FileCache
    ) -> None:
        self.options = options
        self.plan = plan
        self.board = board
        self.cache = cache
        self.chance = random.Random(options.seed)
        self.figures: Counter[str] = Counter()
        self.writers: dict[int, int] = {}
        self.readers: list[int] = []
        self.lives: Counter[int] = Counter()
        self.revivals: dict[int, float] = {}

    def fork(self, function: Callable[..., None], *args: Any) -> int:
        pid = os.fork()
        if pid:
            return pid
        status = 1
        try:
            function(self.plan, self.board, *args)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            # Nothing that the parent has registered may run here.
            os._exit(status)

    def run(self) -> None:
        self.readers = [self.fork(read, number) for number in range(self.plan.readers)]
        try:
            for writer in range(self.plan.writers):
                self.revive(writer)
            until = time.monotonic() + self.options.seconds
            damages = {
                name: (action, rate * self.options.damage)
                for name, (action, rate) in self.cache.damages().items()
                if self.options.damage
            }
            self.rage(until, {"kills": (self.kill, self.options.kills), **damages})
            # The rest is about writers that were killed while the cache was well.
            self.rage(time.monotonic() + 2, {"kills": (self.kill, self.options.kills)})
            for writer in list(self.writers):
                self.kill(writer)
            time.sleep(self.options.pending_seconds + 1)
        finally:
            self.board.is_over[0] = 1
            for pid in (*self.readers, *self.writers.values()):
                self.expect_end(pid)
        for _ in range(2):
            self.expect_end(self.fork(check))

    def rage(self, until: float, actions: dict[str, tuple[Callable[[], object], float]]) -> None:
        now = time.monotonic()
        due = {name: now + self.chance.expovariate(rate) for name, (_, rate) in actions.items()}
        while now < until:
            name = min(due, key=due.__getitem__)
            time.sleep(max(0, min(due[name], until) - now))
            if due[name] <= time.monotonic():
                action, rate = actions[name]
                self.board.log(name)
                action()
                self.figures[name] += 1
                due[name] = time.monotonic() + self.chance.expovariate(rate)
            now = time.monotonic()
            for writer, at in list(self.revivals.items()):
                if at <= now:
                    self.revive(writer)
            self.look_after_the_living()

    def revive(self, writer: int) -> None:
        self.revivals.pop(writer, None)
        self.lives[writer] += 1
        self.board.is_writing[writer] = self.board.is_owing[writer] = 0
        self.writers[writer] = self.fork(write, writer, self.lives[writer])

    def kill(self, writer: int | None = None) -> None:
        """Kill a writer, in the middle of a write if it is easily met in one."""
        is_last = writer is not None
        if writer is None:
            if not self.writers:
                return
            writer = self.chance.choice(list(self.writers))
        for _ in range(100):
            if self.board.is_writing[writer]:
                break
            time.sleep(0.0005)
        time.sleep(self.chance.random() * 0.006)
        pid = self.writers.pop(writer)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        is_writing = bool(self.board.is_writing[writer])
        self.figures["kills during a write"] += is_writing
        self.board.log(
            "killed", writer=writer, is_writing=is_writing, is_owing=self.board.is_owing[writer]
        )
        if not is_last:
            # Now and then, so late that nobody but time lifts the mark that was left.
            is_late = self.chance.random() < 0.2
            delay = self.options.pending_seconds + 1 if is_late else 0
            self.revivals[writer] = time.monotonic() + delay

    def look_after_the_living(self) -> None:
        for pid in (*self.readers, *self.writers.values()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self.readers = [reader for reader in self.readers if reader != pid]
                self.writers = {w: p for w, p in self.writers.items() if p != pid}
                raise RuntimeError(f"a process ended with {os.waitstatus_to_exitcode(status)}")

    def expect_end(self, pid: int) -> None:
        until = time.monotonic() + 30
        while not os.waitpid(pid, os.WNOHANG)[0]:
            if time.monotonic() > until:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise TimeoutError("a process of the storm hangs")
            time.sleep(0.01)

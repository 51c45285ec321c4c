"""Timing batches of calls, in one thread or in several."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from time import perf_counter, process_time
from typing import NamedTuple


class Batch(NamedTuple):
    """Seconds per call: median and minimum of the wall's clock, mean of processor time.

    Every call is timed for itself: on a busy machine a few calls in each batch are interrupted, for
    much longer than they take. Processor time is the whole process's.
    """

    median: float
    minimum: float
    cpu: float

    def per(self, units: int) -> Batch:
        """Return seconds per unit, for a call that does several."""
        return Batch(*(seconds / units for seconds in self))


@contextmanager
def without_collector() -> Iterator[None]:
    """Keep the garbage collector from running in a batch by chance, as ``timeit`` does."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def time_together(call: Callable[[], object], number: int) -> Batch:
    """Time ``number`` calls in a row."""
    walls = []
    with without_collector():
        cpu = process_time()
        for _ in range(number):
            wall = perf_counter()
            call()
            walls.append(perf_counter() - wall)
        cpu = process_time() - cpu
    return Batch(median(walls), min(walls), cpu / number)


def time_each(before: Callable[[], object], call: Callable[[], object], number: int) -> Batch:
    """Time ``number`` calls, but not what is done before each."""
    walls = []
    cpus = 0.0
    with without_collector():
        for _ in range(number):
            before()
            cpu, wall = process_time(), perf_counter()
            call()
            walls.append(perf_counter() - wall)
            cpus += process_time() - cpu
    return Batch(median(walls), min(walls), cpus / number)


def time_in_threads(
    call: Callable[[], object], close: Callable[[], object], threads: int, number: int
) -> Batch:
    """Time ``number`` calls in each of so many threads, once all are connected and warm.

    Only all of them together are timed.
    """
    moments: list[tuple[float, float]] = []
    # Noted before any thread goes on: one that waits for its turn would note it too late.
    barrier = threading.Barrier(threads, lambda: moments.append((perf_counter(), process_time())))
    errors: list[BaseException] = []

    def run() -> None:
        try:
            call()
            barrier.wait(60)
            for _ in range(number):
                call()
            barrier.wait(600)
        except BaseException as error:
            errors.append(error)
            barrier.abort()
        finally:
            close()

    started = [threading.Thread(target=run) for _ in range(threads)]
    with without_collector():
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()
    # A barrier that another thread broke is not the cause.
    errors.sort(key=lambda error: isinstance(error, threading.BrokenBarrierError))
    if errors:
        raise errors[0]
    (wall_began, cpu_began), (wall_ended, cpu_ended) = moments
    wall = wall_ended - wall_began
    return Batch(wall, wall, cpu_ended - cpu_began).per(number * threads)

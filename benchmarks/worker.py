"""A contender's process: does what the command tells it, a line of JSON for a line of JSON."""

from __future__ import annotations

import gc
import json
import os
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import django
from django.apps import apps
from django.core.cache import cache, caches
from django.core.management import call_command
from django.db import connection, connections

from benchmarks.catalogue import Entry
from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.observing import observe
from benchmarks.timing import Batch, time_each, time_in_threads, time_together, without_collector
from benchmarks.versions import cached_keys, package_versions, server_versions

django.setup()

# These need Django's apps.
from benchmarks import floor, references  # noqa: E402
from benchmarks.library import dataset  # noqa: E402
from benchmarks.library.models import CHAIN_LENGTH  # noqa: E402
from benchmarks.operations import Operation, fill, operation_of  # noqa: E402

#: Of a batch, however little a call takes.
MAX_CALLS = 5000


def close_all() -> None:
    """Close what this thread has opened to databases and caches."""
    connections.close_all()
    caches.close_all()


class Worker:
    """The contender in this process; each public method is a command."""

    def __init__(self, contender: Contender) -> None:
        self._contender = contender
        self._operations: dict[str, Operation] = {}
        self._references: dict[str, dict[str, Callable[[], object]]] = {}
        self._has_database = False

    def cached_keys(self) -> int:
        """Return how many keys there are that clearing the cache would delete."""
        return cached_keys()

    # The database

    def set_up(self, rows: int) -> dict[str, Any]:
        """Make the database and fill it; return the versions of everything.

        Raise ``RuntimeError`` if the contender's package is not the one that it should be.
        """
        self._check_origin()
        self._has_database = True
        if connection.vendor != "sqlite":
            self._maintain("DROP DATABASE IF EXISTS {}", "CREATE DATABASE {}")
        call_command("migrate", run_syncdb=True, verbosity=0)
        dataset.fill(rows)
        if self._contender.caches == "floor":
            floor.install()
        # The collector then looks at what a batch has made, and not at all of Django.
        gc.collect()
        gc.freeze()
        return {
            "versions": package_versions(self._contender.uses_tree),
            "servers": server_versions(),
        }

    def tear_down(self) -> None:
        """Undo what ``set_up()`` has done, if it was called: the cache may be somebody's."""
        if not self._has_database:
            return
        self._clear()
        connections.close_all()
        if connection.vendor == "sqlite":
            Path(str(connection.settings_dict["NAME"])).unlink(missing_ok=True)
        else:
            self._maintain("DROP DATABASE IF EXISTS {}")

    def _check_origin(self) -> None:
        for app in self._contender.apps:
            path = Path(apps.get_app_config(app).path)
            if self._contender.uses_tree != ("site-packages" not in path.parts):
                raise RuntimeError(f"{app!r} of {self._contender.name} was imported from {path}")

    def _maintain(self, *statements: str) -> None:
        # Installed where the stack needs it.
        import psycopg

        given = connection.settings_dict
        with psycopg.connect(
            host=given["HOST"] or None,
            port=given["PORT"] or None,
            user=given["USER"] or None,
            password=given["PASSWORD"] or None,
            dbname="postgres",
            autocommit=True,
        ) as server:
            for statement in statements:
                server.execute(statement.format(connection.ops.quote_name(given["NAME"])))

    # Commands

    def observe(self, entry: dict[str, Any]) -> dict[str, Any]:
        """Do it cold, again, after a change, and again: return digests and numbers of queries."""
        chosen = Entry(**entry)
        operation = self._operation(chosen)
        if operation.answer is None:
            self._clear()
            seen = [observe(operation.call), observe(operation.call)]
            self._change(operation)
            seen += [observe(operation.call), observe(operation.call)]
        else:
            self._clear()
            observe(operation.answer)
            seen = [observe(operation.answer)]
            operation.call()
            self._forget_floor()
            seen += [observe(operation.answer), observe(operation.answer)]
            operation.tidy()
        return {"digests": [digest for digest, _ in seen], "queries": [n for _, n in seen]}

    def time(self, entry: dict[str, Any], phase: str, seconds: float, number: int) -> Any:
        """Time a batch: ``number`` calls, or with 0 as many as take about so many seconds.

        Return the number, the seconds per unit (see ``Batch``), and for a hit the queries that
        were run by a read just before.
        """
        chosen = Entry(**entry)
        operation = self._operation(chosen)
        if self._contender.is_cache and phase == "hit":
            fill(chosen.fill)
        queries = None
        if phase == "hit":
            operation.call()
            queries = observe(operation.call)[1]
        run = self._runner(chosen, operation, phase)
        if not number:
            number = 1 if chosen.is_single else self._calls_in(run, seconds, chosen.threads)
            if phase in {"miss", "cold"}:
                # What is done before each takes as long as several of them.
                number = max(3, number // 3)
        elif phase != "hit" and not chosen.is_single:
            # The processor's caches hold what the last contender has used.
            run(1)
        timed = run(number).per(chosen.per_call)
        return {"number": number, **timed._asdict(), "queries": queries}

    def repeat(self, entry: dict[str, Any], phase: str, number: int) -> None:
        """Do it so many times. The phase "change" is what is done before each miss."""
        operation = self._operation(Entry(**entry))
        with without_collector():
            for _ in range(number):
                if phase in {"miss", "change"}:
                    self._change(operation)
                if phase != "change":
                    operation.call()

    def time_reference(self, entry: dict[str, Any], phase: str, seconds: float) -> Any:
        """Time what the operation asks of the cache at least, as ``time()`` does the operation."""
        chosen = Entry(**entry)
        operation = self._operation(chosen)
        if chosen.name not in self._references:
            if operation.answer is None:
                found = references.references_of(references.shapes_of(operation.call))
            else:
                found = {"write": references.write_reference}
            self._references[chosen.name] = found
        call = self._references[chosen.name][phase]
        references.store_versions(CHAIN_LENGTH)
        if phase == "miss":
            # A server that has just written is slower to answer than one that is asked in a loop.
            run = partial(time_each, operation.change, call)
        else:
            run = partial(time_together, call)
        number = self._calls_in(run, seconds)
        return {"number": number, **run(number)._asdict()}

    def _calls_in(self, run: Callable[[int], Batch], seconds: float, threads: int = 1) -> int:
        run(1)  # what is slow once only is over then
        return max(1, min(MAX_CALLS, int(seconds / (run(1).median * threads))))

    def _operation(self, entry: Entry) -> Operation:
        if entry.name not in self._operations:
            self._operations[entry.name] = operation_of(entry)
        return self._operations[entry.name]

    def _runner(self, entry: Entry, operation: Operation, phase: str) -> Callable[[int], Batch]:
        if phase == "miss":
            return lambda number: time_each(lambda: self._change(operation), operation.call, number)
        if phase == "cold":
            return lambda number: time_each(self._clear, operation.call, number)
        if entry.is_single:
            before = (lambda: fill(entry.fill)) if self._contender.is_cache else (lambda: None)
            return lambda number: time_each(before, operation.call, number)
        if entry.threads > 1:
            return lambda number: time_in_threads(operation.call, close_all, entry.threads, number)

        def run(number: int) -> Batch:
            taken = time_together(operation.call, number)
            operation.tidy()
            return taken

        return run

    # The contender's cache

    def _clear(self) -> None:
        if self._contender.caches == "cacheops":
            # Installed where it is the contender.
            from cacheops import invalidate_all

            invalidate_all()
        elif self._contender.is_cache:
            cache.clear()
        self._forget_floor()

    def _change(self, operation: Operation) -> None:
        operation.change()
        self._forget_floor()

    def _forget_floor(self) -> None:
        if self._contender.caches == "floor":
            floor.forget()


def main() -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    # What anything else prints must not get among the answers.
    os.dup2(2, 1)
    worker = Worker(CONTENDERS[sys.argv[1]])
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = {"answer": getattr(worker, command["do"])(**command["with"])}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()

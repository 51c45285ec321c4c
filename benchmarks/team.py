"""The contenders' processes on one stack, each driven over a pipe."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.contenders import Contender
from benchmarks.environments import Tree
from benchmarks.stacks import Servers, Stack


class WorkerFailed(Exception):
    """A contender's process raised or ended; the message holds what it said."""


class Process:
    """A contender's process."""

    def __init__(
        self,
        contender: Contender,
        stack: Stack,
        servers: Servers,
        directory: Path,
        tree: Tree,
        command: Sequence[str],
    ) -> None:
        self.contender = contender
        self._log = directory / f"{stack.name}-{contender.name}.log"
        given = {
            "databases": stack.databases(servers, directory, contender.name),
            "caches": stack.caches(servers, contender.name),
            "apps": contender.apps,
            "settings": contender.django_settings(servers),
        }
        environ = {
            **{name: os.environ[name] for name in ("HOME", "PATH", "TMPDIR") if name in os.environ},
            "CACHALOT_BENCHMARK": json.dumps(given),
            "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
            "PYTHONPATH": tree.path_for(contender),
            "PYTHONHASHSEED": "0",
            "LANG": "C.UTF-8",
        }
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [*command, "-m", "benchmarks.worker", contender.name],
                cwd=directory,
                env=environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                # Ctrl-C stops the command, which has them delete their databases.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def begin(self, do: str, **arguments: Any) -> None:
        """Send a command; ``answer()`` must follow."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, "with": arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise WorkerFailed(f"{self.contender.name} ended:\n{self._log.read_text()}") from None

    def answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise WorkerFailed(f"{self.contender.name} ended:\n{self._log.read_text()}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerFailed(f"{self.contender.name}: {answer['error']}")
        return answer["answer"]

    def ask(self, do: str, **arguments: Any) -> Any:
        """Send a command and return its answer."""
        self.begin(do, **arguments)
        return self.answer()

    def stop(self) -> None:
        """Delete the database, if the process can still do so, and end the process."""
        try:
            self.ask("tear_down")
        except WorkerFailed:
            self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            # What could not be written is written again by close().
            with suppress(BrokenPipeError):
                pipe.close()
        self._process.wait()


class Team:
    """The processes of one stack by the contenders' names, and what they run on."""

    def __init__(self, processes: dict[str, Process]) -> None:
        self.processes = processes
        self.versions: dict[str, dict[str, str]] = {}
        self.servers: dict[str, str] = {}

    def set_up(self, rows: int) -> None:
        """Make every database; raise ``WorkerFailed`` if one cannot be made, or if the cache is
        somebody's."""
        if keys := next(iter(self.processes.values())).ask("cached_keys"):
            raise WorkerFailed(
                f"The Redis database holds {keys} keys, and would be emptied. "
                "Name another one with --redis."
            )
        for process in self.processes.values():
            process.begin("set_up", rows=rows)
        for name, process in self.processes.items():
            answer = process.answer()
            self.versions[name] = answer["versions"]
            self.servers = answer["servers"]


@contextmanager
def team_on(
    stack: Stack,
    contenders: list[Contender],
    servers: Servers,
    directory: Path,
    tree: Tree,
    python_for: Callable[[Contender], str],
    under: Sequence[str] = (),
) -> Iterator[Team]:
    """Start the contenders that run on the stack, yield them, and stop them.

    ``under`` is the command that runs their interpreters, if it is not the system.
    """
    with ExitStack() as started:
        processes = {}
        for contender in contenders:
            if contender.runs_on(stack):
                command = *under, python_for(contender)
                process = Process(contender, stack, servers, directory, tree, command)
                started.callback(process.stop)
                processes[contender.name] = process
        yield Team(processes)

"""Plays runs of a model with the real code, one step at a time.

Each process of the model is a thread with a database connection of its own. It stops before each
access to one key of the cache and before each statement, until it is told to go on. So whatever
the model's interleavings are, the real ones are the same, and after each step the cache holds the
same: versions up to the names of the nonces, entries with their versions and rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.protocol.actors import Actor, Divergence, Operation, ScheduledCache
from tests.protocol.world import Step, Version

# Which events are failures of a statement, and when they come.
_FAILURES = {"fails to change": "before", "is told of a failure, but has changed": "after"}


class Replay:
    """Holds actors for one scenario, and the names that model and reality have for nonces."""

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol
        #: What lies in the cache at the start.
        self._warm: dict[str, Any] = {}
        self.actors: list[Actor] = []
        self.results: list[list[Any]] = []
        self._nonces: dict[object, str] = {}

    def _open(self) -> None:
        """Begin the threads."""
        self.actors = [Actor() for _ in self.protocol.names]

    def close(self) -> None:
        """End the threads."""
        for actor in self.actors:
            actor.end()

    def _reset(self) -> None:
        """Have in the database what is there at the start."""
        raise NotImplementedError

    def _task_of(self, who: int, program: Any) -> Callable[[], None]:
        """Return what a process does in reality. The results of its reads go to ``results``."""
        raise NotImplementedError

    def _compare(self, world: Any, moment: str) -> None:
        """Raise ``Divergence`` if something else lies in the cache."""
        raise NotImplementedError

    def play(self, run: list[Step]) -> None:
        """Follow ``run``. Raise ``Divergence`` at the first difference."""
        self._reset()
        ScheduledCache.content = dict(self._warm)
        self._nonces.clear()
        self.results = [[] for _ in self.actors]
        world = self.protocol.start()
        self._compare(world, "at the start")
        try:
            for who, actor in enumerate(self.actors):
                actor.begin(self._task_of(who, self.protocol.programs[who]))
            for number, step in enumerate(run, 1):
                moment = f"step {number}, {step.event}"
                self._follow(world, step, moment)
                world = step.world
                self._compare(world, moment)
            for actor in self.actors:
                if actor.next is not None:
                    raise Divergence(f"at the end the real code goes on with {actor.next}")
        finally:
            for actor in self.actors:
                actor.run_out()

    def _follow(self, world: Any, step: Step, moment: str) -> None:
        """Take a step of the model."""
        raise NotImplementedError

    def _go_on(self, who: int, expected: Operation, step: Step, ends: bool, moment: str) -> bool:
        """Have a thread take its next step, which must be ``expected``.

        Return whether a read has come to its end, which it must if the model's ``ends``.
        """
        actor = self.actors[who]
        if actor.next != expected:
            raise Divergence(f"{moment}: {expected} expected, {actor.next} comes")
        actor.failure = _FAILURES.get(step.event.what, "")
        # A result comes back to the caller with the last step of its read.
        results = len(self.results[who])
        actor.go_on()
        has_read = len(self.results[who]) > results
        if has_read != ends:
            raise Divergence(f"{moment}: the real read has {'' if has_read else 'not '}ended")
        return has_read

    def _compare_version(
        self, version: Version, found: tuple[str | None] | None, moment: str, key: object = None
    ) -> None:
        """Raise ``Divergence`` at another version; ``key`` tells nonces of one name apart."""
        if version is None or found is None:
            if version is not None or found is not None:
                raise Divergence(f"{moment}: the version {found} is there, not {version}")
            return
        (nonce,) = found
        if version[1] or nonce is None:
            if not version[1] or nonce is not None:
                raise Divergence(f"{moment}: the version {found} is there, not {version}")
            return
        name = key, version[0]
        if name not in self._nonces and nonce not in self._nonces.values():
            self._nonces[name] = nonce
        if self._nonces.get(name) != nonce:
            raise Divergence(f"{moment}: the version {found} is there, not {version}")

"""Runs of the model to play with the real code."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from tests.protocol.model import Protocol
from tests.protocol.world import Process, Step, World


class EveryStep(Protocol):
    """The protocol with nothing left out of the interleavings."""

    # In reality a look into the overlay is part of the step before.
    invisible_steps = frozenset({"look"})

    def _fail(self, world: World, who: int, process: Process) -> Iterator[Step]:
        for step in super()._fail(world, who, process):
            # What a broken connection does depends on the driver.
            if "connection" not in step.event.what:
                yield step


def covering_runs(protocol: Protocol) -> Iterator[list[Step]]:
    """Yield runs from start to end in which a process takes each step in each situation.

    A situation is what can make a difference to a step: how far its process is, what lies in the
    cache and what is committed. How far the others are is not.
    """
    start = protocol.start()
    came_from: dict[World, tuple[World, Step] | None] = {start: None}
    graph: dict[World, list[Step]] = {}
    queue = deque([start])
    while queue:
        world = queue.popleft()
        graph[world] = list(protocol.steps(world))
        for step in graph[world]:
            if step.world not in came_from:
                came_from[step.world] = world, step
                queue.append(step.world)
    covered: set[object] = set()

    def situation(world: World, step: Step) -> object:
        who = step.event.who
        process = world.processes[protocol.names.index(who)] if who in protocol.names else None
        return who, process, world.versions, world.entries, world.visible, step.event

    for world, steps in graph.items():
        for step in steps:
            if situation(world, step) in covered:
                continue
            run = [step]
            before = world
            while (origin := came_from[before]) is not None:
                before, earlier = origin
                run.insert(0, earlier)
            while following := graph[run[-1].world]:
                world_then = run[-1].world
                new = (one for one in following if situation(world_then, one) not in covered)
                run.append(next(new, following[0]))
            before = start
            for one in run:
                covered.add(situation(before, one))
                before = one.world
            yield run


def all_runs(protocol: Protocol) -> Iterator[list[Step]]:
    """Yield every run from start to end."""

    def runs_from(world: World) -> Iterator[list[Step]]:
        is_end = True
        for step in protocol.steps(world):
            is_end = False
            for rest in runs_from(step.world):
                yield [step, *rest]
        if is_end:
            yield []

    return runs_from(protocol.start())

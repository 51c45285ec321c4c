"""Runs every interleaving of a scenario, breadth first, each state once."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import NamedTuple

from tests.protocol.model import Protocol
from tests.protocol.world import Event, World


class Exploration(NamedTuple):
    """What was seen: all of it, or a shortest run to the first step that broke something."""

    states: int
    steps: int
    #: The invariant and how it was broken; None if it never was.
    broken: tuple[str, str] | None
    trace: tuple[Event, ...]


def explore(protocol: Protocol, wanted: Collection[str] | None = None) -> Exploration:
    """Explore from the start; stop at the first broken invariant, of those ``wanted`` if given."""
    start = protocol.start()
    came_from: dict[World, tuple[World, Event] | None] = {start: None}
    queue = deque([start])
    steps = 0

    def trace_to(world: World) -> list[Event]:
        events = []
        while (origin := came_from[world]) is not None:
            world, event = origin
            events.append(event)
        return events[::-1]

    while queue:
        world = queue.popleft()
        broken = protocol.broken_at_end(world)
        if broken is not None and (wanted is None or broken[0] in wanted):
            return Exploration(len(came_from), steps, broken, tuple(trace_to(world)))
        for event, following, broken in protocol.steps(world):
            steps += 1
            if broken is not None and (wanted is None or broken[0] in wanted):
                return Exploration(len(came_from), steps, broken, (*trace_to(world), event))
            if following not in came_from:
                came_from[following] = world, event
                queue.append(following)
    return Exploration(len(came_from), steps, None, ())

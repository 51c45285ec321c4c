"""System checks of what is right on one's own machine and wrong in production."""

from __future__ import annotations

import logging

from django.core import checks
from django.core.cache.backends.base import BaseCache

from cachalot.checks.caches import usable_cache
from cachalot.checks.messages import message
from cachalot.checks.values import right_value
from cachalot.core.cache.backends import (
    keeps_all_in_process,
    keeps_nothing,
    lies_in_database,
    lies_in_process,
    memory_of_redis,
)
from cachalot.core.cache.boards import open_board
from cachalot.settings import configured

logger = logging.getLogger("cachalot")


def check_timeout(**kwargs: object) -> list[checks.CheckMessage]:
    """Check that results are kept at all."""
    if right_value("CACHALOT_TIMEOUT") == 0:
        return [message("cachalot.W010", timeout=configured("CACHALOT_TIMEOUT"))]
    return []


def check_cache(**kwargs: object) -> list[checks.CheckMessage]:
    """Check what the cache does in production. A Redis server is asked for its limits."""
    usable = usable_cache()
    if usable is None:
        return []
    alias, cache = usable
    if lies_in_database(cache):
        return []  # W005
    if lies_in_process(cache):
        return [_problem_of_local_memory(alias, cache)]
    if keeps_nothing(cache):
        return [message("cachalot.W015", alias=alias)]
    problem = _problem_of_redis(cache)
    return [] if problem is None else [message("cachalot.W011", alias=alias, problem=problem)]


def _problem_of_local_memory(alias: str, cache: BaseCache) -> checks.CheckMessage:
    """Return who does not hear of a write."""
    place = right_value("CACHALOT_BOARD")
    alone = {
        "shared": "No other process hears of its versions.",
        "others": "several processes",
        "alone": "one process",
    }
    if place is None or not keeps_all_in_process(cache):
        return message("cachalot.W009", alias=alias, **alone)
    try:
        path = open_board(place).file.path
    except OSError as error:
        value = configured("CACHALOT_BOARD")
        return message("cachalot.E019", alias=alias, value=value, error=error)
    return message(
        "cachalot.W009",
        alias=alias,
        shared=f"The processes of one user on one machine share its versions in {path}.",
        others="several machines, containers or users",
        alone="one user of one machine",
    )


def _problem_of_redis(cache: BaseCache) -> str | None:
    """Return what will happen to a full Redis; None for no problem, or if it cannot be told."""
    try:
        memory = memory_of_redis(cache)
        if memory is None:
            return None
        limit, policy = int(memory["maxmemory"]), str(memory["maxmemory_policy"])
    except Exception as error:
        logger.debug("The memory of Redis could not be checked: %r", error)
        return None
    keeps_for_ever = configured("CACHALOT_TIMEOUT") is None
    if limit == 0:
        # Results with a timeout go by themselves.
        return "has no maxmemory, and results never expire" if keeps_for_ever else None
    if policy == "noeviction":
        return "refuses every write once it is full, because its maxmemory-policy is 'noeviction'"
    if policy.startswith("volatile-") and keeps_for_ever:
        return (
            f"refuses every write once it is full, because its maxmemory-policy {policy!r} evicts "
            "only what expires, and results never do"
        )
    if policy == "volatile-ttl":
        return (
            f"evicts what expires first, by its maxmemory-policy {policy!r}, and so the marks of "
            "writers at work before any result"
        )
    return None


CHECKS = (check_timeout, check_cache)

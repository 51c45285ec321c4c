"""System checks of what a Redis server tells of itself, and of how its client asks it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core import checks

from cachalot.checks.caches import usable_cache
from cachalot.checks.messages import message
from cachalot.core.cache.backends import client_of_redis, lies_in_database, lies_in_process
from cachalot.core.cache.raw import Backend
from cachalot.core.cache.raw_following import Following
from cachalot.core.cache.sides import backend_of, has_cluster_client
from cachalot.core.cache.store import PROBE_KEY

logger = logging.getLogger("cachalot")


def check_server(**kwargs: object) -> list[checks.CheckMessage]:
    """Check that the cache answers, and what Redis tells of itself."""
    usable = usable_cache()
    if usable is None:
        return []
    alias, cache = usable
    if lies_in_process(cache) or lies_in_database(cache):
        return []
    try:
        cache.get(PROBE_KEY)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        return [message("cachalot.W019", alias=alias, error=reason)]
    client = client_of_redis(cache)
    if client is None:
        return []
    side: Any = backend_of(cache)
    is_by_api = type(side) in {Backend, Following}
    messages = []
    facts = _facts_of(client)
    if facts.get("cluster_enabled") and not has_cluster_client(cache):
        config: Any = settings.CACHES[alias]
        return [message("cachalot.W023", alias=alias, backend=config["BACKEND"])]
    role = str(facts.get("role", "master"))
    if role != "master":
        messages.append(message("cachalot.W021", alias=alias, role=role))
    elif (problem := _what_it_may_forget(client, facts, is_by_api)) is not None:
        messages.append(message("cachalot.W022", alias=alias, problem=problem))
    if is_by_api and (retries := _retries_of(client)):
        messages.append(message("cachalot.W024", alias=alias, retries=retries))
    if role == "master" and not is_by_api and not side.runs_scripts():
        messages.append(message("cachalot.W025", alias=alias))
    return messages


def _facts_of(client: Any) -> Mapping[str, Any]:
    """Return what INFO tells; nothing where it is not allowed."""
    try:
        facts: Mapping[str, Any] = client.info()
    except Exception as error:
        logger.debug("Redis does not tell who it is: %r", error)
        return {}
    return facts


def _what_it_may_forget(client: Any, facts: Mapping[str, Any], is_by_api: bool) -> str | None:
    """Return why older content may come back unnoticed; None if it cannot."""
    if not (facts.get("run_id") or facts.get("master_replid")):
        return "does not tell who it is, because its user may not run INFO"
    if not is_by_api:
        return None
    unasked = "is not asked who it is, because its client is not one that is known"
    if facts.get("aof_enabled") or _saves(client):
        return f"keeps its data on disk, and {unasked}"
    if facts.get("connected_slaves"):
        return f"has replicas, and {unasked}"
    return None


def _saves(client: Any) -> bool:
    """Whether Redis saves dumps, as far as it tells."""
    try:
        return bool(client.config_get("save").get("save"))
    except Exception as error:
        logger.debug("Redis does not tell whether it saves dumps: %r", error)
        return False


def _retries_of(client: Any) -> int:
    """Return how many times a command is sent again, as far as can be told."""
    pool = getattr(client, "connection_pool", None)
    try:
        # Not connected, and nobody else's.
        connection = pool.connection_class(**pool.connection_kwargs)  # type: ignore[union-attr]
        return max(0, int(connection.retry._retries))
    except Exception as error:
        logger.debug("The client does not tell how often it tries: %r", error)
        return 0


CHECKS = (check_server,)

"""Who is compared: what each one is, what it needs, what it claims."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from benchmarks.stacks import Servers, Stack

DJANGO = "Django~=5.2.0"
DRIVERS = ("psycopg[binary]", "redis", "django-redis", "pymemcache")


@dataclass(frozen=True)
class Contender:
    """One way to answer queries.

    ``caches`` is what caches on its behalf: "nothing", "floor" (a dictionary), "cachalot" or
    "cacheops". ``requirement`` is what pip installs, None if nothing; ``uses_tree`` puts this
    checkout's ``cachalot`` on the path. ``stack_caches`` are the caches of the stacks that it runs
    on, None for all.
    """

    name: str
    title: str
    caches: str
    requirement: str | None = None
    uses_tree: bool = False
    apps: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    stack_caches: frozenset[str] | None = None

    @property
    def is_cache(self) -> bool:
        """Whether there is something that a write must invalidate."""
        return self.caches not in {"nothing", "floor"}

    def runs_on(self, stack: Stack) -> bool:
        return self.stack_caches is None or stack.cache in self.stack_caches

    def django_settings(self, servers: Servers) -> dict[str, Any]:
        """Return what its settings have besides databases and caches."""
        if self.caches == "cacheops":
            return {**self.settings, "CACHEOPS_REDIS": servers.redis}
        return self.settings


CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("plain", "no cache", "nothing"),
        Contender("floor", "floor", "floor"),
        Contender("ours", "cachalot", "cachalot", uses_tree=True, apps=("cachalot",)),
        Contender(
            "ours-shared",
            "cachalot, no local tier",
            "cachalot",
            uses_tree=True,
            apps=("cachalot",),
            settings={"CACHALOT_LOCAL_SIZE": 0},
        ),
        Contender(
            "ours-alone",
            "cachalot, no board",
            "cachalot",
            uses_tree=True,
            apps=("cachalot",),
            settings={"CACHALOT_BOARD": None},
            stack_caches=frozenset({"locmem"}),
        ),
        Contender(
            "django-cachalot",
            "django-cachalot (PyPI)",
            "cachalot",
            requirement="django-cachalot==2.9.1",
            apps=("cachalot",),
        ),
        Contender(
            "django-cacheops",
            "django-cacheops (PyPI)",
            "cacheops",
            requirement="django-cacheops==7.2",
            apps=("cacheops",),
            settings={"CACHEOPS": {"*.*": {"ops": "all", "timeout": 3600}}},
            stack_caches=frozenset({"redis", "django_redis"}),
        ),
    )
}

"""Whole pages, kept in every way there is: ``python -m benchmarks.pages``.

A page of 250 queries is asked for by Django's own request objects, without middleware. Each way
has a process, a database of SQLite and keys of its own. Beside the time of a hit stands whether the
page is right in the first request after a write.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.environments import Environments, Tree, default_directory
from benchmarks.stacks import Servers, Stack

#: Each book of the page takes three queries, and one lists them.
BOOKS = 83
TEMPLATE = """<ul>{% for book in books %}
  <li>{{ book.title }} by {{ book.author.name }}, {{ book.review_set.count }} reviews
  {% for tag in book.tags.all %}{{ tag.name }} {% endfor %}</li>{% endfor %}
</ul>"""


class Way(NamedTuple):
    """One way to keep a page, by one of the contenders."""

    title: str
    contender: str


WAYS = {
    "plain": Way("nothing is cached", "plain"),
    "queries": Way("cachalot, its queries", "ours"),
    "cached_view": Way("cachalot, cached_view()", "ours"),
    "cached": Way("cachalot, {% cached %}", "ours"),
    "cache_page": Way("Django, cache_page(3600)", "plain"),
    "cached_view_as": Way("cacheops, cached_view_as() of four models", "django-cacheops"),
}
CACHES = ("locmem", "redis")


def main() -> int:
    """Print a table of all ways."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages", description=__doc__)
    parser.add_argument("--redis", default="redis://127.0.0.1:6379/15", help="an empty database")
    parser.add_argument("--cache", choices=CACHES, action="append", help="by default both")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each way (default: 2)")
    parser.add_argument("--environments", type=Path, default=default_directory())
    arguments = parser.parse_args()
    servers = Servers("", arguments.redis, "")
    environments = Environments(arguments.environments)
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        tree = Tree(directory)
        for cache in arguments.cache or CACHES:
            stack = Stack(f"sqlite-{cache}", f"SQLite, {cache}", "sqlite", cache)
            print(f"\n{stack.title}\n")
            print(f"{'':42} {'hit':>9} {'first':>9}  after a write")
            for name, way in WAYS.items():
                contender = CONTENDERS[way.contender]
                if not contender.runs_on(stack):
                    continue
                python = environments.python_for(contender)
                found = _measured(
                    name, contender, stack, servers, directory, tree, python, arguments.seconds
                )
                right = "right" if found["is_right"] else "STALE"
                print(
                    f"{way.title:42} {found['hit'] * 1000:6.3f} ms {found['first'] * 1000:6.1f} ms"
                    f"  {right}",
                    flush=True,
                )
    return 0


def _measured(
    name: str,
    contender: Contender,
    stack: Stack,
    servers: Servers,
    directory: Path,
    tree: Tree,
    python: str,
    seconds: float,
) -> dict[str, Any]:
    given = {
        "databases": stack.databases(servers, directory, f"{stack.name}-{name}"),
        "caches": stack.caches(servers, f"pages-{name}"),
        "apps": contender.apps,
        "settings": contender.django_settings(servers),
    }
    finished = subprocess.run(
        [python, "-m", "benchmarks.page_worker", name, str(seconds)],
        cwd=directory,
        env={
            **{name: os.environ[name] for name in ("HOME", "PATH", "TMPDIR") if name in os.environ},
            "CACHALOT_BENCHMARK": json.dumps(given),
            "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
            "PYTHONPATH": tree.path_for(contender),
            "LANG": "C.UTF-8",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        raise SystemExit(f"{name} failed:\n{finished.stderr}")
    answer: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return answer


if __name__ == "__main__":
    sys.exit(main())

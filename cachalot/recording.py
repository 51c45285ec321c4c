"""What a piece of code has read and invalidated, and which line of it did."""

from __future__ import annotations

import linecache
import os
import sys
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

from django.apps import apps
from django.template import Node

from cachalot.core.collecting import Collector
from cachalot.core.events import Block, Event, Invalidation, Read
from cachalot.core.outcomes import Outcome

# Whose frames lie between any query and whoever wanted it.
_MACHINERY = frozenset({"asgiref", "asyncio", "cachalot", "concurrent", "contextvars", "threading"})
_INSTALLED = tuple({os.path.join(path, "") for path in sysconfig.get_paths().values()})

_MAX_PARAMS = 1000
_MAX_ROWS = 5

# Of the reasons why a read was not cached, those that settings or the code around it have given.
_ON_PURPOSE = (
    "switched off by",
    "CACHALOT_CACHE_ITERATORS is off",
    "CACHALOT_DATABASES leaves out",
    "_TABLES or _APPS",
)


class Reads(list[Read]):
    """The reads of a block, in their order."""

    def __init__(self) -> None:
        super().__init__()
        #: What became of cached functions, views and fragments.
        self.blocks: list[Block] = []

    @property
    def queries(self) -> list[Read]:
        """Those for which the database was asked."""
        return [read for read in self if not read.is_hit]


class recorded(Collector):
    """A context manager: ``with recorded() as reads:`` gives the reads of its block as a list.

    Each has the ``sql`` and ``params``, ``db_alias``, ``tables``, ``outcome`` and ``reason`` (why
    it is no hit and cannot become one, else None), the ``seconds`` that it took and
    ``query_seconds`` that its query took when its result was computed, the ``size`` of the stored
    result in bytes and its ``age`` in seconds; ``rows``, pairs of a table and a key, where it
    depends on these rows in place of all of the table; and ``is_hit``. ``reads.queries`` are those
    that asked the database, SELECTs by cursor among them. ``reads.blocks`` tells of cached
    functions, views and fragments: ``name``, ``outcome``, ``reason``, ``tables`` as pairs of an
    alias and a table, ``seconds``, ``block_seconds``, ``size``, ``age``, ``is_hit``. All grow as it
    runs.

    What counts is the block's own thread or task, with what it awaits and the threads that
    asgiref runs for it. Blocks may be nested.
    """

    hears = True

    def __enter__(self) -> Reads:
        super().__enter__()
        self._reads = Reads()
        return self._reads

    def note(self, event: Any) -> None:
        """Keep what is a read."""
        if isinstance(event, Read):
            self._reads.append(event)
        elif isinstance(event, Block):
            self._reads.blocks.append(event)


class Recording(Collector):
    """A context manager: what happens in its block is kept, with the place where it did.

    Left out is what happens while ``is_aside()`` is true.
    """

    hears = True

    def __init__(self, is_aside: Callable[[], bool] = lambda: False) -> None:
        super().__init__()
        self._is_aside = is_aside
        #: Pairs of an event and the place where it happened.
        self.events: list[tuple[Event, dict[str, Any]]] = []

    def note(self, event: Any) -> None:
        """Keep an event."""
        if not self._is_aside():
            self.events.append((event, place_of(sys._getframe(1))))

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON: figures by database, statements, blocks, invalidations."""
        reads = [(event, place) for event, place in self.events if isinstance(event, Read)]
        by_database: dict[str, list[Read]] = {}
        for read, _ in reads:
            by_database.setdefault(read.db_alias, []).append(read)
        return {
            "databases": [
                {"db_alias": db_alias, **_figures(of_database)}
                for db_alias, of_database in by_database.items()
            ],
            "statements": _statements(reads),
            "blocks": [
                _block(event, place) for event, place in self.events if isinstance(event, Block)
            ],
            "caused": [
                {"db_alias": event.db_alias, "tables": list(event.tables), "place": place}
                for event, place in self.events
                if isinstance(event, Invalidation)
            ],
        }


def _kind(read: Read) -> str:
    """Return the one of three kinds that a reader filters by."""
    if read.outcome.is_hit:
        return "hit"
    return "miss" if read.outcome is Outcome.MISS else "not cached"


def _is_intended(read: Read) -> bool:
    """Whether the project has it so that this read is not cached."""
    return any(words in (read.reason or "") for words in _ON_PURPOSE)


def _figures(reads: Iterable[Read]) -> dict[str, Any]:
    """Return numbers of reads, and in milliseconds what they took.

    ``query_ms`` is what their queries took, those of hits when their results were computed.
    """
    figures = {"hits": 0, "misses": 0, "not_cached": 0, "intended": 0, "ms": 0.0, "query_ms": 0.0}
    for read in reads:
        figures["ms"] += 1000 * read.seconds
        figures["query_ms"] += 1000 * (read.query_seconds or 0.0)
        kind = _kind(read)
        figures["hits"] += kind == "hit"
        figures["misses"] += kind == "miss"
        figures["not_cached"] += kind == "not cached"
        figures["intended"] += _is_intended(read)
    return figures


def _statements(reads: Iterable[tuple[Read, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return each statement once, with its reads by their parameters."""
    groups: dict[tuple[str, str], list[tuple[Read, dict[str, Any]]]] = {}
    for read, place in reads:
        groups.setdefault((read.db_alias, read.sql), []).append((read, place))
    return [
        {
            "db_alias": db_alias,
            "sql": sql,
            "tables": list(group[0][0].tables),
            "rows": rows_in_words(row for read, _ in group for row in read.rows),
            "kinds": sorted({_kind(read) for read, _ in group}),
            "results": _tally(_result(read) for read, _ in group),
            "reasons": list(dict.fromkeys(read.reason for read, _ in group if read.reason)),
            **_figures(read for read, _ in group),
            "calls": _calls(group),
        }
        for (db_alias, sql), group in groups.items()
    ]


def rows_in_words(rows: Iterable[tuple[str, Any]]) -> str:
    """Return pairs of a table and a key as in "Book 17, 18"; a table without a model by its name.

    Of more than a few rows the first are named.
    """
    keys_by_table: dict[str, dict[Any, None]] = {}
    for table, key in rows:
        keys_by_table.setdefault(table, {})[key] = None
    parts = []
    for table, keys in keys_by_table.items():
        named = ", ".join(map(str, [*keys][:_MAX_ROWS]))
        more = len(keys) - _MAX_ROWS
        parts.append(f"{_name_of(table)} {named}" + (f" and {more} more" if more > 0 else ""))
    return "; ".join(parts)


def _name_of(table: str) -> str:
    models = apps.get_models(include_auto_created=True)
    names = (
        each.__name__ for each in models if each._meta.db_table == table and not each._meta.proxy
    )
    return next(names, table)


def _result(read: Read) -> str:
    """Return what became of a read, in the words of the manual."""
    return read.outcome.value if read.outcome.is_hit else _kind(read)


def _calls(reads: Iterable[tuple[Read, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the parameters of one statement, each with its reads."""
    by_params: dict[str, list[dict[str, Any]]] = {}
    for read, place in reads:
        by_params.setdefault(_shown(read.params), []).append(
            {
                "result": _result(read),
                "reason": read.reason or "",
                "rows": rows_in_words(read.rows),
                "ms": 1000 * read.seconds,
                "query_ms": None if read.query_seconds is None else 1000 * read.query_seconds,
                "size": read.size,
                "age": read.age,
                "place": place,
            }
        )
    return [{"params": params, "reads": found} for params, found in by_params.items()]


def _shown(params: Any) -> str:
    text = ", ".join(map(repr, params or ()))
    return text if len(text) <= _MAX_PARAMS else f"{text[:_MAX_PARAMS]}…"


def _block(block: Block, place: dict[str, Any]) -> dict[str, Any]:
    css = "hit" if block.is_hit else "miss" if block.outcome is Outcome.MISS else "refused"
    databases = {db_alias for db_alias, _ in block.tables}
    return {
        "name": block.name,
        "tables": [
            table if len(databases) == 1 else f"{table} in {db_alias}"
            for db_alias, table in block.tables
        ],
        "result": block.outcome.value,
        "css": css,
        "reason": block.reason or "",
        "ms": 1000 * block.seconds,
        "block_ms": None if block.block_seconds is None else 1000 * block.block_seconds,
        "size": block.size,
        "age": block.age,
        "place": place,
    }


def _tally(results: Iterable[str]) -> str:
    return ", ".join(
        result if number == 1 else f"{number} × {result}"
        for result, number in Counter(results).items()
    )


def place_of(frame: FrameType | None) -> dict[str, Any]:
    """Return where the code is that led to ``frame``.

    The nearest line of the project, else of an installed package, else of Django outside its ORM;
    and the nearest template's line. All are empty if there is none.
    """
    found: dict[int, FrameType] = {}
    template = ""
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        package = module.partition(".")[0]
        if package == "debug_toolbar":
            break  # around the request
        if not template and frame.f_code.co_name == "render_annotated":
            template = _template_line(frame.f_locals.get("self"))
        if package == "django":
            if not module.startswith("django.db."):
                found.setdefault(2, frame)
        elif package not in _MACHINERY:
            found.setdefault(int(frame.f_code.co_filename.startswith(_INSTALLED)), frame)
        frame = frame.f_back
    place: dict[str, Any] = {"file": "", "line": 0, "function": "", "code": ""}
    if found:
        nearest = found[min(found)]
        file = nearest.f_code.co_filename
        place = {
            "file": file,
            "line": nearest.f_lineno,
            "function": nearest.f_code.co_name,
            "code": linecache.getline(file, nearest.f_lineno).strip(),
        }
    return {**place, "template": template}


def _template_line(node: object) -> str:
    if not isinstance(node, Node) or node.token is None:
        return ""
    name = getattr(node.origin, "template_name", None) or getattr(node.origin, "name", "")
    return f"{name}:{node.token.lineno}"

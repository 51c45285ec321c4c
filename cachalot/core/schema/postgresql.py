"""What a PostgreSQL database's catalogue says."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from cachalot.core.schema.introspection import NONE, SCHEMA, Catalogue, add, called
from cachalot.core.schema.postgresql_query import statements
from cachalot.core.sql.names import canonical
from cachalot.core.sql.routines import Routine, writers_among
from cachalot.core.sql.volatility import CHANCE_FUNCTIONS, SESSION_FUNCTIONS

# Triggers in C that change the row at hand, or no table.
_HARMLESS_TRIGGERS = frozenset(
    {"moddatetime", "autoinc", "insert_username", "lo_manage", "triggered_change_notification"}
)
# Kinds of rules in pg_rewrite: what a view shows, and what is done in place of a write.
_SELECT_RULE = "1"
_WRITE_RULES = frozenset("234")
# CASCADE, SET NULL, SET DEFAULT
_ACTIONS = frozenset("cnd")
# CURRENT_DATE to LOCALTIMESTAMP(n); those behind them tell of the session (primnodes.h).
_CLOCKS = frozenset(f"op{number}" for number in range(9))
_REASONS = {
    "sample": "takes a sample",
    "lock": "locks rows",
    "clock": "may make the current time of a text",
}


def read(cursor: Any, is_thorough: bool) -> Catalogue:
    """Return the catalogue that a driver's cursor reads."""
    cursor.execute(statements(is_thorough))
    return _Reading(_last_rows(cursor)).catalogue()


def _last_rows(cursor: Any) -> Iterable[tuple[Any, ...]]:
    """Return the rows of the last of several statements; psycopg 2 keeps no others."""
    while cursor.description is None and cursor.nextset():
        pass
    rows: Iterable[tuple[Any, ...]] = cursor.fetchall()
    return rows


class _Reading:
    """The rows that the statement gives, by their kind, and what follows from them."""

    def __init__(self, rows: Iterable[tuple[Any, ...]]) -> None:
        self._rows: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
        for kind, *columns in rows:
            self._rows[kind].append(tuple(columns))
        self._tables = frozenset(canonical(name) for name, kind, *_ in self._rows["relation"])
        self._reads: dict[str, frozenset[str]] = {}
        self._changes: dict[str, frozenset[str]] = {}
        self._cascades: dict[str, frozenset[str]] = {}
        self._routines = [
            Routine(
                called(name),
                language,
                ""
                if language == "c" and name in _HARMLESS_TRIGGERS
                else None
                if language == "c" and trait == "fires"
                else body,
                is_read_only=volatility != "v" or (language == "c" and trait != "fires"),
            )
            for name, language, volatility, body, trait in self._rows["routine"]
        ]

    def catalogue(self) -> Catalogue:
        self._note_relations()
        functions = frozenset(
            called(name)
            for name, _, volatility, _, trait in self._rows["routine"]
            if volatility != "i" and trait != "fires"
        )
        implied: dict[str, frozenset[str]] = {}
        for token, name, kind, *_ in self._rows["alias"]:
            if kind == "aggregate" and called(name) in functions:
                functions |= {called(token)}
            # An implicit cast needs no word.
            word = "" if kind == "i" else token.lower()
            implied[word] = implied.get(word, NONE) | {called(name)}
        for name, _, _, _, trait in self._rows["routine"]:
            if trait == "attribute":
                implied[called(name)] = frozenset({called(name)})
        calls: dict[str, frozenset[str]] = {}
        volatile = {}
        for relation, kind, part, name, *_ in self._rows["calls"]:
            shows = (kind == "v" and part == _SELECT_RULE) or part == "policy"
            if shows and called(name) in functions:
                volatile[canonical(relation)] = f"calls {called(name)}()"
            add(calls, canonical(relation), frozenset({called(name)}))
        # As texts that name and call what the views do.
        texts = {
            canonical(name): " ".join(
                [f'"{source}"' for source in self._reads.get(canonical(name), NONE)]
                + [f"{name}()" for name in calls.get(canonical(name), NONE)]
            )
            for name, kind, *_ in self._rows["relation"]
            if kind == "v"
        }
        writers = writers_among(self._routines, texts, self._tables, "postgresql")
        for token, name, kind, *_ in self._rows["alias"]:
            if kind == "aggregate" and called(name) in writers.functions:
                add(writers.functions, called(token), writers.functions[called(name)])
        for relation, names in calls.items():
            for name in names:
                add(self._changes, relation, writers.functions.get(name, NONE))
        for name, *_ in self._rows["event"]:
            add(self._changes, SCHEMA, writers.functions.get(called(name), NONE))
        volatile |= self._volatile_trees()
        return Catalogue(
            self._tables,
            self._reads,
            self._changes,
            self._cascades,
            functions=functions,
            routines=frozenset(routine.name for routine in self._routines),
            writers=writers,
            volatile={
                name: f"reads {'the view ' * (name in texts)}{name}, which {reason}"
                for name, reason in volatile.items()
            },
            implied={
                token: names
                for token, names in implied.items()
                if not names.isdisjoint(functions | writers.functions.keys())
            },
            setters=frozenset(
                called(name)
                for name, _, volatility, *_ in self._rows["routine"]
                if volatility == "v"
            ),
            settings=tuple(sorted(" ".join(filter(None, row)) for row in self._rows["setting"])),
            unexamined=frozenset(canonical(name) for name, *_ in self._rows["unexamined"]),
        )

    def _note_relations(self) -> None:
        for owner, kind, part, source, *_ in self._rows["uses"]:
            name, others = canonical(owner), frozenset({canonical(source)})
            if part in _WRITE_RULES or (kind == "v" and part == _SELECT_RULE):
                # What is written to a view is written to what it shows.
                add(self._changes, name, others)
            if part == "policy" or (kind == "v" and part == _SELECT_RULE):
                add(self._reads, name, others)
        for child, parent, *_ in self._rows["parent"]:
            # One version stands for a whole tree of partitions: its root's.
            add(self._reads, canonical(child), frozenset({canonical(parent)}))
            add(self._changes, canonical(child), frozenset({canonical(parent)}))
        for parent, child, on_update, *_ in self._rows["cascade"]:
            edges = self._changes if on_update in _ACTIONS else self._cascades
            add(edges, canonical(parent), frozenset({canonical(child)}))

    def _volatile_trees(self) -> dict[str, str]:
        volatile = {
            canonical(name): "is a sequence"
            for name, kind, *_ in self._rows["relation"]
            if kind == "S"
        }
        for relation, kind, functions, relations, marks in self._rows["tree"]:
            reason = _reason(kind, functions or "", relations, marks.split())
            if reason is not None:
                volatile[canonical(relation)] = reason
        return volatile


def _reason(kind: str, functions: str, relations: str | None, marks: list[str]) -> str | None:
    """Return why what a tree shows may differ though no table has changed, or None."""
    # What a policy asks of the session is in every key: its role and what was SET on it.
    of_session = SESSION_FUNCTIONS if kind == "policy" else NONE
    if names := set(functions.split()) - of_session:
        is_chance = not names.isdisjoint(CHANCE_FUNCTIONS)
        return "uses chance" if is_chance else f"calls the volatile function {min(names)}()"
    if relations:
        return f"depends on the server's state through {relations.split()[0]}"
    if not _CLOCKS.isdisjoint(marks):
        return "reads the clock"
    if kind == "view" and any(mark.startswith("op") for mark in marks):
        return "depends on the session's user"
    return next((_REASONS[mark] for mark in marks if mark in _REASONS), None)

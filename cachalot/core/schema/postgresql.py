"""What a PostgreSQL database's catalogue says."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cache
from typing import Any

from cachalot.core.rows import Key
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
# The tree of a view is cut where the number of a function or relation follows.
_OIDS = re.compile(r",(\d+) ")
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
        # Each name comes often; what is remembered of names elsewhere has not so much room.
        self._names = cache(canonical)
        self._tables = frozenset(self._names(name) for name, kind, *_ in self._rows["relation"])
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
                volatile[self._names(relation)] = f"calls {called(name)}()"
            add(calls, self._names(relation), frozenset({called(name)}))
        views = {self._names(name) for name, kind, *_ in self._rows["relation"] if kind == "v"}
        # As texts that name and call what the views do.
        texts = {
            view: " ".join(
                [f'"{source}"' for source in self._reads.get(view, NONE)]
                + [f"{name}()" for name in calls.get(view, NONE)]
            )
            for view in views
            if self._routines
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
        keys, unique = self._keys()
        return Catalogue(
            self._tables,
            self._reads,
            self._changes,
            self._cascades,
            functions=functions,
            routines=frozenset(routine.name for routine in self._routines),
            writers=writers,
            volatile={
                name: f"reads {'the view ' * (name in views)}{name}, which {reason}"
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
            unexamined=frozenset(self._names(name) for name, *_ in self._rows["unexamined"]),
            keys=keys,
            unique=unique,
        )

    def _keys(self) -> tuple[dict[str, Key], dict[str, frozenset[Key]]]:
        """Return the primary keys of tables, and their unique columns."""
        # Relations of one name in several schemas: any may be meant, so all must have the key.
        named = Counter(self._names(name) for name, *_ in self._rows["relation"])
        parts: dict[tuple[str, int, str], list[Key]] = defaultdict(list)
        primary: dict[tuple[str, Key], set[str]] = defaultdict(set)
        unique: dict[tuple[str, Key], set[str]] = defaultdict(set)
        for name, column, kind, columns_of_primary, oid in self._rows["key"]:
            if columns_of_primary is None:
                unique[self._names(name), Key(column, kind)].add(oid)
            else:
                parts[self._names(name), int(columns_of_primary), oid].append(Key(column, kind))
        for (table, columns, oid), found in parts.items():
            # Those of other types are not told.
            if len(found) == columns:
                primary[table, Key.of(found)].add(oid)
        keys = {table: key for (table, key), oids in primary.items() if len(oids) == named[table]}
        unique_columns: dict[str, frozenset[Key]] = {}
        for (table, key), oids in unique.items():
            if len(oids) == named[table]:
                unique_columns[table] = unique_columns.get(table, frozenset()) | {key}
        return keys, unique_columns

    def _note_relations(self) -> None:
        reads: dict[str, set[str]] = defaultdict(set)
        changes: dict[str, set[str]] = defaultdict(set)
        for owner, kind, part, source, *_ in self._rows["uses"]:
            name, other = self._names(owner), self._names(source)
            shows = kind == "v" and part == _SELECT_RULE
            if name != other and (shows or part in _WRITE_RULES):
                # What is written to a view is written to what it shows.
                changes[name].add(other)
            if name != other and (shows or part == "policy"):
                reads[name].add(other)
        self._reads |= {name: frozenset(others) for name, others in reads.items()}
        self._changes |= {name: frozenset(others) for name, others in changes.items()}
        for child, parent, *_ in self._rows["parent"]:
            # One version stands for a whole tree of partitions: its root's.
            add(self._reads, self._names(child), frozenset({self._names(parent)}))
            add(self._changes, self._names(child), frozenset({self._names(parent)}))
        for parent, child, on_update, *_ in self._rows["cascade"]:
            edges = self._changes if on_update in _ACTIONS else self._cascades
            add(edges, self._names(parent), frozenset({self._names(child)}))

    def _volatile_trees(self) -> dict[str, str]:
        volatile = {
            self._names(name): "is a sequence"
            for name, kind, *_ in self._rows["relation"]
            if kind == "S"
        }
        built_in = {oid: name for name, oid, *_ in self._rows["built in"]}
        system = {oid: name for name, oid, *_ in self._rows["system"]}
        for relation, kind, functions, relations, marks in self._rows["tree"]:
            reason = _reason(
                kind,
                {built_in[oid] for oid in _OIDS.findall(functions) if oid in built_in},
                {system[oid] for oid in _OIDS.findall(relations) if oid in system},
                marks.split(),
            )
            if reason is not None:
                volatile[self._names(relation)] = reason
        return volatile


def _reason(kind: str, functions: set[str], relations: set[str], marks: list[str]) -> str | None:
    """Return why what a tree shows may differ though no table has changed, or None."""
    # What a policy asks of the session is in every key: its role and what was SET on it.
    of_session = SESSION_FUNCTIONS if kind == "policy" else NONE
    if names := functions - of_session:
        is_chance = not names.isdisjoint(CHANCE_FUNCTIONS)
        return "uses chance" if is_chance else f"calls the volatile function {min(names)}()"
    if relations:
        return f"depends on the server's state through {min(relations)}"
    if not _CLOCKS.isdisjoint(marks):
        return "reads the clock"
    if kind == "view" and any(mark.startswith("op") for mark in marks):
        return "depends on the session's user"
    return next((_REASONS[mark] for mark in marks if mark in _REASONS), None)

"""What a database tells of itself: who reads whom, who writes whom, what changes untouched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from cachalot.core.rows import Key
from cachalot.core.sql.routines import NO_WRITERS, Writers
from cachalot.core.sql.text import (
    WORD,
    named_in,
    names_after_keywords,
    odd_names_among,
    words_of,
)
from cachalot.core.sql.volatility import volatility_of

#: Stands for the catalogue among the tables of a write: whatever changes the schema, in whichever
#: process, gives it a new version. No table has a name with a space at its end.
SCHEMA = "schema "
NONE: frozenset[str] = frozenset()

Relations = Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class Catalogue:
    """One database's catalogue, as far as caching needs it; all names are canonical.

    ``reads`` maps a table or view to what else is read where it is, ``changes`` to what else is
    written where it is, ``cascades`` to what else is written where rows of it are deleted.
    ``untransactional`` are tables whose changes show at once and cannot be rolled back;
    ``functions`` are those defined in this database that may read its tables, ``routines`` all
    that are defined in it and ``writers`` what they write; ``volatile`` says why the rows of a
    table or view may differ though no table has changed; ``implied`` maps words and operators to
    the functions that are called where they stand, the empty word to those that may be called
    anywhere. Whether views are volatile that are ``unexamined`` is not known yet. ``setters`` are
    functions that may change the session, ``settings`` what the server sets on new ones. ``keys``
    has the tables a write of one row of which changes that row alone, and what tells rows apart;
    ``unique`` has their columns of which no two rows have equal values, and none has NULL.
    """

    tables: frozenset[str] = frozenset()
    reads: Relations = field(default_factory=dict)
    changes: Relations = field(default_factory=dict)
    cascades: Relations = field(default_factory=dict)
    untransactional: frozenset[str] = frozenset()
    functions: frozenset[str] = frozenset()
    routines: frozenset[str] = frozenset()
    writers: Writers = NO_WRITERS
    volatile: Mapping[str, str] = field(default_factory=dict)
    implied: Relations = field(default_factory=dict)
    unexamined: frozenset[str] = frozenset()
    setters: frozenset[str] = frozenset()
    settings: tuple[str, ...] = ()
    keys: Mapping[str, Key] = field(default_factory=dict)
    unique: Mapping[str, frozenset[Key]] = field(default_factory=dict)

    @cached_property
    def _odd_tables(self) -> tuple[str, ...]:
        return odd_names_among(self.tables)

    def tables_in(self, text: str) -> frozenset[str]:
        """Return the tables that ``text`` names anywhere."""
        return named_in(text, self.tables, self._odd_tables)

    def calls_in(self, code: str) -> frozenset[str]:
        """Return the functions that ``code`` calls without their names before a parenthesis."""
        if not self.implied:
            return NONE
        words = words_of(code)
        return NONE.union(
            *(
                names
                for token, names in self.implied.items()
                if token in words or (not WORD.search(token) and token in code)
            )
        )

    def read_by(self, tables: frozenset[str]) -> frozenset[str]:
        """Return ``tables`` and all that is read where they are."""
        return _reached(tables, self.reads)

    def changed_by(self, tables: frozenset[str], deletes: bool) -> frozenset[str]:
        """Return ``tables`` and all that is written where they are.

        ``deletes`` tells that rows of them may be removed. What is reached may lose rows, too.
        """
        reached = _reached(tables, self.changes)
        if self.cascades and (deletes or reached != tables):
            edges = dict(self.changes)
            for table, followers in self.cascades.items():
                add(edges, table, followers)
            reached |= _reached(reached if deletes else reached - tables, edges)
        return reached


def _reached(tables: frozenset[str], edges: Relations) -> frozenset[str]:
    if edges.keys().isdisjoint(tables):
        return tables
    reached = set(tables)
    unseen = list(tables)
    while unseen:
        following = edges.get(unseen.pop(), NONE)
        unseen.extend(following - reached)
        reached |= following
    return frozenset(reached)


def add(edges: dict[str, frozenset[str]], name: str, others: frozenset[str]) -> None:
    """Add ``others`` to what ``name`` leads to; it does not lead to itself."""
    others -= {name}
    if others:
        edges[name] = edges.get(name, NONE) | others


def called(name: str) -> str:
    """Return what ``called_in()`` finds where the routine ``name`` is called."""
    words: list[str] = WORD.findall(name.lower()) or [name]
    return words[-1]


def volatile_views(
    definitions: Mapping[str, str], vendor: str, functions: frozenset[str]
) -> dict[str, str]:
    """Return the reason for each view whose rows depend on more than its tables."""
    volatile = {}
    for view, sql in definitions.items():
        volatility = volatility_of(sql, vendor)
        calls = volatility.functions & functions
        if volatility.reason is not None:
            volatile[view] = f"reads the view {view}, which {volatility.reason}"
        elif volatility.is_random:
            volatile[view] = f"reads the view {view}, which uses chance"
        elif calls:
            volatile[view] = f"reads the view {view}, which calls {min(calls)}()"
    return volatile


def sources_in(definitions: Mapping[str, str], tables: frozenset[str]) -> dict[str, frozenset[str]]:
    """Return what the text of each definition names: any word that is a table counts."""
    odd_names = odd_names_among(tables)
    return {
        name: (named_in(sql, tables, odd_names) | names_after_keywords(sql)) - {name}
        for name, sql in definitions.items()
    }

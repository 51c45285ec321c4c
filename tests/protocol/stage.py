"""The stage on which the real code plays runs of the model: two tables, and blocks of reads."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from django.db import connections, transaction
from django.db.models import F

from cachalot.api import invalidate
from cachalot.core.blocks.block import Block
from cachalot.core.cache.entries import unpack
from cachalot.core.cache.versions import clock, new_nonce
from cachalot.core.reading import snapshots
from cachalot.core.schema.version_keys import rest_key, row_keys_of, version_keys
from tests.library.models import Book, Review
from tests.protocol.actors import (
    CACHE_ALIAS,
    DB_ALIAS,
    Divergence,
    Operation,
    ScheduledCache,
    StatementFailed,
)
from tests.protocol.model import Protocol
from tests.protocol.replay import Replay
from tests.protocol.world import (
    TABLES,
    BlockEntry,
    Entry,
    Process,
    Statement,
    Step,
    Tables,
    World,
    bit,
)

# Which accesses and statements the steps of the model are. Those with a key name its kind too.
_OPERATIONS = {
    "version": "get version",
    "again": "get version",
    "entry": "get entry",
    "add": "add version",
    "query": "select",
    "ask": "select",
    "put": "set entry",
    "publish": "set entry",
    "mark": "set version",
    "renew": "set version",
    "statement": "update",
    "private": "update",
    "commit": "commit",
    "rollback": "rollback",
    "snapshot": "snapshot",
    "confirm": "get version",
    "seek_version": "get version",
    "seek_entry": "get block",
    "part_version": "get version",
    "part_query": "select",
    "part_confirm": "get version",
    "part_table": "get version",
    "part_put": "set block",
    "query_snapshot": "select",
}


class Stage(Replay):
    """Holds actors for one scenario, and the names that model and reality have for things."""

    def __init__(self, protocol: Protocol) -> None:
        super().__init__(protocol)
        fields = {"library_book": (Book, "pages"), "library_review": (Review, "stars")}
        keys = {version_keys(DB_ALIAS, frozenset({table}))[0]: fields[table] for table in fields}
        # Neither does it know rows, which are read here by no key.
        for table in fields:
            rest, row = rest_key(DB_ALIAS, table), row_keys_of(DB_ALIAS, table)(1)
            ScheduledCache.beside_keys |= {rest, row}
        # In the order in which the real code goes through them.
        self.version_keys = sorted(keys)
        self.fields = [keys[key] for key in self.version_keys]
        self.pins = [
            self.fields[table][0]._meta.db_table
            for program in protocol.programs
            for kind, *rest in program
            if kind == "pin"
            for table in rest[0]
        ]
        # A snapshot that lets others write.
        self._set_journal("WAL" if self.pins else "DELETE")
        self._reset_rows()
        ScheduledCache.content.clear()
        self.entry_keys = [self._learn_entry_key(tables) for tables in protocol.queries]
        # Inner ones first.
        keys_of_blocks = {
            block: self._learn_block_key(block) for block in reversed(protocol.blocks)
        }
        self.block_keys = [keys_of_blocks[block] for block in protocol.blocks]
        if protocol.scenario.is_warm:
            # Tables that are written only have versions as well.
            for key, version in zip(self.version_keys, protocol.start().versions, strict=True):
                if version is not None:
                    ScheduledCache.content.setdefault(key, (clock(), new_nonce()))
            self._warm = {
                key: value
                for key, value in ScheduledCache.content.items()
                if key not in self.block_keys
            }
        self._open()

    def close(self) -> None:
        """End the threads."""
        super().close()
        self._set_journal("DELETE")

    def _set_journal(self, journal: str) -> None:
        connection: Any = connections[DB_ALIAS]
        connection.ensure_connection()
        connection.connection.execute(f"PRAGMA journal_mode = {journal}")

    def _learn_entry_key(self, tables: Tables) -> str:
        known = set(ScheduledCache.content)
        self.read(tables)
        (key,) = set(ScheduledCache.content) - known - set(self.version_keys)
        return key

    def _learn_block_key(self, statement: Statement) -> str:
        """Run a block once, so that this process knows what it reads, as the model's do."""
        place = self._block_of(statement)._key
        assert place is not None
        ScheduledCache.beside_keys.add(place)
        known = set(ScheduledCache.content)
        self.run_block(statement)
        (key,) = set(ScheduledCache.content) - known - set(self.version_keys)
        return key

    def _reset_rows(self) -> None:
        connection: Any = connections[DB_ALIAS]
        connection.ensure_connection()
        for model, field in self.fields:
            # Below Django's cursor, so that nothing is invalidated.
            connection.connection.execute(f"UPDATE {model._meta.db_table} SET {field} = 0")

    # What the model's statements are in reality

    def read(self, tables: Tables) -> int:
        model, field = self.fields[tables[0]]
        columns = [field]
        if len(tables) == 2:
            model, columns = Review, ["stars", "book__pages"]
        (row,) = model._default_manager.using(DB_ALIAS).values_list(*columns)
        return self._rows(row)

    def _block_of(self, statement: Statement) -> Block:
        return Block("block", repr(statement).encode())

    def run_block(self, statement: Statement) -> tuple[int, ...]:
        """Return the rows of each read of a block. They are read by a cursor, and not cached."""
        block = self._block_of(statement)
        found = block.find()
        if found is not None:
            return found
        rows: tuple[int, ...] = ()
        with block:
            for part in statement[1]:
                rows += self.run_block(part) if part[0] == "block" else (self.select(*part),)
            packed = block.pack(rows)
        block.keep(packed)
        return rows

    def select(self, table: int) -> int:
        model, field = self.fields[table]
        with connections[DB_ALIAS].cursor() as cursor:
            cursor.execute(f"SELECT {field} FROM {model._meta.db_table}")
            return int(cursor.fetchone()[0])

    def _rows(self, row: Iterable[int]) -> int:
        rows = 0
        for column in row:
            rows |= column
        return rows

    def write(self, who: int, tables: Tables) -> None:
        for table in tables:
            model, field = self.fields[table]
            rows = model._default_manager.using(DB_ALIAS).filter(pk=1)
            rows.update(**{field: F(field).bitor(bit(who, table))})

    def _task_of(self, who: int, program: tuple[Statement, ...]) -> Callable[[], None]:
        def execute(statements: Iterable[Statement]) -> None:
            for kind, *rest in statements:
                if kind == "read":
                    self.results[who].append(self.read(*rest))
                elif kind == "block":
                    self.results[who].append(self.run_block((kind, *rest)))
                elif kind == "write":
                    self.write(who, *rest)
                elif kind == "invalidate":
                    changed = [self.fields[table][0] for table in rest[0]]
                    invalidate(*changed, db_alias=DB_ALIAS, cache_alias=CACHE_ALIAS)
                elif kind == "rollback":
                    transaction.set_rollback(True, using=DB_ALIAS)

        def task() -> None:
            with suppress(StatementFailed):
                if program[0] == ("begin",):
                    with transaction.atomic(using=DB_ALIAS):
                        execute(program[1:])
                else:
                    execute(program)

        return task

    # Runs

    def _reset(self) -> None:
        self._reset_rows()
        snapshots._in_use[DB_ALIAS] = OrderedDict.fromkeys(self.pins)

    def _follow(self, world: World, step: Step, moment: str) -> None:
        event = step.event
        if event.who not in self.protocol.names:
            keys = (
                self.version_keys[event.tables[0]]
                if event.what == "loses the version of"
                else self.entry_keys[self.protocol.queries.index(event.tables)]
            )
            del ScheduledCache.content[keys]
            return
        who = self.protocol.names.index(event.who)
        process = world.processes[who]
        if process.step == "look":
            return  # which is no step in reality
        is_block = self.protocol.programs[who][process.line][0] == "block"
        is_read = is_block or self.protocol.programs[who][process.line][0] == "read"
        ends = is_read and step.world.processes[who].line != process.line
        has_read = self._go_on(who, self._operation(who, process), step, ends, moment)
        if is_block:
            # Of one that is found within another it is only the beginning.
            if has_read and event.what.endswith("and finds") and not process.at:
                rows = event.value[1]  # type: ignore[index]
                if self.results[who][-1] != rows:
                    raise Divergence(f"{moment}: {self.results[who][-1]} was found, not {rows}")
        elif has_read:
            rows = process.rows if process.step == "put" else event.value
            if self.results[who][-1] != rows:
                raise Divergence(f"{moment}: {self.results[who][-1]} was read, not {rows}")

    def _operation(self, who: int, process: Process) -> Operation:
        word, _, kind = _OPERATIONS[process.step].partition(" ")
        tables = self.protocol.tables_of(who, process)
        if process.step.startswith(("seek_", "part_")):
            part = self.protocol.part_of(who, process)
            tables = part.tables
            if kind == "block":
                return word, self.block_keys[self.protocol.blocks.index(part.block)]
        if kind == "version":
            return word, self.version_keys[tables[process.i]]
        if kind == "entry":
            if process.step == "publish":
                tables = self.protocol.publishable(process)[process.i][0]
            return word, self.entry_keys[self.protocol.queries.index(tables)]
        return word, ""

    def _compare(self, world: World, moment: str) -> None:
        content = ScheduledCache.content
        for table in range(TABLES):
            found = content.get(self.version_keys[table])
            self._compare_version(world.versions[table], found and (found[1],), moment)
        for tables, key, entry in zip(
            self.protocol.queries, self.entry_keys, world.entries, strict=True
        ):
            self._compare_entry(tables, entry, content.get(key), moment)

        for key, block in zip(self.block_keys, world.blocks, strict=True):
            self._compare_block(block, content.get(key), moment)

    def _compare_block(self, block: BlockEntry | None, found: Any, moment: str) -> None:
        if block is None or found is None:
            if block is not None or found is not None:
                raise Divergence(f"{moment}: the block {found} is there, not {block}")
            return
        _, nonces, payload, *_ = found
        for version, nonce in zip(block[0], nonces, strict=True):
            self._compare_version(version, (nonce,), moment)
        if unpack(payload)[1:] != block[1]:
            raise Divergence(f"{moment}: the block has {unpack(payload)[1:]}, not {block[1]}")

    def _compare_entry(self, tables: Tables, entry: Entry | None, found: Any, moment: str) -> None:
        if entry is None or found is None:
            if entry is not None or found is not None:
                raise Divergence(f"{moment}: the entry {found} is there, not {entry}")
            return
        _, nonces, payload, *_ = found
        for version, nonce in zip(entry[0], nonces, strict=True):
            self._compare_version(version, (nonce,), moment)
        (row,) = unpack(payload)
        if self._rows(row) != entry[1]:
            raise Divergence(f"{moment}: the entry has {self._rows(row)}, not {entry[1]}")

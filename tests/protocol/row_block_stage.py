"""The stage on which the real code plays blocks that depend on rows: the books with keys 1 and 2.

U is the book 1. What the model's processes have written is in the pages of the books as bits.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

from django.db import connections
from django.db.models import F

from cachalot.core.blocks import block
from cachalot.core.reading.by_rows import RowsAsked
from cachalot.core.schema.version_keys import rest_key, row_keys_of, version_keys
from tests.library.models import Book
from tests.protocol.actors import DB_ALIAS, Operation, ScheduledCache
from tests.protocol.replay import Replay
from tests.protocol.row_blocks import ROW, TABLE, TellsRows
from tests.protocol.runs import EveryStep
from tests.protocol.stage import Stage
from tests.protocol.world import (
    BlockEntry,
    Level,
    Process,
    Statement,
    Tables,
    World,
    bit,
    bits_of,
)


class EveryRowBlockStep(TellsRows, EveryStep):
    """The protocol with nothing left out of the interleavings."""

    #: Whether the key of the row's version comes before that of the table's.
    is_row_first = False

    def confirmed(self, part: Any, level: Level) -> Tables:
        return tuple(sorted(super().confirmed(part, level), reverse=self.is_row_first))


class EveryStepOfManyRows(EveryRowBlockStep):
    most_rows = 0


class RowBlockStage(Stage):
    """All rows are read by a cursor, one by the ORM. What it stores of it is lost."""

    def __init__(self, protocol: EveryRowBlockStep) -> None:
        Replay.__init__(self, protocol)
        self.pins = []
        table = Book._meta.db_table
        row_key = row_keys_of(DB_ALIAS, table)
        self.version_keys = [*version_keys(DB_ALIAS, frozenset({table})), row_key(1)]
        protocol.is_row_first = self.version_keys[0] > self.version_keys[1]
        ScheduledCache.beside_keys |= {rest_key(DB_ALIAS, table), row_key(2)}
        # Another stage leaves it out.
        ScheduledCache.beside_keys -= {row_key(1)}
        self.at_row = int(rest_key(DB_ALIAS, table) < row_key(1))
        self._set_journal("DELETE")
        self._reset_rows()
        ScheduledCache.content.clear()
        known = set(self.version_keys)
        self.select(1)
        ScheduledCache.lost_keys = set(ScheduledCache.content) - known
        self.entry_keys = []
        # What a block has read is told by this process alone, and is always the same.
        ScheduledCache.lost_keys |= {str(self._block_of(one)._key) for one in protocol.blocks}
        for key in ScheduledCache.lost_keys:
            # Of another stage, where the cache tells it.
            ScheduledCache.beside.pop(key, None)
        with mock.patch.object(RowsAsked, "are_found", return_value=False):
            self.keys_by_table = self._learn_block_keys()
        self.block_keys = self._learn_block_keys()
        self._forgetful = mock.patch.object(block, "remember")
        self._forgetful.start()
        self._warm = {key: ScheduledCache.content[key] for key in self.version_keys}
        self._open()

    def _learn_block_keys(self) -> list[str]:
        """Return the keys of the blocks' entries as what they read comes to be found just now."""
        for key in set(ScheduledCache.content) - set(self.version_keys):
            del ScheduledCache.content[key]
        blocks = self.protocol.blocks
        keys = {one: self._learn_block_key(one) for one in reversed(blocks)}
        return [keys[one] for one in blocks]

    def _learn_block_key(self, statement: Statement) -> str:
        known = set(ScheduledCache.content)
        self.run_block(statement)
        (key,) = set(ScheduledCache.content) - known - set(self.version_keys)
        return key

    def close(self) -> None:
        super().close()
        self._forgetful.stop()
        ScheduledCache.lost_keys = set()
        ScheduledCache.beside_keys |= {self.version_keys[1]}

    def _reset_rows(self) -> None:
        connection: Any = connections[DB_ALIAS]
        connection.ensure_connection()
        connection.connection.execute(f"UPDATE {Book._meta.db_table} SET pages = 0")

    # What the model's statements are in reality

    def select(self, table: int) -> int:
        if table == 1:
            (pages,) = Book.objects.using(DB_ALIAS).values_list("pages").get(pk=1)
            return int(pages) & bits_of(ROW)
        with connections[DB_ALIAS].cursor() as cursor:
            cursor.execute(f"SELECT pages FROM {Book._meta.db_table}")
            return self._rows(pages for (pages,) in cursor.fetchall()) & bits_of(TABLE)

    def write(self, who: int, tables: Tables) -> None:
        rows = Book.objects.using(DB_ALIAS).filter(pk=1 if tables != TABLE else 2)
        rows.update(pages=F("pages").bitor(sum(bit(who, table) for table in tables)))

    # Runs

    def _operation(self, who: int, process: Process) -> Operation:
        if process.step == "part_put":
            part = self.protocol.part_of(who, process)
            is_of_row = self.protocol.stored_under(part, process.levels[-1])[0] is None
            keys = self.block_keys if is_of_row else self.keys_by_table
            return "set", keys[self.protocol.blocks.index(part.block)]
        if process.step.startswith(("seek_v", "part_")):
            return self._operation_of_part(who, process)
        return super()._operation(who, process)

    def _operation_of_part(self, who: int, process: Process) -> Operation:
        protocol: Any = self.protocol
        part = protocol.part_of(who, process)
        if process.step == "part_query":
            return "select", ""
        tables = {
            "seek_version": lambda: protocol.judging(part),
            "part_version": lambda: protocol.asked_before(part.tables),
            "part_table": lambda: TABLE,
            "part_confirm": lambda: protocol.confirmed(part, process.levels[-1]),
        }[process.step]()
        return "get", self.version_keys[tables[process.i]]

    def _compare(self, world: World, moment: str) -> None:
        narrow = self.block_keys
        self.block_keys = [
            narrow[at] if entry is None or entry[0][0] is None else self.keys_by_table[at]
            for at, entry in enumerate(world.blocks)
        ]
        super()._compare(world, moment)
        self.block_keys = narrow

    def _compare_block(self, block: BlockEntry | None, found: Any, moment: str) -> None:
        entry = block
        if entry is not None:
            is_of_row = entry[0][0] is None
            entry = tuple(version for version in entry[0] if version is not None), entry[1]
            if is_of_row and found is not None:
                # Without the version of the rest.
                checksum, nonces, *others = found
                found = checksum, nonces[self.at_row :][:1], *others
        super()._compare_block(entry, found, moment)

"""A process that reads counters, in every way, and judges what it sees."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from django.db import OperationalError, connection, transaction
from django.db.models import Subquery, Sum

from cachalot.api import cachalot_disabled
from tests.storm.board import Board, Plan
from tests.storm.writer import Undone


def read_table(plan: Plan, chance: random.Random, table: int) -> Any:
    return list(plan.tables[table].objects.values_list("pk", "n"))


def read_row(plan: Plan, chance: random.Random, table: int) -> Any:
    counter = plan.tables[table].objects.get(pk=chance.choice(plan.rows_of_table(table)))
    return [(counter.pk, counter.n)]


def read_row_by_code(plan: Plan, chance: random.Random, table: int) -> Any:
    counter = plan.tables[table].objects.get(code=chance.choice(plan.rows_of_table(table)))
    return [(counter.pk, counter.n)]


def read_rows_one_by_one(plan: Plan, chance: random.Random, table: int) -> Any:
    return list(plan.tables[table].objects.values_list("pk", "n").iterator(chunk_size=2))


def read_two_tables(plan: Plan, chance: random.Random, table: int) -> Any:
    other = chance.randrange(len(plan.tables))
    row = plan.rows_of_table(other)[0]
    peer = plan.tables[other].objects.filter(pk=row).values("n")
    rows = list(plan.tables[table].objects.annotate(peer=Subquery(peer)))
    return [(counter.pk, counter.n) for counter in rows] + [(row, rows[0].peer)]


def read_sum(plan: Plan, chance: random.Random, table: int) -> Any:
    return plan.tables[table].objects.aggregate(sum=Sum("n"))["sum"]


READS = (
    read_table,
    read_table,
    read_row,
    read_row,
    read_row_by_code,
    read_row_by_code,
    read_rows_one_by_one,
    read_two_tables,
    read_sum,
)


class Floors(NamedTuple):
    """What a read must see at least, row by row; the names are those of ``Board``."""

    released: Any
    survived: Any
    returned: Any


class Reader:
    """Reads, and compares with what was released before and attempted after."""

    def __init__(self, plan: Plan, board: Board, number: int) -> None:
        self.plan = plan
        self.board = board
        self.number = number
        self.chance = random.Random(f"{plan.seed} reader {number}")
        self.queries = 0
        connection.execute_wrappers.append(self._count)

    def _count(self, execute: Callable[..., Any], *args: Any) -> Any:
        self.queries += 1
        return execute(*args)

    def run(self) -> None:
        while self.board.goes_on():
            try:
                self.chance.choice((self.read, self.read_in_atomic, self.read_in_request))()
            except Undone:
                pass
            except OperationalError:
                if connection.vendor != "sqlite":
                    raise
                self.board.refused[self.plan.writers + self.number] += 1

    def read_in_atomic(self) -> None:
        floors = self.floors()
        with transaction.atomic():
            for _ in range(self.chance.randint(1, 4)):
                self.read(floors)

    def read_in_request(self) -> None:
        floors = self.floors()
        with transaction.atomic():
            self.read(floors)
            with transaction.atomic():
                self.read(floors)
            try:
                with transaction.atomic():
                    self.read(floors)
                    raise Undone
            except Undone:
                pass
            self.read(floors)
            if self.chance.random() < 0.2:
                raise Undone

    def floors(self) -> Floors:
        return Floors(*(getattr(self.board, name).tolist() for name in Floors._fields))

    def read(self, floors_of_block: Floors | None = None) -> None:
        table = self.chance.randrange(len(self.plan.tables))
        way = self.chance.choice(READS)
        began = time.monotonic()
        # SQLite's transactions see, from their beginning to their end, the same data.
        is_of_block = floors_of_block is not None and connection.vendor == "sqlite"
        floors = floors_of_block if is_of_block else self.floors()
        assert floors is not None
        queries = self.queries
        result = way(self.plan, self.chance, table)
        is_hit = self.queries == queries
        self.board.reads[self.number] += 1
        self.board.hits[self.number] += is_hit
        ceiling = self.board.attempted.tolist()
        if isinstance(result, int):
            rows = self.plan.rows_of_table(table)
            # A sum stands for its first row.
            result = [(rows[0], result)]
            floors = Floors(*({rows[0]: sum(floor[row] for row in rows)} for floor in floors))
            ceiling = {rows[0]: sum(ceiling[row] for row in rows)}
        for row, seen in result:
            if seen > ceiling[row]:
                what, expected = "uncommitted", ceiling[row]
            elif seen < floors.released[row]:
                what, expected = "stale", floors.released[row]
            elif seen < floors.survived[row]:
                what, expected = "stale after a kill", floors.survived[row]
            elif seen < floors.returned[row]:
                what, expected = "late", floors.returned[row]
            else:
                continue
            facts = {"reader": self.number, "way": way.__name__, "is_hit": is_hit, "row": row}
            facts["table"] = self.plan.table_of_row(row)
            self.board.log(what, seen=seen, expected=expected, began=began, **facts)


def read(plan: Plan, board: Board, number: int) -> None:
    """Read until the storm is over."""
    Reader(plan, board, number).run()


def check(plan: Plan, board: Board) -> None:
    """Compare what is cached of each table with the database, and whether it is cached at all."""
    checker = Reader(plan, board, 0)
    for number, table in enumerate(plan.tables):
        rows = table.objects.order_by("pk").values_list("pk", "n")
        found = [sorted(read_table(plan, checker.chance, number)), list(rows.all())]
        queries = checker.queries
        list(rows.all())
        if checker.queries == queries:
            board.log("cached", table=number)
        with cachalot_disabled():
            actual = list(rows.all())
        if found != [actual, actual]:
            board.log("left stale", table=number, found=found, actual=actual)

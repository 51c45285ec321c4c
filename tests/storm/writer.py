"""A process that writes counters, in every way, until the storm is over or it is killed."""

from __future__ import annotations

import random
import time
from typing import Any

from django.db import OperationalError, connection, transaction

from cachalot.api import cachalot_disabled
from cachalot.core.cache.door import guard_of
from cachalot.utils import get_table_cache_key
from tests.storm.board import ROWS, UNCOMMITTED, Board, Plan


class Undone(Exception):
    pass


def update(table: Any, row: int, value: int) -> None:
    # What a killed writer has sent may be executed after the first statement of its successor.
    table.objects.filter(pk=row, n__lt=value).update(n=value)


def update_raw(table: Any, row: int, value: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {table._meta.db_table} SET n = %s WHERE id = %s AND n < %s",
            [value, row, value],
        )


def update_in_atomic(table: Any, row: int, value: int) -> None:
    with transaction.atomic():
        update(table, row, value)


def save(table: Any, row: int, value: int) -> None:
    with transaction.atomic():
        counter = table.objects.select_for_update().get(pk=row)
        counter.n = value
        counter.save()


def recreate(table: Any, row: int, value: int) -> None:
    with transaction.atomic():
        counter = table.objects.select_for_update().get(pk=row)
        counter.delete()
        table.objects.create(pk=row, n=value, code=counter.code)


def exchange_codes(table: Any, row: int, value: int) -> None:
    """Have the row and the next one of its writer take each other's code."""
    other = row // ROWS * ROWS + (row + 1) % ROWS
    with transaction.atomic():
        # In the same order everywhere.
        counters = {
            counter.pk: counter
            for counter in table.objects.select_for_update()
            .filter(pk__in=[row, other])
            .order_by("pk")
        }
        table.objects.filter(pk=row).update(code=-1 - row)
        table.objects.filter(pk=other).update(code=counters[row].code)
        table.objects.filter(pk=row).update(code=counters[other].code)
        update(table, row, value)


def update_in_request(table: Any, row: int, value: int) -> None:
    """As a view under ``ATOMIC_REQUESTS``: reads before, between and after, and a savepoint."""
    with transaction.atomic():
        list(table.objects.values_list("pk", "n"))
        update(table, row, value)
        seen = [table.objects.get(pk=row).n]
        try:
            with transaction.atomic():
                update(table, row, UNCOMMITTED + value)
                list(table.objects.values_list("pk", "n"))
                raise Undone
        except Undone:
            pass
        seen.append(dict(table.objects.values_list("pk", "n"))[row])
        assert seen == [value, value], f"a transaction saw {seen} instead of its own {value}"


def update_in_vain(table: Any, row: int, value: int) -> None:
    with transaction.atomic():
        update(table, row, UNCOMMITTED + value)
        list(table.objects.values_list("pk", "n"))
        raise Undone


WRITES = (
    update,
    update_raw,
    update_in_atomic,
    save,
    recreate,
    exchange_codes,
    update_in_request,
    update_in_vain,
)


def write(plan: Plan, board: Board, writer: int, life: int) -> None:
    """Write until the storm is over. The number of the ``life`` grows with each kill."""
    chance = random.Random(f"{plan.seed} writer {writer} {life}")
    number = plan.table_of_writer(writer)
    table = plan.tables[number]
    version_key = get_table_cache_key("default", table._meta.db_table)
    guard = guard_of("default")
    with cachalot_disabled():
        for row, n in table.objects.filter(pk__in=plan.rows_of_writer(writer)).values_list(
            "pk", "n"
        ):
            board.survived[row] = n
    # What a predecessor owed when it was killed nobody makes up for.
    left_owed = {
        row for row in plan.rows_of_writer(writer) if board.returned[row] > board.released[row]
    }
    while board.goes_on():
        row = chance.choice(plan.rows_of_writer(writer))
        way = chance.choice(WRITES)
        # Above whatever a predecessor may have committed when it was killed.
        value = board.attempted[row] + 1
        board.attempted[row] = value
        facts = {"writer": writer, "table": number, "row": row, "value": value}
        board.log("write", way=way.__name__, **facts)
        board.is_writing[writer] = 1
        try:
            way(table, row, value)
        except Undone:
            value = 0
        except OperationalError:
            if connection.vendor != "sqlite":
                raise
            # "database is locked", which SQLite says where others wait.
            board.refused[writer] += 1
            value = 0
        is_owed = version_key in guard.debts.owed
        board.is_owing[writer] = is_owed
        board.is_writing[writer] = 0
        board.log("written", is_owed=is_owed, **facts)
        if value:
            board.returned[row] = value
            board.writes[writer] += 1
        if not is_owed:
            # All versions are newer than whatever this process owed before. Of what was left owed
            # these are the table's and those that the write names.
            if value:
                left_owed = set() if way is update_raw else left_owed - {row}
            for released in plan.rows_of_writer(writer):
                if released not in left_owed:
                    board.released[released] = board.returned[released]
        if value:
            seen = table.objects.get(pk=row).n
            if seen != value:
                board.log("stale", reader="its writer", expected=value, seen=seen, **facts)
        time.sleep(chance.expovariate(1 / plan.pause))

"""What is explored with rows."""

from __future__ import annotations

from typing import Any

from tests.protocol.row_world import Database, Effect, Query, Row, Scenario, Write, row


def put(key: int, made: Row | None) -> Effect:
    """Have ``made`` under a key, whatever lies there."""

    def effect(database: Database) -> Database | None:
        changed = (*database[: key - 1], made, *database[key:])
        values = [one[0] for one in changed if one]
        return changed if len(values) == len(set(values)) else None

    return effect


def insert(key: int, value: str, number: int = 0) -> Effect:
    return lambda database: None if database[key - 1] else put(key, (value, number))(database)


def update(key: int, value: str = "", number: int | None = None) -> Effect:
    def effect(database: Database) -> Database | None:
        found = database[key - 1]
        if found is None:
            return database
        return put(key, (value or found[0], found[1] if number is None else number))(database)

    return effect


def swap(database: Database) -> Database:
    """Exchange the values of rows 1 and 2."""
    one, two, three = database
    if one is None or two is None:
        return database
    return (two[0], one[1]), (one[0], two[1]), three


Program = tuple[tuple[Any, ...], ...]


def write(*writes: Write) -> Program:
    return tuple(("write", one) for one in writes)


def in_transaction(*statements: tuple[Any, ...]) -> Program:
    return (("begin",), *statements, ("commit",))


def readers(query: Query) -> dict[str, Program]:
    return {"R1": (("fill", query),), "R2": (("look", query),)}


ROW_1, ROW_2, ROW_3 = (Query(f"row {key}", (key,)) for key in (1, 2, 3))
ROWS = Query("rows 1 and 2", (1, 2))
SOME = Query("rows 2 and 3", (2, 3))
VALUE = Query("the row of a", value="a")
ALL = Query("all rows")
NUMBER = Query("the rows with 0", number=0)

UPDATE_1 = Write("changes row 1", update(1, number=1), (row(1),))
AGAIN_1 = Write("changes row 1", update(1, number=2), (row(1),))
UPDATE_2 = Write("changes row 2", update(2, number=2), (row(2),))
BACK_2 = Write("changes row 2 back", update(2, number=0), (row(2),))
UPDATE_3 = Write("changes row 3", update(3, number=3), (row(3),))
MOVE = Write("gives row 1 the value b", update(1, "b"), (row(1),))
TAKE = Write("gives row 2 the value a", update(2, "a"), (row(2),))
DELETE_1 = Write("deletes row 1", put(1, None), (row(1),))
INSERT_1 = Write("inserts row 1", insert(1, "a", 5))
INSERT_3 = Write("inserts row 3", insert(3, "e"))
INSERT_A = Write("inserts row 3 with the value a", insert(3, "a"))
UPSERT_1 = Write("upserts row 1", put(1, ("d", 3)), is_of_rest=True)
SWAP = Write("exchanges the values of all rows", swap, is_of_rest=True)
INVALIDATE: Program = (("invalidate",),)
LOOK_1: Program = (("look", ROW_1),)
#: Reads a row that it has inserted, and takes it back.
TAKEN_BACK = in_transaction(
    ("read", ROW_3),
    ("savepoint",),
    *write(INSERT_3),
    ("read", ROW_3),
    ("undo",),
)
INSERTED = in_transaction(*write(INSERT_3), ("read", ROW_3))
#: Takes back one of two writes.
HALF = in_transaction(*write(UPDATE_1), ("savepoint",), *write(SWAP), ("undo",))
#: More rows than a transaction tells apart.
MANY = in_transaction(*write(UPDATE_1, UPDATE_2, UPDATE_3))
PAIR = in_transaction(*write(UPDATE_1, UPDATE_2))
#: Reads a row without writing anything.
PUBLISHES = in_transaction(("read", ROW_1))
#: The same of a row that only the result names.
PUBLISHES_FOUND = in_transaction(("read", VALUE), ("read", VALUE))
#: Reads a row, changes another, and reads the first again.
BESIDE = in_transaction(("read", ROW_1), *write(UPDATE_2), ("read", ROW_1))

SCENARIOS = (
    Scenario(
        "a row, and writers of it and of another",
        {"W1": write(UPDATE_1), "W2": write(UPDATE_2), **readers(ROW_1)},
        at_once=True,
    ),
    Scenario(
        "a row, a writer of it and one of the rest",
        {"W1": write(UPDATE_1), "W2": write(SWAP), **readers(ROW_1)},
        at_once=True,
    ),
    Scenario(
        "a row that one deletes and another inserts",
        {"W1": write(DELETE_1), "W2": write(INSERT_1), **readers(ROW_1)},
    ),
    Scenario(
        "a row that one inserts and another changes",
        {"W1": write(INSERT_3), "W2": write(UPDATE_3), **readers(ROW_3)},
    ),
    Scenario("a row that is upserted", {"W1": write(UPSERT_1), **readers(ROW_1)}, kills=1),
    Scenario(
        "a row and invalidate()",
        {"W1": write(UPDATE_1), "W2": INVALIDATE, **readers(ROW_1)},
        at_once=True,
    ),
    Scenario(
        "a row on a cold cache, two that read it",
        {"W1": write(UPDATE_1), "R1": (("read", ROW_1),), "R2": (("read", ROW_1),)},
        warm="",
        entry_first=True,
        at_once=True,
    ),
    Scenario(
        "a row, a writer, and any fault of each kind",
        {"W1": write(UPDATE_1), **readers(ROW_1)},
        kills=1,
        evictions=1,
        lost_calls=1,
        at_once=True,
    ),
    Scenario(
        "two rows, and writers of each",
        {"W1": write(UPDATE_1), "W2": write(UPDATE_2), **readers(ROWS)},
        at_once=True,
    ),
    Scenario(
        "two rows of which one is missing, and its INSERT",
        {"W1": write(INSERT_3), **readers(SOME)},
        warm="",
    ),
    Scenario(
        "a value that one row gives up and another takes",
        {"W1": write(MOVE), "W2": write(TAKE), **readers(VALUE)},
    ),
    Scenario(
        "a value whose row is deleted, and that another INSERT takes",
        {"W1": write(DELETE_1), "W2": write(INSERT_A), **readers(VALUE)},
        at_once=True,
    ),
    Scenario(
        "a value that a writer of the rest gives to another row",
        {"W1": write(SWAP), "W2": write(UPDATE_2), **readers(VALUE)},
        at_once=True,
        entry_first=True,
    ),
    Scenario(
        "a value, a writer of its row, and any fault of each kind",
        {"W1": write(MOVE), **readers(VALUE)},
        kills=1,
        evictions=1,
        lost_calls=1,
    ),
    Scenario(
        "a transaction that publishes the row of a value, and a writer of the row",
        {"R1": PUBLISHES_FOUND, "W1": write(MOVE), "R2": (("look", VALUE),)},
        warm="versions",
        evictions=1,
        at_once=True,
    ),
    Scenario(
        "all rows, and writers of one and of the rest",
        {"W1": write(UPDATE_1), "W2": write(SWAP), **readers(ALL)},
        kills=1,
    ),
    Scenario(
        "a transaction that takes back what it has inserted, and another INSERT",
        {"W1": TAKEN_BACK, "W2": write(INSERT_3), "R2": (("look", ROW_3),)},
        at_once=True,
    ),
    Scenario("a transaction that reads what it has inserted", {"W1": INSERTED, **readers(ROW_3)}),
    Scenario("a transaction that takes back half", {"W1": HALF, **readers(ROW_1)}, kills=1),
    Scenario("a transaction that writes many rows", {"W1": MANY, **readers(ROWS)}, kills=1),
    Scenario(
        "a transaction that reads one row and writes another",
        {"W1": BESIDE, "W2": write(UPDATE_1), "R2": LOOK_1},
        at_once=True,
    ),
)

#: What takes longer.
MORE = (
    Scenario(
        "a row, a writer of it and one of the rest, one call after the other",
        {"W1": write(UPDATE_1), "W2": write(SWAP), **readers(ROW_1)},
        kills=1,
    ),
    Scenario(
        "a row, two writers of it, a kill and an eviction",
        {"W1": write(UPDATE_1), "W2": write(AGAIN_1), **readers(ROW_1)},
        kills=1,
        evictions=1,
        at_once=True,
    ),
    Scenario(
        "a row that is deleted, inserted and changed by two",
        {"W1": write(DELETE_1, INSERT_1), "W2": write(UPDATE_1), **readers(ROW_1)},
        at_once=True,
    ),
    Scenario(
        "two rows, and writers of each, one call after the other",
        {"W1": write(UPDATE_1), "W2": write(UPDATE_2), **readers(ROWS)},
    ),
    Scenario(
        "a value that one row gives up and another takes, a kill and an eviction",
        {"W1": write(MOVE), "W2": write(TAKE), **readers(VALUE)},
        kills=1,
        evictions=1,
        at_once=True,
    ),
    Scenario(
        "a value that one row gives up and another takes, calls that fail",
        {"W1": write(MOVE), "W2": write(TAKE), **readers(VALUE)},
        kills=1,
        lost_calls=1,
        at_once=True,
    ),
    Scenario(
        "a value, a writer of its row, and two evictions",
        {"W1": write(MOVE), **readers(VALUE)},
        kills=1,
        evictions=2,
        lost_calls=1,
    ),
    Scenario(
        "a transaction that takes back what it has inserted, and a writer of the row",
        {"W1": TAKEN_BACK, "W2": write(INSERT_3, UPDATE_3), **readers(ROW_3)},
        at_once=True,
    ),
)

#: With owners, nothing is excepted in these.
OWNED = (
    Scenario(
        "two writers of a row",
        {"W1": write(UPDATE_1), "W2": write(AGAIN_1), **readers(ROW_1)},
        kills=1,
        at_once=True,
    ),
    Scenario(
        "a writer of a row, and one of the rest",
        {"W1": write(UPDATE_1), "W2": write(SWAP), **readers(ROW_1)},
        at_once=True,
    ),
    Scenario(
        "a writer of a row, and invalidate()",
        {"W1": write(UPDATE_1), "W2": INVALIDATE, **readers(ROW_1)},
    ),
    Scenario(
        "a value that one row gives up and another takes",
        {"W1": write(MOVE), "W2": write(TAKE), **readers(VALUE)},
        kills=1,
        at_once=True,
    ),
    Scenario(
        "all rows, and writers of two",
        {"W1": write(UPDATE_1), "W2": write(UPDATE_2), **readers(ALL)},
        kills=1,
    ),
)
#: Nor in these, without owners: nobody else lifts the mark of the row.
BESIDE_OTHERS = (
    Scenario(
        "a row, and writers of it and of another",
        {"W1": write(UPDATE_1), "W2": write(UPDATE_2), **readers(ROW_1)},
        kills=1,
        at_once=True,
    ),
    Scenario(
        "a row, a writer of it and one that inserts",
        {"W1": write(UPDATE_1), "W2": write(INSERT_3), **readers(ROW_1)},
        kills=1,
        at_once=True,
    ),
)
#: Where new versions are left to the readers.
DELETED = (
    Scenario(
        "a value, a writer of its row, an eviction and a call that fails",
        {"W1": write(MOVE), **readers(VALUE)},
        evictions=1,
        lost_calls=1,
        at_once=True,
    ),
    Scenario(
        "a value that one row gives up and another takes",
        {"W1": write(MOVE), "W2": write(TAKE), **readers(VALUE)},
        at_once=True,
    ),
    Scenario(
        "a row and two writers of it",
        {"W1": write(UPDATE_1), "W2": write(AGAIN_1), **readers(ROW_1)},
        at_once=True,
    ),
)
#: What is excepted, shown to be real.
WINDOWS = (
    Scenario(
        "a row, and overlapping writers of it",
        {"W1": write(UPDATE_1), "W2": write(AGAIN_1), **readers(ROW_1)},
        at_once=True,
    ),
    Scenario(
        "a value, and an overlapping writer of another row",
        {"W1": write(MOVE), "W2": write(UPDATE_2), **readers(VALUE)},
        at_once=True,
    ),
    Scenario("a row, and a lost mark", {"W1": write(UPDATE_1), **readers(ROW_1)}, evictions=1),
    Scenario("a row, and a call that fails", {"W1": write(UPDATE_1), "R1": LOOK_1}, lost_calls=1),
    Scenario(
        "a row that a writer of the rest changes, and invalidate()",
        {"W1": write(SWAP), "W2": INVALIDATE, **readers(ROW_1)},
        at_once=True,
    ),
)

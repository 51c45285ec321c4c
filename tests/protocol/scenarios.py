"""What is explored: about two writers and two readers each, on one table (T) or two (T and U)."""

from __future__ import annotations

from tests.protocol.world import Scenario, Statement

T, U, BOTH = (0,), (1,), (0, 1)

READ: tuple[Statement, ...] = (("read", T),)
READ_U: tuple[Statement, ...] = (("read", U),)
JOIN: tuple[Statement, ...] = (("read", BOTH),)
WRITE: tuple[Statement, ...] = (("write", T),)
WRITE_U: tuple[Statement, ...] = (("write", U),)
WRITE_BOTH: tuple[Statement, ...] = (("begin",), ("write", BOTH), ("commit",))
INVALIDATE: tuple[Statement, ...] = (("invalidate", T),)
#: Reads what it is going to write, before and after.
TRANSACTION: tuple[Statement, ...] = (
    ("begin",),
    ("read", T),
    ("write", T),
    ("read", T),
    ("commit",),
)
#: Reads one table and writes the other.
PUBLISHES: tuple[Statement, ...] = (("begin",), ("read", U), ("write", T), ("commit",))
ROLLED_BACK: tuple[Statement, ...] = (("begin",), ("write", T), ("read", T), ("rollback",))
#: Transactions under snapshot isolation.
PINNED: tuple[Statement, ...] = (("begin",), ("pin", T), ("read", T), ("commit",))
PINNED_TWICE: tuple[Statement, ...] = (*PINNED[:3], *PINNED[2:])
PINNED_WRITES: tuple[Statement, ...] = (*PINNED[:3], ("write", T), *PINNED[2:])
PINNED_JOIN: tuple[Statement, ...] = (("begin",), ("pin", BOTH), ("read", BOTH), ("commit",))
#: Reads one pinned table and writes the other, and reads what it has written.
PINNED_PUBLISHES: tuple[Statement, ...] = (
    ("begin",),
    ("pin", BOTH),
    ("read", T),
    ("write", U),
    ("read", U),
    ("commit",),
)
#: Only one of the tables that it reads is pinned.
HALF_PINNED: tuple[Statement, ...] = (*PINNED[:2], ("read", BOTH), *PINNED[2:])
#: Blocks: two reads of two tables, one read, two of one table, and a block in a block.
BLOCK: tuple[Statement, ...] = (("block", (T, U)),)
BLOCK_OF_ONE: tuple[Statement, ...] = (("block", (T,)),)
TWICE: tuple[Statement, ...] = (("block", (T, T)),)
INNER: Statement = ("block", (U,))
NESTED: tuple[Statement, ...] = (("block", (T, INNER)),)
INNER_ALONE: tuple[Statement, ...] = (INNER,)
T_THEN_U: tuple[Statement, ...] = (("write", T), ("write", U))
#: Runs a block of what it has written.
WRITES_AND_RUNS: tuple[Statement, ...] = (("begin",), ("write", T), ("block", (T,)), ("commit",))

SCENARIOS = (
    Scenario(
        "two statements",
        {"W1": WRITE, "W2": WRITE, "R1": READ, "R2": READ},
        kills=1,
        evictions=1,
    ),
    Scenario(
        "two statements on a cold cache, answers in another order",
        {"W1": WRITE, "W2": WRITE, "R1": READ, "R2": READ},
        is_warm=False,
        kills=1,
        entry_first=True,
    ),
    Scenario(
        "two statements that may fail",
        {"W1": WRITE, "W2": WRITE, "R1": READ},
        failures=1,
        evictions=1,
    ),
    Scenario(
        "a statement that may fail",
        {"W1": WRITE, "R1": READ, "R2": READ},
        failures=1,
        evictions=1,
    ),
    Scenario(
        "a statement and invalidate()",
        {"W1": WRITE, "W2": INVALIDATE, "R1": READ, "R2": READ},
        kills=1,
        evictions=1,
    ),
    Scenario(
        "two statements and a call that fails",
        {"W1": WRITE, "W2": WRITE, "R1": READ, "R2": READ},
        kills=1,
        lost_calls=1,
    ),
    Scenario(
        "a transaction and a statement",
        {"W1": TRANSACTION, "W2": WRITE, "R1": READ, "R2": READ},
        failures=1,
    ),
    Scenario(
        "a transaction, a statement, a kill and an eviction",
        {"W1": TRANSACTION, "W2": WRITE, "R1": READ},
        kills=1,
        evictions=1,
    ),
    Scenario(
        "two transactions",
        {"W1": TRANSACTION, "W2": TRANSACTION, "R1": READ, "R2": READ},
        kills=1,
    ),
    Scenario(
        "a transaction that is rolled back, and a statement",
        {"W1": ROLLED_BACK, "W2": WRITE, "R1": READ, "R2": READ},
        kills=1,
    ),
    Scenario(
        "a transaction that publishes what it has read",
        {"W1": PUBLISHES, "W2": WRITE_U, "R1": READ_U},
        kills=1,
        evictions=1,
        failures=1,
    ),
    Scenario(
        "a join, and writers of both tables and of one",
        {"W1": WRITE_BOTH, "W2": WRITE_U, "R1": JOIN, "R2": JOIN},
    ),
    Scenario(
        "a join, a writer of both tables, and any one fault",
        {"W1": WRITE_BOTH, "R1": JOIN, "R2": JOIN},
        kills=1,
        lost_calls=1,
    ),
    Scenario(
        "a pinned transaction, a statement, and any one fault of each kind",
        {"W1": WRITE, "P": PINNED_TWICE, "R1": READ},
        kills=1,
        evictions=1,
        failures=1,
    ),
    Scenario(
        "a pinned transaction and a call that fails, a cold cache",
        {"W1": WRITE, "P": PINNED_TWICE, "R1": READ},
        is_warm=False,
        kills=1,
        lost_calls=1,
        entry_first=True,
    ),
    Scenario(
        "a pinned transaction and two statements",
        {"W1": WRITE, "W2": WRITE, "P": PINNED_TWICE, "R1": READ},
    ),
    Scenario(
        "two pinned transactions and a statement",
        {"W1": WRITE, "P1": PINNED, "P2": PINNED, "R1": READ},
    ),
    Scenario(
        "a pinned transaction that writes, and a statement",
        {"W1": WRITE, "P": PINNED_WRITES, "R1": READ},
        failures=1,
    ),
    Scenario(
        "a pinned transaction that publishes, and a writer",
        {"W1": WRITE, "P": PINNED_PUBLISHES, "R1": READ},
        is_warm=False,
        kills=1,
    ),
    Scenario(
        "a pinned join, and a writer of both tables",
        {"W1": WRITE_BOTH, "P": PINNED_JOIN, "R1": JOIN},
        is_warm=False,
    ),
    Scenario(
        "a join that is pinned by half",
        {"W1": WRITE_BOTH, "P": HALF_PINNED, "R1": JOIN},
        evictions=1,
    ),
    Scenario(
        "two blocks of two reads, and a writer of one table after the other",
        {"W1": T_THEN_U, "B1": BLOCK, "B2": BLOCK},
    ),
    Scenario(
        "two blocks of two reads, and a writer, answers in another order",
        {"W1": T_THEN_U, "B1": BLOCK, "B2": BLOCK},
        entry_first=True,
        kills=1,
    ),
)
#: Those of over 100,000 states, which the tests leave to ``python -m tests.protocol``.
LARGE = (
    Scenario(
        "two blocks, a writer of both tables and one of the second",
        {"W1": WRITE_BOTH, "W2": WRITE_U, "B1": BLOCK, "B2": BLOCK},
    ),
    Scenario(
        "two blocks, a writer, and a lost version",
        {"W1": T_THEN_U, "B1": BLOCK, "B2": BLOCK},
        evictions=1,
    ),
    Scenario(
        "two blocks that read a table twice, and two writers",
        {"W1": WRITE, "W2": WRITE, "B1": TWICE, "B2": TWICE},
    ),
    Scenario(
        "a block in a block, the inner one alone, and a writer",
        {"W1": T_THEN_U, "B1": NESTED, "B2": (*INNER_ALONE, *NESTED)},
    ),
    Scenario(
        "a transaction that runs a block of what it has written",
        {"W1": WRITES_AND_RUNS, "W2": WRITE, "B1": BLOCK_OF_ONE, "B2": BLOCK_OF_ONE},
        failures=1,
    ),
)

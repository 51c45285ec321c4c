"""What the reads of a connection see of what others commit, told from plain facts."""

from __future__ import annotations

from enum import Enum

#: Levels under which a query may see what is not committed; the last where nobody knows.
DIRTY_LEVELS = frozenset({"read uncommitted", "unknown"})


class Visibility(Enum):
    """What reads see, and so which cache they may use."""

    NEWEST = "newest"  # each statement sees what was last committed: the shared cache
    SNAPSHOT = "snapshot"  # what was true as the transaction began: its snapshot's versions
    OWN_READS_ONLY = "own reads only"  # the database must know what is read: the overlay alone
    UNKNOWN = "unknown"  # nobody can tell: no cache


def in_transaction(vendor: str, level: str) -> Visibility:
    """Return what a transaction of an isolation ``level`` (in lower case) sees; not of SQLite."""
    # PostgreSQL treats READ UNCOMMITTED as READ COMMITTED.
    if level == "read committed" or (vendor == "postgresql" and level == "read uncommitted"):
        return Visibility.NEWEST
    if level in DIRTY_LEVELS:
        return Visibility.UNKNOWN
    # Both databases lock what a serialisable transaction reads, or note it to detect conflicts.
    return Visibility.OWN_READS_ONLY if level == "serializable" else Visibility.SNAPSHOT


def in_sqlite_transaction(*, keeps_writers_out: bool, journal: str) -> Visibility:
    """Return what a transaction of SQLite sees, once it holds the lock that reading takes."""
    if journal == "wal" and not keeps_writers_out:
        return Visibility.SNAPSHOT
    # Nobody can commit meanwhile: what is newest is what the transaction sees.
    return Visibility.NEWEST


def beside_open_statement(journal: str) -> Visibility:
    """Return what a statement of SQLite sees while another one is unfinished, in autocommit."""
    # They share its snapshot, which only a write-ahead log lets others leave behind.
    return Visibility.UNKNOWN if journal == "wal" else Visibility.NEWEST

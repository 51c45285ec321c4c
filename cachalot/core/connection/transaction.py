"""One transaction of a connection."""

from __future__ import annotations

from cachalot.core.connection.overlay import Overlay
from cachalot.core.connection.session import Values
from cachalot.core.connection.visibility import Visibility


class Transaction:
    """What is known of the open transaction, or of the next one while none is open.

    Its end replaces it whole, so nothing can be forgotten.
    """

    def __init__(self) -> None:
        #: What it has read and written; None until it has done either.
        self.overlay: Overlay | None = None
        #: Whether a raw BEGIN has opened it, which Django knows nothing of.
        self.is_raw = False
        #: Whether its COMMIT has failed, and nobody knows the outcome.
        self.has_failed_commit = False
        #: Whether it has changed the catalogue.
        self.changed_schema = False
        #: Whether SQLite began it as the only one that may write.
        self.keeps_writers_out = False
        #: SQLite's savepoint that began it, whose release is its COMMIT.
        self.outermost_savepoint: str | None = None
        #: Whether a statement has run that may have taken its snapshot.
        self.has_snapshot = False
        #: The shared versions that its snapshot shows, by key; None until asked for.
        self.snapshot_versions: dict[str, str] | None = None
        #: What its reads see; None until asked for.
        self.visibility: Visibility | None = None
        #: The isolation level that raw SQL has set for it alone.
        self.level: str | None = None
        #: What its session was, which a rollback brings back: what was set, and the isolation
        #: level among it. None until something was read or written.
        self.session_before: tuple[Values, str | None] | None = None

    @property
    def dirty(self) -> frozenset[str]:
        """The tables that it has written and not rolled back."""
        return frozenset() if self.overlay is None else self.overlay.dirty

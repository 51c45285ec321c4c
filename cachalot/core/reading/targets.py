"""Where a result is stored, and which of the versions from before its query judge it."""

from __future__ import annotations

from typing import Any, NamedTuple

from cachalot.core.cache.leases import Lease
from cachalot.core.collecting import Doubt
from cachalot.core.connection.overlay import Level
from cachalot.core.outcomes import CacheUnavailable, Unstorable
from cachalot.core.reading.by_rows import Asked, ByValue, RowsAsked
from cachalot.core.reading.finding import nonce_of_row

PENDING = "reads a table that is being written"


class Target(NamedTuple):
    """Where the result of a query may be stored, and under which versions.

    ``shared_versions`` are the nonces in the shared cache, ``own_versions`` those of the
    transaction, both in the order of ``tables``. ``row_versions`` are the nonces by which the
    result is judged instead if it has all the ``rows``; whether it has is the ``doubt`` in which
    collectors are. Others wait for the result until the ``lease`` is given back.

    All was read before the query ran, but for the ``found_versions``, under which others may find
    what its transaction finds under the shared ones: among them is that of a row which only the
    result names. If that is the ``guessed_row``, the last of the ``row_versions`` is its nonce from
    before the query.
    """

    key: str
    version_keys: tuple[str, ...]
    tables: tuple[str, ...]
    shared_versions: tuple[str, ...] | None
    own_versions: tuple[str | None, ...]
    level: Level | None
    changes: int
    rows: Asked | None = None
    row_versions: tuple[str, ...] | None = None
    doubt: Doubt | None = None
    lease: Lease | None = None
    found_versions: tuple[str, ...] | None = None
    guessed_row: RowsAsked | None = None

    def judging(self, result: list[Any]) -> Target:
        """Return the target with the versions that this result depends on; tell the collector.

        Its ``rows`` are those that it depends on, None where its tables count whole.

        Raise ``Unstorable`` if one of them was pending when the query began, or the cache fails.
        """
        if self.rows is None:
            return self
        if isinstance(self.rows, ByValue):
            return self._judging_found(self.rows, result)
        is_found = self.rows.are_found(result)
        versions = self.row_versions if is_found else self.shared_versions
        if versions is None:
            raise Unstorable(PENDING)
        if is_found and self.doubt is not None:
            self.doubt.settle(*self.rows.told(versions))
        return self._replace(shared_versions=versions, rows=self.rows if is_found else None)

    def _judging_found(self, value: ByValue, result: list[Any]) -> Target:
        row, versions = value.found_in(result), self.row_versions
        is_guessed = row is not None and row == self.guessed_row
        if self.shared_versions is None and not (is_guessed and self.level is None):
            raise Unstorable(PENDING)
        if row is None or versions is None:
            return self._replace(rows=None)
        if not is_guessed:
            assert self.shared_versions is not None
            try:
                nonce = nonce_of_row(row, self.version_keys, self.shared_versions)
            except CacheUnavailable as error:
                raise Unstorable(error.reason) from error
            if nonce is None:
                return self._replace(rows=None)
            versions = (*versions[: len(value.version_keys)], nonce)
        if self.doubt is not None:
            self.doubt.settle(*row.told(versions))
        if self.level is None:
            return self._replace(shared_versions=versions, rows=row)
        return self._replace(found_versions=versions, rows=row)

"""Whether a query is worth caching now: where its tables change before each read, it is not."""

from __future__ import annotations

from cachalot.core.outcomes import Bypass
from cachalot.settings import cachalot_settings

#: Reads of one text before which nothing is judged.
MIN_READS = 200
#: In this share of reads at most it was found, and in all but this share the versions were new.
MAX_SHARE = 0.05
#: Of so many reads one goes on trying, to see when writes have ceased.
TRY_EVERY = 20

#: The same for all, since reasons are counted.
NOT_WORTH_IT = "is not worth caching now, because its tables are written before each read"


class Worth:
    """What has become of the reads of one text in this process.

    Reads of something that was never read before are no sign: only new versions of the tables are.
    Threads share it without a lock, so a count may be off by a few.
    """

    __slots__ = ("_nonces", "_skipped", "changes", "hits", "reads")

    def __init__(self) -> None:
        self._nonces: tuple[str, ...] | None = None
        self._begin()

    def _begin(self) -> None:
        self.reads = self.hits = self.changes = self._skipped = 0

    def require(self) -> None:
        """Raise ``Bypass`` if the cache need not be asked for this read."""
        if self.is_in_vain() and cachalot_settings.CACHALOT_ADAPTIVE:
            self._skipped += 1
            if self._skipped % TRY_EVERY:
                raise Bypass(NOT_WORTH_IT)

    def is_in_vain(self) -> bool:
        """Whether nearly every read so far came after another write."""
        reads = self.reads
        return (
            reads >= MIN_READS
            and self.hits < MAX_SHARE * reads
            and self.changes > (1 - MAX_SHARE) * reads
        )

    def described(self) -> str:
        """Return why the cache is not asked, in numbers."""
        return f"is not worth caching now: {self.hits} hits in {self.reads} reads"

    def note(self, nonces: tuple[str, ...] | None, *, is_hit: bool) -> None:
        """Note a read that asked the cache: the versions in force, None while one is pending."""
        if nonces is None or nonces != self._nonces:
            self._nonces = nonces
            self.changes += 1
        elif self.is_in_vain():
            # Not written since the try before, many reads ago.
            self._begin()
        self.reads += 1
        self.hits += is_hit
        if self.reads >= 2 * MIN_READS:
            # What was long ago counts less and less.
            self.reads //= 2
            self.hits //= 2
            self.changes //= 2

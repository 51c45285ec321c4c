"""What was found out about texts, kept within bounds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")

#: What the texts of one memo may take, in bytes, with an estimate of what is kept beside them.
MAX_BYTES = 4 * 1024 * 1024
# Keys, tuples, sets and a digest.
_BYTES_EACH = 1000


class Remembered(dict[Key, Value], Generic[Key, Value]):
    """A dictionary of what was found out about texts, to which ``remember()`` alone adds.

    It forgets everything once it takes too much: what is still in use is soon found out again.
    """

    _bytes = 0

    def remember(self, key: Key, value: Value, text: str, copies: int = 1) -> None:
        """Keep ``value``, unless the text by itself is too long.

        ``copies`` tells how many times the size of the text ``key`` and ``value`` take.
        """
        size = copies * sys.getsizeof(text) + _BYTES_EACH
        if size > MAX_BYTES:
            return
        if key not in self:
            if self._bytes + size > MAX_BYTES:
                self.clear()
            self._bytes += size
        self[key] = value

    def clear(self) -> None:
        """Forget everything."""
        super().clear()
        self._bytes = 0


def remembering(
    look_at: Callable[[str, str], Value], *, max_characters: int, copies: int
) -> Callable[[str, str], Value]:
    """Return ``look_at(sql, vendor)``, which keeps its results for texts that are no longer."""
    known: Remembered[tuple[str, str], Value] = Remembered()

    def look(sql: str, vendor: str) -> Value:
        value = known.get((sql, vendor))
        if value is None:
            value = look_at(sql, vendor)
            if len(sql) <= max_characters:
                known.remember((sql, vendor), value, sql, copies)
        return value

    return look

"""Versions that a cache does not take: what cannot be replaced is deleted."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cachalot.core.cache.versions import Version, clock, new_nonce
from cachalot.core.interruptions import is_interruption

#: Seconds after which it was no refusal: whoever does not answer is not asked again at once.
SLOW_SECONDS = 0.1


def set_or_delete(
    cache: Any,
    set_group: Callable[[Mapping[str, Version]], Sequence[str]],
    versions: Mapping[str, Version],
) -> None:
    """Store versions, if not together then one by one. Raise if one is not taken.

    ``set_group`` returns what was not. At the first that is not taken by itself, it and those
    behind it are deleted: a full cache does that, and a version that is left in force would have
    older results served, for ever if this process dies.
    """
    began = time.monotonic()
    try:
        if not (failed := set_group(versions)):
            return
        refusal: Exception = OSError(f"the cache refused {len(failed)} of {len(versions)} versions")
    except Exception as error:
        if is_interruption(error) or time.monotonic() - began > SLOW_SECONDS:
            raise
        refusal = error
    taken = 0
    if len(versions) > 1:
        taken = _one_by_one(set_group, versions)
    for key in list(versions)[taken:]:
        cache.delete(key)
    if taken < len(versions):
        raise refusal


def _one_by_one(
    set_group: Callable[[Mapping[str, Version]], Sequence[str]], versions: Mapping[str, Version]
) -> int:
    """Return how many of the first versions were taken. Each has another nonce than before.

    It may have been stored already, and replaced by another writer.
    """
    for taken, (key, (_, nonce)) in enumerate(versions.items()):
        try:
            if set_group({key: (clock(), nonce and new_nonce())}):
                return taken
        except Exception as error:
            if is_interruption(error):
                raise
            return taken
    return len(versions)

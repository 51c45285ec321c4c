"""The raw side of local memory whose versions lie on a board."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from django.core.cache import caches
from django.core.cache.backends import locmem
from django.core.cache.backends.base import BaseCache
from django.utils.module_loading import import_string

from cachalot.core.cache.board import LASTING, PENDING, Board
from cachalot.core.cache.boards import board_already_open, board_in_use
from cachalot.core.cache.raw import Backend, Nonces
from cachalot.core.cache.versions import SCHEMA_PREFIX, Mark, Version
from cachalot.settings import cachalot_settings

_MAX_PLACES = 20_000


def _version_of(raw: int) -> Version:
    """Return what a board tells as a version. Its time is told apart."""
    return 0.0, None if raw >= PENDING else f"{raw:016x}"


class _Places(NamedTuple):
    """The slot of each of some keys, with the reign that it is under and without."""

    under_reigns: tuple[tuple[int, int], ...]
    slots: tuple[int, ...]


class OnBoard(Backend):
    """A cache whose versions lie on a board, and whose entries lie where ``side`` has them.

    No version is ever missing there, nor is one evicted.
    """

    nonce_of = Nonces(_version_of).__getitem__

    board: Board

    def __init__(self, side: Backend, board: Board) -> None:
        super().__init__(side.cache)
        self.board = board
        self.is_kept, self.loads = side.is_kept, side.loads
        self.set_entries = side.set_entries  # type: ignore[method-assign]
        self._side = side
        self._location = location_of(side.cache)
        self._reign = board.reign_of(self._location)
        self._places: dict[tuple[str, ...], _Places] = {}

    def get(self, version_keys: Sequence[str], entry_keys: Sequence[str] = ()) -> list[Any]:
        raws: list[Any] = []
        if version_keys:
            raws = self.board.read(self._places_of(tuple(version_keys)).under_reigns)
        return raws + self._side.get((), entry_keys) if entry_keys else raws

    def mark(
        self, version_keys: Iterable[str], mark: Mark | None, other_key: str | None = None
    ) -> Any:
        self.board.mark(self._places_of(tuple(version_keys)).slots, mark or Mark())
        return self._told(other_key)

    def renew(
        self,
        version_keys: Mapping[str, int | None],
        mark: Mark | None,
        other_key: str | None = None,
    ) -> Any:
        all_slots = self._places_of(tuple(version_keys)).slots
        slots: dict[int, int | None] = dict.fromkeys(all_slots)
        if any(version_keys.values()):
            for slot, seconds in zip(all_slots, version_keys.values(), strict=True):
                slots[slot] = max(seconds or 0, slots[slot] or 0) or None
        self.board.renew(slots, mark)
        return self._told(other_key)

    def timestamps(self, version_keys: Sequence[str], raws: Sequence[Any]) -> list[float]:
        return self.board.times(self._places_of(tuple(version_keys)).under_reigns)

    def invalidated(self, version_keys: Sequence[str]) -> list[tuple[float, bool] | None]:
        return self.board.invalidated(self._places_of(tuple(version_keys)).under_reigns)

    def _told(self, other_key: str | None) -> int | None:
        if other_key is None:
            return None
        (word,) = self.board.read(self._places_of((other_key,)).under_reigns)
        return word

    def _places_of(self, version_keys: tuple[str, ...]) -> _Places:
        places = self._places.get(version_keys)
        if places is None:
            under_reigns = tuple(
                (self.board.slot_of(f"{self._location}\0{name}"), self._reign_over(key))
                for key, name in zip(version_keys, self._names(version_keys), strict=True)
            )
            places = _Places(under_reigns, tuple(slot for slot, _ in under_reigns))
            if len(self._places) >= _MAX_PLACES:
                self._places.clear()
            self._places[version_keys] = places
        return places

    def _reign_over(self, key: str) -> int:
        return LASTING if key.startswith(SCHEMA_PREFIX) else self._reign


def location_of(cache: BaseCache) -> str:
    """Return the ``LOCATION`` of a ``LocMemCache``, which tells caches of a process apart."""
    # Django's own keeps under it what lies in the cache, and forgets its name.
    contents = getattr(cache, "_cache", None)
    known = locmem._caches.items()  # type: ignore[attr-defined]
    return next((name for name, each in list(known) if each is contents), "")


def clearing(original: Callable[..., Any]) -> Callable[..., Any]:
    """Have ``LocMemCache.clear()`` empty the cache for all processes that share its versions."""

    def clear(self: BaseCache) -> None:
        original(self)
        board = board_in_use() if _is_local_memory_in_use() else board_already_open()
        if board is not None:
            board.clear(board.reign_of(location_of(self)))

    return clear


def _is_local_memory_in_use() -> bool:
    """Whether the cache in use is local memory: who has none needs no board for its others."""
    backend = caches.settings.get(cachalot_settings.CACHALOT_CACHE, {}).get("BACKEND", "")
    try:
        return issubclass(import_string(backend), locmem.LocMemCache)
    except ImportError:
        return False

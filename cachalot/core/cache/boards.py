"""Which board the processes of this machine share, if any."""

from __future__ import annotations

import logging

from cachalot.core.cache.board import Board
from cachalot.core.locks import fork_safe_lock
from cachalot.rules import AUTOMATIC
from cachalot.settings import cachalot_settings

logger = logging.getLogger("cachalot")

_lock = fork_safe_lock()
_boards: dict[str, Board | None] = {}


def board_in_use() -> Board | None:
    """Return the board that ``CACHALOT_BOARD`` names; None if it is None, or if there can be none.

    A process goes on without one then, and says so once: it may not find a folder writable, or a
    disk full. It does not look again, since what it has stored meanwhile nobody else has heard of.
    """
    place = cachalot_settings.CACHALOT_BOARD
    if place is None:
        return None
    if place not in _boards:
        with _lock:
            if place not in _boards:
                _boards[place] = _opened(place)
    return _boards[place]


def board_already_open() -> Board | None:
    """Return the board in use if this process has looked for it before."""
    return _boards.get(cachalot_settings.CACHALOT_BOARD)


def open_board(place: str) -> Board:
    """Return the board at what ``CACHALOT_BOARD`` may be but None. Raise ``OSError``."""
    return Board(None if place == AUTOMATIC else place)


def _opened(place: str) -> Board | None:
    try:
        return open_board(place)
    except OSError as error:
        logger.warning(
            "The processes of this machine cannot share the versions of local memory: %s. What one "
            "of them writes is stale in the others. Have CACHALOT_BOARD name a file in a folder "
            "that they all may write, or CACHALOT_CACHE a cache that they share.",
            error,
        )
        return None

"""The raw side of a Redis that is asked by Django's API: it follows the reigns of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cachalot.core.cache.raw import MISSING, Backend, told
from cachalot.core.cache.reigns import LINE_KEY, line_in
from cachalot.core.cache.versions import Version, nonce_in


class InReign(NamedTuple):
    """A version, and the word of the reign it was read in; empty if none was ever begun."""

    word: str
    version: Any


class Following(Backend):
    """A Redis whose client is not as known, so that nobody can tell which server has answered.

    It goes by the word of the reign, and begins none.
    """

    @staticmethod
    def nonce_of(raw: InReign) -> str | None:
        nonce = nonce_in(raw.version)
        return None if nonce is None else raw.word + nonce

    @staticmethod
    def loads(raw: Any) -> Any:
        return raw.version if type(raw) is InReign else raw

    def get(self, version_keys: Sequence[str], entry_keys: Sequence[str] = ()) -> list[Any]:
        keys = [*version_keys, *entry_keys]
        if not version_keys:
            return super().get(version_keys, entry_keys) if keys else []
        found = self.cache.get_many([LINE_KEY, *keys])
        word = _word_of(found.get(LINE_KEY))
        values = [told(found.get(key, MISSING)) for key in keys]
        for i in range(len(version_keys)):
            if values[i] is not None:
                values[i] = InReign(word, values[i])
        return values

    def add_versions(self, versions: Mapping[str, Version]) -> dict[str, Any]:
        added = super().add_versions(versions)
        if not added:
            return {}
        word = _word_of(self.cache.get(LINE_KEY))
        return {key: InReign(word, version) for key, version in added.items()}


def _word_of(value: object) -> str:
    line = line_in(value)
    return "" if line is None else line.word

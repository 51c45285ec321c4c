"""Under which keys blocks lie, and what else is told by a digest."""

from __future__ import annotations

from hashlib import blake2b

from django.utils import timezone, translation

from cachalot.core.blocks.dependencies import Dependencies

_PREFIX = "cachalot:"


def digest_of(kind: bytes, *parts: bytes) -> str:
    """Return a key that tells ``parts`` of one kind from all others."""
    content = b"".join(b"%d:%s" % (len(part), part) for part in parts)
    return _PREFIX + blake2b(content, digest_size=16, person=kind).hexdigest()


def place_of_reader() -> bytes:
    """Return what texts depend on without being told: language and time zone."""
    return f"{translation.get_language()} {timezone.get_current_timezone_name()}".encode()


def own_key(key: bytes) -> str:
    """Return the key of the version that a block found under ``key`` has of its own."""
    return digest_of(b"own", key)


def entry_key_of(key: str, dependencies: Dependencies, origins: dict[str, bytes]) -> str:
    """Return the key of a block's entry where it has read this as these.

    ``key`` is where its dependencies lie, ``origins`` are by alias.
    """
    return digest_of(
        b"entry",
        key.encode(),
        repr(dependencies).encode("utf-8", "surrogatepass"),
        *(origins[alias] for alias, _ in dependencies.tables),
    )


def etag_of(entry_key: str, nonces: tuple[str, ...]) -> str:
    """Return what tells a result from one of other versions."""
    return digest_of(b"etag", entry_key.encode(), *map(str.encode, nonces)).removeprefix(_PREFIX)

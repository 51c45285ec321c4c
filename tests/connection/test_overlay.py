"""The overlay alone: levels, versions, entries, bounds."""

from __future__ import annotations

from unittest import mock

from cachalot.core.cache.entries import Stored
from cachalot.core.connection.overlay import Entry, Overlay


def entry_of(overlay: Overlay, *tables: str, payload: bytes = b"rows") -> Entry:
    stored = Stored(payload, 0.0, 0.0)
    shared = tuple("shared" for _ in tables)
    return Entry(tables, shared, overlay.versions(tables), stored, shared)


def put(overlay: Overlay, key: str, entry: Entry) -> None:
    overlay.put(overlay.levels[-1], key, entry)


def get(overlay: Overlay, key: str, *tables: str) -> bytes | None:
    stored = overlay.get(key, tuple("shared" for _ in tables), overlay.versions(tables))
    return stored and stored.payload


def test_a_write_makes_older_entries_invalid() -> None:
    overlay = Overlay()
    put(overlay, "k", entry_of(overlay, "a", "b"))
    assert get(overlay, "k", "a", "b") == b"rows"
    overlay.touch(["b"])
    assert get(overlay, "k", "a", "b") is None


def test_a_change_of_the_shared_version_makes_an_entry_invalid() -> None:
    overlay = Overlay()
    overlay.touch(["a"])
    put(overlay, "k", entry_of(overlay, "a"))
    assert overlay.get("k", ("another",), overlay.versions(["a"])) is None


def test_private_versions_are_never_used_again() -> None:
    overlay = Overlay()
    seen = set()
    for _ in range(5):
        overlay.savepoint("s")
        overlay.touch(["a"])
        seen.add(overlay.versions(["a"]))
        overlay.rollback_to("s")
    assert len(seen) == 5


def test_rolling_back_a_savepoint_restores_versions_and_entries() -> None:
    overlay = Overlay()
    overlay.touch(["a"])
    put(overlay, "k", entry_of(overlay, "a"))
    overlay.savepoint("s")
    overlay.touch(["a", "b"])
    put(overlay, "k", entry_of(overlay, "a", payload=b"newer"))
    assert get(overlay, "k", "a") == b"newer"
    assert overlay.rollback_to("s") == {"a", "b"}
    assert get(overlay, "k", "a") == b"rows"
    assert overlay.dirty == {"a"}


def test_rolling_back_an_outer_savepoint_drops_the_inner_ones() -> None:
    overlay = Overlay()
    overlay.savepoint("outer")
    overlay.touch(["a"])
    overlay.savepoint("inner")
    overlay.touch(["b"])
    assert overlay.rollback_to("outer") == {"a", "b"}
    assert [level.name for level in overlay.levels] == [None, "outer"]
    assert overlay.dirty == frozenset()


def test_rolling_back_to_an_unknown_savepoint_trusts_nothing() -> None:
    overlay = Overlay()
    overlay.touch(["a"])
    put(overlay, "k", entry_of(overlay, "a"))
    put(overlay, "clean", entry_of(overlay, "b"))
    assert overlay.rollback_to("never reported") == {"a"}
    assert overlay.dirty == {"a"}
    assert get(overlay, "k", "a") is None
    assert list(overlay.publishable()) == []


def test_releasing_a_savepoint_merges_its_level_and_those_above() -> None:
    overlay = Overlay()
    overlay.savepoint("outer")
    overlay.touch(["a"])
    overlay.savepoint("inner")
    put(overlay, "k", entry_of(overlay, "a"))
    overlay.release("outer")
    assert len(overlay.levels) == 1
    assert overlay.dirty == {"a"}
    assert get(overlay, "k", "a") == b"rows"
    overlay.release("unknown")
    assert overlay.dirty == {"a"}


def test_a_savepoint_of_a_used_name_hides_the_older_one() -> None:
    overlay = Overlay()
    overlay.savepoint("s")
    overlay.touch(["a"])
    overlay.savepoint("s")
    overlay.touch(["b"])
    assert overlay.rollback_to("s") == {"b"}
    overlay.release("s")
    assert overlay.rollback_to("s") == {"a"}


def test_only_entries_of_clean_tables_are_publishable() -> None:
    overlay = Overlay()
    put(overlay, "early", entry_of(overlay, "a"))
    put(overlay, "clean", entry_of(overlay, "b"))
    put(overlay, "half", entry_of(overlay, "a", "b"))
    put(overlay, "snapshot", entry_of(overlay, "b")._replace(shared=None))
    overlay.touch(["a"])
    put(overlay, "dirty", entry_of(overlay, "a"))
    assert [key for key, _ in overlay.publishable()] == ["clean"]


def test_an_entry_of_a_level_that_is_gone_is_not_kept() -> None:
    overlay = Overlay()
    overlay.savepoint("s")
    level = overlay.levels[-1]
    overlay.rollback_to("s")
    overlay.put(level, "k", entry_of(overlay, "a"))
    assert get(overlay, "k", "a") is None


def test_the_oldest_entries_go_first_when_space_runs_out() -> None:
    with (
        mock.patch("cachalot.core.connection.overlay.OVERLAY_BYTES", 100),
        mock.patch("cachalot.core.connection.overlay._ENTRY_BYTES", 0),
    ):
        overlay = Overlay()
        for n in range(10):
            put(overlay, str(n), entry_of(overlay, "a", payload=b"x" * 30))
        assert [key for level in overlay.levels for key in level.entries] == ["7", "8", "9"]
        put(overlay, "9", entry_of(overlay, "a", payload=b"y" * 30))
        assert [key for level in overlay.levels for key in level.entries] == ["7", "8", "9"]
        put(overlay, "large", entry_of(overlay, "a", payload=b"x" * 101))
        assert get(overlay, "large", "a") is None

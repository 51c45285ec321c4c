"""What the databases' own catalogues tell; long, because one lock and one epoch keep all of it.

A catalogue is read when nobody feels it: outside of any transaction, when a connection is made,
before a transaction begins or by a statement in autocommit mode. Where it is not known in an open
transaction it stays so until that is over.
"""

from __future__ import annotations

import logging
from time import monotonic, perf_counter
from typing import NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from cachalot.core.cache.door import cache_in_use
from cachalot.core.connection.databases import alias_reached_by, aliases_changing_with
from cachalot.core.connection.state import state_of
from cachalot.core.interruptions import is_interruption
from cachalot.core.locks import fork_safe_lock
from cachalot.core.schema import asking
from cachalot.core.schema.introspection import SCHEMA, Catalogue
from cachalot.core.schema.tables import known_tables
from cachalot.core.schema.version_keys import version_keys
from cachalot.core.sql.text import words_of

logger = logging.getLogger("cachalot")

#: Seconds for which a catalogue is not asked for that could not be read.
REST_SECONDS = 1.0
#: Seconds of a reading that may be done before each transaction of a migration; one that takes
#: longer is put off until a read has missed it.
CHEAP_SECONDS = 0.1

#: Alias and database: a connection may be pointed elsewhere, as test runners do; and USE, ATTACH
#: and temporary views give a session tables that others do not see.
Key = tuple[str, str, bytes]


class _Kept(NamedTuple):
    """A catalogue, and the version of ``SCHEMA`` as before it was read.

    The version is None where the cache told none. A mark counts as a version: whatever it stands
    for touches the tables that it is about, and keeps them pending.
    """

    catalogue: Catalogue
    version: object
    seconds: float


_kept: dict[Key, _Kept] = {}
_MAX_KEPT = 100
# What this process has changed of the schema since: the tables of each change, which may have come
# to belong together; None for any change.
_changes: dict[Key, tuple[frozenset[str], ...] | None] = {}
# Asked for in vain, in transactions; and those of which all views must be looked into.
_wanted: set[Key] = set()
_thorough: set[Key] = set()
_rests_until: dict[Key, float] = {}
# The version of the schema that was given here because the cache had none.
_added: dict[Key, object] = {}
#: Grows when something was forgotten: what was derived from it before is out of date.
epoch = 0
_lock = fork_safe_lock()
#: Stands for one that has not been read.
UNREAD = Catalogue()


def key_of(connection: BaseDatabaseWrapper) -> Key:
    """Return what tells databases apart within a process."""
    database = state_of(connection).session.database(connection.vendor)
    return connection.alias, str(connection.settings_dict["NAME"]), database


def catalogue_of(connection: BaseDatabaseWrapper) -> Catalogue | None:
    """Return the catalogue of the connection's database, None where it is not known now.

    It is read if it must be and nobody feels it. Never raise.
    """
    if (catalogue := settled(connection)) is not None:
        return catalogue
    key = key_of(connection)
    if _may_be_read(connection, key):
        return _read_and_keep(connection, key)
    _wanted.add(key)
    return None


def settled(connection: BaseDatabaseWrapper) -> Catalogue | None:
    """Return the catalogue if it is known, and nothing has been changed since; ask nobody."""
    key = key_of(connection)
    if (_changes and key in _changes) or state_of(connection).transaction.changed_schema:
        return None
    kept = _kept.get(key)
    return None if kept is None else kept.catalogue


def catalogue_beside_changes(
    connection: BaseDatabaseWrapper, tables: frozenset[str], text: str
) -> Catalogue | None:
    """Return the catalogue as it was before changes of this process if they concern others alone.

    Asked for are ``tables`` and whatever a query of the given ``text`` names beside them.
    """
    key = key_of(connection)
    kept, changes = _kept.get(key), _changes.get(key)
    if kept is None or not changes:
        return None
    changed = frozenset().union(*changes)
    concerned = kept.catalogue.read_by(tables) | words_of(text)
    return kept.catalogue if changed.isdisjoint(concerned) else None


def routines_of(connection: BaseDatabaseWrapper) -> Catalogue | None:
    """Return a catalogue that knows all that can be called, None where none does now."""
    key = key_of(connection)
    kept = _kept.get(key)
    # Changes of tables define no functions.
    if kept is not None and _changes.get(key):
        return kept.catalogue
    return catalogue_of(connection)


def remembered_catalogue_of(connection: BaseDatabaseWrapper) -> Catalogue:
    """Return the catalogue as it was last read, and ``UNREAD`` if it was not: ask nobody."""
    kept = _kept.get(key_of(connection))
    return UNREAD if kept is None else kept.catalogue


def examine(connection: BaseDatabaseWrapper) -> bool:
    """Look into all views, from now on whenever the catalogue is read; tell whether it is done."""
    key = key_of(connection)
    _thorough.add(key)
    if _may_be_read(connection, key):
        return _read_and_keep(connection, key) is not None
    _wanted.add(key)
    return False


def prepare(connection: BaseDatabaseWrapper) -> None:
    """Read the catalogue if a transaction that is about to begin may need it. Never raise."""
    key = key_of(connection)
    kept = _kept.get(key)
    is_cheap = kept is None or kept.seconds < CHEAP_SECONDS
    is_needed = key in _wanted or (is_cheap and (kept is None or key in _changes))
    if is_needed and _may_be_read(connection, key):
        _read_and_keep(connection, key)


def settings_of(connection: BaseDatabaseWrapper) -> object:
    """Return what the server sets on sessions that begin now, as this connection's has.

    Something that equals nothing else is returned where it is not known.
    """
    prepare(connection)
    if connection.vendor != "postgresql":
        return ()
    follow(connection)
    catalogue = catalogue_of(connection)
    return object() if catalogue is None else catalogue.settings


def changed_by(
    connection: BaseDatabaseWrapper, tables: frozenset[str], deletes: bool
) -> frozenset[str]:
    """Return ``tables`` and all that the database changes when they are written.

    ``deletes`` tells that rows may be removed. All tables count where the catalogue is not known.
    """
    key = key_of(connection)
    kept, changes = _kept.get(key), _changes.get(key)
    if kept is not None and changes:
        return _changed_since(kept.catalogue, changes, tables, deletes)
    catalogue = catalogue_of(connection)
    if catalogue is not None:
        return catalogue.changed_by(tables, deletes)
    return tables | frozenset(known_tables()) | remembered_catalogue_of(connection).tables


def _changed_since(
    catalogue: Catalogue,
    changes: tuple[frozenset[str], ...],
    tables: frozenset[str],
    deletes: bool,
) -> frozenset[str]:
    """Return what is changed where tables that one statement has named belong together."""
    while True:
        reached = catalogue.changed_by(tables, deletes)
        reached = reached.union(*(named for named in changes if not named.isdisjoint(reached)))
        if reached == tables:
            return tables
        tables = reached


def version_of(connection: BaseDatabaseWrapper) -> object:
    """Return the version of the schema that the catalogue is of; None if there is none."""
    kept = _kept.get(key_of(connection))
    return None if kept is None else kept.version


def is_of(connection: BaseDatabaseWrapper, version: object, found: object = None) -> bool:
    """Whether ``version`` of the schema is in force, as far as the cache tells.

    ``found`` is what lies in the cache under ``schema_key_of()``; None asks for it.
    """
    found = found or _schema_version(connection)
    return None in (found, version) or found in (version, _added.get(key_of(connection)))


def follow(connection: BaseDatabaseWrapper, version: object = None) -> bool:
    """Take in what other processes have done to the schema; return whether nothing has changed.

    ``version`` is what lies in the cache under ``schema_key_of()``; None asks for it. False means
    that what was made of the catalogue so far may be wrong.
    """
    key = key_of(connection)
    kept = _kept.get(key)
    version = version or _schema_version(connection)
    if kept is None or version is None or version == kept.version:
        return True
    if version == _added.get(key) and not _may_be_read(connection, key):
        # The cache has lost the version. Whether a change was lost with it shows after the
        # transaction.
        return True
    _changes[key] = None
    return catalogue_of(connection) == kept.catalogue


def note_change(connection: BaseDatabaseWrapper, tables: frozenset[str] | None) -> None:
    """Note that the schema has been changed here.

    ``tables`` are all that the change is about, None if that cannot be told.
    """
    for key in _keys_of(connection):
        changes = _changes.get(key, ())
        _changes[key] = None if tables is None or changes is None else (*changes, tables)
    outdate()


def own_change(connection: BaseDatabaseWrapper) -> None:
    """Take the version of the schema for this process's own: it has just given a new one."""
    version = _schema_version(connection)
    for key in _keys_of(connection):
        if key in _kept:
            _kept[key] = _kept[key]._replace(version=version)


def end_change(connection: BaseDatabaseWrapper) -> None:
    """Note the end of a transaction that has changed the schema."""
    for key in _keys_of(connection):
        # Another thread may have read the catalogue as it was before the end.
        _changes.setdefault(key, None)
    outdate()


def _keys_of(connection: BaseDatabaseWrapper) -> list[Key]:
    aliases = {connection.alias, *aliases_changing_with(alias_reached_by(connection))}
    return [key for key in list(_kept) if key[0] in aliases]


def forget(db_alias: str | None = None) -> None:
    """Read the catalogue of ``db_alias`` (None: of every alias) again when it is next needed."""
    for key in [*_kept, *_rests_until]:
        if db_alias is None or key[0] == db_alias:
            _kept.pop(key, None)
            _changes.pop(key, None)
            _rests_until.pop(key, None)
    outdate()


def outdate() -> None:
    """Let nothing count any more that was derived so far from what has just been forgotten."""
    global epoch
    with _lock:
        epoch += 1


def _may_be_read(connection: BaseDatabaseWrapper, key: Key) -> bool:
    return monotonic() >= _rests_until.get(key, 0.0) and asking.may_be_asked(connection)


def _read_and_keep(connection: BaseDatabaseWrapper, key: Key) -> Catalogue | None:
    if len(_kept) >= _MAX_KEPT:
        forget()
    began, began_in, changes = perf_counter(), epoch, _changes.get(key, ())
    version = _schema_version(connection)
    try:
        catalogue = asking.ask(connection, key in _thorough)
    except Exception as error:
        if is_interruption(error):
            raise
        logger.warning("The catalogue of %r could not be read: %r", connection.alias, error)
        if connection.vendor != "sqlite":  # which says at once that it is locked
            _rests_until[key] = monotonic() + REST_SECONDS
        return None
    with _lock:
        # What was forgotten meanwhile may be what was just read.
        is_right = epoch == began_in and _changes.get(key, ()) == changes
        before = _kept.get(key)
        if is_right:
            if before is not None and before.catalogue == catalogue:
                catalogue = before.catalogue
            _kept[key] = _Kept(catalogue, version, perf_counter() - began)
            _changes.pop(key, None)
            _wanted.discard(key)
    if is_right and before is not None and before.catalogue is not catalogue:
        outdate()
    return catalogue


def schema_key_of(connection: BaseDatabaseWrapper) -> str:
    """Return the key of the schema's version."""
    (key,) = version_keys(alias_reached_by(connection), frozenset({SCHEMA}))
    return key


def _schema_version(connection: BaseDatabaseWrapper) -> object:
    """Return what lies under the key of the schema's version; None if the cache tells nothing."""
    key = schema_key_of(connection)
    try:
        with cache_in_use((key,)) as store:
            version, is_added = store.version(key)
            if is_added:
                _added[key_of(connection)] = version
            return version
    except Exception as error:
        if is_interruption(error):
            raise
        logger.debug("The version of the schema could not be read: %r", error)
        return None

"""Which aliases lead to one database: by the settings, and by what its server says.

Aliases that certainly do share the keys of their versions; the settings alone decide this, so that
all processes agree. Those that may do so have keys of their own, and a write on one of them
invalidates on all: it invalidates too much until both servers have been asked, and never too
little.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import load_backend

from cachalot.core.connection.cursor import driver_cursor
from cachalot.settings import cachalot_settings, memo

logger = logging.getLogger("cachalot")

_DEFAULT_PORTS = {"postgresql": "5432", "mysql": "3306"}

# What tells a server's database from all others for as long as it exists: equal on physical copies,
# and no other after a restart or on another way to it. MariaDB has nothing of the kind.
_IDENTITIES = {
    "postgresql": "SELECT system_identifier, current_database() FROM pg_control_system()",
    "mysql": "SELECT @@server_uuid, DATABASE()",
}


class Place(NamedTuple):
    """Where the settings say that a database is. ``alias`` is None where all the rest tells."""

    vendor: str
    server: tuple[str, str]
    name: str
    alias: str | None = None


# What the servers have said, by place. Two threads that ask at once get the same answer.
_asked: dict[Place, tuple[object, ...]] = {}
_MAX_ASKED = 10_000
# The aliases that the process has begun with; None until the app is wired.
_configured: frozenset[str] | None = None
# What there was last: settings, and what was made of them.
_latest: tuple[list[Any], Databases] | None = None


def note_configured() -> None:
    """Note which aliases are there from the start: every process has them."""
    global _configured
    if _configured is None:
        _configured = frozenset(connections.settings)


@memo(maxsize=64)
def _vendor_of(engine: str) -> str | None:
    try:
        vendor: str = load_backend(engine).DatabaseWrapper.vendor
    except Exception:
        return None  # its driver is not installed, so nobody can use it
    return vendor


def _place_in(database: Mapping[str, Any], db_alias: str) -> Place:
    vendor = _vendor_of(database.get("ENGINE") or "")
    name = str(database.get("NAME") or "")
    if vendor is None or not name:
        # A service file or the like says which; another alias may mean another one.
        return Place(vendor or "", ("", ""), name, db_alias)
    if vendor == "sqlite":
        return _place_of_file(name, db_alias)
    host = str(database.get("HOST") or "localhost").lower()
    if host in {"127.0.0.1", "::1"} or host.startswith("/"):
        host = "localhost"
    port = str(database.get("PORT") or _DEFAULT_PORTS.get(vendor, ""))
    return Place(vendor, (host, port), name)


@memo(maxsize=1024)
def _place_of_file(name: str, db_alias: str) -> Place:
    # https://www.sqlite.org/uri.html
    uri = urlsplit(name) if name.startswith("file:") else None
    if ":memory:" in name or (uri is not None and "mode=memory" in uri.query):
        is_shared = uri is not None and "cache=shared" in uri.query
        return Place("sqlite", ("memory", ""), name, None if is_shared else db_alias)
    path = name if uri is None else unquote(uri.path)
    return Place("sqlite", ("file", ""), os.path.realpath(path))


class Databases:
    """The databases that one state of ``DATABASES`` has."""

    def __init__(self, configured: frozenset[str] | None) -> None:
        def order(db_alias: str) -> tuple[bool, bool, str]:
            is_late = configured is not None and db_alias not in configured
            return db_alias != DEFAULT_DB_ALIAS, is_late, db_alias

        self.places = {alias: _place_of(alias) for alias in list(connections.settings)}
        aliases: dict[Place, list[str]] = {}
        for alias in sorted(self.places, key=order):
            aliases.setdefault(self.places[alias], []).append(alias)
        self.aliases = {place: tuple(group) for place, group in aliases.items()}

    def aliases_of(self, db_alias: str) -> tuple[str, ...]:
        """Return what ``aliases_of_database()`` does."""
        place = self.places.get(db_alias)
        return (db_alias,) if place is None else self.aliases[place]

    def lookalikes_of(self, db_alias: str) -> tuple[str, ...]:
        """Return what the function of this name does."""
        place = self.places.get(db_alias)
        # A replica is another database, which is known to show the changes later.
        if place is None or db_alias in cachalot_settings.CACHALOT_REPLICAS:
            return ()
        return self.lookalikes(place)

    def lookalikes(self, place: Place) -> tuple[str, ...]:
        """Return the first alias of each other place that may be this one."""
        if len(self.aliases) == 1:
            return ()
        return tuple(
            aliases[0]
            for other, aliases in self.aliases.items()
            if other != place
            and _may_be_one(place, other)
            and not cachalot_settings.CACHALOT_REPLICAS.keys() >= set(aliases)
        )


def _place_of(db_alias: str) -> Place:
    """Return the place that an alias in DATABASES leads to."""
    aliases, replicas = cachalot_settings.CACHALOT_ALIASES, cachalot_settings.CACHALOT_REPLICAS
    seen: set[str] = set()
    while db_alias not in seen:
        seen.add(db_alias)
        if db_alias in aliases:
            target = aliases[db_alias]
            if target == db_alias:
                return Place("", ("", ""), "", db_alias)
        elif db_alias in replicas:
            break  # outside tests, its mirror is another server
        else:
            target = _mirror_in(connections.settings[db_alias])
        if target not in connections.settings:
            break
        db_alias = target
    else:
        db_alias = min(seen)  # they all stand for each other
    return _place_in(connections.settings[db_alias], db_alias)


def _mirror_in(database: Mapping[str, Any]) -> str | None:
    mirror: str | None = (database.get("TEST") or {}).get("MIRROR")
    return mirror


_NOTHING: dict[str, Any] = {}


@memo(maxsize=16)
def _databases_in(settings: object, configured: frozenset[str] | None) -> Databases:
    return Databases(configured)


def databases_now() -> Databases:
    """Return the databases there are now: aliases may be added, and test runners change names."""
    settings: list[Any] = [cachalot_settings.epoch, _configured]
    for alias, database in list(connections.settings.items()):
        get = database.get
        test = get("TEST") or _NOTHING
        settings += alias, get("ENGINE"), get("NAME"), get("HOST"), get("PORT"), test.get("MIRROR")
    # To compare with the latest is faster than to look up what is remembered.
    global _latest
    latest = _latest
    if latest is None or latest[0] != settings:
        latest = _latest = settings, _databases_in(tuple(settings), _configured)
    return latest[1]


def _may_be_one(one: Place, other: Place) -> bool:
    """Whether two places that the settings spell differently may be one database."""
    if one.vendor != other.vendor or not one.vendor:
        return False
    if one.vendor == "sqlite":
        try:
            return one.server == other.server and os.path.samefile(one.name, other.name)
        except OSError:
            return False  # one of them does not exist, or lies in memory
    if one in _asked and other in _asked:
        return _asked[one] == _asked[other]
    # Poolers hardly ever rename. Without a name, its driver knows which it is, and nobody else.
    return one.name == other.name or not one.name or not other.name


def aliases_of_database(db_alias: str) -> tuple[str, ...]:
    """Return every alias of the database that ``db_alias`` certainly leads to.

    ``"default"`` comes first, then those that were there from the start, by name: in another
    process the order of ``DATABASES`` may be another one.
    """
    return databases_now().aliases_of(db_alias)


def name_of_database(first_alias: str) -> str:
    """Return what every process calls the database with this first alias.

    That is the alias, unless it was added while the process ran: other processes may have added
    others of the same database, and spell its place alike.
    """
    if _configured is None or first_alias in _configured:
        return first_alias
    return str(databases_now().places.get(first_alias, first_alias))


def lookalikes_of(db_alias: str) -> tuple[str, ...]:
    """Return the first alias of each other database that may be the one of ``db_alias``."""
    return databases_now().lookalikes_of(db_alias)


def aliases_changing_with(db_alias: str) -> tuple[str, ...]:
    """Return all aliases through which a change made through ``db_alias`` may show at once."""
    databases = databases_now()
    aliases = databases.aliases_of(db_alias)
    for lookalike in databases.lookalikes_of(db_alias):
        aliases += databases.aliases_of(lookalike)
    return aliases


def alias_reached_by(connection: BaseDatabaseWrapper) -> str:
    """Return an alias in DATABASES of the connection's database, or its own if there is none.

    ``connection.copy(alias=…)`` and others make connections whose alias is in no settings.
    """
    alias = connection.alias
    if alias in connections.settings:
        return alias
    place = _place_in(connection.settings_dict, alias)
    if not place.name:
        return alias  # Django's own, which creates and drops databases
    databases = databases_now()
    aliases = databases.aliases.get(place) or databases.lookalikes(place)
    return aliases[0] if aliases else alias


def ask_server(connection: BaseDatabaseWrapper) -> None:
    """Have the server of a new connection say who it is, if there is something to tell apart."""
    alias, vendor = connection.alias, connection.vendor
    # A query would begin a transaction, and take the snapshot of it.
    if vendor not in _IDENTITIES or not connection.autocommit:
        return
    databases = databases_now()
    place = databases.places.get(alias) or _place_in(connection.settings_dict, alias)
    if vendor not in {other.vendor for other in databases.aliases if other != place}:
        return
    if vendor == "mysql" and connection.mysql_is_mariadb:  # type: ignore[attr-defined]
        return
    try:
        with driver_cursor(connection) as cursor:
            cursor.execute(_IDENTITIES[vendor])
            answer = tuple(cursor.fetchone())
        if len(_asked) >= _MAX_ASKED:
            _asked.clear()
        _asked[place] = answer
    except DatabaseError as error:
        _asked.pop(place, None)
        logger.debug("The server of %r does not say who it is: %r", alias, error)

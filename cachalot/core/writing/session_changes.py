"""What statements do to the session of their connection, as they pass the cursor."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper

from cachalot.core.connection.state import State
from cachalot.core.schema import catalogue
from cachalot.core.sql.kinds import Kind
from cachalot.core.sql.settings import settings_in
from cachalot.core.sql.statements import Statement

_TAKES_BACK_ALL = re.compile(r"\s*(?:RESET|DISCARD)\s+ALL\b", re.IGNORECASE)


def sets_config(connection: BaseDatabaseWrapper, sql: object) -> bool:
    """Whether a statement of the ORM calls PostgreSQL's set_config(), which is SET."""
    return (
        connection.vendor == "postgresql" and isinstance(sql, str) and "set_config" in sql.lower()
    )


def may_set_session(connection: BaseDatabaseWrapper, functions: frozenset[str]) -> bool:
    """Whether one of ``functions`` (of ``Statement.possible_setters``) may change the session."""
    if not functions:
        return False
    known = catalogue.routines_of(connection)
    if known is None or any(name.startswith(".") for name in functions):
        return True
    return not functions.isdisjoint(known.setters)


@contextmanager
def setting_session(
    connection: BaseDatabaseWrapper,
    state: State,
    statement: Statement,
    text: str,
    params: Any,
    *,
    is_own: bool,
) -> Iterator[None]:
    """Take in what a statement sets that is run in the body.

    ``is_own`` tells that a compiler made it: then a key made of the session before is right.
    """
    try:
        yield
        no_key_tells = is_own or _sets_what_no_key_tells(connection, statement, text, params)
        # What an engine sets in the midst of a read, of what the key tells already, sets nothing
        # anew: the next key would be another one.
        if no_key_tells or not state.running.own:
            _set_session(connection, state, statement, text, params)
        if no_key_tells and not is_own:
            state.running.settings += 1
    except Error:
        raise
    except BaseException:
        # It may have been thrown between the statement and what is known of it.
        state.session.make_unique()
        raise


def _set_session(
    connection: BaseDatabaseWrapper, state: State, statement: Statement, text: str, params: Any
) -> None:
    is_in_transaction = state.is_in_transaction()
    if is_in_transaction:
        state.overlay()  # remembers what a rollback brings back
    session = state.session
    if "isolation" in text.lower() or _TAKES_BACK_ALL.match(text):
        state.set_isolation(text)
    if statement.kind is not Kind.SESSION:
        session.apply_other(text, params, connection.vendor, is_transaction=is_in_transaction)
    elif len(statement.parts) == 1:
        session.apply(text, params, connection.vendor, is_transaction=is_in_transaction)
    elif not params:
        for part in text.split(";"):
            session.apply(part, None, connection.vendor, is_transaction=is_in_transaction)
    else:
        session.make_unique()


def _sets_what_no_key_tells(
    connection: BaseDatabaseWrapper, statement: Statement, text: str, params: Any
) -> bool:
    """Whether a read under way would see what the key that was made before it does not tell.

    The engine may set the session when it gives a cursor, or an execute wrapper.
    """
    if statement.kind is not Kind.SESSION:
        return True
    settings = settings_in(text, params, connection.vendor)
    # django-tenants' path follows from schema_name, which is in the key.
    known = {"search_path"} if hasattr(connection, "schema_name") else set()
    return settings is None or bool({setting.name for setting in settings} - known)

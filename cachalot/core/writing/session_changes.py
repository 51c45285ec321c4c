"""What statements do to the session of their connection, as they pass the cursor."""

from __future__ import annotations

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from cachalot.core.connection.state import State
from cachalot.core.sql.settings import settings_in
from cachalot.core.sql.statements import Kind, Statement, classify


def sets_config(connection: BaseDatabaseWrapper, sql: object) -> bool:
    """Whether a statement of the ORM calls PostgreSQL's set_config(), which is SET."""
    return (
        connection.vendor == "postgresql" and isinstance(sql, str) and "set_config" in sql.lower()
    )


def set_session(
    connection: BaseDatabaseWrapper, state: State, statement: Statement, text: str, params: Any
) -> None:
    """Take in what a statement that was run has set."""
    is_in_transaction = state.is_in_transaction()
    if is_in_transaction:
        state.overlay()  # remembers what a rollback brings back
    session = state.session
    if "isolation" in text.lower():
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


def note_setting(connection: BaseDatabaseWrapper, state: State, text: str, params: Any) -> None:
    """Note if a read that is under way sets its session: its key was made of the one before.

    The engine may do so when it gives a cursor, or an execute wrapper.
    """
    session = state.session
    if session.is_set_by_queries:
        return
    statement = classify(text, connection.vendor)
    if statement.kind is Kind.SESSION:
        settings = settings_in(text, params, connection.vendor)
    elif statement.changes_session:
        settings = None
    else:
        return
    # django-tenants' path follows from schema_name, which is in the key.
    known = {"search_path"} if hasattr(connection, "schema_name") else set()
    if settings is None or {setting.name for setting in settings} - known:
        session.is_set_by_queries = True
        state.changes += 1

"""What a test suite puts before a connection so that a test cannot use it.

A hit asks neither for a connection nor for a cursor, and must be refused like a query.
"""

from __future__ import annotations

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

_ensure_connection = BaseDatabaseWrapper.ensure_connection


def refuse_what_is_forbidden(connection: Any) -> None:
    """Raise what a query of this connection would raise if the test at hand may not run any."""
    # django/test/testcases.py, SimpleTestCase._add_databases_failures(). The module is not
    # imported for it: a site has no use for it.
    cursor = connection.__dict__.get("cursor")
    if cursor is not None and type(cursor).__name__ == "_DatabaseFailure":
        cursor()
    # pytest-django blocks the class, and Django the connections of other threads.
    if BaseDatabaseWrapper.ensure_connection is not _ensure_connection:
        connection.ensure_connection()

"""A database that answers in no time: the least that any cache below the ORM could take.

Results are remembered in a dictionary in front of ``SQLCompiler.execute_sql()``, so a query is
compiled and its objects are built as ever, and nothing else happens.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db.models.sql.compiler import SQLCompiler
from django.db.models.sql.constants import GET_ITERATOR_CHUNK_SIZE, MULTI, SINGLE

_answers: dict[tuple[Any, ...], Any] = {}

forget = _answers.clear


def install() -> None:
    """Remember every answer from now on, until ``forget()``."""
    execute_sql = SQLCompiler.execute_sql

    @wraps(execute_sql)
    def remembering(
        self: SQLCompiler,
        result_type: str = MULTI,
        chunked_fetch: bool = False,
        chunk_size: int = GET_ITERATOR_CHUNK_SIZE,
    ) -> Any:
        if result_type not in {MULTI, SINGLE} or chunked_fetch:
            return execute_sql(self, result_type, chunked_fetch, chunk_size)
        try:
            sql, params = self.as_sql()
        except EmptyResultSet:
            return iter([]) if result_type == MULTI else None
        key = result_type, sql, tuple(params)
        try:
            return _answers[key]
        except KeyError:
            answer = execute_sql(self, result_type, chunked_fetch, chunk_size)
            _answers[key] = answer
            return answer

    SQLCompiler.execute_sql = remembering

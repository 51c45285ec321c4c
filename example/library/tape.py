"""Record the answers to the queries of a page, and play them: a database that answers at once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from django.db.models.sql.compiler import SQLCompiler
from django.db.models.sql.constants import MULTI

# What else than the statement itself ``SQLCompiler.execute_sql()`` is asked with.
_OF_QUESTION = {"query", "connection", "using", "elide_empty", "quote_cache"}


class Tape:
    """Hold the answers to the queries of one page, in their order."""

    def __init__(self) -> None:
        self._answers: list[tuple[Any, dict[str, Any]]] = []

    def recording(self) -> Any:
        """Return a context manager that keeps the answers of its body."""
        original = SQLCompiler.execute_sql

        def execute_sql(
            compiler: SQLCompiler, result_type: str = MULTI, *args: Any, **kw: Any
        ) -> Any:
            answer = original(compiler, result_type, *args, **kw)
            if result_type == MULTI and not isinstance(answer, list):
                answer = list(answer)
            # What compiling has found out of the columns belongs to the answer.
            found = {
                name: value for name, value in vars(compiler).items() if name not in _OF_QUESTION
            }
            self._answers.append((answer, found))
            return answer

        return _replaced(execute_sql)

    @contextmanager
    def playing(self) -> Iterator[None]:
        """Answer the queries of the body, which must be those that were recorded."""
        answers = iter(self._answers)

        def execute_sql(compiler: SQLCompiler, *args: Any, **kwargs: Any) -> Any:
            answer, found = next(answers)
            vars(compiler).update(found)
            return answer

        with _replaced(execute_sql):
            yield
        if next(answers, None) is not None:
            raise RuntimeError("The page has run fewer queries than when it was recorded.")


def _replaced(execute_sql: Callable[..., Any]) -> Any:
    return mock.patch.object(SQLCompiler, "execute_sql", execute_sql)

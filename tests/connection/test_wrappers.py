"""A hit passes by an execute wrapper only if the wrapper hands on what it is given."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from django.db import connection

from cachalot.core.connection.state import state_of
from cachalot.core.connection.wrappers import may_change_statements
from tests.library.models import Author
from tests.support import CacheTestCase

counted: list[str] = []


def counting(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    counted.append(sql)
    return execute(sql, params, many, context)


def timing(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    counted.append(f"{len(sql)} {[type(param) for param in params or ()]}")
    try:
        result = execute(sql, params, many, context)
    except Exception as error:
        counted.append(repr(error))
        raise
    else:
        counted.append(sql[:10])
        return result
    finally:
        counted.extend(str(value) for value in (many, context))


def starred(execute: Any, *args: Any) -> Any:
    return execute(*args)


def all_starred(execute: Any, *args: Any, **kwargs: Any) -> Any:
    with mock.MagicMock():
        return execute(*args, **kwargs)


def half_starred(execute: Any, sql: str, *rest: Any) -> Any:
    counted.append(sql)
    result = execute(sql, *rest)
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return result


def by_a_closure(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    return run_later(lambda: execute(sql, params, many, context))


def by_starred_closure(execute: Any, *args: Any) -> Any:
    def run() -> Any:
        counted.append(str(args[0]))
        return execute(*args)

    return run_later(run)


def run_later(run: Callable[[], Any]) -> Any:
    return run()


class Tracer:
    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        return execute(sql, params, many, context)

    def trace(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        self.last = sql
        return execute(sql, params, many, context)


def replacing(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    return execute(sql.replace("a", "b"), params, many, context)


def assigning(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    if len(counted) > 1000:
        sql = "SELECT 1"
    return execute(sql, params, many, context)


def of_other_parameters(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    return execute(sql, [1], many, context)


def swapping(execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
    return execute(params, sql, many, context)


def hiding(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    def run(sql: str) -> Any:
        return execute(sql, params, many, context)

    return run("SELECT 1")


def rebinding(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    def change() -> None:
        nonlocal sql
        sql = "SELECT 1"

    change()
    return execute(sql, params, many, context)


def handing_out(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    return run_later(functools.partial(execute, sql, params, many, context))


def delegating(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    return replacing(execute, sql, params, many, context)


def delegating_starred(execute: Any, *args: Any, **kwargs: Any) -> Any:
    return replacing(execute, *args, **kwargs)


def aliasing(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    run = execute
    return run(sql, params, many, context)


def by_turns(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    if counted:
        return execute(sql, params, many, context)
    return execute("SELECT 1", params, many, context)


def refusing(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    raise RuntimeError(sql)


def cutting(execute: Any, *args: Any) -> Any:
    args = args[1:]
    return execute(*args)


HONEST: list[Callable[..., Any]] = [
    *(
        counting,
        timing,
        starred,
        all_starred,
        half_starred,
        by_a_closure,
        by_starred_closure,
        Tracer(),
        Tracer().trace,
    ),
    *(lambda execute, *args: execute(*args), lambda e, s, p, m, c: e(s, p, m, c)),
]
OTHERS: list[Callable[..., Any]] = [
    *(replacing, assigning, of_other_parameters, swapping, hiding, rebinding, handing_out),
    *(delegating, delegating_starred, aliasing, by_turns, refusing, cutting),
    *(functools.partial(counting), mock.Mock(), print),
]


def name_of(wrapper: Any) -> str:
    return str(getattr(wrapper, "__qualname__", type(wrapper).__name__))


@pytest.mark.parametrize("wrapper", HONEST, ids=name_of)
def test_what_hands_a_statement_on_is_known(wrapper: Any) -> None:
    assert not may_change_statements(mock.Mock(execute_wrappers=[wrapper]))


@pytest.mark.parametrize("wrapper", OTHERS, ids=name_of)
def test_what_may_change_it_is_not_trusted(wrapper: Any) -> None:
    assert may_change_statements(mock.Mock(execute_wrappers=[counting, wrapper]))


class ReadTests(CacheTestCase):
    def setUp(self) -> None:
        for name in ("north", "south"):
            Author.objects.create(name=name)
        self.tenant: str | None = None

    def names(self) -> list[str]:
        return [author.name for author in Author.objects.filter(name="north")]

    def of_tenant(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if self.tenant is not None and "library_author" in sql:
            params = (self.tenant,)
        return execute(sql, params, many, context)

    def test_counting_sees_no_hits(self) -> None:
        self.assertCached(self.names)
        counted.clear()
        with connection.execute_wrapper(counting):
            self.assertEqual(self.names(), ["north"])
        self.assertEqual(counted, [])

    def test_what_changes_parameters_serves_and_stores_nothing(self) -> None:
        self.assertCached(self.names)
        with connection.execute_wrapper(self.of_tenant):
            for self.tenant in (None, "south", "north", "south", None):
                self.assertEqual(self.names(), [self.tenant or "north"])
        self.tenant = None
        self.assertHits(self.names)

    def test_what_changes_the_text(self) -> None:
        def lowering(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            return execute(sql.replace("= %s", "<> %s"), params, many, context)

        with connection.execute_wrapper(lowering):
            self.assertEqual(self.names(), ["south"])
        self.assertEqual(self.assertCached(self.names), ["north"])
        with connection.execute_wrapper(lowering):
            self.assertEqual(self.names(), ["south"])

    def test_a_cursor_of_the_engines_own(self) -> None:
        """What it gives to Django's cursor is compared with what was compiled."""
        engine = type(connection._connections[connection._alias])  # type: ignore[attr-defined]
        make_cursor = engine.make_cursor

        def make_rewriting_cursor(self_: Any, cursor: Any) -> Any:
            wrapper = make_cursor(self_, cursor)
            execute = type(wrapper).execute

            class Rewriting(type(wrapper)):  # type: ignore[misc]
                def execute(self, sql: str, params: Any = None) -> Any:
                    return execute(self, sql.replace("= %s", "<> %s"), params)

            return Rewriting(cursor, self_)

        with mock.patch.object(engine, "make_cursor", make_rewriting_cursor):
            self.assertEqual([self.names(), self.names()], [["south"]] * 2)
        self.addCleanup(setattr, state_of(connection).session, "is_set_by_queries", False)
        self.assertEqual(self.names(), ["north"])

    def test_a_comment_changes_nothing(self) -> None:
        engine = type(connection._connections[connection._alias])  # type: ignore[attr-defined]
        make_cursor = engine.make_cursor

        def make_telling_cursor(self_: Any, cursor: Any) -> Any:
            wrapper = make_cursor(self_, cursor)
            execute = type(wrapper).execute

            class Telling(type(wrapper)):  # type: ignore[misc]
                def execute(self, sql: str, params: Any = None) -> Any:
                    return execute(self, f"{sql} /* of a page */", params)

            return Telling(cursor, self_)

        with mock.patch.object(engine, "make_cursor", make_telling_cursor):
            self.names()
        self.assertHits(self.names)

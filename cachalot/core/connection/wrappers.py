"""Whether the execute wrappers of a connection hand statements on as they were given.

A hit runs no wrapper. It is right where the wrapper counts, times or traces; where it changes the
statement, the rows are those of another one. So a wrapper is read before it is passed by: it must
do nothing with what executes the statement but to call it with what it was itself given.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from functools import lru_cache
from textwrap import dedent
from types import FunctionType, MethodType
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

_Function = ast.FunctionDef | ast.Lambda


def may_change_statements(connection: BaseDatabaseWrapper) -> bool:
    """Whether an execute wrapper of the connection may change what its cursors are given."""
    return not all(map(_hands_on, connection.execute_wrappers))


def _hands_on(wrapper: Callable[..., Any]) -> bool:
    if isinstance(wrapper, FunctionType):
        return _passes_on(wrapper, 0)
    method: Any = wrapper if isinstance(wrapper, MethodType) else type(wrapper).__call__
    function = getattr(method, "__func__", method)
    return isinstance(function, FunctionType) and _passes_on(function, 1)


@lru_cache(maxsize=256)
def _passes_on(function: FunctionType, first: int) -> bool:
    """Whether a function calls its argument number ``first`` with all that follow, as they came."""
    definition = _definition_of(function)
    if definition is None or definition.args.kwonlyargs:
        return False
    parameters = definition.args
    names = [argument.arg for argument in (*parameters.posonlyargs, *parameters.args)][first:]
    given = [ast.Name(name) for name in names[1:]]
    stars = [parameter.arg for parameter in (parameters.vararg,) if parameter]
    doubles = [parameter.arg for parameter in (parameters.kwarg,) if parameter]
    if not names:
        return False
    call = ast.Call(
        ast.Name(names[0]),
        [*given, *(ast.Starred(ast.Name(star)) for star in stars)],
        [ast.keyword(value=ast.Name(double)) for double in doubles],
    )
    return _uses_only(definition, {*names, *stars, *doubles}, names[0], ast.unparse(call))


def _definition_of(function: FunctionType) -> _Function | None:
    """Return what the source says of a function; None where it cannot be told which it is."""
    try:
        tree = ast.parse(dedent(inspect.getsource(function)).strip().rstrip(","))
    except (OSError, SyntaxError, TypeError):
        return None
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.Lambda))
        and getattr(node, "name", "<lambda>") == function.__name__
        and _names_in(node) == function.__code__.co_varnames[: len(_names_in(node))]
    ]
    return found[0] if len(found) == 1 else None


def _names_in(definition: _Function) -> tuple[str, ...]:
    return tuple(argument.arg for argument in definition.args.args)


def _uses_only(definition: _Function, names: set[str], execute: str, call: str) -> bool:
    """Whether ``call`` is all that is done with ``execute``, and ``names`` keep their meaning."""
    calls = 0
    uses = 0
    for node in ast.walk(definition):
        if isinstance(node, ast.Name) and node.id in names and not isinstance(node.ctx, ast.Load):
            return False
        if isinstance(node, (ast.Global, ast.Nonlocal)) and not names.isdisjoint(node.names):
            return False
        if isinstance(node, ast.arg) and node.arg in names and not _is_own(definition, node):
            return False  # a function within has another one of this name
        if isinstance(node, ast.ExceptHandler) and node.name in names:
            return False
        uses += isinstance(node, ast.Name) and node.id == execute
        calls += isinstance(node, ast.Call) and ast.unparse(node) == call
    return bool(calls) and calls == uses


def _is_own(definition: _Function, argument: ast.arg) -> bool:
    parameters = definition.args
    return argument in {
        *(*parameters.posonlyargs, *parameters.args),
        *(parameter for parameter in (parameters.vararg, parameters.kwarg) if parameter),
    }

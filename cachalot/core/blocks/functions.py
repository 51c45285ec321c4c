"""What tells functions of one name apart: what they do, and what they have of functions around."""

from __future__ import annotations

from collections.abc import Sequence
from types import CodeType, FunctionType
from typing import Any

from cachalot.core.blocks.keys import digest_of
from cachalot.core.blocks.values import encoded


def digest_of_code(function: Any) -> bytes:
    """Return what tells a function from what it was before it was edited; empty for a callable."""
    code = getattr(function, "__code__", None)
    return b"" if code is None else digest_of(b"code", repr(_contents_of(code)).encode()).encode()


def _contents_of(code: CodeType) -> tuple[Any, ...]:
    """Return what makes a function do what it does, as far as its own lines tell."""
    constants = tuple(
        _contents_of(constant)
        if isinstance(constant, CodeType)
        # The order of a set is another one in each process.
        else sorted(map(repr, constant))
        if isinstance(constant, frozenset)
        else repr(constant)
        for constant in code.co_consts
    )
    return code.co_code, code.co_names, constants


def variables_of(function: Any, around: Sequence[object] = ()) -> list[bytes]:
    """Return the variables of enclosing functions that a function uses, as bytes.

    ``around`` are the functions whose variables are being looked at. Raise ``TypeError`` for a
    value that cannot be told apart.
    """
    if not isinstance(function, FunctionType) or any(function is other for other in around):
        return []
    parts = []
    names, cells = function.__code__.co_freevars, function.__closure__ or ()
    for name, cell in zip(names, cells, strict=True):
        try:
            value = cell.cell_contents
        except ValueError:
            continue  # not assigned yet
        try:
            parts.append(name.encode() + _encoded(value, [*around, function]))
        except TypeError as error:
            raise TypeError(f"{name!r}, {error}") from error
    return parts


def _encoded(value: Any, around: Sequence[object]) -> bytes:
    if not isinstance(value, FunctionType) and isinstance(
        getattr(value, "__wrapped__", None), FunctionType
    ):
        # What cached() has returned.
        value = value.__wrapped__
    if isinstance(value, FunctionType):
        place = f"{value.__module__}.{value.__qualname__}".encode()
        return place + digest_of_code(value) + encoded(variables_of(value, around))
    return encoded(value)

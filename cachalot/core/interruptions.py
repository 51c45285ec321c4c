"""Exceptions that the program throws into work under way: a time limit, a signal, a kill.

Celery's ``SoftTimeLimitExceeded``, RQ's ``JobTimeoutException`` and whatever a signal handler of
a project raises are no failures of the cache. They must reach whoever threw them.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Iterator
from types import BuiltinFunctionType, FrameType, FunctionType, ModuleType, TracebackType

# Packages whose exceptions any code may meet.
_COMMON = {builtins.__name__, *sys.stdlib_module_names, "django", "pylibmc", "_pylibmc"}


def is_interruption(error: BaseException) -> bool:
    """Whether none of the code that ``error`` has come through raised it on its own account.

    Either the interpreter called what raised it, between two steps of that code (a signal handler,
    a trace function), or it was thrown from outside (``PyThreadState_SetAsyncExc()``, greenlets),
    and its class is of a package that takes no part in the work. Ask where ``error`` is caught.
    """
    if not isinstance(error, Exception):
        return True
    frames = list(_frames(error.__traceback__))
    if any(map(_is_called_by_interpreter, frames)):
        return True
    package = type(error).__module__.partition(".")[0]
    return package not in _COMMON.union(*map(_packages_in, frames))


def _packages_in(frame: FrameType) -> set[str]:
    """Return the package of a frame's module, and those that the module uses.

    What is written in C leaves no frame of its own: that of a serialiser or compressor, for one.
    """
    modules = {str(frame.f_globals.get("__name__"))}
    for value in list(frame.f_globals.values()):
        if isinstance(value, ModuleType):
            modules.add(value.__name__)
        elif isinstance(value, (FunctionType, BuiltinFunctionType)):
            modules.add(str(value.__module__))
    return {module.partition(".")[0] for module in modules}


def _frames(traceback: TracebackType | None) -> Iterator[FrameType]:
    while traceback is not None:
        yield traceback.tb_frame
        traceback = traceback.tb_next


def _is_called_by_interpreter(frame: FrameType) -> bool:
    """Whether a function has the frame that it interrupted, as handlers and tracers are."""
    interrupted, code = frame.f_back, frame.f_code
    if interrupted is None:
        return False
    arguments = [
        value for name in code.co_varnames if (value := frame.f_locals.get(name)) is not None
    ]
    return any(
        value is interrupted
        or (isinstance(value, tuple) and any(item is interrupted for item in value))
        for value in arguments
    )

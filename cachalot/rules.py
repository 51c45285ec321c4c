"""What the value of a setting may be, and what is said of a wrong one."""

from __future__ import annotations

import datetime
import inspect
import math
import os
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, NamedTuple

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

#: The value of ``CACHALOT_DATABASES`` that means "every alias on a supported engine".
SUPPORTED_ONLY = "supported_only"

#: The value of ``CACHALOT_BOARD`` that means "where every process of this user looks".
AUTOMATIC = "auto"

#: What may hold several names.
COLLECTIONS = (list, tuple, set, frozenset)


class WrongSetting(ImproperlyConfigured):
    """A setting has a value that it may not have: the message and hint of the system check."""

    def __init__(self, message_id: str, message: str, hint: str) -> None:
        super().__init__(f"{message} {hint} ({message_id})")
        self.message_id, self.message, self.hint = message_id, message, hint


class Rule(NamedTuple):
    """A kind of value. ``read`` returns one as it is used, and raises for one that is wrong."""

    message_id: str
    message: str
    hint: str
    read: Callable[[Any], Any]


class Setting(NamedTuple):
    """A setting's default and rule; without a rule, a system check of its own judges it."""

    default: Any
    rule: Rule | None = None

    def read(self, name: str, value: Any) -> Any:
        """Return ``value`` as it is used. Raise ``WrongSetting``."""
        if self.rule is None:
            return value
        reason = ""
        try:
            return self.rule.read(value)
        except _Wrong:
            pass
        except Exception as error:
            reason = f" ({type(error).__name__}: {error})"
        aliases = ", ".join(map(repr, settings.DATABASES))
        values = {
            **{"name": name, "value": value, "default": self.default},
            **{"error": reason, "aliases": aliases},
        }
        raise WrongSetting(
            self.rule.message_id,
            self.rule.message.format(**values),
            self.rule.hint.format(**values),
        )


class _Wrong(Exception):
    """A value breaks a rule, which is all there is to say of it."""


def _require(is_right: bool) -> None:
    if not is_right:
        raise _Wrong


def _switch(value: Any) -> bool:
    # 0 and 1 work as well; the string "False", from an environment variable, would mean True.
    _require(isinstance(value, int) and value in (0, 1))
    return bool(value)


def _seconds(value: Any) -> float:
    if isinstance(value, datetime.timedelta):
        value = value.total_seconds()
    _require(isinstance(value, (int, float)) and not isinstance(value, bool))
    _require(math.isfinite(value) and value >= 0)
    seconds: float = value
    return seconds


def _timeout(value: Any) -> float | None:
    return None if value is None else _seconds(value)


def _timeouts(value: Any) -> dict[str, float | None]:
    _require(isinstance(value, Mapping))
    _names(list(value))
    return {name: _timeout(timeout) for name, timeout in value.items()}


def _size(value: Any) -> int:
    _require(isinstance(value, int) and not isinstance(value, bool) and value >= 0)
    size: int = value
    return size


def _names(value: Any) -> Any:
    _require(isinstance(value, COLLECTIONS))
    _require(all(isinstance(name, str) and name for name in value))
    return value


def _map_of_names(value: Any) -> Any:
    _require(isinstance(value, Mapping))
    for names in (list(value), *value.values()):
        _names(names)
    return value


def _databases(value: Any) -> Any:
    _require(isinstance(value, COLLECTIONS) or value == SUPPORTED_ONLY)
    return value


def _replicas(value: Any) -> dict[str, dict[str, Any]]:
    _require(isinstance(value, Mapping))
    replicas = {}
    for alias, replica in value.items():
        _require(isinstance(replica, Mapping) and set(replica) == {"primary", "max_lag"})
        _require(alias in settings.DATABASES and replica["primary"] in settings.DATABASES)
        _require(replica["primary"] != alias)
        replicas[alias] = {**replica, "max_lag": _seconds(replica["max_lag"])}
        _require(replicas[alias]["max_lag"] > 0)
    return replicas


def _aliases(value: Any) -> Any:
    _require(isinstance(value, Mapping))
    for alias, target in value.items():
        # An alias may be added later; what it stands for is there from the start.
        _require(isinstance(alias, str) and target in settings.DATABASES)
    return value


def _function_of(*arguments: str) -> Callable[[Any], Callable[..., Any]]:
    """Return what reads a function that can be called with so many arguments."""

    def read(value: Any) -> Callable[..., Any]:
        function: Callable[..., Any] = import_string(value) if isinstance(value, str) else value
        _require(callable(function))
        try:
            accepted = inspect.signature(function)
        except ValueError:
            return function  # one in C does not tell
        accepted.bind(*arguments)
        return function

    return read


def _query_keygen(value: Any) -> Callable[..., Any]:
    function = _function_of("compiler")(value)
    if function.__module__ == "cachalot.utils":
        return function

    @wraps(function)
    def generate(compiler: Any) -> str:
        key = function(compiler)
        if not isinstance(key, str):
            raise ImproperlyConfigured(
                f"CACHALOT_QUERY_KEYGEN is {value!r}, which has returned {key!r}. Have it return a "
                "text, or raise cachalot.utils.UncachableQuery."
            )
        return key

    return generate


def _policy(value: Any) -> str:
    _require(isinstance(value, str) and value in {"bypass", "raise"})
    policy: str = value
    return policy


def _place(value: Any) -> str | None:
    if value is None or value == AUTOMATIC:
        return AUTOMATIC if value else None
    # A relative path would be another one in a process that is started elsewhere.
    path: Any = os.fspath(value)
    _require(isinstance(path, str) and os.path.isabs(path) and os.path.basename(path) != "")
    return str(os.path.normpath(path))


DATABASES = Rule(
    "cachalot.E002",
    "{name} is {value!r}, which is neither 'supported_only' nor a list, tuple, set or frozenset.",
    "Use 'supported_only' or a list of aliases in DATABASES, which has {aliases}; the default is "
    "{default!r}.",
    _databases,
)
SWITCH = Rule(
    "cachalot.E005",
    "{name} is {value!r}, which is neither True nor False.",
    "Use True or False; the default is {default!r}.",
    _switch,
)
TIMEOUT = Rule(
    "cachalot.E006",
    "{name} is {value!r}, which is no number of seconds.",
    "Use None, which never expires, a number from 0 or a timedelta; the default is {default!r}.",
    _timeout,
)
NAMES = Rule(
    "cachalot.E007",
    "{name} is {value!r}, which is no list, tuple, set or frozenset of strings.",
    "Use one, even for a single name, with models as 'app.Model'; the default is {default!r}.",
    _names,
)
MAP_OF_NAMES = Rule(
    "cachalot.E008",
    "{name} is {value!r}, which does not map tables to lists of tables.",
    "Use a dict like {{'orders': ['orders_audit']}}; the default is {default!r}.",
    _map_of_names,
)
QUERY_KEYGEN = Rule(
    "cachalot.E009",
    "{name} is {value!r}, which is neither a fitting function nor the path of one{error}.",
    "Use a function of a compiler, or its dotted path; the default is {default!r}.",
    _query_keygen,
)
TABLE_KEYGEN = QUERY_KEYGEN._replace(
    hint="Use a function of an alias and a table, or its dotted path; the default is {default!r}.",
    read=_function_of("db_alias", "table"),
)
POLICY = Rule(
    "cachalot.E010",
    "{name} is {value!r}, which is neither 'bypass' nor 'raise'.",
    "Use 'bypass' or 'raise'; the default is {default!r}.",
    _policy,
)
TIMEOUTS = Rule(
    "cachalot.E012",
    "{name} is {value!r}, which does not map tables or models to numbers of seconds.",
    "Use a dict like {{'auth.User': 60, 'orders': None}}; the default is {default!r}.",
    _timeouts,
)
SIZE = Rule(
    "cachalot.E013",
    "{name} is {value!r}, which is no number of bytes.",
    "Use a whole number from 0, which is off; the default is {default!r}.",
    _size,
)
SECONDS = Rule(
    "cachalot.E014",
    "{name} is {value!r}, which is no number of seconds.",
    "Use a number from 0, which always asks the cache, or a timedelta; the default is {default!r}.",
    _seconds,
)
WAIT = Rule(
    "cachalot.E021",
    "{name} is {value!r}, which is no number of seconds.",
    "Use None to wait for nobody, a number from 0 or a timedelta; the default is {default!r}.",
    _timeout,
)
REPLICAS = Rule(
    "cachalot.E015",
    "{name} is {value!r}, which does not map aliases in DATABASES to a primary and a lag.",
    "Use a dict like {{'replica': {{'primary': 'default', 'max_lag': 2.0}}}}, the lag in seconds "
    "above 0; DATABASES has {aliases}, and the default is {default!r}.",
    _replicas,
)
ALIASES = Rule(
    "cachalot.E016",
    "{name} is {value!r}, which does not map aliases to aliases in DATABASES.",
    "Use a dict like {{'direct': 'default'}} for two aliases of one database, and map an alias to "
    "itself for a database of its own; DATABASES has {aliases}, and the default is {default!r}.",
    _aliases,
)
PLACE = Rule(
    "cachalot.E018",
    "{name} is {value!r}, which is neither None, 'auto' nor the absolute path of a file.",
    "Name a file in a folder that all processes of the site may write, or None for no sharing; the "
    "default is {default!r}.",
    _place,
)

"""System checks of the settings."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.core.cache import caches
from django.core.cache.backends.db import DatabaseCache
from django.db import connections
from django.utils.module_loading import import_string

from cachalot.settings import (
    DEFAULTS,
    SUPPORTED_CACHE_BACKENDS,
    SUPPORTED_DATABASE_ENGINES,
    SUPPORTED_ONLY,
    cachalot_settings,
    is_supported_engine,
)

logger = logging.getLogger("cachalot")

#: Every id with its message and hint. W001 to W004, E001 and E002 mean what they have always
#: meant, and an id that was once given away never gets another meaning.
MESSAGES = {
    "cachalot.W001": (
        "CACHALOT_CACHE is {alias!r}, whose backend {backend!r} is not known to be suitable.",
        "Known are {suitable}. If this one has an atomic add() and raises when it fails, add its "
        "path to cachalot.settings.SUPPORTED_CACHE_BACKENDS.",
    ),
    "cachalot.W002": (
        "CACHALOT_DATABASES is 'supported_only', but no engine in DATABASES is supported: "
        "{engines}. Nothing is cached.",
        "Supported are {supported} and engines that wrap them. An engine that you have tested "
        "yourself goes into CACHALOT_ADDITIONAL_SUPPORTED_DATABASES.",
    ),
    "cachalot.W003": (
        "CACHALOT_DATABASES names {alias!r}, whose engine {engine!r} is not supported.",
        "Supported are {supported} and engines that wrap them. Take the alias out; or, if you have "
        "tested this engine yourself, add it to CACHALOT_ADDITIONAL_SUPPORTED_DATABASES.",
    ),
    "cachalot.W004": (
        "CACHALOT_DATABASES is {value!r}. Nothing is cached.",
        "Use 'supported_only' or name aliases in DATABASES, which has {aliases}. To switch caching "
        "off, set CACHALOT_ENABLED to False.",
    ),
    "cachalot.W005": (
        "CACHALOT_CACHE is {alias!r}, whose backend {backend!r} keeps its values in the database. "
        "Nothing is cached.",
        "Name a cache outside the database: {suitable}.",
    ),
    "cachalot.W006": (
        "{name} is {value!r}, but is not a cachalot setting. It has no effect.",
        "{suggestion}The settings are {known}.",
    ),
    "cachalot.W007": (
        "CACHALOT_CACHE is {alias!r}, which hides its failures because {option} is {value!r}. An "
        "invalidation that is lost unnoticed leaves stale results.",
        "Set it to False. Reads go to the database while the cache fails, unless "
        "CACHALOT_CACHE_ERRORS is 'raise'.",
    ),
    "cachalot.W008": (
        "CACHALOT_CACHE is {alias!r}, which is read from replicas because its LOCATION is "
        "{location!r}. A replica lags behind, so stale results may be served.",
        "Give CACHALOT_CACHE a cache whose LOCATION is the primary server alone.",
    ),
    "cachalot.E001": (
        "CACHALOT_DATABASES names {alias!r}, which is no alias in DATABASES.",
        "{suggestion}DATABASES has {aliases}.",
    ),
    "cachalot.E002": (
        "CACHALOT_DATABASES is {value!r}, which is neither 'supported_only' nor a list, tuple, set "
        "or frozenset.",
        "Use 'supported_only' or a list of aliases in DATABASES, which has {aliases}.",
    ),
    "cachalot.E003": (
        "CACHALOT_CACHE is {alias!r}, which is no alias in CACHES.",
        "{suggestion}CACHES has {aliases}.",
    ),
    "cachalot.E004": (
        "CACHALOT_CACHE is {alias!r}, a cache that cannot be created ({error}).",
        "Correct CACHES[{alias!r}], or install what its backend needs.",
    ),
    "cachalot.E005": (  # a setting that is on or off
        "{name} is {value!r}, which is neither True nor False.",
        "Use True or False; the default is {default!r}.",
    ),
    "cachalot.E006": (  # CACHALOT_TIMEOUT
        "{name} is {value!r}, which is no number of seconds.",
        "Use None, which never expires, or a number from 0; the default is {default!r}.",
    ),
    "cachalot.E007": (  # a setting that holds several names
        "{name} is {value!r}, which is no list, tuple, set or frozenset of strings.",
        "Use one, even for a single name; the default is {default!r}.",
    ),
    "cachalot.E008": (  # CACHALOT_DEPENDENT_TABLES
        "{name} is {value!r}, which does not map tables to lists of tables.",
        "Use a dict like {{'orders': ['orders_audit']}}; the default is {default!r}.",
    ),
    "cachalot.E009": (  # the key generators
        "{name} is {value!r}, which is neither a function nor the path of one{error}.",
        "Use a function or its dotted path; the default is {default!r}.",
    ),
    "cachalot.E010": (  # CACHALOT_CACHE_ERRORS
        "{name} is {value!r}, which is neither 'bypass' nor 'raise'.",
        "Use 'bypass' or 'raise'; the default is {default!r}.",
    ),
    "cachalot.E012": (  # CACHALOT_TIMEOUTS
        "{name} is {value!r}, which does not map tables or models to numbers of seconds.",
        "Use a dict like {{'auth.User': 60, 'orders': None}}; the default is {default!r}.",
    ),
    "cachalot.E013": (  # CACHALOT_LOCAL_SIZE
        "{name} is {value!r}, which is no number of bytes.",
        "Use a whole number from 0, which is off; the default is {default!r}.",
    ),
    "cachalot.E014": (  # CACHALOT_MAX_STALENESS
        "{name} is {value!r}, which is no number of seconds.",
        "Use a number from 0, which always asks the cache; the default is {default!r}.",
    ),
    "cachalot.E015": (  # CACHALOT_REPLICAS
        "{name} is {value!r}, which does not map aliases in DATABASES to a primary and a lag.",
        "Use a dict like {{'replica': {{'primary': 'default', 'max_lag': 2.0}}}}, the lag in "
        "seconds above 0; the default is {default!r}.",
    ),
    "cachalot.E011": (
        "{name} names {label!r}, which is the label of no installed app.",
        "{suggestion}The labels are {labels}.",
    ),
}


def _message(message_id: str, **values: object) -> checks.CheckMessage:
    return message_from(MESSAGES, message_id, **values)


def message_from(
    messages: Mapping[str, tuple[str, str]], message_id: str, **values: object
) -> checks.CheckMessage:
    """Return the message and hint of an id with ``values`` put in."""
    message, hint = messages[message_id]
    kind = checks.Warning if message_id.startswith("cachalot.W") else checks.Error
    return kind(message.format(**values), hint.format(**values), id=message_id)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, sorted(names)))


def _suggestion(name: object, names: Iterable[str]) -> str:
    return "".join(f"Did you mean {near!r}? " for near in get_close_matches(str(name), names, n=1))


def check_databases(**kwargs: object) -> list[checks.CheckMessage]:
    """Check ``CACHALOT_DATABASES`` against ``DATABASES``."""
    value = cachalot_settings.CACHALOT_DATABASES
    engines = {alias: config["ENGINE"] for alias, config in connections.settings.items()}
    supported = _listed(SUPPORTED_DATABASE_ENGINES)
    if value == SUPPORTED_ONLY:
        if any(_is_supported(alias, engine) for alias, engine in engines.items()):
            return []
        names = _listed(set(engines.values()))
        return [_message("cachalot.W002", engines=names, supported=supported)]
    aliases = _listed(engines)
    if not isinstance(value, _COLLECTIONS):
        return [_message("cachalot.E002", value=value, aliases=aliases)]
    if not value:
        return [_message("cachalot.W004", value=value, aliases=aliases)]
    messages = []
    for alias in value:
        if not isinstance(alias, str) or alias not in engines:
            suggestion = _suggestion(alias, engines)
            messages.append(
                _message("cachalot.E001", alias=alias, suggestion=suggestion, aliases=aliases)
            )
        elif not _is_supported(alias, engines[alias]):
            engine = engines[alias]
            messages.append(
                _message("cachalot.W003", alias=alias, engine=engine, supported=supported)
            )
    return messages


def _is_supported(db_alias: str, engine: str) -> bool:
    if cachalot_settings.CACHALOT_USE_UNSUPPORTED_DATABASE or engine in SUPPORTED_DATABASE_ENGINES:
        return True
    try:
        return is_supported_engine(engine, connections[db_alias].vendor)
    except Exception as error:
        # A missing driver, which Django reports by itself, or a wrong value of
        # CACHALOT_ADDITIONAL_SUPPORTED_DATABASES, which check_values() reports.
        logger.debug("The engine %r could not be checked: %r", engine, error)
        return True


_REDIS = "django.core.cache.backends.redis.RedisCache"
_DJANGO_REDIS = "django_redis.cache.RedisCache"
_PYMEMCACHE = "django.core.cache.backends.memcached.PyMemcacheCache"


def check_cache(**kwargs: object) -> list[checks.CheckMessage]:
    """Check the cache that ``CACHALOT_CACHE`` names. It is created, but not asked anything."""
    alias = cachalot_settings.CACHALOT_CACHE
    if not isinstance(alias, str) or alias not in settings.CACHES:
        suggestion, aliases = _suggestion(alias, settings.CACHES), _listed(settings.CACHES)
        return [_message("cachalot.E003", alias=alias, suggestion=suggestion, aliases=aliases)]
    try:
        cache = caches[alias]
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        return [_message("cachalot.E004", alias=alias, error=reason)]
    config: Any = settings.CACHES[alias]
    backend, location = config["BACKEND"], config.get("LOCATION")
    suitable = _listed(SUPPORTED_CACHE_BACKENDS)
    if isinstance(cache, DatabaseCache):
        return [_message("cachalot.W005", alias=alias, backend=backend, suitable=suitable)]
    backends = {backend, *_paths(type(cache))}
    messages = []
    if backends.isdisjoint(SUPPORTED_CACHE_BACKENDS):
        messages.append(_message("cachalot.W001", alias=alias, backend=backend, suitable=suitable))
    options = config.get("OPTIONS") or {}
    option, value = _option_that_hides_failures(backends, options)
    if value:
        messages.append(_message("cachalot.W007", alias=alias, option=option, value=value))
    if _reads_from_replicas(backends, location, options):
        messages.append(_message("cachalot.W008", alias=alias, location=location))
    return messages


def _paths(class_: type) -> set[str]:
    return {f"{parent.__module__}.{parent.__qualname__}" for parent in class_.__mro__}


def _option_that_hides_failures(
    backends: set[str], options: Mapping[str, Any]
) -> tuple[str, object]:
    """Return the name that decides and its value."""
    if _PYMEMCACHE in backends:
        return "its option 'ignore_exc'", options.get("ignore_exc")
    if _DJANGO_REDIS not in backends:
        return "", None
    # django-redis, django_redis/cache.py: the option has more weight than the setting.
    if "IGNORE_EXCEPTIONS" in options:
        return "its option 'IGNORE_EXCEPTIONS'", options["IGNORE_EXCEPTIONS"]
    setting = "DJANGO_REDIS_IGNORE_EXCEPTIONS"
    return setting, getattr(settings, setting, False)


def _reads_from_replicas(backends: set[str], location: Any, options: Mapping[str, Any]) -> bool:
    if backends.isdisjoint({_REDIS, _DJANGO_REDIS}):
        return False
    # Django (django/core/cache/backends/redis.py) and django-redis write to the first server and
    # read from the others.
    servers = re.split("[;,]", location) if isinstance(location, str) else location or ()
    if _DJANGO_REDIS not in backends or "CLIENT_CLASS" not in options:
        return len(servers) > 1
    clients = _paths(import_string(options["CLIENT_CLASS"]))
    if "django_redis.client.sentinel.SentinelClient" in clients:
        return True
    return len(servers) > 1 and "django_redis.client.sharded.ShardClient" not in clients


_COLLECTIONS = (list, tuple, set, frozenset)


def _is_switch(value: object) -> bool:
    # 0 and 1 work as well; the string "False", from an environment variable, means True.
    return isinstance(value, int) and value in (0, 1)


def _is_timeout(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value is None
    return math.isfinite(value) and value >= 0


def _are_names(value: Any) -> bool:
    return isinstance(value, _COLLECTIONS) and all(
        isinstance(name, str) and bool(name) for name in value
    )


def _is_map_of_names(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_are_names, [list(value), *value.values()]))


def _are_timeouts(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and _are_names(list(value))
        and all(map(_is_timeout, value.values()))
    )


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: object) -> bool:
    return value is not None and _is_timeout(value)


def _are_replicas(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        alias in connections.settings
        and set(replica) == {"primary", "max_lag"}
        and replica["primary"] in connections.settings
        and replica["primary"] != alias
        and _is_number(replica["max_lag"])
        and replica["max_lag"] > 0
        for alias, replica in value.items()
    )


def _is_function(value: object) -> bool:
    """Whether a key generator can be called. Raise what its import raises."""
    return callable(import_string(value) if isinstance(value, str) else value)


def _is_policy(value: object) -> bool:
    return isinstance(value, str) and value in {"bypass", "raise"}


class _Rule(NamedTuple):
    message_id: str
    allows: Callable[[Any], bool]


_SWITCH = _Rule("cachalot.E005", _is_switch)
_NAMES = _Rule("cachalot.E007", _are_names)
_FUNCTION = _Rule("cachalot.E009", _is_function)
# Of every setting but CACHALOT_CACHE and CACHALOT_DATABASES, which have checks of their own.
_RULES = {
    "CACHALOT_ENABLED": _SWITCH,
    "CACHALOT_TIMEOUT": _Rule("cachalot.E006", _is_timeout),
    "CACHALOT_CACHE_RANDOM": _SWITCH,
    "CACHALOT_CACHE_ITERATORS": _SWITCH,
    "CACHALOT_INVALIDATE_RAW": _SWITCH,
    "CACHALOT_ONLY_CACHABLE_TABLES": _NAMES,
    "CACHALOT_ONLY_CACHABLE_APPS": _NAMES,
    "CACHALOT_UNCACHABLE_TABLES": _NAMES,
    "CACHALOT_UNCACHABLE_APPS": _NAMES,
    "CACHALOT_ADDITIONAL_TABLES": _NAMES,
    "CACHALOT_DEPENDENT_TABLES": _Rule("cachalot.E008", _is_map_of_names),
    "CACHALOT_FINAL_SQL_CHECK": _SWITCH,
    "CACHALOT_USE_UNSUPPORTED_DATABASE": _SWITCH,
    "CACHALOT_ADDITIONAL_SUPPORTED_DATABASES": _NAMES,
    "CACHALOT_QUERY_KEYGEN": _FUNCTION,
    "CACHALOT_TABLE_KEYGEN": _FUNCTION,
    "CACHALOT_CACHE_ERRORS": _Rule("cachalot.E010", _is_policy),
    "CACHALOT_TIMEOUTS": _Rule("cachalot.E012", _are_timeouts),
    "CACHALOT_LOCAL_SIZE": _Rule("cachalot.E013", _is_size),
    "CACHALOT_MAX_STALENESS": _Rule("cachalot.E014", _is_number),
    "CACHALOT_REPLICAS": _Rule("cachalot.E015", _are_replicas),
    "CACHALOT_STATS": _SWITCH,
}


def check_values(**kwargs: object) -> list[checks.CheckMessage]:
    """Check the type of every other setting, and that what it names exists."""
    messages = []
    for name, rule in _RULES.items():
        value, default, reason = getattr(cachalot_settings, name), DEFAULTS[name], ""
        try:
            if rule.allows(value):
                continue
        except Exception as error:
            reason = f" ({type(error).__name__}: {error})"
        messages.append(
            _message(rule.message_id, name=name, value=value, default=default, error=reason)
        )
    labels = _listed(apps.app_configs)
    for name in ("CACHALOT_ONLY_CACHABLE_APPS", "CACHALOT_UNCACHABLE_APPS"):
        value = getattr(cachalot_settings, name)
        for label in value if _are_names(value) else ():
            if label not in apps.app_configs:
                # "django.contrib.auth" is meant to be "auth".
                suggestion = _suggestion(label.rpartition(".")[2], apps.app_configs)
                messages.append(
                    _message(
                        "cachalot.E011",
                        name=name,
                        label=label,
                        suggestion=suggestion,
                        labels=labels,
                    )
                )
    return messages


def check_names(**kwargs: object) -> list[checks.CheckMessage]:
    """Check that every ``CACHALOT_`` name in Django's settings is one that cachalot reads."""
    return [
        _message(
            "cachalot.W006",
            name=name,
            value=getattr(settings, name),
            suggestion=_suggestion(name, DEFAULTS),
            known=", ".join(DEFAULTS),
        )
        for name in sorted(dir(settings))
        if name.startswith("CACHALOT_") and name not in DEFAULTS
    ]


CHECKS = (check_databases, check_cache, check_values, check_names)

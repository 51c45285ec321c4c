"""What the system checks say."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from django.core import checks

from cachalot.settings import SETTINGS

#: Every id with its message and hint. W001 to W004, E001 and E002 mean what they have always
#: meant, and an id that was once given away never gets another meaning.
MESSAGES: dict[str, tuple[str, str]] = {
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
        "Configure a cache outside the database in CACHES, such as Redis, and name its alias in "
        "CACHALOT_CACHE; what else uses {alias!r} may go on with it. Suitable are {suitable}.",
    ),
    "cachalot.W006": (
        "{name} is {value!r}, but is not a cachalot setting. It has no effect.",
        "{suggestion}",
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
        "Django's RedisCache and django-redis' default and Sentinel clients are asked at their "
        "primary alone, unless they are subclassed, traced or have a pool of their own. Use one of "
        "these, or give CACHALOT_CACHE a cache whose LOCATION is the primary server alone.",
    ),
    "cachalot.W012": (
        "{name} names {table!r}, which is neither a table nor a model.",
        "{suggestion}Name a table as the database does, or a model as 'app.Model'. A table of no "
        "model goes into CACHALOT_ADDITIONAL_TABLES.",
    ),
    "cachalot.W013": (
        "CACHALOT_ALIASES does not say whether {alias!r} leads to the same database as {others}. "
        "They look alike.",
        "If they are one, as behind a pooler, use {{{other!r}: {alias!r}}}: then they share their "
        "results. If {other!r} is a database of its own, use {{{other!r}: {other!r}}}: then a "
        "write on one never invalidates on the other.",
    ),
    "cachalot.W014": (
        "CACHALOT_CACHE is {alias!r}, whose serializer spoils what it is given ({spoilt}). Nothing "
        "is cached.",
        "Use one that takes bytes and gives back the same, such as the default one of the backend.",
    ),
    "cachalot.W016": (
        "cachalot {version} was tested with Django {tested}; this is {installed}.",
        "Install one of these, or a cachalot that was tested with Django {installed}. What it "
        "replaces of Django may be another there, and results may be stale.",
    ),
    "cachalot.W017": (
        "CACHALOT_UNCACHABLE_TABLES is {tables!r}, and leaves out {left_out!r}.",
        "Add {left_out!r}, as in the default. Migrations that another program has applied, or "
        "that came with a restored database, are else not seen.",
    ),
    "cachalot.W018": (
        "MIDDLEWARE has {middleware!r}, which serves whole pages for {seconds!r} seconds, whatever "
        "changes meanwhile.",
        "Take it out, or silence this where pages may be as old.",
    ),
    "cachalot.W020": (
        "INSTALLED_APPS has {module!r}, which is no app and does nothing there.",
        "Take it out, and {use} in the ready() of an app of yours.",
    ),
    "cachalot.E001": (
        "CACHALOT_DATABASES names {alias!r}, which is no alias in DATABASES.",
        "{suggestion}DATABASES has {aliases}.",
    ),
    "cachalot.E003": (
        "CACHALOT_CACHE is {alias!r}, which is no alias in CACHES.",
        "{suggestion}CACHES has {aliases}.",
    ),
    "cachalot.E004": (
        "CACHALOT_CACHE is {alias!r}, a cache that cannot be created ({error}).",
        "Correct CACHES[{alias!r}], or install what its backend needs.",
    ),
    "cachalot.E020": (
        "CACHALOT_CACHE is {alias!r}, whose client {client!r} may look for the keys of one server "
        "of memcached on another while the first does not answer; LOCATION is {location!r}. When "
        "that one comes back, so do old results.",
        "Use Django's PyMemcacheCache or PyLibMCCache with their own clients, which are kept from "
        "doing so; or one server of memcached; or Redis.",
    ),
    "cachalot.E011": (
        "{name} names {label!r}, which is the label of no installed app.",
        "{suggestion}The labels are {labels}.",
    ),
    "cachalot.E017": (
        "INSTALLED_APPS has 'cachalot.contrib.admin', and lacks {missing}, which it needs.",
        "Add what is missing, or take 'cachalot.contrib.admin' out.",
    ),
    **{
        setting.rule.message_id: (setting.rule.message, setting.rule.hint)
        for setting in SETTINGS.values()
        if setting.rule is not None
    },
}

#: Those of ``manage.py check --deploy``.
DEPLOY_MESSAGES = {
    "cachalot.W009": (
        "CACHALOT_CACHE is {alias!r}, which lies in the memory of each process. {shared} Where "
        "{others} use one database, a write in one leaves stale results in the others.",
        "Use Redis or Memcached, unless {alone} alone runs this project, commands and task queues "
        "included.",
    ),
    "cachalot.E019": (
        "CACHALOT_BOARD is {value!r}, where this process cannot share the versions of {alias!r}: "
        "{error}. What it writes is stale in other processes.",
        "Name a file in a folder that all processes of the site may write, or use Redis or "
        "Memcached.",
    ),
    "cachalot.W010": (
        "CACHALOT_TIMEOUT is {timeout!r}, so nothing is kept.",
        "Use None, which keeps results until they are invalidated, or a number of seconds above "
        "0. To switch caching off, set CACHALOT_ENABLED to False.",
    ),
    "cachalot.W011": (
        "CACHALOT_CACHE is {alias!r}, a Redis server that {problem}.",
        "Set maxmemory, and maxmemory-policy to 'allkeys-lru' or 'allkeys-lfu'. What is evicted "
        "is read from the database again, and never stale.",
    ),
    "cachalot.W015": (
        "CACHALOT_CACHE is {alias!r}, a DummyCache, which keeps nothing.",
        "Configure another cache in CACHES, such as Redis, and name its alias in CACHALOT_CACHE; "
        "what else uses {alias!r} may go on with it. To switch caching off, set CACHALOT_ENABLED "
        "to False.",
    ),
    "cachalot.W019": (
        "CACHALOT_CACHE is {alias!r}, which does not answer ({error}).",
        "Start it, or correct CACHES[{alias!r}]. Until it answers, queries go to the database, and "
        "what is written is made up for later.",
    ),
    "cachalot.W022": (
        "CACHALOT_CACHE is {alias!r}, a Redis that {problem}. After a restart from a dump or a "
        "failover it may bring back old results.",
        "Allow INFO (ACL SETUSER ... +info), and use Django's RedisCache or django-redis' default "
        "or Sentinel client, neither subclassed nor traced. Else run manage.py invalidate_cachalot "
        "after each restart and failover.",
    ),
    "cachalot.W023": (
        "CACHALOT_CACHE is {alias!r}, a node of a Redis Cluster, whose backend {backend!r} asks "
        "for keys of several shards at once. Nothing is cached.",
        "Use 'cachalot.contrib.redis_cluster.RedisClusterCache' as the BACKEND.",
    ),
    "cachalot.W024": (
        "CACHALOT_CACHE is {alias!r}, whose client sends a command again, up to {retries} times, "
        "when it has got no answer. A version that is set twice brings back old results.",
        "Use Django's RedisCache or django-redis' default or Sentinel client, neither subclassed "
        "nor traced, whose writes are never sent again; or give the client no retries.",
    ),
    "cachalot.W025": (
        "CACHALOT_CACHE is {alias!r}, a Redis that runs no scripts for its user. A writer that "
        "ends lifts the marks of others, and older results may be served for a moment.",
        "Allow EVAL and EVALSHA (ACL SETUSER ... +eval +evalsha).",
    ),
    "cachalot.W021": (
        "CACHALOT_CACHE is {alias!r}, a Redis whose role is {role!r}. It lags behind another "
        "server, and nothing is cached.",
        "Have LOCATION of CACHES[{alias!r}] lead to the primary. Active replicas of KeyDB do not "
        "do: they take writes on both sides and let the later one win.",
    ),
}


def message(message_id: str, **values: object) -> checks.CheckMessage:
    """Return the message and hint of an id with ``values`` put in."""
    text, hint = MESSAGES.get(message_id) or DEPLOY_MESSAGES[message_id]
    return as_message(message_id, text.format(**values), hint.format(**values))


def as_message(message_id: str, text: str, hint: str) -> checks.CheckMessage:
    """Return a message of the level that its id names."""
    kind = checks.Warning if message_id.startswith("cachalot.W") else checks.Error
    return kind(text, hint, id=message_id)


def listed(names: Iterable[str]) -> str:
    """Return the names in quotes, sorted."""
    return ", ".join(map(repr, sorted(names)))


def suggestion(name: object, names: Iterable[str], nearness: float = 0.6) -> str:
    """Return a question, or nothing if no name is near (0 is far, 1 is equal)."""
    near = get_close_matches(str(name), names, n=1, cutoff=nearness)
    return f"Did you mean {near[0]!r}? " if near else ""

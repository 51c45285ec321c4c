"""The ``CACHALOT_*`` settings: defaults, current values, and what is supported."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from difflib import get_close_matches
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar

from django.apps import apps
from django.conf import settings
from django.utils.module_loading import import_string

from cachalot import rules
from cachalot.core.locks import fork_safe_lock
from cachalot.rules import SUPPORTED_ONLY, Setting, WrongSetting

P = ParamSpec("P")
T = TypeVar("T")

#: Engine paths that are cached, and the vendor each of them is an engine of. A wrapped engine
#: (another path, one of these vendors) counts as supported.
_VENDORS = {
    "django.db.backends.sqlite3": "sqlite",
    "django.db.backends.postgresql": "postgresql",
    "django.db.backends.mysql": "mysql",
    "django.contrib.gis.db.backends.spatialite": "sqlite",
    "django.contrib.gis.db.backends.postgis": "postgresql",
    "django.contrib.gis.db.backends.mysql": "mysql",
}

#: Dotted paths of the database engines that are cached under ``SUPPORTED_ONLY``. A project may
#: add its own or remove one; both are honoured at once.
SUPPORTED_DATABASE_ENGINES = set(_VENDORS)

#: Dotted paths of the cache backends known to be safe; subclasses of them count as well. A
#: project may add its own or remove one; the system checks honour both.
SUPPORTED_CACHE_BACKENDS = {
    "cachalot.contrib.redis_cluster.RedisClusterCache",
    "django.core.cache.backends.dummy.DummyCache",
    "django.core.cache.backends.filebased.FileBasedCache",
    "django.core.cache.backends.locmem.LocMemCache",
    "django.core.cache.backends.memcached.PyLibMCCache",
    "django.core.cache.backends.memcached.PyMemcacheCache",
    "django.core.cache.backends.redis.RedisCache",
    "django_redis.cache.RedisCache",
    "django_valkey.cache.ValkeyCache",
}

#: Every setting. The documentation gives meaning and unit of each.
SETTINGS: dict[str, Setting] = {
    "CACHALOT_ENABLED": Setting(True, rules.SWITCH),
    "CACHALOT_CACHE": Setting("default"),
    "CACHALOT_DATABASES": Setting(SUPPORTED_ONLY, rules.DATABASES),
    "CACHALOT_TIMEOUT": Setting(None, rules.TIMEOUT),
    "CACHALOT_CACHE_RANDOM": Setting(False, rules.SWITCH),
    "CACHALOT_CACHE_ITERATORS": Setting(True, rules.SWITCH),
    "CACHALOT_INVALIDATE_RAW": Setting(True, rules.SWITCH),
    "CACHALOT_ONLY_CACHABLE_TABLES": Setting((), rules.NAMES),
    "CACHALOT_ONLY_CACHABLE_APPS": Setting((), rules.NAMES),
    "CACHALOT_UNCACHABLE_TABLES": Setting(("django_migrations",), rules.NAMES),
    "CACHALOT_UNCACHABLE_APPS": Setting((), rules.NAMES),
    "CACHALOT_ADDITIONAL_TABLES": Setting((), rules.NAMES),
    "CACHALOT_DEPENDENT_TABLES": Setting({}, rules.MAP_OF_NAMES),
    "CACHALOT_FINAL_SQL_CHECK": Setting(False, rules.SWITCH),
    "CACHALOT_USE_UNSUPPORTED_DATABASE": Setting(False, rules.SWITCH),
    "CACHALOT_ADDITIONAL_SUPPORTED_DATABASES": Setting((), rules.NAMES),
    "CACHALOT_QUERY_KEYGEN": Setting("cachalot.utils.get_query_cache_key", rules.QUERY_KEYGEN),
    "CACHALOT_TABLE_KEYGEN": Setting("cachalot.utils.get_table_cache_key", rules.TABLE_KEYGEN),
    "CACHALOT_CACHE_ERRORS": Setting("bypass", rules.POLICY),
    "CACHALOT_TIMEOUTS": Setting({}, rules.TIMEOUTS),
    "CACHALOT_LOCAL_SIZE": Setting(16 * 1024 * 1024, rules.SIZE),
    "CACHALOT_MAX_STALENESS": Setting(0.0, rules.SECONDS),
    "CACHALOT_REPLICAS": Setting({}, rules.REPLICAS),
    "CACHALOT_ALIASES": Setting({}, rules.ALIASES),
    "CACHALOT_STATS": Setting(False, rules.SWITCH),
    "CACHALOT_ADAPTIVE": Setting(True, rules.SWITCH),
    "CACHALOT_WAIT_ABOVE": Setting(0.05, rules.WAIT),
    "CACHALOT_BOARD": Setting(rules.AUTOMATIC, rules.PLACE),
}
DEFAULTS = {name: setting.default for name, setting in SETTINGS.items()}


def configured(name: str) -> Any:
    """Return what a project has a setting be, right or wrong, or its default."""
    return getattr(settings, name, SETTINGS[name].default)


class Settings:
    """The current value of every ``CACHALOT_*`` setting, as an attribute.

    Reading an undefined setting gives its default, and a key generator is the function itself.
    Values follow ``override_settings`` (and whatever else sends Django's ``setting_changed``) at
    once, in every thread; after assigning to ``django.conf.settings`` by hand, call ``reload()``.

    The first access reads them all, so that a wrong one is told before anything is read or
    written, and never in the middle of a COMMIT. It raises ``ImproperlyConfigured``.
    """

    def __init__(self) -> None:
        self._lock = fork_safe_lock()
        #: Whether reads are cached at all.
        self.is_in_action = False
        #: Grows whenever settings or models have changed.
        self.epoch = 0

    # Reached only where the instance's dictionary has no values yet, so a hot path pays an
    # attribute access for a setting.
    def __getattr__(self, name: str) -> Any:
        if name not in SETTINGS:
            near = get_close_matches(name, SETTINGS, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"They are {', '.join(SETTINGS)}."
            raise AttributeError(f"{name!r} is not a cachalot setting. {hint}")
        return self.read()[name]

    def read(self) -> dict[str, Any]:
        """Read all values and return them. Raise ``ImproperlyConfigured`` for a wrong one."""
        epoch = self.epoch
        values = {each: setting.read(each, configured(each)) for each, setting in SETTINGS.items()}
        with self._lock:
            # A change while the values were being read must not be hidden by keeping the old ones.
            is_kept = epoch == self.epoch
            if is_kept:
                self.__dict__.update(values)
        if is_kept:
            for follow in _followers:
                follow()
        return values

    def are_read(self) -> bool:
        """Whether the values are known, and right."""
        return not SETTINGS.keys().isdisjoint(self.__dict__)

    def load(self) -> None:
        """Bring the app into action: reads are cached. It need not be in ``INSTALLED_APPS``.

        Raise ``ImproperlyConfigured`` for a wrong value, and ``AppRegistryNotReady`` if the models
        are still being imported, so that not all tables are known.
        """
        apps.check_models_ready()
        # By its path: what is wired stands above the settings.
        import_string("cachalot.apps.wire")()
        self.is_in_action = True
        self.read()

    def unload(self) -> None:
        """Take the app out of action until ``load()`` or ``reload()``: no read is cached.

        Writes go on invalidating, so that nothing is stale when it is back.
        """
        self.is_in_action = False

    def reload(self) -> None:
        """Ask Django for every value again, and bring the app into action as ``load()`` does."""
        self.forget()
        self.load()

    def forget(self) -> None:
        """Forget every value read so far; the next access asks Django again."""
        with self._lock:
            self.epoch += 1
            for name in SETTINGS:
                self.__dict__.pop(name, None)
        for forget in _forgetters:
            forget()


# Clear what was derived from settings or models.
_forgetters: list[Callable[[], None]] = []
# Do what the values ask for.
_followers: list[Callable[[], None]] = []


def forget_on_change(forget: Callable[[], None]) -> None:
    """Have ``forget`` called whenever settings or models have changed."""
    _forgetters.append(forget)


def follow(function: Callable[[], None]) -> None:
    """Have ``function`` called whenever settings have been read, before the first one is used."""
    _followers.append(function)
    if cachalot_settings.are_read():
        function()


cachalot_settings = Settings()


def memo(maxsize: int) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Remember what a function of settings or models returns, until these change.

    At most ``maxsize`` results are kept; arguments must be hashable.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @lru_cache(maxsize)
        def remembered(epoch: int, *args: Any, **kwargs: Any) -> T:
            return function(*args, **kwargs)

        forget_on_change(remembered.cache_clear)

        @wraps(function)
        def remembering(*args: P.args, **kwargs: P.kwargs) -> T:
            # Under its epoch, what another thread has begun to derive from the old values is
            # never found again.
            return remembered(cachalot_settings.epoch, *args, **kwargs)  # type: ignore[arg-type]

        return remembering

    return decorate


@memo(maxsize=1)
def has_own_query_keys() -> bool:
    """Whether a project names queries by a function of its own."""
    default = import_string(SETTINGS["CACHALOT_QUERY_KEYGEN"].default)
    return bool(cachalot_settings.CACHALOT_QUERY_KEYGEN is not default)


@memo(maxsize=1)
def has_own_table_keys() -> bool:
    """Whether a project names the versions of tables by a function of its own."""
    default = import_string(SETTINGS["CACHALOT_TABLE_KEYGEN"].default)
    return bool(cachalot_settings.CACHALOT_TABLE_KEYGEN is not default)


def follow_change(*, setting: str, **kwargs: object) -> None:
    """Receive Django's ``setting_changed``."""
    if setting in SETTINGS or setting in {"CACHES", "DATABASES", "INSTALLED_APPS"}:
        cachalot_settings.forget()
        with suppress(WrongSetting):  # which is told to whoever uses it
            cachalot_settings.read()


def is_supported_engine(engine: str, vendor: str) -> bool:
    """Whether queries of this engine are cached under ``SUPPORTED_ONLY``.

    ``engine`` is the path in ``DATABASES``; ``vendor`` is the connection's, which tells what a
    wrapped engine wraps.
    """
    if engine in SUPPORTED_DATABASE_ENGINES:
        return True
    if engine in cachalot_settings.CACHALOT_ADDITIONAL_SUPPORTED_DATABASES:
        return True
    if engine in _VENDORS:
        return False  # the project removed it
    return any(
        vendor == known and path in SUPPORTED_DATABASE_ENGINES for path, known in _VENDORS.items()
    )


def is_cached_database(db_alias: str, engine: str, vendor: str) -> bool:
    """Whether ``CACHALOT_DATABASES`` lets this alias be cached."""
    aliases = cachalot_settings.CACHALOT_DATABASES
    if aliases == SUPPORTED_ONLY:
        return is_supported_engine(engine, vendor) or bool(
            cachalot_settings.CACHALOT_USE_UNSUPPORTED_DATABASE
        )
    return db_alias in aliases

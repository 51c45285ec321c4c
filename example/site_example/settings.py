"""Configure the example site.

Environment variables: ``DATABASE_URL`` and ``CACHE_URL`` (see ``site_example.environment``),
``DEBUG`` and ``CACHALOT_ENABLED``, which are on unless they are ``0``, and ``LOG_LEVEL``.
"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from site_example.environment import cache_from_url, database_from_url

EXAMPLE_DIR = Path(__file__).resolve().parent.parent

# The demo measures, so it runs as a site in production would, and counts nothing.
IS_DEMO = sys.argv[1:2] == ["demo"]
DEBUG = os.environ.get("DEBUG", "1") != "0" and not IS_DEMO
SECRET_KEY = "for-this-example-on-your-own-machine-only-never-on-a-public-site"
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
INTERNAL_IPS = ["127.0.0.1", "::1"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "cachalot",
    "library",
]
if not IS_DEMO:
    # It counts.
    INSTALLED_APPS.append("cachalot.contrib.admin")

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "library.modes.ModesMiddleware",
]

# Below each page.
SHOWS_COSTS = not IS_DEMO

if DEBUG and find_spec("debug_toolbar"):
    from debug_toolbar.settings import PANELS_DEFAULTS

    INSTALLED_APPS.append("debug_toolbar")
    MIDDLEWARE.insert(0, "debug_toolbar.middleware.DebugToolbarMiddleware")
    DEBUG_TOOLBAR_PANELS = [*PANELS_DEFAULTS, "cachalot.panels.CachalotPanel"]
    DEBUG_TOOLBAR_CONFIG = {
        "SHOW_COLLAPSED": True,
        "DISABLE_PANELS": {
            # Its stack trace of each call takes longer than a hit. It can be ticked.
            "debug_toolbar.panels.cache.CachePanel",
            "debug_toolbar.panels.profiling.ProfilingPanel",
            "debug_toolbar.panels.redirects.RedirectsPanel",
        },
    }

ROOT_URLCONF = "site_example.urls"
WSGI_APPLICATION = "site_example.wsgi.application"

TEMPLATES = [
    {
        "NAME": "django",
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
    {
        "NAME": "jinja2",
        "BACKEND": "django.template.backends.jinja2.Jinja2",
        "APP_DIRS": True,
        "OPTIONS": {
            "environment": "site_example.jinja2.environment",
            "extensions": ["cachalot.jinja2ext.cachalot"],
        },
    },
]

if "DATABASE_URL" in os.environ:
    DATABASES = {"default": database_from_url(os.environ["DATABASE_URL"])}
else:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": EXAMPLE_DIR / "library.sqlite3",
        }
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CACHE_URL = os.environ.get("CACHE_URL", "locmem://")
CACHES = {
    "default": cache_from_url(CACHE_URL, "library"),
    # Django's {% cache %} prefers this alias when there is one.
    "template_fragments": cache_from_url(CACHE_URL, "library-fragments"),
}

# Off, only the views with @cachalot_enabled are cached.
CACHALOT_ENABLED = os.environ.get("CACHALOT_ENABLED", "1") != "0"
CACHALOT_STATS = not IS_DEMO

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "{levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    # DEBUG tells of each query that was not cached, and of each invalidation.
    "loggers": {
        name: {"handlers": ["console"], "level": os.environ.get("LOG_LEVEL", "WARNING")}
        for name in ("cachalot", "library")
    },
}

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"

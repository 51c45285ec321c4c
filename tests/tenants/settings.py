"""Django's settings for the tests with django-tenants. The environment chooses the cache."""

from __future__ import annotations

import os
from typing import Any

from tests.settings import _DATABASES, CACHES

__all__ = ["CACHES"]

_POSTGRESQL = _DATABASES["postgresql"]
DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        **_POSTGRESQL,
        "ENGINE": "django_tenants.postgresql_backend",
        # Another process of a running test is told the database.
        "NAME": os.environ.get("CACHALOT_TEST_NAME") or f"{_POSTGRESQL['NAME']}_tenants",
    },
}
DATABASE_ROUTERS = ["django_tenants.routers.TenantSyncRouter"]
SHARED_APPS = [
    "django_tenants",
    "cachalot",
    "tests.tenants.accounts",
    "django.contrib.contenttypes",
    "django.contrib.auth",
]
# What is in both lists has a table in the public schema and one in each tenant's.
TENANT_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "tests.tenants.shop",
]
INSTALLED_APPS = [*SHARED_APPS, *(app for app in TENANT_APPS if app not in SHARED_APPS)]
TENANT_MODEL = "accounts.Customer"
TENANT_DOMAIN_MODEL = "accounts.Domain"
MIDDLEWARE = [
    "django_tenants.middleware.main.TenantMainMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
ROOT_URLCONF = "tests.tenants.urls"
PUBLIC_SCHEMA_URLCONF = "tests.tenants.urls"
ALLOWED_HOSTS = [".example.com"]
# Short hashes: logging in is not what is tested.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SECRET_KEY = "tests"
USE_TZ = True

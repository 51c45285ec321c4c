"""System checks of the settings."""

from __future__ import annotations

from cachalot.checks import deploy, redis
from cachalot.checks.caches import check_cache
from cachalot.checks.databases import check_aliases, check_databases
from cachalot.checks.middleware import check_middleware
from cachalot.checks.tables import check_tables, check_tables_of_databases
from cachalot.checks.values import check_apps, check_modules, check_names, check_values
from cachalot.checks.versions import check_django

CHECKS = (
    check_django,
    check_databases,
    check_aliases,
    check_cache,
    check_values,
    check_apps,
    check_tables,
    check_names,
    check_modules,
    check_middleware,
)
DATABASE_CHECKS = (check_tables_of_databases,)
DEPLOY_CHECKS = (*deploy.CHECKS, *redis.CHECKS)

"""Whether databases and ``CACHALOT_DATABASES`` agree."""

from __future__ import annotations

import logging

from django.conf import settings
from django.core import checks
from django.db import connections
from django.db.utils import load_backend

from cachalot.checks.messages import listed, message, suggestion
from cachalot.core.connection.databases import lookalikes_of
from cachalot.rules import COLLECTIONS, SUPPORTED_ONLY, WrongSetting
from cachalot.settings import SUPPORTED_DATABASE_ENGINES, configured, is_supported_engine

logger = logging.getLogger("cachalot")


def check_databases(**kwargs: object) -> list[checks.CheckMessage]:
    """Check ``CACHALOT_DATABASES`` against ``DATABASES``."""
    value = configured("CACHALOT_DATABASES")
    # Of the moment: connections keep the DATABASES that they have begun with.
    engines = {
        alias: database.get("ENGINE") or "django.db.backends.dummy"
        for alias, database in settings.DATABASES.items()
    }
    supported = listed(SUPPORTED_DATABASE_ENGINES)
    if value == SUPPORTED_ONLY:
        if any(map(_is_supported, engines.values())):
            return []
        names = listed(set(engines.values()))
        return [message("cachalot.W002", engines=names, supported=supported)]
    if not isinstance(value, COLLECTIONS):
        return []  # E002
    aliases = listed(engines)
    if not value:
        return [message("cachalot.W004", value=value, aliases=aliases)]
    messages = []
    for alias in value:
        if not isinstance(alias, str) or alias not in engines:
            near = suggestion(alias, engines)
            messages.append(message("cachalot.E001", alias=alias, suggestion=near, aliases=aliases))
        elif not _is_supported(engines[alias]):
            engine = engines[alias]
            messages.append(
                message("cachalot.W003", alias=alias, engine=engine, supported=supported)
            )
    return messages


def check_aliases(**kwargs: object) -> list[checks.CheckMessage]:
    """Check that it is known which aliases lead to one database. No server is asked."""
    try:
        alike = {
            tuple(sorted({alias, *others}))
            for alias in connections.settings
            if (others := lookalikes_of(alias))
        }
    except WrongSetting:
        return []  # which has a message already
    return [
        message("cachalot.W013", alias=aliases[0], other=aliases[1], others=listed(aliases[1:]))
        for aliases in sorted(alike)
    ]


def _is_supported(engine: str) -> bool:
    if engine in SUPPORTED_DATABASE_ENGINES or configured("CACHALOT_USE_UNSUPPORTED_DATABASE"):
        return True
    try:
        return is_supported_engine(engine, load_backend(engine).DatabaseWrapper.vendor)
    except Exception as error:
        # A missing driver, which Django reports by itself, or a wrong value of a setting, which
        # check_values() reports.
        logger.debug("The engine %r could not be checked: %r", engine, error)
        return True

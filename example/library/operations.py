"""Show to whoever runs the site what the cache does."""

import logging
from typing import Any

from django.http import HttpRequest, JsonResponse

from cachalot.api import get_stats

logger = logging.getLogger(__name__)


def log_invalidation(sender: str, *, db_alias: str, **kwargs: Any) -> None:
    """Log that the table ``sender`` was changed; a receiver of ``post_invalidation``."""
    logger.debug("%s of %s was invalidated", sender, db_alias)


def numbers(request: HttpRequest) -> JsonResponse:
    """Show what this process has counted."""
    return JsonResponse(get_stats())

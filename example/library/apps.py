"""Name the library app, and connect what it wants to hear of."""

from django.apps import AppConfig

from cachalot.signals import post_invalidation
from library.operations import log_invalidation


class LibraryConfig(AppConfig):
    """Configure the library app."""

    name = "library"

    def ready(self) -> None:
        """Log invalidations."""
        post_invalidation.connect(log_invalidation)

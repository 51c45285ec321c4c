"""Name the library app."""

from django.apps import AppConfig


class LibraryConfig(AppConfig):
    """Configure the library app."""

    name = "library"

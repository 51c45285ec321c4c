"""Cache every ORM read until one of its tables changes."""

__version__ = "3.0.0.dev0"

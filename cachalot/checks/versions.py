"""System check of the version of Django."""

from __future__ import annotations

import django
from django.core import checks

from cachalot import __version__
from cachalot.checks.messages import message

#: Those that the suite runs on.
TESTED_DJANGO = ("4.2", "5.2", "6.0", "6.1")


def check_django(**kwargs: object) -> list[checks.CheckMessage]:
    """Check that cachalot, which replaces parts of Django, was tested with this one."""
    installed = ".".join(map(str, django.VERSION[:2]))
    if installed in TESTED_DJANGO:
        return []
    return [
        message(
            "cachalot.W016",
            version=__version__,
            tested=", ".join(TESTED_DJANGO),
            installed=installed,
        )
    ]

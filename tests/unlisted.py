"""The settings of a project that leaves cachalot out of its apps until it is switched on."""

from tests import settings
from tests.settings import *  # noqa: F403

INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != "cachalot"]

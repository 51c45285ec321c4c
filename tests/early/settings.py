from tests import settings
from tests.settings import *  # noqa: F403

INSTALLED_APPS = ["tests.early", *settings.INSTALLED_APPS]

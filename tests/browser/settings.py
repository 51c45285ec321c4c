"""Django's settings for the tests in a browser: those of the example site, and a few more pages."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

EXAMPLE_DIR = Path(__file__).resolve().parents[2] / "example"

sys.path.insert(0, str(EXAMPLE_DIR))
for variable in ("CACHALOT_ENABLED", "CACHE_URL", "DATABASE_URL", "DEBUG", "LOG_LEVEL"):
    os.environ.pop(variable, None)

from site_example.settings import *  # noqa: E402, F403

# In a file, so that the server's threads have connections of their own, as on a real site.
DATABASES["default"]["TEST"] = {  # noqa: F405
    "NAME": Path(tempfile.gettempdir()) / f"cachalot-browser-{os.getpid()}.sqlite3"
}
# Open, to be clicked.
DEBUG_TOOLBAR_CONFIG["SHOW_COLLAPSED"] = False  # noqa: F405
ROOT_URLCONF = "tests.browser.urls"
# Short hashes: logging in is not what is tested.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

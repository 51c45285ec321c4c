"""Django's settings for a worker: the command passes what differs in the environment."""

from __future__ import annotations

import json
import os

_given = json.loads(os.environ["CACHALOT_BENCHMARK"])

DATABASES = _given["databases"]
CACHES = _given["caches"]
INSTALLED_APPS = [*_given["apps"], "benchmarks.library"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SECRET_KEY = "benchmarks"
USE_TZ = True
globals().update(_given["settings"])

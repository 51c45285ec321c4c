"""A new project without a word of configuration, under gunicorn with four workers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any, ClassVar

from django.test import SimpleTestCase

FILES = {
    "settings.py": """
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "site.sqlite3"}}
INSTALLED_APPS = ["cachalot", "django.contrib.contenttypes", "django.contrib.auth"]
ROOT_URLCONF = "urls"
SECRET_KEY = __import__("secrets").token_hex()  # each process has another
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ALLOWED_HOSTS = ["*"]
""",
    "urls.py": """
import os
from django.contrib.auth.models import Group
from django.db import connection
from django.http import JsonResponse
from django.test.utils import CaptureQueriesContext
from django.urls import path

def groups(request):
    with CaptureQueriesContext(connection) as queries:
        names = list(Group.objects.order_by("pk").values_list("name", flat=True))
    return JsonResponse({"names": names, "queries": len(queries), "worker": os.getpid()})

def rename(request, name):
    Group.objects.update(name=name)
    return JsonResponse({"worker": os.getpid()})

urlpatterns = [path("", groups), path("rename/<str:name>", rename)]
""",
    "wsgi.py": """
from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
""",
    "manage.py": """
import sys
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
""",
}
WORKERS = 4


class WorkerTests(SimpleTestCase):
    """Four workers and a ``manage.py shell`` beside them have a cache each."""

    environment: ClassVar[dict[str, str]]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.folder = Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        for name, content in FILES.items():
            (cls.folder / name).write_text(content)
        cls.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("CACHALOT_")
        } | {
            "DJANGO_SETTINGS_MODULE": "settings",
            "PYTHONPATH": os.pathsep.join([str(cls.folder), *sys.path]),
        }
        cls.manage("migrate", "-v0")
        cls.shell("Group(name='0').save()")
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            cls.address = f"127.0.0.1:{listener.getsockname()[1]}"
        cls.server = subprocess.Popen(
            f"{sys.executable} -m gunicorn wsgi --bind {cls.address} --workers {WORKERS} "
            "--log-level error".split(),
            cwd=cls.folder,
            env=cls.environment,
        )
        cls.addClassCleanup(cls.server.wait)
        cls.addClassCleanup(cls.server.send_signal, signal.SIGTERM)
        until = time.monotonic() + 30
        while len({cls.get()["worker"] for _ in range(20)}) < WORKERS:
            assert time.monotonic() < until, "not all workers answer"

    @classmethod
    def manage(cls, *arguments: str) -> None:
        subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=cls.folder,
            env=cls.environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    @classmethod
    def shell(cls, code: str) -> None:
        cls.manage("shell", "-c", f"from django.contrib.auth.models import Group; {code}")

    @classmethod
    def get(cls, path: str = "") -> Any:
        for _ in range(300):
            try:
                with urllib.request.urlopen(f"http://{cls.address}/{path}", timeout=30) as response:
                    return json.load(response)
            except OSError:
                time.sleep(0.1)
        raise AssertionError("the server does not answer")

    def assertAllShow(self, name: str) -> None:
        """Each worker has the same page, and soon has it without a query.

        Other projects of this user may write to tables of the same names meanwhile.
        """
        queries: dict[int, list[int]] = {}
        until = time.monotonic() + 30
        while len(queries) < WORKERS or any(counts[-2:] != [0, 0] for counts in queries.values()):
            self.assertLess(time.monotonic(), until, queries)
            page = self.get()
            self.assertEqual(page["names"], [name])
            queries.setdefault(page["worker"], []).append(page["queries"])

    def test_every_page_is_right(self) -> None:
        self.assertAllShow("0")
        for number in range(1, 11):
            name = str(number)
            self.get(f"rename/{name}")
            self.assertAllShow(name)
        self.shell("Group.objects.update(name='a')")
        self.assertAllShow("a")

"""Where the suites run: a virtual environment, source distributions, settings modules."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.packages.suites import BUILD_REQUIREMENTS, TEST_REQUIREMENTS, Suite

RECORDING = Path(__file__).with_name("recording.py")
_LOCAL_MEMORY = """
CACHES = globals().get("CACHES") or {
    "default": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "OPTIONS": {"MAX_ENTRIES": 100_000},
    }
}
"""
# A tuple stays a tuple: tests add theirs to it.
_INSTALLED = """
INSTALLED_APPS = type(INSTALLED_APPS)([*INSTALLED_APPS, "cachalot"])
"""
# Django's own runner takes its apps from itself, after it has imported the settings.
_INSTALLED_IN_DJANGO = """
import __main__
__main__.ALWAYS_INSTALLED_APPS.append("cachalot")
"""


class StepFailed(Exception):
    """A command that has to succeed did not; the message holds its output."""


def run(command: Iterable[object], **options: object) -> None:
    """Run a command; raise ``StepFailed`` with all it said if it fails."""
    arguments = [str(argument) for argument in command]
    finished = subprocess.run(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **options,  # type: ignore[call-overload]
    )
    if finished.returncode:
        raise StepFailed(f"{' '.join(arguments)}\n{finished.stdout}")


class Environment:
    """A virtual environment with Django, and the packages installed as they are added."""

    def __init__(
        self, work: Path, downloads: Path, base_python: str, django: str, tree: Path
    ) -> None:
        self.work = work
        self.django = django
        self.downloads = downloads
        self.python = work / "env" / "bin" / "python"
        # The tests of the tree itself must not be importable: most packages call theirs `tests`.
        self.path = work / "path"
        shutil.copytree(
            tree / "cachalot", self.path / "cachalot", ignore=shutil.ignore_patterns("__pycache__")
        )
        run([base_python, "-m", "venv", work / "env"])
        self._pip("install", *BUILD_REQUIREMENTS, *TEST_REQUIREMENTS, django)

    def _pip(self, command: str, *arguments: object) -> None:
        run(
            [self.python, "-m", "pip", command, *arguments],
            env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        )

    def add(self, suite: Suite) -> Path:
        """Fetch the source distribution, unless it has been; unpack and install it.

        Return the directory that its suite runs in.
        """
        if not list(self.downloads.glob(suite.archive)):
            self._pip(
                "download",
                "--no-deps",
                "--no-build-isolation",
                "--no-binary=:all:",
                f"--dest={self.downloads}",
                f"{suite.name}=={suite.version}",
            )
        (archive,) = self.downloads.glob(suite.archive)
        sources = self.work / suite.name
        with tarfile.open(archive) as tar:
            tar.extractall(sources, filter="data")
        if not suite.is_django:
            self._pip("install", "--no-build-isolation", archive, *suite.requirements, self.django)
        (root,) = sources.iterdir()
        return root / suite.directory

    def record(self, suite: Suite, directory: Path, with_cachalot: bool, seconds: int) -> Path:
        """Run the suite and return the file with its records; raise ``StepFailed`` if none are."""
        variant = "with" if with_cachalot else "without"
        settings = f"{suite.name.replace('-', '_')}_{variant}"
        text = f"from {suite.settings} import *\n{suite.also}{_LOCAL_MEMORY}"
        if with_cachalot:
            text += _INSTALLED_IN_DJANGO if suite.is_django else _INSTALLED
        (self.path / f"{settings}.py").write_text(text)
        records = self.work / f"{settings}.json"
        log = self.work / f"{settings}.log"
        command = [part.format(settings=settings) for part in suite.command]
        with log.open("w") as output:
            subprocess.run(
                [self.python, RECORDING, records, *command],
                cwd=directory,
                env=self._environ(suite.environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=seconds,
                check=False,
            )
        if not records.exists() or records.read_text() == "{}":
            raise StepFailed(f"{suite.name} {variant} cachalot ran no test.\n{log.read_text()}")
        return records

    def _environ(self, also: Mapping[str, str]) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("HOME", "PATH", "TMPDIR") if name in os.environ}
        return {
            **kept,
            "PYTHONPATH": str(self.path),
            "PYTHONHASHSEED": "0",
            "LANG": "C.UTF-8",
            **also,
        }

"""Where the contenders run: virtual environments, and a copy of this checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.contenders import DJANGO, DRIVERS, Contender

ROOT = Path(__file__).resolve().parents[1]


class CommandFailed(Exception):
    """A command that has to succeed did not; the message holds its output."""


def default_directory() -> Path:
    """Return where environments are kept from one run to the next."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches, "cachalot-benchmarks")


def _run(*command: object) -> None:
    finished = subprocess.run(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if finished.returncode:
        raise CommandFailed(f"{' '.join(map(str, command))}\n{finished.stdout}")


class Environments:
    """One virtual environment for each set of packages, made when it is first needed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def python_for(self, contender: Contender) -> str:
        """Return the interpreter of the contender's environment.

        Raise ``CommandFailed`` if it cannot be made.
        """
        version = ".".join(map(str, sys.version_info[:2]))
        own = contender.requirement
        environment = self._directory / f"{own.partition('==')[0] if own else 'django'}-{version}"
        requirements = [DJANGO, *DRIVERS, *([own] if own else [])]
        python = environment / "bin" / "python"
        # Written last: an environment without it is not finished.
        mark = environment / "requirements.txt"
        if not mark.exists() or mark.read_text().split("\n") != requirements:
            _run(sys.executable, "-m", "venv", "--clear", environment)
            _run(python, "-m", "pip", "install", "--disable-pip-version-check", *requirements)
            mark.write_text("\n".join(requirements))
        return str(python)


class Tree:
    """A copy of this checkout, so that editing it during a run changes nothing.

    ``benchmarks`` and ``cachalot`` lie in directories of their own: a contender must not import
    this checkout's ``cachalot`` instead of the package of the same name.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        for name in ("benchmarks", "cachalot"):
            shutil.copytree(
                ROOT / name,
                directory / f"of-{name}" / name,
                ignore=shutil.ignore_patterns("__pycache__"),
            )

    def path_for(self, contender: Contender) -> str:
        """Return what ``PYTHONPATH`` is for the contender."""
        names = ["benchmarks", *(["cachalot"] if contender.uses_tree else [])]
        return os.pathsep.join(str(self._directory / f"of-{name}") for name in names)

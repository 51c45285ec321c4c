"""Build what is uploaded, and test what was built: ``tox run -e package -- DIRECTORY``.

The files are left in the directory. Nothing else is written to the checkout.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: What a build adds to the files of the repository.
ADDED = re.compile(r"PKG-INFO|setup\.cfg|django_cachalot\.egg-info(/.*)?")
IGNORED = [".git", *(ROOT / ".gitignore").read_text().replace("/\n", "\n").split()]


def run(*command: object, cwd: Path | None = None) -> None:
    """Run a command; the program ends if it fails."""
    print("$", *command, flush=True)
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    if subprocess.run(list(map(str, command)), cwd=cwd, env=environment, check=False).returncode:
        sys.exit(f"ERROR: {command[0]} failed.")


def files_of(tree: Path) -> set[str]:
    return {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()}


def ignored(directory: str, names: list[str]) -> set[str]:
    """Return what the repository does not hold: paths in .gitignore are of the root."""
    relative = os.path.relpath(directory, ROOT)
    return {
        name
        for name in names
        for pattern in IGNORED
        if fnmatch.fnmatch(name, pattern)
        or fnmatch.fnmatch(os.path.normpath(os.path.join(relative, name)), pattern)
    }


def main(directory: str) -> None:
    dist = Path(directory).resolve()
    dist.mkdir(parents=True, exist_ok=True)
    if list(dist.iterdir()):
        sys.exit(f"ERROR: {dist} is not empty.")
    with tempfile.TemporaryDirectory() as temporary:
        build_and_test(dist, Path(temporary))


def build_and_test(dist: Path, work: Path) -> None:
    # Builds leave files behind, and find those of older ones.
    tree = work / "tree"
    shutil.copytree(ROOT, tree, ignore=ignored)
    held = files_of(tree)
    # The wheel is built from the unpacked sdist.
    run(sys.executable, "-m", "build", "--outdir", dist, tree)
    (sdist,), (wheel,) = dist.glob("*.tar.gz"), dist.glob("*.whl")

    with tarfile.open(sdist) as archive:
        archive.extractall(work / "sdist", filter="data")
    (unpacked,) = (work / "sdist").iterdir()
    found = {file for file in files_of(unpacked) if not ADDED.fullmatch(file)}
    if found != held:
        sys.exit(f"ERROR: only in the sdist or only in the repository: {sorted(found ^ held)}")
    # It tells as well whether the wheel lacks something of the package or has more. W004 is what
    # every migration of Django's is: a module that begins with a digit.
    run(
        *("check-wheel-contents", "--ignore", "W004", "--toplevel", "cachalot"),
        *("--package", tree / "cachalot", wheel),
    )
    run("twine", "--no-color", "check", "--strict", sdist, wheel)

    venv.create(work / "venv", with_pip=True)
    python = work / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", f"{wheel}[test,lint]")
    print("What reads the sources, in the unpacked sdist")
    run(python, "runtests.py", "-k", "test_layout", cwd=unpacked)
    # Without the package there is only the wheel to import.
    shutil.rmtree(unpacked / "cachalot")
    is_wheel = f"import cachalot; assert cachalot.__file__.startswith({str(work / 'venv')!r})"
    run(python, "-c", is_wheel, cwd=unpacked)
    print("A user's types, with the wheel")
    run(python, "-m", "mypy", "--cache-dir", work / "mypy", "tests/typing", cwd=unpacked)
    print("The suite, with the wheel")
    # The model of the protocol and the comparison of packages say nothing of a wheel.
    others = (path for name in ("protocol", "packages") for path in ("--ignore", f"tests/{name}"))
    run(python, "runtests.py", "-k", "not test_layout", *others, cwd=unpacked)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "dist")

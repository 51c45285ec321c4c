"""Run other packages' own tests without and with cachalot: what passes without must pass with.

    python -m tests.packages                        # all, on SQLite and local memory
    python -m tests.packages django-taggit Django   # these
    python -m tests.packages --downloads ~/.cache/sdists --tree ../changed

Source distributions of pinned versions come from PyPI, by pip, and are kept in ``--downloads``.
They are unpacked and installed into a virtual environment of ``--python``, with Django, in
``--work``; nothing in them is edited. The settings of the two runs differ by ``"cachalot"`` at the
end of ``INSTALLED_APPS``.

A test that asserts how many queries run may fail, if fewer did; ``suites.py`` lists them, and one
that is listed must still fail. The exit code is 1 if anything else differs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from tests.packages.comparison import Comparison, compare
from tests.packages.environment import Environment, StepFailed
from tests.packages.suites import DJANGO_VERSION, SUITES, Suite

#: Of each package; when much is broken, a few tracebacks tell as much as all.
MAX_PROBLEMS_SHOWN = 20
#: Of each problem; some assertions print a whole page.
MAX_CHARACTERS_SHOWN = 5000
ROOT = Path(__file__).resolve().parents[2]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.packages",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="packages; by default all")
    parser.add_argument(
        "--python", default=sys.executable, help="what the environment is made of; 3.10 to 3.13"
    )
    parser.add_argument(
        "--django", default=DJANGO_VERSION, help="version; the lists hold for %(default)s"
    )
    parser.add_argument("--downloads", type=Path, help="directory that keeps what was downloaded")
    parser.add_argument("--work", type=Path, help="directory, not yet there, to work in and keep")
    parser.add_argument("--tree", type=Path, default=ROOT, help="whose cachalot/ is tested")
    parser.add_argument("--timeout", type=int, default=600, help="seconds for each run")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - {suite.name for suite in SUITES}:
        parser.error(f"no such package: {', '.join(sorted(unknown))}")
    return arguments


def run_suite(environment: Environment, suite: Suite, seconds: int) -> Comparison:
    directory = environment.add(suite)
    without, with_ = (
        json.loads(environment.record(suite, directory, with_cachalot, seconds).read_text())
        for with_cachalot in (False, True)
    )
    return compare(without, with_, suite.counting, suite.at_least)


def main() -> int:
    """Return 0 if nothing differs that must not."""
    arguments = parse_arguments()
    suites = [
        replace(suite, version=arguments.django) if suite.is_django else suite
        for suite in SUITES
        if not arguments.names or suite.name in arguments.names
    ]
    row = "{:<22} {:>8} {:>6} {:>15} {:>12} {:>15} {:>8}".format
    comparisons: dict[str, Comparison] = {}
    problems: list[str] = []
    with tempfile.TemporaryDirectory(prefix="cachalot-packages-") as temporary:
        work = (arguments.work or Path(temporary, "work")).resolve()
        downloads = (arguments.downloads or Path(temporary, "downloads")).resolve()
        downloads.mkdir(parents=True, exist_ok=True)
        environment = Environment(
            work, downloads, arguments.python, f"Django=={arguments.django}", arguments.tree
        )
        print(
            row("package", "version", "tests", "passed without", "passed with", "count queries", "")
        )
        for suite in suites:
            started = time.monotonic()
            try:
                comparison = run_suite(environment, suite, arguments.timeout)
            except (StepFailed, subprocess.TimeoutExpired) as error:
                problems.append(f"{suite.name}: {error}")
                continue
            comparisons[suite.name] = comparison
            problems.extend(f"{suite.name}: {problem}" for problem in comparison.problems)
            print(
                row(
                    suite.name,
                    suite.version,
                    comparison.tests,
                    comparison.passed_without,
                    comparison.passed_with,
                    len(comparison.counting),
                    f"{time.monotonic() - started:.0f}s",
                ),
                flush=True,
            )
    if problems:
        for name in (suite.name for suite in suites):
            own = [
                problem[:MAX_CHARACTERS_SHOWN]
                for problem in problems
                if problem.startswith(f"{name}: ")
            ]
            if own:
                print("", *own[:MAX_PROBLEMS_SHOWN], sep="\n")
            if len(own) > MAX_PROBLEMS_SHOWN:
                print(f"{name}: and {len(own) - MAX_PROBLEMS_SHOWN} more")
        print(f"{len(suites)} packages: {len(problems)} differences that must not be")
        return 1
    passed = sum(comparison.passed_both for comparison in comparisons.values())
    counting = sum(len(comparison.counting) for comparison in comparisons.values())
    print(
        f"{len(suites)} packages: {passed} tests pass without and with cachalot, "
        f"{counting} count queries"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Count the instructions of whole operations, which no other load on the machine changes.

    python -m benchmarks.instructions
    python -m benchmarks.instructions --operations get save --contenders ours --profiles DIRECTORY

Each contender runs under Valgrind's callgrind, as ``python -m benchmarks`` runs it. Every operation
is done a number of times and then twice that number: the difference is what it costs, without
what happens once. Of a miss, the write before it is counted alone and taken off. What is done by
the clock is done too often: Valgrind makes everything some fifty times slower. Neither the
system's own work counts nor the waiting for servers.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks.catalogue import GROUPS, SMALLEST, Entry, chosen, entries_of
from benchmarks.contenders import CONTENDERS
from benchmarks.environments import CommandFailed, Environments, Tree, default_directory
from benchmarks.report import table
from benchmarks.stacks import STACKS, Servers
from benchmarks.team import Process, WorkerFailed, team_on

OPERATIONS = ["get", "foreign-key", "exists", "count", "rows-10", "select-related", "writes"]
#: Interpreters adapt code that has run often.
WARM_UP = 40


def instructions_of(
    process: Process, entry: Entry, phase: str, calls: int, directory: Path
) -> float:
    """Return the instructions of one call."""
    if phase == "miss":
        both = instructions_of(process, entry, "both", calls, directory)
        return both - instructions_of(process, entry, "change", calls, directory)
    phase = "miss" if phase == "both" else phase

    def repeat(number: int) -> None:
        process.ask("repeat", entry=asdict(entry), phase=phase, number=number)

    repeat(WARM_UP)
    name = f"{process.contender.name}-{entry.name}-{phase}"
    _dump(process, directory, "before")
    repeat(calls)
    once = _dump(process, directory, "once")
    repeat(2 * calls)
    return (_dump(process, directory, name) - once) / calls


def _dump(process: Process, directory: Path, name: str) -> int:
    """Return how many instructions the process has run since the last dump, kept as ``name``."""
    before = set(directory.glob("callgrind.*"))
    subprocess.run(["vgdb", f"--pid={process.pid}", "dump"], check=True, capture_output=True)
    (dumped,) = set(directory.glob("callgrind.*")) - before
    dumped = dumped.rename(directory / f"{name}.callgrind")
    with dumped.open() as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("totals:"))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.instructions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--stack", choices=STACKS, default="sqlite-locmem", help="%(default)s")
    add("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    names = f"or {', '.join(GROUPS)}; by default {' '.join(OPERATIONS)}"
    add("--operations", nargs="+", default=OPERATIONS, metavar="NAME", help=names)
    add("--phases", nargs="+", default=["hit", "miss", "write"])
    add("--calls", type=int, default=20, help="by default %(default)s, and twice as many")
    add("--profiles", type=Path, help="directory that keeps what callgrind has written")
    add("--environments", type=Path, default=default_directory(), help="%(default)s")
    add("--postgresql", default="postgresql://postgres@127.0.0.1:5432", help="%(default)s")
    add("--redis", default="redis://127.0.0.1:6379/15", help="%(default)s")
    add("--memcached", default="127.0.0.1:11211", help="%(default)s, which is emptied")
    return parser.parse_args()


def run(arguments: argparse.Namespace, directory: Path) -> None:
    """Print a table in thousands of instructions; raise ``WorkerFailed`` and ``CommandFailed``."""
    entries = chosen(entries_of(SMALLEST), arguments.operations)
    stack = STACKS[arguments.stack]
    contenders = [CONTENDERS[name] for name in arguments.contenders]
    environments, tree = Environments(arguments.environments), Tree(directory)
    servers = Servers(arguments.postgresql, arguments.redis, arguments.memcached)
    profiles: Path = arguments.profiles or directory
    profiles.mkdir(parents=True, exist_ok=True)
    under = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={profiles}/callgrind.%p"]
    with team_on(
        stack, contenders, servers, directory, tree, environments.python_for, under
    ) as team:
        team.set_up(rows=10)
        rows = []
        for entry in entries.values():
            for phase in entry.phases:
                if phase not in arguments.phases:
                    continue
                row = [f"{entry.name}, {phase}"]
                for process in team.processes.values():
                    # The floor knows nothing but hits.
                    if phase != "hit" and process.contender.caches == "floor":
                        row.append("–")
                        continue
                    count = instructions_of(process, entry, phase, arguments.calls, profiles)
                    row.append(f"{count / 1000:.0f}")
                rows.append(row)
                print(*row, file=sys.stderr, flush=True)
        print(table(["operation", *team.processes], rows))


def main() -> int:
    """Return the exit code."""
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="cachalot-benchmarks-") as temporary:
        try:
            run(arguments, Path(temporary))
        except (CommandFailed, OSError, ValueError, WorkerFailed) as error:
            print(error, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

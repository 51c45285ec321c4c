"""Time ORM caches side by side, on this machine, in one run.

    python -m pip install -e '.[benchmarks]'
    python -m benchmarks --quick
    python -m benchmarks --stacks postgresql-redis --operations reads save
    python -m benchmarks --check

Each contender runs in a process of its own, with Django and its packages in a virtual environment
that is made once, and with a database of its own. Batches of the contenders follow each other in
turn. Tables are printed, and written with SVG plots and all timings (JSON) to ``--output``.

``--check`` times nothing: on SQLite and local memory, with the packages of the interpreter that
runs it, each operation must give the same answers with cachalot as without, from the cache when
it should and from the database after a write.

The Redis database must be empty. A memcached is started for the run unless one is named, which is
emptied then. PostgreSQL's user must be allowed to create databases.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.catalogue import GROUPS, QUICK, SMALLEST, Entry, Sizes, chosen, entries_of
from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.environments import CommandFailed, Environments, Tree, default_directory
from benchmarks.machine import describe_machine
from benchmarks.measuring import check, measure, plan
from benchmarks.report import StackReport, about, legend
from benchmarks.results import STATISTICS, StackResults, problems_of
from benchmarks.servers import own_memcached
from benchmarks.stacks import STACKS, Servers
from benchmarks.team import WorkerFailed, team_on

QUICK_STACKS = ["sqlite-locmem", "postgresql-redis"]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="fewer sizes, short batches, two stacks")
    add("--check", action="store_true", help="time nothing, see whether the answers are right")
    add("--stacks", nargs="+", choices=STACKS, help="by default all")
    add("--contenders", nargs="+", choices=CONTENDERS, help="by default all; plain always runs")
    add("--operations", nargs="+", default=[], metavar="NAME", help=f"or {', '.join(GROUPS)}")
    add("--rounds", type=int, help="batches of each; by default 10, or 5 if quick")
    add("--seconds", type=float, help="of a batch; by default 0.05, or 0.01 if quick")
    add("--entries", type=int, help="at most in the cache; by default 10000, or 100 if quick")
    add(
        "--statistic",
        choices=STATISTICS,
        default="median",
        help="what is printed and drawn; the minimum is steadier on a busy machine",
    )
    add("--output", type=Path, default=Path("benchmark-results"), help="by default %(default)s")
    add(
        "--environments",
        type=Path,
        default=default_directory(),
        help="directory that keeps the virtual environments; by default %(default)s",
    )
    add("--postgresql", default="postgresql://postgres@127.0.0.1:5432", help="%(default)s")
    add("--redis", default="redis://127.0.0.1:6379/15", help="%(default)s")
    add("--memcached", help="host and port; by default one is started")
    add(
        "--latency",
        type=float,
        default=0.0,
        metavar="MILLISECONDS",
        help="of a link before each server, there and back",
    )
    return parser.parse_args()


def sizes_of(arguments: argparse.Namespace) -> Sizes:
    if arguments.check:
        return SMALLEST
    sizes = QUICK if arguments.quick else Sizes()
    return sizes.with_entries_up_to(arguments.entries) if arguments.entries else sizes


def run_check(entries: dict[str, Entry]) -> int:
    """Return 0 if every contender that needs no package answers as it should."""
    contenders = [contender for contender in CONTENDERS.values() if contender.requirement is None]
    results = StackResults("sqlite-locmem")
    with tempfile.TemporaryDirectory(prefix="cachalot-benchmarks-") as temporary:
        directory = Path(temporary)
        with team_on(
            STACKS[results.stack],
            contenders,
            Servers("", "", ""),
            directory,
            Tree(directory),
            lambda _: sys.executable,
        ) as team:
            team.set_up(rows=max(entry.size or 0 for entry in entries.values()))
            check(team, entries, results)
            # Time everything once, to see that it can be timed.
            for _ in measure(team, results, plan(team, entries), rounds=1, seconds=0):
                pass
    if problems := problems_of(results):
        print(*problems, sep="\n")
        return 1
    print(f"{len(entries)} operations by {len(contenders)} contenders: all answers are right")
    return 0


def run(arguments: argparse.Namespace, sizes: Sizes, entries: dict[str, Entry]) -> int:
    """Return 0 if everything ran, and what is ours and the floor answered as they should."""
    # Of the extra "benchmarks", which --check does not need.
    from tqdm import tqdm

    from benchmarks.plots import draw

    quick = arguments.quick
    stacks = arguments.stacks or (QUICK_STACKS if quick else list(STACKS))
    names = {"plain", *(arguments.contenders or CONTENDERS)}
    contenders = [contender for name, contender in CONTENDERS.items() if name in names]
    rounds = arguments.rounds or (5 if quick else 10)
    seconds = arguments.seconds or (0.01 if quick else 0.05)
    output: Path = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    machine = describe_machine()
    all_results = [StackResults(name) for name in stacks]
    with ExitStack() as opened:
        directory = Path(
            opened.enter_context(tempfile.TemporaryDirectory(prefix="cachalot-benchmarks-"))
        )
        memcached = arguments.memcached or ""
        if not memcached and any(STACKS[name].cache == "pymemcache" for name in stacks):
            memcached = opened.enter_context(own_memcached())
        servers = Servers(arguments.postgresql, arguments.redis, memcached)
        if arguments.latency:
            servers = opened.enter_context(servers.behind_links(arguments.latency))
        environments = Environments(arguments.environments)
        pythons = {
            contender.name: environments.python_for(contender)
            for contender in tqdm(contenders, "environments", leave=False)
        }
        tree = Tree(directory)

        def python_for(contender: Contender) -> str:
            return pythons[contender.name]

        for results in all_results:
            stack = STACKS[results.stack]
            with team_on(stack, contenders, servers, directory, tree, python_for) as team:
                team.set_up(rows=max(sizes.rows))
                results.servers, results.versions = team.servers, team.versions
                check(team, entries, results)
                steps = plan(team, entries)
                total = rounds * sum(map(len, steps))
                with tqdm(total=total, desc=stack.name, leave=False) as progress:
                    for operation in measure(team, results, steps, rounds, seconds):
                        progress.set_postfix_str(operation, refresh=False)
                        progress.update()
            print(StackReport(results, entries, arguments.statistic), end="\n\n", flush=True)
            draw(results, entries, arguments.statistic, output)
    text = about(machine, all_results)
    print(legend(arguments.statistic), text, sep="\n\n")
    for statistic in STATISTICS:
        tables = [str(StackReport(results, entries, statistic)) for results in all_results]
        file = output / f"tables-{statistic}.rst"
        file.write_text("\n\n".join([*tables, legend(statistic), text]) + "\n")
    timings = {
        "machine": machine,
        "rounds": rounds,
        "seconds": seconds,
        "stacks": [results.as_json() for results in all_results],
    }
    (output / "timings.json").write_text(json.dumps(timings, indent=1))
    print(f"\nTables, plots and timings are in {output}.")
    if problems := [problem for results in all_results for problem in problems_of(results)]:
        print("", *problems, sep="\n")
        return 1
    return 0


def main() -> int:
    """Return the exit code."""
    arguments = parse_arguments()
    sizes = sizes_of(arguments)
    try:
        entries = chosen(entries_of(sizes), arguments.operations)
        return run_check(entries) if arguments.check else run(arguments, sizes, entries)
    except (CommandFailed, RuntimeError, ValueError, WorkerFailed) as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

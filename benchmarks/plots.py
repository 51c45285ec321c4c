"""The results as SVG."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.catalogue import GROUPS, Entry, by_group_and_phase, title_of
from benchmarks.contenders import CONTENDERS
from benchmarks.results import StackResults
from benchmarks.stacks import STACKS

# Okabe and Ito's colours: told apart by everyone.
COLOURS = dict(
    zip(
        CONTENDERS,
        ("#000000", "#999999", "#0072b2", "#56b4e9", "#009e73", "#d55e00", "#e69f00"),
        strict=True,
    )
)
STYLE = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "sans-serif",
    "grid.alpha": 0.3,
    "legend.frameon": False,
    # Equal figures give equal files.
    "svg.hashsalt": "cachalot",
}


def _bars(results: StackResults, entries: list[Entry], phase: str, statistic: str) -> Figure:
    names = results.contenders_in(entries, phase)
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(names)
    for position, name in enumerate(names):
        found = [results.series.get((entry.name, phase, name)) for entry in entries]
        axes.bar(
            [index + (position + 0.5) * width - 0.4 for index in range(len(entries))],
            [series.microseconds(statistic) if series else 0 for series in found],
            width,
            color=COLOURS[name],
            label=CONTENDERS[name].title,
        )
    axes.set_xticks(range(len(entries)), [entry.name for entry in entries], rotation=30, ha="right")
    axes.set_yscale("log")
    axes.set_ylabel("µs")
    axes.grid(axis="x", visible=False)
    figure.legend(loc="outside lower center", ncols=len(names))
    return figure


def _lines(results: StackResults, entries: list[Entry], phase: str, statistic: str) -> Figure:
    group = entries[0].group
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name in results.contenders_in(entries, phase):
        points = [
            (entry.size, series.microseconds(statistic))
            for entry in entries
            if (series := results.series.get((entry.name, phase, name)))
        ]
        if group == "mix":
            points = [(size, 1e6 / microseconds) for size, microseconds in points]
        axes.plot(
            *zip(*points, strict=True), "o-", color=COLOURS[name], label=CONTENDERS[name].title
        )
    if group in {"rows", "entries", "invalidation"}:
        axes.set_xscale("log")
    if group == "mix":
        axes.set_ylabel("operations per second")
        axes.set_ylim(bottom=0)
    else:
        axes.set_yscale("log")
        axes.set_ylabel("µs")
    axes.set_xlabel(GROUPS[group][1])
    figure.legend(loc="outside right center")
    return figure


#: Contenders that are left out at one glance.
VARIANTS = {"ours-shared", "ours-alone"}
#: What is shown of a stack at one glance, by operation and phase, from the top.
SUMMARY = [
    *((name, "hit") for name in ("get", "foreign-key", "exists", "rows-100", "annotate", "page")),
    *((name, "miss") for name in ("get", "rows-100", "page")),
    *((name, "write") for name in ("save", "update", "atomic-save")),
]


def _speedups(results: StackResults, statistic: str) -> Figure | None:
    """Draw how many times as fast as without a cache each is; None if not all was timed."""
    found = {
        name: [results.series.get((entry, phase, name)) for entry, phase in SUMMARY]
        for name, contender in CONTENDERS.items()
        if contender.is_cache or name == "plain"
    }
    plain = found.pop("plain", [])
    names = [name for name, series in found.items() if any(series) and name not in VARIANTS]
    if not plain or None in plain or not names:
        return None
    figure = Figure(figsize=(8, 6.5), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(names)
    for position, name in enumerate(names):
        axes.barh(
            [row + (position + 0.5) * height - 0.4 for row in range(len(SUMMARY))],
            [
                without.microseconds(statistic) / series.microseconds(statistic)
                if series and without
                else 0
                for series, without in zip(found[name], plain, strict=True)
            ],
            height,
            color=COLOURS[name],
            label=CONTENDERS[name].title,
        )
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    ticks = [0.2, 0.5, 1, 2, 4, 8]
    axes.set_xticks(ticks, [f"{tick:g}×" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(SUMMARY)), [f"{name}, {phase}" for name, phase in SUMMARY])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("times as fast as without a cache; left of the line it is slower")
    figure.legend(loc="outside lower center", ncols=len(names))
    return figure


def draw(results: StackResults, entries: dict[str, Entry], statistic: str, directory: Path) -> None:
    """Write one SVG for each group and phase of the stack, by one of ``STATISTICS``."""
    with mpl.rc_context(STYLE):
        for (group, phase), members in by_group_and_phase(entries).items():
            draw_group = _lines if GROUPS[group][1] else _bars
            figure = draw_group(results, members, phase, statistic)
            title = f"{title_of(group, phase)}\n{STACKS[results.stack].title}"
            figure.suptitle(title, fontsize="medium")
            file = directory / f"{results.stack}-{group}-{phase}.svg"
            figure.savefig(file, metadata={"Date": None})
        if summary := _speedups(results, statistic):
            summary.suptitle(STACKS[results.stack].title, fontsize="medium")
            file = directory / f"{results.stack}-speedup.svg"
            summary.savefig(file, metadata={"Date": None})

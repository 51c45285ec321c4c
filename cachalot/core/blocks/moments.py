"""Whether all that a block has read is what one moment shows.

Versions were read before their queries, each at a time of its own, so they are looked at once more
when the last query is done: only if all of them are still in force is the result of one moment, and
only then is it stored. With that, it does not matter in which order a reader gets an entry and the
versions that judge it, of which not every cache gives all at one time.

That look is also why a table can stand for rows of it. If rows are in force *after* the version of
their table was got, each later write of them gives the table another version, as each write does.
"""

from __future__ import annotations

from cachalot.core.blocks import entries
from cachalot.core.blocks.dependencies import Dependencies, dependencies_of
from cachalot.core.collecting import PENDING, TWO_VERSIONS, Collector
from cachalot.core.outcomes import Bypass
from cachalot.core.rows import MAX_ROWS
from cachalot.core.schema.version_keys import version_keys


def confirmed_dependencies_of(collector: Collector) -> Dependencies:
    """Return what was read in a collector's block, once it is left.

    Of each table it is the whole, or up to ``MAX_ROWS`` rows. The versions of tables that stand for
    more rows are added to the collector's. Raise ``Bypass`` if not all is of one moment.
    """
    asked = _tables_for_many_rows(collector)
    nonces = entries.current(asked) if asked else ()
    if nonces is None:
        raise Bypass(PENDING)
    collector.versions.update(zip(asked, nonces, strict=True))
    dependencies = dependencies_of(collector)
    # Those of rows that are left out as well.
    keys = tuple(sorted(collector.versions))
    if not entries.are_in_force(keys, tuple(map(collector.versions.__getitem__, keys))):
        raise Bypass(TWO_VERSIONS)
    return dependencies


def _tables_for_many_rows(collector: Collector) -> tuple[str, ...]:
    """Return the version keys of tables of which more rows were read than are told apart.

    Those of which there is a version are left out.
    """
    keys = {
        version_keys(alias, frozenset({table}))[0]
        for (alias, table), rows in collector.rows.items()
        if len(rows) > MAX_ROWS
    }
    return tuple(sorted(keys - collector.versions.keys()))


def shows(versions: dict[str, str], seen: dict[str, str]) -> bool:
    """Whether an entry of these versions, in force just now, is what a snapshot shows.

    ``seen`` are the versions of the tables in the snapshot.
    """
    if any(versions.get(key, nonce) != nonce for key, nonce in seen.items()):
        return False
    # Of tables whose rows the entry depends on: they must not have changed between the snapshot and
    # the entry, so they are asked for behind it.
    others = tuple(seen.keys() - versions.keys())
    return not others or entries.are_in_force(others, tuple(map(seen.__getitem__, others)))

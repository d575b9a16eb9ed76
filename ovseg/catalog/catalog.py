"""The catalog: the current results of each stage, and a DuckDB file of views over exactly those.

    build_catalog(root, {"table": table, "benchmark": benchmark, "scores": scores})
    con = open_catalog(root)
    con.sql("select noun, mentions from noun_frequency order by mentions desc limit 10")

`catalog.json` holds the pointers, `catalog.duckdb` views and the rows of some of them
(`ovseg.catalog.stored`): it can be rebuilt at will, and a reader that has it open keeps its own
snapshot while the next one is swapped in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import duckdb

from ovseg.catalog.catalog_file import connect, written_for
from ovseg.catalog.database import shows, write_database
from ovseg.catalog.pointers import (
    CURRENT,
    POINTERS,
    REJECTED,
    TABLES,
    State,
    key_of,
    labelled,
    labels_of,
    of_current_tables,
    point,
    read_pointers,
    resolve,
    tables_first,
    write_pointers,
)
from ovseg.catalog.published import Published
from ovseg.errors import OvsegError
from ovseg.files.publish import WriteError, discard, one_writer, writing
from ovseg.mining.pairs.sql import one_line
from ovseg.stages.manifest import Manifest

DATABASE = "catalog.duckdb"
DATABASES: dict[State, str] = {CURRENT: DATABASE, REJECTED: "catalog-rejected.duckdb"}


class BlockedError(OvsegError):
    """New results failed checks that block, so what was current before them still is.

    Attributes:
        failed: the names of these checks.
    """

    def __init__(self, failed: Sequence[str], root: Path) -> None:
        self.failed = list(failed)
        super().__init__(
            f"the new tables fail {', '.join(failed)}, so they were not published and those from"
            f" before stay: `ovseg sql --root {root} --state rejected` queries the new ones;"
            " correct their source, or let the check warn only (Severity, in sql/tests)"
        )


Gate = Callable[[duckdb.DuckDBPyConnection], Sequence[str]]
"""Returns the names of the checks that block a catalog, of those that fail over it."""


def build_catalog(
    root: Path, manifests: Mapping[str, Manifest], *, gate: Gate | None = None
) -> Path:
    """Publish manifests and rebuild `<root>/catalog.duckdb`.

    A manifest replaces the current one of the same stage and data set (round and source of a pair
    table, query of a curated set, arm of a checkpoint, benchmark and arm of scores and of learning
    curves, system of scores); others stay. The catalog shows the benchmark runs that current scores
    were computed from, the learning curves of current checkpoints, and the curated sets and
    judgments of current pair tables: they leave with their table. Stages that analysts do not read
    (staging pairs, texts, reports) are skipped. Without manifests the file is rebuilt from the
    existing pointers, e.g. after moving the root.

    Args:
        root: folder of all results.
        manifests: by name; the last part of a checkpoint's name is the arm (`checkpoint/both`).
        gate: looks at the new catalog before anyone else can; if it names a check, the pointers
            stay as they were, and the new ones are the state `rejected`.

    Returns:
        The path of the catalog.

    Raises:
        BlockedError: if the gate names a check.
        OvsegError: if `catalog.json` is corrupt or leads out of the root, a manifest lies outside
            of the root, a view does not run, or the file cannot be written.
    """
    with writing(root / POINTERS):
        root.mkdir(parents=True, exist_ok=True)
    with one_writer(root):  # two flows must not read, change and write the pointers at once
        pointers = {p.key: p for p in (labelled(root, old) for old in read_pointers(root))}
        before = list(pointers.values())
        # Tables first: the labels of a curated set are those of the table it was selected from.
        for name, manifest in sorted(manifests.items(), key=tables_first):
            if (pointer := point(root, name, manifest, pointers.values())) is not None:
                pointers[pointer.key] = pointer
        items = {key: resolve(root, pointer) for key, pointer in sorted(pointers.items())}
        kept = of_current_tables({key: item for key, item in items.items() if item})
        listed, results = [pointers[key] for key in kept], list(kept.values())
        rejected = read_pointers(root, REJECTED)
        path, draft = root / DATABASES[CURRENT], root / DATABASES[REJECTED]
        if gate is not None:
            is_new = not shows(path, results, root)
            checked = write_database(draft, results, root, earlier=path) if is_new else path
            try:
                with connect(checked) as con:
                    failed = gate(con)
            except BaseException:  # undecided: the draft is of neither state
                discard(draft)
                raise
            if failed:
                write_database(draft, results, root, earlier=path)
                write_pointers(root, {CURRENT: before, REJECTED: listed})
                raise BlockedError(failed, root)
            rejected = []
        write_pointers(root, {CURRENT: listed, REJECTED: rejected})
        write_database(path, results, root, earlier=draft if draft.is_file() else path)
        if not rejected:
            discard(draft)
        return path


def build_views(path: Path, manifests: Mapping[str, Manifest]) -> Path:
    """Write a database of the catalog's relations over these results, wherever they lie.

    Args:
        path: file to write; not a root's catalog.
        manifests: as `build_catalog` takes them.

    Raises:
        OvsegError: if a view does not run, or the file cannot be written.
    """
    items: dict[str, Published] = {}
    for name, manifest in sorted(manifests.items(), key=tables_first):
        tables = [item for item in items.values() if item.manifest.stage == TABLES]
        if (labels := labels_of(name, manifest, tables)) is not None:
            items[key_of(manifest.stage, labels)] = Published(manifest=manifest, labels=labels)
    return write_database(path, list(of_current_tables(dict(sorted(items.items()))).values()))


def open_catalog(root: Path, state: State = CURRENT) -> duckdb.DuckDBPyConnection:
    """Open the catalog read-only, or what failed a check that blocks.

    A catalog that names files of another folder, because its root was moved, copied or restored, is
    rebuilt first. So is one that is missing while `catalog.json` exists.

    The connection is for trusted code: it cannot write to the catalog and fetches no extensions,
    but DuckDB's functions that read and write other files work. Run SQL that somebody else wrote
    with `ovseg.catalog.query.run_query`, which disables them.

    DuckDB shares one snapshot among a process's connections to a file: close the old connection to
    see newer results.

    Raises:
        OvsegError: if there is none, it cannot be opened, or it has to be rebuilt and cannot be.
    """
    path = root / DATABASES[state]
    if state == REJECTED and not read_pointers(root, REJECTED):
        raise OvsegError(f"{root} has no rejected tables: leave --state out")
    if not path.is_file():
        if not (root / POINTERS).is_file():
            raise OvsegError(f"{path} does not exist: run `ovseg run` first, or give --root")
        _rebuild(root, "is missing")
    con = connect(path)
    if (elsewhere := written_for(con, root)) is None:
        return con
    con.close()
    _rebuild(root, f"names the files of {elsewhere}, from where it was moved or copied")
    return connect(path)


def current(root: Path, stage: str) -> list[Published]:
    """Return the current results of a stage under a root, by labels; deleted ones are left out.

    Raises:
        OvsegError: if `catalog.json` is corrupt.
    """
    return [item for item in current_results(root) if item.manifest.stage == stage]


def current_results(root: Path) -> list[Published]:
    """Return the current results of all stages under a root, by stage and labels.

    Raises:
        OvsegError: if `catalog.json` is corrupt.
    """
    pointers = sorted(read_pointers(root), key=lambda pointer: pointer.key)
    items = (resolve(root, pointer) for pointer in pointers)
    return [item for item in items if item is not None]


# --------------------------------------------------------------------------------------
# The database


def _rebuild(root: Path, why: str) -> None:
    """Write the databases of all states anew, from their pointers."""
    try:
        build_catalog(root, {})
        if rejected := read_pointers(root, REJECTED):
            items = [item for item in (resolve(root, each) for each in rejected) if item]
            write_database(root / DATABASES[REJECTED], items, root)
    except (OSError, duckdb.Error, WriteError) as error:
        raise OvsegError(
            f"{root / DATABASE} {why}, and cannot be rebuilt ({one_line(error)}): run"
            f" `ovseg sql --root {root} funnel` once as a user with write access"
        ) from error

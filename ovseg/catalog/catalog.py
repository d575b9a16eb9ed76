"""The catalog: the current results of each stage, and a DuckDB file of views over exactly those.

    build_catalog(root, {"table": table, "benchmark": benchmark, "scores": scores})
    con = open_catalog(root)
    con.sql("select noun, mentions from noun_frequency order by mentions desc limit 10")

`catalog.json` holds the pointers, `catalog.duckdb` views and the rows of some of them
(`ovseg.catalog.stored`): it can be rebuilt at will, and a reader that has it open keeps its own
snapshot while the next one is swapped in.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

import duckdb
from pydantic import BaseModel

from ovseg.catalog.catalog_file import connect, written_for
from ovseg.catalog.database import write_database
from ovseg.catalog.published import Published
from ovseg.config.scoring import BenchmarkConfig
from ovseg.errors import OvsegError
from ovseg.files.json_files import read_json
from ovseg.files.locations import reason
from ovseg.files.parquet_files import read_parquet
from ovseg.files.publish import (
    WriteError,
    one_writer,
    publish_text,
    writing,
)
from ovseg.mining.pairs.sql import one_line
from ovseg.stages.manifest import Manifest, Relative, inside, why_invalid

log = logging.getLogger(__name__)

POINTERS, DATABASE = "catalog.json", "catalog.duckdb"
TABLES = "tables/pairs"


class Pointer(BaseModel):
    """The location of a stage's current result."""

    stage: str
    labels: dict[str, str]
    folder: Relative
    """Relative to the root, so that the root can be moved; all results lie under it."""

    @property
    def key(self) -> str:
        """Key of the pointer: a later result of the same stage, data set, arm, ... replaces it."""
        return _key(self.stage, self.labels)


def _key(stage: str, labels: Mapping[str, str]) -> str:
    return "/".join([stage, *(f"{k}={v}" for k, v in sorted(labels.items()))])


def build_catalog(root: Path, manifests: Mapping[str, Manifest]) -> Path:
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

    Returns:
        The path of the catalog.

    Raises:
        OvsegError: if `catalog.json` is corrupt or leads out of the root, a manifest lies outside
            of the root, a view does not run, or the file cannot be written.
    """
    with writing(root / POINTERS):
        root.mkdir(parents=True, exist_ok=True)
    with one_writer(root):  # two flows must not read, change and write the pointers at once
        pointers = {p.key: p for p in (_labelled(root, old) for old in _read_pointers(root))}
        # Tables first: the labels of a curated set are those of the table it was selected from.
        for name, manifest in sorted(manifests.items(), key=_tables_first):
            if (pointer := _point(root, name, manifest, pointers.values())) is not None:
                pointers[pointer.key] = pointer
        items = {key: _resolve(root, pointer) for key, pointer in sorted(pointers.items())}
        kept = _of_current_tables({key: item for key, item in items.items() if item})
        listed = [pointers[key].model_dump() for key in kept]
        publish_text(json.dumps({"current": listed}, indent=1) + "\n", root / POINTERS)
        return write_database(root / DATABASE, list(kept.values()), root)


def build_views(path: Path, manifests: Mapping[str, Manifest]) -> Path:
    """Write a database of the catalog's relations over these results, wherever they lie.

    Args:
        path: file to write; not a root's catalog.
        manifests: as `build_catalog` takes them.

    Raises:
        OvsegError: if a view does not run, or the file cannot be written.
    """
    items: dict[str, Published] = {}
    for name, manifest in sorted(manifests.items(), key=_tables_first):
        tables = [item for item in items.values() if item.manifest.stage == TABLES]
        if (labels := _labels(name, manifest, tables)) is not None:
            items[_key(manifest.stage, labels)] = Published(manifest=manifest, labels=labels)
    return write_database(path, list(_of_current_tables(dict(sorted(items.items()))).values()))


def open_catalog(root: Path) -> duckdb.DuckDBPyConnection:
    """Open the catalog read-only.

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
    path = root / DATABASE
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
    pointers = sorted(_read_pointers(root), key=lambda pointer: pointer.key)
    items = (_resolve(root, pointer) for pointer in pointers)
    return [item for item in items if item is not None]


# --------------------------------------------------------------------------------------
# Pointers


def _read_pointers(root: Path) -> list[Pointer]:
    path = root / POINTERS
    if not path.is_file():
        return []
    advice = "delete it and run `ovseg run` again, which publishes everything anew"
    try:
        current = read_json(path, advice=advice)["current"]
        return [Pointer.model_validate(pointer) for pointer in current]
    except OSError as error:
        raise OvsegError(f"{path} cannot be read ({reason(error)}): {advice}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise OvsegError(f"{path} is not a catalog ({why_invalid(error)}): {advice}") from error


def _labelled(root: Path, pointer: Pointer) -> Pointer:
    """Add the system to a pointer to scores, which older catalogs did not distinguish."""
    known = pointer.stage != "scores" or "system" in pointer.labels
    if known or (item := _resolve(root, pointer)) is None:
        return pointer
    labels = {**pointer.labels, "system": _system(item.manifest)}
    return pointer.model_copy(update={"labels": labels})


def _resolve(root: Path, pointer: Pointer) -> Published | None:
    try:
        manifest = Manifest.read(inside(root, pointer.folder))
    except OvsegError as error:
        log.warning("left out of the catalog: %s", error)  # the result was deleted
        return None
    return Published(manifest=manifest, labels=pointer.labels)


def _of_current_tables(items: Mapping[str, Published]) -> dict[str, Published]:
    """Drop the curated sets and judgments of pair tables that have been replaced."""
    tables = {
        item.manifest.content_digest for item in items.values() if item.manifest.stage == TABLES
    }
    current = {}
    for key, item in items.items():
        manifest = item.manifest
        if manifest.stage in ("curated", "pair-truth") and set(manifest.parents.values()) - tables:
            log.info("%s belongs to an older pair table and leaves the catalog", manifest.folder)
        else:
            current[key] = item
    return current


def _tables_first(item: tuple[str, Manifest]) -> bool:
    return item[1].stage != TABLES


def _point(
    root: Path, name: str, manifest: Manifest, pointers: Iterable[Pointer]
) -> Pointer | None:
    """Return the pointer to a manifest; None for a stage that analysts do not read."""
    tables = [_resolve(root, pointer) for pointer in pointers if pointer.stage == TABLES]
    labels = _labels(name, manifest, [table for table in tables if table])
    if labels is None:
        return None
    folder, home = manifest.folder.resolve(), root.resolve()
    if not folder.is_relative_to(home):
        raise OvsegError(
            f"{folder} lies outside of {home}: a catalog holds only results under its root; the"
            " root itself may be a link"
        )
    return Pointer(stage=manifest.stage, labels=labels, folder=str(folder.relative_to(home)))


def _labels(name: str, manifest: Manifest, tables: Iterable[Published]) -> dict[str, str] | None:
    config, arm = manifest.config, name.rpartition("/")[2]
    match manifest.stage:
        case "proposals" if config.get("source") == "ground_truth":
            return None  # a data set's proposals are those of a network
        case "images" | "nouns" | "proposals":
            return {"dataset": _dataset(manifest)}
        case "tables/pairs":
            return {key: str(config[key]) for key in ("dataset", "round", "source")}
        case "pair-truth":
            return _table_labels(manifest, tables)
        case "curated":
            return {"query": config["query"], **_table_labels(manifest, tables)}
        case "checkpoints":
            return {"arm": arm}
        case "benchmarks":
            return {"benchmark": config["benchmark"], "digest": manifest.digest}
        case "curves":
            return {"benchmark": manifest.stats["benchmark"], "arm": config["arm"]}
        case "scores":
            of_run = {"benchmark": manifest.stats["benchmark"], "arm": config["arm"]}
            return {**of_run, "system": _system(manifest)}
        case _:
            return None


def _dataset(manifest: Manifest) -> str:
    """Return the data set of a stage: from its setting, or else from its rows."""
    if "dataset" in manifest.config:
        return str(manifest.config["dataset"])
    for path in manifest.paths():
        values = read_parquet(path, ["dataset"])["dataset"]
        if len(values):
            return str(values[0])
    return ""


def _system(scores: Manifest) -> str:
    """Return the system of scores: from their rows, or else from the run they were computed from.

    There are no rows if no metric is defined, e.g. for label maps in which no pixel counts.
    """
    rows = read_parquet(scores.payload() / "scores.parquet", ["system"])["system"]
    if len(rows):
        return str(rows[0])
    digest = scores.stats["benchmark_digest"]
    try:
        run = Manifest.read(scores.folder.parents[1] / "benchmarks" / digest)
    except OvsegError:  # cleaned up
        return BenchmarkConfig().system
    return str(run.config.get("system", BenchmarkConfig().system))


def _table_labels(curated: Manifest, tables: Iterable[Published]) -> dict[str, str]:
    """Return the labels of the tables that a training set was selected from."""
    parents = set(curated.parents.values())
    selected = [item.labels for item in tables if item.manifest.content_digest in parents]
    keys = sorted({key for labels in selected for key in labels})
    return {key: "+".join(sorted({labels[key] for labels in selected})) for key in keys}


# --------------------------------------------------------------------------------------
# The database


def _rebuild(root: Path, why: str) -> None:
    try:
        build_catalog(root, {})
    except (OSError, duckdb.Error, WriteError) as error:
        raise OvsegError(
            f"{root / DATABASE} {why}, and cannot be rebuilt ({one_line(error)}): run"
            f" `ovseg sql --root {root} funnel` once as a user with write access"
        ) from error

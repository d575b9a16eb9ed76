"""The catalogue: what is current of each stage, and a DuckDB file of views over exactly that.

    build_catalog(root, {"table": table, "benchmark": benchmark, "scores": scores})
    con = open_catalog(root)
    con.sql("select noun, mentions from noun_frequency order by mentions desc limit 10")

`catalog.json` holds the pointers, `catalog.duckdb` views only: it can be rebuilt at will, and a
reader that has it open keeps its own snapshot while the next one is swapped in.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
from pydantic import BaseModel

from ovseg.catalog.catalog_file import connect, written_for
from ovseg.catalog.relations import Published, base_relations
from ovseg.config.scoring import BenchmarkConfig
from ovseg.errors import OvsegError
from ovseg.files.json_files import read_json
from ovseg.files.locations import reason
from ovseg.files.publish import WriteError, discard, publish_text, published, writing
from ovseg.files.sql_files import sql_files
from ovseg.mining.pairs.sql import identifier, one_line
from ovseg.stages.manifest import Manifest, Relative, inside, why_invalid

log = logging.getLogger(__name__)

POINTERS, DATABASE = "catalog.json", "catalog.duckdb"
TABLES = "tables/pairs"


class Pointer(BaseModel):
    """Where the current result of a stage lies."""

    stage: str
    labels: dict[str, str]
    folder: Relative
    """Relative to the root, so that a root can be moved; a result never lies elsewhere."""

    @property
    def key(self) -> str:
        """What a later result of the same stage, data set, arm, ... replaces."""
        return _key(self.stage, self.labels)


def _key(stage: str, labels: Mapping[str, str]) -> str:
    return "/".join([stage, *(f"{k}={v}" for k, v in sorted(labels.items()))])


def build_catalog(root: Path, manifests: Mapping[str, Manifest]) -> Path:
    """Publish manifests and rebuild `<root>/catalog.duckdb`.

    A manifest replaces the current one of the same stage and data set (round and source of a pair
    table, query of a curated set, arm of a checkpoint, benchmark and arm of scores and of learning
    curves, system of scores); others stay. Of benchmark runs those are shown that current scores
    were counted from, of learning curves those of current checkpoints, of curated sets and
    judgements those of current pair tables: they leave with their table. Stages that analysts do
    not read (staging pairs, texts, reports) are passed over. With no manifests the file is rebuilt
    as it stood, as after moving the root.

    Args:
        root: folder of all results.
        manifests: by name; of a checkpoint the name's last part is the arm (`checkpoint/both`).

    Returns:
        The path of the catalogue.

    Raises:
        OvsegError: if `catalog.json` is torn or leads out of the root, a manifest lies elsewhere, a
            view does not run, or the file cannot be written.
    """
    with writing(root / POINTERS):
        root.mkdir(parents=True, exist_ok=True)
    with _one_writer(root):
        pointers = {p.key: p for p in (_labelled(root, old) for old in _read_pointers(root))}
        # Tables first: the labels of a curated set are those of the table it was selected from.
        for name, manifest in sorted(manifests.items(), key=_tables_first):
            if (pointer := _point(root, name, manifest, pointers.values())) is not None:
                pointers[pointer.key] = pointer
        found = {key: _resolve(root, pointer) for key, pointer in sorted(pointers.items())}
        kept = _of_current_tables({key: item for key, item in found.items() if item})
        listed = [pointers[key].model_dump() for key in kept]
        publish_text(json.dumps({"current": listed}, indent=1) + "\n", root / POINTERS)
        return _build(root / DATABASE, list(kept.values()))


def build_views(path: Path, manifests: Mapping[str, Manifest]) -> Path:
    """Write a database of the catalogue's relations over these results, wherever they lie.

    Args:
        path: of the file, which is no root's catalogue and names what it is made of alone.
        manifests: as `build_catalog` takes them.

    Raises:
        OvsegError: if a view does not run, or the file cannot be written.
    """
    items: dict[str, Published] = {}
    for name, manifest in sorted(manifests.items(), key=_tables_first):
        tables = [item for item in items.values() if item.manifest.stage == TABLES]
        if (labels := _labels(name, manifest, tables)) is not None:
            items[_key(manifest.stage, labels)] = Published(manifest=manifest, labels=labels)
    return _build(path, list(_of_current_tables(dict(sorted(items.items()))).values()))


def open_catalog(root: Path) -> duckdb.DuckDBPyConnection:
    """Open the catalogue read-only.

    A catalogue that names another place's files, as that of a root that was moved, copied or
    restored does, is built again first; so is one that is not there though `catalog.json` is.

    The connection is a program's own: it can write nothing into the catalogue, and fetches no
    extensions, but DuckDB's functions that read and write other files work. SQL that somebody else
    wrote belongs into `ovseg.catalog.query.run_query`, which runs it where they do not.

    DuckDB shares one snapshot among a process's connections to a file: close the old connection to
    see what was published since.

    Raises:
        OvsegError: if there is none, it cannot be opened, or has to be built again and cannot.
    """
    path = root / DATABASE
    if not path.is_file():
        if not (root / POINTERS).is_file():
            raise OvsegError(f"{path} does not exist: run `ovseg run` first, or give --root")
        _rebuild(root, "is not there")
    con = connect(path)
    if (elsewhere := written_for(con, root)) is None:
        return con
    con.close()
    _rebuild(root, f"names the files of {elsewhere}, from where it was moved or copied")
    return connect(path)


def current(root: Path, stage: str) -> list[Published]:
    """The current results of a stage under a root, by their labels; those cleaned up left out.

    Raises:
        OvsegError: if `catalog.json` is torn.
    """
    pointers = sorted(_read_pointers(root), key=lambda pointer: pointer.key)
    found = (_resolve(root, pointer) for pointer in pointers if pointer.stage == stage)
    return [item for item in found if item is not None]


# --------------------------------------------------------------------------------------
# Pointers


@contextmanager
def _one_writer(root: Path) -> Iterator[None]:
    """Pointers are read, changed and written back: two flows must not do so at once."""
    descriptor = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


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
        raise OvsegError(f"{path} is not a catalogue ({why_invalid(error)}): {advice}") from error


def _labelled(root: Path, pointer: Pointer) -> Pointer:
    """A pointer with the system of its scores, which older catalogues did not tell apart."""
    known = pointer.stage != "scores" or "system" in pointer.labels
    if known or (item := _resolve(root, pointer)) is None:
        return pointer
    labels = {**pointer.labels, "system": _system(item.manifest)}
    return pointer.model_copy(update={"labels": labels})


def _resolve(root: Path, pointer: Pointer) -> Published | None:
    try:
        manifest = Manifest.read(inside(root, pointer.folder))
    except OvsegError as error:
        log.warning("left out of the catalogue: %s", error)  # someone cleaned up: no such result
        return None
    return Published(manifest=manifest, labels=pointer.labels)


def _of_current_tables(found: Mapping[str, Published]) -> dict[str, Published]:
    """Without the curated sets and judgements of pairs that a newer table no longer holds."""
    tables = {
        item.manifest.content_digest for item in found.values() if item.manifest.stage == TABLES
    }
    current = {}
    for key, item in found.items():
        manifest = item.manifest
        if manifest.stage in ("curated", "pair-truth") and set(manifest.parents.values()) - tables:
            log.info("%s is of an older pair table and leaves the catalogue", manifest.folder)
        else:
            current[key] = item
    return current


def _tables_first(item: tuple[str, Manifest]) -> bool:
    return item[1].stage != TABLES


def _point(
    root: Path, name: str, manifest: Manifest, pointers: Iterable[Pointer]
) -> Pointer | None:
    """The pointer to a manifest; None for a stage that analysts do not read."""
    tables = [_resolve(root, pointer) for pointer in pointers if pointer.stage == TABLES]
    labels = _labels(name, manifest, [table for table in tables if table])
    if labels is None:
        return None
    folder, home = manifest.folder.resolve(), root.resolve()
    if not folder.is_relative_to(home):
        raise OvsegError(
            f"{folder} lies outside of {home}: a catalogue is of the results under its root, which"
            " may be a link itself"
        )
    return Pointer(stage=manifest.stage, labels=labels, folder=str(folder.relative_to(home)))


def _labels(name: str, manifest: Manifest, tables: Iterable[Published]) -> dict[str, str] | None:
    config, arm = manifest.config, name.rpartition("/")[2]
    match manifest.stage:
        case "proposals" if config.get("source") == "ground_truth":
            return None  # a data set has one set of proposals: those that a network made
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
    """The data set of a stage: its setting, or what its rows say."""
    if "dataset" in manifest.config:
        return str(manifest.config["dataset"])
    for path in manifest.paths():
        values = pq.ParquetFile(path).read(["dataset"])["dataset"]
        if len(values):
            return str(values[0])
    return ""


def _system(scores: Manifest) -> str:
    """The system that scores are of: each of their rows says so, or the run they were counted from.

    There are no rows where no metric is defined, as on label maps in which nothing counts.
    """
    rows = pq.read_table(scores.payload() / "scores.parquet", columns=["system"])["system"]
    if len(rows):
        return str(rows[0])
    digest = scores.stats["benchmark_digest"]
    try:
        run = Manifest.read(scores.folder.parents[1] / "benchmarks" / digest)
    except OvsegError:  # cleaned up
        return BenchmarkConfig().system
    return str(run.config.get("system", BenchmarkConfig().system))


def _table_labels(curated: Manifest, tables: Iterable[Published]) -> dict[str, str]:
    """What the tables are labelled that a training set was selected from."""
    parents = set(curated.parents.values())
    found = [item.labels for item in tables if item.manifest.content_digest in parents]
    keys = sorted({key for labels in found for key in labels})
    return {key: "+".join(sorted({labels[key] for labels in found})) for key in keys}


# --------------------------------------------------------------------------------------
# The database


def _rebuild(root: Path, why: str) -> None:
    try:
        build_catalog(root, {})
    except (OSError, duckdb.Error, WriteError) as error:
        raise OvsegError(
            f"{root / DATABASE} {why}, and cannot be built here ({one_line(error)}): call"
            f" `ovseg sql --root {root} funnel` once as somebody who may write there"
        ) from error


def _build(path: Path, items: Sequence[Published]) -> Path:
    """Write the views into a file of another name, then swap it in."""
    with published(path) as temporary:
        try:
            with duckdb.connect(str(temporary)) as con:
                for name, select in base_relations(items).items():
                    _create(con, name, select, where=name)
                for view in sql_files("views"):
                    _create(con, view.name, view.text, where=str(view.path))
        finally:
            discard(temporary.with_name(temporary.name + ".wal"))
    return path


def _create(con: duckdb.DuckDBPyConnection, name: str, select: str, *, where: str) -> None:
    try:
        con.execute(f"create view {identifier(name)} as {select}")
    except duckdb.Error as error:
        raise OvsegError(f"the catalogue's relation {where} fails: {one_line(error)}") from error

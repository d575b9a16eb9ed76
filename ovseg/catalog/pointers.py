"""Pointers to the current results of a root: `catalog.json`, and what each result is of."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from ovseg.catalog.published import Published
from ovseg.config.scoring import BenchmarkConfig
from ovseg.errors import OvsegError
from ovseg.files.json_files import read_json
from ovseg.files.locations import reason
from ovseg.files.parquet_files import read_parquet
from ovseg.files.publish import publish_text
from ovseg.stages.manifest import Manifest, Relative, inside, why_invalid

log = logging.getLogger(__name__)

POINTERS = "catalog.json"
TABLES = "tables/pairs"
State = Literal["current", "rejected"]
CURRENT: State = "current"
REJECTED: State = "rejected"
"""What failed a check that blocks, with everything that would be current next to it."""


class Pointer(BaseModel):
    """The location of a stage's current result."""

    stage: str
    labels: dict[str, str]
    folder: Relative
    """Relative to the root, so that the root can be moved; all results lie under it."""

    @property
    def key(self) -> str:
        """Key of the pointer: a later result of the same stage, data set, arm, ... replaces it."""
        return key_of(self.stage, self.labels)


def key_of(stage: str, labels: Mapping[str, str]) -> str:
    """Return the key of a pointer with these labels."""
    return "/".join([stage, *(f"{k}={v}" for k, v in sorted(labels.items()))])


def read_pointers(root: Path, state: State = CURRENT) -> list[Pointer]:
    """Return the pointers of a state of a root's catalog; none if it has no such state.

    Raises:
        OvsegError: if `catalog.json` is corrupt.
    """
    path = root / POINTERS
    if not path.is_file():
        return []
    advice = "delete it and run `ovseg run` again, which publishes everything anew"
    try:
        content = read_json(path, advice=advice)
        listed = content[CURRENT] if state == CURRENT else content.get(state, [])
        return [Pointer.model_validate(pointer) for pointer in listed]
    except OSError as error:
        raise OvsegError(f"{path} cannot be read ({reason(error)}): {advice}") from error
    except (AttributeError, ValueError, KeyError, TypeError) as error:
        raise OvsegError(f"{path} is not a catalog ({why_invalid(error)}): {advice}") from error


def write_pointers(root: Path, states: Mapping[State, Sequence[Pointer]]) -> None:
    """Replace `catalog.json`, the one place that says which results are current, or rejected."""
    listed = {
        state: [pointer.model_dump() for pointer in pointers]
        for state, pointers in states.items()
        if pointers or state == CURRENT
    }
    publish_text(json.dumps(listed, indent=1) + "\n", root / POINTERS)


def labelled(root: Path, pointer: Pointer) -> Pointer:
    """Add the system to a pointer to scores, which older catalogs did not distinguish."""
    known = pointer.stage != "scores" or "system" in pointer.labels
    if known or (item := resolve(root, pointer)) is None:
        return pointer
    labels = {**pointer.labels, "system": _system(item.manifest)}
    return pointer.model_copy(update={"labels": labels})


def resolve(root: Path, pointer: Pointer) -> Published | None:
    """Return the result that a pointer is to; None if it was deleted."""
    try:
        manifest = Manifest.read(inside(root, pointer.folder))
    except OvsegError as error:
        log.warning("left out of the catalog: %s", error)  # the result was deleted
        return None
    return Published(manifest=manifest, labels=pointer.labels)


def of_current_tables(items: Mapping[str, Published]) -> dict[str, Published]:
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


def tables_first(item: tuple[str, Manifest]) -> bool:
    """Sort pair tables before what has the labels of the table it is of."""
    return item[1].stage != TABLES


def point(root: Path, name: str, manifest: Manifest, pointers: Iterable[Pointer]) -> Pointer | None:
    """Return the pointer to a manifest; None for a stage that analysts do not read."""
    tables = [resolve(root, pointer) for pointer in pointers if pointer.stage == TABLES]
    labels = labels_of(name, manifest, [table for table in tables if table])
    if labels is None:
        return None
    folder, home = manifest.folder.resolve(), root.resolve()
    if not folder.is_relative_to(home):
        raise OvsegError(
            f"{folder} lies outside of {home}: a catalog holds only results under its root; the"
            " root itself may be a link"
        )
    return Pointer(stage=manifest.stage, labels=labels, folder=str(folder.relative_to(home)))


def labels_of(name: str, manifest: Manifest, tables: Iterable[Published]) -> dict[str, str] | None:
    """Return what tells a result from others of its stage; None if analysts do not read it."""
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

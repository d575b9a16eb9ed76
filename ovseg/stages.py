"""Stages: planned, run a shard at a time, finished once.

A subclass of `Stage` names itself and writes one shard; planning, skipping what is done, atomic
publishing and the manifest are here. `run_stage` does all of it in one process:

    from ovseg.mining.noun_stage import NOUNS
    nouns = run_stage(NOUNS, NounsConfig(), {"images": images}, Path("runs/demo"))
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel

from ovseg.code import code_digest
from ovseg.config import Config
from ovseg.errors import OvsegError
from ovseg.storage import (
    Manifest,
    ShardPlan,
    ShardRecord,
    digest_json,
    discard,
    file_sha256,
    inside,
    publish_text,
    published,
    writing,
)
from ovseg.threads import fixed_threads, torch_threads
from ovseg.urls import redacted

Progress = Callable[[int], None]
"""Called with the number of items (images, pairs, steps) finished since the last call."""

STATE = "state"
"""In a stage's folder: what a killed shard goes on from, removed once the stage is finished."""

C = TypeVar("C", bound=Config)
Inputs = Mapping[str, Manifest]


def no_progress(advance: int) -> None:
    """Progress nobody watches."""


class Output(BaseModel):
    """What a stage says of the shard it has just written."""

    rows: int
    stats: dict[str, Any] = {}


class Stage(Generic[C]):
    """One step of the chain. A subclass names itself and writes one shard; the rest is here."""

    name: ClassVar[str]
    schema_version: ClassVar[int] = 1
    suffix: ClassVar[str] = ".parquet"
    """Of a shard's payload; empty for a folder of files."""

    def plan(self, config: C, inputs: Inputs) -> ShardPlan:
        """How the stage is cut into shards: as its first parent is, by default."""
        return next(iter(inputs.values())).plan

    def weights(self, config: C, inputs: Inputs) -> dict[str, str]:
        """Content digests of the model weights the stage uses."""
        return {}

    def write(
        self, config: C, inputs: Inputs, target: Path, *, shard: int, progress: Progress
    ) -> Output:
        """Write the payload of one shard to `target` (a file, or a folder the stage makes)."""
        raise NotImplementedError

    def summarise(
        self, config: C, inputs: Inputs, records: Sequence[ShardRecord]
    ) -> dict[str, Any]:
        """The stats of the whole stage; by default the shards' stats added up."""
        return merge_stats([record.stats for record in records])

    def code_digest(self, config: C) -> str:
        """16 hex digits over the code that computes: this module, and what the settings name."""
        return code_digest({type(self).__module__, *config.modules_named()})

    def digest(self, config: C, inputs: Inputs, plan: ShardPlan) -> str:
        """The name of the stage's folder: 16 hex digits over all that the result depends on."""
        parts: list[Any] = [
            self.name,
            self.schema_version,
            plan.model_dump(mode="json"),
            {name: parent.content_digest for name, parent in inputs.items()},
            self.weights(config, inputs),
            config.digest(),
            self.code_digest(config),
        ]
        if (threads := torch_threads()) != 1:
            parts.append({"torch_threads": threads})
        return digest_json(parts)[:16]


def merge_stats(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Add up numbers, recursively through dicts; of anything else the first that is not None."""
    merged: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            old = merged.get(key)
            if old is None:
                merged[key] = dict(value) if isinstance(value, dict) else value
            elif isinstance(value, dict):
                merged[key] = merge_stats([old, value])
            elif isinstance(value, int | float) and not isinstance(value, bool):
                merged[key] = old + value
    return merged


# --------------------------------------------------------------------------------------
# Running a stage


def stage_folder(stage: Stage[C], config: C, inputs: Inputs, root: Path) -> tuple[Path, ShardPlan]:
    """Plan a stage and name its folder under `root`; makes nothing."""
    plan = stage.plan(config, inputs)
    return root / stage.name / stage.digest(config, inputs, plan), plan


def _record_path(folder: Path, shard: int) -> Path:
    return folder / f"shard-{shard:05d}.json"


def read_record(folder: Path, shard: int) -> ShardRecord | None:
    """The record of a shard if it is there and its sha256 matches the payload, else None."""
    try:
        record = ShardRecord.read(_record_path(folder, shard))
        whole = record.index == shard and file_sha256(inside(folder, record.path)) == record.sha256
    except (OSError, ValueError, TypeError, OvsegError):
        return None  # missing, torn, changed or foreign: the shard is computed again
    return record if whole else None


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(p.stat().st_size for p in files if p.is_file())


def run_shard(
    stage: Stage[C],
    config: C,
    inputs: Inputs,
    folder: Path,
    *,
    shard: int,
    progress: Progress = no_progress,
) -> ShardRecord:
    """Compute and publish one shard, or return its record if it is already whole.

    It computes with one thread of torch (see `ovseg.threads`).

    Raises:
        OvsegError: if it cannot be written; nothing half-written is left behind.
    """
    if (found := read_record(folder, shard)) is not None:
        return found
    name, began = f"shard-{shard:05d}{stage.suffix}", time.monotonic()
    with published(folder / name) as temporary:
        with fixed_threads():
            output = stage.write(config, inputs, temporary, shard=shard, progress=progress)
        record = ShardRecord(
            index=shard,
            path=name,
            rows=output.rows,
            bytes=_size(temporary),
            sha256=file_sha256(temporary),
            stats=output.stats,
            seconds=time.monotonic() - began,
        )
    publish_text(record.text(), _record_path(folder, shard))
    return record


def finish(
    stage: Stage[C],
    config: C,
    inputs: Inputs,
    folder: Path,
    plan: ShardPlan,
    *,
    seconds: Mapping[int, float] | None = None,
) -> Manifest:
    """Check that every shard is there, then write `manifest.json` last.

    Args:
        stage: the stage.
        config: its configuration.
        inputs: manifests of its parents by role.
        folder: the stage's folder.
        plan: its shard plan.
        seconds: how long each shard took in this run, for `run.json`.

    Raises:
        OvsegError: if a shard is missing, or too many items were bad (`max_bad_fraction`).
    """
    found = {shard: read_record(folder, shard) for shard in range(len(plan))}
    records = [record for record in found.values() if record is not None]
    if missing := [shard for shard, record in found.items() if record is None]:
        raise OvsegError(f"{folder} lacks shards {missing[:5]}: run the stage again")
    stats = stage.summarise(config, inputs, records)
    _check_bad(stage.name, config, stats, folder, records)
    manifest = Manifest(
        stage=stage.name,
        schema_version=stage.schema_version,
        config=redacted(config.published()),
        config_digest=config.digest(),
        code_digest=stage.code_digest(config),
        parents={name: parent.content_digest for name, parent in inputs.items()},
        weights=stage.weights(config, inputs),
        plan=plan,
        shards=tuple(records),
        stats=stats,
        folder=folder,
    )
    _write_run(folder, config, seconds or {})
    with writing(folder / STATE):
        discard(folder / STATE)  # not before: until the records are there a kill costs few steps
    publish_text(manifest.text(), folder / "manifest.json")
    return manifest


def _check_bad(
    name: str,
    config: Config,
    stats: Mapping[str, Any],
    folder: Path,
    records: Sequence[ShardRecord],
) -> None:
    """Stop a stage in which more than `max_bad_fraction` of the items could not be used.

    The records of the shards with bad items are removed, so that they are computed again once the
    input is mended (a mount that was gone, say).
    """
    limit, bad, total = getattr(config, "max_bad_fraction", None), stats.get("bad"), stats.get("n")
    if limit is not None and bad and total and bad > limit * total:
        for record in records:
            if record.stats.get("bad"):
                discard(_record_path(folder, record.index))
        raise too_many_bad(name, "items", bad, total, config, stats.get("first_bad"))


def too_many_bad(
    stage: str, items: str, bad: int, total: int, config: Config, first: object
) -> OvsegError:
    """The error of a stage that stops because of its input.

    Args:
        stage: its name.
        items: what was counted.
        bad: how many cannot be used.
        total: of how many.
        config: its configuration, with `max_bad_fraction`.
        first: the first of them, and what is wrong with it.
    """
    limit: float = getattr(config, "max_bad_fraction", 0.0)
    setting = f"{section}." if (section := getattr(config, "section", "")) else ""
    enough = math.ceil(100 * bad / total) / 100
    without = f", or go on without them: --set {setting}max_bad_fraction={enough:g}"
    return OvsegError(
        f"{stage}: {bad} of {total} {items} are bad, more than {setting}max_bad_fraction={limit:g}"
        f" allows; the first: {first}; fix them{without if bad < total else ''}"
    )


def _write_run(folder: Path, config: Config, seconds: Mapping[int, float]) -> None:
    """`run.json`: what belongs to the moment and stays out of the manifest."""
    versions = {}
    for package in ("numpy", "pyarrow", "torch", "open_clip_torch", "transformers", "spacy"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    run = {
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "host": platform.node(),
        "python": platform.python_version(),
        "packages": versions,
        "execution": redacted(config.execution()),
        "torch_threads": torch_threads(),
        "seconds": {str(shard): round(value, 3) for shard, value in seconds.items()},
    }
    publish_text(json.dumps(run, indent=1, sort_keys=True) + "\n", folder / "run.json")


def finished(folder: Path, plan: ShardPlan) -> Manifest | None:
    """The manifest of a stage that is already whole: every payload still matches its sha256."""
    if not (folder / "manifest.json").is_file():
        return None
    try:
        manifest = Manifest.read(folder)
    except OvsegError:
        return None
    records = [read_record(folder, shard) for shard in range(len(plan))]
    return manifest if records == list(manifest.shards) else None


def run_stage(
    stage: Stage[C],
    config: C,
    inputs: Inputs,
    root: Path,
    *,
    progress: Progress = no_progress,
) -> Manifest:
    """Plan, run every shard in this process, and finish; does nothing where all is done."""
    folder, plan = stage_folder(stage, config, inputs, root)
    if (manifest := finished(folder, plan)) is not None:
        return manifest
    seconds = {}
    for shard in range(len(plan)):
        record = run_shard(stage, config, inputs, folder, shard=shard, progress=progress)
        if record.seconds is not None:
            seconds[shard] = record.seconds
    return finish(stage, config, inputs, folder, plan, seconds=seconds)

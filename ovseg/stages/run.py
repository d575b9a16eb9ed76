"""Running a stage: planned, a shard at a time, each published whole, the manifest last."""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ovseg.config.base import Config
from ovseg.errors import OvsegError
from ovseg.files.digests import file_sha256
from ovseg.files.publish import discard, publish_text, published, writing
from ovseg.files.urls import redacted
from ovseg.stages.manifest import Manifest, ShardPlan, ShardRecord, inside
from ovseg.stages.stage import C, Inputs, Progress, Stage, no_progress
from ovseg.stages.threads import fixed_threads, torch_threads

STATE = "state"
"""In a stage's folder: what a killed shard goes on from, removed once the stage is finished."""


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

    It computes with one thread of torch (see `ovseg.stages.threads`).

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
        config=redacted(config.result_fields()),
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
        "execution": redacted(config.execution_fields()),
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

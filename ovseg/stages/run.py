"""Run a stage: plan it, publish one whole shard at a time, and write the manifest last."""

from __future__ import annotations

import contextlib
import importlib.metadata
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
from ovseg.stages.manifest import Manifest, ShardPlan, ShardRecord
from ovseg.stages.stage import C, Inputs, Progress, Stage, no_progress
from ovseg.stages.stamps import KEY, is_whole, read_stamps, stamps_of, write_run, write_stamps
from ovseg.stages.stopwatch import stopwatch, total, waiting
from ovseg.stages.threads import fixed_threads, torch_threads

STATE = "state"
"""Folder in a stage's folder from which a killed shard resumes; removed when the stage finishes."""


def stage_folder(stage: Stage[C], config: C, inputs: Inputs, root: Path) -> tuple[Path, ShardPlan]:
    """Plan a stage and name its folder under `root`, without creating it."""
    plan = stage.plan(config, inputs)
    return root / stage.name / stage.digest(config, inputs, plan), plan


def _record_path(folder: Path, shard: int) -> Path:
    return folder / f"shard-{shard:05d}.json"


def read_record(
    folder: Path, shard: int, stamps: Mapping[str, Any] | None = None
) -> ShardRecord | None:
    """Return the record of a shard if it describes the payload; None if not or if missing.

    Args:
        folder: the stage's folder.
        shard: number of the shard.
        stamps: by path, of payloads that need not be hashed again.
    """
    try:
        record = ShardRecord.read(_record_path(folder, shard))
        whole = record.index == shard and is_whole(folder, record, stamps or {})
    except (OSError, ValueError, TypeError, OvsegError):
        return None  # missing, truncated, changed or foreign: the shard is computed again
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

    It computes with one torch thread (see `ovseg.stages.threads`).

    Raises:
        OvsegError: it cannot be written; nothing half-written is left behind.
    """
    return run_shard_together(stage, [(config, inputs, folder)], shard=shard, progress=progress)[0]


def run_shard_together(
    stage: Stage[C],
    runs: Sequence[tuple[C, Inputs, Path]],
    *,
    shard: int,
    progress: Progress = no_progress,
) -> list[ShardRecord]:
    """Compute and publish the same shard of several runs of a stage, see `Stage.write_together`.

    Args:
        stage: the stage.
        runs: configuration, inputs and folder of each, of equal plans.
        shard: number of the shard; runs in which it is whole are only read.
        progress: called with the number of items finished, counted once for all runs.

    Raises:
        OvsegError: as for `run_shard`; runs whose shard was published before the error keep it.
    """
    records = [read_record(folder, shard) for _, _, folder in runs]
    missing = [place for place, record in enumerate(records) if record is None]
    if not missing:
        return [record for record in records if record is not None]
    name, began = f"shard-{shard:05d}{stage.suffix}", time.monotonic()
    with contextlib.ExitStack() as publishing:
        targets = [publishing.enter_context(published(runs[place][2] / name)) for place in missing]
        parts = [(*runs[place][:2], target) for place, target in zip(missing, targets)]
        waits = publishing.enter_context(stopwatch())
        with fixed_threads():
            outputs = stage.write_together(parts, shard=shard, progress=progress)
        with waiting("write"):
            payloads = [(_size(target), file_sha256(target)) for target in targets]
        share = 1 / len(missing)  # of the time, for each run
        for place, (size, sha256), output in zip(missing, payloads, outputs, strict=True):
            records[place] = ShardRecord(
                index=shard,
                path=name,
                rows=output.rows,
                bytes=size,
                sha256=sha256,
                stats=output.stats,
                seconds=share * (time.monotonic() - began),
                waits={part: share * seconds for part, seconds in waits.items()},
            )
    whole = [record for record in records if record is not None]
    for place in missing:
        publish_text(whole[place].text(), _record_path(runs[place][2], shard))
    return whole


def finish(
    stage: Stage[C],
    config: C,
    inputs: Inputs,
    folder: Path,
    plan: ShardPlan,
    *,
    computed: Sequence[ShardRecord] = (),
) -> Manifest:
    """Check that every shard is finished, then write `manifest.json` last.

    Args:
        stage: the stage.
        config: its configuration.
        inputs: manifests of its parents by role.
        folder: the stage's folder.
        plan: its shard plan.
        computed: the records of this run, whose times are for `run.json`.

    Raises:
        OvsegError: a shard is missing, or too many items were bad (`max_bad_fraction`).
    """
    by_shard = {shard: read_record(folder, shard) for shard in range(len(plan))}
    records = [record for record in by_shard.values() if record is not None]
    if missing := [shard for shard, record in by_shard.items() if record is None]:
        raise OvsegError(f"{folder}: shards {missing[:5]} are missing: run the stage again")
    stats = stage.summarize(config, inputs, records)
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
    _write_run(folder, config, records, computed)
    with writing(folder / STATE):
        discard(folder / STATE)  # only now, so that a kill before the records costs few steps
    publish_text(manifest.text(), folder / "manifest.json")
    return manifest


def _check_bad(
    name: str,
    config: Config,
    stats: Mapping[str, Any],
    folder: Path,
    records: Sequence[ShardRecord],
) -> None:
    """Stop a stage in which more than `max_bad_fraction` of the items are unusable.

    The records of the shards with bad items are removed, so that they are computed again once the
    input is fixed (an unmounted disk, say).
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
    """Build the error of a stage that stops because of its input.

    Args:
        stage: its name.
        items: what is counted, such as images.
        bad: number of unusable items.
        total: number of all items.
        config: its configuration, with `max_bad_fraction`.
        first: the first unusable item, and its problem.
    """
    limit: float = getattr(config, "max_bad_fraction", 0.0)
    setting = f"{section}." if (section := getattr(config, "section", "")) else ""
    enough = math.ceil(100 * bad / total) / 100
    without = f", or go on without them: --set {setting}max_bad_fraction={enough:g}"
    return OvsegError(
        f"{stage}: {bad} of {total} {items} are bad, more than {setting}max_bad_fraction={limit:g}"
        f" allows; the first: {first}; fix them{without if bad < total else ''}"
    )


def _write_run(
    folder: Path,
    config: Config,
    records: Sequence[ShardRecord],
    computed: Sequence[ShardRecord],
) -> None:
    """Write `run.json`: facts of this run and this copy that stay out of the manifest."""
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
        "seconds": {str(r.index): round(r.seconds, 3) for r in computed if r.seconds is not None},
        "waits": {part: round(s, 3) for part, s in total(r.waits for r in computed).items()},
        KEY: stamps_of(folder, records),
    }
    write_run(folder, run)


def finished(folder: Path, plan: ShardPlan) -> Manifest | None:
    """Return the manifest of a finished stage; None unless every payload is as recorded.

    A payload whose size and time of last change are those of `run.json` is not read.
    """
    if not (folder / "manifest.json").is_file():
        return None
    try:
        manifest = Manifest.read(folder)
    except OvsegError:
        return None
    known = read_stamps(folder)
    try:
        now = stamps_of(folder, manifest.shards)
    except (OSError, OvsegError):
        return None  # a payload is missing, or is a link that leads out
    records = [read_record(folder, shard, known) for shard in range(len(plan))]
    if records != list(manifest.shards):
        return None
    if now != known:
        write_stamps(folder, now)  # of another copy, or written by an earlier version
    return manifest


def run_stage(
    stage: Stage[C],
    config: C,
    inputs: Inputs,
    root: Path,
    *,
    progress: Progress = no_progress,
) -> Manifest:
    """Plan a stage, run every shard in this process, and finish; a finished stage is only read."""
    folder, plan = stage_folder(stage, config, inputs, root)
    if (manifest := finished(folder, plan)) is not None:
        return manifest
    with stage.session(config, inputs):
        records = [
            run_shard(stage, config, inputs, folder, shard=shard, progress=progress)
            for shard in range(len(plan))
        ]
    return finish(stage, config, inputs, folder, plan, computed=records)

"""Library stages as Prefect tasks: shards are mapped over the flow's task runner, then finished.

Prefect schedules, retries and displays; the manifest is the only cache, so tasks use `NO_CACHE`.
Inside a flow:

    nouns = run(NOUNS, config.nouns, {"images": images}, root)
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture

from ovseg.config.base import Config
from ovseg.errors import OvsegError
from ovseg.files.publish import WriteError
from ovseg.models.devices import resolve_device
from ovseg.stages.device_turns import device_turn
from ovseg.stages.manifest import Manifest, ShardPlan, ShardRecord
from ovseg.stages.run import finish, finished, run_shard_together, stage_folder
from ovseg.stages.stage import Inputs, Stage
from ovseg.stages.stopwatch import in_words, total
from tasks.progress import bar, found

_FOR_A_PERSON = (
    OvsegError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    AssertionError,
    ImportError,
    NotImplementedError,
)
"""Errors that a retry would raise again: bad input, and bugs."""
_FULL_OR_FORBIDDEN = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


class Run(NamedTuple):
    """A stage's configuration, inputs by role, folder and plan."""

    config: Config
    inputs: dict[str, Manifest]
    folder: Path
    plan: ShardPlan


def _worth_a_retry(task: Any, task_run: Any, state: Any) -> bool:
    """Retry errors that may pass (a flaky mount, a full GPU), never those that need a person."""
    try:
        state.result()
    except WriteError as error:
        return error.passing
    except _FOR_A_PERSON:
        return False
    except OSError as error:
        return error.errno not in _FULL_OR_FORBIDDEN
    except Exception:
        return True
    return False


_RETRIED: dict[str, Any] = {
    "retries": 2,
    "retry_delay_seconds": [2, 20],
    "retry_condition_fn": _worth_a_retry,
}


@task(
    task_run_name="{stage.name} {shard}",
    cache_policy=NO_CACHE,
    **_RETRIED,
    persist_result=False,
)
def compute_shard(
    stage: Stage[Any], runs: list[Run], shard: int, progress: Callable[[int], None]
) -> list[ShardRecord]:
    """Compute and publish one shard of each run of a stage, unless it is done."""
    with device_turn(_alone_on(runs[0].config)):
        parts = [(config, inputs, folder) for config, inputs, folder, _ in runs]
        records = run_shard_together(stage, parts, shard=shard, progress=progress)
    if all(record.seconds is None for record in records):
        progress(runs[0].plan.counts[shard])
    for record, (_, _, folder, _) in zip(records, runs):
        path = folder / record.path
        if record.seconds is None:
            get_run_logger().info("already whole: %s", path)
        else:
            get_run_logger().info("%d rows in %.1f s: %s", record.rows, record.seconds, path)
    return records


def _alone_on(config: Config) -> str | None:
    """Return the GPU that a stage computes on; None for a CPU, which shards share."""
    device = getattr(config, "device", None)
    name = None if device is None else resolve_device(device)
    return None if name == "cpu" else name


@task(task_run_name="finish {stage.name}", cache_policy=NO_CACHE, **_RETRIED, persist_result=False)
def finish_stage(
    stage: Stage[Any],
    config: Config,
    inputs: dict[str, Manifest],
    folder: Path,
    plan: ShardPlan,
    computed: list[ShardRecord],
) -> Manifest:
    """Check that every shard exists and write the manifest."""
    return finish(stage, config, inputs, folder, plan, computed=computed)


def run(
    stage: Stage[Any],
    config: Config,
    inputs: Inputs,
    root: Path,
    *,
    label: str | None = None,
) -> Manifest:
    """Run a stage inside a flow, shard by shard, unless it is done.

    Args:
        stage: the stage.
        config: its configuration.
        inputs: manifests of its parents by role.
        root: the folder of all results.
        label: displayed name; defaults to the stage's name.

    Returns:
        The manifest.

    Raises:
        OvsegError: from a shard or the finish, with its one-line message.
    """
    label = label or stage.name
    return run_together(stage, [(label, config, inputs)], root, label=label)[0]


def run_together(
    stage: Stage[Any],
    runs: Sequence[tuple[str, Config, Inputs]],
    root: Path,
    *,
    label: str,
) -> list[Manifest]:
    """Run a stage several times over the same plan; a shard of all of them is one task.

    Args:
        stage: the stage.
        runs: displayed name, configuration and inputs of each.
        root: the folder of all results.
        label: displayed name of all of them.

    Returns:
        The manifests, in order.

    Raises:
        OvsegError: as for `run`.
    """
    log, began = get_run_logger(), time.monotonic()
    made: dict[Path, Manifest] = {}
    missing: dict[Path, tuple[str, Run]] = {}
    folders: list[Path] = []
    for name, config, inputs in runs:
        folder, plan = stage_folder(stage, config, inputs, root)
        folders.append(folder)
        if (manifest := finished(folder, plan)) is not None:
            made[folder] = manifest
            found(name)
            log.info("%s: found, nothing to compute: %s", name, folder)
        else:
            missing.setdefault(folder, (name, Run(config, dict(inputs), folder, plan)))
    if len(missing) == 1:
        ((label, _),) = missing.values()
    if missing:
        computed = _computed(stage, [each for _, each in missing.values()], label)
        spent, others = time.monotonic() - began, len(missing) - 1
        for (name, (config, parents, folder, plan)), records in zip(missing.values(), computed):
            finish_it = finish_stage.with_options(task_run_name=f"{name}: finish")
            made[folder] = manifest = finish_it(stage, config, parents, folder, plan, records)
            whole = len(plan) - len(records)
            kept = f", {whole} of {len(plan)} shards found" if whole else ""
            kept += f", together with {others} others" if others else ""
            kept += waits_in_words(records)
            log.info("%s: %d rows in %.1f s%s: %s", name, manifest.rows, spent, kept, folder)
    return [made[folder] for folder in folders]


def _computed(stage: Stage[Any], runs: list[Run], label: str) -> list[list[ShardRecord]]:
    """Compute the shards of runs; return those that were not found, by run."""
    config, parents, _, plan = runs[0]
    folders = [f"folder:{folder.name}" for _, _, folder, _ in runs]
    with stage.session(config, parents), bar(label, sum(plan.counts)) as progress:
        compute = compute_shard.with_options(
            task_run_name=_shard_name(label, len(plan)), tags=[stage.name, *folders]
        )
        futures: list[PrefectFuture[list[ShardRecord]]] = [
            compute.submit(stage, runs, shard, progress) for shard in range(len(plan))
        ]
        shards = [future.result() for future in futures]
    return [
        [record for record in records if record.seconds is not None] for records in zip(*shards)
    ]


def waits_in_words(computed: list[ShardRecord]) -> str:
    """Return what the shards of a stage waited for, to follow how long they took."""
    seconds = sum(record.seconds or 0.0 for record in computed)
    words = in_words(total(record.waits for record in computed), seconds)
    return f"; {words}" if words else ""


def _shard_name(label: str, shards: int) -> Callable[[dict[str, Any]], str]:
    """Name a stage's task runs: `find nouns 3 of 8`, without numbers if there is one shard."""

    def name(parameters: dict[str, Any]) -> str:
        return f"{label} {parameters['shard'] + 1} of {shards}" if shards > 1 else label

    return name

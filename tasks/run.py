"""Library stages as Prefect tasks: shards are mapped over the flow's task runner, then finished.

Prefect schedules, retries and displays; the manifest is the only cache, so tasks use `NO_CACHE`.
Inside a flow:

    nouns = run(NOUNS, config.nouns, {"images": images}, root)
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture

from ovseg.config.base import Config
from ovseg.errors import OvsegError
from ovseg.files.publish import WriteError
from ovseg.stages.device_turns import device_turn
from ovseg.stages.manifest import Manifest, ShardPlan, ShardRecord
from ovseg.stages.run import finish, finished, run_shard, stage_folder
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
    stage: Stage[Any],
    config: Config,
    inputs: dict[str, Manifest],
    folder: Path,
    plan: ShardPlan,
    shard: int,
    progress: Callable[[int], None],
) -> ShardRecord:
    """Compute and publish one shard of a stage, unless it is done."""
    with device_turn(getattr(config, "device", None)):
        record = run_shard(stage, config, inputs, folder, shard=shard, progress=progress)
    path = folder / record.path
    if record.seconds is None:
        progress(plan.counts[shard])
        get_run_logger().info("already whole: %s", path)
    else:
        get_run_logger().info("%d rows in %.1f s: %s", record.rows, record.seconds, path)
    return record


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
    folder, plan = stage_folder(stage, config, inputs, root)
    label, log, began = label or stage.name, get_run_logger(), time.monotonic()
    if (manifest := finished(folder, plan)) is not None:
        found(label)
        log.info("%s: found, nothing to compute: %s", label, folder)
        return manifest
    parents = dict(inputs)
    with stage.session(config, parents), bar(label, sum(plan.counts)) as progress:
        compute = compute_shard.with_options(
            task_run_name=_shard_name(label, len(plan)),
            tags=[stage.name, f"folder:{folder.name}"],
        )
        futures: list[PrefectFuture[ShardRecord]] = [
            compute.submit(stage, config, parents, folder, plan, shard, progress)
            for shard in range(len(plan))
        ]
        records = [future.result() for future in futures]
    computed = [record for record in records if record.seconds is not None]
    finish_it = finish_stage.with_options(task_run_name=lambda: f"{label}: finish")
    manifest = finish_it(stage, config, parents, folder, plan, computed)
    spent, whole = time.monotonic() - began, len(records) - len(computed)
    kept = f", {whole} of {len(records)} shards found" if whole else ""
    waited = waits_in_words(computed)
    log.info("%s: %d rows in %.1f s%s%s: %s", label, manifest.rows, spent, kept, waited, folder)
    return manifest


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

"""The storybook on disk as a stage: a part of the world, drawn once, in COCO format."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import Any

from ovseg.config.data import WorldConfig
from ovseg.files.digests import digest_json
from ovseg.stages.manifest import ShardPlan
from ovseg.stages.stage import Inputs, Output, Progress, Stage
from ovseg.stages.threads import cores
from ovseg.stages.workers import WorkerPool, dying_workers

_WORTH_PROCESSES = 100
"""Scenes below which starting processes takes longer than it saves."""
_AT_ONCE = 8
"""Scenes handed to a process together."""


class WorldStage(Stage[WorldConfig]):
    """Draws the scenes of one part (mining or val) into a folder in COCO's layout."""

    name = "storybook"
    suffix = ""

    def plan(self, config: WorldConfig, inputs: Inputs) -> ShardPlan:
        """Plan one shard: COCO keeps the annotations of a part in one file."""
        return ShardPlan.single(digest_json([config.part, config.scenes]), config.scenes)

    def write(
        self, config: WorldConfig, inputs: Inputs, target: Path, *, shard: int, progress: Progress
    ) -> Output:
        """Draw and write the part, in several processes if there are enough scenes."""
        from ovseg.storybook.world import write_world

        target.mkdir(parents=True)
        with contextlib.ExitStack() as stack:
            apply: Any = map
            if config.scenes >= _WORTH_PROCESSES and cores() > 1:
                pool = stack.enter_context(WorkerPool(cores(), preload=["ovseg.storybook.world"]))
                apply = functools.partial(pool.map, chunksize=_AT_ONCE)
            stack.enter_context(dying_workers("draws scenes", setting="fewer scenes"))
            write_world(
                target,
                part=config.part,
                n=config.scenes,
                size=config.size,
                seed=config.seed,
                progress=progress,
                apply=apply,
            )
        return Output(rows=config.scenes, stats={"scenes": config.scenes})


WORLD = WorldStage()

"""The storybook on disk as a stage: a part of the world, drawn once, in COCO format."""

from __future__ import annotations

from pathlib import Path

from ovseg.config.data import WorldConfig
from ovseg.files.digests import digest_json
from ovseg.stages.manifest import ShardPlan
from ovseg.stages.stage import Inputs, Output, Progress, Stage


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
        """Draw and write the part."""
        from ovseg.storybook.world import write_world

        target.mkdir(parents=True)
        write_world(
            target,
            part=config.part,
            n=config.scenes,
            size=config.size,
            seed=config.seed,
            progress=progress,
        )
        return Output(rows=config.scenes, stats={"scenes": config.scenes})


WORLD = WorldStage()

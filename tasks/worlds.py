"""The embedded world of a run: drawn where the configuration asks for it."""

from __future__ import annotations

from ovseg.settings import PipelineConfig
from ovseg.storage import Manifest
from ovseg.storybook.stage import WORLD
from tasks.stages import run


def draw(config: PipelineConfig) -> tuple[PipelineConfig, dict[str, Manifest]]:
    """Draw the storybook parts a run wants, inside a flow, and point the run at them.

    Returns:
        The configuration with its paths, and the drawn parts by role.
    """
    worlds: dict[str, Manifest] = {}
    if config.mining_world is not None:
        world = run(WORLD, config.mining_world, {}, config.root, label="draw scenes to mine")
        annotations, images = world.payload() / "annotations", world.payload() / "images"
        config = config.with_source(
            annotations / "captions.json", images, annotations / "panoptic.json", world.payload()
        )
        worlds["world/mining"] = world
    config, scored = draw_scored(config)
    return config, {**worlds, **scored}


def draw_scored(config: PipelineConfig) -> tuple[PipelineConfig, dict[str, Manifest]]:
    """Of the drawn parts only the one that is scored on: enough where nothing is mined."""
    worlds: dict[str, Manifest] = {}
    if config.benchmark_world is not None:
        world = run(WORLD, config.benchmark_world, {}, config.root, label="draw scenes to score")
        config = config.with_benchmark_root("storybook", world.payload())
        worlds["world/benchmark"] = world
    return config, worlds

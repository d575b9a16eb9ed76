"""The embedded world of a run: drawn, and networks trained on it, where they are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ovseg.config.run import PipelineConfig
from ovseg.data.storybook import WORLD
from ovseg.pretraining.on_demand import SCENES, trained_names, training_of, with_trained
from ovseg.stages.manifest import Manifest
from ovseg.training.segmentation.stage import SEGMENTATION
from tasks.run import run


@dataclass(frozen=True)
class Drawn:
    """A run whose embedded world is drawn, if it has one: what its steps work on.

    Attributes:
        config: its configuration, with the paths of what was drawn.
        worlds: by role what was drawn and trained.
    """

    config: PipelineConfig
    worlds: Mapping[str, Manifest] = field(default_factory=dict)

    def of(self, config: PipelineConfig) -> Drawn:
        """The same world under another configuration."""
        return replace(self, config=config)


def draw(config: PipelineConfig, *, mining: bool = True) -> Drawn:
    """Draw the storybook parts a run wants, once, inside a flow, and point the run at them.

    Args:
        config: the run.
        mining: also the part that is mined; without it only the one that is scored on is there.
    """
    worlds: dict[str, Manifest] = {}
    if config.mining_world is not None and mining:
        world = run(WORLD, config.mining_world, {}, config.root, label="draw scenes to mine")
        annotations, images = world.payload() / "annotations", world.payload() / "images"
        config = config.with_source(
            annotations / "captions.json", images, annotations / "panoptic.json", world.payload()
        )
        worlds["world/mining"] = world
    if config.benchmark_world is not None:
        world = run(WORLD, config.benchmark_world, {}, config.root, label="draw scenes to score")
        config = config.with_benchmark_root("storybook", world.payload())
        worlds["world/benchmark"] = world
    names = sorted({name for setting in config.benchmarks for name in trained_names(setting)})
    for name in names:
        worlds["world/training"] = run(
            WORLD, SCENES, {}, config.root, label="draw scenes to train on"
        )
        network = train_network(config, name, worlds["world/training"])
        benchmarks = [with_trained(each, name, network.payload()) for each in config.benchmarks]
        config = config.model_copy(update={"benchmarks": tuple(benchmarks)})
        worlds[f"network/{name}"] = network
    return Drawn(config, worlds)


def train_network(config: PipelineConfig, name: str, scenes: Manifest) -> Manifest:
    """Train a network of `ovseg.pretraining.on_demand.TRAINED` for a run's split, or find it.

    Args:
        config: the run; its seed is the split, its first benchmark that names the network says
            what it is trained for.
        name: of the network.
        scenes: drawn ones.
    """
    setting = next(each for each in config.benchmarks if name in trained_names(each))
    training = training_of(name, scenes=scenes.payload(), split=config.seed, setting=setting)
    return run(SEGMENTATION, training, {}, config.root, label=f"train {name}")

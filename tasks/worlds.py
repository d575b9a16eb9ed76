"""The embedded world of a run: drawing it, and training networks on it on demand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ovseg.config.run import RunConfig
from ovseg.data.storybook import WORLD
from ovseg.pretraining.on_demand import SCENES, trained_names, training_of, with_trained
from ovseg.stages.manifest import Manifest
from ovseg.training.segmentation.stage import SEGMENTATION
from tasks.run import run


@dataclass(frozen=True)
class Drawn:
    """A run whose embedded world, if any, is drawn; the input of its steps.

    Attributes:
        config: its configuration, with the paths of the drawn world.
        worlds: the drawn worlds and trained networks by role.
    """

    config: RunConfig
    worlds: Mapping[str, Manifest] = field(default_factory=dict)

    def of(self, config: RunConfig) -> Drawn:
        """Return the same world under another configuration."""
        return replace(self, config=config)


def draw(config: RunConfig, *, mining: bool = True) -> Drawn:
    """Draw the storybook parts that a run needs, once, inside a flow, and point the run at them.

    Args:
        config: the run.
        mining: whether to draw the part that is mined, not only the one that is scored.
    """
    worlds: dict[str, Manifest] = {}
    if config.data.mining_world is not None and mining:
        world = run(WORLD, config.data.mining_world, {}, config.root, label="draw scenes to mine")
        annotations, images = world.payload() / "annotations", world.payload() / "images"
        config = config.changed(
            "data",
            captions=annotations / "captions.json",
            images=images,
            panoptic=annotations / "panoptic.json",
            labels=world.payload(),
        )
        worlds["world/mining"] = world
    if config.data.benchmark_world is not None:
        world = run(
            WORLD, config.data.benchmark_world, {}, config.root, label="draw scenes to score"
        )
        config = config.with_benchmark_root("storybook", world.payload())
        worlds["world/benchmark"] = world
    names = sorted({name for setting in config.scored for name in trained_names(setting)})
    if names:
        worlds["world/training"] = run(
            WORLD, SCENES, {}, config.root, label="draw scenes to train on"
        )
    for name in names:
        network = train_network(config, name, worlds["world/training"])
        config = with_trained(config, name, network.payload())
        worlds[f"network/{name}"] = network
    return Drawn(config, worlds)


def train_network(config: RunConfig, name: str, scenes: Manifest) -> Manifest:
    """Train a network of `ovseg.pretraining.on_demand.TRAINED` for a run's split, or find it.

    Args:
        config: the run; its seed is the split; its first benchmark that names the network supplies
            the settings.
        name: of the network.
        scenes: the drawn scenes.
    """
    setting = next(each for each in config.scored if name in trained_names(each))
    training = training_of(name, scenes=scenes.payload(), split=config.seed, setting=setting)
    return run(SEGMENTATION, training, {}, config.root, label=f"train {name}")

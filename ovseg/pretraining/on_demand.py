"""Networks of the storybook that are trained on demand for a benchmark, in minutes.

A benchmark may name them in place of a folder: `benchmarks.pixels=storybook-lseg`, or
`benchmarks.maskformer=storybook-supervised`. They are trained once and then found by digest. Both
start from the shipped compact MaskFormer of the same split: LSeg takes its backbone and pixel
decoder and is trained on seen categories only, as they were; the supervised MaskFormer continues
with the masks of all categories, as an upper bound in comparisons.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ovseg.config.data import WorldConfig
from ovseg.config.presets import compact_maskformer
from ovseg.config.run import RunConfig
from ovseg.config.scoring import BenchmarkConfig
from ovseg.storybook.categories import split as parts_of

if TYPE_CHECKING:
    from ovseg.training.segmentation.stage import LabelledTrainingConfig

SCENES = WorldConfig(part="pretrain", scenes=800)
"""Their training scenes, which the compact MaskFormer and CLIP have seen too."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A network trained on demand.

    Attributes:
        recipe: a key of `ovseg.config.registry.RECIPES`.
        unseen: whether it is trained on the masks of unseen categories too.
    """

    recipe: str
    unseen: bool


TRAINED: dict[str, Trained] = {
    "storybook-lseg": Trained(recipe="compact-lseg", unseen=False),
    "storybook-supervised": Trained(recipe="compact-supervised", unseen=True),
}
"""By their names in a benchmark's settings."""


def trained_names(setting: BenchmarkConfig) -> list[str]:
    """Return the networks of `TRAINED` that a benchmark names."""
    return [name for name in (setting.pixels, setting.maskformer) if name in TRAINED]


def training_of(
    name: str, *, scenes: Path, split: int, setting: BenchmarkConfig
) -> LabelledTrainingConfig:
    """Return the training stage of a network and its inputs.

    Args:
        name: a key of `TRAINED`.
        scenes: folder of the drawn scenes.
        split: which categories are seen; also the seed of the training.
        setting: the benchmark; training uses its CLIP, templates and device.
    """
    from ovseg.training.segmentation.recipes import recipe
    from ovseg.training.segmentation.stage import LabelledTrainingConfig

    seen, _ = parts_of(split)
    network = TRAINED[name]
    changed = {"start": compact_maskformer(split), "seed": split, "device": setting.device}
    return LabelledTrainingConfig(
        root=scenes,
        layout="storybook",
        classes=() if network.unseen else tuple(sorted(seen)),
        clip=setting.clip,
        templates=setting.templates,
        recipe=recipe(network.recipe, changed),
    )


def with_trained(config: RunConfig, name: str, folder: Path) -> RunConfig:
    """Return the run with a trained network's folder in place of its name in the benchmarks."""
    fields = ("pixels", "maskformer")
    benchmarks = tuple(
        item.model_copy(
            update={each: str(folder) for each in fields if getattr(full, each) == name}
        )
        for item, full in zip(config.benchmarks, config.scored, strict=True)
    )
    return config.model_copy(update={"benchmarks": benchmarks})

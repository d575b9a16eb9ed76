"""Networks of the storybook that are trained where a benchmark asks for them, in minutes.

A benchmark may name them in place of a folder: `benchmarks.pixels=storybook-lseg`, or
`benchmarks.maskformer=storybook-supervised`. They are trained once, found by digest afterwards.

Both start from the compact MaskFormer that ships, of the same split: LSeg takes its backbone and
pixel decoder, which saw masks of seen categories only, and sees no others itself; the supervised
MaskFormer goes on with the masks of all categories, as the upper line of a comparison.
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
"""What they are trained on: scenes that the compact MaskFormer and CLIP have seen too."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A network trained on demand.

    Attributes:
        recipe: a key of `ovseg.config.registry.RECIPES`.
        unseen: it sees the masks of unseen categories too.
    """

    recipe: str
    unseen: bool


TRAINED: dict[str, Trained] = {
    "storybook-lseg": Trained(recipe="compact-lseg", unseen=False),
    "storybook-supervised": Trained(recipe="compact-supervised", unseen=True),
}
"""By the name that a benchmark gives."""


def trained_names(setting: BenchmarkConfig) -> list[str]:
    """The networks of `TRAINED` that a benchmark names."""
    return [name for name in (setting.pixels, setting.maskformer) if name in TRAINED]


def training_of(
    name: str, *, scenes: Path, split: int, setting: BenchmarkConfig
) -> LabelledTrainingConfig:
    """How a network is trained.

    Args:
        name: a key of `TRAINED`.
        scenes: folder of the drawn scenes.
        split: which categories are seen; the seed of the training too.
        setting: of the benchmark: its CLIP and templates name the categories, its device trains.
    """
    from ovseg.training.segmentation.recipes import recipe
    from ovseg.training.segmentation.stage import LabelledTrainingConfig

    seen, _ = parts_of(split)
    wanted = TRAINED[name]
    changed = {"start": compact_maskformer(split), "seed": split, "device": setting.device}
    return LabelledTrainingConfig(
        root=scenes,
        layout="storybook",
        classes=() if wanted.unseen else tuple(sorted(seen)),
        clip=setting.clip,
        templates=setting.templates,
        recipe=recipe(wanted.recipe, changed),
    )


def with_trained(config: RunConfig, name: str, folder: Path) -> RunConfig:
    """The same run whose benchmarks have a trained network's folder in place of its name."""
    fields = ("pixels", "maskformer")
    benchmarks = tuple(
        item.model_copy(
            update={each: str(folder) for each in fields if getattr(full, each) == name}
        )
        for item, full in zip(config.benchmarks, config.scored, strict=True)
    )
    return config.model_copy(update={"benchmarks": benchmarks})

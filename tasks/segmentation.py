"""The steps of training a network on labels: training, scoring, publishing, recording."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ovseg.config.scoring import BenchmarkConfig
from ovseg.evaluation.benchmark import BENCHMARK
from ovseg.files.parquet_files import read_parquet
from ovseg.stages.manifest import Manifest
from ovseg.training.segmentation.recipes import recipe
from ovseg.training.segmentation.stage import (
    LOG_FILE,
    SEGMENTATION,
    LabelledTrainingConfig,
    check_out,
    hand_out,
)
from tasks.run import run
from tasks.tracking.mlflow_run import never_fails_the_run
from tasks.tracking.tracked_run import TrackedRun

__all__ = [
    "check_out",
    "configure",
    "hand_out",
    "named_scores",
    "record",
    "score",
    "train",
]

SCORES = ("miou_union", "miou_gt", "fwiou", "macc", "pacc")
"""The MaskFormer's scores; the others are CLIP's on ground-truth masks."""


def configure(
    data: Path,
    *,
    layout: str,
    clip: str,
    recipe_name: str,
    settings: Mapping[str, Any],
    classes: tuple[str, ...] = (),
) -> LabelledTrainingConfig:
    """Configure a recipe for a labelled folder.

    Args:
        data: the folder.
        layout: its layout, `prepared` or a benchmark's name.
        clip: the CLIP whose texts name the classes.
        recipe_name: a key of `ovseg.config.registry.RECIPES`.
        settings: changes to the recipe; dotted names reach into `architecture` and `inputs`.
        classes: classes to train on; defaults to all.
    """
    replaced: dict[str, Any] = {}
    for name, value in settings.items():
        outer, dot, inner = name.partition(".")
        if dot:
            replaced.setdefault(outer, {})[inner] = value
        else:
            replaced[outer] = value
    return LabelledTrainingConfig(
        root=data,
        layout=layout,
        classes=classes,
        clip=clip,
        recipe=recipe(recipe_name, replaced),
    )


def train(config: LabelledTrainingConfig, root: Path) -> Manifest:
    """Train, unless done; resumes an interrupted training."""
    return run(SEGMENTATION, config, {}, root, label=f"train {_what(config)}")


def score(
    config: LabelledTrainingConfig, trained: Manifest, root: Path, *, data: Path, images: int
) -> Manifest:
    """Score the network alone, without CLIP's view of its masks, on labelled images.

    Args:
        config: of the training.
        trained: the trained network.
        root: folder of all results.
        data: labelled folder in the layout of the training data.
        images: number of images to score, from the first.
    """
    setting = BenchmarkConfig(
        benchmark=config.layout,
        root=data,
        limit=images,
        clip=config.clip,
        templates=config.templates,
        **_alone(config, trained),
        short_side=config.recipe.inputs.short_side,
        max_side=config.recipe.inputs.max_side,
        device=config.recipe.device,
    )
    return run(BENCHMARK, setting, {}, root, label=f"score {_what(config)}")


def _what(config: LabelledTrainingConfig) -> str:
    return "MaskFormer" if config.recipe.head == "queries" else "pixel embeddings"


def _alone(config: LabelledTrainingConfig, trained: Manifest) -> dict[str, Any]:
    """Return the settings with which a network segments without CLIP's view of images."""
    if config.recipe.head == "queries":
        return {"maskformer": str(trained.payload()), "ensemble": "maskformer_only"}
    return {"pixels": str(trained.payload()), "segmentor": "pixels"}


def named_scores(measured: Manifest, *, validated: bool) -> dict[str, float]:
    """Return the network's scores; the prefix says whether it was trained on those images."""
    prefix = "validation" if validated else "training"
    scores = measured.stats["scores"]
    return {f"{prefix}/{name}": scores[name] for name in SCORES if name in scores}


@never_fails_the_run
def record(
    tracked: TrackedRun,
    config: LabelledTrainingConfig,
    trained: Manifest,
    scores: Mapping[str, float],
) -> None:
    """Log settings, losses over the steps, scores and the stage's manifest."""
    tracked.tags({"stage": "train-segmentation", "maskformer": trained.digest})
    tracked.params(config)
    log = read_parquet(trained.payload() / LOG_FILE).to_pylist()
    tracked.series(log, prefix="train", keys=("loss", "learning_rate"))
    tracked.metrics({f"train/last_{k}": v for k, v in trained.stats["last_terms"].items()})
    counted = ("images", "unlabelled", "classes", "classes_met", "steps", "parameters")
    tracked.metrics({f"train/{key}": trained.stats[key] for key in counted})
    tracked.metrics(scores)
    tracked.manifest("1-maskformer", trained)

"""A short training on a folder of images and label maps."""

from pathlib import Path

from ovseg.data.benchmarks.benchmark import load_benchmark
from ovseg.training.segmentation.recipes import recipe
from ovseg.training.segmentation.samples import LabelledSamples
from ovseg.training.segmentation.stage import (
    LabelledTrainingConfig,
)

TINY = recipe(
    "compact",
    {
        "architecture": {
            "backbone_dim": 8,
            "feature_dim": 32,
            "mask_dim": 32,
            "query_dim": 32,
            "queries": 4,
            "decoder_layers": 2,
            "decoder_heads": 2,
            "decoder_ffn": 32,
            "class_hidden_dim": 32,
            "dropout": 0.1,
        },
        "inputs": {"short_side": 64, "max_side": 128},
        "steps": 6,
        "batch_size": 2,
        "crop": 64,
        "short_sides": [64],
        "draws": "sample",
        "checkpoint_every": 2,
    },
)


def samples_of(root: Path) -> LabelledSamples:
    return LabelledSamples(load_benchmark("prepared", root))


def config_of(root: Path, clip: Path, **settings: object) -> LabelledTrainingConfig:
    return LabelledTrainingConfig(
        root=root, clip=str(clip), recipe=TINY.model_copy(update=settings)
    )

"""A benchmark of six small images, and how the tiny segmentor is scored on it."""

import numpy as np
import pytest
from benchmark_rows import CLASSES
from PIL import Image

from ovseg.config.scoring import BenchmarkConfig


@pytest.fixture
def root(tmp_path):
    """Six small images with labels of four classes and some ignored pixels."""
    folder = tmp_path / "benchmark"
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    rng = np.random.default_rng(0)
    for index in range(6):
        shape = (40 + index, 56)
        pixels = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
        labels = rng.choice([0, 1, 2, 255], (4, 4)).repeat(14, 0).repeat(14, 1)
        Image.fromarray(pixels).save(folder / "images" / f"{index}.png")
        Image.fromarray(labels[: shape[0], : shape[1]].astype(np.uint8)).save(
            folder / "labels" / f"{index}.png"
        )
    return folder


@pytest.fixture
def config(root, tiny_clip, tiny_maskformer):
    return BenchmarkConfig(
        benchmark="mini",
        root=root,
        clip=str(tiny_clip),
        maskformer=str(tiny_maskformer),
        short_side=64,
        max_side=128,
        templates="single",
        seen=("house", " Tree", "elsewhere"),
        device="cpu",
    )

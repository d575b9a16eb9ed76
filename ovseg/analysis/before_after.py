"""Label maps of benchmark images before and after adaptation, as tiles of the contact sheet."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ovseg.analysis.overlay import overlay
from ovseg.benchmark_config import BenchmarkConfig
from ovseg.data.benchmarks import LabelError, load_benchmark
from ovseg.data.images import ImageError
from ovseg.evaluation.evaluator import benchmark_segmentor
from ovseg.evaluation.samples import read_sample
from ovseg.storage import Manifest


def segmentation_rows(
    config: BenchmarkConfig, checkpoint: Manifest | None, *, images: int, tile: int
) -> list[list[Image.Image]]:
    """Pictures of evenly spaced benchmark images: image, ground truth, before, after.

    Args:
        config: the benchmark, and the settings it is segmented with.
        checkpoint: the adapted CLIP; without one the last picture is left out.
        images: how many rows.
        tile: width of a picture in pixels; legends stand below.
    """
    benchmark = load_benchmark(config.benchmark, config.root, limit=config.limit)
    names = [config.clip, *([str(checkpoint.payload())] if checkpoint else [])]
    segmentors = [benchmark_segmentor(config, benchmark, clip=name) for name in names]
    step = max(1, len(benchmark.samples) // images)
    rows: list[list[Image.Image]] = []
    for sample in benchmark.samples[::step][:images]:
        try:
            image, labels = read_sample(benchmark, sample)
        except (ImageError, LabelError):
            continue  # counted with its reason in the benchmark's stats
        truth = np.where(labels == benchmark.ignore_index, len(benchmark.classes), labels).astype(
            np.int64
        )
        maps = [truth, *(segmentor.segment(image).labels for segmentor in segmentors)]
        size = (tile, max(1, round(tile * image.shape[0] / image.shape[1])))
        large = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
        drawn = [
            overlay(np.asarray(large), _resize_labels(labels, size), benchmark.classes)
            for labels in maps
        ]
        rows.append([large, *drawn])
    return rows


def _resize_labels(labels: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.int64]:
    """A label map (H, W) at another (width, height), nearest."""
    picture = Image.fromarray(labels.astype(np.int32), mode="I")
    return np.asarray(picture.resize(size, Image.Resampling.NEAREST), dtype=np.int64)

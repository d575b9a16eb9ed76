"""The batches of a segmentation training: samples in random order, each a new view of its image.

A step's batch depends only on the seed and the step's number, so a resumed training sees the same
batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ovseg.training.segmentation.augmentation import Augmentation, SegmentationSample, augment
from ovseg.training.segmentation.recipes import SegmentationConfig

Batch = list[SegmentationSample]


def augmented_batches(
    config: SegmentationConfig, samples: Sequence[SegmentationSample], *, first: int = 0
) -> Iterator[Batch]:
    """Yield the batches of the steps from `first` on, in an order fixed by the seed.

    Args:
        config: seed, sizes, number of steps, and how random numbers are drawn. With `draws` set to
            `one`, the batches before `first` are prepared too, since later ones depend on them.
        samples: labelled images; each is used once per epoch.
        first: index of the first step.
    """
    how = Augmentation(
        crop=config.crop,
        short_sides=config.short_sides,
        max_side=config.max_side,
        flip=config.flip,
        colour_jitter=config.colour_jitter,
        hue_degrees=config.hue_degrees,
    )
    if config.draws == "one":
        yield from _sequential(config, samples, how, first)
    elif config.workers:
        yield from _ahead(config, samples, how, first)
    else:
        for step in range(first, config.steps):
            yield [_view(config, samples, how, step, place) for place in range(config.batch_size)]


def _sequential(
    config: SegmentationConfig,
    samples: Sequence[SegmentationSample],
    how: Augmentation,
    first: int,
) -> Iterator[Batch]:
    """Yield batches whose order and views all come from one generator."""
    rng = np.random.default_rng(config.seed)
    queue: list[int] = []
    for step in range(config.steps):
        while len(queue) < config.batch_size:
            queue += rng.permutation(len(samples)).tolist()
        indices, queue = queue[: config.batch_size], queue[config.batch_size :]
        batch = [augment(samples[index], how, rng) for index in indices]
        if step >= first:
            yield batch


def _ahead(
    config: SegmentationConfig,
    samples: Sequence[SegmentationSample],
    how: Augmentation,
    first: int,
) -> Iterator[Batch]:
    """Yield batches; threads prepare the next one meanwhile."""
    with ThreadPoolExecutor(config.workers) as pool:

        def submit(step: int) -> list[Future[SegmentationSample]]:
            places = range(config.batch_size)
            return [pool.submit(_view, config, samples, how, step, place) for place in places]

        waiting = submit(first) if first < config.steps else []
        try:
            for step in range(first, config.steps):
                batch = [future.result() for future in waiting]
                waiting = submit(step + 1) if step + 1 < config.steps else []
                yield batch
        finally:
            for future in waiting:
                future.cancel()


def _view(
    config: SegmentationConfig,
    samples: Sequence[SegmentationSample],
    how: Augmentation,
    step: int,
    place: int,
) -> SegmentationSample:
    """Return one view of a step's batch; its own generator makes it independent of the others."""
    number = step * config.batch_size + place
    epoch, position = divmod(number, len(samples))
    index = int(_order(config.seed, epoch, len(samples))[position])
    return augment(samples[index], how, np.random.default_rng([config.seed, 1, number]))


@lru_cache(maxsize=4)  # a batch may span two epochs, and threads may be one batch ahead
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """Return the order of the samples in an epoch."""
    return np.random.default_rng([seed, 0, epoch]).permutation(count)

"""The batches of a training: regions in their epoch's order, randomly cropped, ahead of the step.

A batch depends only on the seed and the number of its step, so a resumed training sees the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from ovseg.config.training import FinetuneConfig
from ovseg.training.clip.crops import (
    crop_in_view,
    draw_crop_boxes,
    normalized_crops,
    seeded_generator,
)
from ovseg.training.clip.regions import PairRegions, RegionBatch


def steps_per_epoch(pairs: int, batch_size: int) -> int:
    """Return the full batches per epoch, at least one; leftover pairs are skipped."""
    return max(1, pairs // batch_size)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One step's regions on the training device.

    Attributes:
        pixels: `(N, 3, S, S)` float32, normalized.
        masks: `(N, S, S)` bool.
        rows: `(N,)` int64 rows of the pairs, on the CPU.
        epoch: from 0.
    """

    pixels: Tensor
    masks: Tensor
    rows: Tensor
    epoch: int


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """One step's regions as they are stored."""

    step: int
    epoch: int
    rows: Tensor
    regions: RegionBatch


def _stored(regions: PairRegions, config: FinetuneConfig, step: int) -> _Stored:
    epoch, index = divmod(step, steps_per_epoch(len(regions.usable), config.batch_size))
    order = regions.order(seed=config.seed, epoch=epoch)
    rows = order[index * config.batch_size : (index + 1) * config.batch_size]
    return _Stored(step=step, epoch=epoch, rows=rows, regions=regions.regions(rows.tolist()))


def _augmented(
    stored: _Stored, regions: PairRegions, config: FinetuneConfig, device: torch.device
) -> Batch:
    boxes = draw_crop_boxes(
        len(stored.rows),
        size=regions.size,
        scale=config.crop_scale,
        generator=seeded_generator(config.seed, "crop", stored.step),
    )
    masks, boxes = crop_in_view(stored.regions.masks, boxes)
    pixels = normalized_crops(
        stored.regions.pixels,
        boxes,
        mean=regions.mean,
        std=regions.std,
        batched=config.augmentation == "batched",
        device=device,
    )
    return Batch(pixels=pixels, masks=masks.to(device), rows=stored.rows, epoch=stored.epoch)


def batches(
    regions: PairRegions, config: FinetuneConfig, *, steps: range, device: torch.device
) -> Iterator[Batch]:
    """Yield the batches of some steps, prepared in other threads during the steps before.

    A step's batch is the same at every call. One thread reads the regions in order;
    `decode_workers` threads, at least one, crop a batch each at random and normalize it.

    Args:
        regions: regions of the training set.
        config: seed, batch size, crop scale, resizing method and workers.
        steps: indices of steps from 0, over all epochs.
        device: device of the batches.
    """
    ahead = max(1, config.decode_workers)
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(ahead) as croppers:

        def prepare(step: int) -> Future[Batch]:
            stored = reader.submit(_stored, regions, config, step)
            return croppers.submit(lambda: _augmented(stored.result(), regions, config, device))

        waiting = deque(prepare(step) for step in steps[:ahead])
        for step in steps:
            batch = waiting.popleft().result()
            if step + ahead < steps.stop:
                waiting.append(prepare(step + ahead))
            yield batch

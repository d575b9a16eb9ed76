"""IoU by object size: over a class's small, medium and large parts in ground truth.

An *object* is a connected part (8 neighbors) of a class's ground truth in one image; label maps
have no instances, so two boats that touch are one. As in COCO, it is small below 32 x 32 pixels of
the original image and large from 96 x 96. Hits and misses belong to the object they lie on. A false
positive lies on none: those of an image are shared among the class's objects there in proportion to
their areas, as in the instance-level mIoU of Wang et al. (NeurIPS 2023), in whole pixels so that
images add up exactly. False positives in images without the class do not count here, but in
`miou_union`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from ovseg.evaluation.metrics import Ints, count_classes

SIZES = ("small", "medium", "large")
BOUNDS = (32**2, 96**2)
"""The smallest areas in pixels of a medium and of a large object."""
_EIGHT_NEIGHBORS = np.ones((3, 3), dtype=np.int8)


class SizedObjects(NamedTuple):
    """The objects of one class and size in one image."""

    class_id: int
    size: str
    objects: int
    hit: int
    """Their pixels that are predicted to be of the class."""
    gt_pixels: int
    predicted_pixels: int
    """`hit` and their share of the false positives: IoU is hit / (gt + predicted - hit)."""


def sized_objects(gt: Ints, pred: Ints, num_classes: int, ignore: int) -> Iterator[SizedObjects]:
    """Count the objects of one image by class and size, in this order; empty sizes are left out.

    Args:
        gt: `(H, W)` labels: 0..K-1 or `ignore`.
        pred: `(H, W)` classes 0..K-1, or K for a pixel without a class.
        num_classes: K.
        ignore: the ground-truth label that does not count.
    """
    truth = np.where(np.asarray(gt) == ignore, num_classes, gt).astype(np.int32)
    guess = np.asarray(pred)
    predicted = count_classes(guess, truth < num_classes, num_classes)
    # from 1, as find_objects counts; ignored pixels come last
    for class_id, box in enumerate(ndimage.find_objects(truth + 1, max_label=num_classes)):
        if box is None:
            continue
        parts, number = ndimage.label(truth[box] == class_id, structure=_EIGHT_NEIGHBORS)
        hit_parts = parts[guess[box] == class_id]
        area = np.bincount(parts.ravel(), minlength=number + 1)[1:]
        hit = np.bincount(hit_parts, minlength=number + 1)[1:]
        size = np.searchsorted(BOUNDS, area, side="right")
        false, whole = int(predicted[class_id] - hit.sum()), int(area.sum())
        before = shared = 0
        for index, name in enumerate(SIZES):
            of_size = size == index
            if not of_size.any():
                continue
            own = int(area[of_size].sum())
            before += own
            share = false * before // whole - shared  # so that the shares sum to all of them
            shared += share
            hits = int(hit[of_size].sum())
            yield SizedObjects(class_id, name, int(of_size.sum()), hits, own, hits + share)

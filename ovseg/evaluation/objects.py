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
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ovseg.evaluation.pixel_runs import Ints, runs_of, sums_by

SIZES = ("small", "medium", "large")
BOUNDS = (32**2, 96**2)
"""The smallest areas in pixels of a medium and of a large object."""


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
    truth, guess = np.asarray(gt), np.asarray(pred)
    counted = truth != ignore
    starts, lengths = runs_of(guess, counted)
    counted, labels = counted.reshape(-1)[starts], guess.reshape(-1)[starts].astype(np.int64)
    counted &= (labels >= 0) & (labels < num_classes)
    predicted = sums_by(labels[counted], lengths[counted], num_classes)
    starts, lengths = runs_of(truth, by_row=True)
    if not len(starts):
        return
    labels = truth.reshape(-1)[starts].astype(np.int64)
    in_class = (labels != ignore) & (labels >= 0) & (labels < num_classes)
    hits = np.add.reduceat((truth == guess).reshape(-1), starts, dtype=np.int64)[in_class]
    object_of = connected(starts, lengths, labels, truth.shape)[in_class]
    labels, lengths = labels[in_class], lengths[in_class]
    number = int(object_of.max(initial=-1)) + 1
    area = sums_by(object_of, lengths, number)
    size_of = np.searchsorted(BOUNDS, area, side="right")
    kinds = num_classes * len(SIZES)
    # an object belongs to the class of each of its runs
    class_of = np.zeros(number, dtype=np.int64)
    class_of[object_of] = labels
    kind = class_of * len(SIZES) + size_of
    present = area > 0  # other numbers are parts of no class
    objects = np.bincount(kind[present], minlength=kinds)
    own = sums_by(kind[present], area[present], kinds)
    hit = sums_by(kind[object_of], hits, kinds)
    whole, right = own.reshape(-1, len(SIZES)).sum(1), hit.reshape(-1, len(SIZES)).sum(1)
    for class_id in np.flatnonzero(whole).tolist():
        false = int(predicted[class_id] - right[class_id])
        before = shared = 0
        for size, name in enumerate(SIZES):
            at = class_id * len(SIZES) + size
            if not objects[at]:
                continue
            before += int(own[at])
            share = false * before // int(whole[class_id]) - shared  # they sum to all of them
            shared += share
            hits = int(hit[at])
            yield SizedObjects(class_id, name, int(objects[at]), hits, int(own[at]), hits + share)


def connected(
    starts: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int64],
    shape: tuple[int, ...],
) -> npt.NDArray[np.int32]:
    """Number the connected parts of a label map: pixels of one label, with 8 neighbors.

    Runs of neighboring rows touch exactly if the first pixel of one has the other above or below
    it, or above or below the pixel left of it.

    Args:
        starts: `(S,)` first pixels of the runs of each row, as `runs_of` returns them.
        lengths: `(S,)` their pixels.
        labels: `(S,)` their labels.
        shape: (H, W) of the map.

    Returns:
        `(S,)` the number of each run's part, from 0.
    """
    height, width = shape
    run_of = np.repeat(np.arange(len(starts), dtype=np.int32), lengths)
    y, x = starts // width, starts % width
    ends: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]] = []
    for inside, step in ((y > 0, -width), (y < height - 1, width)):
        for left in (0, 1):
            ours = np.flatnonzero(inside & (x >= left))
            theirs = run_of[starts[ours] + step - left]
            equal = labels[ours] == labels[theirs]
            ends.append((ours[equal], theirs[equal]))
    ours, theirs = (np.concatenate(side) for side in zip(*ends))
    touching = coo_array((np.ones(len(ours), np.bool_), (ours, theirs)), shape=2 * (len(starts),))
    parts: npt.NDArray[np.int32] = connected_components(touching, directed=False)[1]
    return parts

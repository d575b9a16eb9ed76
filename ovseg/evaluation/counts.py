"""Counts of one benchmark image as rows, which shards, scores and bootstrap draws add up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ovseg.evaluation.boundary import BOUNDARY, boundary_counts
from ovseg.evaluation.metrics import (
    ClassCounts,
    Confusion,
    MaskCounts,
    Tallies,
    count_masks,
)
from ovseg.evaluation.objects import SIZES, sized_objects
from ovseg.evaluation.pixel_runs import Ints

Row = dict[str, Any]
KINDS = (BOUNDARY, *SIZES)


def confusion_rows(image_id: int, confusion: Confusion) -> Iterator[Row]:
    """Yield rows of `ovseg.stages.schema.CONFUSION`."""
    for gt, predicted, pixels in confusion.entries():
        yield {
            "image_id": image_id,
            "gt_class": gt,
            "predicted_class": predicted,
            "pixels": pixels,
        }


def kind_pixel_rows(
    image_id: int, gt: Ints, pred: Ints, num_classes: int, ignore: int
) -> Iterator[Row]:
    """Yield rows of `ovseg.stages.schema.KIND_PIXELS`: boundaries by class, objects by class, size.

    Args:
        image_id: of the image.
        gt: `(H, W)` labels: 0..K-1 or `ignore`.
        pred: `(H, W)` classes 0..K-1, or K for a pixel without a class.
        num_classes: K.
        ignore: the label of ground truth that does not count.
    """
    boundary = boundary_counts(gt, pred, num_classes, ignore)
    for class_id in np.flatnonzero(boundary.gt_pixels + boundary.predicted_pixels).tolist():
        yield {
            "image_id": image_id,
            "kind": BOUNDARY,
            "class_id": class_id,
            "hit": int(boundary.hit[class_id]),
            "gt_pixels": int(boundary.gt_pixels[class_id]),
            "predicted_pixels": int(boundary.predicted_pixels[class_id]),
        }
    for found in sized_objects(gt, pred, num_classes, ignore):
        yield {
            "image_id": image_id,
            "kind": found.size,
            "class_id": found.class_id,
            "objects": found.objects,
            "hit": found.hit,
            "gt_pixels": found.gt_pixels,
            "predicted_pixels": found.predicted_pixels,
        }


def mask_rows(
    image_id: int,
    classes: NDArray[np.int32],
    masks: NDArray[np.bool_],
    probabilities: NDArray[np.float32],
) -> Iterator[Row]:
    """Yield rows of `ovseg.stages.schema.GT_MASKS`.

    Args:
        image_id: of the image.
        classes: `(N,)` true classes of its ground-truth masks.
        masks: `(N, H, W)`.
        probabilities: `(N, K)` from CLIP; a mask too small for it has a row of zeros and gets class
            K and the last rank.
    """
    k = probabilities.shape[1]
    for gt, mask, of_mask in zip(classes.tolist(), masks, probabilities):
        classified = bool(of_mask.any())  # argmax of a row of zeros would be class 0
        yield {
            "image_id": image_id,
            "gt_class": gt,
            "predicted_class": int(of_mask.argmax()) if classified else k,
            "gt_rank": rank(of_mask, gt) if classified else k,
            "area_fraction": int(np.count_nonzero(mask)) / mask.size,
        }


def rank(scores: NDArray[np.float32], index: int) -> int:
    """Return the rank, from 1, of `scores[index]` among `(K,)` scores; ties go to the first."""
    own = scores[index]
    return 1 + int((scores > own).sum()) + int((scores[:index] == own).sum())


# --------------------------------------------------------------------------------------
# Sums


def tally_rows(confusion: Confusion, class_pixels: Sequence[Row], masks: Sequence[Row]) -> Tallies:
    """Add up the rows of some images."""
    k = confusion.num_classes
    kinds = {kind: _no_pixels(k) for kind in KINDS}
    for row in class_pixels:
        for name, counts in vars(kinds[row["kind"]]).items():
            counts[row["class_id"]] += row[name]
    ranks = count_masks(
        np.array([row["gt_class"] for row in masks], dtype=np.int64),
        np.array([row["gt_rank"] for row in masks], dtype=np.int64),
        k,
    )
    return Tallies(confusion.class_counts(), ranks, kinds)


def _no_pixels(k: int) -> ClassCounts:
    return ClassCounts(*(np.zeros(k, dtype=np.int64) for _ in range(3)))


def tallies_to_json(tallies: Tallies) -> dict[str, Any]:
    """Convert tallies to lists, for a shard's record."""

    def lists(counts: ClassCounts | MaskCounts) -> dict[str, list[int]]:
        return {name: values.tolist() for name, values in vars(counts).items()}

    kinds = {kind: lists(counts) for kind, counts in tallies.kinds.items()}
    return {"counts": lists(tallies.pixels), "mask_counts": lists(tallies.masks), "kinds": kinds}


def tallies_from_json(values: Mapping[str, Any]) -> Tallies:
    """Invert `tallies_to_json`."""

    def arrays(lists: Mapping[str, list[int]]) -> dict[str, NDArray[np.int64]]:
        return {name: np.array(numbers, dtype=np.int64) for name, numbers in lists.items()}

    kinds = {kind: ClassCounts(**arrays(lists)) for kind, lists in values["kinds"].items()}
    masks = MaskCounts(**arrays(values["mask_counts"]))
    return Tallies(ClassCounts(**arrays(values["counts"])), masks, kinds)

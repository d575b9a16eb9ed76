"""Boundary IoU (Cheng et al., CVPR 2021): the IoU of masks reduced to the band along their contour.

A pixel of a mask is on its boundary if another label, or the edge of the image, lies within
`boundary_width` of it along either axis: these are the pixels that as many erosions by a 3 x 3
square remove. The width is that of the paper: 2 % of the image's diagonal, at least one pixel; the
outside of the image counts as another class.

For a label map, one minimum and one maximum over a window give the bands of all classes, because a
pixel is in the band of its class exactly when its window holds more than one label. So 847 classes
cost as much as one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ovseg.evaluation.metrics import ClassCounts, Ints, count_classes

BOUNDARY = "boundary"
WIDTH = 0.02
"""Width of the band as a share of the image's diagonal."""


def boundary_width(height: int, width: int) -> int:
    """Return the width of the band in pixels: 2 % of the diagonal, rounded, at least 1."""
    return max(1, round(WIDTH * float(np.hypot(height, width))))


def boundary_map(labels: Ints, width: int) -> npt.NDArray[np.bool_]:
    """Mark the pixels on the boundary of their own label's mask.

    Args:
        labels: `(H, W)` labels from 0.
        width: of the band in pixels.

    Returns:
        `(H, W)` bool.
    """
    values = np.asarray(labels).astype(np.int32)
    window = {"size": 2 * width + 1, "mode": "constant", "cval": -1}
    lowest, highest = (
        extreme(values, **window) for extreme in (ndimage.minimum_filter, ndimage.maximum_filter)
    )
    # outside the image is -1, below every label; the maximum is never -1
    return np.asarray((lowest != values) | (highest != values))


def boundary_counts(gt: Ints, pred: Ints, num_classes: int, ignore: int) -> ClassCounts:
    """Count the boundary pixels of one image by class; their `iou` is the Boundary IoU.

    Ignored ground-truth pixels count for neither side, and predictions there add no boundary: the
    prediction is taken to end where ground truth does.

    Args:
        gt: `(H, W)` labels: 0..K-1 or `ignore`.
        pred: `(H, W)` classes 0..K-1, or K for a pixel without a class.
        num_classes: K.
        ignore: the ground-truth label that does not count.
    """
    ignored = np.asarray(gt) == ignore
    truth = np.where(ignored, num_classes + 1, gt)
    guess = np.where(ignored, num_classes + 1, pred)
    width = boundary_width(*truth.shape)
    in_truth, in_guess = boundary_map(truth, width), boundary_map(guess, width)
    return ClassCounts(
        hit=count_classes(truth, in_truth & in_guess & (truth == guess), num_classes),
        gt_pixels=count_classes(truth, in_truth, num_classes),
        predicted_pixels=count_classes(guess, in_guess, num_classes),
    )

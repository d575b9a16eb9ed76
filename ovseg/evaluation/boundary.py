"""Boundary IoU (Cheng et al., CVPR 2021): the IoU of masks reduced to the band along their contour.

A pixel is of a mask's boundary if it is of the mask and something else, or the end of the image,
lies within `boundary_width` of it along either axis: what the erosion by a 3 x 3 square, that many
times over, takes away. The widths of the original are kept: 2 % of the image's diagonal, at least
one pixel, the outside of the image counted as another class.

For a label map the bands of all classes come from one minimum and one maximum over a window, for a
pixel is of its own class's band exactly where its window holds more than one label. So 847 classes
cost what one does.
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
    """Width of the band in pixels: 2 % of the diagonal, rounded, at least 1."""
    return max(1, round(WIDTH * float(np.hypot(height, width))))


def boundary_map(labels: Ints, width: int) -> npt.NDArray[np.bool_]:
    """Which pixels are of the boundary of their own label's mask.

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
    # beyond the image there is -1, which makes a minimum of its own; the maximum never is -1
    return np.asarray((lowest != values) | (highest != values))


def boundary_counts(gt: Ints, pred: Ints, num_classes: int, ignore: int) -> ClassCounts:
    """Boundary pixels of one image by class; their `iou` is the Boundary IoU.

    Pixels that ground truth ignores count for neither side, and what is predicted there draws no
    boundary: the prediction is taken to end where ground truth does.

    Args:
        gt: `(H, W)` labels: 0..K-1 or `ignore`.
        pred: `(H, W)` classes 0..K-1, or K for a pixel without a class.
        num_classes: K.
        ignore: the label of ground truth that does not count.
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

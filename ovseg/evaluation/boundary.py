"""Boundary IoU (Cheng et al., CVPR 2021): the IoU of masks reduced to the band along their contour.

A pixel of a mask is on its boundary if another label, or the edge of the image, lies within
`boundary_width` of it along either axis: these are the pixels that as many erosions by a 3 x 3
square remove. The width is that of the paper: 2 % of the image's diagonal, at least one pixel; the
outside of the image counts as another class.

For a label map, one pass gives the bands of all classes, because a pixel is in the band of its
class exactly when its window holds more than one label, and so two by two pixels that are not all
equal. So 847 classes cost as much as one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ovseg.evaluation.metrics import ClassCounts
from ovseg.evaluation.pixel_runs import Ints, runs_of, sums_by

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
    values = np.asarray(labels)
    height, wide = values.shape
    marked = np.ones((height, wide), dtype=np.bool_)
    if min(height, wide) <= 2 * width:
        return marked  # the edge of the image is within the width of every pixel
    across, below = values[:, 1:] != values[:, :-1], values[1:] != values[:-1]
    uneven = across[1:] | across[:-1] | below[:, 1:]  # of each two by two pixels
    window = 2 * width  # of such squares, along an axis
    inner = _any_in_rows(_any_in_rows(uneven, window).T, window).T
    marked[width : height - width, width : wide - width] = inner
    return marked


def _any_in_rows(values: npt.NDArray[np.bool_], length: int) -> npt.NDArray[np.bool_]:
    """Return whether any of `length` rows from each on is true: `(H - length + 1, W)`."""
    reach = 1
    while 2 * reach <= length:
        values = values[:-reach] | values[reach:]
        reach *= 2
    rest = length - reach
    return values[: len(values) - rest] | values[rest:]


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
    truth, guess = np.asarray(gt), np.asarray(pred)
    ignored = truth == ignore
    width = boundary_width(*truth.shape)
    in_truth = boundary_map(truth, width) & ~ignored
    # one label on all ignored pixels, so that the prediction ends there
    in_guess = boundary_map(np.where(ignored, np.int32(num_classes + 1), guess), width) & ~ignored
    starts, lengths = runs_of(truth, guess, in_truth, in_guess)
    truth, guess = (labels.reshape(-1)[starts].astype(np.int64) for labels in (truth, guess))
    in_truth, in_guess = in_truth.reshape(-1)[starts], in_guess.reshape(-1)[starts]

    def pixels(labels: Ints, selected: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        counted = selected & (labels >= 0) & (labels < num_classes)
        return sums_by(labels[counted], lengths[counted], num_classes)

    return ClassCounts(
        hit=pixels(truth, in_truth & in_guess & (truth == guess)),
        gt_pixels=pixels(truth, in_truth),
        predicted_pixels=pixels(guess, in_guess),
    )

"""Downscaling of images and label maps like OpenCV, for benchmarks published that way.

OpenCV's `INTER_LINEAR` uses the four nearest pixels however far apart the new ones are (Pillow's
filters average everything in between), its `INTER_NEAREST` the pixel at or before the new one's
corner. Label maps equal those of OpenCV 5.0, pixel by pixel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ovseg.data.benchmarks.label_maps import Labels
from ovseg.data.images import ImageArray


def short_side_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Return the size that reduces the shorter side to `short_side`.

    Returns:
        Height and width, unchanged if the side is not longer. Halves are rounded to even.
    """
    if min(height, width) <= short_side:
        return height, width
    if width >= height:
        return short_side, round(width / height * short_side)
    return round(height / width * short_side), short_side


def resize_linear(image: ImageArray, size_hw: tuple[int, int]) -> ImageArray:
    """Resize like `INTER_LINEAR`: pixel centers, four neighbors, edges repeated.

    Args:
        image: `(H, W, 3)` uint8.
        size_hw: new height and width.

    Returns:
        `(h, w, 3)` uint8; OpenCV rounds its weights to 11 bits, so values differ by 1 at most.
    """
    rows, row_part = _neighbors(image.shape[0], size_hw[0])
    columns, column_part = _neighbors(image.shape[1], size_hw[1])
    across = column_part[None, :, None]
    upper, lower = (
        image[row][:, columns[0]] * (1 - across) + image[row][:, columns[1]] * across
        for row in rows
    )
    down = row_part[:, None, None]
    return np.rint(upper * (1 - down) + lower * down).astype(np.uint8)


def _neighbors(
    old: int, new: int
) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]:
    """Return the indices before and after each new pixel's center, and its fraction between."""
    center = (np.arange(new) + 0.5) * (old / new) - 0.5
    before = np.floor(center).astype(np.int64)
    part = (center - before).astype(np.float32)
    return (before.clip(0, old - 1), (before + 1).clip(0, old - 1)), part


def resize_nearest(labels: Labels, size_hw: tuple[int, int]) -> Labels:
    """Resize like `INTER_NEAREST`: `floor(i / (new / old))`, in double precision like OpenCV.

    Args:
        labels: `(H, W)` int32.
        size_hw: new height and width.
    """
    rows, columns = (
        np.minimum(np.floor(np.arange(new) * (1 / (new / old))).astype(np.int64), old - 1)
        for old, new in zip(labels.shape, size_hw)
    )
    resized: Labels = labels[rows[:, None], columns[None, :]]
    return resized

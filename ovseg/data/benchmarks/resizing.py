"""Images and label maps made smaller as OpenCV does it, for benchmarks published that way.

OpenCV's `INTER_LINEAR` takes the four nearest pixels however far apart the new ones lie (Pillow's
filters average all that is between), its `INTER_NEAREST` the pixel at or before the new one's
corner. Label maps come out as OpenCV 5.0 makes them, pixel by pixel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ovseg.data.benchmarks.label_maps import Labels
from ovseg.data.images import ImageArray


def short_side_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """The size at which the shorter side is `short_side`, if it is longer now.

    Returns:
        Height and width; those given where nothing has to change. Halves are rounded to even.
    """
    if min(height, width) <= short_side:
        return height, width
    if width >= height:
        return short_side, round(width / height * short_side)
    return round(height / width * short_side), short_side


def resize_linear(image: ImageArray, size_hw: tuple[int, int]) -> ImageArray:
    """Resize as `INTER_LINEAR`: pixel centres, four neighbours, edges repeated.

    Args:
        image: `(H, W, 3)` uint8.
        size_hw: new height and width.

    Returns:
        `(h, w, 3)` uint8; OpenCV rounds its weights to 11 bits, so values differ by 1 at most.
    """
    rows, row_part = _neighbours(image.shape[0], size_hw[0])
    columns, column_part = _neighbours(image.shape[1], size_hw[1])
    across = column_part[None, :, None]
    upper, lower = (
        image[row][:, columns[0]] * (1 - across) + image[row][:, columns[1]] * across
        for row in rows
    )
    down = row_part[:, None, None]
    return np.rint(upper * (1 - down) + lower * down).astype(np.uint8)


def _neighbours(
    old: int, new: int
) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]]:
    """Indices before and after each new pixel's centre, and how far it is on the way."""
    centre = (np.arange(new) + 0.5) * (old / new) - 0.5
    before = np.floor(centre).astype(np.int64)
    part = (centre - before).astype(np.float32)
    return (before.clip(0, old - 1), (before + 1).clip(0, old - 1)), part


def resize_nearest(labels: Labels, size_hw: tuple[int, int]) -> Labels:
    """Resize as `INTER_NEAREST`: `floor(i / (new / old))`, in double precision as OpenCV has it.

    Args:
        labels: `(H, W)` int32.
        size_hw: new height and width.
    """
    rows, columns = (
        np.minimum(np.floor(np.arange(new) * (1 / (new / old))).astype(np.int64), old - 1)
        for old, new in zip(labels.shape, size_hw)
    )
    taken: Labels = labels[rows[:, None], columns[None, :]]
    return taken

"""The perceptual hash of an image: near duplicates differ in few of 64 bits."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from ovseg.data.images import ImageArray

_HASH_SIDE = 32


@cache
def _dct_rows() -> NDArray[np.float64]:
    """Return `(8, 32)`, the first eight basis vectors of the orthonormal DCT-II of length 32."""
    k, n = np.arange(8)[:, None], np.arange(_HASH_SIDE)[None]
    rows: NDArray[np.float64] = np.cos(np.pi * k * (2 * n + 1) / (2 * _HASH_SIDE)) * np.sqrt(
        2 / _HASH_SIDE
    )
    rows[0] /= np.sqrt(2)
    return rows


def _cells(pixels: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Average an axis into 32 cells; a shorter one is repeated."""
    edges = np.arange(_HASH_SIDE + 1) * pixels.shape[axis] // _HASH_SIDE
    counts = np.maximum(np.diff(edges), 1)
    sums = np.add.reduceat(pixels, edges[:-1], axis=axis)
    shape = [1] * pixels.ndim
    shape[axis] = _HASH_SIDE
    return np.asarray(sums / counts.reshape(shape))


def phash(image: ImageArray) -> int:
    """Compute a 64-bit perceptual hash; images that look alike differ in few bits.

    The luma is averaged into 32 x 32 cells. Each of the 8 x 8 lowest DCT coefficients gives a bit,
    row-major from the highest, which is set if the coefficient exceeds their median.

    Args:
        image: `(H, W, 3)` uint8 RGB.

    Returns:
        0 <= hash < 2**64.
    """
    luma = image @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    cells = _cells(_cells(luma.astype(np.float64), 0), 1)
    rows = _dct_rows()
    # rounding makes flat images, whose coefficients are pure rounding noise, hash alike
    low = np.round(rows @ cells @ rows.T, 6)
    bits = (low > np.median(low)).ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")

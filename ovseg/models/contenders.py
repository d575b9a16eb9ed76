"""The classes that can be the best of any pixel, found without computing their maps.

A class map is the sum over proposals of class score times mask, neither of them negative. In a tile
of the image every mask lies between its lowest and its highest value there, and so does every class
map between the sums of these. A class whose highest sum is below the lowest sum of another one, by
more than rounding errors explain, wins no pixel of the tile; one that wins no tile needs no map.

Most classes of a large vocabulary drop out on coarse tiles; what is left is tried on finer ones.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

MOST_TILES = 2**13
COARSER = 4
"""The side of a coarse tile in fine ones."""
LANES = 16
"""Most numbers that a processor handles at once; what is left over is handled one by one, and may
be rounded differently."""
FEWEST_PIXELS = 256
"""Smaller masks are not worth it, and products with few columns are rounded differently too."""
BOUNDS_AT_ONCE = 2**22
"""Numbers: classes times tiles."""


def contenders(p_qk: Tensor, masks_qhw: Tensor) -> Tensor:
    """Find the classes that may have the largest value of any pixel, also on a tie.

    What holds for every tile also holds after bilinear resizing: a value then lies between those of
    four neighbors, and tiles overlap by a pixel.

    Args:
        p_qk: `(Q, K)` float scores, not negative, on the CPU.
        masks_qhw: `(Q, h, w)` float masks, not negative, on the CPU.

    Returns:
        `(C,)` int64 ascending class indices; all of them if the masks are small, or a value is
        negative or not finite.
    """
    number, classes = p_qk.shape
    left = torch.arange(classes, device=p_qk.device)
    if not number or not classes or masks_qhw[0].numel() < FEWEST_PIXELS:
        return left
    side = 2
    while masks_qhw[0].numel() > MOST_TILES * side**2:
        side *= 2
    highest, lowest = (tiles.to(p_qk.dtype) for tiles in _extremes(masks_qhw, side))
    for values in (p_qk, highest, lowest):
        if not bool(((values >= 0) & values.isfinite()).all()):
            return left
    for repeats in (COARSER, 1):
        high_qt, low_qt = (
            F.max_pool2d(highest[None], repeats, ceil_mode=True)[0].flatten(1),
            -F.max_pool2d(-lowest[None], repeats, ceil_mode=True)[0].flatten(1),
        )
        left = left[_may_win(p_qk[:, left], high_qt, low_qt)]
    return left


def in_parts(left: Tensor, classes: int, at_once: int) -> list[Tensor]:
    """Split contenders so that their maps have the bytes that they have among all classes.

    Where the maps of all classes are computed and resized `at_once`, the last ones of a part, less
    than `LANES`, may be rounded differently from the others. So they stay the last ones of a part,
    all of them or none, and the others are filled up to a multiple of `LANES`.

    Args:
        left: `(C,)` ascending class indices below `classes`.
        classes: number of all classes.
        at_once: classes of a part.

    Returns:
        Ascending class indices, at least the contenders, in parts of at most `at_once`.
    """
    parts = []
    is_left = torch.zeros(classes, dtype=torch.bool)
    is_left[left] = True
    for start, of_part in zip(range(0, classes, at_once), torch.split(is_left, at_once)):
        if not of_part.any():
            continue
        whole = len(of_part) // LANES * LANES
        kept = of_part.clone()
        kept[whole:] = of_part[whole:].any()
        missing = -int(kept[:whole].sum()) % LANES
        if whole and not kept[:whole].any():
            missing = LANES
        kept[(~kept[:whole]).nonzero()[:missing, 0]] = True
        parts.append(kept.nonzero()[:, 0] + start)
    return parts


def _may_win(p_qk: Tensor, high_qt: Tensor, low_qt: Tensor) -> Tensor:
    """Return which classes may win a pixel of any tile, `(K,)` bool."""
    number, classes = p_qk.shape
    # of sums in any order on either side, and of the four products of resizing
    float_info = torch.finfo(p_qk.dtype)
    margin = max(0.0, 1 - 8 * (number + 16) * float_info.eps)
    least_normal = (number + 16) * float_info.tiny / float_info.eps  # smaller ones lose digits
    p_kq = p_qk.T.contiguous()
    wins = torch.zeros(classes, dtype=torch.bool, device=p_qk.device)
    at_once = max(1, BOUNDS_AT_ONCE // classes)
    parts = zip(torch.split(high_qt, at_once, 1), torch.split(low_qt, at_once, 1))
    for high, low in parts:
        least_t = (p_kq @ low).amax(0)
        least_t = torch.where(least_t < least_normal, 0, least_t * margin)
        wins |= (p_kq @ high >= least_t).any(1)
    return wins


def _extremes(masks_qhw: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Return the highest and lowest values in tiles and one pixel beyond, `(Q, y, x)` each."""
    masks = masks_qhw.detach()
    arrays = (masks.float() if masks.dtype.itemsize < 4 else masks).numpy()
    # numpy takes half of torch's time here; one mask after the other fits the processor's cache
    tiles = [
        [_along(_along(mask, side, extreme), side, extreme) for extreme in (np.maximum, np.minimum)]
        for mask in arrays
    ]
    highest, lowest = (torch.from_numpy(np.stack(each)) for each in zip(*tiles))
    return highest, lowest


def _along(values: NDArray[np.floating], side: int, extreme: np.ufunc) -> NDArray[np.floating]:
    """Return the extreme values of every `side` rows and the next one, transposed."""
    tiles = values[::side].copy()
    for row in range(1, side + 1):
        rows = values[row::side]
        extreme(tiles[: len(rows)], rows, out=tiles[: len(rows)])
    return np.ascontiguousarray(tiles.T)

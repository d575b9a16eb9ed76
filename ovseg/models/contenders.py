"""The classes that can be the best of any pixel, found without computing their maps.

A class map is the sum over proposals of class score times mask, neither of them negative. In a tile
of the image every mask lies between its lowest and its highest value there, and so does every class
map between the sums of these. A class whose highest sum is below the lowest sum of another one, by
more than rounding errors explain, wins no pixel of the tile; one that wins no tile needs no map.

Most classes of a large vocabulary drop out on coarse tiles; what is left is tried on finer ones.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

MOST_TILES = 2**13
COARSER = 4
"""The side of a coarse tile in fine ones."""
FEWEST = 16
"""Classes that are kept in any case: a product with a single column may be rounded otherwise."""
BOUNDS_AT_ONCE = 2**22
"""Numbers: classes times tiles."""


def contenders(p_qk: Tensor, masks_qhw: Tensor) -> Tensor:
    """Find the classes that may have the largest value of any pixel, also on a tie.

    What holds for every tile also holds after bilinear resizing: a value then lies between those of
    four neighbors, and tiles overlap by a pixel.

    Args:
        p_qk: `(Q, K)` float scores, not negative.
        masks_qhw: `(Q, h, w)` float masks, not negative.

    Returns:
        `(C,)` int64 ascending class indices; all of them if a value is negative or not finite.
    """
    number, classes = p_qk.shape
    left = torch.arange(classes, device=p_qk.device)
    if classes <= FEWEST or not number:
        return left
    side = 2
    while masks_qhw[0].numel() > MOST_TILES * side**2:
        side *= 2
    highest, lowest = (_extremes(masks_qhw, side, of) for of in (torch.maximum, torch.minimum))
    for values in (p_qk, highest, lowest):
        if not bool(((values >= 0) & values.isfinite()).all()):
            return left
    for repeats in (COARSER, 1):
        high_qt, low_qt = (
            F.max_pool2d(highest[None], repeats, ceil_mode=True)[0].flatten(1),
            -F.max_pool2d(-lowest[None], repeats, ceil_mode=True)[0].flatten(1),
        )
        left = left[_may_win(p_qk[:, left], high_qt, low_qt)]
    first = torch.arange(FEWEST, device=left.device)
    return left if len(left) >= FEWEST else torch.cat([left, first]).unique()


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
    for high, low in zip(high_qt.split(at_once, 1), low_qt.split(at_once, 1), strict=True):
        least_t = (p_kq @ low).amax(0)
        least_t = torch.where(least_t < least_normal, 0, least_t * margin)
        wins |= (p_kq @ high >= least_t).any(1)
    return wins


def _extremes(masks_qhw: Tensor, side: int, extreme: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return the extreme values in tiles and one pixel beyond, `(Q, y, x)`."""
    tiles = []
    for mask in masks_qhw:  # one fits the processor's cache
        values = mask
        for _ in range(2):  # along the height, then along the width
            found = values[::side].clone()
            for row in range(1, side + 1):
                rows = values[row::side]
                found[: len(rows)] = extreme(found[: len(rows)], rows)
            values = found.T.contiguous()
        tiles.append(values)
    return torch.stack(tiles)

"""Cut the boxes of many masks out of an image, blank what is behind them, resize them: all at once.

Bicubic interpolation weighs four columns, then four rows of a box, so resizing is two weighted sums
of table rows (`embedding_bag`): the first table holds the columns of all boxes, the second the rows
of what the first pass made. Every sum is taken by itself, in the order of
`torch.nn.functional.interpolate`; a region's digits do not depend on the other regions of the call.
On x86 they are those of `interpolate`, bit for bit; elsewhere they may differ by rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

ON_CPU = (32, 2**18)
ON_GPU = (2**30, 2**26)
"""Heights are rounded up to the first number, to share a table; a table has about as many values
as the second: on a CPU, what its second-level cache holds."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """What regions are cut from; all tensors on one device.

    Attributes:
        front_chw: `(3, H, W)` float, shown inside the masks.
        behind: `(3, 1, 1)` or `(3, H, W)` float, shown outside; None shows the front everywhere.
        masks_qhw: `(Q, H, W)` bool, or float32 in 0..1 to blend both.
        scale: mean and standard deviation `(3, 1, 1)` by which a blend is normalized; None if it is
            not.
    """

    front_chw: Tensor
    behind: Tensor | None
    masks_qhw: Tensor
    scale: tuple[Tensor, Tensor] | None = None


def shown(
    front: Tensor, mask: Tensor, behind: Tensor | None, scale: tuple[Tensor, Tensor] | None
) -> Tensor:
    """Return the front where a mask is 1 and what is behind it where it is 0, then normalize.

    A bool mask selects, which gives the bits of the formula; shapes broadcast. The arguments are
    those of `Source`.
    """
    if behind is None:
        pixels = front.expand(torch.broadcast_shapes(front.shape, mask.shape))
    elif mask.dtype == torch.bool:
        pixels = torch.where(mask, front, behind)
    else:
        pixels = front * mask + (1 - mask) * behind
    return pixels.contiguous() if scale is None else (pixels - scale[0]) / scale[1]


def resampled(
    source: Source, rows: NDArray[np.int64], boxes: NDArray[np.int64], size: int
) -> tuple[Tensor, Tensor]:
    """Cut out boxes, blend them with what is behind their masks and resize them to squares.

    Args:
        source: the image and its masks.
        rows: `(V,)`, which mask a region has.
        boxes: `(V, 4)` xyxy within the image, none of them empty.
        size: side S of the squares.

    Returns:
        `(V, 3, S, S)` float32, resized bicubically (a = -0.75, half-pixel centers, without
        antialiasing, borders repeated), and the masks `(V, S, S)` by nearest neighbor in their
        type.
    """
    masks_qhw = source.masks_qhw
    pixels = source.front_chw.new_empty((len(boxes), 3, size, size))
    masks = masks_qhw.new_empty((len(boxes), size, size))
    if len(boxes):
        tables = _Tables(source, boxes)
        rounding, values = ON_CPU if pixels.device.type == "cpu" else ON_GPU
        for part in _parts(boxes, tables.height, rounding=rounding, values=values):
            at = torch.from_numpy(part).to(pixels.device)
            columns = tables.columns(rows[part], boxes[part], rounding)
            pixels[at], masks[at] = columns.resized(size)
    return pixels, masks


def _rounded(heights: NDArray[np.int64], rounding: int, most: int) -> NDArray[np.int64]:
    """Return the table heights of boxes: each depends on its own box only."""
    return np.minimum(-(-heights // rounding) * rounding, most)


def _parts(
    boxes: NDArray[np.int64], most: int, *, rounding: int, values: int
) -> Iterator[NDArray[np.int64]]:
    """Divide regions among tables: by height, as many as a table may hold, at least one."""
    widths, heights = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    tall = _rounded(heights, rounding, most)
    for height in np.unique(tall):
        same = np.flatnonzero(tall == height)
        ends = np.cumsum(3 * height * widths[same])
        yield from np.split(same, np.flatnonzero(np.diff(ends // values)) + 1)


class _Tables:
    """The image and its masks as flat memory, in which a column of a box is a run of values."""

    def __init__(self, source: Source, boxes: NDArray[np.int64]) -> None:
        self.left, self.top = (int(edge) for edge in boxes[:, :2].min(axis=0))
        right, bottom = (int(edge) for edge in boxes[:, 2:].max(axis=0))
        self.height = bottom - self.top
        self.source = source
        self.window = (..., slice(self.top, bottom), slice(self.left, right))
        self.front = self._flat(source.front_chw)
        behind = source.behind
        self.constant = behind is not None and behind.shape[-1] == 1
        self.behind = behind if behind is None or self.constant else self._flat(behind)
        self.masks = source.masks_qhw.contiguous().view(-1)

    def _flat(self, image_chw: Tensor) -> Tensor:
        return image_chw[self.window].permute(2, 0, 1).contiguous().view(-1)  # columns first

    def columns(
        self, rows: NDArray[np.int64], boxes: NDArray[np.int64], rounding: int
    ) -> _Columns:
        """Return the columns of boxes of one rounded height."""
        device = self.front.device
        left, top, right, bottom = boxes.T
        widths, heights = right - left, bottom - top
        height = int(_rounded(heights, rounding, self.height)[0])
        first = np.cumsum(widths) - widths
        x = np.arange(widths.sum()) + np.repeat(left - first, widths)
        # a window of `height` rows within the image, around the box
        y = np.minimum(top, self.top + self.height - height)
        start = (x - self.left) * 3 * self.height + np.repeat(y - self.top, widths)
        at = torch.from_numpy((start[:, None] + np.arange(3) * self.height).ravel()).to(device)
        masks_qhw = self.source.masks_qhw
        _, high, wide = masks_qhw.shape
        kind = torch.int32 if self.masks.numel() < 2**31 else torch.int64
        begin = torch.from_numpy(np.repeat((rows * high + y) * wide, widths) + x)
        down = torch.arange(0, height * wide, wide, dtype=kind, device=device)
        places = begin.to(device, kind)[:, None] + down
        mask = self.masks.index_select(0, places.view(-1)).view(-1, height)
        behind = self.behind
        if behind is not None:
            behind = behind.view(1, 3, 1) if self.constant else _runs(behind, at, height)
        scale = self.source.scale
        if scale is not None:
            scale = (scale[0].view(1, 3, 1), scale[1].view(1, 3, 1))
        pixels = shown(_runs(self.front, at, height), mask[:, None], behind, scale)
        return _Columns(pixels, mask, first, widths, top - y, heights)


def _runs(flat: Tensor, starts: Tensor, length: int) -> Tensor:
    """Return the runs of a flat tensor that begin at some places, `(R, 3, length)`."""
    runs = flat.as_strided((flat.numel() - length + 1, length), (1, 1))
    return runs.index_select(0, starts).view(-1, 3, length)


@dataclass(frozen=True)
class _Columns:
    """The columns of K boxes, one box after another: R in all, of one height.

    Attributes:
        pixels: `(R, 3, height)` float.
        masks: `(R, height)`.
        first: `(K,)`, a box's first column.
        widths: `(K,)`, how many columns a box has.
        tops: `(K,)`, its first row.
        heights: `(K,)`, how many rows it has.
    """

    pixels: Tensor
    masks: Tensor
    first: NDArray[np.int64]
    widths: NDArray[np.int64]
    tops: NDArray[np.int64]
    heights: NDArray[np.int64]

    def resized(self, size: int) -> tuple[Tensor, Tensor]:
        """Return the squares `(K, 3, S, S)` and their masks `(K, S, S)`."""
        boxes, height, device = len(self.first), self.masks.shape[1], self.masks.device
        first, widths, tops, heights = (
            torch.from_numpy(each)
            for each in (self.first, self.widths, self.tops, self.heights)
        )
        at, weights = bicubic(widths, size)
        at = (at + first[:, None, None]).view(-1, 4)
        across = _weighted_rows(self.pixels.view(-1, 3 * height), at, weights.view(-1, 4))
        table = across.view(boxes, size, -1).transpose(1, 2).contiguous().view(-1, size)
        at, weights = bicubic(heights, size)
        planes = (torch.arange(3 * boxes) * height).view(boxes, 3, 1, 1) + tops[:, None, None, None]
        at, weights = at[:, None] + planes, weights[:, None].expand(-1, 3, -1, -1)
        pixels = _weighted_rows(table, at.reshape(-1, 4), weights.reshape(-1, 4))
        at = (nearest(widths, size) + first[:, None]).view(-1).to(device)
        across = self.masks.index_select(0, at).view(boxes, size, height)
        planes = torch.arange(boxes)[:, None] * height + tops[:, None]
        at = (nearest(heights, size) + planes).view(-1).to(device)
        masks = across.transpose(1, 2).contiguous().view(-1, size).index_select(0, at)
        return pixels.view(boxes, 3, size, size), masks.view(boxes, size, size)


def _weighted_rows(table: Tensor, at: Tensor, weights: Tensor) -> Tensor:
    """Return sums of four rows of a table `(R, D)`: `(B, D)` from places and weights `(B, 4)`."""
    at, weights = at.to(table.device), weights.to(table.device)
    return F.embedding_bag(at, table, mode="sum", per_sample_weights=weights)


# --------------------------------------------------------------------------------------
# Where the pixels of a square come from


def bicubic(lengths: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return the four source pixels of each output pixel along an axis, and their weights.

    They are those of `torch.nn.functional.interpolate(mode="bicubic")`, in the order in which it
    sums them: the pixel to the left first. Its compiled code rounds once after some products and
    sums, which is done here in float64.

    Args:
        lengths: `(K,)` int64 source lengths, at least 1, on the CPU.
        size: output length S.

    Returns:
        `(K, S, 4)` int64 in `[0, length)` and `(K, S, 4)` float32.
    """
    scale = lengths.float()[:, None] / size
    real = _fused(scale, torch.arange(size) + 0.5, -0.5)
    left = real.floor()
    x = (real - left).clamp(0, 1)
    weights = [_near(x), _far(x + 1), _near(1 - x), _far((1 - x) + 1)]
    at = left.long()[:, :, None] + torch.tensor([0, -1, 1, 2])
    return at.clamp(min=0).minimum(lengths[:, None, None] - 1), torch.stack(weights, dim=2)


_A = -0.75
"""The parameter of cubic convolution (Keys 1981) that torch uses."""


def _near(x: Tensor) -> Tensor:
    """Return the weight of a pixel at a distance of 0..1."""
    return _fused(x, _A + 2, -(_A + 3)) * x * x + 1


def _far(x: Tensor) -> Tensor:
    """Return the weight of a pixel at a distance of 1..2."""
    return _fused(_fused(x, _A, -5 * _A), x, 8 * _A) * x - 4 * _A


def _fused(a: Tensor, b: Tensor | float, c: float) -> Tensor:
    """Return `a * b + c` in float32, rounded once."""
    return (a.double() * b + c).float()


def nearest(lengths: Tensor, size: int) -> Tensor:
    """Return the source pixel of each output pixel, as `interpolate(mode="nearest")` takes it.

    Args:
        lengths: `(K,)` int64 source lengths, at least 1, on the CPU.
        size: output length S.

    Returns:
        `(K, S)` int64 in `[0, length)`.
    """
    at = (torch.arange(size) * (lengths.float()[:, None] / size)).long()
    return at.minimum(lengths[:, None] - 1)

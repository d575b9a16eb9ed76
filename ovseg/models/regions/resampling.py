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
from torch import Tensor

ON_CPU = (32, 2**20)
ON_GPU = (2**30, 2**26)
"""Heights are rounded up to the first number, to share a table; a table has about as many values
as the second: 4 MB on a CPU, for its caches, 256 MB on a GPU."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """What regions are cut from; all tensors on one device.

    Attributes:
        front_chw: `(3, H, W)` float, shown inside the masks.
        behind: `(3, 1, 1)` or `(3, H, W)` float, shown outside; 0 for zeros; None shows the front
            everywhere.
        masks_qhw: `(Q, H, W)` bool, or float32 in 0..1 to blend both.
        scale: mean and standard deviation `(3, 1, 1)` by which a blend is normalized; None if it is
            not.
    """

    front_chw: Tensor
    behind: Tensor | float | None
    masks_qhw: Tensor
    scale: tuple[Tensor, Tensor] | None = None


def blended(
    front: Tensor,
    mask: Tensor,
    behind: Tensor | float | None,
    scale: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """Return the front where a mask is 1 and what is behind it where it is 0, then normalize.

    The arguments are those of `Source`, in shapes that broadcast.
    """
    if behind is None:
        one_each = front.ndim == mask.ndim  # else one front for all masks
        pixels = front if one_each else front.expand(len(mask), *front.shape).contiguous()
    else:
        mask = mask.to(front.dtype)
        pixels = front * mask
        if isinstance(behind, Tensor):
            pixels = pixels + (1 - mask) * behind
    return pixels if scale is None else (pixels - scale[0]) / scale[1]


def resampled(source: Source, rows: Tensor, boxes: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Cut out boxes, blend them with what is behind their masks and resize them to squares.

    Args:
        source: the image and its masks.
        rows: `(V,)` int64 on the CPU, which mask a region has.
        boxes: `(V, 4)` int64 on the CPU, xyxy within the image, none of them empty.
        size: side S of the squares.

    Returns:
        `(V, 3, S, S)` float32, resized bicubically (a = -0.75, half-pixel centers, without
        antialiasing, borders repeated), and the masks `(V, S, S)` by nearest neighbor in their
        type.
    """
    pixels = source.front_chw.new_empty((len(boxes), 3, size, size))
    masks = source.masks_qhw.new_empty((len(boxes), size, size))
    if len(boxes):
        columns = _Columns(source, rows, boxes, size)
        for part in columns.parts():
            at = columns.order[part]
            some_pixels, some_masks = columns.resized(part)
            pixels.index_copy_(0, at, some_pixels)
            masks.index_copy_(0, at, some_masks)
    return pixels, masks


class _Columns:
    """The columns of all boxes, box after box, in order of the boxes' heights; C in all.

    An image is stored column after column, so that a column of a box is a run of values, which may
    be longer than the box is high: what is beyond it has no weight. What to read is planned once
    for all boxes, on the CPU, so that a GPU never waits.
    """

    def __init__(self, source: Source, rows: Tensor, boxes: Tensor, size: int) -> None:
        device = source.front_chw.device
        rounding, self.values = ON_CPU if device.type == "cpu" else ON_GPU
        self.size, self.scale = size, source.scale
        self.front, self.behind = _flat(source.front_chw), source.behind
        if isinstance(self.behind, Tensor):
            constant = self.behind.numel() == 3
            self.behind = self.behind.view(3, 1) if constant else _flat(self.behind)
        height = source.front_chw.shape[1]

        tall = boxes[:, 3] - boxes[:, 1]
        tall = (-(-tall // rounding) * rounding).clamp(max=height)
        order = tall.argsort(stable=True)
        tall, boxes, rows = tall[order], boxes[order], rows[order]
        widths, heights = (boxes[:, 2:] - boxes[:, :2]).unbind(1)
        ends = widths.cumsum(0)
        self.order, self.tall, self.ends = order.to(device), tall.tolist(), [0, *ends.tolist()]
        y = boxes[:, 1].minimum(height - tall)  # a run begins above its box where the image ends
        owner = torch.repeat_interleave(widths)
        x = torch.arange(len(owner)) + (boxes[:, 0] - ends + widths)[owner]
        runs = (3 * x * height + y[owner])[:, None] + torch.arange(3) * height
        self.runs = runs.to(device)

        # masks as they lie in memory, whatever their strides
        masks_qhw, (by_mask, by_row, by_column) = source.masks_qhw, source.masks_qhw.stride()
        last = sum((n - 1) * by for n, by in zip(masks_qhw.shape, masks_qhw.stride(), strict=True))
        self.masks = masks_qhw.as_strided((last + 1,), (1,))
        kind = torch.int32 if last < 2**31 else torch.int64
        self.pixels = ((rows * by_mask + y * by_row)[owner] + x * by_column).to(device, kind)
        self.down = torch.arange(0, height * by_row, by_row, dtype=kind, device=device)

        lengths = torch.cat([widths, heights])  # both axes at once
        first = torch.cat([ends - widths, boxes[:, 1] - y])
        (at, weights), near = _taps(lengths, first, size, device)
        count = len(boxes)
        self.columns, self.nearest_columns = (at[:count], weights[:count]), near[:count]
        self.rows, self.nearest_rows = (at[count:], weights[count:]), near[count:]

    def parts(self) -> Iterator[slice]:
        """Divide the boxes among tables: those of one height, as many as a table may hold."""
        begin = 0
        for end in range(1, len(self.tall) + 1):
            if end < len(self.tall) and self.tall[end] == self.tall[begin]:
                columns = self.ends[end + 1] - self.ends[begin]
                if 3 * columns * self.tall[begin] <= self.values:
                    continue
            yield slice(begin, end)
            begin = end

    def resized(self, part: slice) -> tuple[Tensor, Tensor]:
        """Return K squares `(K, 3, S, S)` and their masks `(K, S, S)`, in this order."""
        boxes, size, tall = part.stop - part.start, self.size, self.tall[part.start]
        begin, end = self.ends[part.start], self.ends[part.stop]
        pixels, mask = self._table(slice(begin, end), tall)
        at, weights = (each[part] for each in self.columns)
        across = _weighted_rows(pixels.view(-1, 3 * tall), at - begin, weights)
        at, weights = (each[part, None].expand(-1, 3, -1, -1) for each in self.rows)
        planes = torch.arange(0, 3 * boxes * tall, tall, device=at.device).view(boxes, 3, 1, 1)
        squares = _weighted_rows(_turned(across, boxes), at + planes, weights)
        across = mask.index_select(0, (self.nearest_columns[part] - begin).view(-1))
        at = self.nearest_rows[part] + planes[:, 0, 0] // 3
        masks = _turned(across, boxes).index_select(0, at.view(-1))
        return squares.view(boxes, 3, size, size), masks.view(boxes, size, size)

    def _table(self, columns: slice, tall: int) -> tuple[Tensor, Tensor]:
        """Return columns as CLIP sees them, `(R, 3, tall)`, and those of the masks `(R, tall)`."""
        at = self.runs[columns].view(-1)
        behind, scale = self.behind, self.scale
        if isinstance(behind, Tensor) and behind.ndim == 1:
            behind = _runs(behind, at, tall)
        if scale is not None:
            scale = (scale[0].view(3, 1), scale[1].view(3, 1))
        places = self.pixels[columns, None] + self.down[:tall]
        mask = self.masks.index_select(0, places.view(-1)).view(-1, tall)
        return blended(_runs(self.front, at, tall), mask[:, None], behind, scale), mask


def _flat(image_chw: Tensor) -> Tensor:
    return image_chw.permute(2, 0, 1).contiguous().view(-1)


def _runs(flat: Tensor, starts: Tensor, length: int) -> Tensor:
    """Return the runs of a flat tensor that begin at some places, `(R, 3, length)`."""
    runs = flat.as_strided((flat.numel() - length + 1, length), (1, 1))
    return runs.index_select(0, starts).view(-1, 3, length)


def _taps(
    lengths: Tensor, first: Tensor, size: int, device: torch.device
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Return `bicubic` and `nearest` of the sides of boxes, as places from `first`, `(K,)`."""
    unique = np.unique(lengths.numpy(), return_inverse=True)
    sides, each = (torch.from_numpy(array) for array in unique)
    at, weights = bicubic(sides, size)
    places = (at[each] + first[:, None, None]).to(device)
    near = (nearest(sides, size)[each] + first[:, None]).to(device)
    return (places, weights[each].to(device)), near


def _turned(across: Tensor, boxes: int) -> Tensor:
    """Turn the table of each box, `(K * S, D)`, by a transposition: `(K * D, S)`."""
    turned = across.view(boxes, -1, across.shape[1]).transpose(1, 2)
    return turned.contiguous().view(-1, turned.shape[2])


def _weighted_rows(table: Tensor, at: Tensor, weights: Tensor) -> Tensor:
    """Return sums of four rows of a table `(R, D)`: `(B, D)` from places and weights `(..., 4)`."""
    at, weights = at.reshape(-1, 4), weights.reshape(-1, 4)
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

"""Cut the boxes of many masks out of images, blank what is behind them, resize them: all at once.

Bicubic interpolation weighs four columns, then four rows of a box, so resizing is two weighted sums
of table rows (`embedding_bag`): the first table holds the columns of all boxes, the second the rows
of what the first pass made. Every sum is taken by itself, in the order of
`torch.nn.functional.interpolate`; a region's digits do not depend on the other regions of the call.
On x86 they are those of `interpolate`, bit for bit; elsewhere they may differ by rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.models.regions.interpolation import bicubic, nearest

ON_CPU = (32, 2**20, 2**16)
ON_GPU = (2**30, 2**26, 2**40)
"""Heights are rounded up to the first number, to share a table; a table has about as many values
as the second: 4 MB on a CPU, for its caches, 256 MB on a GPU. A box of more values than the third
has a table of its own, which is copied from its image instead of gathered."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """What regions are cut from; all tensors on one device.

    Attributes:
        front_chw: `(3, H, W)` float32, shown inside the masks.
        behind: `(3, 1, 1)` or `(3, H, W)` float32, shown outside; 0 for zeros; None shows the front
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
        pixels = front if one_each else front.expand(len(mask), *front.shape)
        pixels = pixels.contiguous()
    else:
        if mask.dtype == torch.bool:
            mask = mask.view(torch.uint8)  # whose conversion is vectorized
        mask = mask.to(front.dtype)
        pixels = front * mask
        if isinstance(behind, Tensor):
            pixels = pixels + (1 - mask) * behind
    return pixels if scale is None else (pixels - scale[0]) / scale[1]


def resampled(
    sources: Sequence[Source], owners: Tensor, rows: Tensor, boxes: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """Cut out boxes, blend them with what is behind their masks and resize them to squares.

    Args:
        sources: images with their masks, at least one; what is behind their masks, their masks'
            type and scale are alike.
        owners: `(V,)` int64 on the CPU, which source a region is cut from.
        rows: `(V,)` int64 on the CPU, which of its masks a region has.
        boxes: `(V, 4)` int64 on the CPU, xyxy within the image, none of them empty.
        size: side S of the squares.

    Returns:
        `(V, 3, S, S)` float32, resized bicubically (a = -0.75, half-pixel centers, without
        antialiasing, borders repeated), and the masks `(V, S, S)` by nearest neighbor in their
        type.
    """
    pixels = sources[0].front_chw.new_empty((len(boxes), 3, size, size))
    masks = sources[0].masks_qhw.new_empty((len(boxes), size, size))
    if len(boxes):
        tables = _Tables(sources, owners, rows, boxes, size)
        for part in tables.parts():
            some_pixels, some_masks = tables.resized(part)
            if pixels.device.type == "cpu":  # an index would copy number by number
                for place, square, mask in zip(tables.places[part], some_pixels, some_masks):
                    pixels[place], masks[place] = square, mask
            else:
                at = tables.order[part]
                pixels.index_copy_(0, at, some_pixels)
                masks.index_copy_(0, at, some_masks)
    return pixels, masks


class _Tables:
    """Tables of the columns of boxes, in order of the boxes' heights, the large ones last.

    An image is stored column after column, so that a column of a box is a run of values, which may
    be longer than the box is high: what is beyond it has no weight. What to read is planned once
    for all boxes, on the CPU, so that a GPU never waits.

    Attributes:
        order: `(V,)` int64, which box is next; `places` is the same as a list.
    """

    def __init__(
        self, sources: Sequence[Source], owners: Tensor, rows: Tensor, boxes: Tensor, size: int
    ) -> None:
        device = sources[0].front_chw.device
        rounding, self.values, large = ON_CPU if device.type == "cpu" else ON_GPU
        self.size, self.sources = size, sources
        self.fronts = [_by_column(source.front_chw) for source in sources]
        self.behinds = [_behind(source) for source in sources]
        scale = sources[0].scale
        self.scale = None if scale is None else (scale[0].view(3, 1), scale[1].view(3, 1))

        heights = torch.tensor([source.front_chw.shape[1] for source in sources])
        tall = boxes[:, 3] - boxes[:, 1]
        is_large = 3 * (boxes[:, 2] - boxes[:, 0]) * tall > large
        shared = (-(-tall // rounding) * rounding).minimum(heights[owners])
        tall = tall.where(is_large, shared)
        order = (tall + heights.max() * is_large).argsort(stable=True)
        tall, boxes, rows, owners = tall[order], boxes[order], rows[order], owners[order]
        widths, own_heights = (boxes[:, 2:] - boxes[:, :2]).unbind(1)
        y = boxes[:, 1].minimum(heights[owners] - tall)  # above its box where the image ends
        self.order, self.places, self.tall = order.to(device), order.tolist(), tall.tolist()
        self.cuts = torch.stack([owners, rows, boxes[:, 0], boxes[:, 2], y], dim=1).tolist()
        self.gathered = len(order) - int(is_large.sum())
        ends = widths.cumsum(0)
        self.ends = [0, *ends.tolist()]
        if self.gathered:
            some = slice(self.gathered)
            self._plan(owners[some], rows[some], boxes[some, 0], y[some], widths[some])

        lengths = torch.cat([widths, own_heights])  # both axes at once
        first = torch.cat([(ends - widths) * ~is_large[order], boxes[:, 1] - y])
        (at, weights), near = _taps(lengths, first, size, device)
        count = len(boxes)
        self.columns, self.nearest_columns = (at[:count], weights[:count]), near[:count]
        planes = torch.stack([0 * tall, tall, 2 * tall], dim=1).to(device)
        across = at[count:, None] + planes[:, :, None, None]  # of the three colors
        self.rows = across, weights[count:, None].expand(-1, 3, -1, -1)
        self.nearest_rows = near[count:]

    def _plan(self, owners: Tensor, rows: Tensor, left: Tensor, y: Tensor, widths: Tensor) -> None:
        """Find the columns to gather, in the images and masks as they lie in memory."""
        device = self.fronts[0].device
        self.front = _joined(self.fronts)
        behind = self.behinds[0]
        if isinstance(behind, Tensor) and behind.ndim == 3:
            behind = _joined([each for each in self.behinds if isinstance(each, Tensor)])
        self.behind = behind
        ends, column = widths.cumsum(0), torch.repeat_interleave(widths)
        x = torch.arange(len(column)) + (left - ends + widths)[column]
        shapes = torch.tensor([source.front_chw.shape for source in self.sources])
        begin, height = _begins(shapes.prod(1))[owners], shapes[owners, 1]
        runs = (begin + y)[column] + 3 * x * height[column]
        self.runs = (runs[:, None] + torch.arange(3) * height[column, None]).to(device)

        masks = [source.masks_qhw for source in self.sources]
        if len(masks) > 1:
            masks = [each.contiguous() for each in masks]
        flat = [_flat(each) for each in masks]
        self.masks = _joined(flat)
        by_mask, by_row, by_column = torch.tensor([each.stride() for each in masks])[owners].T
        begin = _begins(torch.tensor([len(each) for each in flat]))[owners]
        kind = torch.int32 if len(self.masks) < 2**31 else torch.int64
        starts = (begin + rows * by_mask + y * by_row)[column] + x * by_column[column]
        one_step = bool((by_row == by_row[0]).all())
        steps = by_row[:1] if one_step else by_row[column]
        self.pixels, self.steps = starts.to(device, kind), steps.to(device, kind)
        self.down = torch.arange(int(height.max()), dtype=kind, device=device)

    def parts(self) -> Iterator[slice]:
        """Divide the boxes among tables: those of one height, as many as a table may hold."""
        begin = 0
        for end in range(1, len(self.tall) + 1):
            if end < self.gathered and self.tall[end] == self.tall[begin]:
                columns = self.ends[end + 1] - self.ends[begin]
                if 3 * columns * self.tall[begin] <= self.values:
                    continue
            yield slice(begin, end)
            begin = end

    def resized(self, part: slice) -> tuple[Tensor, Tensor]:
        """Return K squares `(K, 3, S, S)` and their masks `(K, S, S)`, in this order."""
        boxes, size, tall = part.stop - part.start, self.size, self.tall[part.start]
        is_gathered = part.stop <= self.gathered
        table, mask = self._gathered(part, tall) if is_gathered else self._copied(part.start, tall)
        begin = self.ends[part.start] if is_gathered else 0
        at, weights = (each[part] for each in self.columns)
        across = _weighted_rows(table.view(-1, 3 * tall), at - begin, weights)
        at, weights = (each[part] for each in self.rows)
        at_mask = self.nearest_rows[part]
        if boxes > 1:
            below = torch.arange(0, boxes * tall, tall, device=at.device)[:, None]
            at, at_mask = at + 3 * below[:, :, None, None], at_mask + below
        squares = _weighted_rows(_turned(across, boxes), at, weights)
        across = mask.index_select(0, (self.nearest_columns[part] - begin).view(-1))
        masks = _turned(across, boxes).index_select(0, at_mask.view(-1))
        return squares.view(boxes, 3, size, size), masks.view(boxes, size, size)

    def _gathered(self, part: slice, tall: int) -> tuple[Tensor, Tensor]:
        """Return columns as CLIP sees them, `(R, 3, tall)`, and those of the masks `(R, tall)`."""
        columns = slice(self.ends[part.start], self.ends[part.stop])
        at = self.runs[columns].view(-1)
        behind = self.behind
        if isinstance(behind, Tensor) and behind.ndim == 1:
            behind = _runs(behind, at, tall)
        steps = self.steps if len(self.steps) == 1 else self.steps[columns]
        places = self.pixels[columns, None] + steps[:, None] * self.down[:tall]
        mask = self.masks.index_select(0, places.view(-1)).view(-1, tall)
        return blended(_runs(self.front, at, tall), mask[:, None], behind, self.scale), mask

    def _copied(self, index: int, tall: int) -> tuple[Tensor, Tensor]:
        """Return the same of one box."""
        owner, row, left, right, y = self.cuts[index]
        behind = self.behinds[owner]
        if isinstance(behind, Tensor) and behind.ndim == 3:
            behind = behind[left:right, :, y : y + tall]
        mask = self.sources[owner].masks_qhw[row, y : y + tall, left:right].t().contiguous()
        front = self.fronts[owner][left:right, :, y : y + tall]
        return blended(front, mask[:, None], behind, self.scale), mask


def _by_column(image_chw: Tensor) -> Tensor:
    """Return an image as `(W, 3, H)`."""
    return image_chw.permute(2, 0, 1).contiguous()


def _behind(source: Source) -> Tensor | float | None:
    """Return what is behind masks as `_by_column` has it, `(3, 1)` if it is one color."""
    behind = source.behind
    if not isinstance(behind, Tensor):
        return behind
    return behind.view(3, 1) if behind.numel() == 3 else _by_column(behind)


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    """Return contiguous tensors as one flat tensor."""
    flat = [each.view(-1) for each in tensors]
    return torch.cat(flat) if len(flat) > 1 else flat[0]


def _begins(sizes: Tensor) -> Tensor:
    """Return where each of some joined tensors begins."""
    return sizes.cumsum(0) - sizes


def _flat(masks_qhw: Tensor) -> Tensor:
    """Return the memory that masks lie in, whatever their strides."""
    sides = zip(masks_qhw.shape, masks_qhw.stride(), strict=True)
    return masks_qhw.as_strided((1 + sum((n - 1) * by for n, by in sides),), (1,))


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

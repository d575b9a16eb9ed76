"""Regions to train on: what CLIP sees of each pair, as bytes, and the order they are shown in.

A region is one of the published training sets: the box of the mask cut out of the image, blanked
outside the mask (or another style of `ovseg.models.regions.crops`) and resized to CLIP's square
input as uint8. Here the true mask is kept too. Random crops are applied each time a region is used
(`ovseg.training.clip.crops`).

`PairRegions` is what the training loop reads. Its two kinds are `ovseg.training.clip.mapped`, cut
once into a file, and `ovseg.training.clip.streamed`, cut again in every epoch.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ovseg.data import masks
from ovseg.data.images import ImageArray, ImageError, read_image
from ovseg.models.regions.crops import region_crops
from ovseg.stages.threads import fixed_threads
from ovseg.stages.workers import WorkerPool, dying_workers
from ovseg.training.clip.pairs import ImagePairs, ImageRows

AHEAD = 4
"""Images per worker process that may wait to be taken."""

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class RegionCut:
    """How regions are cut out of their images.

    Attributes:
        size: side S of the regions, pixels.
        mean: CLIP's pixel mean on a 0..1 scale.
        std: CLIP's pixel deviation on a 0..1 scale.
        region: what CLIP sees of a mask, a name in `ovseg.models.regions.crops.REGIONS`.
        background: beta of its attenuated styles.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    region: str = "mean"
    background: float = 0.3

    @property
    def bytes(self) -> int:
        """Length of a stored region: `S * S * 3` of pixels, then `S * S` of the mask."""
        return 4 * self.size * self.size


@dataclass(frozen=True, kw_only=True)
class RegionBatch:
    """Regions as they are stored.

    Attributes:
        pixels: `(N, S, S, 3)` uint8 RGB, 0..255.
        masks: `(N, S, S)` bool.
    """

    pixels: Tensor
    masks: Tensor


def region_batch_of(rows_nb: Bytes, size: int) -> RegionBatch:
    """Return stored regions `(N, 4 * size * size)` as pixels and masks, without copying."""
    pixels, inside = np.split(rows_nb, [3 * size * size], axis=1)
    return RegionBatch(
        pixels=torch.from_numpy(pixels.reshape(-1, size, size, 3)),
        masks=torch.from_numpy(inside.reshape(-1, size, size).view(np.bool_)),
    )


@dataclass(frozen=True, kw_only=True)
class CutImage:
    """The regions of an image.

    Attributes:
        rows: numbers of its usable pairs, ascending.
        regions: `(len(rows), 4 * S * S)` uint8; no columns if the image was only checked.
        unusable: reason by number for the other pairs.
    """

    rows: tuple[int, ...]
    regions: Bytes
    unusable: Mapping[int, str]


def cut_image(image: ImageRows, cut: RegionCut | None) -> CutImage:
    """Decode an image once, check the masks of its pairs, and cut them out.

    Args:
        image: its pairs.
        cut: how; None only checks.
    """
    try:
        pixels = read_image(image.place, sha256=image.sha256)
    except ImageError as error:
        reasons = dict.fromkeys(image.rows, error.reason)
        return CutImage(rows=(), regions=np.zeros((0, 0), np.uint8), unusable=reasons)
    height, width = pixels.shape[:2]
    code = dict(zip(image.rows, image.counts, strict=True))
    size = dict(zip(image.rows, image.sizes, strict=True))
    reasons = {row: "no_mask" for row in image.rows if not code[row]}
    rows = [row for row in image.rows if row not in reasons]
    reasons |= {row: "mask_of_other_size" for row in rows if size[row] != [height, width]}
    rows = [row for row in rows if row not in reasons]
    damaged = masks.broken([code[row] or b"" for row in rows], (height, width))
    reasons |= {row: "broken_mask" for row, is_broken in zip(rows, damaged) if is_broken}
    rows = [row for row in rows if row not in reasons]
    decoded = masks.decode([code[row] or b"" for row in rows], (height, width))
    filled: NDArray[np.bool_] = np.asarray(decoded.any(axis=(1, 2)))
    reasons |= {row: "empty_mask" for row, has_any in zip(rows, filled) if not has_any}
    rows = [row for row in rows if row not in reasons]
    columns = 0 if cut is None else cut.bytes
    regions = np.zeros((len(rows), columns), np.uint8)
    if cut is not None and rows:
        _fill(regions, pixels, decoded[filled], cut)
    return CutImage(rows=tuple(rows), regions=regions, unusable=reasons)


def _fill(
    regions_nb: Bytes, image: ImageArray, masks_nhw: NDArray[np.bool_], cut: RegionCut
) -> None:
    """Write the regions of some masks of an image."""
    regions = region_crops(
        image,
        masks_nhw,
        size=cut.size,
        mean=cut.mean,
        std=cut.std,
        region=cut.region,
        background=cut.background,
        normalize=False,
    )
    pixels = regions.pixels.round().clamp(0, 255).byte().permute(0, 2, 3, 1)
    split = 3 * cut.size * cut.size
    regions_nb[:, :split] = pixels.reshape(len(pixels), -1).numpy()
    regions_nb[:, split:] = regions.masks.reshape(len(pixels), -1).numpy()


def cut_in_worker(image: ImageRows, cut: RegionCut | None) -> CutImage:
    """Call `cut_image` with one torch thread, whatever the process would use."""
    with fixed_threads():
        return cut_image(image, cut)


def cut_ahead(
    images: Iterable[ImageRows], cut: RegionCut | None, *, workers: int
) -> Iterator[CutImage]:
    """Cut images in order, a few ahead of the reader.

    Args:
        images: the pairs of each image.
        cut: see `cut_image`.
        workers: processes that cut; 0 cuts in this one.

    Raises:
        OvsegError: a worker process died.
    """
    if not workers:
        yield from (cut_image(image, cut) for image in images)
        return
    source, waiting = iter(images), deque[Future[CutImage]]()
    with worker_pool(workers) as pool, cutting_workers():
        while True:
            for image in islice(source, AHEAD * workers - len(waiting)):
                waiting.append(pool.submit(cut_in_worker, image, cut))
            if not waiting:
                return
            yield waiting.popleft().result()


@contextmanager
def worker_pool(workers: int) -> Iterator[WorkerPool]:
    """Start processes that cut images, and end them with the block."""
    pool = WorkerPool(workers, preload=[__name__])
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def cutting_workers() -> AbstractContextManager[None]:
    """Return the context in which the death of a process that cuts is an error of one line."""
    return dying_workers("cuts regions", setting="arms.decode_workers to 0")


# --------------------------------------------------------------------------------------
# What the training loop reads


class PairRegions:
    """The regions of a training set.

    Every image is decoded once before the first step, so unreadable images are known by then.

    Args:
        pairs: the training set by image.
        cut: how regions are cut out.
        unusable: reason by number of the rows that cannot be trained on.

    Attributes:
        pairs: the training set by image.
        cut: how regions are cut out.
        unusable: reason by row number.
        usable: `(U,)` int64 numbers of the other rows, ascending.
    """

    def __init__(self, pairs: ImagePairs, cut: RegionCut, unusable: Mapping[int, str]) -> None:
        self.pairs, self.cut, self.unusable = pairs, cut, unusable
        usable = [row for row in range(len(pairs)) if row not in unusable]
        self.usable = torch.tensor(usable, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def size(self) -> int:
        """Side of the regions, pixels."""
        return self.cut.size

    @property
    def mean(self) -> tuple[float, float, float]:
        """CLIP's pixel mean on a 0..1 scale."""
        return self.cut.mean

    @property
    def std(self) -> tuple[float, float, float]:
        """CLIP's pixel deviation on a 0..1 scale."""
        return self.cut.std

    def order(self, *, seed: int, epoch: int) -> Tensor:
        """Return the usable rows `(U,)` in the order of one epoch, the same at every call."""
        raise NotImplementedError

    def regions(self, rows: Sequence[int]) -> RegionBatch:
        """Return the regions of usable rows, in the order of `rows`.

        Raises:
            OvsegError: if an image is needed again and is missing or has changed.
        """
        raise NotImplementedError

    def close(self) -> None:
        """End worker processes, if there are any."""


def reason_counts(reasons: Iterable[str]) -> dict[str, int]:
    """Count the occurrences of each reason, by name."""
    counts: dict[str, int] = defaultdict(int)
    for reason in sorted(reasons):
        counts[reason] += 1
    return dict(counts)

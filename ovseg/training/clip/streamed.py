"""Regions cut again in every epoch, for training sets whose regions do not fit on the disk.

Each image is decoded once an epoch for all of its pairs. For that, pairs are shuffled in windows:

1. the images are permuted;
2. consecutive images form windows of at least `window` pairs (the last one may have fewer);
3. the pairs of a window are permuted, and the windows follow each other.

So batches come from all of the training set, and every pair is shown once an epoch, as with a full
shuffle. Two differences remain. The pairs of an image are in the same window, so two of them meet
in a batch of B with probability of about B / window instead of B / U. And an image's pairs are
all shown within one window's steps, not spread over the epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ovseg.data.images import REASONS
from ovseg.errors import OvsegError
from ovseg.files.publish import discard
from ovseg.training.clip.crops import seeded_generator
from ovseg.training.clip.mapped import cut_once
from ovseg.training.clip.pairs import ImagePairs
from ovseg.training.clip.regions import (
    CutImage,
    PairRegions,
    RegionBatch,
    RegionCut,
    cut_image,
    cut_in_worker,
    cutting_workers,
    region_batch_of,
    worker_pool,
)


class StreamedRegions(PairRegions):
    """Regions of two or three windows in memory; not for several threads at once.

    Args:
        pairs: the training set by image.
        cut: how regions are cut out.
        window: pairs that are shuffled together, at least.
        folder: folder for the outcome of checking the images, which is kept.
        workers: processes that decode and cut the window after the current one; 0 cuts a window
            in this process when its first pair is shown.
    """

    def __init__(
        self, pairs: ImagePairs, cut: RegionCut, *, window: int, folder: Path, workers: int = 0
    ) -> None:
        self._place, unusable = cut_once(pairs, cut, folder, keeps=False, workers=workers)
        super().__init__(pairs, cut, unusable)
        self.window = window
        self._image_of = np.zeros(len(pairs), np.int64)
        for image in range(pairs.images):
            self._image_of[list(pairs.of_image(image))] = image
        self._ending = ExitStack()
        self._pool = self._ending.enter_context(worker_pool(workers)) if workers else None
        self._epoch: tuple[int, int] | None = None
        self._order = torch.zeros(0, dtype=torch.int64)
        self._windows: list[NDArray[np.int64]] = []
        self._window_of = np.zeros(0, np.int64)
        self._waiting: dict[int, list[Future[CutImage]]] = {}
        self._ready: dict[int, dict[int, NDArray[np.uint8]]] = {}

    def order(self, *, seed: int, epoch: int) -> Tensor:
        """Return the usable rows `(U,)`, shuffled in windows."""
        if self._epoch != (seed, epoch):
            self._forget()
            self._epoch = (seed, epoch)
            usable, images = self.usable.numpy(), self._image_of[self.usable.numpy()]
            self._windows = image_windows(images, window=self.window, seed=seed, epoch=epoch)
            self._window_of = np.zeros(self.pairs.images, np.int64)
            for number, of_window in enumerate(self._windows):
                self._window_of[images[of_window]] = number
            self._order = torch.from_numpy(usable[np.concatenate(self._windows)])
        return self._order

    def regions(self, rows: Sequence[int]) -> RegionBatch:
        """Return the regions of usable rows of the order that was asked for last.

        Raises:
            OvsegError: if an image that was readable at the start no longer is, or has changed.
        """
        of_rows = self._window_of[self._image_of[np.asarray(rows, np.int64)]]
        first, last = int(of_rows.min()), int(of_rows.max())
        for number in [*self._ready, *self._waiting]:
            if number < first:
                self._ready.pop(number, None)
                self._waiting.pop(number, None)
        for number in range(first, last + 1):
            self._take(number)
        if self._pool is not None:
            self._submit(last + 1)
        stored = [self._ready[int(window)][row] for window, row in zip(of_rows, rows)]
        return region_batch_of(np.stack(stored), self.size)

    def close(self) -> None:
        """End the worker processes."""
        self._forget()
        self._ending.close()

    def _forget(self) -> None:
        for futures in self._waiting.values():
            for future in futures:
                future.cancel()
        self._waiting, self._ready = {}, {}

    def _images(self, number: int) -> list[int]:
        rows = self.usable.numpy()[self._windows[number]]
        return list(dict.fromkeys(self._image_of[rows].tolist()))

    def _submit(self, number: int) -> None:
        """Have the workers cut a window, if it exists and is not yet cut."""
        assert self._pool is not None
        if number >= len(self._windows) or number in self._waiting or number in self._ready:
            return
        with cutting_workers():
            self._waiting[number] = [
                self._pool.submit(cut_in_worker, self.pairs.image(image), self.cut)
                for image in self._images(number)
            ]

    def _take(self, number: int) -> None:
        """Make a window ready."""
        if number in self._ready:
            return
        if self._pool is None:
            cut = [cut_image(self.pairs.image(image), self.cut) for image in self._images(number)]
        else:
            self._submit(number)
            with cutting_workers():
                cut = [future.result() for future in self._waiting.pop(number)]
        for image in cut:
            for row, reason in image.unusable.items():
                if reason in REASONS:
                    discard(self._place)  # so that the next run checks all images again
                    raise OvsegError(
                        f"{self.pairs.path(row)} disappeared or changed during training"
                        f" ({reason}): restore it and run again to resume training, or run again"
                        " without it to start over"
                    )
        self._ready[number] = {
            row: region for image in cut for row, region in zip(image.rows, image.regions)
        }


def image_windows(
    images_u: NDArray[np.int64], *, window: int, seed: int, epoch: int
) -> list[NDArray[np.int64]]:
    """Shuffle items in windows of whole images.

    Args:
        images_u: the image of each of U items, in any order.
        window: items in a window, at least; only the last one may have fewer.
        seed: seed of the training.
        epoch: from 0.

    Returns:
        The item numbers of each window, shuffled; together every item once.
    """
    distinct, item_image = np.unique(images_u, return_inverse=True)
    shuffled = torch.randperm(len(distinct), generator=seeded_generator(seed, "images", epoch))
    rank = np.empty(len(distinct), np.int64)
    rank[shuffled.numpy()] = np.arange(len(distinct))
    by_image = np.argsort(rank[item_image], kind="stable")
    ends = np.cumsum(np.bincount(rank[item_image], minlength=len(distinct)))
    windows: list[NDArray[np.int64]] = []
    start = 0
    while start < len(by_image):
        last = min(int(np.searchsorted(ends, start + window)), len(ends) - 1)
        stop = int(ends[last])
        generator = seeded_generator(seed, "window", epoch, len(windows))
        within = torch.randperm(stop - start, generator=generator).numpy()
        windows.append(by_image[start:stop][within])
        start = stop
    return windows

"""Training data: the pairs a curation query selected, as masked regions with their nouns.

`read_pairs` joins the curated pair ids with the published pair table. `PairRegions` turns rows into
the regions of the published training sets: the box of the mask cut out of the image, blanked
outside the mask (or another style of `ovseg.models.regions.crops`) and resized to CLIP's square
input as uint8. Here the true mask is kept too. Random crops are applied each time a region is used
(`ovseg.training.clip.crops`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from ovseg.data import masks
from ovseg.data.images import ImageArray, ImageError, read_image
from ovseg.errors import OvsegError
from ovseg.files.locations import Location
from ovseg.models.regions.crops import region_crops
from ovseg.stages import schema
from ovseg.stages.manifest import Manifest

COLUMNS = ["pair_id", "image_path", "image_sha256", "mask_size", "mask_counts"]

In = TypeVar("In")
Out = TypeVar("Out")


def read_pairs(curated: Manifest, tables: Sequence[Manifest]) -> pa.Table:
    """Join a curated selection with the pair tables it was made from.

    Args:
        curated: a stage of `schema.CURATED` rows; its nouns are the training texts, so a query can
            train on the head of a compound, for example. A pair may be selected repeatedly.
        tables: published pair tables, each a folder of Parquet files of `schema.PAIRS`.

    Returns:
        `noun` and the `COLUMNS`, ordered by `(pair_id, noun)`: the row order of the query and the
        table does not influence training.

    Raises:
        OvsegError: if no pair is selected, or a selected pair is not in the table.
    """
    selection = curated.table(schema.CURATED.names).sort_by(
        [("pair_id", "ascending"), ("noun", "ascending")]
    )
    if not len(selection):
        raise OvsegError("the curation query selected no pairs: loosen it, or mine more images")
    pair_ids = pc.unique(selection["pair_id"])
    parts = []
    for path in (path for each in tables for path in sorted(each.payload().rglob("*.parquet"))):
        part = pq.ParquetFile(path).read(columns=COLUMNS)
        parts.append(part.filter(pc.is_in(part["pair_id"], value_set=pair_ids)))
    if not parts:
        folders = ", ".join(str(each.payload()) for each in tables)
        raise OvsegError(f"{folders} has no Parquet file: run the stage again")
    pairs = pa.concat_tables(parts).combine_chunks()
    index = pc.index_in(selection["pair_id"], value_set=pairs["pair_id"].combine_chunks())
    if index.null_count:
        lost = selection["pair_id"].filter(pc.is_null(index))[0].as_py()
        raise OvsegError(
            f"{index.null_count} of the curated pairs are missing from the pair table, the first"
            f" {lost}: run the curation query on this table again"
        )
    return pairs.take(index).add_column(0, "noun", selection["noun"])


@dataclass(frozen=True, kw_only=True)
class RegionBatch:
    """Regions as they are stored.

    Attributes:
        pixels: `(N, S, S, 3)` uint8 RGB, 0..255.
        masks: `(N, S, S)` bool.
    """

    pixels: Tensor
    masks: Tensor


class PairRegions:
    """The regions of pairs, kept in memory if they fit, else cut out again on each request.

    Every image is decoded once at the start, so unreadable images are known before the first step
    and the training set is the same with and without the cache.

    Args:
        pairs: rows from `read_pairs`.
        image_root: folder or URL the image paths are relative to.
        size: side S of the regions, pixels.
        mean: CLIP's pixel mean on a 0..1 scale.
        std: CLIP's pixel deviation on a 0..1 scale.
        region: what CLIP sees of a mask, a name in `ovseg.models.regions.crops.REGIONS`.
        background: beta of its attenuated styles.
        cache_bytes: keep the regions if they take no more memory than this.
        workers: threads that decode images; 0 decodes in the calling thread.

    Attributes:
        paths: image path of each row, relative to the root.
        usable: `(U,)` int64 numbers of the rows that can be trained on, ascending.
        unusable: reason by row number.
        cached: whether the regions are kept in memory.
    """

    def __init__(
        self,
        pairs: pa.Table,
        *,
        image_root: Location,
        size: int,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        region: str = "mean",
        background: float = 0.3,
        cache_bytes: int = 0,
        workers: int = 0,
    ) -> None:
        self.image_root, self.size, self.mean, self.std = image_root, size, mean, std
        self.region, self.background, self.workers = region, background, workers
        self.paths: list[str] = pairs["image_path"].to_pylist()
        self._sizes: list[list[int]] = pairs["mask_size"].to_pylist()
        self._sha256s: list[str | None] = pairs["image_sha256"].to_pylist()
        self._counts = pairs["mask_counts"]
        self.unusable: dict[int, str] = {}
        self.cached = len(pairs) * size * size * 4 <= cache_bytes
        if self.cached:
            self._kept = self._empty(len(pairs))
        by_image = defaultdict(list)
        for row, path in enumerate(self.paths):
            by_image[path].append(row)
        for reasons in self._apply(self._survey, list(by_image.values())):
            self.unusable.update(reasons)
        usable = [row for row in range(len(pairs)) if row not in self.unusable]
        self.usable = torch.tensor(usable, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.paths)

    def regions(self, rows: Sequence[int]) -> RegionBatch:
        """Return the regions of usable rows, in the order of `rows`.

        Raises:
            OvsegError: if an image that was readable at the start no longer is, or has changed.
        """
        if self.cached:
            index = torch.tensor(rows, dtype=torch.int64)
            return RegionBatch(pixels=self._kept.pixels[index], masks=self._kept.masks[index])
        batch = self._empty(len(rows))
        for slot, region in enumerate(self._apply(self._cut_one, rows)):
            batch.pixels[slot], batch.masks[slot] = region.pixels[0], region.masks[0]
        return batch

    def path(self, row: int) -> Location:
        """Return the location of a row's image."""
        return self.image_root / self.paths[row]

    def _empty(self, count: int) -> RegionBatch:
        side = self.size
        return RegionBatch(
            pixels=torch.zeros((count, side, side, 3), dtype=torch.uint8),
            masks=torch.zeros((count, side, side), dtype=torch.bool),
        )

    def _apply(self, work: Callable[[In], Out], items: Sequence[In]) -> Iterator[Out]:
        """Map `work` over `items`, in the worker threads if there are any."""
        if not self.workers:
            yield from map(work, items)
            return
        with ThreadPoolExecutor(self.workers) as pool:
            yield from pool.map(work, items)

    def _survey(self, rows: Sequence[int]) -> dict[int, str]:
        """Decode one image, check the masks of its rows, keep the regions if there is a cache."""
        try:
            image = read_image(self.path(rows[0]), sha256=self._sha256s[rows[0]])
        except ImageError as error:
            return dict.fromkeys(rows, error.reason)
        shape = list(image.shape[:2])
        reasons = {row: "no_mask" for row in rows if not self._counts[row].as_py()}
        reasons |= {
            row: "mask_of_other_size"
            for row in rows
            if row not in reasons and self._sizes[row] != shape
        }
        fitting = [row for row in rows if row not in reasons]
        counts = [self._counts[row].as_py() for row in fitting]
        damaged = masks.broken(counts, (shape[0], shape[1]))
        reasons |= {row: "broken_mask" for row, is_broken in zip(fitting, damaged) if is_broken}
        fitting = [row for row in fitting if row not in reasons]
        decoded = self._masks(fitting, image)
        filled: NDArray[np.bool_] = np.asarray(decoded.any(axis=(1, 2)))
        reasons |= {row: "empty_mask" for row, has_any in zip(fitting, filled) if not has_any}
        if self.cached and filled.any():
            region = self._cut(image, decoded[filled])
            good = [row for row in fitting if row not in reasons]
            self._kept.pixels[good], self._kept.masks[good] = region.pixels, region.masks
        return reasons

    def _cut_one(self, row: int) -> RegionBatch:
        try:
            image = read_image(self.path(row), sha256=self._sha256s[row])
        except ImageError as error:
            raise OvsegError(
                f"{self.path(row)} disappeared or changed during training ({error.reason}):"
                " restore it and run again to resume training"
            ) from error
        return self._cut(image, self._masks([row], image))

    def _cut(self, image: ImageArray, masks_qhw: NDArray[np.bool_]) -> RegionBatch:
        cut = region_crops(
            image,
            masks_qhw,
            size=self.size,
            mean=self.mean,
            std=self.std,
            region=self.region,
            background=self.background,
            normalize=False,
        )
        pixels = cut.pixels.round().clamp(0, 255).byte().permute(0, 2, 3, 1)
        return RegionBatch(pixels=pixels, masks=cut.masks)

    def _masks(self, rows: Sequence[int], image: ImageArray) -> NDArray[np.bool_]:
        height, width = image.shape[:2]
        return masks.decode([self._counts[row].as_py() for row in rows], (height, width))


def reason_counts(reasons: Iterable[str]) -> dict[str, int]:
    """Count the occurrences of each reason, by name."""
    counts: dict[str, int] = defaultdict(int)
    for reason in sorted(reasons):
        counts[reason] += 1
    return dict(counts)

"""Regions cut once into a file that later phases, arms and runs of the same training set map.

    <root>/regions/<digest>/regions.bin     a region of `RegionCut.bytes` for each pair
    <root>/regions/<digest>/regions.json    the unusable pairs, and the sha256 of the other file

The folder is a cache. Its digest covers the pixels and masks of the pairs, how they are cut, and
the code; no manifest names it, and whatever is deleted is cut again. It is published when it is
complete, and read only if its sha256 matches.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import PIL
import torch
from torch import Tensor

from ovseg.data.images import REASONS, ImageError, read_image
from ovseg.errors import OvsegError
from ovseg.files.digests import code_digest, digest_json, file_sha256
from ovseg.files.json_files import read_json
from ovseg.files.publish import discard, one_writer, published, writing
from ovseg.stages.threads import torch_threads
from ovseg.training.clip.crops import seeded_generator
from ovseg.training.clip.pairs import ImagePairs
from ovseg.training.clip.regions import (
    PairRegions,
    RegionBatch,
    RegionCut,
    cut_ahead,
    region_batch_of,
)

log = logging.getLogger(__name__)

REGIONS, INDEX = "regions.bin", "regions.json"
GIB = 2**30


class MappedRegions(PairRegions):
    """Regions in a file, read through the page cache.

    Args:
        pairs: the training set by image.
        cut: how regions are cut out.
        folder: folder of such files; made if missing.
        workers: processes that decode and cut; 0 does so in this one.

    Raises:
        OvsegError: if the file does not fit on the disk or cannot be written.
    """

    def __init__(
        self, pairs: ImagePairs, cut: RegionCut, *, folder: Path, workers: int = 0
    ) -> None:
        place, unusable = cut_once(pairs, cut, folder, keeps=True, workers=workers)
        super().__init__(pairs, cut, unusable)
        shape = (len(pairs), cut.bytes)
        self._rows = np.memmap(place / REGIONS, dtype=np.uint8, mode="r", shape=shape)

    def order(self, *, seed: int, epoch: int) -> Tensor:
        """Return a random permutation of the usable rows `(U,)`."""
        return epoch_order(self.usable, seed=seed, epoch=epoch)

    def regions(self, rows: Sequence[int]) -> RegionBatch:
        """Return the regions of usable rows, copied out of the file."""
        return region_batch_of(np.asarray(self._rows[np.asarray(rows, np.int64)]), self.size)


def epoch_order(usable: Tensor, *, seed: int, epoch: int) -> Tensor:
    """Return the rows `(U,)` in the order of one epoch."""
    generator = seeded_generator(seed, "order", epoch)
    return usable[torch.randperm(len(usable), generator=generator)]


# --------------------------------------------------------------------------------------
# The cache


def cut_once(
    pairs: ImagePairs, cut: RegionCut, folder: Path, *, keeps: bool, workers: int
) -> tuple[Path, dict[int, str]]:
    """Find what was cut before, or decode every image once and publish it.

    One process cuts at a time; others that need the same regions wait and find them.

    Args:
        pairs: the training set by image.
        cut: how regions are cut out.
        folder: folder of the caches.
        keeps: whether to keep the regions; False only checks images and masks.
        workers: see `cut_ahead`.

    Returns:
        The folder of this training set, and the reason of each unusable row by its number.

    Raises:
        OvsegError: if the regions do not fit on the disk or cannot be written.
    """
    parts = [
        pairs.digest(),
        asdict(cut) if keeps else "checked",
        code_digest({"ovseg.training.clip.regions"}),
        torch.__version__,
        PIL.__version__,
        torch_threads(),
    ]
    place = folder / digest_json(parts)[:16]
    kept = cut.bytes if keeps else None
    if (unusable := _cached_unusable(place, pairs, kept)) is not None:
        return place, unusable
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with one_writer(folder):
        if (unusable := _cached_unusable(place, pairs, kept)) is None:  # nobody cut it meanwhile
            for abandoned in folder.glob("*.tmp-*"):  # of a killed writer: we hold the lock
                discard(abandoned)
            with published(place) as temporary:
                temporary.mkdir()
                unusable = _write(pairs, cut, temporary, keeps=keeps, workers=workers)
    return place, unusable


def _write(
    pairs: ImagePairs, cut: RegionCut, folder: Path, *, keeps: bool, workers: int
) -> dict[int, str]:
    """Write the two files of a training set; return the unusable rows."""
    path, unusable = folder / REGIONS, dict[int, str]()
    if keeps:
        _check_room(pairs, cut, folder)
    images = (pairs.image(number) for number in range(pairs.images))
    with path.open("wb") as stream:
        if keeps:
            stream.truncate(len(pairs) * cut.bytes)  # unusable rows stay zero
        for image in cut_ahead(images, cut if keeps else None, workers=workers):
            unusable.update(image.unusable)
            for row, region in zip(image.rows, image.regions if keeps else ()):
                stream.seek(row * cut.bytes)
                stream.write(region.data)
    index = {
        "sha256": file_sha256(path),
        "unusable": {str(row): unusable[row] for row in sorted(unusable)},
    }
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")
    return unusable


def _check_room(pairs: ImagePairs, cut: RegionCut, folder: Path) -> None:
    """Log the size of the file, and check that it fits.

    Raises:
        OvsegError: if the disk has less room.
    """
    needed, free = len(pairs) * cut.bytes, shutil.disk_usage(folder).free
    log.info(
        "cutting %d regions of %d x %d pixels out of %d images into %s: %.2f GiB",
        *(len(pairs), cut.size, cut.size, pairs.images, folder.parent, needed / GIB),
    )
    if needed > free:
        raise OvsegError(
            f"{folder.parent} has {free / GIB:.2f} GiB free, but {len(pairs)} regions take"
            f" {needed / GIB:.2f} GiB: free some space, or set arms.input=stream"
        )


def _cached_unusable(
    place: Path, pairs: ImagePairs, row_bytes: int | None
) -> dict[int, str] | None:
    """Return the unusable rows of regions that were cut before; None if they must be cut.

    Images that could not be read are read again: one may have been restored since.
    """
    try:
        index = read_json(place / INDEX, advice="delete it")
        unusable = {int(row): str(reason) for row, reason in index["unusable"].items()}
        size = (place / REGIONS).stat().st_size
        whole = row_bytes is None or size == len(pairs) * row_bytes
        if not whole or file_sha256(place / REGIONS) != index["sha256"]:
            return None
    except (OSError, OvsegError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return unusable if _still_unreadable(pairs, unusable) else None


def _still_unreadable(pairs: ImagePairs, unusable: Mapping[int, str]) -> bool:
    for number in range(pairs.images):
        first = pairs.of_image(number)[0]
        if unusable.get(first) in REASONS:
            image = pairs.image(number)
            try:
                read_image(image.place, sha256=image.sha256)
            except ImageError as error:
                if error.reason == unusable[first]:
                    continue
            return False
    return True

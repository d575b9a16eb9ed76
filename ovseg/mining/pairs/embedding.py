"""Embeddings of an image's proposals: as masked regions of several images, or in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from ovseg.config.mining import PairingConfig
from ovseg.data import mask_tensors
from ovseg.data.images import ImageArray, ImageError
from ovseg.errors import OvsegError
from ovseg.mining.pairs.rows import Job
from ovseg.models.clip.open_clip_model import OpenClipModel
from ovseg.models.devices import autocast
from ovseg.models.regions.crops import Regions
from ovseg.models.regions.embedders import RegionEmbedder
from ovseg.models.regions.embedding import Cut, cut_images, cut_regions, embed_regions
from ovseg.stages import stopwatch

MASK_PIXELS = 2**25
"""Masks are cut out in parts of this many pixels: all masks of a large photo may not fit memory.
Small images are cut out together, up to as many."""

Decoded = tuple[Job, ImageArray | ImageError]
Regional = tuple[Job, list[Regions] | ImageError]
Embedded = tuple[Job, NDArray[np.float32] | ImageError]


@torch.inference_mode()
def embed_proposals(
    decoded: Iterable[Decoded], clip: OpenClipModel, config: PairingConfig, *, device: str
) -> Iterator[Embedded]:
    """Embed the proposals of images as masked regions, several images at a time.

    Args:
        decoded: jobs with their image, or the reason there is none.
        clip: the model, on `device`.
        config: crop settings and batch size.
        device: where crops are made and embedded.

    Yields:
        Each job in order, with the `(Q, E)` embeddings of its proposals or the reason.
    """
    waiting: list[Regional] = []
    regions = 0
    for job, parts in _regions_of(decoded, clip, config, device):
        waiting.append((job, parts))
        regions += 0 if isinstance(parts, ImageError) else len(job.proposals)
        if regions >= config.batch_size:
            yield from _embed(waiting, clip, config, device)
            waiting, regions = [], 0
    yield from _embed(waiting, clip, config, device)


@torch.inference_mode()
def embed_images(
    decoded: Iterable[Decoded], embedder: RegionEmbedder, config: PairingConfig, *, device: str
) -> Iterator[Embedded]:
    """Embed the proposals of each image by themselves, with all of them in one pass.

    Args:
        decoded: jobs with their image, or the reason there is none.
        embedder: embeds an image's masks.
        config: precision.
        device: where the masks are put.

    Yields:
        Each job in order, with the proposals that can be embedded (a mask may have no whole place)
        and their `(Q, E)` embeddings, or the reason.
    """
    for job, image in decoded:
        if isinstance(image, ImageError):
            yield job, image
            continue
        parts = []
        for masks_qhw in _decoded(job, image, device):
            with stopwatch.waiting("device"), autocast(device, config.precision):
                parts.append(embedder.embed(image, masks_qhw, threshold=None))
        valid = torch.cat([valid for _, valid in parts]).tolist()
        proposals = [row for row, is_valid in zip(job.proposals, valid, strict=True) if is_valid]
        yield replace(job, proposals=proposals), _finite(torch.cat([rows for rows, _ in parts]))


def _regions_of(
    decoded: Iterable[Decoded], clip: OpenClipModel, config: PairingConfig, device: str
) -> Iterator[Regional]:
    """Cut out the regions of images, of as many at a time as fit in memory and make a batch."""
    together: list[Decoded] = []
    regions, pixels = 0, 0
    for job, image in decoded:
        count = 0 if isinstance(image, ImageError) else len(job.proposals)
        of_image = 0 if isinstance(image, ImageError) else count * image.shape[0] * image.shape[1]
        if regions >= config.batch_size or pixels + of_image > MASK_PIXELS:
            yield from _cut(together, clip, config, device)
            together, regions, pixels = [], 0, 0
        together.append((job, image))
        regions, pixels = regions + count, pixels + of_image
    yield from _cut(together, clip, config, device)


def _cut(
    together: Sequence[Decoded], clip: OpenClipModel, config: PairingConfig, device: str
) -> Iterator[Regional]:
    """Cut out the regions of images at once, those of a single one as many as fit in memory."""
    cut = Cut(region=config.region, background=config.background, expand_ratio=config.expand_ratio)
    usable = [(job, each) for job, each in together if not isinstance(each, ImageError)]
    every: Iterator[list[Regions]]
    if len(usable) == 1:
        ((one, alone),) = usable
        every = iter([[*cut_regions(clip, alone, _decoded(one, alone, device), cut=cut)]])
    else:
        masks = [next(_decoded(job, pixels, device)) for job, pixels in usable]
        every = (
            [each] for each in cut_images(clip, [pixels for _, pixels in usable], masks, cut=cut)
        )
    for job, image in together:
        if isinstance(image, ImageError):
            yield job, image
            continue
        parts = next(every)
        if not all(bool(part.valid.all()) for part in parts):
            raise OvsegError(
                f"image {job.listed['image_id']}: a kept proposal is an empty mask; delete the"
                " proposals stage's folder and run it again"
            )
        yield job, parts


def _decoded(job: Job, image: ImageArray, device: str) -> Iterator[torch.Tensor]:
    """Decode the masks of an image's proposals, as many at a time as fit in memory."""
    height, width = image.shape[:2]
    counts = [row["mask_counts"] for row in job.proposals]
    at_once = max(1, MASK_PIXELS // (height * width))
    for start in range(0, len(counts), at_once):
        yield mask_tensors.decode(counts[start : start + at_once], (height, width), device)


def _finite(rows: torch.Tensor) -> NDArray[np.float32]:
    """Return embeddings `(Q, E)` as an array.

    Raises:
        OvsegError: if some are not finite.
    """
    embeddings: NDArray[np.float32] = rows.float().cpu().numpy()
    if not np.isfinite(embeddings).all():
        raise OvsegError("CLIP returns non-finite embeddings: its weights are damaged")
    return embeddings


def _embed(
    waiting: Sequence[Regional],
    clip: OpenClipModel,
    config: PairingConfig,
    device: str,
) -> Iterator[Embedded]:
    """Embed the regions of several images together, in batches of `batch_size`."""
    regions = [part for _, parts in waiting if isinstance(parts, list) for part in parts]
    if regions:
        with stopwatch.waiting("device"), autocast(device, config.precision):
            rows, _ = embed_regions(clip, regions, batch_size=config.batch_size)
            embeddings = _finite(rows)
    start = 0
    for job, parts in waiting:
        if isinstance(parts, ImageError):
            yield job, parts
        else:
            yield job, embeddings[start : start + len(job.proposals)]
            start += len(job.proposals)

"""Cut the masks of an image out as regions and embed them with a CLIP.

    parts = cut_regions(clip, image, torch.split(masks_qhw, 256))
    embeddings, valid = embed_regions(clip, parts)

Mining, the segmentor, learning curves and the scores of the shipped CLIPs all use this module. Only
training cuts regions itself, because it keeps them as bytes (`ovseg.training.clip.regions`).

A row's last bits depend on its batch, so callers choose the batches: every part is one, or all
parts are joined and split by `batch_size`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from ovseg.models.clip.open_clip_model import OpenClipModel
from ovseg.models.preprocessing import ImageArray
from ovseg.models.regions.crops import Regions, crops_of_images, region_crops


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Settings for cutting a region out of its image; the defaults are the paper's.

    Attributes:
        region: what CLIP sees of a mask, a name in `ovseg.models.regions.styles.REGIONS`.
        background: beta of the attenuated styles.
        expand_ratio: enlargement of the crop box, at least 1.
    """

    region: str = "mean"
    background: float = 0.3
    expand_ratio: float = 1.0


PAPER = Cut()


def cut_regions(
    clip: OpenClipModel,
    image: ImageArray,
    parts: Iterable[Tensor],
    *,
    cut: Cut = PAPER,
    threshold: float | None = None,
) -> Iterator[Regions]:
    """Cut masks out of an image, at a CLIP's size and normalized as it expects.

    Args:
        clip: the CLIP that will embed the regions.
        image: `(H, W, 3)` uint8 RGB.
        parts: the masks in parts `(Q_i, H, W)`, bool or float scores with a threshold; each part
            is cut lazily.
        cut: style of the crops.
        threshold: scores strictly above it are foreground; None for bool masks.

    Yields:
        The regions of each part, on its device.
    """
    pixels_hwc = torch.tensor(image)
    for masks_qhw in parts:
        yield region_crops(
            pixels_hwc,
            masks_qhw,
            size=clip.image_size,
            mean=clip.pixel_mean,
            std=clip.pixel_std,
            threshold=threshold,
            **asdict(cut),
        )


def cut_images(
    clip: OpenClipModel,
    images: Sequence[ImageArray],
    masks_qhw: Sequence[Tensor],
    *,
    cut: Cut = PAPER,
) -> list[Regions]:
    """Cut bool masks out of several images at once: see `cut_regions`.

    Args:
        clip: the CLIP that will embed the regions.
        images: `(H, W, 3)` uint8 RGB each.
        masks_qhw: the masks of each image, all of which are in memory until the end.
        cut: style of the crops.

    Returns:
        The regions of each image.
    """
    return crops_of_images(
        [torch.tensor(image) for image in images],
        masks_qhw,
        size=clip.image_size,
        mean=clip.pixel_mean,
        std=clip.pixel_std,
        **asdict(cut),
    )


@torch.no_grad()
def embed_regions(
    clip: OpenClipModel,
    parts: Iterable[Regions],
    *,
    batch_size: int | None = None,
    masked: bool = True,
    prompts: bool = True,
) -> tuple[Tensor, Tensor]:
    """Embed regions in batches.

    Args:
        clip: the CLIP they were cut for.
        parts: at least one part. Each is a separate batch, embedded before the next one is taken,
            so that the crops of hundreds of masks need not fit in memory together.
        batch_size: if given, all parts, of one or more images, are joined and split into batches
            of this many regions.
        masked: whether the CLIP also gets the masks; False for plain crops.
        prompts: whether to use the CLIP's prompts, if it has any.

    Returns:
        `(V, E)` embeddings of L2 norm 1 of the V masks with foreground, in order, and `(Q,)` bool
        that marks these masks.
    """
    rows, valid = [], []
    for part in parts if batch_size is None else [joined(parts)]:
        size = batch_size or max(1, len(part.pixels))
        batches = zip(torch.split(part.pixels, size), torch.split(part.masks, size), strict=True)
        for pixels, masks in batches:
            rows.append(clip.encode_regions(pixels, masks if masked else None, prompts=prompts))
        valid.append(part.valid)
    return torch.cat(rows), torch.cat(valid)


def joined(parts: Iterable[Regions]) -> Regions:
    """Join the regions of several parts; a single one is returned as it is."""
    every = [*parts]
    if len(every) == 1:
        return every[0]
    return Regions(
        pixels=torch.cat([part.pixels for part in every]),
        masks=torch.cat([part.masks for part in every]),
        valid=torch.cat([part.valid for part in every]),
        boxes=torch.cat([part.boxes for part in every]),
    )

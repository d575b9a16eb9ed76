"""Regions: what CLIP sees of a proposal, in one of the styles of `ovseg.models.regions.styles`.

The paper's style (`mean`: the mask's box cut out, blanked outside the mask) gives the digits of the
official implementation (OVSeg, CVPR 2023, section 3.2): threshold, tight box, expand, truncate to
integers, clamp, blend with the fill, normalize, resize. A bool mask chooses one of two pixels, so
the image is normalized once, before the blend, with the same result;
`ovseg.models.regions.resampling` does the rest for all masks at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Required, TypedDict, Unpack

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.models.regions.interpolation import nearest
from ovseg.models.regions.resampling import Source, blended, resampled
from ovseg.models.regions.styles import REGIONS


@dataclass(frozen=True, kw_only=True)
class Regions:
    """The regions of the V valid masks among Q, in order, as CLIP sees them.

    Attributes:
        pixels: `(V, 3, S, S)` float32, normalized, resized bicubically.
        masks: `(V, S, S)` bool, resized by nearest neighbor; float32 soft values with matting.
        valid: `(Q,)` bool, whether a mask has any foreground.
        boxes: `(V, 4)` int64 xyxy, right and bottom exclusive, within the image: the part of the
            image in the square.
    """

    pixels: Tensor
    masks: Tensor
    valid: Tensor
    boxes: Tensor


def foreground(masks_qhw: Tensor, threshold: float | None) -> Tensor:
    """Return masks as `(Q, H, W)` bool; scores strictly above the threshold are foreground."""
    return masks_qhw if masks_qhw.dtype == torch.bool else masks_qhw > (threshold or 0.0)


def tight_boxes(masks_qhw: Tensor) -> Tensor:
    """Return the boxes of the foreground of bool masks.

    Args:
        masks_qhw: `(Q, H, W)` bool.

    Returns:
        `(Q, 4)` int64 `xmin, ymin, xmax + 1, ymax + 1`; the last two are 0 for an empty mask.
    """
    height, width = masks_qhw.shape[1:]
    values = masks_qhw.view(torch.uint8)  # the largest byte is found faster than any true
    columns, rows = values.amax(dim=1), values.amax(dim=2)
    x, y = (torch.arange(1, side + 1, device=values.device) for side in (width, height))
    left = width - (columns * x.flip(0)).amax(dim=1)
    top = height - (rows * y.flip(0)).amax(dim=1)
    return torch.stack([left, top, (columns * x).amax(dim=1), (rows * y).amax(dim=1)], dim=1)


def expand_boxes(boxes: Tensor, ratio: float, *, height: int, width: int) -> Tensor:
    """Grow boxes about their centers, truncate towards zero, clamp to the image.

    Args:
        boxes: `(Q, 4)` int64 xyxy.
        ratio: factor on width and height, at least 1.
        height: height of the image.
        width: width of the image.

    Returns:
        `(Q, 4)` int64 xyxy within the image.

    Raises:
        ValueError: if the ratio is below 1, which could make a box empty.
    """
    if ratio < 1:
        raise ValueError(f"expand_ratio must be at least 1, not {ratio}")
    if ratio == 1:
        return boxes
    corners = boxes.double()
    center = (corners[:, :2] + corners[:, 2:]) / 2
    half = (corners[:, 2:] - corners[:, :2]) * ratio / 2
    grown = torch.cat([center - half, center + half], dim=1).trunc().long()
    limits = torch.tensor([width, height, width, height], device=boxes.device)
    return torch.minimum(grown.clamp(min=0), limits)


def _cover(boxes: Tensor) -> list[int]:
    """Return the box around some boxes, one pixel if there are none."""
    if not len(boxes):
        return [0, 0, 1, 1]
    return [*boxes[:, :2].amin(dim=0).tolist(), *boxes[:, 2:].amax(dim=0).tolist()]


def squashed_image(image_chw: Tensor, size: int) -> Tensor:
    """Resize a whole image to CLIP's square, as CLIP was trained to see images.

    Bicubic and antialiased, within 0..255; the aspect ratio is not kept.

    Args:
        image_chw: `(3, H, W)` float, 0..255.
        size: side S of the square.

    Returns:
        `(3, S, S)` float.
    """
    squashed = F.interpolate(image_chw[None], size=(size, size), mode="bicubic", antialias=True)
    return squashed[0].clamp(0, 255)


def squashed_masks(masks_qhw: Tensor, size: int) -> Tensor:
    """Resize masks of a whole image to CLIP's square by nearest neighbor.

    A mask so small that no pixel would remain covers each pixel it touches.

    Args:
        masks_qhw: `(Q, H, W)` bool, or float in 0..1.
        size: side S of the square.

    Returns:
        `(Q, S, S)` of the same type; only masks that were empty are empty.
    """
    y, x = nearest(torch.tensor(masks_qhw.shape[1:]), size).to(masks_qhw.device)
    squashed = masks_qhw[:, y][:, :, x]
    lost = ~(squashed > 0).flatten(1).any(dim=1)
    pooled = F.adaptive_max_pool2d(masks_qhw[lost, None].float(), size)[:, 0]
    squashed[lost] = pooled.to(squashed.dtype)
    return squashed


class CropStyle(TypedDict, total=False):
    """What `crops_of_images` may be asked for, by name."""

    size: Required[int]
    mean: Required[tuple[float, float, float]]
    std: Required[tuple[float, float, float]]
    threshold: float | None
    expand_ratio: float
    region: str
    background: float
    matting: bool
    normalize: bool


def region_crops(
    image_hwc: np.ndarray | Tensor,
    masks_qhw: np.ndarray | Tensor,
    **style: Unpack[CropStyle],
) -> Regions:
    """Make the regions that CLIP sees from the masks of an image: see `crops_of_images`.

    Args:
        image_hwc: `(H, W, 3)` uint8 RGB.
        masks_qhw: `(Q, H, W)` bool, or float scores with a threshold; Q may be 0.
        **style: how.

    Raises:
        ValueError: if shapes do not fit, the style is unknown or the ratio is below 1.
    """
    return crops_of_images([image_hwc], [masks_qhw], **style)[0]


def crops_of_images(
    images_hwc: Sequence[np.ndarray | Tensor],
    masks_qhw: Sequence[np.ndarray | Tensor],
    *,
    size: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    threshold: float | None = None,
    expand_ratio: float = 1.0,
    region: str = "mean",
    background: float = 0.3,
    matting: bool = False,
    normalize: bool = True,
) -> list[Regions]:
    """Make the regions that CLIP sees from the masks of images, all at once.

    A region is the same, bit for bit, whatever it is made with.

    Args:
        images_hwc: `(H, W, 3)` uint8 RGB each, of any sizes.
        masks_qhw: `(Q, H, W)` for each image, bool, or float scores with a threshold; Q may be 0.
            All are of one type and on one device.
        size: side S of the squares; the aspect ratio is not kept.
        mean: CLIP's pixel mean on a 0..1 scale (`MaskAdaptedCLIP.pixel_mean`).
        std: CLIP's pixel standard deviation on a 0..1 scale.
        threshold: scores strictly above it are foreground; None for bool masks (for a float mask,
            values above 0 are then foreground).
        expand_ratio: grows the box about its center; the added rim is outside the mask. Has no
            effect on the styles that show the whole image.
        region: a name in `REGIONS`.
        background: beta in 0..1 of the attenuated styles, see `faded`.
        matting: blend with the soft scores instead of the thresholded mask.
        normalize: False returns 0..255 values, for display.

    Returns:
        For each image the regions of its masks with foreground, on the masks' device if both are
        tensors. Pixels and masks of all images are parts of one tensor.

    Raises:
        ValueError: if shapes or the numbers of images and masks do not fit, the style is unknown
            or the ratio is below 1.
    """
    if region not in REGIONS:
        raise ValueError(f"region must be one of {', '.join(REGIONS)}, not {region!r}")
    style = REGIONS[region]
    images = [torch.as_tensor(each) for each in images_hwc]
    masks = [torch.as_tensor(each) for each in masks_qhw]
    for image, of_image in zip(images, masks, strict=True):
        _check(image, of_image)
    if not images:
        return []
    device = masks[0].device
    binary = [foreground(each, threshold) for each in masks]
    boxes = torch.cat([tight_boxes(each) for each in binary]).cpu()  # a GPU is waited for once
    mean_c11, std_c11 = (
        255.0 * torch.tensor(each, device=device)[:, None, None] for each in (mean, std)
    )
    blends = [each.float() for each in masks] if matting else binary
    found: list[_Found] = []
    for image, blend, own in zip(
        images, blends, torch.split(boxes, [*map(len, masks)]), strict=True
    ):
        valid = own[:, 2] > 0
        rows, own = valid.nonzero()[:, 0], own[valid]
        height, width = image.shape[:2]
        if style.whole:
            shift = torch.zeros(4, dtype=torch.int64)
            own = torch.tensor([[0, 0, width, height]]).expand(len(rows), -1)
            image_chw = squashed_image(image.to(device).permute(2, 0, 1).float(), size)
            blend = squashed_masks(blend[rows.to(device)], size)
        else:
            own = expand_boxes(own, expand_ratio, height=height, width=width)
            left, top, right, bottom = _cover(own)  # the rest of the image is not needed
            shift = torch.tensor([left, top, left, top])
            window = image[top:bottom, left:right].to(device)
            image_chw = window.permute(1, 2, 0).contiguous().float().permute(1, 2, 0)  # by columns
            blend = blend[:, top:bottom, left:right]
        behind: Tensor | float | None = style.behind(image_chw, mean_c11, background)
        scale = (mean_c11, std_c11) if normalize else None
        if scale is not None and (behind is None or not matting):
            # once for all masks: nothing is blended, a bool mask chooses one of two pixels
            image_chw = (image_chw - mean_c11) / std_c11
            if behind is mean_c11:
                behind = 0.0
            elif behind is not None:
                behind = (behind - mean_c11) / std_c11
            scale = None
        source = Source(front_chw=image_chw, behind=behind, masks_qhw=blend, scale=scale)
        found.append(_Found(source=source, valid=valid, rows=rows, boxes=own, shift=shift))
    shown = [_squashed(each.source) for each in found] if style.whole else _cut(found, size)
    return [
        Regions(
            pixels=pixels, masks=small, valid=each.valid.to(device), boxes=each.boxes.to(device)
        )
        for each, (pixels, small) in zip(found, shown, strict=True)
    ]


@dataclass(frozen=True, kw_only=True)
class _Found:
    """The regions to be made of an image.

    Attributes:
        source: the image, or the part of it that has all boxes.
        valid: `(Q,)` bool, see `Regions`.
        rows: `(V,)` int64, the masks with foreground.
        boxes: `(V, 4)` int64, see `Regions`.
        shift: `(4,)` int64, where the source begins in the image, as a box.
    """

    source: Source
    valid: Tensor
    rows: Tensor
    boxes: Tensor
    shift: Tensor


def _check(image: Tensor, masks: Tensor) -> None:
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image_hwc must be (H, W, 3), not {tuple(image.shape)}")
    if masks.ndim != 3 or masks.shape[1:] != image.shape[:2]:
        raise ValueError(
            f"masks_qhw {tuple(masks.shape)} do not fit an image of {tuple(image.shape[:2])}"
        )


def _squashed(source: Source) -> tuple[Tensor, Tensor]:
    """Return the squares of a whole image, and their masks."""
    masks = source.masks_qhw
    return blended(source.front_chw, masks[:, None], source.behind, source.scale), masks


def _cut(found: Sequence[_Found], size: int) -> list[tuple[Tensor, Tensor]]:
    """Return the squares of the boxes of each image, and their masks."""
    counts = [len(each.rows) for each in found]
    some = [each for each in found if len(each.rows)] or found[:1]
    owners = torch.repeat_interleave(torch.tensor([len(each.rows) for each in some]))
    rows = torch.cat([each.rows for each in some])
    boxes = torch.cat([each.boxes - each.shift for each in some])
    pixels, masks = resampled([each.source for each in some], owners, rows, boxes, size)
    return [*zip(torch.split(pixels, counts), torch.split(masks, counts), strict=True)]

"""Regions: what CLIP sees of a proposal, its box cut out and everything outside the mask blanked.

The order of operations is the official implementation's (OVSeg, CVPR 2023, section 3.2): threshold,
tight box, expand, truncate to integers, clamp, blend with the fill, normalise, resize. It decides
the result to the last digit, so nothing is reordered for speed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

FILLS = ("mean", "zero")


@dataclass(frozen=True, kw_only=True)
class Regions:
    """Crops of the V valid masks among Q, in their order.

    Attributes:
        pixels: `(V, 3, S, S)` float32, normalised, resized bicubically.
        masks: `(V, S, S)` bool, resized to the nearest pixel; float32 soft values with matting.
        valid: `(Q,)` bool, which masks have any foreground.
        boxes: `(V, 4)` int64 xyxy, right and bottom exclusive, within the image.
    """

    pixels: Tensor
    masks: Tensor
    valid: Tensor
    boxes: Tensor


def tight_boxes(masks_qhw: Tensor) -> Tensor:
    """Boxes of the foreground of bool masks.

    Args:
        masks_qhw: `(Q, H, W)` bool, each with at least one true pixel.

    Returns:
        `(Q, 4)` int64 `xmin, ymin, xmax + 1, ymax + 1`.
    """
    columns, rows = masks_qhw.any(dim=1).int(), masks_qhw.any(dim=2).int()
    height, width = masks_qhw.shape[1:]
    left, top = columns.argmax(dim=1), rows.argmax(dim=1)
    right = width - columns.flip(1).argmax(dim=1)
    bottom = height - rows.flip(1).argmax(dim=1)
    return torch.stack([left, top, right, bottom], dim=1)


def expand_boxes(boxes: Tensor, ratio: float, *, height: int, width: int) -> Tensor:
    """Grow boxes about their centres, truncate towards zero, clamp to the image.

    Args:
        boxes: `(Q, 4)` int64 xyxy.
        ratio: factor of width and height, at least 1.
        height: of the image.
        width: of the image.

    Returns:
        `(Q, 4)` int64 xyxy within the image.

    Raises:
        ValueError: the ratio is below 1, which could leave nothing of a box.
    """
    if ratio < 1:
        raise ValueError(f"expand_ratio is at least 1, not {ratio}")
    if ratio == 1:
        return boxes
    corners = boxes.double()
    centre = (corners[:, :2] + corners[:, 2:]) / 2
    half = (corners[:, 2:] - corners[:, :2]) * ratio / 2
    grown = torch.cat([centre - half, centre + half], dim=1).trunc().long()
    limits = torch.tensor([width, height, width, height], device=boxes.device)
    return torch.minimum(grown.clamp(min=0), limits)


def masked_crop(
    image_chw: Tensor, mask_hw: Tensor, box: Sequence[int], background_c11: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Cut out a box and blend its background away.

    Args:
        image_chw: `(3, H, W)` float, 0..255.
        mask_hw: `(H, W)` float in 0..1.
        box: left, top, right, bottom; the last two exclusive.
        background_c11: `(3, 1, 1)` colour where the mask is 0; None leaves the image as it is.

    Returns:
        `(3, h, w)` float and the mask's `(h, w)`.
    """
    left, top, right, bottom = box
    crop, mask = image_chw[:, top:bottom, left:right], mask_hw[top:bottom, left:right]
    if background_c11 is not None:
        crop = crop * mask + (1 - mask) * background_c11
    return crop, mask


def region_crops(
    image_hwc: np.ndarray | Tensor,
    masks_qhw: np.ndarray | Tensor,
    *,
    size: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    threshold: float | None = None,
    expand_ratio: float = 1.0,
    fill: str = "mean",
    matting: bool = False,
    masked: bool = True,
    normalise: bool = True,
) -> Regions:
    """Cut the regions of masks out of an image for CLIP.

    Args:
        image_hwc: `(H, W, 3)` uint8 RGB.
        masks_qhw: `(Q, H, W)` bool, or float scores with a threshold; Q may be 0.
        size: side S of the square crops; the aspect ratio is not kept.
        mean: CLIP's pixel mean on a 0..1 scale (`MaskAdaptedCLIP.pixel_mean`).
        std: CLIP's pixel standard deviation on a 0..1 scale.
        threshold: foreground where a score is strictly above it; None for bool masks (a float
            mask then counts where it is above 0).
        expand_ratio: grows the box about its centre; the added rim is blanked as well.
        fill: what replaces the background, `"mean"` (255 * mean, 0 once normalised) or `"zero"`
            (black).
        matting: blend with the soft scores instead of the thresholded mask.
        masked: False keeps the background: plain box crops.
        normalise: False returns 0..255 values, for pictures.

    Returns:
        The regions of all masks with foreground; on the masks' device if both are tensors.

    Raises:
        ValueError: shapes that do not fit, an unknown fill, a ratio below 1.
    """
    image = torch.as_tensor(image_hwc)
    masks = torch.as_tensor(masks_qhw)
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image_hwc is (H, W, 3), not {tuple(image.shape)}")
    if masks.ndim != 3 or masks.shape[1:] != image.shape[:2]:
        raise ValueError(
            f"masks_qhw {tuple(masks.shape)} do not fit an image of {tuple(image.shape[:2])}"
        )
    if fill not in FILLS:
        raise ValueError(f"fill is one of {', '.join(FILLS)}, not {fill!r}")
    device = masks.device
    image_chw = image.to(device).permute(2, 0, 1).float()
    binary = masks if masks.dtype == torch.bool else masks > (threshold or 0.0)
    valid = binary.flatten(1).any(dim=1) if len(masks) else masks.new_zeros(0, dtype=torch.bool)
    binary = binary[valid]
    blend = masks[valid].float() if matting else binary.float()
    height, width = image.shape[:2]
    boxes = expand_boxes(tight_boxes(binary), expand_ratio, height=height, width=width)
    scaled_mean = 255.0 * torch.tensor(mean, device=device)[:, None, None]
    scaled_std = 255.0 * torch.tensor(std, device=device)[:, None, None]
    background = scaled_mean if fill == "mean" else torch.zeros_like(scaled_mean)
    pixels = image_chw.new_zeros((len(boxes), 3, size, size))
    region_masks = image_chw.new_zeros((len(boxes), size, size))
    for index, box in enumerate(boxes.tolist()):
        crop, mask = masked_crop(image_chw, blend[index], box, background if masked else None)
        if normalise:
            crop = (crop - scaled_mean) / scaled_std
        pixels[index] = F.interpolate(crop[None], size=(size, size), mode="bicubic")[0]
        region_masks[index] = F.interpolate(mask[None, None], size=(size, size))[0, 0]
    return Regions(
        pixels=pixels,
        masks=region_masks if matting else region_masks > 0,
        valid=valid,
        boxes=boxes,
    )

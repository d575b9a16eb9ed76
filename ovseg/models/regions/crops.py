"""Regions: what CLIP sees of a proposal. `REGIONS` lists the styles.

The paper's style (`mean`: the mask's box cut out, blanked outside the mask) gives the digits of the
official implementation (OVSeg, CVPR 2023, section 3.2): threshold, tight box, expand, truncate to
integers, clamp, blend with the fill, normalize, resize. A bool mask chooses one of two pixels, so
the image is normalized once, before the blend, with the same result;
`ovseg.models.regions.resampling` does the rest for all masks at once.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg.models.regions.resampling import Source, blended, nearest, resampled

Behind = Callable[[Tensor, Tensor, float], Tensor | None]
"""Maps an image `(3, H, W)` in 0..255, CLIP's mean color `(3, 1, 1)` and beta to the background
outside the mask, `(3, 1, 1)` or `(3, H, W)`; None keeps the image."""


def _mean(image_chw: Tensor, mean_c11: Tensor, beta: float) -> Tensor:
    return mean_c11


def _zero(image_chw: Tensor, mean_c11: Tensor, beta: float) -> Tensor:
    return torch.zeros_like(mean_c11)


def _kept(image_chw: Tensor, mean_c11: Tensor, beta: float) -> None:
    return None


def faded(image_chw: Tensor, mean_c11: Tensor, beta: float) -> Tensor:
    """Mix an image with CLIP's mean color: `beta * image + (1 - beta) * mean`.

    Once normalized this is `beta * image`: beta 0 is the paper's mean fill, 1 the image itself.
    """
    return beta * image_chw + (1 - beta) * mean_c11


@dataclass(frozen=True, kw_only=True)
class Style:
    """A way of showing a region to CLIP.

    Attributes:
        whole: the whole image, squashed to the square, instead of the mask's box.
        behind: the background outside the mask.
    """

    whole: bool
    behind: Behind


REGIONS: dict[str, Style] = {
    "mean": Style(whole=False, behind=_mean),
    "zero": Style(whole=False, behind=_zero),
    "box": Style(whole=False, behind=_kept),
    "attenuated_box": Style(whole=False, behind=faded),
    "image": Style(whole=True, behind=_kept),
    "attenuated_image": Style(whole=True, behind=faded),
}
"""Styles by the value of `region`: `mean` is the paper's, `zero` is black outside the mask, `box`
and `image` keep the background, the attenuated ones fade it by `background`."""


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


def region_crops(
    image_hwc: np.ndarray | Tensor,
    masks_qhw: np.ndarray | Tensor,
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
) -> Regions:
    """Make the regions that CLIP sees from the masks of an image.

    Args:
        image_hwc: `(H, W, 3)` uint8 RGB.
        masks_qhw: `(Q, H, W)` bool, or float scores with a threshold; Q may be 0.
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
        The regions of all masks with foreground; on the masks' device if both are tensors.

    Raises:
        ValueError: if shapes do not fit, the style is unknown or the ratio is below 1.
    """
    image = torch.as_tensor(image_hwc)
    masks = torch.as_tensor(masks_qhw)
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image_hwc must be (H, W, 3), not {tuple(image.shape)}")
    if masks.ndim != 3 or masks.shape[1:] != image.shape[:2]:
        raise ValueError(
            f"masks_qhw {tuple(masks.shape)} do not fit an image of {tuple(image.shape[:2])}"
        )
    if region not in REGIONS:
        raise ValueError(f"region must be one of {', '.join(REGIONS)}, not {region!r}")
    style = REGIONS[region]
    device = masks.device
    binary = foreground(masks, threshold)
    boxes = tight_boxes(binary).cpu()  # the only time that the CPU waits for a GPU
    valid = boxes[:, 2] > 0
    rows, boxes = valid.nonzero()[:, 0], boxes[valid]
    height, width = image.shape[:2]
    if style.whole:
        boxes = torch.tensor([[0, 0, width, height]]).expand(len(rows), -1)
        image_chw = squashed_image(image.to(device).permute(2, 0, 1).float(), size)
    else:
        boxes = expand_boxes(boxes, expand_ratio, height=height, width=width)
        left, top, right, bottom = _cover(boxes)  # the rest of the image is not needed
        window = image[top:bottom, left:right].to(device)
        image_chw = window.permute(1, 2, 0).contiguous().float().permute(1, 2, 0)  # by columns
    blend = masks.float() if matting else binary
    mean_c11, std_c11 = (
        255.0 * torch.tensor(each, device=device)[:, None, None] for each in (mean, std)
    )
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
    if style.whole:
        region_masks = squashed_masks(blend[rows.to(device)], size)
        pixels = blended(image_chw, region_masks[:, None], behind, scale)
    else:
        blend = blend[:, top:bottom, left:right]
        source = Source(front_chw=image_chw, behind=behind, masks_qhw=blend, scale=scale)
        within = boxes - torch.tensor([left, top, left, top])
        pixels, region_masks = resampled(source, rows, within, size)
    return Regions(
        pixels=pixels,
        masks=region_masks,
        valid=valid.to(device),
        boxes=boxes.to(device),
    )

"""Regions: what CLIP sees of a proposal. `REGIONS` says which styles there are.

The paper's (`mean`: the mask's box cut out, blanked outside the mask) keeps the order of operations
of the official implementation (OVSeg, CVPR 2023, section 3.2): threshold, tight box, expand,
truncate to integers, clamp, blend with the fill, normalise, resize. It decides the result to the
last digit, so nothing is reordered for speed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Behind = Callable[[Tensor, Tensor, float], Tensor | None]
"""Of an image `(3, H, W)` in 0..255, CLIP's mean colour `(3, 1, 1)` and beta: what is shown where
the mask is 0, `(3, 1, 1)` or `(3, H, W)`; None leaves the image there."""


def _mean(image_chw: Tensor, mean_c11: Tensor, beta: float) -> Tensor:
    return mean_c11


def _zero(image_chw: Tensor, mean_c11: Tensor, beta: float) -> Tensor:
    return torch.zeros_like(mean_c11)


def _kept(image_chw: Tensor, mean_c11: Tensor, beta: float) -> None:
    return None


def faded(image_chw: Tensor, mean_c11: Tensor, beta: float) -> Tensor:
    """An image mixed with CLIP's mean colour: `beta * image + (1 - beta) * mean`.

    Once normalised this is `beta * image`: beta 0 is the paper's mean fill, 1 the image itself.
    """
    return beta * image_chw + (1 - beta) * mean_c11


@dataclass(frozen=True, kw_only=True)
class Style:
    """A way of showing a region to CLIP.

    Attributes:
        whole: the whole image, squashed to the square, instead of the mask's box.
        behind: what is shown outside the mask.
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
"""By the value of `region`: `mean` is the paper's, `zero` has black outside the mask, `box` and
`image` keep what is there, the attenuated ones fade it by `background`."""


@dataclass(frozen=True, kw_only=True)
class Regions:
    """What CLIP sees of the V valid masks among Q, in their order.

    Attributes:
        pixels: `(V, 3, S, S)` float32, normalised, resized bicubically.
        masks: `(V, S, S)` bool, resized to the nearest pixel; float32 soft values with matting.
        valid: `(Q,)` bool, which masks have any foreground.
        boxes: `(V, 4)` int64 xyxy, right and bottom exclusive, within the image: what of the image
            the square shows.
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
    image_chw: Tensor, mask_hw: Tensor, box: Sequence[int], behind: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Cut out a box and blend its background away.

    Args:
        image_chw: `(3, H, W)` float, 0..255.
        mask_hw: `(H, W)` float in 0..1.
        box: left, top, right, bottom; the last two exclusive.
        behind: `(3, 1, 1)` colour or `(3, H, W)` image where the mask is 0; None leaves the image
            as it is.

    Returns:
        `(3, h, w)` float and the mask's `(h, w)`.
    """
    left, top, right, bottom = box
    crop, mask = image_chw[:, top:bottom, left:right], mask_hw[top:bottom, left:right]
    if behind is not None:
        if behind.shape[-1] > 1:
            behind = behind[:, top:bottom, left:right]
        crop = crop * mask + (1 - mask) * behind
    return crop, mask


def squashed_image(image_chw: Tensor, size: int) -> Tensor:
    """A whole image brought to CLIP's square, as CLIP was trained to see images.

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
    """Masks of a whole image brought to CLIP's square, each pixel taken from the nearest.

    A mask too small for that, of which no pixel would be left, covers each pixel it touches.

    Args:
        masks_qhw: `(Q, H, W)` float in 0..1.
        size: side S of the square.

    Returns:
        `(Q, S, S)` float; none is empty that was not.
    """
    masks_q1hw = masks_qhw[:, None]
    squashed = F.interpolate(masks_q1hw, size=(size, size))
    lost = ~(squashed > 0).flatten(1).any(dim=1)
    squashed[lost] = F.adaptive_max_pool2d(masks_q1hw[lost], size)
    return squashed[:, 0]


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
    normalise: bool = True,
) -> Regions:
    """Make of the masks of an image the regions CLIP sees.

    Args:
        image_hwc: `(H, W, 3)` uint8 RGB.
        masks_qhw: `(Q, H, W)` bool, or float scores with a threshold; Q may be 0.
        size: side S of the squares; the aspect ratio is not kept.
        mean: CLIP's pixel mean on a 0..1 scale (`MaskAdaptedCLIP.pixel_mean`).
        std: CLIP's pixel standard deviation on a 0..1 scale.
        threshold: foreground where a score is strictly above it; None for bool masks (a float
            mask then counts where it is above 0).
        expand_ratio: grows the box about its centre; the added rim is outside the mask. Of no
            effect on the styles that show the whole image.
        region: a name in `REGIONS`.
        background: beta in 0..1 of the attenuated styles, see `faded`.
        matting: blend with the soft scores instead of the thresholded mask.
        normalise: False returns 0..255 values, for pictures.

    Returns:
        The regions of all masks with foreground; on the masks' device if both are tensors.

    Raises:
        ValueError: shapes that do not fit, an unknown style, a ratio below 1.
    """
    image = torch.as_tensor(image_hwc)
    masks = torch.as_tensor(masks_qhw)
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image_hwc is (H, W, 3), not {tuple(image.shape)}")
    if masks.ndim != 3 or masks.shape[1:] != image.shape[:2]:
        raise ValueError(
            f"masks_qhw {tuple(masks.shape)} do not fit an image of {tuple(image.shape[:2])}"
        )
    if region not in REGIONS:
        raise ValueError(f"region is one of {', '.join(REGIONS)}, not {region!r}")
    style = REGIONS[region]
    device = masks.device
    image_chw = image.to(device).permute(2, 0, 1).float()
    binary = masks if masks.dtype == torch.bool else masks > (threshold or 0.0)
    valid = binary.flatten(1).any(dim=1) if len(masks) else masks.new_zeros(0, dtype=torch.bool)
    binary = binary[valid]
    blend = masks[valid].float() if matting else binary.float()
    height, width = image.shape[:2]
    if style.whole:
        boxes = torch.tensor([[0, 0, width, height]], device=device).expand(len(binary), -1)
        image_chw, blend = squashed_image(image_chw, size), squashed_masks(blend, size)
        cuts = [(0, 0, size, size)] * len(binary)
    else:
        boxes = expand_boxes(tight_boxes(binary), expand_ratio, height=height, width=width)
        cuts = boxes.tolist()
    scaled_mean = 255.0 * torch.tensor(mean, device=device)[:, None, None]
    scaled_std = 255.0 * torch.tensor(std, device=device)[:, None, None]
    behind = style.behind(image_chw, scaled_mean, background)
    pixels = image_chw.new_zeros((len(boxes), 3, size, size))
    region_masks = image_chw.new_zeros((len(boxes), size, size))
    for index, box in enumerate(cuts):
        crop, mask = masked_crop(image_chw, blend[index], box, behind)
        if normalise:
            crop = (crop - scaled_mean) / scaled_std
        if not style.whole:
            crop = F.interpolate(crop[None], size=(size, size), mode="bicubic")[0]
            mask = F.interpolate(mask[None, None], size=(size, size))[0, 0]
        pixels[index], region_masks[index] = crop, mask
    return Regions(
        pixels=pixels,
        masks=region_masks if matting else region_masks > 0,
        valid=valid,
        boxes=boxes,
    )

"""The one augmentation of training regions: a random crop of most of the square, resized back.

As in the official implementation: `RandomResizedCrop` with areas of 0.9 to 1 and aspect ratios of
3/4 to 4/3, bicubic, no flip, no change of color. The mask is cropped too, by nearest neighbor.
Boxes follow torchvision's rule and distribution, drawn for a whole batch from one generator.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

CPU = torch.device("cpu")
ASPECT_RATIOS = (3 / 4, 4 / 3)
_ATTEMPTS = 10  # as in torchvision: draws before falling back to the whole region


def seeded_generator(*parts: object) -> torch.Generator:
    """Return a CPU generator seeded by `parts`: equal parts give equal draws at any time."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)


def draw_crop_boxes(
    count: int, *, size: int, scale: tuple[float, float], generator: torch.Generator
) -> Tensor:
    """Draw random crops of squares by the rule of torchvision's `RandomResizedCrop`.

    Args:
        count: N boxes.
        size: side of the squares in pixels.
        scale: smallest and largest share of the area.
        generator: a CPU generator.

    Returns:
        `(N, 4)` int64 `top, left, height, width`, within the square; the whole square if none of
        ten draws fits.
    """
    low, high = math.log(ASPECT_RATIOS[0]), math.log(ASPECT_RATIOS[1])
    draws = torch.rand(4, count, _ATTEMPTS, generator=generator, dtype=torch.float64)
    areas = size * size * (scale[0] + (scale[1] - scale[0]) * draws[0])
    ratios = (low + (high - low) * draws[1]).exp()
    widths = (areas * ratios).sqrt().round().long()
    heights = (areas / ratios).sqrt().round().long()
    fits = (widths >= 1) & (widths <= size) & (heights >= 1) & (heights <= size)
    pick = fits.int().argmax(dim=1, keepdim=True)  # the first that fits
    any_fits = fits.any(dim=1)
    height = heights.gather(1, pick)[:, 0].where(any_fits, torch.tensor(size))
    width = widths.gather(1, pick)[:, 0].where(any_fits, torch.tensor(size))
    top = (draws[2, :, 0] * (size - height + 1)).long()
    left = (draws[3, :, 0] * (size - width + 1)).long()
    return torch.stack([top, left, height, width], dim=1)


def crop_in_view(masks_nhw: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Crop masks, and take the whole square if a random crop leaves nothing of one.

    A mask fills its own box, so a crop of 0.9 leaves most of it. In a whole image, the crop may cut
    off a small mask at the border, or its resampling may skip the few pixels of the mask.

    Args:
        masks_nhw: `(N, S, S)` bool.
        boxes: `(N, 4)` int64 from `draw_crop_boxes`.

    Returns:
        `(N, S, S)` bool masks and their `(N, 4)` int64 boxes; the input boxes if all of them leave
        something.
    """
    cropped = crop_masks(masks_nhw, boxes)
    lost = ~cropped.flatten(1).any(dim=1)
    size = masks_nhw.shape[1]
    cropped[lost] = masks_nhw[lost]
    return cropped, torch.where(lost[:, None], torch.tensor([0, 0, size, size]), boxes)


def crop_exact(image_hwc: np.ndarray, box: tuple[int, int, int, int], size: int) -> np.ndarray:
    """Crop an image and resize it as torchvision does with a Pillow image.

    Args:
        image_hwc: `(H, W, 3)` uint8, contiguous.
        box: top, left, height, width.
        size: side of the result.

    Returns:
        `(size, size, 3)` uint8: Pillow bicubic, antialiased when it shrinks.
    """
    top, left, height, width = box
    crop = Image.fromarray(image_hwc[top : top + height, left : left + width])
    return np.asarray(crop.resize((size, size), Image.Resampling.BICUBIC))


def crop_masks(masks_nhw: Tensor, boxes: Tensor) -> Tensor:
    """Crop square masks and resize them back to their size by nearest neighbor.

    Args:
        masks_nhw: `(N, S, S)` bool.
        boxes: `(N, 4)` int64 top, left, height, width.

    Returns:
        `(N, S, S)` bool, as Pillow's nearest resize returns it.
    """
    size = masks_nhw.shape[1]
    centres = (torch.arange(size, device=masks_nhw.device) + 0.5) / size
    rows = (boxes[:, 0:1] + (centres * boxes[:, 2:3]).floor()).long()
    columns = (boxes[:, 1:2] + (centres * boxes[:, 3:4]).floor()).long()
    of_rows = masks_nhw.gather(1, rows[:, :, None].expand(-1, -1, size))
    return of_rows.gather(2, columns[:, None, :].expand(-1, size, -1))


def crop_batched(pixels_nhwc: Tensor, boxes: Tensor) -> Tensor:
    """Crop and resize a whole batch of square images at once, on the batch's device.

    On a GPU this leaves the CPU free; on a CPU it is not faster than `crop_exact`. The boxes are
    the same; the cubic kernel is torch's (a = -0.75, Pillow's is -0.5) and reads pixels beyond the
    crop's edge where they exist.

    Args:
        pixels_nhwc: `(N, S, S, 3)` uint8.
        boxes: `(N, 4)` int64 top, left, height, width, on the same device.

    Returns:
        `(N, 3, S, S)` float32, 0..255.
    """
    size = pixels_nhwc.shape[1]
    centres = (torch.arange(size, device=pixels_nhwc.device) + 0.5) / size
    rows = 2 * (boxes[:, 0:1] + centres * boxes[:, 2:3]) / size - 1
    columns = 2 * (boxes[:, 1:2] + centres * boxes[:, 3:4]) / size - 1
    grid = torch.stack(
        [columns[:, None, :].expand(-1, size, -1), rows[:, :, None].expand(-1, -1, size)], dim=-1
    )
    pixels = F.grid_sample(
        pixels_nhwc.permute(0, 3, 1, 2).float(),
        grid.float(),
        mode="bicubic",
        padding_mode="border",
        align_corners=False,
    )
    return pixels.clamp(0, 255)


def augmented_pixels(
    pixels_nhwc: Tensor, boxes: Tensor, *, batched: bool, device: torch.device = CPU
) -> Tensor:
    """Crop and resize uint8 squares `(N, S, S, 3)` to `(N, 3, S, S)` float32, 0..255."""
    if batched:
        return crop_batched(pixels_nhwc.to(device), boxes.to(device))
    crops = torch.from_numpy(np.stack([*_exact_crops(pixels_nhwc, boxes)]))
    return crops.to(device).permute(0, 3, 1, 2).float()


def normalized_crops(
    pixels_nhwc: Tensor,
    boxes: Tensor,
    *,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    batched: bool,
    device: torch.device,
) -> Tensor:
    """Crop, resize and normalize squares: `(x / 255 - mean) / std`.

    Args:
        pixels_nhwc: `(N, S, S, 3)` uint8 on the CPU.
        boxes: `(N, 4)` int64 top, left, height, width.
        mean: CLIP's pixel mean on a 0..1 scale.
        std: CLIP's pixel deviation on a 0..1 scale.
        batched: resize all at once on the device, instead of one by one with Pillow.
        device: device of the result.

    Returns:
        `(N, 3, S, S)` float32; channels last in memory unless `batched`.
    """
    if batched or device.type != "cpu":
        pixels = augmented_pixels(pixels_nhwc, boxes, batched=batched, device=device)
        middle = torch.tensor(mean, device=device)[:, None, None]
        return (pixels / 255 - middle) / torch.tensor(std, device=device)[:, None, None]
    count, size = pixels_nhwc.shape[:2]
    rows = torch.empty(count, size, size * 3)
    # a row of pixels at a time and an image at a time: long inner loops, within the cache
    mean_row, std_row = torch.tensor(mean).repeat(size), torch.tensor(std).repeat(size)
    for image, crop in zip(rows, _exact_crops(pixels_nhwc, boxes), strict=True):
        image.copy_(torch.tensor(crop.reshape(size, -1))).div_(255).sub_(mean_row).div_(std_row)
    return rows.view(count, size, size, 3).permute(0, 3, 1, 2)


def _exact_crops(pixels_nhwc: Tensor, boxes: Tensor) -> Iterator[np.ndarray]:
    images, size = pixels_nhwc.cpu().numpy(), pixels_nhwc.shape[1]
    for image, (top, left, height, width) in zip(images, boxes.tolist(), strict=True):
        yield crop_exact(image, (top, left, height, width), size)

"""Training samples of the segmentation network: labeled masks, cropped, flipped and recolored.

Follows the paper's recipe: resize to a random short side, random crop, color jitter as in SSD,
horizontal flip, padding with gray. All randomness comes from the generator passed in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ovseg.models.preprocessing import ImageArray, resized_shape

PADDING_GREY = 128
HUE_CIRCLE = 256  # Pillow's HSV stores the hue in 0-255
HUE_DEGREES = 36  # detectron2's 18 are steps of OpenCV's circle of 180
CROP_DRAWS = 10  # for a crop that no category fills, as in detectron2


@dataclass(frozen=True)
class SegmentationSample:
    """One image with its labels.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        masks: (N, H, W) bool, one per segment; N may be 0.
        labels: (N,) int64, index of each segment's class.
        known: (H, W) bool, False for ignored or unlabelled pixels.
    """

    image: ImageArray
    masks: NDArray[np.bool_]
    labels: NDArray[np.int64]
    known: NDArray[np.bool_]


@dataclass(frozen=True)
class Augmentation:
    """Settings of the augmentation.

    Attributes:
        crop: side of the square crops, pixels.
        short_sides: short sides before cropping, one of which is drawn.
        max_side: maximum of the long side.
        single_category_max_area: crops are redrawn, up to ten times, while one category covers
            this share of the labelled pixels or more; 1 takes the first, as in the paper's recipe.
        flip: mirror half of the samples.
        colour_jitter: vary brightness, contrast, saturation and hue.
        hue_degrees: maximum rotation of hues.
    """

    crop: int
    short_sides: tuple[int, ...]
    max_side: int
    single_category_max_area: float = 1.0
    flip: bool = True
    colour_jitter: bool = True
    hue_degrees: float = HUE_DEGREES


def augment(
    sample: SegmentationSample, how: Augmentation, rng: np.random.Generator
) -> SegmentationSample:
    """Draw a random (crop, crop) view of a sample; padding below and to the right is not `known`.

    Masks entirely outside the crop are dropped.
    """
    sample = _resized_crop(sample, how, rng)
    image = sample.image
    if how.colour_jitter:
        image = jitter_colors(image, rng, hue_degrees=how.hue_degrees)
    sample = replace(sample, image=image)
    if how.flip and rng.random() < 0.5:
        sample = replace(
            sample,
            image=sample.image[:, ::-1],
            masks=sample.masks[:, :, ::-1],
            known=sample.known[:, ::-1],
        )
    below, right = how.crop - sample.image.shape[0], how.crop - sample.image.shape[1]
    if below or right:
        edge = ((0, below), (0, right))
        sample = replace(
            sample,
            image=np.pad(sample.image, (*edge, (0, 0)), constant_values=PADDING_GREY),
            masks=np.pad(sample.masks, ((0, 0), *edge)),
            known=np.pad(sample.known, edge),
        )
    present = sample.masks.any(axis=(1, 2))
    return replace(sample, masks=sample.masks[present], labels=sample.labels[present])


def merge_categories(sample: SegmentationSample) -> SegmentationSample:
    """Merge the segments of each class into one mask (the paper's targets)."""
    labels = np.unique(sample.labels)
    masks = np.zeros((len(labels), *sample.image.shape[:2]), dtype=np.bool_)
    for mask, label in zip(masks, labels):
        mask |= sample.masks[sample.labels == label].any(axis=0)
    return replace(sample, masks=masks, labels=labels)


def _resized_crop(
    sample: SegmentationSample, how: Augmentation, rng: np.random.Generator
) -> SegmentationSample:
    height, width = sample.image.shape[:2]
    short_side = int(rng.choice(how.short_sides))
    new_height, new_width = resized_shape(height, width, short_side, how.max_side)
    crop_height, crop_width = min(how.crop, new_height), min(how.crop, new_width)
    scale_y, scale_x = height / new_height, width / new_width
    for _ in range(CROP_DRAWS):
        top = int(rng.integers(new_height - crop_height + 1))
        left = int(rng.integers(new_width - crop_width + 1))
        rows = _nearest(top, crop_height, scale_y, height)
        columns = _nearest(left, crop_width, scale_x, width)
        masks = sample.masks[:, rows[:, None], columns]
        if how.single_category_max_area >= 1 or _is_mixed(
            masks, sample.labels, how.single_category_max_area
        ):
            break
    box = (
        left * scale_x,
        top * scale_y,
        (left + crop_width) * scale_x,
        (top + crop_height) * scale_y,
    )
    # Pillow resizes only the crop, not the rest of a large image
    image = Image.fromarray(sample.image).resize(
        (crop_width, crop_height), Image.Resampling.BILINEAR, box=box
    )
    return replace(
        sample,
        image=np.asarray(image),
        masks=masks,
        known=sample.known[rows[:, None], columns],
    )


def _is_mixed(masks_nhw: NDArray[np.bool_], labels_n: NDArray[np.int64], max_area: float) -> bool:
    """Whether there are two categories and each has less than `max_area` of the labelled pixels."""
    areas = np.bincount(labels_n, weights=masks_nhw.sum(axis=(1, 2)))
    return bool((areas > 0).sum() > 1 and areas.max() < max_area * areas.sum())


def _nearest(start: int, length: int, scale: float, limit: int) -> NDArray[np.int64]:
    """Return the source positions of a resized crop's pixels, by nearest pixel center."""
    centres = (np.arange(start, start + length) + 0.5) * scale
    return np.minimum(centres.astype(np.int64), limit - 1)


def jitter_colors(
    image: ImageArray, rng: np.random.Generator, *, hue_degrees: float = HUE_DEGREES
) -> ImageArray:
    """Apply SSD's color jitter: brightness +-32, contrast and saturation x0.5-1.5, and hue.

    Each is applied with probability one half; contrast randomly before or after saturation and hue.

    Args:
        image: (H, W, 3) uint8 RGB.
        rng: source of randomness.
        hue_degrees: maximum rotation of hues.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    shift = rng.uniform(-32, 32) if rng.random() < 0.5 else 0.0
    image = _clipped(image + np.float32(shift))
    steps: list[Literal["contrast", "hsv"]] = ["contrast", "hsv"]
    if rng.random() < 0.5:
        steps.reverse()
    for step in steps:
        if step == "contrast":
            factor = rng.uniform(0.5, 1.5) if rng.random() < 0.5 else 1.0
            image = _clipped(image * np.float32(factor))
        else:
            image = _jitter_hsv(image, rng, hue_degrees)
    return image


def _jitter_hsv(image: ImageArray, rng: np.random.Generator, hue_degrees: float) -> ImageArray:
    saturation = rng.uniform(0.5, 1.5) if rng.random() < 0.5 else 1.0
    turn = rng.uniform(-hue_degrees, hue_degrees) if rng.random() < 0.5 else 0.0
    hue = turn / 360 * HUE_CIRCLE
    if saturation == 1.0 and hue == 0.0:
        return image
    hsv = np.asarray(Image.fromarray(image).convert("HSV")).copy()
    hsv[..., 0] = (hsv[..., 0].astype(np.int16) + round(hue)) % HUE_CIRCLE
    hsv[..., 1] = _clipped(hsv[..., 1] * np.float32(saturation))
    return np.asarray(Image.fromarray(hsv, "HSV").convert("RGB"))


def _clipped(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    clipped: NDArray[np.uint8] = np.clip(values, 0, 255).astype(np.uint8)
    return clipped

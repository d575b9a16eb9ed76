"""Resampling of many masks at once: against a loop over masks, alone and in company."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ovseg.models.regions import resampling
from ovseg.models.regions.crops import (
    Regions,
    crops_of_images,
    expand_boxes,
    region_crops,
    tight_boxes,
)
from ovseg.models.regions.interpolation import bicubic, nearest
from ovseg.models.regions.styles import REGIONS, faded

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
CUT_OUT = [name for name, style in REGIONS.items() if not style.whole]


def crops(image: np.ndarray, masks: object, **style: object) -> Regions:
    return region_crops(image, masks, **{"size": 16, "mean": MEAN, "std": STD, **style})  # type: ignore[arg-type]


def one_by_one(
    image_hwc: np.ndarray,
    masks_qhw: torch.Tensor,
    *,
    size: int,
    threshold: float | None = None,
    expand_ratio: float = 1.0,
    region: str = "mean",
    background: float = 0.3,
    matting: bool = False,
    normalize: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The order of operations of the official implementation, mask after mask."""
    image = torch.from_numpy(image_hwc).permute(2, 0, 1).float()
    mean, std = (255.0 * torch.tensor(each)[:, None, None] for each in (MEAN, STD))
    binary = masks_qhw if masks_qhw.dtype == torch.bool else masks_qhw > (threshold or 0.0)
    pixels, masks = [], []
    for mask, soft in zip(binary, masks_qhw.float() if matting else binary.float(), strict=True):
        if not mask.any():
            continue
        (y, x), (height, width) = mask.nonzero().unbind(1), mask.shape
        box = torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1])[None]
        box = expand_boxes(box, expand_ratio, height=height, width=width)[0].tolist()
        cut = (..., slice(box[1], box[3]), slice(box[0], box[2]))
        behind = {
            "mean": mean.expand(image.shape),
            "zero": torch.zeros_like(image),
            "box": image,
            "attenuated_box": faded(image, mean, background),
        }[region]
        crop = image[cut]
        if region != "box":
            crop = crop * soft[cut] + (1 - soft[cut]) * behind[cut]
        if normalize:
            crop = (crop - mean) / std
        pixels.append(F.interpolate(crop[None], size=(size, size), mode="bicubic")[0])
        masks.append(F.interpolate(soft[cut][None, None], size=(size, size))[0, 0])
    return torch.stack(pixels), torch.stack(masks)


@st.composite
def pictures(draw: st.DrawFn, most: int = 8) -> tuple[np.ndarray, torch.Tensor]:
    """An image and soft masks: rectangles with noise and holes, as thin as one pixel."""
    height, width = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    image = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    masks = np.zeros((draw(st.integers(1, most)), height, width), np.float32)
    for mask in masks:
        top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        bottom, right = draw(st.integers(top + 1, height)), draw(st.integers(left + 1, width))
        mask[top:bottom, left:right] = generator.random((bottom - top, right - left))
        mask[top, left] = 1.0
    return image, torch.from_numpy(masks)


@given(
    picture=pictures(),
    size=st.sampled_from([1, 7, 16, 64]),
    region=st.sampled_from(CUT_OUT),
    expand_ratio=st.sampled_from([1.0, 1.5]),
    matting=st.booleans(),
    normalize=st.booleans(),
    is_bool=st.booleans(),
)
@settings(max_examples=120, deadline=None)
def test_all_masks_at_once_are_the_masks_one_by_one(picture, size, is_bool, **style):
    image, soft = picture
    masks = soft > 0.4 if is_bool else soft
    style |= {"size": size, "background": 0.6, "threshold": None if is_bool else 0.4}
    regions = crops(image, masks, **style)
    pixels, small = one_by_one(image, masks, **style)
    scale = 1.0 if style["normalize"] else 60.0  # of 0..255 values, as the deviation is
    assert (regions.pixels - pixels).abs().max() <= 1e-5 * scale
    assert torch.equal(regions.masks.float(), small)


@given(picture=pictures(most=12), seed=st.integers(0, 99), region=st.sampled_from(list(REGIONS)))
@settings(max_examples=80, deadline=None)
def test_a_region_does_not_depend_on_its_company(picture, seed: int, region: str):
    image, soft = picture
    chosen = torch.randperm(len(soft), generator=torch.Generator().manual_seed(seed))
    some = chosen[: 1 + seed % len(soft)]
    for style in ({}, {"matting": True}, {"normalize": False}):
        every = crops(image, soft, threshold=0.4, region=region, **style)
        fewer = crops(image, soft[some], threshold=0.4, region=region, **style)
        assert torch.equal(fewer.pixels.view(torch.int32), every.pixels[some].view(torch.int32))
        assert torch.equal(fewer.masks, every.masks[some])
        assert torch.equal(fewer.boxes, every.boxes[some])


@given(
    pictures_=st.lists(pictures(), min_size=1, max_size=5),
    region=st.sampled_from(list(REGIONS)),
    size=st.sampled_from([1, 16, 40]),
    empty=st.integers(0, 4),
    no_masks=st.booleans(),
    style=st.sampled_from([{}, {"matting": True}, {"normalize": False}, {"expand_ratio": 1.5}]),
)
@settings(max_examples=120, deadline=None)
def test_images_at_once_are_the_images_one_by_one(pictures_, region, size, empty, no_masks, style):
    images, masks = ([*each] for each in zip(*pictures_, strict=True))
    if empty < len(masks):
        masks[empty] = masks[empty][:0] if no_masks else torch.zeros_like(masks[empty])
    style = {"size": size, "mean": MEAN, "std": STD, "threshold": 0.4, "region": region, **style}
    every = crops_of_images(images, masks, **style)
    assert len(every) == len(images)
    for image, of_image, found in zip(images, masks, every, strict=True):
        alone = region_crops(image, of_image, **style)
        for name, tensor in vars(alone).items():
            together = getattr(found, name)
            assert together.dtype == tensor.dtype and together.shape == tensor.shape, name
            assert together.numpy().tobytes() == tensor.numpy().tobytes(), name


def test_large_and_small_images_at_once():
    generator = np.random.default_rng(4)
    shapes = [(300, 250), (20, 400), (64, 64), (300, 250), (1, 1)]
    images = [generator.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]
    masks = [torch.from_numpy(generator.random((4, *shape)) > 0.5) for shape in shapes]
    masks[-1][:] = True
    for region in ("mean", "box", "attenuated_box"):
        style = {"size": 32, "mean": MEAN, "std": STD, "region": region}
        every = crops_of_images(images, masks, **style)
        for image, of_image, found in zip(images, masks, every, strict=True):
            alone = region_crops(image, of_image, **style)
            assert torch.equal(found.pixels, alone.pixels)
            assert torch.equal(found.masks, alone.masks)


def test_no_image_has_no_regions_and_each_needs_its_masks():
    style = {"size": 8, "mean": MEAN, "std": STD}
    assert crops_of_images([], [], **style) == []
    with pytest.raises(ValueError, match="shorter"):
        crops_of_images([np.zeros((4, 4, 3), np.uint8)] * 2, [np.ones((1, 4, 4), bool)], **style)


@pytest.mark.parametrize("limits", [(1, 1, 1), (7, 500, 300), (2**30, 2**26, 2**40)])
def test_tables_of_other_sizes_hold_the_same(monkeypatch, limits: tuple[int, int, int]):
    generator = np.random.default_rng(1)
    image = generator.integers(0, 256, (70, 90, 3), dtype=np.uint8)
    masks = torch.from_numpy(generator.random((9, 70, 90)) > 0.999)
    usual = crops(image, masks)
    monkeypatch.setattr(resampling, "ON_CPU", limits)
    other = crops(image, masks)
    assert torch.equal(usual.pixels, other.pixels) and torch.equal(usual.masks, other.masks)


def test_masks_may_lie_in_memory_column_after_column():
    generator = np.random.default_rng(2)
    image = generator.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    masks = torch.from_numpy(generator.random((5, 40, 60)) > 0.99)
    turned = masks.transpose(1, 2).contiguous().transpose(1, 2)
    assert turned.stride() != masks.stride()
    usual = crops(image, masks)
    assert torch.equal(crops(image, turned).pixels, usual.pixels)
    assert torch.equal(crops(image, turned).masks, usual.masks)


def test_empty_masks_have_no_box():
    masks = torch.zeros(3, 5, 8, dtype=torch.bool)
    masks[1, 2, 3:6] = True
    boxes = tight_boxes(masks)
    assert boxes.dtype == torch.int64 and boxes[1].tolist() == [3, 2, 6, 3]
    assert boxes[:, 2:].tolist() == [[0, 0], [6, 3], [0, 0]]


def _weights_of(lengths: Sequence[int], size: int) -> torch.Tensor:
    at, weights = bicubic(torch.tensor(lengths), size)
    matrix = torch.zeros(len(lengths), size, max(lengths))
    return matrix.scatter_add_(2, at, weights)


@given(length=st.integers(1, 300), size=st.sampled_from([1, 5, 32, 64, 224]))
@settings(max_examples=60, deadline=None)
def test_the_weights_are_those_of_interpolate(length: int, size: int):
    impulses = torch.eye(length)[None, :, None]
    expected = F.interpolate(impulses, size=(1, size), mode="bicubic")[0, :, 0].T
    torch.testing.assert_close(_weights_of([length], size)[0], expected, atol=2e-6, rtol=0)
    positions = torch.arange(length).float()[None, None]
    expected = F.interpolate(positions, size=size, mode="nearest")[0, 0]
    assert torch.equal(nearest(torch.tensor([length]), size)[0].float(), expected)

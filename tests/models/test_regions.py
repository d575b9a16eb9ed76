"""Masked crops: golden cases of the official implementation, borders, single pixels, no masks."""

import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file

from ovseg.config.base import RegionStyle
from ovseg.models.regions.crops import (
    Regions,
    expand_boxes,
    region_crops,
    tight_boxes,
)
from ovseg.models.regions.resampling import blended
from ovseg.models.regions.styles import REGIONS

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
GOLDEN = Path(__file__).parents[1] / "golden" / "regions.safetensors"


def crops(image: np.ndarray, masks: np.ndarray, size: int = 8, **style: object) -> Regions:
    return region_crops(image, masks, size=size, mean=MEAN, std=STD, **style)  # type: ignore[arg-type]


def noise(height: int = 20, width: int = 30) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_golden_crops_kept_with_the_tests(agrees):
    golden = load_file(GOLDEN)
    found = crops(
        golden["image_chw"].permute(1, 2, 0).numpy(),
        golden["masks_qhw"].numpy(),
        size=24,
        threshold=0.4,
        expand_ratio=1.3,
        region="zero",
        matting=True,
    )
    case = "adapter/kept with the tests"
    agrees(case, "valid masks", found.valid, golden["valid"], tolerance=0)
    agrees(case, "boxes", found.boxes, golden["boxes"], tolerance=0)
    agrees(case, "masks of the regions", found.masks, golden["region_masks"], tolerance=0)
    agrees(case, "pixels of the regions", found.pixels, golden["regions"], tolerance=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        "default_thr0.5_S32",
        "thr0.4_S32_tall",
        "thr0.35_S24",
        "expand1.5_S32",
        "fill_zero_S24",
        "matting_zero_tall_S24",
        "not_normalized_S24",
    ],
)
def test_golden_cases_of_the_official_implementation(agrees, reference_data: Path, name: str):
    folder = reference_data / "golden" / "adapter"
    about = json.loads((folder / "meta.json").read_text())["files"][f"case.{name}.safetensors"]
    inputs = load_file(folder / "inputs.safetensors")
    expected = load_file(folder / f"case.{name}.safetensors")
    options = about["adapter_kwargs"]
    image = inputs[f"{about['image']}.image_u8"].permute(1, 2, 0).numpy()
    masks = inputs[f"{about['image']}.masks"]
    style = {
        "size": about["out_size"],
        "threshold": options["mask_thr"],
        "expand_ratio": options.get("mask_expand_ratio", 1.0),
        "region": options.get("mask_fill", "mean"),
        "matting": options.get("mask_matting", False),
    }
    found = crops(image, masks.numpy(), normalize=about["normalize"], **style)
    case = f"adapter/{name}"
    agrees(case, "valid masks", found.valid, expected["valid"], tolerance=0)
    tight = tight_boxes(masks[found.valid] > options["mask_thr"]).float()
    agrees(case, "tight boxes", tight, expected["boxes_tight_xyxy"], tolerance=0)
    agrees(case, "boxes", found.boxes, expected["boxes_clipped_ltrb"], tolerance=0)
    recorded = expected["region_masks"].squeeze(1)
    agrees(case, "masks of the regions", found.masks.float(), recorded, tolerance=0)
    agrees(case, "pixels of the regions", found.pixels, expected["regions"], tolerance=1e-6)
    if "unnorm_regions" in expected:
        plain = crops(image, masks.numpy(), normalize=False, **style).pixels
        what = "pixels of the regions, 0-255"
        agrees(case, what, plain, expected["unnorm_regions"], tolerance=1e-6)


def test_golden_crop_at_the_true_size(agrees, reference_data: Path):
    folder = reference_data / "golden" / "adapter"
    inputs = load_file(folder / "inputs.safetensors")
    expected = load_file(folder / "case.true224.safetensors")
    image = inputs["wide.image_u8"].permute(1, 2, 0).numpy()
    found = crops(image, inputs["wide.masks"][:1].numpy(), size=224, threshold=0.5)
    case, recorded = "adapter/true224", expected["region_masks_u8"].squeeze(1)
    agrees(case, "masks of the regions", found.masks.to(torch.uint8), recorded, tolerance=0)
    agrees(case, "pixels of the regions", found.pixels, expected["regions"], tolerance=1e-6)


def test_golden_crops_that_are_not_resized(agrees, reference_data: Path):
    folder = reference_data / "golden" / "adapter"
    inputs = load_file(folder / "inputs.safetensors")
    expected = load_file(folder / "case.not_resized.safetensors")
    binary = inputs["wide.masks"] > 0.5
    valid = binary.flatten(1).any(1)
    agrees("adapter/not_resized", "valid masks", valid, expected["valid"], tolerance=0)
    mean, std = (255 * torch.tensor(each)[:, None, None] for each in (MEAN, STD))
    for index, (mask, box) in enumerate(zip(binary[valid], tight_boxes(binary[valid]).tolist())):
        image = inputs["wide.image_u8"].float()
        left, top, right, bottom = box
        cut = mask[top:bottom, left:right].float()
        crop = blended(image[:, top:bottom, left:right], cut, mean, None)
        for what, ours, recorded in (
            ("crops", (crop - mean) / std, f"region.{index}"),
            ("crops, 0-255", crop, f"unnorm.{index}"),
            ("masks of the crops", cut[None], f"mask.{index}"),
        ):
            agrees("adapter/not_resized", what, ours, expected[recorded][0], tolerance=1e-6)


def test_no_mask_and_only_empty_masks_give_no_region():
    for masks in (np.zeros((0, 20, 30), bool), np.zeros((3, 20, 30), bool)):
        found = crops(noise(), masks)
        assert found.pixels.shape == (0, 3, 8, 8)
        assert found.masks.shape == (0, 8, 8) and found.masks.dtype == torch.bool
        assert found.boxes.shape == (0, 4)
        assert found.valid.tolist() == [False] * len(masks)


def test_one_pixel_and_border_masks():
    masks = np.zeros((4, 20, 30), bool)
    masks[0, 7, 11] = True
    masks[1, :, 29] = True
    masks[2, 19, 29] = True
    masks[3] = True
    found = crops(noise(), masks)
    assert found.boxes.tolist() == [
        [11, 7, 12, 8],
        [29, 0, 30, 20],
        [29, 19, 30, 20],
        [0, 0, 30, 20],
    ]
    assert found.masks.all()
    pixel = (noise()[7, 11] / 255 - np.array(MEAN)) / np.array(STD)
    np.testing.assert_allclose(found.pixels[0].mean(dim=(1, 2)), pixel, atol=1e-5)


def test_the_threshold_is_strict_and_decides_validity():
    masks = np.full((1, 20, 30), 0.5, np.float32)
    assert not crops(noise(), masks, threshold=0.5).valid.any()
    masks[0, 3, 4] = np.nextafter(np.float32(0.5), np.float32(1))
    assert crops(noise(), masks, threshold=0.5).boxes.tolist() == [[4, 3, 5, 4]]


def test_the_mean_fill_is_zero_once_normalised_and_unmasked_crops_keep_the_background():
    masks = np.zeros((1, 20, 30), bool)
    masks[0, 2:10, 2:10] = True
    masks[0, 2:6, 2:6] = False
    blank = crops(noise(), masks).pixels[0, :, :3, :3]
    assert blank.abs().max() < 1e-6
    black = crops(noise(), masks, region="zero", normalize=False).pixels[0, :, :3, :3]
    assert black.abs().max() == 0
    whole = crops(noise(), masks, region="box", normalize=False)
    np.testing.assert_allclose(
        whole.pixels[0].permute(1, 2, 0), noise()[2:10, 2:10].astype(np.float32), atol=1e-3
    )
    assert whole.masks.sum() == 48


def test_boxes_grow_about_their_centre_and_stay_in_the_image():
    boxes = torch.tensor([[4, 4, 7, 8], [0, 0, 4, 4], [8, 2, 10, 10]])
    grown = expand_boxes(boxes, 1.5, height=10, width=10)
    assert grown.tolist() == [[3, 3, 7, 9], [0, 0, 5, 5], [7, 0, 10, 10]]
    assert expand_boxes(boxes, 1.0, height=10, width=10) is boxes
    with pytest.raises(ValueError, match="at least 1"):
        expand_boxes(boxes, 0.5, height=10, width=10)
    assert tight_boxes(torch.ones(1, 3, 5, dtype=torch.bool)).tolist() == [[0, 0, 5, 3]]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="do not fit an image"):
        crops(noise(), np.zeros((1, 30, 20), bool))
    with pytest.raises(ValueError, match="region must be one of"):
        crops(noise(), np.zeros((1, 20, 30), bool), region="grey")
    with pytest.raises(ValueError, match="image_hwc"):
        crops(noise().transpose(2, 0, 1), np.zeros((1, 20, 30), bool))


# --------------------------------------------------------------------------------------
# Styles


def one_mask() -> np.ndarray:
    masks = np.zeros((1, 20, 30), bool)
    masks[0, 4:11, 6:20] = True
    masks[0, 4:7, 6:9] = False
    return masks


def test_every_style_of_the_settings_is_there():
    assert set(get_args(RegionStyle)) == set(REGIONS)


def naive(image: np.ndarray, mask: np.ndarray, region: str, beta: float) -> np.ndarray:
    """`(h, w, 3)` in 0..255 before it is resized, pixel by pixel."""
    rows, columns = np.nonzero(mask)
    top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    if region.endswith("image"):
        top, bottom, left, right = 0, mask.shape[0], 0, mask.shape[1]
    mean = 255 * np.array(MEAN)
    shown = np.zeros((bottom - top, right - left, 3))
    for y in range(top, bottom):
        for x in range(left, right):
            pixel = image[y, x].astype(float)
            if not mask[y, x]:
                pixel = {
                    "mean": mean,
                    "zero": np.zeros(3),
                    "box": pixel,
                    "image": pixel,
                    "attenuated_box": beta * pixel + (1 - beta) * mean,
                    "attenuated_image": beta * pixel + (1 - beta) * mean,
                }[region]
            shown[y - top, x - left] = pixel
    return shown


@pytest.mark.parametrize("region", REGIONS)
def test_a_style_shows_what_a_loop_over_pixels_gives(region: str):
    # a mask whose box, and an image which, is as large as the square: nothing is resized
    image, mask = noise(16, 16), np.zeros((1, 16, 16), bool)
    mask[0, 3:9, 2:14] = True
    mask[0, 5, 5] = False
    mask[0, 0, 0] = mask[0, 15, 15] = True
    found = crops(image, mask, size=16, region=region, background=0.4, normalize=False)
    expected = naive(image, mask[0], region, 0.4)
    np.testing.assert_allclose(found.pixels[0].permute(1, 2, 0), expected, atol=1e-3)
    assert torch.equal(found.masks, torch.from_numpy(mask))
    assert found.boxes.tolist() == [[0, 0, 16, 16]]


def test_a_whole_image_is_squashed_and_its_masks_along():
    image = noise(24, 40)
    masks = np.zeros((3, 24, 40), bool)
    masks[0, :, :20] = True
    masks[2, 5, 7] = True  # smaller than a pixel of the square
    found = crops(image, masks, size=8, region="image", normalize=False, expand_ratio=1.5)
    assert found.valid.tolist() == [True, False, True]
    assert found.boxes.tolist() == [[0, 0, 40, 24]] * 2
    pillow = Image.fromarray(image).resize((8, 8), Image.Resampling.BICUBIC)
    for pixels in found.pixels:
        np.testing.assert_allclose(pixels.permute(1, 2, 0), np.asarray(pillow), atol=3)
    assert found.masks[0, :, :4].all() and not found.masks[0, :, 4:].any()
    assert found.masks[1].nonzero().tolist() == [[1, 1]]  # 5 * 8 // 24 and 7 * 8 // 40


@pytest.mark.parametrize("region", REGIONS)
def test_no_mask_gives_no_region_in_any_style(region: str):
    for masks in (np.zeros((0, 20, 30), bool), np.zeros((2, 20, 30), bool)):
        found = crops(noise(), masks, region=region)
        assert found.pixels.shape == (0, 3, 8, 8) and found.masks.shape == (0, 8, 8)
        assert found.boxes.shape == (0, 4) and not found.valid.any()


@given(beta=st.floats(0, 1), matting=st.booleans())
@settings(max_examples=25, deadline=None)
def test_attenuation_leads_from_the_mean_fill_to_the_image(beta: float, matting: bool):
    def show(region: str, background: float = 0.5) -> torch.Tensor:
        style = {"region": region, "background": background, "matting": matting}
        return crops(noise(), one_mask(), **style).pixels

    assert torch.equal(show("attenuated_box", 0.0), show("mean"))
    torch.testing.assert_close(show("attenuated_box", 1.0), show("box"), atol=1e-5, rtol=0)
    torch.testing.assert_close(show("attenuated_image", 1.0), show("image"), atol=1e-5, rtol=0)
    # linear in beta once normalised: the mean colour is 0 there
    between = beta * show("box") + (1 - beta) * show("mean")
    torch.testing.assert_close(show("attenuated_box", beta), between, atol=1e-4, rtol=0)
    whole = show("attenuated_image", beta)
    mask = crops(noise(), one_mask(), region="image").masks[:, None]
    expected = torch.where(mask, show("image"), beta * show("image"))
    torch.testing.assert_close(whole, expected, atol=1e-4, rtol=0)

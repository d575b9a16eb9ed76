"""Random crops: torchvision's rule, Pillow's resize, masks that stay on their pixels."""

import json
from pathlib import Path

import numpy as np
import PIL
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms.functional import resized_crop

from ovseg.training.clip.crops import (
    augmented_pixels,
    crop_exact,
    crop_in_view,
    crop_masks,
    draw_crop_boxes,
    normalized_crops,
    seeded_generator,
)

PILLOW = int(PIL.__version__.partition(".")[0])


def boxes(count: int, *, size: int = 64, scale: tuple[float, float] = (0.9, 1.0), seed: int = 0):
    return draw_crop_boxes(count, size=size, scale=scale, generator=seeded_generator(seed))


def test_boxes_lie_in_the_square_and_keep_area_and_aspect():
    top, left, height, width = boxes(5000).T
    assert (top >= 0).all() and (left >= 0).all()
    assert (top + height <= 64).all() and (left + width <= 64).all()
    area = height * width / 64**2
    assert area.min() > 0.9 - 0.02 and area.max() <= 1  # sides are rounded to pixels
    aspect = width / height
    assert aspect.min() > 0.75 - 0.02 and aspect.max() < 4 / 3 + 0.02


def test_boxes_are_distributed_as_torchvisions():
    ours = boxes(4000, size=100).double()
    torch.manual_seed(0)
    image = torch.zeros(1, 100, 100)
    theirs = torch.tensor(
        [RandomResizedCrop.get_params(image, [0.9, 1.0], [3 / 4, 4 / 3]) for _ in range(4000)]
    ).double()
    torch.testing.assert_close(ours.mean(0), theirs.mean(0), rtol=0, atol=0.2)
    torch.testing.assert_close(ours.std(0), theirs.std(0), rtol=0, atol=0.2)
    whole = ((ours[:, 2] == 100) & (ours[:, 3] == 100)).double().mean()
    assert whole == pytest.approx(
        ((theirs[:, 2] == 100) & (theirs[:, 3] == 100)).double().mean().item(), abs=0.02
    )


def test_the_whole_square_is_taken_where_nothing_fits():
    assert boxes(3, scale=(1.5, 2.0)).tolist() == [[0, 0, 64, 64]] * 3
    assert boxes(3, size=1).tolist() == [[0, 0, 1, 1]] * 3
    assert boxes(0).shape == (0, 4)


def test_equal_seeds_give_equal_boxes():
    assert torch.equal(boxes(50, seed=3), boxes(50, seed=3))
    assert not torch.equal(boxes(50, seed=3), boxes(50, seed=4))


def random_squares(count: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth squares, and masks with ragged edges."""
    random = np.random.default_rng(0)
    images = [
        Image.fromarray(random.integers(0, 255, (6, 6, 3)).astype(np.uint8)).resize(
            (size, size), Image.Resampling.BICUBIC
        )
        for _ in range(count)
    ]
    masks = random.random((count, size, size)) > 0.5
    return torch.from_numpy(np.stack([np.asarray(image) for image in images])), torch.from_numpy(
        masks
    )


def test_masks_follow_as_pillow_takes_the_nearest():
    _, masks = random_squares(40, 32)
    drawn = boxes(40, size=32)
    cropped = crop_masks(masks, drawn)
    assert cropped.dtype == torch.bool
    for mask, result, (top, left, height, width) in zip(masks, cropped, drawn.tolist()):
        crop = Image.fromarray(mask[top : top + height, left : left + width].numpy())
        expected = np.asarray(crop.resize((32, 32), Image.Resampling.NEAREST))
        assert np.array_equal(result.numpy(), expected)


def test_the_whole_square_comes_back_untouched():
    pixels, masks = random_squares(3, 32)
    whole = torch.tensor([[0, 0, 32, 32]] * 3)
    expected = pixels.permute(0, 3, 1, 2).float()
    assert torch.equal(augmented_pixels(pixels, whole, batched=False), expected)
    torch.testing.assert_close(
        augmented_pixels(pixels, whole, batched=True), expected, atol=1e-2, rtol=0
    )
    assert torch.equal(crop_masks(masks, whole), masks)


def test_a_crop_that_would_lose_the_mask_is_not_made():
    drawn = torch.tensor([[0, 0, 58, 64], [0, 0, 58, 64], [4, 2, 60, 60]])
    masks = torch.zeros(3, 64, 64, dtype=torch.bool)
    masks[0, 60:, 3] = True  # below the crop
    masks[1, 57:, 3] = True
    masks[2, 10:40, 20:50] = True
    cropped, kept = crop_in_view(masks, drawn)
    assert torch.equal(cropped, crop_masks(masks, kept))
    assert kept.tolist() == [[0, 0, 64, 64], *drawn[1:].tolist()]
    assert crop_masks(masks, kept).flatten(1).any(dim=1).all()
    assert torch.equal(crop_masks(masks, kept)[0], masks[0])
    assert crop_in_view(masks[:0], drawn[:0])[1].shape == (0, 4)


def test_both_ways_of_resizing_show_the_same_crop():
    pixels, _ = random_squares(40, 64)
    drawn = boxes(40)
    exact = augmented_pixels(pixels, drawn, batched=False)
    batched = augmented_pixels(pixels, drawn, batched=True)
    assert exact.shape == batched.shape == (40, 3, 64, 64)
    assert (exact - batched).abs().mean() < 1.0  # of 255: another cubic kernel, the same place
    shifted = torch.roll(batched, 1, dims=-1)
    assert (exact - shifted).abs().mean() > 4 * (exact - batched).abs().mean()


@pytest.mark.parametrize("batched", [False, True])
def test_crops_are_normalized_to_the_last_bit_as_in_one_formula(batched):
    pixels, _ = random_squares(5, 32)
    drawn, cpu = boxes(5, size=32), torch.device("cpu")
    mean, std = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
    ours = normalized_crops(pixels, drawn, mean=mean, std=std, batched=batched, device=cpu)
    plain = augmented_pixels(pixels, drawn, batched=batched)
    middle, spread = (torch.tensor(values)[:, None, None] for values in (mean, std))
    expected = (plain / 255 - middle) / spread
    assert torch.equal(ours, expected)
    assert ours.stride() == expected.stride()  # a convolution may add in another order


def test_crops_are_the_recorded_ones(agrees, reference_data: Path):
    folder = reference_data / "golden/clip_finetune_loss"
    golden = load_file(folder / "transforms.safetensors")
    meta = json.loads((folder / "meta.json").read_text())["files"]["transforms.safetensors"]
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    assert len(meta["crops"]) == 8
    for name, crop in meta["crops"].items():
        image = golden[f"{name.partition('.')[0]}.image_u8_hwc"].numpy()
        box, size = tuple(crop["i_top,j_left,h,w"]), meta["image_size"]
        resized = torch.tensor(crop_exact(image, box, size)).permute(2, 0, 1)
        # Recorded with Pillow 13. Before it a crop that shrinks one way and grows the other
        # overshoots, and is clipped, in the other order; torchvision then differs here as well.
        mixed = (box[2] > size) != (box[3] > size) and PILLOW < 13
        what = f"pixels, Pillow {PILLOW} for 13" if mixed else "pixels"
        case = f"clip_finetune_loss/transforms, {name}"
        ours = (resized / 255 - mean) / std
        agrees(case, what, ours, golden[f"{name}.image"], tolerance=0.06 if mixed else 2e-7)
        levels = (resized - (golden[f"{name}.image"] * std + mean) * 255).abs()
        assert (levels > 0.01).float().mean() <= (0.15 if mixed else 0), name


def test_crops_are_those_of_torchvision_here():
    image = np.random.default_rng(0).integers(0, 255, (90, 70, 3)).astype(np.uint8)
    for box in [(0, 0, 90, 70), (26, 0, 61, 50), (3, 7, 40, 33)]:
        expected = resized_crop(Image.fromarray(image), *box, [56, 56], InterpolationMode.BICUBIC)
        assert np.array_equal(crop_exact(image, box, 56), np.asarray(expected))
